"""Encoders: observations to feature vectors. To add one, write a class and name it in ENCODERS.

An encoder computes in the dtype of its input. Its parameters are float32. The previous step
(``beside``, ``[N, E]`` or None) is concatenated to the flattened input of the dense layers.
"""

import itertools
import math
from collections.abc import Callable

import chex
import flax.linen as nn
import jax.numpy as jnp

from ppg_jax.config import NetworkConfig
from ppg_jax.functional import grid_sizes
from ppg_jax.kernels import max_pool
from ppg_jax.networks.layers import ACTIVATIONS, Conv, Dense, make_initializer
from ppg_jax.networks.own_module import is_own, own_module
from ppg_jax.types import ObservationSpec


def flat(x: chex.Array, beside: chex.Array | None) -> chex.Array:
    """The input of dense layers: ``x [N, ...]`` flattened, and ``beside [N, E]`` after it."""
    x = x.reshape(x.shape[0], -1)
    return x if beside is None else jnp.concatenate([x, beside.astype(x.dtype)], axis=-1)


class Encoder(nn.Module):
    """What all built-in encoders know.

    Attributes:
      config: resolved by ``resolve_network``.
      observation: what the encoder reads.
    """

    config: NetworkConfig
    observation: ObservationSpec


class MlpEncoder(Encoder):
    """Dense layers over the flattened observation: ``[N, ...] -> [N, hidden_sizes[-1]]``."""

    @nn.compact
    def __call__(
        self,
        x: chex.Array,
        beside: chex.Array | None = None,
        first_product: chex.Array | None = None,
    ) -> chex.Array:
        """``first_product`` is the input times the first layer's kernel, if already computed."""
        activation = ACTIVATIONS[self.config.activation]
        return _dense_layers(self.config, math.sqrt(2.0), activation, x, beside, first_product)


class GridEncoder(Encoder):
    """Embedded categories and convolutions, for grids of category numbers such as MiniGrid's.

    ``[N, H, W, C] -> [N, hidden_sizes[-1]]``. Every channel (tile, colour, ...) has its own table
    of ``embedding_size`` numbers for each category; 3x3 convolutions without padding follow.
    """

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        """``x``: the categories one-hot, ``[N, H, W, sum(sizes)]``."""
        config, observation = self.config, self.observation
        sizes = grid_sizes(observation.categories or (), observation.shape)
        init = nn.initializers.normal(1.0)
        blocks = jnp.split(x, list(itertools.accumulate(sizes))[:-1], axis=-1)
        # A product with one-hot vectors, not a gather: its gradient is a product too, where that
        # of a gather is slow on CPU.
        embedded = [
            block @ self.param(f"embedding_{i}", init, (n, config.embedding_size)).astype(x.dtype)
            for i, (block, n) in enumerate(zip(blocks, sizes, strict=True))
        ]
        x = _convolutions(config, jnp.concatenate(embedded, axis=-1))
        activation = ACTIVATIONS[config.activation]
        return _dense_layers(config, math.sqrt(2.0), activation, x, beside)


class MapEncoder(Encoder):
    """Convolutions over a map, then dense layers over its features and all other numbers.

    ``[N, F] -> [N, hidden_sizes[-1]]``, for observations of several parts of which one is a map
    ``[H, W, C]``, as in Craftax.
    """

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        config, activation = self.config, ACTIVATIONS[self.config.activation]
        parts = self.observation.parts
        ends = list(itertools.accumulate(math.prod(part) for part in parts))
        pieces = jnp.split(x, ends[:-1], axis=-1)
        where = map_index(parts)
        image = pieces.pop(where).reshape(-1, *parts[where])
        image = _convolutions(config, image).reshape(len(x), -1)
        x = jnp.concatenate([image, *pieces], axis=-1)
        return _dense_layers(config, math.sqrt(2.0), activation, x, beside)


def map_index(parts: tuple[tuple[int, ...], ...]) -> int:
    """Number of the part that is a map ``[H, W, C]``; -1 if there is none, or more than one."""
    maps = [i for i, part in enumerate(parts) if len(part) == 3]
    return maps[0] if len(maps) == 1 else -1


def _convolutions(config: NetworkConfig, x: chex.Array) -> chex.Array:
    """3x3 convolutions without padding over ``x [N, H, W, C]``, one for each of ``channels``."""
    init = make_initializer(config.init, math.sqrt(2.0))
    for i, features in enumerate(config.channels or ()):
        conv = Conv(features, init, implementation=config.conv, name=f"conv_{i}")
        x = ACTIVATIONS[config.activation](conv(x))
    return x


class OwnEncoder(nn.Module):
    """A user's flax module as an encoder. The previous step is concatenated to its output.

    ``[N, *shape] -> [N, F]``; the module gets float32 observations, scaled or standardised, and
    category numbers as int32.
    """

    own: nn.Module

    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        return flat(self.own(x), beside)


class CnnEncoder(Encoder):
    """3x3 convolutions without padding, then dense layers, for images of MinAtar's size.

    ``[N, H, W, C] -> [N, hidden_sizes[-1]]``; one convolution of 16 channels and a dense layer
    are MinAtar's network (Young & Tian, arXiv:1903.03176).
    """

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        config, activation = self.config, ACTIVATIONS[self.config.activation]
        return _dense_layers(config, math.sqrt(2.0), activation, _convolutions(config, x), beside)


NATURE_LAYERS = ((8, 4), (4, 2), (3, 1))
"""Width of the window and stride of each layer."""


class NatureEncoder(Encoder):
    """Convolutions with strides, then dense layers: ``[N, H, W, C] -> [N, hidden_sizes[-1]]``.

    Windows of 8, 4 and 3 with strides 4, 2 and 1, without padding (Mnih et al. 2015, Nature 518).
    For images of 36 pixels and more.
    """

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        config, activation = self.config, ACTIVATIONS[self.config.activation]
        init = make_initializer(config.init, math.sqrt(2.0))
        for i, features in enumerate(config.channels or ()):
            size, stride = NATURE_LAYERS[i]
            conv = Conv(features, init, size, stride, implementation=config.conv, name=f"conv_{i}")
            x = activation(conv(x))
        return _dense_layers(config, math.sqrt(2.0), activation, x, beside)


def _dense_layers(
    config: NetworkConfig,
    scale: float,
    activation: Callable[[chex.Array], chex.Array],
    x: chex.Array,
    beside: chex.Array | None,
    first_product: chex.Array | None = None,
) -> chex.Array:
    """Dense layers of ``hidden_sizes`` over ``x [N, ...]``, flattened."""
    x = flat(x, beside)
    for i, width in enumerate(config.hidden_sizes or ()):
        init = make_initializer(config.init, scale)
        dense = Dense(width, init, name=f"dense_{i}")
        x = activation(dense(x, first_product if i == 0 else None))
    return x


class ImpalaEncoder(Encoder):
    """The residual encoder of IMPALA as PPG uses it: ``[N, H, W, C] -> [N, hidden_sizes[-1]]``.

    A stack for each entry of ``channels``: convolution, max-pool, two residual blocks; then
    ReLU and dense layers. Always ReLU (Espeholt et al., arXiv:1802.01561; scales after the PPG
    authors' code).
    """

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        config, channels = self.config, self.config.channels or ()
        residual_scale = math.sqrt(1.0 / math.sqrt(len(channels)) / math.sqrt(2.0))

        def conv(features: int, scale: float, name: str) -> Conv:
            init = make_initializer(config.init, scale)
            return Conv(features, init, padding=1, implementation=config.conv, name=name)

        for i, features in enumerate(channels):
            x = max_pool(conv(features, 1.0, f"stack_{i}_first")(x))
            for j in range(2):
                name = f"stack_{i}_block_{j}"
                y = conv(features, residual_scale, f"{name}_conv_0")(nn.relu(x))
                x = x + conv(features, residual_scale, f"{name}_conv_1")(nn.relu(y))
        return _dense_layers(config, 1.4, nn.relu, nn.relu(x), beside)


ENCODERS: dict[str, type[Encoder]] = {
    "mlp": MlpEncoder,
    "cnn": CnnEncoder,
    "impala": ImpalaEncoder,
    "nature": NatureEncoder,
    "grid": GridEncoder,
    "map": MapEncoder,
}


def make_encoder(config: NetworkConfig, observation: ObservationSpec) -> nn.Module:
    """The encoder of a resolved configuration, for one kind of observation."""
    if is_own(config.encoder):
        return OwnEncoder(own_module(config))
    return ENCODERS[config.encoder](config, observation)
