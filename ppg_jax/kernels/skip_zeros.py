"""Matrix products that skip the components which are zero in all observations.

Binary observations, such as MinAtar's planes of a game's objects, have components that are zero
throughout a phase: a fifth to two thirds of them. Such components add nothing to a product, and
their rows of the kernel have no gradient. So the first layer's products, by far the largest of an
MLP, can skip them. The numbers are the same to rounding.

A component is called *live* if it was set (true) in at least one observation.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import struct

MIN_COMPONENTS = 128
"""Observations with fewer components are multiplied as they are."""

WIDTHS = (3 / 8, 5 / 8, 6 / 8, 7 / 8, 1.0)
"""Fractions of all components for which a product is compiled. The smallest sufficient one is run.

Each fraction adds compile time. Breakout needs the first two, MinAtar's other games the next two.
"""


class LiveComponents(struct.PyTreeNode):
    """An order of the components of flattened observations in which the live ones come first.

    Attributes:
      order: the component at each place, int32 ``[F]``.
      rank: the place of each component, int32 ``[F]``.
      count: number of live components, int32 scalar.
    """

    order: chex.Array
    rank: chex.Array
    count: chex.Array


class SortedObservations(struct.PyTreeNode):
    """Stored observations with their components in the order of ``LiveComponents``.

    Attributes:
      components: bool ``[..., F]``.
    """

    components: chex.Array


def none_live(num_components: int) -> LiveComponents:
    """The order before any observation: no component is live."""
    order = jnp.arange(num_components, dtype=jnp.int32)
    return LiveComponents(order, order, jnp.int32(0))


@jax.custom_batching.custom_vmap
def sort_components(live: LiveComponents, obs: chex.Array) -> tuple[LiveComponents, chex.Array]:
    """Adds the components that bool ``obs [T, B, F]`` set to the live ones, and sorts ``obs``.

    Newly found components come after those known before. So observations that were sorted earlier
    agree with the new order too: they are zero at all places where the two orders differ.

    Under ``vmap`` nothing is sorted and every component counts as live. With one count for each
    seed ``jax.lax.switch`` would compute every width. With one count for all seeds the rounding of
    a seed would depend on the other seeds.
    """
    # One axis after the other: reducing both at once takes XLA on CPU four times as long.
    known, found = live.rank < live.count, obs.any(0).any(0)
    number = jnp.arange(obs.shape[-1], dtype=jnp.int32)
    behind = jnp.where(found, obs.shape[-1], 2 * obs.shape[-1])
    order = jnp.argsort(jnp.where(known, live.rank, number + behind)).astype(jnp.int32)
    rank = jnp.zeros_like(order).at[order].set(number)
    live = LiveComponents(order, rank, (known | found).sum(dtype=jnp.int32))
    return live, sorted_by(live, obs)


def sorted_by(live: LiveComponents, obs: chex.Array) -> chex.Array:
    """Observations ``[T, B, F]`` in an order."""
    places = jnp.broadcast_to(live.order, obs.shape)
    return jnp.take_along_axis(obs, places, axis=-1, mode="promise_in_bounds")


@sort_components.def_vmap
def _unsorted_under_vmap(
    _: int, batched: list[LiveComponents], live: LiveComponents, obs: chex.Array
):
    assert not any(jax.tree.leaves(batched[0])), "the first order is the same for all seeds"
    all_live = live.replace(count=jnp.int32(obs.shape[-1]))
    return (all_live, obs), (jax.tree.map(lambda _: False, all_live), True)


@jax.custom_vjp
def live_product(live: LiveComponents, x: chex.Array, kernel: chex.Array) -> chex.Array:
    """``x [N, F] @ kernel [F, W]`` for bool ``x`` that is sorted and a kernel that is not.

    Zeros are skipped only where the product is differentiated. Elsewhere it is computed once, which
    is not worth compiling several widths. ``x`` gets no gradient.
    """
    return x.astype(kernel.dtype) @ kernel[live.order]


def _forward(live: LiveComponents, x: chex.Array, kernel: chex.Array):
    def multiply(width: int, x: chex.Array, kernel: chex.Array) -> chex.Array:
        return x[:, :width].astype(kernel.dtype) @ kernel[:width]

    return _in_least_width(multiply, live, x, kernel[live.order]), (live, x)


def _backward(kept: tuple[LiveComponents, chex.Array], grad: chex.Array):
    live, x = kept

    def multiply(width: int, x: chex.Array, grad: chex.Array) -> chex.Array:
        rows = x[:, :width].astype(grad.dtype).T @ grad
        return jnp.pad(rows, ((0, x.shape[1] - width), (0, 0)))

    return None, None, _in_least_width(multiply, live, x, grad)[live.rank]


live_product.defvjp(_forward, _backward)


def _in_least_width(
    multiply: Callable[..., chex.Array], live: LiveComponents, x: chex.Array, other: chex.Array
) -> chex.Array:
    """``multiply(width, x, other)`` with the smallest width that holds all live components."""
    widths = [math.ceil(part * x.shape[1]) for part in WIDTHS]
    too_small = (jnp.array(widths) < live.count).sum()
    branches = [functools.partial(multiply, width) for width in widths]
    return jax.lax.switch(too_small, branches, x, other)
