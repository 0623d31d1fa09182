"""Sweeps: the settings' order, each row as the run of its own, one line for every mistake."""

import json
import signal

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.runs.progress import Watch
from ppg_jax.sweeps.settings import make_settings

CONFIG = Config(
    env="CartPole-v1", num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2,
    e_aux=1, total_timesteps=4 * 32, network={"hidden_sizes": (8,)},
)  # fmt: skip


@pytest.fixture(scope="module")
def swept():
    values = {"learning_rate": [1e-3, 3e-2], "gamma": [0.5, 0.9, 1]}
    return ppg_jax.sweep(CONFIG, values, seeds=2, progress=False)


def test_every_combination(swept):
    assert swept.settings == [
        {"learning_rate": rate, "gamma": gamma} for rate in (1e-3, 3e-2) for gamma in (0.5, 0.9, 1)
    ]
    for name, x in swept.metrics.items():
        assert x.shape == (6, 2, 4), name
    assert swept.final_returns.shape == (6, 2)
    assert np.shape(swept.first_bad_iteration) == (6, 2)
    assert jax.tree.leaves(swept.state.params)[0].shape[:2] == (6, 2)
    assert swept.env_steps_per_second == pytest.approx(6 * 2 * 4 * 32 / swept.run_seconds)
    assert swept.setting(4).config.strategy == "map"
    assert swept.finished


def test_a_setting_is_the_run_of_its_own(swept):
    which = 4
    hparams = CONFIG.hparams.replace(**swept.settings[which])
    alone = ppg_jax.run(CONFIG.replace(hparams=hparams, seeds=2), progress=False)
    for name, x in alone.metrics.items():
        np.testing.assert_array_equal(swept.metrics[name][which], x)


def test_settings_differ(swept):
    losses = swept.metrics["value_loss"][:, 0, -1]
    assert len(set(losses.tolist())) == 6


def test_zipped():
    values = {"gamma": (0.9, 0.99), "hparams.clip_eps": np.array([0.1, 0.2])}
    settings = make_settings(values, zipped=True)
    assert settings == [{"gamma": 0.9, "clip_eps": 0.1}, {"gamma": 0.99, "clip_eps": 0.2}]


def test_a_sweep_that_is_stopped_gives_what_it_has(tmp_path, monkeypatch):
    def stop_soon(watch, segment):
        if segment.phases == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Watch, "update", stop_soon)
    out, values = tmp_path / "sweep", {"gamma": [0.5, 0.9]}
    config = CONFIG.replace(total_timesteps=200 * 2 * 32)
    stopped = ppg_jax.sweep(config, values, seeds=1, out=out, progress=False)
    assert not stopped.finished
    assert stopped.metrics["value_loss"].shape == (2, 1, 4)
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 2 * 4
    assert json.loads((out / "summary.json").read_text())["finished"] is False
    with pytest.raises(ConfigError) as error:
        ppg_jax.sweep(config, values, out=out, progress=False)
    assert "is not empty" in str(error.value)
    assert "ppg-jax sweep --resume" in str(error.value)


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        ({}, {}, ["values: {}", "map names to lists"]),
        ([1], {}, ["values: [1]"]),
        ({"num_envs": [4, 1]}, {}, ["setting 1 (num_envs 1): num_minibatches: "]),
        ({"arch": ["dual", "triple"]}, {}, ["setting 1 (arch triple): arch: 'triple'"]),
        ({"env": ["CartPole-v1", "CartPole-v9"]}, {}, ["setting 1 (env CartPole-v9): env: "]),
        ({"seeds": [1, 2]}, {}, ["seeds: all settings have the same number"]),
        ({"network": [{}]}, {}, ["network: is a section; name a field of it"]),
        ({"gamma": {"uniform": [0, 1]}}, {}, ["gamma: ", "is a range; say with draws"]),
        ({"network.gamma": [1]}, {}, ["network.gamma: is not a field; did you mean gamma?"]),
        ({"learning_rat": [1]}, {}, ["learning_rat:", "learning_rate"]),
        ({"zzz": [1]}, {}, ["zzz: is not a field"]),
        ({"gamma": [0.9, 2.0]}, {}, ["hparams.gamma: 2.0"]),
        ({"gamma": 0.9}, {}, ["gamma: 0.9", "list of values"]),
        ({"gamma": []}, {}, ["gamma: []"]),
        ({"gamma": "0.9"}, {}, ["gamma: '0.9'"]),
        ({"gamma": ["x"]}, {}, ["hparams.gamma: 'x'"]),
        ({"gamma": [0.9], "clip_eps": [1, 2]}, {"zipped": True}, ["equally long", "'clip_eps': 2"]),
        ({"gamma": [0.9]}, {"seeds": 0}, ["seeds: 0"]),
        ({"gamma": [0.9], "hparams.gamma": [1]}, {}, ["hparams.gamma: is given twice"]),
    ],
)
def test_mistakes(values, changes, words):
    with pytest.raises(ConfigError) as error:
        ppg_jax.sweep(CONFIG, values, progress=False, **changes)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
