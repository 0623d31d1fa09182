"""Two gradients of the same parameters: how much they conflict, and two remedies.

A *pair* is the policy's and the value function's gradient, two trees of the same structure.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

BALANCE_LIMIT = 10.0
"""Largest factor by which ``balance`` multiplies or divides a gradient."""


def inner(a: Any, b: Any) -> chex.Array:
    """Inner product over all leaves, float32 scalar."""
    products = jax.tree.map(lambda x, y: jnp.vdot(x, y, precision="highest"), a, b)
    return sum(jax.tree.leaves(products), jnp.float32(0.0))


def cosine(a: Any, b: Any) -> chex.Array:
    """Cosine of the angle between two gradients, scalar; 0 where one of them vanishes."""
    product = jnp.sqrt(inner(a, a)) * jnp.sqrt(inner(b, b))
    return jnp.where(product > 0, inner(a, b) / jnp.where(product > 0, product, 1.0), 0.0)


def project(a: Any, b: Any) -> Any:
    """``a`` without its part against ``b``: PCGrad (Yu et al. 2020, arXiv:2001.06782).

    ``a - min(0, a.b) / |b|^2 b``: where they do not oppose each other, ``a`` as it is.
    """
    squared = inner(b, b)
    against = jnp.minimum(inner(a, b), 0.0) / jnp.where(squared > 0, squared, 1.0)
    return jax.tree.map(lambda x, y: x - against * y, a, b)


def balanced_weights(a: Any, b: Any) -> tuple[chex.Array, chex.Array]:
    """Weights that bring two gradients to the mean of their norms, scalars.

    This is the aim of GradNorm (Chen et al. 2018, arXiv:1711.02257). GradNorm learns the weights;
    here the aim is reached at every step.

    A weight stays between ``1 / BALANCE_LIMIT`` and ``BALANCE_LIMIT``. Otherwise a gradient close
    to zero would be scaled up to the size of the other one. The KL's gradient is close to zero when
    an auxiliary phase begins.
    """
    norms = jnp.sqrt(inner(a, a)), jnp.sqrt(inner(b, b))
    mean = 0.5 * (norms[0] + norms[1])
    first, second = (
        jnp.clip(mean / jnp.where(n > 0, n, 1.0), 1.0 / BALANCE_LIMIT, BALANCE_LIMIT) for n in norms
    )
    return first, second


def adapted_scale(scale: chex.Array, kl: chex.Array, target: chex.Numeric) -> chex.Array:
    """The new scale of a KL penalty, after that KL was measured.

    ``scale * clip(sqrt(kl / target), 1/2, 2)``. A KL falls with its penalty's weight to a power
    between 1 and 2, so the square root is neither too slow nor unstable. The scale stays in
    ``[1e-4, 1e4]``. It does not change if the KL is not finite.
    """
    factor = jnp.clip(jnp.sqrt(jnp.maximum(kl, 0.0) / target), 0.5, 2.0)
    return jnp.where(jnp.isfinite(kl), jnp.clip(scale * factor, 1e-4, 1e4), scale)
