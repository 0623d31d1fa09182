"""Runs whose environments live outside of the program."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence
from rich.console import Console

import ppg_jax
from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import close_envs, outside
from tests.corridors import Inside, Outside

ROOT = Path(__file__).parents[2]
SIZES = {
    "total_timesteps": 512, "num_envs": 8, "num_steps": 16, "n_pi": 2, "e_pi": 1, "e_v": 1,
    "e_aux": 1, "num_minibatches": 2, "num_aux_minibatches": 2, "normalize_observations": True,
}  # fmt: skip
PPO = {"arch": "shared", "e_aux": 0, "normalize_observations": False}
"""Compiles in less time."""


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
    train = ppg_jax.make_train(config(raw, **PPO))
    _, metrics = jax.jit(train)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 2)
    _, mapped = jax.jit(lambda keys: jax.lax.map(train, keys))(keys)
    assert mapped["episode_return"].shape == (2, *metrics["episode_return"].shape)
    sweep = ppg_jax.sweep(
        config(raw, **PPO), {"learning_rate": [1e-3, 1e-2]}, seeds=2, progress=False
    )
    assert len(sweep.ranked()) == 2
    with pytest.raises(ConfigError, match="cannot be vmapped"):
        jax.vmap(train)(keys)


def test_nothing_stays_open_after_evaluation(trained):
    raw, folder, _ = trained
    before, opened = len(outside._running), len(raw.opened)
    ppg_jax.load_run(folder, env=raw).evaluate(episodes=2)
    assert len(outside._running) == before
    assert len(raw.opened) == opened + 2


def test_pictures_are_drawn_from_observations(trained, tmp_path):
    raw, folder, _ = trained
    opened = len(raw.opened)
    ppg_jax.load_run(folder, env=raw).render(tmp_path / "episode.gif", max_steps=20)
    with Image.open(tmp_path / "episode.gif") as picture:
        shades = [np.asarray(x.convert("L")).max() for x in ImageSequence.Iterator(picture)]
    assert shades[0] == 0  # the episode begins at place 0 and only moves up
    assert len(set(shades)) > 1
    assert shades == sorted(shades)
    assert len(raw.opened) == opened + 1
    assert raw.opened[-1].closed


def test_a_finished_run_opens_nothing(trained):
    raw, folder, _ = trained
    opened, console = len(raw.opened), Console(record=True, width=200)
    ppg_jax.resume(folder, env=raw, console=console)
    assert "new episodes" not in console.export_text()
    assert len(raw.opened) == opened


def test_a_result_goes_on_with_new_episodes(trained):
    raw, _, result = trained
    state = jax.tree.map(lambda x: x[0], result.state)
    config, hparams = result.config, result.config.hparams
    again = ppg_jax.restart_envs(config, state)
    assert again.envs.starts.all()
    np.testing.assert_array_equal(again.envs.obs, 0)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
    after, _ = ppg_jax.train_phases(config, hparams, again, 1)
    assert after.iteration == state.iteration + 2
    other = ppg_jax.restart_envs(config, state.replace(iteration=state.iteration + 1))
    assert raw.opened[-1].seed != raw.opened[-2].seed
    for state in (after, other):
        close_envs(build(config).env, state.envs)


def test_replicas_that_fill_no_device_are_not_stepped_twice():
    """Three seeds on two devices: the last batch is padded with a copy of the first seed."""
    program = (
        "import jax; jax.config.update('jax_num_cpu_devices', 2)\n"
        "import numpy as np\n"
        "from tests.runs.test_outside import PPO, Outside, config\n"
        "from ppg_jax.algorithm import init\n"
        "from ppg_jax.execution import Layout, Start, train_segments\n"
        "c = config(Outside(), seeds=3, **PPO)\n"
        "keys = jax.random.split(jax.random.key(0), 3)\n"
        "state = jax.lax.map(lambda k: init(c, k), keys)\n"
        "layout = Layout('map', 2, 1, 3)\n"
        "parts = list(train_segments(c, layout, c.hparams, Start(state, 0), shared=True))\n"
        "print(len(parts), parts[-1].metrics['env_steps'].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split() == ["2", "(3,", "2)"]
