"""Suites by name: built-in, registered, of other packages, not installed."""

import importlib.metadata
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import (
    Box,
    Discrete,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    make_env,
    register_suite,
    registry,
    reset_envs,
    step_envs,
    suite_ids,
    suites,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_suite.py"


@pytest.fixture
def apart(monkeypatch):
    """Suites registered in a test are forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def example():
    spec = importlib.util.spec_from_file_location("own_suite", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worked_example_learns(apart):
    example()
    assert len(EXAMPLE.read_text().splitlines()) < 60
    assert suite_ids("lamps") == ["Short-v0", "Long-v0"]
    config = Config(
        env="lamps/Short-v0", total_timesteps=40_960, num_envs=16, num_steps=32, n_pi=4,
        num_minibatches=4, num_aux_minibatches=8,
    )  # fmt: skip
    returns = ppg_jax.run(config, progress=False).metrics["episode_return"][0]
    assert returns[-4:].mean() > 0.9  # at best 0.925; at random 0.6


def nothing(env_id, env_params, env_kwargs):
    raise AssertionError("not reached")


def test_names_that_do_not_work_get_one_line(apart):
    register_suite(Suite("absent", "no_such_module", nothing, list, "absent-package"))
    refused = lambda: {"B": "it is broken"}  # noqa: E731
    register_suite(Suite("half", "jax", nothing, lambda: ["Ants"], "half", refused))
    for name, says in (
        ("absent/A", "the suite absent is not installed; pip install 'absent-package'"),
        ("half/B", "half/B is not supported, because it is broken"),
        ("half/Ant", "'half/Ant' is unknown; did you mean Ants?"),
        ("hal/Ants", "there is no suite 'hal'; did you mean half?"),
    ):
        with pytest.raises(ConfigError, match="^env: ") as error:
            make_env(name)
        assert says in str(error.value)
    with pytest.raises(ConfigError, match="suite: 'half' is taken"):
        register_suite(Suite("half", "jax", nothing, lambda: ["Other"], "half"))


def test_suites_of_installed_packages_are_found(apart, monkeypatch):
    class Point:
        name = "other"

        @staticmethod
        def load():
            return Suite("other", "jax", nothing, lambda: ["X"], "other")

    def entry_points(group):
        assert group == "ppg_jax.suites"
        return [Point]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert suites()["other"].installed
    assert suite_ids("other") == ["X"]


class Loose(SuiteEnvironment):
    """Its reset gives Python numbers, its step others; its reward is a whole number."""

    name, max_episode_steps = "Loose", 5
    observation_space, action_space = Box(0.0, 9.0, (1,)), Discrete(2)

    def reset(self, key):
        return jnp.zeros(1), {"n": 0, "x": 0.0}

    def step(self, key, state, action):
        after = {"n": state["n"] + jnp.int16(1), "x": jnp.ones(1, jnp.float16)}
        return SuiteStep(jnp.ones(1), after, 1, jnp.array([False]))


def test_states_and_steps_of_loose_types_are_settled():
    env = make_env(Loose())

    def step(envs, key):
        return step_envs(env, key, envs, jnp.zeros(3, jnp.int32))

    start = reset_envs(env, jax.random.key(0), 3)
    after, result = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 10))
    np.testing.assert_array_equal(
        result.truncated[:, 0], [False] * 4 + [True] + [False] * 4 + [True]
    )
    np.testing.assert_array_equal(result.returns[:, 1], [1, 2, 3, 4, 5] * 2)
    assert not any(x.weak_type for x in jax.tree.leaves(after.env))


def test_gymnax_is_a_suite_too():
    assert make_env("gymnax/CartPole-v1").name == make_env("CartPole-v1").name
