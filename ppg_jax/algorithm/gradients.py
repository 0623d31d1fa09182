"""The gradient of a policy loss plus a value loss, where both reach the same parameters."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.functional import balanced_weights, cosine, project
from ppg_jax.networks import Agent
from ppg_jax.types import Metrics

LossPair = tuple[chex.Array, chex.Array]
"""The policy loss and the value loss, scalars."""


def pair_gradient(
    conflict: str,
    agent: Agent,
    loss_fn: Callable[[Any], tuple[LossPair, Metrics]],
    params: Any,
) -> tuple[Any, Metrics, Metrics]:
    """Gradient of the sum of two losses. On request their conflict is measured and resolved.

    ``conflict`` decides about the gradient of a shared encoder and memory. Heads, and a separate
    value network, always get the plain sum. All modes but ``off`` backpropagate twice.

    Args:
      conflict: ``off``, ``measure``, ``project`` (``functional.project``, each gradient by the
        other) or ``balance`` (``functional.balanced_weights``).
      agent: says which parameters are shared.
      loss_fn: maps parameters to both losses and metrics.
      params: of all networks.

    Returns:
      The gradient, the metrics of ``loss_fn``, and ``grad_cosine``: the cosine of the two gradients
      before they were changed (no entry if ``conflict`` is off).
    """

    def total(params: Any) -> tuple[chex.Array, Metrics]:
        losses, metrics = loss_fn(params)
        return losses[0] + losses[1], metrics

    if conflict == "off":
        return *jax.grad(total, has_aux=True)(params), {}
    _, pull, metrics = jax.vjp(loss_fn, params, has_aux=True)
    one, zero = jnp.float32(1.0), jnp.float32(0.0)
    (policy,), (value,) = pull((one, zero)), pull((zero, one))
    a, b = agent.shared_part(policy), agent.shared_part(value)
    grads = _add(policy, value)
    if conflict == "project":
        grads = agent.with_shared_part(grads, _add(project(a, b), project(b, a)))
    if conflict == "balance":
        first, second = balanced_weights(a, b)
        weighted = jax.tree.map(lambda x, y: first * x + second * y, a, b)
        grads = agent.with_shared_part(grads, weighted)
    return grads, metrics, {"grad_cosine": cosine(a, b)}


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
