"""Measures of an episode: read at its end, before the reset, and only by evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.cli.main import main
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import (
    Box,
    Discrete,
    SuiteEnvironment,
    SuiteStep,
    make_env,
    make_training_env,
    reset_envs,
    step_envs,
)
from ppg_jax.execution import evaluate
from ppg_jax.report import crafter_score

SMALL = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
    "total_timesteps": 4 * 8 * 2, "network": {"hidden_sizes": (8,)},
}  # fmt: skip


class Silent(SuiteEnvironment):
    """Episodes of 2 or 5 steps at random. The reward is the action. Nothing is measured."""

    name, max_episode_steps = "Walk", 8
    observation_space, action_space = Box(0.0, 1.0, (2,)), Discrete(2)

    def _see(self, state):
        return jnp.float32([state["long"], state["steps"] / 5])

    def reset(self, key):
        nothing = {"steps": jnp.int32(0), "right": jnp.int32(0)}
        state = nothing | {"long": jax.random.bernoulli(key)}
        return self._see(state), state

    def step(self, key, state, action):
        steps, right = state["steps"] + 1, state["right"] + action
        state = state | {"steps": steps, "right": right}
        done = steps == jnp.where(state["long"], 5, 2)
        return SuiteStep(self._see(state), state, jnp.float32(action), done)


class Walk(Silent):
    """It measures how many steps it took, whether it is a long one, and how many went right."""

    def measures(self, state):
        moved = {"two_steps": state["steps"] >= 2, "five_steps": state["steps"] >= 5}
        return {"steps": state["steps"], "right": state["right"]} | moved


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two seeds; every wrapper is in between."""
    folder = tmp_path_factory.mktemp("runs") / "walk"
    config = Config(env=f"{__name__}:Walk", num_levels=9, drop_observations=0.1, **SMALL)
    ppg_jax.run(config, seeds=2, out=folder, progress=False)
    return ppg_jax.load_run(folder)


def test_they_are_read_before_the_reset():
    """A short episode, a long one, and the one after the short one, step by step."""
    env = make_training_env(Config(env=Walk(), **SMALL))
    envs = reset_envs(env, jax.random.key(0), 2)
    first = envs.env.state | {"long": jnp.array([False, True])}
    envs = envs.replace(env=envs.env.replace(state=first))
    key, right = jax.random.key(1), jnp.array([1, 0])
    step = jax.jit(lambda envs: step_envs(env, key, envs, right, measured=True))
    seen, ended = [], []
    for _ in range(3):
        envs, result = step(envs)
        seen.append([result.measures[name].tolist() for name in ("steps", "right")])
        ended.append(result.terminated.tolist())
    assert seen == [[[1, 1], [1, 0]], [[2, 2], [2, 0]], [[1, 3], [1, 0]]]
    assert ended == [[False, False], [True, False], [False, False]]


def test_each_episode_has_those_of_its_own_end(saved):
    """Short episodes are reset and played on until the long ones have ended."""
    returns, lengths, ended = saved.evaluate(16)
    measures = saved.play(16).measures
    assert ended.all()
    assert set(np.unique(lengths)) == {2, 5}
    np.testing.assert_array_equal(measures["steps"], lengths)
    np.testing.assert_array_equal(measures["right"], returns)
    np.testing.assert_array_equal(measures["five_steps"], lengths == 5)
    assert measures["two_steps"].all()
    assert list(measures) == ["steps", "right", "two_steps", "five_steps"]  # as the suite says
    assert [x.dtype for x in measures.values()] == [np.float32, np.float32, bool, bool]
    assert {x.shape for x in measures.values()} == {(2, 16)}
    np.testing.assert_array_equal(saved.play(16).returns.sum(-1), returns)
    assert not np.array_equal(returns[0], returns[1])


def test_a_cut_episode_has_those_of_the_cut(saved):
    _, lengths, ended = saved.evaluate(16, max_steps=3)
    measures = saved.play(16, max_steps=3).measures
    np.testing.assert_array_equal(measures["steps"], np.where(ended, 2, 3))
    np.testing.assert_array_equal(measures["steps"], lengths)
    assert not measures["five_steps"].any()


def test_a_task_has_those_of_its_last_episode(saved):
    played = saved.play(16, episodes_per_task=3)
    np.testing.assert_array_equal(played.measures["right"], played.returns[:, :, 2])
    np.testing.assert_array_equal(3 * played.measures["steps"], played.lengths)
    assert (played.returns[:, :, 2] != played.returns[:, :, 0]).any()


def test_training_and_evaluate_are_the_same_programs():
    """Neither reads measures, so an environment with them gives the same operations."""
    key = jax.random.key(0)
    with_them, without = (Config(env=env(), **SMALL) for env in (Walk, Silent))
    params = ppg_jax.init(with_them, key).params
    for program in (
        lambda config: jax.make_jaxpr(ppg_jax.make_train(config))(key),
        lambda config: jax.make_jaxpr(lambda p: evaluate(config, p, None, key, 4))(params),
    ):
        assert str(program(with_them)) == str(program(without))


def test_the_command_prints_them(saved, capsys):
    assert main(["eval", str(saved.directory), "--episodes", "16", "--no-cache"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split("│")[1:3] for line in shown.splitlines() if line.count("│") == 3]
    table = {name.strip(): mean.strip() for name, mean in rows}
    means = {name: x.mean() for name, x in saved.play(16).measures.items()}
    assert list(table) == ["steps", "right", "two_steps", "five_steps"]
    assert table["steps"] == f"{means['steps']:.2f}"
    assert table["two_steps"] == "100.0%"
    assert table["five_steps"] == f"{100 * means['five_steps']:.1f}%"
    assert "(Crafter's score): " in shown


def test_most_environments_have_none(tmp_path, capsys):
    ppg_jax.run(Config(**SMALL), out=tmp_path / "run", progress=False)
    assert ppg_jax.load_run(tmp_path / "run").play(2, max_steps=9).measures == {}
    assert main(["eval", str(tmp_path / "run"), "--episodes", "2", "--max-steps", "9"]) == 0
    assert "measure" not in capsys.readouterr().out


class Stateless(Silent):
    """Its state has no arrays."""

    counts_steps = False

    def reset(self, key):
        return jnp.zeros(2), ()

    def step(self, key, state, action):
        return SuiteStep(jnp.zeros(2), (), jnp.float32(1), jax.random.bernoulli(key))


def test_a_state_without_arrays_has_none():
    env = make_env(Stateless())
    envs = reset_envs(env, jax.random.key(0), 3)
    after, result = step_envs(env, jax.random.key(1), envs, jnp.zeros(3, int), measured=True)
    assert result.measures == {}
    assert result.rewards.tolist() == [1, 1, 1]
    assert after.env == ()


def test_a_measure_is_a_scalar():
    class Vector(Silent):
        def measures(self, state):
            return {"fine": 1.5, "place": jnp.zeros(3)}

    with pytest.raises(ConfigError, match="env: measure 'place' of Walk should be a scalar"):
        make_env(Vector())


def test_crafters_score():
    """Rates of 100% and 0% of one seed, 50% and 50% of the other: sqrt(101) - 1, and 50."""
    reached = {
        "coal": np.array([[True, True], [True, False]]),
        "iron": np.array([[False, False], [False, True]]),
    }
    steps = {"steps": np.array([[2.0, 5.0], [5.0, 5.0]])}
    np.testing.assert_allclose(crafter_score(reached | steps), [101**0.5 - 1, 50])
    with pytest.raises(ConfigError, match="measures: none is bool"):
        crafter_score(steps)
