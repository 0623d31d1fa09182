"""Resuming where there are fewer devices than before."""

import shutil

import numpy as np
import pytest
import yaml
from rich.console import Console

from ppg_jax import ConfigError, backend, resume, run
from ppg_jax.config.config import Config
from ppg_jax.execution import layout
from ppg_jax.runs import devices
from ppg_jax.runs.devices import fewer_devices
from ppg_jax.runs.resume import changed_config


def small(**changes):
    fields = {
        "num_envs": 8, "num_steps": 8, "num_minibatches": 1, "n_pi": 2, "seeds": 2, "e_aux": 0,
        "arch": "shared", "total_timesteps": 8 * 8 * 4, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.fixture
def here(monkeypatch):
    """Sets the number of devices of this machine, and of its cores."""

    def there_are(number):
        monkeypatch.setattr(layout, "use_all_cores", lambda: number)
        monkeypatch.setattr(devices, "use_all_cores", lambda: number)
        monkeypatch.setattr(layout, "_cores", lambda: number)

    return there_are


@pytest.mark.parametrize(
    ("before", "number", "given", "changes"),
    [
        ({"devices": 8}, 8, {}, {}),
        ({"devices": 8}, 16, {}, {}),
        ({"devices": 8}, 2, {}, {"devices": 2}),
        ({"devices": 8, "strategy": "vmap"}, 3, {}, {"devices": 3}),
        ({"devices": 8}, 2, {"devices": 8}, {}),
        ({"devices": 8}, 2, {"devices": None}, {}),
        ({}, 1, {}, {}),
        # The groups of environments stay, so only a divisor of them is possible.
        ({"devices": 8, "devices_per_seed": 4, "env_groups": 4}, 4, {}, {"devices": 4}),
        (
            {"devices": 8, "devices_per_seed": 4, "env_groups": 4}, 3, {},
            {"devices_per_seed": 2, "devices": 2},
        ),
        (
            {"devices": 8, "devices_per_seed": 8, "env_groups": 8}, 7, {},
            {"devices_per_seed": 4, "devices": 4},
        ),
        (
            {"devices": 8, "devices_per_seed": 4, "env_groups": 4}, 1, {},
            {"devices_per_seed": 1, "devices": 1},
        ),
        ({"devices": 8, "devices_per_seed": 2, "env_groups": 4}, 7, {}, {"devices": 6}),
        (
            {"devices": 8, "devices_per_seed": 4, "env_groups": 4}, 8, {"devices": 2},
            {"devices_per_seed": 2},
        ),
        (
            {"devices": 8, "devices_per_seed": 2, "env_groups": 4}, 5, {"devices_per_seed": 4},
            {"devices": 4},
        ),
    ],
)  # fmt: skip
def test_what_is_lowered(here, before, number, given, changes):
    here(number)
    config = small(**before)
    fewer = fewer_devices(config, given)
    assert fewer.changes == changes
    assert bool(fewer.notes) == bool(changes)
    for name, value in changes.items():
        assert f"{name} {value} instead of {before[name]}" in fewer.notes[0]
    after = changed_config(config, fewer.changes | given)
    assert after.groups == config.groups


def test_accelerators_choose_their_strategy_again(here, monkeypatch):
    """More seeds are on each device than before, and they must fit into its memory."""
    here(2)
    monkeypatch.setattr(devices, "this_backend", lambda: backend.GPU)
    config = small(devices=8, strategy="chunk", chunk_size=64)
    again = {"strategy": "auto", "chunk_size": None}
    assert fewer_devices(config, {}).changes == {"devices": 2} | again
    assert fewer_devices(config, {"chunk_size": 32}).changes == {"devices": 2}
    here(8)
    assert fewer_devices(config, {}).changes == {}


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """A run of one seed on both devices, stopped after its first phase."""
    folder = tmp_path_factory.mktemp("runs") / "spread"
    config = small(seeds=1, devices=2, devices_per_seed=2)
    return folder, run(config, out=folder, progress=False, on_segment=lambda _: True)


def test_a_run_goes_on_with_what_is_there(spread, here, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(spread[0], folder)
    here(1)
    with pytest.raises(ConfigError, match="devices: 2 is invalid; .*1"):
        resume(folder, progress=False, devices=2)
    with pytest.raises(ConfigError, match="devices_per_seed: 2 is invalid; JAX has 1"):
        resume(folder, progress=False, devices_per_seed=2)
    log = (tmp_path / "log").open("w")
    result = resume(folder, console=Console(file=log, width=200))
    log.close()
    assert result.finished
    note = "there are fewer devices than before: devices_per_seed 1 instead of 2, devices 1 instead"
    assert note in (tmp_path / "log").read_text()
    for name, x in spread[1].metrics.items():
        np.testing.assert_array_equal(result.metrics[name][:, :2], x, name)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert (written["devices"], written["devices_per_seed"], written["env_groups"]) == (1, 1, 2)


def test_the_note_is_only_for_fewer(spread, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(spread[0], folder)
    log = (tmp_path / "log").open("w")
    resume(folder, console=Console(file=log, width=200))
    log.close()
    assert "fewer devices" not in (tmp_path / "log").read_text()
