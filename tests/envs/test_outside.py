"""Batches of environments that live outside of the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import (
    BatchEnvironment,
    SuiteBatch,
    close_envs,
    live_outside,
    make_env,
    outside,
    reset_envs,
    step_envs,
)
from ppg_jax.envs.spaces import Box, Discrete
from ppg_jax.envs.suite import BatchStep
from tests.corridors import LENGTH, LIMIT, Inside, Outside

KEY = jax.random.key(0)


def play(env, key, num_envs=3, num_steps=40, unroll=1):
    def step(envs, key):
        actions = jax.random.randint(key, (num_envs,), 0, 2)
        after, result = step_envs(env, key, envs, actions)
        return after, (result, after.obs)

    envs = reset_envs(env, key, num_envs)
    after, (results, seen) = jax.lax.scan(
        step, envs, jax.random.split(key, num_steps), unroll=unroll
    )
    return envs, after, seen, results


def test_it_is_stepped_as_the_same_environment_in_jax():
    raw = Outside()
    inside, out = make_env(Inside()), make_env(raw)
    assert isinstance(out, BatchEnvironment)
    assert live_outside(out)
    assert not live_outside(inside)
    first, after, seen, results = jax.jit(lambda key: play(out, key))(KEY)
    first_, after_, seen_, wanted = jax.jit(lambda key: play(inside, key))(KEY)
    np.testing.assert_array_equal(seen, seen_)
    for mine, theirs in zip(results, wanted, strict=True):
        if mine is not None:
            jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    for name in ("obs", "starts", "returns", "lengths"):
        np.testing.assert_array_equal(getattr(first, name), getattr(first_, name))
        np.testing.assert_array_equal(getattr(after, name), getattr(after_, name))
    assert results.terminated.any()
    assert results.truncated.any()
    ends = results.terminated
    np.testing.assert_array_equal(results.final_obs[..., 0][ends], LENGTH)
    assert results.lengths.max() == LIMIT


def test_a_state_is_stepped_once_only_and_not_after_closing():
    env = make_env(Outside())
    start = reset_envs(env, KEY, 2)
    actions = jnp.zeros(2, jnp.int32)
    after, _ = step_envs(env, KEY, start, actions)
    with pytest.raises(Exception, match=r"made 1 steps, and the state belongs after 0"):
        jax.block_until_ready(step_envs(env, KEY, start, actions))
    close_envs(env, after)
    close_envs(env, after)  # nothing more happens
    assert env.unwrapped.opened[0].closed
    with pytest.raises(Exception, match=r"were closed, or belong to another process"):
        jax.block_until_ready(step_envs(env, KEY, after, actions))
    strange = after.replace(env=after.env.replace(batch=jnp.uint32([1, 0])))
    with pytest.raises(Exception, match=r"another process; ppg_jax.restart_envs begins"):
        jax.block_until_ready(step_envs(env, KEY, strange, actions))


def test_vmap_is_refused_and_map_is_not():
    env = make_env(Outside())
    keys = jax.random.split(KEY, 2)
    for program in (
        jax.vmap(lambda key: play(env, key)),
        jax.jit(jax.vmap(lambda key: play(env, key))),
    ):
        with pytest.raises(ConfigError, match=r"env: Corridor cannot be vmapped.*strategy: map"):
            program(keys)
    *_, mapped = jax.jit(lambda keys: jax.lax.map(lambda key: play(env, key), keys))(keys)
    for i in range(2):
        *_, alone = play(env, keys[i])
        np.testing.assert_array_equal(mapped.rewards[i], alone.rewards)


def test_every_reset_opens_a_batch_with_a_seed_of_its_key():
    raw = Outside()
    env = make_env(raw)
    begin = jax.jit(lambda key: reset_envs(env, key, 2).env)
    states = [begin(jax.random.key(i)) for i in (0, 0, 1)]
    a, b, c = (opened.seed for opened in raw.opened)
    assert a == b != c
    assert all(0 <= seed < 2**31 for seed in (a, b, c))
    assert len({int(state.batch[1]) for state in states}) == 3
    before = len(outside._running)
    for state in states:
        env.close(state)
    jax.effects_barrier()
    assert len(outside._running) == before - 3


@pytest.mark.slow
def test_many_environments_do_not_hang():
    """Large arrays in callbacks hung in older versions of JAX."""
    env = make_env(Outside())
    *_, results = jax.jit(lambda key: play(env, key, 2**17, 12))(KEY)
    assert results.rewards.sum() > 0


@pytest.mark.parametrize("unroll", [4, 40])
def test_the_order_of_steps_is_fixed_without_a_loop(unroll):
    """The actions do not depend on observations: only the state orders the callbacks."""
    raw = Outside()
    env = make_env(raw)

    def program(key):
        _, after, _, results = play(env, key, unroll=unroll)
        close_envs(env, after)
        return results.rewards

    jax.block_until_ready(jax.jit(program)(KEY))
    jax.effects_barrier()
    assert raw.opened[0].closed


@pytest.mark.parametrize(("after", "why"), [(0, "no games here"), (3, "the games are over")])
def test_an_error_of_the_environments_is_one_line(after, why):
    raw = Outside(fails_after=after)
    before = len(outside._running)
    with pytest.raises(ConfigError, match=f"^env: Corridor failed: OSError: {why}$"):
        ppg_jax.run(Config(env=raw, num_envs=4, num_steps=8, num_minibatches=2), progress=False)
    assert all(opened.closed for opened in raw.opened)
    assert len(outside._running) == before


def test_a_wrong_shape_is_named():
    raw = Outside()
    raw.obs_shape = (3,)
    with pytest.raises(Exception, match=r"it returned the shape \(2, 2\) instead of \(2, 3\)"):
        jax.block_until_ready(raw.reset(KEY, 2))


class Numbers(SuiteBatch):
    """A batch in JAX that begins its own episodes: counts up to 3."""

    name, max_episode_steps = "Numbers", None
    observation_space, action_space = Box(0, 3, (1,)), Discrete(2)

    def reset(self, key, num_envs):
        count = jnp.zeros(num_envs, jnp.int32)
        return count[:, None].astype(jnp.float32), count

    def step(self, state, actions):
        count = state + 1
        done = count == 3
        after = jnp.where(done, 0, count)
        obs, next_obs = (x[:, None].astype(jnp.float32) for x in (count, after))
        return BatchStep(obs, after, actions, done, jnp.zeros_like(done), next_obs)


def test_a_batch_in_jax_can_be_vmapped():
    env = make_env(Numbers())
    assert not live_outside(env)
    *_, results = jax.vmap(lambda key: play(env, key))(jax.random.split(KEY, 2))
    np.testing.assert_array_equal(results.lengths[0, :4, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(results.final_obs[1, :4, 2, 0], [1, 2, 3, 1])


def test_a_compact_dtype_cannot_be_tried_out():
    with pytest.raises(ConfigError, match="observation_dtype: uint8 is invalid; .* use native"):
        make_env(Outside(), observation_dtype="uint8")
