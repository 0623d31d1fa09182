"""Convolutions and pooling as views and one matrix product, for XLA on CPU."""

import math

import chex
import jax
import jax.numpy as jnp


def shifted_views(x: chex.Array, size: int, stride: int, out: tuple[int, int]) -> list[chex.Array]:
    """The ``size x size`` windows of ``x [..., H, W, C]``, a strided view for each offset."""
    rows, columns = (1 + (n - 1) * stride for n in out)
    return [
        x[..., i : i + rows : stride, j : j + columns : stride, :]
        for i in range(size)
        for j in range(size)
    ]


def conv_by_lax(x: chex.Array, kernel: chex.Array, padding: int, stride: int = 1) -> chex.Array:
    """``x [N, H, W, C]`` with ``kernel [k, k, C, F]``, by XLA's convolution."""
    pad = (padding, padding)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_by_patches(x: chex.Array, kernel: chex.Array, padding: int, stride: int = 1) -> chex.Array:
    """``conv_by_lax`` as one matrix product over all windows."""
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    patches = jnp.concatenate(shifted_views(x, size, stride, out), axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def max_pool(x: chex.Array) -> chex.Array:
    """Maximum over 3x3 windows with stride 2, padded by 1 on both sides: ``[N, H, W, C]``.

    This is not ``SAME`` padding: that pads even sizes by (0, 1), the paper's code by (1, 1). If
    several values of a window are equal to its maximum, the first one takes the gradient, as in
    XLA's own pooling and in PyTorch. Images have many such windows.
    """
    out = math.ceil(x.shape[1] / 2), math.ceil(x.shape[2] / 2)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    pooled, *others = shifted_views(x, 3, 2, out)
    for view in others:
        pooled = jnp.where((view > pooled) | jnp.isnan(view), view, pooled)
    return pooled
