"""Encoders: observations to feature vectors. To add one, write a class and name it in ENCODERS.

An encoder computes in the dtype of its input. Its parameters are float32. The previous step
(``beside``, ``[N, E]`` or None) is concatenated to the flattened input of the dense layers.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import chex
import flax.linen as nn
import jax.numpy as jnp

from ppg_jax.config import ConfigError, NetworkConfig
from ppg_jax.kernels import max_pool, resolve_conv
from ppg_jax.networks.layers import ACTIVATIONS, Conv, Dense, make_initializer
from ppg_jax.types import ObservationSpec


def flat(x: chex.Array, beside: chex.Array | None) -> chex.Array:
    """The input of dense layers: ``x [N, ...]`` flattened, and ``beside [N, E]`` after it."""
    x = x.reshape(x.shape[0], -1)
    return x if beside is None else jnp.concatenate([x, beside.astype(x.dtype)], axis=-1)


class MlpEncoder(nn.Module):
    """Dense layers over the flattened observation: ``[N, ...] -> [N, hidden_sizes[-1]]``."""

    config: NetworkConfig  # resolved by resolve_network

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


class CnnEncoder(nn.Module):
    """3x3 convolutions without padding, then dense layers, for images of MinAtar's size.

    ``[N, H, W, C] -> [N, hidden_sizes[-1]]``; one convolution of 16 channels and a dense layer
    are MinAtar's network (Young & Tian, arXiv:1903.03176).
    """

    config: NetworkConfig  # resolved by resolve_network

    @nn.compact
    def __call__(self, x: chex.Array, beside: chex.Array | None = None) -> chex.Array:
        config, channels = self.config, self.config.channels or ()
        activation = ACTIVATIONS[config.activation]
        init = make_initializer(config.init, math.sqrt(2.0))
        for i, features in enumerate(channels):
            conv = Conv(features, init, implementation=config.conv, name=f"conv_{i}")
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


class ImpalaEncoder(nn.Module):
    """The residual encoder of IMPALA as PPG uses it: ``[N, H, W, C] -> [N, hidden_sizes[-1]]``.

    A stack for each entry of ``channels``: convolution, max-pool, two residual blocks; then
    ReLU and dense layers. Always ReLU (Espeholt et al., arXiv:1802.01561; scales after the PPG
    authors' code).
    """

    config: NetworkConfig  # resolved by resolve_network

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


ENCODERS: dict[str, type[nn.Module]] = {
    "mlp": MlpEncoder,
    "cnn": CnnEncoder,
    "impala": ImpalaEncoder,
}


DEFAULT_HORIZON, DEFAULT_WINDOW = 32, 8
_DEFAULT_SIZES = {"mlp": (64, 64), "cnn": (128,), "impala": (256,)}
_DEFAULT_CHANNELS = {"cnn": (16,), "impala": (16, 32, 32)}


def resolve_network(config: NetworkConfig, observation: ObservationSpec) -> NetworkConfig:
    """The same network configuration with every default and ``auto`` replaced by its value.

    Raises:
      ConfigError: a convolutional encoder for observations that are no images, or too small.
    """
    is_image = len(observation.shape) == 3
    config = dataclasses.replace(config, image_layout=_image_layout(config, observation))
    picture = (
        observation.shape[1:] if config.image_layout == "channels_first" else observation.shape
    )
    margin = 2 * len(config.channels or _DEFAULT_CHANNELS["cnn"])  # removed by the cnn's layers
    encoder = config.encoder
    if encoder == "auto":
        encoder = "cnn" if is_image and min(picture[:2]) > margin else "mlp"
    init = config.init
    if init == "auto":
        init = "normed" if encoder == "impala" else "orthogonal"
    if encoder != "mlp" and not is_image:
        raise ConfigError(
            f"network.encoder: {encoder} needs observations [height, width, channels], or channels "
            f"first; these have the shape {observation.shape}; use mlp"
        )
    hidden_sizes = config.hidden_sizes or _DEFAULT_SIZES[encoder]
    resolved = dataclasses.replace(
        config,
        encoder=encoder,
        hidden_sizes=hidden_sizes,
        channels=config.channels or _DEFAULT_CHANNELS.get(encoder),
        init=init,
        conv=resolve_conv(config.conv),
        **_resolved_memory(config, hidden_sizes),
    )
    if encoder == "cnn" and min(picture[:2]) <= margin:
        raise ConfigError(
            f"network.channels: {margin // 2} layers without padding leave nothing of observations "
            f"{observation.shape}; use fewer, or the encoder mlp"
        )
    return resolved


def _image_layout(
    config: NetworkConfig, observation: ObservationSpec
) -> Literal["auto", "channels_last", "channels_first"]:
    """The position of an image's channels, guessed from its shape if the configuration says auto.

    Images have few channels: 1 (grey), 3 (colours) or 4 (colours and opacity, or four frames). Byte
    images may be stacks of several frames: they have fewer channels than rows.
    """
    if config.image_layout != "auto" or len(observation.shape) != 3:
        return config.image_layout
    first, height, width = observation.shape
    few = first in (1, 3, 4) or observation.dtype == jnp.uint8
    few = few and first < min(height, width) and width > 4
    return "channels_first" if few else "channels_last"


def picture_shape(config: NetworkConfig, observation: ObservationSpec) -> tuple[int, ...]:
    """An observation's shape for encoders; for images ``[height, width, channels]``."""
    shape = observation.shape
    turned = config.image_layout == "channels_first" and config.encoder != "mlp"
    return (*shape[1:], shape[0]) if turned and len(shape) == 3 else shape


def _resolved_memory(config: NetworkConfig, hidden_sizes: tuple[int, ...]) -> dict[str, Any]:
    """Sizes and inputs of the memory; None for those that it does not use."""
    gated, history = config.memory != "none", config.memory == "history"
    recall = config.recall
    if recall is None:
        recall = ("action",) if history else ()
    return {
        "recall": recall,
        "memory_size": (config.memory_size or hidden_sizes[-1]) if gated else None,
        "memory_horizon": (config.memory_horizon or DEFAULT_HORIZON) if gated else None,
        "history_length": (config.history_length or DEFAULT_WINDOW) if history else None,
    }
