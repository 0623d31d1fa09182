"""Environments: every gymnax id, spaces, resets, truncation, episode counting."""

import chex
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.config.fields import ConfigError, FrozenMapping
from ppg_jax.envs import parallel
from ppg_jax.envs.make import make_env
from ppg_jax.envs.spaces import MultiDiscrete, random_action
from ppg_jax.envs.suites.gymnax import available_envs
from ppg_jax.envs.vector import reset_envs, step_envs
from tests import probes


def play(env, num_envs=3, num_steps=30, key=0):
    def step(envs, key):
        action_key, env_key = jax.random.split(key)
        keys = jax.random.split(action_key, num_envs)
        actions = jax.vmap(lambda k: random_action(env.action, k))(keys)
        after, result = step_envs(env, env_key, envs, actions)
        return after, (envs, actions, result)

    def run(key):
        start = reset_envs(env, key, num_envs)
        return jax.lax.scan(step, start, jax.random.split(key, num_steps))

    return jax.jit(run)(jax.random.key(key))


@pytest.mark.parametrize("name", available_envs())
def test_every_environment_steps(name):
    env = make_env(name)
    after, (before, _, result) = play(env)
    assert after.obs.dtype == env.observation.dtype
    assert after.obs.shape == (3, *env.observation.shape)
    assert result.rewards.dtype == jnp.float32
    assert result.terminated.dtype == result.truncated.dtype == jnp.bool_
    assert jnp.all(jnp.isfinite(result.rewards))
    # Where no episode ended, what is seen next is the real successor.
    running = ~(result.terminated | result.truncated)[:-1]
    seen, made = (np.float32(x[running]) for x in (before.obs[1:], result.final_obs[:-1]))
    np.testing.assert_allclose(seen, made, rtol=1e-5, atol=1e-6)  # computed twice, in two places


def test_same_numbers_as_gymnax_itself():
    env = make_env("CartPole-v1")
    raw, params = gymnax.make("CartPole-v1")
    _, (before, actions, result) = play(env, num_envs=1, num_steps=12)
    state = jax.tree.map(lambda x: x[0, 0], before.env)
    for t in range(12):
        obs, state, reward, terminated, _ = raw.step_env(
            jax.random.key(0), state, actions[t, 0], params
        )
        np.testing.assert_allclose(result.final_obs[t, 0], obs, rtol=1e-6)
        assert reward == result.rewards[t, 0]
        assert terminated == result.terminated[t, 0]
        if terminated:
            break
    assert t >= 8  # CartPole cannot fall sooner


def test_time_limit_truncates_and_shows_the_last_observation():
    env = make_env("Pendulum-v1", env_params=frozen(max_steps_in_episode=10))
    after, (before, _, result) = play(env, num_steps=30)
    want = np.zeros(30, bool)
    want[[9, 19, 29]] = True
    np.testing.assert_array_equal(result.truncated, np.tile(want[:, None], (1, 3)))
    assert not result.terminated.any()
    np.testing.assert_array_equal(before.starts[:, 0], np.roll(want, 1))
    assert jnp.all(before.obs[10] != result.final_obs[9])
    # cos, sin, speed: one step of 0.05 s cannot turn the pole by much.
    turn = jnp.abs(result.final_obs[9, :, :2] - before.obs[9, :, :2])
    assert jnp.all(turn < 0.5)
    assert after.starts.all()


def test_episode_returns_and_lengths_are_raw():
    env = make_env(probes.DelayedReward())
    _, (_, _, result) = play(env, num_envs=2, num_steps=6)
    np.testing.assert_array_equal(result.episodes.count, [0, 2, 0, 2, 0, 2])
    np.testing.assert_array_equal(result.episodes.return_sum, [0, 2, 0, 2, 0, 2])
    np.testing.assert_array_equal(result.episodes.length_sum, [0, 4, 0, 4, 0, 4])


def test_each_environment_has_its_own_randomness():
    env = make_env("CartPole-v1")
    envs = reset_envs(env, jax.random.key(0), 4)
    assert len(np.unique(envs.obs[:, 0])) == 4


class Broken(probes.Probe):
    def reward(self, state, action):
        return 1 / 0


class Awkward(probes.Probe):
    """A random key in its state, flags of shape [1], observations of another dtype after reset."""

    def reset_env(self, key, params):
        return jnp.zeros(1, jnp.int32), (key, probes.State(obs=jnp.zeros(1), time=0))

    def step_env(self, key, state, action, params):
        own, inner = state
        after = probes.State(obs=jnp.zeros(1), time=inner.time + 1)
        return jnp.ones(1), (jax.random.split(own)[0], after), 1, jnp.array([True]), {}

    def is_truncated(self, state, params):
        return jnp.array([False])


def test_awkward_but_usable_environments():
    env = make_env(Awkward())
    _, (_, _, result) = play(env)
    assert result.terminated.all()
    assert result.final_obs.dtype == jnp.int32


class Matrix(MultiDiscrete):
    def __init__(self):
        self.nvec, self.shape, self.dtype = ((2, 3), (4, 5)), (2, 2), jnp.int32


def test_multi_discrete_actions_of_any_shape():
    class Shaped(probes.Probe):
        def action_space(self, params=None):
            return Matrix()

        def reward(self, state, action):
            assert action.shape == (2, 2)
            return action[1, 1]

    env = make_env(Shaped())
    assert env.action.sizes == (2, 3, 4, 5)
    _, (_, actions, result) = play(env)
    np.testing.assert_array_equal(actions[..., 3], result.rewards)


def frozen(**changes):
    from ppg_jax.config.fields import FrozenMapping

    return FrozenMapping(changes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_env("CartPol-v1"), ["env: 'CartPol-v1'", "CartPole-v1"]),
        (lambda: make_env("MNISTBandit-bsuite"), ["env: MNISTBandit-bsuite", "downloads"]),
        (
            lambda: make_env("CartPole-v1", env_params=frozen(gravty=1.0)),
            ["env_params.gravty", "gravity"],
        ),
        (
            lambda: make_env("CartPole-v1", env_params=frozen(gravity="x")),
            ["env_params.gravity: 'x'", "number"],
        ),
        (
            lambda: make_env("CartPole-v1", env_params=frozen(gravity=None)),
            ["env_params.gravity: None", "number"],
        ),
        (
            lambda: make_env("CartPole-v1", env_params=frozen(gravity=(1, (2, 3)))),
            ["env_params.gravity: (1, (2, 3))", "number"],
        ),
        (lambda: make_env(Broken()), ["env: Broken", "ZeroDivisionError"]),
        (lambda: make_env("CartPole-v1", env_kwargs=frozen(size=3)), ["env_kwargs", "size"]),
        (
            lambda: make_env("CartPole-v1", observation_dtype="bool"),
            ["observation_dtype: bool", "native"],
        ),
        (
            lambda: make_env("UmbrellaChain-bsuite", observation_dtype="bool"),
            ["observation_dtype: bool", "whole numbers"],
        ),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(make, words):
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_parameters_and_arguments():
    assert make_env("CartPole-v1", frozen(max_steps_in_episode=7)).max_episode_steps == 7
    assert make_env("DeepSea-bsuite", env_kwargs=frozen(size=5)).observation.shape == (5, 5)


def test_compact_storage_loses_nothing():
    native, compact = (
        play(make_env("Breakout-MinAtar", observation_dtype=d))[1][0].obs
        for d in ("native", "bool")
    )
    assert compact.dtype == jnp.bool_
    np.testing.assert_array_equal(native, compact.astype(jnp.float32))


def test_registered_environments_are_found():
    name = "ConstantReward-test"
    if name not in gymnax.registered_envs:
        gymnax.register(name, probes.ConstantReward)
    assert name in available_envs()
    assert make_env(name).action.sizes == (2,)


def test_actions_arrive_in_the_spaces_own_form():
    _, (_, actions, result) = play(make_env(probes.TwoDialsTuple()))
    want = (actions[..., 0] == 2).astype(float) + (actions[..., 1] == 0)
    np.testing.assert_array_equal(result.rewards, want)
    _, (_, actions, result) = play(make_env(probes.HitTheTarget()), num_steps=900)
    assert jnp.abs(actions).max() > 3
    want = -((jnp.clip(actions[..., 0], -3, 3) - 0.5) ** 2)
    np.testing.assert_allclose(result.rewards, want, rtol=1e-6)


def test_multi_discrete_space():
    space = MultiDiscrete((3, 2))
    samples = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 200))
    assert jax.vmap(space.contains)(samples).all()
    np.testing.assert_array_equal(samples.max(0), [2, 1])
    assert not space.contains(jnp.array([0, 2]))


def test_spaces_nobody_can_act_in():
    class BoxOfBoxes(probes.Probe):
        def action_space(self, params=None):
            from gymnax.environments import spaces

            return spaces.Tuple((spaces.Box(0, 1, (1,)),))

    with pytest.raises(ConfigError, match="env: BoxOfBoxes"):
        make_env(BoxOfBoxes())


def test_made_under_a_trace_it_can_be_used_outside():
    @jax.jit
    def f(key):
        return make_env("Asterix-MinAtar").reset(key)[0]

    f(jax.random.key(0))
    assert make_env("Asterix-MinAtar").reset(jax.random.key(0))[0].shape == (10, 10, 4)


@pytest.mark.bits
@pytest.mark.parametrize("num_envs", [4, 10])
def test_resetting_only_where_an_episode_ended_changes_nothing(num_envs, monkeypatch):
    env = make_env("CartPole-v1", FrozenMapping({"max_steps_in_episode": 12}))

    def play():
        def step(envs, key):
            action = jax.random.bernoulli(key, 0.5, (num_envs,)).astype(jnp.int32)
            after, result = step_envs(env, key, envs, action)
            return after, (after.obs, result)

        envs = reset_envs(env, jax.random.key(0), num_envs)
        return jax.jit(lambda: jax.lax.scan(step, envs, jax.random.split(jax.random.key(1), 40)))()

    monkeypatch.setattr(parallel, "HEAVY", 10**9)
    everywhere = play()
    monkeypatch.setattr(parallel, "HEAVY", 0)
    chex.assert_trees_all_equal(play(), everywhere)
    ended = everywhere[1][1].episodes.count
    assert ended.max() > max(1, num_envs // 4)  # more than one round of resets
    assert ended.min() == 0
