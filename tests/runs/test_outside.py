"""Runs whose environments live outside of the program."""

import jax
import numpy as np
import pytest
from rich.console import Console

import ppg_jax
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import outside
from tests.corridors import Inside, Outside

SIZES = {
    "total_timesteps": 512, "num_envs": 8, "num_steps": 16, "n_pi": 2, "e_pi": 1, "e_v": 1,
    "e_aux": 1, "num_minibatches": 2, "num_aux_minibatches": 2, "normalize_observations": True,
}  # fmt: skip


def config(env, **changes):
    return Config(env=env, **SIZES | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    raw, folder = Outside(), tmp_path_factory.mktemp("run") / "a"
    result = ppg_jax.run(
        config(raw), seeds=2, out=folder, checkpoint_every=1, evaluate_every=1, progress=False
    )
    return raw, folder, result


@pytest.mark.bits
def test_training_is_that_of_the_same_environment_in_jax(trained):
    *_, result = trained
    wanted = ppg_jax.run(config(Inside()), seeds=2, progress=False)
    for name, x in wanted.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, err_msg=name)
    jax.tree.map(np.testing.assert_array_equal, result.state.params, wanted.state.params)


def test_everything_is_closed_after_a_run(trained):
    raw, *_ = trained
    assert raw.opened
    assert all(opened.closed for opened in raw.opened)


def test_a_saved_run_is_evaluated_and_begins_new_episodes_when_resumed(trained):
    raw, folder, result = trained
    saved = ppg_jax.load_run(folder, env=raw)
    returns, _, ended = saved.evaluate(episodes=4)
    assert returns.shape == (2, 4)
    assert ended.all()
    console = Console(record=True, width=200)
    longer = ppg_jax.resume(folder, env=raw, total_timesteps=768, console=console)
    assert "new episodes begin: those of" in console.export_text()
    assert longer.metrics["env_steps"].shape == (2, 6)
    for name, x in result.metrics.items():
        np.testing.assert_array_equal(longer.metrics[name][:, :4], x, err_msg=name)
    assert all(opened.closed for opened in raw.opened)


@pytest.mark.parametrize("changes", [{"strategy": "vmap"}, {"strategy": "chunk", "chunk_size": 1}])
def test_only_map_is_a_strategy(changes):
    wanted = rf"strategy: {changes['strategy']} is invalid, .* live outside .*; use map"
    with pytest.raises(ConfigError, match=wanted):
        ppg_jax.run(config(Outside(), **changes), seeds=2, progress=False)


@pytest.mark.parametrize(
    "changes",
    [{"hide_components": [0]}, {"drop_observations": 0.5}, {"episodes_per_task": 2},
     {"num_levels": 3}],
)  # fmt: skip
def test_wrappers_of_single_environments_are_refused(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))}: .*Corridor"):
        ppg_jax.run(config(Outside(), **changes), progress=False)


def test_a_sweep_and_a_pure_function():
    raw = Outside()
    train = ppg_jax.make_train(config(raw))
    _, metrics = jax.jit(train)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 2)
    _, mapped = jax.jit(lambda keys: jax.lax.map(train, keys))(keys)
    assert mapped["episode_return"].shape == (2, *metrics["episode_return"].shape)
    sweep = ppg_jax.sweep(config(raw), {"learning_rate": [1e-3, 1e-2]}, seeds=2, progress=False)
    assert len(sweep.ranked()) == 2
    with pytest.raises(ConfigError, match="cannot be vmapped"):
        jax.vmap(train)(keys)


def test_nothing_stays_open_after_evaluation(trained):
    raw, folder, _ = trained
    before = len(outside._running)
    ppg_jax.load_run(folder, env=raw).evaluate(episodes=2)
    assert len(outside._running) == before
