"""Levels: as many distinct starts as were asked for, the same in every run."""

import jax
import numpy as np
import pytest

from ppg_jax.algorithm.ppg import build
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.envs.make import make_env
from ppg_jax.envs.vector import reset_envs
from ppg_jax.envs.wrappers.levels import Levels


def starts(num_levels, first_level, key=0, draws=200):
    env = Levels(make_env("CartPole-v1"), num_levels, first_level)
    envs = reset_envs(env, jax.random.key(key), draws)
    return {tuple(x) for x in np.asarray(envs.obs).tolist()}


def test_there_are_so_many():
    assert len(starts(5, 0)) == 5
    assert starts(5, 0) == starts(5, 0, key=1)


def test_held_out_levels_are_others():
    assert not starts(5, 0) & starts(5, 5)
    assert starts(10, 0) == starts(5, 0) | starts(5, 5)


def test_all_levels_are_never_alike():
    env = make_env("CartPole-v1")
    envs = reset_envs(env, jax.random.key(0), 200)
    assert len({tuple(x) for x in np.asarray(envs.obs).tolist()}) == 200


def test_a_configuration_asks_for_them():
    env = build(Config(num_levels=4)).env
    obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 64))[0]
    assert len({tuple(x) for x in np.asarray(obs).tolist()}) == 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"first_level": 3}, "first_level: 3 has no effect without num_levels"),
        ({"num_levels": 0}, "num_levels: 0"),
        ({"num_levels": 2, "first_level": 2**31 - 1}, "num_levels should be at most"),
    ],
)
def test_bad_levels(fields, words):
    with pytest.raises(ConfigError, match=words):
        Config(**fields)
