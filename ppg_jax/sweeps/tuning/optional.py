"""Optuna, which only searches need."""

import logging
import warnings
from typing import Any

from ppg_jax.config import ConfigError


def import_optuna() -> Any:
    """The module ``optuna``, without its lines of progress.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tune: needs Optuna, which is not installed; use pip install 'ppg-jax[tune]'"
        ) from None
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
