"""Layers and initial weights: the paper's normed rows, orthogonal matrices, fast convolutions."""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., chex.Array]

ACTIVATIONS: dict[str, Callable[[chex.Array], chex.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
}


def normed_columns(scale: float) -> Initializer:
    """Each output unit's fan-in weights scaled to Euclidean norm ``scale``.

    The last axis of the weights is the output, all others are fan-in. This is the
    initialisation of the paper's own code, there on PyTorch's row layout.
    """

    def init(key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> chex.Array:
        weights = jax.random.normal(key, shape, dtype)
        fan_in = tuple(range(len(shape) - 1))
        return weights * (scale / jnp.sqrt(jnp.square(weights).sum(fan_in, keepdims=True)))

    return init


def make_initializer(scheme: str, scale: float) -> Initializer:
    """``normed`` or ``orthogonal`` weights of a scale."""
    return normed_columns(scale) if scheme == "normed" else nn.initializers.orthogonal(scale)


class Dense(nn.Module):
    """A dense layer, ``[..., F] -> [..., features]``; parameters and numbers are ``nn.Dense``'s.

    Attributes:
      features: width of the output.
      kernel_init: initial weights ``[F, features]``.
    """

    features: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: chex.Array, product: chex.Array | None = None) -> chex.Array:
        """``x @ kernel + bias``; ``product`` is ``x @ kernel`` where that is known already."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if product is None:
            product = narrow_product(x, kernel.astype(x.dtype))
        return product + on_last_axis(bias.astype(x.dtype), product.ndim)


def on_last_axis(x: chex.Array, ndim: int) -> chex.Array:
    """``x [W]`` as ``[1, ..., W]``: what is broadcast is to be seen, by JAX's own check too."""
    return jax.lax.expand_dims(x, range(ndim - 1))


NARROW = 6
"""Columns up to which a kernel is multiplied column by column on CPU."""


def narrow_product(x: chex.Array, kernel: chex.Array) -> chex.Array:
    """``x [..., F] @ kernel [F, W]``; the kernels of heads, a few columns wide, by columns on CPU.

    XLA on CPU multiplies matrices this narrow by plain loops: over 1,024 samples the gradient of a
    head for three actions takes as long as that of a 64x64 layer. By columns it is matrix-vector
    products and a sum of outer ones, and takes a third of it.
    """
    width = kernel.shape[1]
    if not 1 < width <= NARROW or jax.default_backend() != "cpu":
        return x @ kernel
    return jnp.stack([x @ kernel[:, i] for i in range(width)], axis=-1)


def joined_products(
    multiply: Callable[[chex.Array], chex.Array], kernels: list[chex.Array]
) -> list[chex.Array]:
    """What ``multiply`` makes of each of several kernels ``[F, W]``, as one matrix product.

    XLA on CPU splits a wide product better over cores, the one of the gradient above all.

    Args:
      multiply: ``[F, W] -> [N, W]`` for any W, column by column.
      kernels: of the products wanted.
    """
    product = multiply(jnp.concatenate(kernels, axis=1))
    ends = itertools.accumulate(kernel.shape[1] for kernel in kernels[:-1])
    return jnp.split(product, list(ends), axis=1)


def shifted_views(x: chex.Array, size: int, stride: int, out: tuple[int, int]) -> list[chex.Array]:
    """The ``size x size`` windows of ``x [..., H, W, C]``, a strided view for each offset."""
    rows, columns = (1 + (n - 1) * stride for n in out)
    return [
        x[..., i : i + rows : stride, j : j + columns : stride, :]
        for i in range(size)
        for j in range(size)
    ]


class Conv(nn.Module):
    """A square 2-D convolution, ``[N, H, W, C] -> [N, H', W', features]``, stride 1.

    XLA on CPU computes convolutions inside loops slowly: with patches and a matrix product a phase
    of PPG with the small CNN is 6 to 10 times as fast on two cores (``benchmarks/conv.py``). Both
    have the same parameters and give the same numbers to rounding.

    Attributes:
      features: output channels.
      kernel_init: initial weights ``[size, size, C, features]``.
      size: width of the window.
      padding: zeros on every side.
      implementation: ``lax`` or ``patches``.
    """

    features: int
    kernel_init: Initializer
    size: int = 3
    padding: int = 0
    implementation: str = "lax"

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        convolve = {"lax": conv_by_lax, "patches": conv_by_patches}[self.implementation]
        out = convolve(x, kernel.astype(x.dtype), self.padding)
        return out + on_last_axis(bias.astype(x.dtype), out.ndim)


def resolve_conv(implementation: Literal["auto", "lax", "patches"]) -> Literal["lax", "patches"]:
    """What ``auto`` means on this machine: patches where JAX runs on CPU, otherwise lax."""
    if implementation == "auto":
        return "patches" if jax.default_backend() == "cpu" else "lax"
    return implementation


def conv_by_lax(x: chex.Array, kernel: chex.Array, padding: int) -> chex.Array:
    """``x [N, H, W, C]`` with ``kernel [k, k, C, F]``, by XLA's convolution."""
    pad = (padding, padding)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_by_patches(x: chex.Array, kernel: chex.Array, padding: int) -> chex.Array:
    """The same as ``conv_by_lax``, by gathering windows and one matrix product."""
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out = x.shape[1] - size + 1, x.shape[2] - size + 1
    patches = jnp.concatenate(shifted_views(x, size, 1, out), axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def max_pool(x: chex.Array) -> chex.Array:
    """Maximum over 3x3 windows with stride 2, padded by 1 on both sides: ``[N, H, W, C]``.

    Not ``SAME``: that pads even sizes by (0, 1), the paper's code by (1, 1). Of equal maxima the
    first of a window takes the gradient, as with XLA's own pooling and PyTorch's; images have many.
    """
    out = math.ceil(x.shape[1] / 2), math.ceil(x.shape[2] / 2)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    pooled, *others = shifted_views(x, 3, 2, out)
    for view in others:
        pooled = jnp.where((view > pooled) | jnp.isnan(view), view, pooled)
    return pooled
