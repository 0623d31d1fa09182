"""What Procgen has beside the conformance of all suites. Skipped where it is not installed."""

import jax
import numpy as np
import pytest

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError, FrozenMapping
from ppg_jax.envs import close_envs, make_env, reset_envs, suites
from ppg_jax.envs.suites import procgen

HARD = "procgen/StarpilotHard-v0"
needs_procgen = pytest.mark.skipif(
    not suites()["procgen"].installed, reason="procgen is not installed"
)


def options(env_id=HARD, **params):
    return make_env(env_id, FrozenMapping(params)).unwrapped


def first_frames(env, seed=0, num_envs=16):
    envs = reset_envs(env, jax.random.key(seed), num_envs)
    close_envs(env, envs)
    return np.asarray(envs.obs)


@needs_procgen
def test_modes_are_other_ids():
    assert options(distribution_mode="easy").name == "procgen/StarpilotEasy-v0"
    assert options("procgen/MazeEasy-v0", distribution_mode="memory").name.endswith("Memory-v0")
    with pytest.raises(ConfigError, match="distribution_mode: 'memory' .* easy, hard, extreme"):
        options(distribution_mode="memory")


@needs_procgen
def test_levels_by_fields_and_by_params_are_the_same_and_few():
    config = Config(env="procgen/CoinrunEasy-v0", num_levels=3, first_level=50)
    by_fields = build(config).env
    by_params = make_env(config.env, FrozenMapping({"num_levels": 3, "start_level": 50}))
    few = first_frames(by_fields)
    np.testing.assert_array_equal(few, first_frames(by_params))
    assert len(np.unique(few.reshape(16, -1), axis=0)) <= 3
    other = build(config.replace(first_level=0)).env
    seen = {x.tobytes() for x in few}
    assert not seen & {x.tobytes() for x in first_frames(other)}
    everything = first_frames(build(config.replace(num_levels=None, first_level=0)).env)
    assert len(np.unique(everything.reshape(16, -1), axis=0)) == 16


@needs_procgen
def test_options_change_the_games():
    plain = first_frames(make_env(HARD))
    for name in ("use_backgrounds", "use_monochrome_assets"):
        changed = make_env(HARD, FrozenMapping({name: name != "use_backgrounds"}))
        assert (first_frames(changed) != plain).any(), name
    assert options().open(0, 2).reset().shape == (2, 64, 64, 3)


@needs_procgen
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_levels": -1}, "env_params.num_levels: -1 is invalid; .* at least 0"),
        ({"num_levels": True}, "env_params.num_levels: True is invalid"),
        ({"start_level": 3}, "start_level: 3 is invalid, because num_levels is 0"),
        ({"use_backgrounds": 1}, "use_backgrounds: 1 is invalid; it should be true or false"),
        ({"max_steps_in_episode": 2000}, "2000 is invalid; the game itself ends after 1000"),
        ({"max_steps_in_episode": "none"}, "the game itself ends after 1000 steps"),
        ({"levels": 3}, "env_params.levels: unknown to procgen/StarpilotHard-v0"),
    ],
)
def test_wrong_options_are_named(params, message):
    with pytest.raises(ConfigError, match=message):
        options(**params)


@needs_procgen
def test_exploration_has_one_level():
    with pytest.raises(ConfigError, match="env_params.num_levels: 3 .* a single level"):
        options("procgen/MazeExploration-v0", num_levels=3)
    with pytest.raises(ConfigError, match="^num_levels: 3 is invalid; .* a single level"):
        build(Config(env="procgen/MazeExploration-v0", num_levels=3))


@needs_procgen
def test_threads():
    made = make_env(HARD, env_kwargs=FrozenMapping({"num_threads": 1}))
    assert made.unwrapped.open(0, 2).pool.config["num_threads"] == 1
    for wrong in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="env_kwargs.num_threads"):
            make_env(HARD, env_kwargs=FrozenMapping({"num_threads": wrong}))


class NoQt:
    """EnvPool without Qt: it can be imported, but makes no game."""

    def make_spec(self, env_id):
        raise ImportError("libQt5Core.so.5 is missing")


def test_missing_qt_is_named(monkeypatch):
    monkeypatch.setattr(procgen, "_library", NoQt)
    with pytest.raises(ConfigError, match=r"needs Qt 5 .*pip install 'ppg-jax\[procgen\]'"):
        procgen.make("StarpilotHard-v0", {}, {})
