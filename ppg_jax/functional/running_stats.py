"""Running mean and variance, and the scaling of rewards that uses them."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from ppg_jax.functional.pool import ALONE, Pool

MOST_BATCHES = 2**20
"""Most batches that statistics count. Beyond, float32 would lose what a batch adds to the sums."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RunningStats:
    """Mean and variance of everything seen so far.

    Attributes:
      count: number of samples, float32 ``[]``.
      mean: float32 ``[...]``.
      var: population variance, float32 ``[...]``.
    """

    count: chex.Array
    mean: chex.Array
    var: chex.Array


def init_stats(shape: tuple[int, ...] = ()) -> RunningStats:
    """Statistics before any data: mean 0, variance 1, and a count close to 0."""
    return RunningStats(
        count=jnp.float32(1e-4),
        mean=jnp.zeros(shape, jnp.float32),
        var=jnp.ones(shape, jnp.float32),
    )


def update_stats(stats: RunningStats, batch: chex.Array, pool: Pool = ALONE) -> RunningStats:
    """Merge a batch into the statistics (Chan et al. 1979, parallel variance).

    Args:
      stats: statistics of shape ``[...]``.
      batch: samples, ``[batch axes..., ...]``: every leading axis beyond the statistics' own
        is a batch axis.
      pool: all groups that have such a batch.

    Returns:
      Statistics of everything together. After ``MOST_BATCHES`` batches, of about the newest
      ``MOST_BATCHES`` ones.
    """
    axes = tuple(range(batch.ndim - stats.mean.ndim))
    batch = batch.astype(jnp.float32)
    batch_count = pool.size
    for axis in axes:
        batch_count *= batch.shape[axis]
    batch_mean, batch_var = pool.moments(batch, axes)
    seen = jnp.minimum(stats.count, MOST_BATCHES * float(batch_count))
    count = seen + batch_count
    delta = batch_mean - stats.mean
    mean = stats.mean + delta * (batch_count / count)
    spread = stats.var * seen + batch_var * batch_count
    var = (spread + delta**2 * (seen * batch_count / count)) / count
    return RunningStats(count=count, mean=mean, var=var)


def standardize(stats: RunningStats, x: chex.Array, clip: float = 10.0) -> chex.Array:
    """``(x - mean) / sqrt(var + 1e-8)``, cut to ``[-clip, clip]``; shape of ``x``, float32."""
    before = range(x.ndim - stats.mean.ndim)  # explicit, for JAX's rank promotion check
    mean, var = (jax.lax.expand_dims(moment, before) for moment in (stats.mean, stats.var))
    scaled = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + 1e-8)
    return jnp.clip(scaled, -clip, clip)


def discounted_sums(
    rewards: chex.Array,
    starts: chex.Array,
    previous: chex.Array,
    gamma: chex.Numeric,
    *,
    unroll: int = 8,
) -> chex.Array:
    """Forward discounted reward sums ``G_t = r_t + gamma G_{t-1}``, reset at each episode start.

    Args:
      rewards: ``[T, B]``.
      starts: step t begins an episode, bool ``[T, B]``.
      previous: ``G`` after the last step of the rollout before, ``[B]``.
      gamma: discount of the sum, scalar.
      unroll: number of steps that are one iteration of the loop.

    Returns:
      ``G``, ``[T, B]``.
    """

    def forward(
        total: chex.Array, step: tuple[chex.Array, chex.Array]
    ) -> tuple[chex.Array, chex.Array]:
        reward, start = step
        total = reward + gamma * jnp.where(start, 0.0, total)
        return total, total

    return jax.lax.scan(forward, previous, (rewards, starts), unroll=unroll)[1]


def scale_rewards(stats: RunningStats, rewards: chex.Array, clip: float = 10.0) -> chex.Array:
    """Rewards over the standard deviation of their discounted sums, cut to ``[-clip, clip]``.

    No mean is subtracted, so the sign of a reward survives.
    """
    return jnp.clip(rewards * jax.lax.rsqrt(stats.var + 1e-8), -clip, clip)
