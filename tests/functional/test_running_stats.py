"""Running moments against numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.functional.running_stats import (
    MOST_BATCHES,
    RunningStats,
    discounted_sums,
    init_stats,
    scale_rewards,
    standardize,
    update_stats,
)


def test_updates_in_parts_equal_the_whole():
    x = np.asarray(3.0 + 2.0 * jax.random.normal(jax.random.key(0), (4, 50, 3)))
    stats = init_stats((3,))
    for part in x:
        stats = update_stats(stats, jnp.asarray(part))
    np.testing.assert_allclose(stats.mean, x.reshape(-1, 3).mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats.var, x.reshape(-1, 3).var(0), rtol=1e-4)
    np.testing.assert_allclose(stats.count, 200, rtol=1e-5)


def test_every_leading_axis_is_a_batch_axis():
    x = jax.random.normal(jax.random.key(0), (4, 5, 3))
    a, b = update_stats(init_stats((3,)), x), update_stats(init_stats((3,)), x.reshape(20, 3))
    np.testing.assert_allclose(a.var, b.var, rtol=1e-6)


def test_integers_do_not_overflow():
    x = jnp.full((300, 2), 255, jnp.uint8)
    stats = update_stats(init_stats((2,)), x)
    np.testing.assert_allclose(stats.mean, 255, rtol=1e-5)


def test_standardize_clips():
    stats = update_stats(init_stats(), jnp.array([0.0, 2.0]))
    np.testing.assert_allclose(
        standardize(stats, jnp.array([1.0, 2.0, 1e6])), [0, 1, 10], rtol=1e-3, atol=1e-3
    )


def test_discounted_sums_start_anew_with_an_episode():
    rewards = jnp.array([[1.0], [2.0], [4.0]])
    starts = jnp.array([[False], [False], [True]])
    sums = discounted_sums(rewards, starts, jnp.array([8.0]), 0.5)
    np.testing.assert_allclose(sums[:, 0], [5.0, 4.5, 4.0])


def test_rewards_keep_their_sign_and_are_clipped():
    stats = update_stats(init_stats(), jnp.array([-2.0, 2.0]))
    scaled = scale_rewards(stats, jnp.array([1.0, -1.0, 1e3]))
    np.testing.assert_allclose(scaled, [0.5, -0.5, 10.0], rtol=1e-3)


def test_statistics_of_very_long_runs_do_not_stand_still():
    """Without a limit on what counts, float32 would take every batch for nothing from here on."""
    old = RunningStats(jnp.float32(2**28), jnp.float32(0.0), jnp.float32(1.0))

    def merge(stats, key):
        return update_stats(stats, 1.0 + 2.0 * jax.random.normal(key, (8,))), None

    keys = jax.random.split(jax.random.key(0), 50_000)
    stats, _ = jax.jit(lambda keys: jax.lax.scan(merge, old, keys))(keys)
    share = 1 - (1 - 2.0**-20) ** 50_000  # of the data that came since, a moving average
    np.testing.assert_allclose(stats.mean, share, rtol=0.1)
    np.testing.assert_allclose(stats.var, 1 + 3 * share + share * (1 - share), rtol=0.02)
    np.testing.assert_allclose(stats.count, MOST_BATCHES * 8, rtol=1e-5)
