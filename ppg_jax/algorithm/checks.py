"""Checks of the arguments of public functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from ppg_jax.config import Config, ConfigError, check_hparams
from ppg_jax.functional import in_32_bits
from ppg_jax.types import TrainState


def check_given(hparams: Any, state: Any) -> None:
    """Checks the types of hyperparameters and state.

    Raises:
      ConfigError: one of them has another type.
    """
    check_hparams(hparams)
    if not isinstance(state, TrainState):
        raise ConfigError(
            f"state: {type(state).__name__} is invalid; it should be a TrainState, of "
            "ppg_jax.init(config, key) or an earlier call"
        )


def check_key(key: Any) -> None:
    """Checks that this is one random key.

    Raises:
      ConfigError: it is something else.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (dtype == "uint32" and len(shape or ()) == 1):
        what = type(key).__name__ if shape is None else f"{dtype} of shape {shape}"
        raise ConfigError(
            f"key: {what} is invalid; it should be one key, of jax.random.key(0); map over several"
        )


def traced_in_32_bits(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn(config, ...)``, traced in 32 bits even if the caller has switched on 64 bits."""

    @functools.wraps(fn)
    def traced(config: Config, *args: Any, **kwargs: Any) -> Any:
        with in_32_bits():
            return fn(config, *args, **kwargs)

    return traced
