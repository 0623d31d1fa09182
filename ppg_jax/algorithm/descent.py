"""The loop over minibatches that both phases share: a gradient, then a step of Adam."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.optimizer import FlatAdam, TreeAdam
from ppg_jax.types import Metrics

Gradient = Callable[[Any, chex.Array], tuple[Any, Metrics]]
"""Maps parameters and the index of a minibatch to a gradient and metrics, scalars."""


def descend(
    adam: TreeAdam | FlatAdam,
    start: tuple[Any, Any],
    gradient: Gradient,
    indices: chex.Array,
) -> tuple[tuple[Any, Any], Metrics]:
    """One step of Adam for each minibatch.

    Args:
      adam: the optimizer.
      start: parameters, and the optimizer's state.
      gradient: of a minibatch's losses.
      indices: of the minibatches, ``[n, items of each]``.

    Returns:
      Parameters and the optimizer's state after all steps; metrics and norms ``[n]``.
    """
    names: list[str] = []

    def step(carry: Any, index: chex.Array) -> tuple[Any, chex.Array]:
        grads, metrics = gradient(adam.params(carry), index)
        carry, norms = adam.step(carry, grads)
        metrics = metrics | norms
        names[:] = metrics
        # One vector: on an accelerator each array that a loop stores is a launch.
        return carry, jnp.stack([metrics[name] for name in names])

    carry, measured = jax.lax.scan(step, adam.begin(*start), indices)
    return adam.end(carry), {name: measured[:, i] for i, name in enumerate(names)}
