"""Advantages by hand and by identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.functional.gae import generalized_advantages

NO = jnp.zeros((3, 1), bool)
R, V = jnp.array([[1.0], [2.0], [3.0]]), jnp.array([[0.5], [1.0], [1.5]])
V_NEXT = jnp.array([[1.0], [1.5], [4.0]])


def test_by_hand():
    # gamma 0.5, lambda 0.5; deltas 1 + .5 - .5 = 1, 2 + .75 - 1 = 1.75, 3 + 2 - 1.5 = 3.5.
    advantages, targets = generalized_advantages(R, V, V_NEXT, NO, NO, 0.5, 0.5)
    a1 = 1.75 + 0.25 * 3.5
    np.testing.assert_allclose(advantages[:, 0], [1 + 0.25 * a1, a1, 3.5], rtol=1e-6)
    np.testing.assert_allclose(targets, advantages + V, rtol=1e-6)


def test_termination_drops_the_successor():
    ended = NO.at[1].set(True)
    advantages, _ = generalized_advantages(R, V, V_NEXT, ended, NO, 0.5, 0.5)
    np.testing.assert_allclose(advantages[:, 0], [1 + 0.25 * 1, 2 - 1.0, 3.5], rtol=1e-6)


def test_truncation_bootstraps_but_cuts_the_trace():
    cut = NO.at[1].set(True)
    advantages, _ = generalized_advantages(R, V, V_NEXT, NO, cut, 0.5, 0.5)
    np.testing.assert_allclose(advantages[:, 0], [1 + 0.25 * 1.75, 1.75, 3.5], rtol=1e-6)


def test_an_episode_that_ends_both_ways_is_terminated():
    both = NO.at[1].set(True)
    ended = generalized_advantages(R, V, V_NEXT, both, NO, 0.9, 0.8)
    twice = generalized_advantages(R, V, V_NEXT, both, both, 0.9, 0.8)
    np.testing.assert_array_equal(ended[0], twice[0])


@pytest.fixture
def random_rollout():
    keys = jax.random.split(jax.random.key(0), 4)
    rewards, values = jax.random.normal(keys[0], (20, 3)), jax.random.normal(keys[1], (21, 3))
    terminated = jax.random.bernoulli(keys[2], 0.2, (20, 3))
    return rewards, values[:-1], values[1:], terminated, jnp.zeros((20, 3), bool)


def test_lambda_zero_is_the_td_error(random_rollout):
    rewards, values, after, terminated, truncated = random_rollout
    advantages, _ = generalized_advantages(rewards, values, after, terminated, truncated, 0.9, 0.0)
    want = rewards + 0.9 * (1 - terminated) * after - values
    np.testing.assert_allclose(advantages, want, rtol=1e-5, atol=1e-6)


def test_lambda_one_is_monte_carlo(random_rollout):
    rewards, values, after, terminated, truncated = random_rollout
    _, targets = generalized_advantages(rewards, values, after, terminated, truncated, 0.9, 1.0)
    returns, total = [], after[-1]
    for t in reversed(range(20)):
        total = rewards[t] + 0.9 * (1 - terminated[t]) * total
        returns.append(total)
    np.testing.assert_allclose(targets, jnp.stack(returns[::-1]), rtol=1e-4, atol=1e-5)
