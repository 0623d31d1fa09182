"""A recurrent run from the host: resumed, loaded, played, drawn, evaluated episode by episode."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax import Config, ConfigError, load_run, resume, run
from ppg_jax.algorithm.ppg import build
from ppg_jax.cli.main import main
from ppg_jax.envs.make import make_training_env
from ppg_jax.envs.vector import reset_envs, step_envs
from ppg_jax.networks.network import POLICY
from ppg_jax.types import NetworkState
from tests.runs.test_resume import assert_same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """CartPole without velocities, two episodes a task, an LSTM with RL^2's inputs."""
    folder = tmp_path_factory.mktemp("runs") / "recurrent"
    network = {"hidden_sizes": (8,), "memory": "lstm", "recall": ["action", "reward", "done"]}
    config = Config(
        num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2, seeds=2,
        total_timesteps=4 * 8 * 8, hide_components=[1, 3], episodes_per_task=2,
        env_params={"max_steps_in_episode": 15}, network=network, adapt_beta_clone=True,
    )  # fmt: skip
    return folder, run(config, out=folder, progress=False, checkpoint_every=1, keep=4)


def test_it_goes_on_bit_for_bit(trained, tmp_path):
    folder, result = trained
    stopped = tmp_path / "run"
    shutil.copytree(folder, stopped)
    for name in ("phases/phase_3", "phases/phase_4", "final"):
        shutil.rmtree(stopped / "checkpoints" / name)
    assert np.any(result.state.memory["policy_net"]["hidden"])
    assert_same(resume(stopped, progress=False), result)
    assert (stopped / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


def test_its_policy_carries_its_memory(trained):
    """Called step by step it is what the networks do in training."""
    folder, result = trained
    saved, env = load_run(folder), make_training_env(result.config)
    envs = reset_envs(env, jax.random.key(0), 3, ("action", "reward", "done"))
    memory, previous, seen = saved.initial_memory(3), None, []
    agent = build(result.config).agent
    params = jax.tree.map(lambda x: x[1], result.state.params)
    state = agent.initial_memory(3)
    for t in range(20):
        out = agent.step(NetworkState(params), envs.inputs, state, (POLICY,))
        state = state | out.states
        actions, memory = saved.policy(
            envs.obs, jax.random.key(t), memory=memory, starts=envs.starts, previous=previous,
            seed=1, greedy=True,
        )  # fmt: skip
        np.testing.assert_array_equal(actions, out.policy.mode())
        np.testing.assert_allclose(
            memory["policy_net"]["hidden"], state["policy_net"]["hidden"], rtol=1e-5, atol=1e-6
        )
        envs, result_ = step_envs(env, jax.random.key(t), envs, jnp.array([0, 1, t % 2]))
        seen.append(envs.starts)
        recalled = envs.recalled
        previous = {"action": recalled.actions, "reward": recalled.rewards, "done": recalled.done}
        del result_
    assert np.any(seen)


def test_its_policy_begins_an_episode_where_no_memory_is_given(trained):
    saved = load_run(trained[0])
    obs = np.array([0.1, 0.0, -0.05, 0.0], np.float32)
    action = saved.policy(obs, jax.random.key(0))
    assert action.shape == ()
    memory = saved.initial_memory()
    first, memory = saved.policy(obs, jax.random.key(0), memory=memory)
    assert first == action
    previous = {"action": first, "reward": 1.0, "done": False}
    second, memory = saved.policy(obs, jax.random.key(1), memory=memory, previous=previous)
    assert second.shape == ()
    assert memory["policy_net"]["cell"].shape == (8,)
    with pytest.raises(ConfigError, match="previous: done is missing"):
        saved.policy(obs, jax.random.key(1), memory=memory, previous={"action": 0})
    with pytest.raises(ConfigError, match=r"previous: action has shape \(2,\); it should be \(\)"):
        saved.policy(obs, jax.random.key(1), previous=dict(previous, action=[0, 1]))


def test_returns_of_a_tasks_episodes(trained):
    saved = load_run(trained[0])
    by_episode, lengths, ended = saved.evaluate_tasks(6, seed=3)
    assert by_episode.shape == (2, 6, 2)
    assert ended.all()
    # A reward of 1 at every step of both episodes.
    np.testing.assert_array_equal(by_episode.sum(-1), lengths)
    assert (by_episode > 0).all()
    assert (by_episode <= 15).all()
    whole, _, _ = saved.evaluate(6, seed=3)
    np.testing.assert_array_equal(whole, by_episode.sum(-1))
    more, _, _ = saved.evaluate_tasks(6, episodes_per_task=3, hide_components=[])
    assert more.shape == (2, 6, 3)


def test_it_is_evaluated_and_drawn_from_the_command_line(trained, tmp_path, capsys):
    assert main(["eval", str(trained[0]), "--episodes", "4"]) == 0
    assert "episodes, first to last: " in capsys.readouterr().out
    pytest.importorskip("pygame")
    gif = load_run(trained[0]).render(tmp_path / "episode.gif", max_steps=10)
    assert gif == 10.0
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF")
