"""Adam with a step size and a gradient limit that may be traced."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from ppg_jax.config import Hyperparams

LONG = 4096
"""Elements from which a leaf's squares are summed in two steps."""


def init_optimizer(params: Any) -> optax.OptState:
    """Adam's moments, all zero."""
    return optax.scale_by_adam().init(params)


def scheduled(rate: chex.Numeric, schedule: str, done: chex.Array, total: int) -> chex.Array:
    """A learning rate ``done / total`` of the way through the run.

    Args:
      rate: at the start, scalar.
      schedule: ``constant`` or ``linear`` (to 0 just after the last unit, which itself still
        learns).
      done: units (iterations or phases) finished before this one, scalar.
      total: units of the whole run.
    """
    if schedule == "constant":
        return jnp.asarray(rate, jnp.float32)
    return rate * jnp.maximum(0.0, 1.0 - done / total)


def global_norm(tree: Any) -> chex.Array:
    """Euclidean norm over all leaves, scalar.

    A small leaf is a dot product with itself: XLA on CPU makes four operations of a square and a
    sum. A large one is summed side by side first: in one long sum every addition waits for the one
    before.
    """
    return jnp.sqrt(sum(map(_sum_of_squares, jax.tree.leaves(tree)), jnp.float32(0.0)))


def _sum_of_squares(x: chex.Array) -> chex.Array:
    if x.size > LONG and x.size % 16 == 0:
        # More than 32 to a sum, or both sums as one, and XLA goes about it in a slower way.
        return jax.lax.optimization_barrier(jnp.square(x.reshape(16, -1)).sum(0)).sum()
    return jnp.vdot(x, x, precision=jax.lax.Precision.HIGHEST)


def apply_gradients(
    hparams: Hyperparams,
    learning_rate: chex.Numeric,
    params: Any,
    opt_state: optax.OptState,
    grads: Any,
) -> tuple[Any, optax.OptState]:
    """One Adam step (arXiv:1412.6980) after cutting the global gradient norm.

    Returns:
      New parameters and optimizer state.
    """
    limit = jnp.where(hparams.max_grad_norm > 0, hparams.max_grad_norm, jnp.inf)
    shrink = jnp.minimum(1.0, limit / (global_norm(grads) + 1e-12))
    grads = jax.tree.map(lambda g: g * shrink, grads)
    adam = optax.scale_by_adam(eps=hparams.adam_eps)
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it, whatever the user has set
        directions, opt_state = adam.update(grads, opt_state)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, params, directions)
    return params, opt_state
