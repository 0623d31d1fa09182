"""Generalised advantage estimation (GAE) with time limits and terminal states apart."""

import chex
import jax
import jax.numpy as jnp


def generalized_advantages(
    rewards: chex.Array,
    values: chex.Array,
    next_values: chex.Array,
    terminated: chex.Array,
    truncated: chex.Array,
    gamma: chex.Numeric,
    gae_lambda: chex.Numeric,
    *,
    unroll: int = 8,
) -> tuple[chex.Array, chex.Array]:
    """Advantages and value targets of a rollout.

    ``delta_t = r_t + gamma (1 - terminated_t) V(next_t) - V(s_t)`` and
    ``A_t = delta_t + gamma lambda (1 - terminated_t) (1 - truncated_t) A_{t+1}``
    (Schulman et al., arXiv:1506.02438). The two ways in which an episode can end are kept apart: a
    truncated step still bootstraps, from the real final observation.

    Args:
      rewards: rewards of the steps, ``[T, ...]``.
      values: ``V(s_t)``, ``[T, ...]``.
      next_values: ``V`` of the real successor of step t, ``[T, ...]``; on a truncated step
        that is the last observation of the episode that ended, not the first of the next.
      terminated: the environment reached a terminal state at this step, bool ``[T, ...]``.
      truncated: a time limit cut the episode at this step, bool ``[T, ...]``.
      gamma: discount, scalar.
      gae_lambda: lambda of the exponential average, scalar.
      unroll: number of steps that are one iteration of the loop.

    Returns:
      ``(advantages, value_targets)``, both ``[T, ...]``; targets are advantages plus values.
    """
    chex.assert_equal_shape([rewards, values, next_values, terminated, truncated])
    alive = 1.0 - terminated.astype(values.dtype)
    deltas = rewards + gamma * alive * next_values - values
    carry_on = gamma * gae_lambda * alive * (1.0 - truncated.astype(values.dtype))

    def backward(
        advantage: chex.Array, step: tuple[chex.Array, chex.Array]
    ) -> tuple[chex.Array, chex.Array]:
        delta, keep = step
        advantage = delta + keep * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        backward, jnp.zeros_like(values[0]), (deltas, carry_on), reverse=True, unroll=unroll
    )
    return advantages, advantages + values
