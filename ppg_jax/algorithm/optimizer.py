"""Adam whose learning rate and gradient limit may be traced."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from ppg_jax.config import Hyperparams
from ppg_jax.kernels import global_norm


def init_optimizer(params: Any) -> optax.OptState:
    """Adam's state before the first step."""
    return optax.scale_by_adam().init(params)


def scheduled(rate: chex.Numeric, schedule: str, done: chex.Array, total: int) -> chex.Array:
    """A learning rate ``done / total`` of the way through the run.

    Args:
      rate: at the start, scalar.
      schedule: ``constant``, or ``linear`` towards 0. The last iteration or phase still has a
        positive rate.
      done: number of iterations or phases before this one, scalar.
      total: number of iterations or phases of the whole run.
    """
    if schedule == "constant":
        return jnp.asarray(rate, jnp.float32)
    return rate * jnp.maximum(0.0, 1.0 - done / total)


def apply_gradients(
    hparams: Hyperparams,
    learning_rate: chex.Numeric,
    params: Any,
    opt_state: optax.OptState,
    grads: Any,
    *,
    split_norms: bool = False,
) -> tuple[Any, optax.OptState]:
    """Clips the gradient's global norm and takes one Adam step (arXiv:1412.6980).

    Returns:
      New parameters and optimizer state.
    """
    limit = jnp.where(hparams.max_grad_norm > 0, hparams.max_grad_norm, jnp.inf)
    shrink = jnp.minimum(1.0, limit / (global_norm(grads, split=split_norms) + 1e-12))
    grads = jax.tree.map(lambda g: g * shrink, grads)
    adam = optax.scale_by_adam(eps=hparams.adam_eps)
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        directions, opt_state = adam.update(grads, opt_state)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, params, directions)
    return params, opt_state
