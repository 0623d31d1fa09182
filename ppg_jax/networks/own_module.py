"""A user's own flax module as an encoder: found, made, and checked."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.config import OBJECT, ConfigError, NetworkConfig, import_object, reason

FIELD = "network.encoder"


def is_own(encoder: Any) -> bool:
    """Whether an encoder is a user's module: an import path, a class or an object."""
    return not isinstance(encoder, str) or ":" in encoder or encoder.startswith(OBJECT)


def own_module(config: NetworkConfig) -> nn.Module:
    """The module of ``config.encoder`` and ``config.encoder_kwargs``.

    Raises:
      ConfigError: it cannot be found or made, or it is no flax module.
    """
    encoder, kwargs = config.encoder, dict(config.encoder_kwargs)
    if isinstance(encoder, str):
        if encoder.startswith(OBJECT):
            raise ConfigError(
                f"{FIELD}: this run's encoder was an object ({encoder[len(OBJECT) : -1]}), which a "
                "file cannot store; name its class as package.module:Class, then runs can be loaded"
            )
        encoder = import_object(FIELD, encoder)
    name = getattr(encoder, "__name__", type(encoder).__name__)
    if isinstance(encoder, nn.Module):
        if kwargs:
            raise ConfigError(
                f"network.encoder_kwargs: cannot be used with the object {name}; leave it out, or "
                "give the class"
            )
        return encoder
    if not isinstance(encoder, type) or not issubclass(encoder, nn.Module):
        raise ConfigError(
            f"{FIELD}: {name} is invalid; it should be a flax.linen module (wrap a flax.nnx module "
            "with flax.nnx.bridge.ToLinen)"
        )
    try:
        return encoder(**kwargs)
    except Exception as error:  # a user's constructor can raise anything
        raise ConfigError(
            f"network.encoder_kwargs: {name} cannot be made with {kwargs}: {reason(error)}"
        ) from None


def own_features(config: NetworkConfig, shape: tuple[int, ...], dtype: Any) -> int:
    """Number of features that a user's module makes of observations ``[N, *shape]``.

    Raises:
      ConfigError: the module does not fit the observations, or its output has a wrong shape.
    """
    module = own_module(config)
    name = type(module).__name__
    x = jax.ShapeDtypeStruct((2, *shape), dtype)
    try:
        out, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    except Exception as error:  # a user's module can raise anything
        raise ConfigError(
            f"{FIELD}: {name} fails on observations [N, {', '.join(map(str, shape))}] of dtype "
            f"{jnp.dtype(dtype)}: {reason(error)}"
        ) from None
    found = getattr(out, "shape", None)
    if (
        found is None
        or len(found) != 2
        or found[0] != 2
        or not jnp.issubdtype(out.dtype, jnp.floating)
    ):
        raise ConfigError(
            f"{FIELD}: {name} turns observations {(2, *shape)} into {out}; it should return "
            "float features [N, F]"
        )
    return int(found[1])
