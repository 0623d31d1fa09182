"""The loop over minibatches that both phases share: a gradient, then a step of Adam."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.optimizer import FlatAdam, TreeAdam
from ppg_jax.types import Metrics

Gradient = Callable[[Any, Any], tuple[Any, Metrics]]
"""Maps parameters and a minibatch (its index, at least) to a gradient and metrics, scalars."""


def descend(
    adam: TreeAdam | FlatAdam,
    start: tuple[Any, Any],
    gradient: Gradient,
    minibatches: Any,
) -> tuple[tuple[Any, Any], Metrics]:
    """One step of Adam for each minibatch.

    Args:
      adam: the optimizer.
      start: parameters, and the optimizer's state.
      gradient: of a minibatch's losses.
      minibatches: what ``gradient`` takes, for each minibatch, leaves ``[n, ...]``.

    Returns:
      Parameters and the optimizer's state after all steps; metrics and norms ``[n]``.
    """
    names: list[str] = []

    def step(carry: Any, minibatch: Any) -> tuple[Any, chex.Array]:
        grads, metrics = gradient(adam.params(carry), minibatch)
        carry, norms = adam.step(carry, grads)
        metrics = metrics | norms
        names[:] = metrics
        # One vector: on an accelerator each array that a loop stores is a launch.
        return carry, jnp.stack([metrics[name] for name in names])

    carry, measured = jax.lax.scan(step, adam.begin(*start), minibatches)
    return adam.end(carry), {name: measured[:, i] for i, name in enumerate(names)}
