"""The gradient of a policy loss plus a value loss, where both reach the same parameters."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.ppg import PPG
from ppg_jax.functional import balanced_weights, cosine, project
from ppg_jax.networks import Agent
from ppg_jax.types import Metrics

LossPair = tuple[chex.Array, chex.Array]
"""The policy loss and the value loss, scalars."""
Heads = tuple[str, ...]
"""Names of heads: some of ``POLICY``, ``VALUE``, ``AUX_VALUE``."""


def pair_gradient(
    conflict: str,
    ppg: PPG,
    loss_fn: Callable[[Any, Heads], tuple[LossPair, Metrics]],
    params: Any,
    heads: Heads,
) -> tuple[Any, Metrics, Metrics]:
    """Gradient of the sum of two losses. On request their conflict is measured and resolved.

    ``conflict`` decides about the gradient of a shared encoder and memory. Heads, and a separate
    value network, always get the plain sum. All modes but ``off`` backpropagate twice.

    Args:
      conflict: ``off``, ``measure``, ``project`` (``functional.project``, each gradient by the
        other) or ``balance`` (``functional.balanced_weights``).
      ppg: its networks say which parameters are shared. Losses are means over its ``pool``.
      loss_fn: maps parameters and heads to both losses and metrics. What other heads are needed
        for is left out.
      params: of all networks.
      heads: whose losses are minimised.

    Returns:
      The gradient, the metrics of ``loss_fn``, and ``grad_cosine``: the cosine of the two gradients
      before they were changed (no entry if ``conflict`` is off).
    """
    agent, pool = ppg.agent, ppg.pool
    if conflict == "off":
        return *pool.mean(_sum_gradient(agent, loss_fn, params, heads)), {}
    _, pull, metrics = jax.vjp(lambda p: loss_fn(p, heads), params, has_aux=True)
    one, zero = jnp.float32(1.0), jnp.float32(0.0)
    (policy,), (value,) = pull((one, zero)), pull((zero, one))
    policy, value, metrics = pool.mean((policy, value, metrics))
    a, b = agent.shared_part(policy), agent.shared_part(value)
    grads = _add(policy, value)
    if conflict == "project":
        grads = agent.with_shared_part(grads, _add(project(a, b), project(b, a)))
    if conflict == "balance":
        first, second = balanced_weights(a, b)
        weighted = jax.tree.map(lambda x, y: first * x + second * y, a, b)
        grads = agent.with_shared_part(grads, weighted)
    return grads, metrics, {"grad_cosine": cosine(a, b)}


def _sum_gradient(
    agent: Agent,
    loss_fn: Callable[[Any, Heads], tuple[LossPair, Metrics]],
    params: Any,
    heads: Heads,
) -> tuple[Any, Metrics]:
    """Gradient of the sum of the losses, and metrics."""
    grads: dict[str, Any] = {}
    metrics = Metrics()
    for names, own in agent.turns(heads):
        if grads:  # begin only when the networks before are done, and their activations are free
            grads, params = jax.lax.optimization_barrier((grads, params))

        def total(part: Any, others: Any = params, own: Heads = own) -> tuple[Any, Metrics]:
            losses, metrics = loss_fn(others | part, own)
            return losses[0] + losses[1], metrics

        part, measured = jax.grad(total, has_aux=True)({name: params[name] for name in names})
        grads, metrics = grads | part, metrics | measured
    return grads, metrics


def _add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
