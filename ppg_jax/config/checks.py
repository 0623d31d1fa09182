"""Type checks of the arguments of public functions."""

from typing import Any

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.config.hyperparams import Hyperparams


def check_config(config: Any) -> None:
    """Checks that an argument is a ``Config``.

    Raises:
      ConfigError: the argument has another type.
    """
    _check_kind("config", config, Config, "ppg_jax.Config(...) or ppg_jax.load_config(...)")


def check_hparams(hparams: Any) -> None:
    """Checks that an argument is ``Hyperparams``.

    Raises:
      ConfigError: the argument has another type.
    """
    _check_kind("hparams", hparams, Hyperparams, "config.hparams.replace(...)")


def _check_kind(name: str, value: Any, kind: type, source: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(
            f"{name}: {type(value).__name__} is invalid; it should be {kind.__name__}, made by "
            f"{source}"
        )
