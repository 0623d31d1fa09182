"""Replaces every ``auto`` and default of a network configuration by its value."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from ppg_jax.backend import PLAIN, Backend
from ppg_jax.config import ConfigError, NetworkConfig
from ppg_jax.functional import grid_sizes
from ppg_jax.networks.encoders import NATURE_LAYERS, map_index
from ppg_jax.networks.own_module import is_own, own_features
from ppg_jax.types import ObservationSpec

DEFAULT_HORIZON, DEFAULT_WINDOW = 32, 8
_DEFAULT_SIZES = {
    "mlp": (64, 64), "cnn": (128,), "impala": (256,), "nature": (512,), "grid": (128,),
    "map": (256,),
}  # fmt: skip
_DEFAULT_CHANNELS = {
    "cnn": (16,), "impala": (16, 32, 32), "nature": (32, 64, 64), "grid": (16, 32), "map": (32, 32),
}  # fmt: skip
IMAGES = ("cnn", "impala", "nature")
"""Encoders that read images of any numbers."""
UNPADDED = ("cnn", "grid", "map")
"""Encoders whose 3x3 layers have no padding."""


def resolve_network(
    config: NetworkConfig, observation: ObservationSpec, backend: Backend = PLAIN
) -> NetworkConfig:
    """The same network configuration with every default and ``auto`` replaced by its value.

    Raises:
      ConfigError: the encoder does not fit the observations.
    """
    config = dataclasses.replace(config, image_layout=_image_layout(config, observation))
    if is_own(config.encoder):
        return _resolve_own(config, observation, backend)
    if config.encoder_kwargs:
        raise ConfigError(
            f"network.encoder_kwargs: has no effect with the encoder {config.encoder}; leave it "
            "out, or set network.encoder to your own module"
        )
    encoder = _automatic(config, observation) if config.encoder == "auto" else config.encoder
    _check_fits(encoder, observation)
    init = config.init
    if init == "auto":
        init = "normed" if encoder == "impala" else "orthogonal"
    hidden_sizes = config.hidden_sizes or _DEFAULT_SIZES[encoder]
    resolved = dataclasses.replace(
        config,
        encoder=encoder,
        hidden_sizes=hidden_sizes,
        channels=config.channels or _DEFAULT_CHANNELS.get(encoder),
        embedding_size=(config.embedding_size or 16) if encoder == "grid" else None,
        init=init,
        conv=backend.convolutions if config.conv == "auto" else config.conv,
        **_resolved_memory(config, hidden_sizes[-1]),
    )
    layers = len(resolved.channels or ())
    if encoder == "nature":
        _check_nature(layers, _picture(resolved, observation))
    if encoder in UNPADDED and min(_picture(resolved, observation)[:2]) <= 2 * layers:
        raise ConfigError(
            f"network.channels: {layers} layers without padding leave nothing of observations "
            f"{_picture(resolved, observation)}; use fewer, or the encoder mlp"
        )
    return resolved


def resolve_value_network(
    network: NetworkConfig, observation: ObservationSpec, backend: Backend
) -> NetworkConfig:
    """The configuration of a value network with observations of its own.

    It is the policy network's, as far as that fits these observations. Otherwise the encoder is
    chosen automatically, with its own default sizes. The memory stays the same.
    """
    try:
        if not is_own(network.encoder):
            _check_fits(network.encoder, observation)
        return resolve_network(network, observation, backend)
    except ConfigError:
        automatic = dataclasses.replace(
            network,
            encoder="auto",
            encoder_kwargs={},
            image_layout="auto",
            channels=None,
            hidden_sizes=None,
            embedding_size=None,
        )
        return resolve_network(automatic, observation, backend)


def _automatic(config: NetworkConfig, observation: ObservationSpec) -> str:
    """The encoder that ``auto`` stands for."""
    if len(observation.shape) != 3:
        return "mlp"
    grid = observation.categories is not None
    encoder = "grid" if grid else "cnn"
    if grid and not grid_sizes(observation.categories or (), observation.shape):
        return "mlp"
    margin = 2 * len(config.channels or _DEFAULT_CHANNELS[encoder])  # removed by its layers
    return encoder if min(_picture(config, observation)[:2]) > margin else "mlp"


def _check_fits(encoder: str, observation: ObservationSpec) -> None:
    """Checks that observations have the form that an encoder needs.

    Raises:
      ConfigError: they have not.
    """
    shape, categories = observation.shape, observation.categories
    problem = ""
    if encoder == "grid" and (len(shape) != 3 or not grid_sizes(categories or (), shape)):
        problem = "grid needs a grid [height, width, channels] of category numbers"
    if encoder == "map" and map_index(observation.parts) < 0:
        problem = (
            "map needs observations of several parts, of which one is [height, width, channels]"
        )
    if encoder in IMAGES and (len(shape) != 3 or categories is not None):
        problem = f"{encoder} needs observations [height, width, channels], or channels first"
    if problem:
        kind = "category numbers of " if categories is not None else ""
        raise ConfigError(
            f"network.encoder: {problem}; these have {kind}the shape {shape}; use mlp"
        )


def _check_nature(layers: int, picture: tuple[int, ...]) -> None:
    """Checks that an image is large enough for the layers of ``nature``.

    Raises:
      ConfigError: it is not, or there are too many layers.
    """
    if layers > len(NATURE_LAYERS):
        raise ConfigError(
            f"network.channels: {layers} layers are invalid for the encoder nature; it has at most "
            f"{len(NATURE_LAYERS)}"
        )
    side = min(picture[:2])
    for size, stride in NATURE_LAYERS[:layers]:
        side = (side - size) // stride + 1
        if side < 1:
            raise ConfigError(
                f"network.encoder: the layers of nature leave nothing of observations {picture}; "
                "use cnn or mlp"
            )


def _resolve_own(
    config: NetworkConfig, observation: ObservationSpec, backend: Backend
) -> NetworkConfig:
    """``resolve_network`` for a user's own module.

    Raises:
      ConfigError: the module does not fit the observations, or another setting has no effect.
    """
    for name in ("hidden_sizes", "channels", "embedding_size"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"network.{name}: has no effect with your own encoder; leave it out, or use "
                "network.encoder_kwargs"
            )
    if config.memory == "history":
        raise ConfigError("network.memory: history needs a built-in encoder; use lstm, gru or none")
    ids = observation.categories is not None
    features = own_features(config, observation.shape, jnp.int32 if ids else config.compute_dtype)
    return dataclasses.replace(
        config,
        init="orthogonal" if config.init == "auto" else config.init,
        conv=backend.convolutions if config.conv == "auto" else config.conv,
        **_resolved_memory(config, features),
    )


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


def turned(config: NetworkConfig, observation: ObservationSpec) -> bool:
    """Whether images are turned from channels first to channels last for the encoder."""
    first = config.image_layout == "channels_first" and len(observation.shape) == 3
    return first and config.encoder in IMAGES and observation.categories is None


def _picture(config: NetworkConfig, observation: ObservationSpec) -> tuple[int, ...]:
    """The image, grid or map ``[height, width, channels]`` that convolutions read."""
    shape = observation.shape
    if config.encoder == "map":
        return observation.parts[map_index(observation.parts)]
    first = config.image_layout == "channels_first" and observation.categories is None
    return (*shape[1:], shape[0]) if first and len(shape) == 3 else shape


def _resolved_memory(config: NetworkConfig, width: int) -> dict[str, Any]:
    """Sizes and inputs of the memory; None for those that it does not use."""
    gated, history = config.memory != "none", config.memory == "history"
    recall = config.recall
    if recall is None:
        recall = ("action",) if history else ()
    return {
        "recall": recall,
        "memory_size": (config.memory_size or width) if gated else None,
        "memory_horizon": (config.memory_horizon or DEFAULT_HORIZON) if gated else None,
        "history_length": (config.history_length or DEFAULT_WINDOW) if history else None,
    }
