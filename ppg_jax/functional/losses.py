"""The losses of Phasic Policy Gradient, one function each (arXiv:2009.04416, section 2)."""

import chex
import jax.numpy as jnp

from ppg_jax.functional.missing import missing
from ppg_jax.functional.pool import ALONE, Pool


def normalize_advantages(advantages: chex.Array, pool: Pool = ALONE) -> chex.Array:
    """``(A - mean) / (population std + 1e-8)`` over every axis, and over the groups of ``pool``."""
    mean, var = pool.moments(advantages)
    return (advantages - mean) / (jnp.sqrt(var) + 1e-8)


def policy_loss(
    log_probs: chex.Array,
    old_log_probs: chex.Array,
    advantages: chex.Array,
    clip_eps: chex.Numeric,
    kl_penalty: chex.Numeric,
) -> chex.Array:
    """PPO's surrogate: clipped, with a KL penalty, or both.

    ``mean max(-A ratio, -A clip(ratio, 1 - eps, 1 + eps)) + kl_penalty 0.5 mean (log ratio)^2``
    (arXiv:1707.06347, and the PPG-KL variant of arXiv:2009.04416).

    Args:
      log_probs: of the taken actions under the current policy, any shape.
      old_log_probs: the same under the policy that acted.
      advantages: the same shape.
      clip_eps: epsilon; 0 turns the clip off.
      kl_penalty: weight of the penalty; 0 turns it off.

    Returns:
      Scalar loss.
    """
    chex.assert_equal_shape([log_probs, old_log_probs, advantages])
    log_ratio = log_probs - old_log_probs
    ratio = jnp.exp(log_ratio)
    # The hyperparameter may be traced: an infinite range, not a branch, switches the clip off.
    eps = jnp.where(clip_eps > 0, clip_eps, jnp.inf)
    clipped = jnp.clip(ratio, 1.0 - eps, 1.0 + eps)
    surrogate = jnp.maximum(-advantages * ratio, -advantages * clipped).mean()
    return surrogate + kl_penalty * 0.5 * jnp.square(log_ratio).mean()


def squared_error(values: chex.Array, value_targets: chex.Array) -> chex.Array:
    """``mean (V - target)^2``, without a factor."""
    chex.assert_equal_shape([values, value_targets])
    return jnp.square(values - value_targets).mean()


def clipped_squared_error(
    values: chex.Array,
    value_targets: chex.Array,
    old_values: chex.Array,
    value_clip_eps: chex.Numeric,
) -> chex.Array:
    """``mean max((V - target)^2, (V_clip - target)^2)``, V_clip within epsilon of the old value.

    Args:
      values: current predictions, any shape.
      value_targets: the same shape.
      old_values: predictions when the rollout was collected, the same shape.
      value_clip_eps: epsilon; 0 turns the clip off, which leaves ``squared_error``.

    Returns:
      Scalar loss, without a factor.
    """
    chex.assert_equal_shape([values, value_targets, old_values])
    near = old_values + jnp.clip(values - old_values, -value_clip_eps, value_clip_eps)
    clipped = jnp.where(value_clip_eps > 0, near, values)
    # where(), not maximum(): on a tie maximum() halves the gradient between its arguments, of
    # which one may be a constant here.
    error, clipped_error = jnp.square(values - value_targets), jnp.square(clipped - value_targets)
    return jnp.where(clipped_error > error, clipped_error, error).mean()


def clip_fraction(
    log_probs: chex.Array, old_log_probs: chex.Array, clip_eps: chex.Numeric
) -> chex.Array:
    """Share of samples whose ratio left ``[1 - eps, 1 + eps]``; 0 where the clip is off."""
    outside = jnp.abs(jnp.exp(log_probs - old_log_probs) - 1.0) > clip_eps
    return jnp.where(clip_eps > 0, outside.mean(), 0.0)


def approximate_kl(log_probs: chex.Array, old_log_probs: chex.Array) -> chex.Array:
    """Estimate of ``KL(old || new)`` from taken actions: ``mean (ratio - 1) - log ratio``.

    Unbiased and never negative (Schulman, "Approximating KL Divergence", 2020, estimator k3).
    """
    log_ratio = log_probs - old_log_probs
    return (jnp.expm1(log_ratio) - log_ratio).mean()


def explained_variance(
    values: chex.Array, value_targets: chex.Array, pool: Pool = ALONE
) -> chex.Array:
    """``1 - Var(target - V) / Var(target)``: 1 is perfect, 0 is no better than a constant.

    It is ``missing()`` (usually NaN) if all targets are equal. ``pool`` has all groups of samples.
    """
    _, variance = pool.moments(value_targets)
    _, residual = pool.moments(value_targets - values)
    varies = variance > 0
    return jnp.where(varies, 1.0 - residual / jnp.where(varies, variance, 1.0), missing())
