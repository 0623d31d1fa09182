"""Settings of any field: names, grids, tables, random draws, and how they share programs."""

import numpy as np
import pytest

from ppg_jax import Config, ConfigError
from ppg_jax.sweeps.groups import make_groups
from ppg_jax.sweeps.settings import checked_settings, field_name, make_settings, with_values

CONFIG = Config(
    env="CartPole-v1", network={"hidden_sizes": (8,)}, env_params={"gravity": 5.0},
    num_aux_minibatches=32,
)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("learning_rate", "learning_rate"), ("hparams.gamma", "gamma"), ("arch", "arch"),
        ("network.hidden_sizes", "hidden_sizes"), ("hidden_sizes", "hidden_sizes"), ("env", "env"),
        ("env_params.length", "env_params.length"), ("seed", "seed"), ("memory", "memory"),
    ],
)  # fmt: skip
def test_names(given, name):
    assert field_name(given) == name


def test_values_go_where_they_belong():
    values = {"gamma": 0.5, "clip_eps": "1e-1", "hidden_sizes": [4, 4], "memory": "gru", "n_pi": 4,
              "env_params.length": 2.0}  # fmt: skip
    config = with_values(CONFIG, values)
    assert (config.hparams.gamma, config.hparams.clip_eps) == (0.5, 0.1)
    assert (config.network.hidden_sizes, config.network.memory) == ((4, 4), "gru")
    assert config.n_pi == 4
    assert config.env_params == {"gravity": 5.0, "length": 2.0}
    assert config.hparams.gae_lambda == CONFIG.hparams.gae_lambda
    (setting,) = checked_settings(CONFIG, [values], 3)
    assert setting.number == 3
    assert setting.values == values | {"clip_eps": 0.1}
    assert str(setting).startswith("gamma 0.5, clip_eps 0.1, hidden_sizes [4, 4], memory gru")


def test_draws_stay_in_their_ranges_and_are_the_same_again():
    values = {
        "learning_rate": {"log": ["1e-4", 1e-2]}, "gamma": {"uniform": [0.9, 0.99]},
        "n_pi": {"int": [2, 5]}, "arch": {"choice": ["dual", "single"]}, "e_pi": [1, 2],
    }  # fmt: skip
    rows = make_settings(values, draws=200, draw_seed=7)
    columns = {name: [row[name] for row in rows] for name in values}
    assert set(columns["n_pi"]) == {2, 3, 4, 5}
    assert set(columns["arch"]) == {"dual", "single"}
    assert set(columns["e_pi"]) == {1, 2}
    rates = np.array(columns["learning_rate"])
    assert 1e-4 <= rates.min() < 1.2e-4
    assert 0.8e-2 < rates.max() <= 1e-2
    assert 0.35 < (rates < 1e-3).mean() < 0.65  # half of them below the geometric mean
    assert 0.9 <= min(columns["gamma"]) < 0.91
    # The same seed draws the same, more draws begin alike, and another field changes no other.
    assert make_settings(values, draws=50, draw_seed=7) == rows[:50]
    fewer = make_settings({"gamma": values["gamma"]}, draws=50, draw_seed=7)
    assert [row["gamma"] for row in fewer] == columns["gamma"][:50]
    assert make_settings(values, draws=50, draw_seed=8) != rows[:50]


def test_draws_differ_from_each_other():
    rows = make_settings({"n_pi": {"int": [1, 3]}, "e_pi": [1, 2]}, draws=6)
    assert len({(row["n_pi"], row["e_pi"]) for row in rows}) == 6
    with pytest.raises(ConfigError, match="draws: 7 is invalid; the ranges give about 6 different"):
        make_settings({"n_pi": {"int": [1, 3]}, "e_pi": [1, 2]}, draws=7)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"log": [0, 1]}, "two numbers above 0"), ({"int": [1, 2.5]}, "two whole numbers"),
        ({"uniform": [2, 1]}, "two numbers, low and high"),
        ({"normal": [0, 1]}, "{log: [low, high]}"),
        ({"log": [1, 2], "int": [1, 2]}, "it should be a list"), (3, "it should be a list"),
        ({"choice": []}, "it should be a list"), ({"log": ["x", 2]}, "two numbers above 0"),
        ({"uniform": [0, float("inf")]}, "two numbers, low and high"),
    ],
)  # fmt: skip
def test_ranges_that_are_wrong(spec, words):
    with pytest.raises(ConfigError, match="gamma: ") as error:
        make_settings({"gamma": spec}, draws=2)
    assert words in str(error.value)


def test_a_table_has_no_draws():
    with pytest.raises(ConfigError, match="draws: is invalid for a table"):
        make_settings({"gamma": [1]}, draws=2, zipped=True)


def test_settings_with_the_same_program_are_a_group():
    values = {"n_pi": [1, 2], "gamma": [0.5, 0.9], "env_params.length": [1, 1.0]}
    groups = make_groups(CONFIG, checked_settings(CONFIG, make_settings(values)))
    # 1 and 1.0 are equal, but not the same in a program.
    assert [[s.number for s in group.settings] for group in groups] == [
        [0, 2], [1, 3], [4, 6], [5, 7],
    ]  # fmt: skip
    assert [group.number for group in groups] == [0, 1, 2, 3]
    group = groups[2]
    assert (group.config.n_pi, group.config.hparams.gamma) == (2, CONFIG.hparams.gamma)
    config = group.config.replace(seeds=3)
    object.__setattr__(group, "config", config)
    np.testing.assert_array_equal(group.hparams.gamma, np.float32([0.5] * 3 + [0.9] * 3))
    assert group.replicas.seeds == 6
    assert group.name_of(4) == "setting 6 (n_pi 2, gamma 0.9, env_params.length 1), seed 1"
    assert group.config_of(group.settings[1]).hparams.gamma == 0.9
