"""Leaving zeros out: first layers multiply only those components that some observation sets.

Binary observations, such as MinAtar's planes of a game's objects, have components that are zero
throughout a phase: a fifth to two thirds of them. They add nothing to a product, and their rows of
the kernel have no gradient. Without them the first layer's products, by far the largest of an MLP,
give the same numbers to rounding.
"""

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import struct

MIN_COMPONENTS = 128
"""Observations with fewer are multiplied as they are."""

WIDTHS = (3 / 8, 5 / 8, 6 / 8, 7 / 8, 1.0)
"""Parts of all components for which products are compiled; the least that will do is run.

Each takes its time to compile. Breakout needs the first two, MinAtar's other games the next two.
"""


class LiveComponents(struct.PyTreeNode):
    """An order of the components of flattened observations: first those that were ever set.

    Attributes:
      order: their numbers, int32 ``[F]``.
      rank: each one's place in that order, int32 ``[F]``.
      count: how many were ever set, int32 scalar.
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
    """Before any observation."""
    order = jnp.arange(num_components, dtype=jnp.int32)
    return LiveComponents(order, order, jnp.int32(0))


@jax.custom_batching.custom_vmap
def sort_components(live: LiveComponents, obs: chex.Array) -> tuple[LiveComponents, chex.Array]:
    """Adds what bool ``obs [T, B, F]`` set to what is live, and brings them into that order.

    Components found here come after those known before. So observations sorted earlier are sorted
    by the new order too: they are zero wherever the two differ.

    Under ``vmap`` nothing is sorted and everything is live. With counts of its own for each row
    ``jax.lax.switch`` would compute every width, and with one for all a row's rounding would depend
    on the rows beside it.
    """
    # An axis at a time: for both at once XLA on CPU takes four times as long.
    known, found = live.rank < live.count, obs.any(0).any(0)
    number = jnp.arange(obs.shape[-1], dtype=jnp.int32)
    behind = jnp.where(found, obs.shape[-1], 2 * obs.shape[-1])
    order = jnp.argsort(jnp.where(known, live.rank, number + behind)).astype(jnp.int32)
    rank = jnp.zeros_like(order).at[order].set(number)
    live = LiveComponents(order, rank, (known | found).sum(dtype=jnp.int32))
    places = jnp.broadcast_to(order, obs.shape)
    return live, jnp.take_along_axis(obs, places, axis=-1, mode="promise_in_bounds")


@sort_components.def_vmap
def _leave_rows_as_they_are(
    _: int, batched: list[LiveComponents], live: LiveComponents, obs: chex.Array
):
    assert not any(jax.tree.leaves(batched[0])), "the same for all rows from the start"
    all_live = live.replace(count=jnp.int32(obs.shape[-1]))
    return (all_live, obs), (jax.tree.map(lambda _: False, all_live), True)


@jax.custom_vjp
def live_product(live: LiveComponents, x: chex.Array, kernel: chex.Array) -> chex.Array:
    """``x [N, F] @ kernel [F, W]``, where x is bool and sorted, and the kernel is as it always is.

    Zeros are left out where it is differentiated: what is not learnt from is multiplied once, which
    is not worth compiling in several widths. x gets no gradient.
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
    """``multiply(width, x, other)`` with the least of the widths that holds what is live."""
    widths = [math.ceil(part * x.shape[1]) for part in WIDTHS]
    too_small = (jnp.array(widths) < live.count).sum()
    branches = [functools.partial(multiply, width) for width in widths]
    return jax.lax.switch(too_small, branches, x, other)
