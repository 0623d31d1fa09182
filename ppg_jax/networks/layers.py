"""Dense and convolutional layers, activations, and initial weights."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.kernels import conv_by_lax, conv_by_patches, narrow_product

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
    """An initialiser: ``normed`` or ``orthogonal`` weights with the given scale."""
    return normed_columns(scale) if scheme == "normed" else nn.initializers.orthogonal(scale)


class Dense(nn.Module):
    """A dense layer, ``[..., F] -> [..., features]``, with ``nn.Dense``'s parameters and numbers.

    Attributes:
      features: width of the output.
      kernel_init: initial weights ``[F, features]``.
      narrow: whether a narrow kernel is multiplied column by column (``kernels.narrow_product``).
    """

    features: int
    kernel_init: Initializer
    narrow: bool = False

    @nn.compact
    def __call__(self, x: chex.Array, product: chex.Array | None = None) -> chex.Array:
        """``x @ kernel + bias``. ``product`` is ``x @ kernel`` if that is already computed."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        if product is None:
            multiply = narrow_product if self.narrow else jnp.matmul
            product = multiply(x, kernel.astype(x.dtype))
        return product + on_last_axis(bias.astype(x.dtype), product.ndim)


def on_last_axis(x: chex.Array, ndim: int) -> chex.Array:
    """``x [W]`` as ``[1, ..., W]``: an explicit broadcast, for JAX's rank promotion check."""
    return jax.lax.expand_dims(x, range(ndim - 1))


class Conv(nn.Module):
    """A square 2-D convolution, ``[N, H, W, C] -> [N, H', W', features]``.

    XLA on CPU computes convolutions inside loops slowly. With patches and a matrix product a phase
    of PPG with the small CNN is 6 to 10 times as fast on two cores (``benchmarks/conv.py``). Both
    implementations have the same parameters and give the same numbers to rounding.

    Attributes:
      features: output channels.
      kernel_init: initial weights ``[size, size, C, features]``.
      size: width of the window.
      stride: distance of two windows.
      padding: zeros on every side.
      implementation: ``lax`` or ``patches``.
    """

    features: int
    kernel_init: Initializer
    size: int = 3
    stride: int = 1
    padding: int = 0
    implementation: str = "lax"

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        convolve = {"lax": conv_by_lax, "patches": conv_by_patches}[self.implementation]
        out = convolve(x, kernel.astype(x.dtype), self.padding, self.stride)
        return out + on_last_axis(bias.astype(x.dtype), out.ndim)
