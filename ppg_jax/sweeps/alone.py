"""Sweeps and searches run in one process."""

from ppg_jax.config import ConfigError
from ppg_jax.execution import processes_here


def check_alone(what: str) -> None:
    """Checks that this process has not joined others.

    Raises:
      ConfigError: it has.
    """
    if processes_here().count > 1:
        raise ConfigError(
            f"distributed: a {what} runs in one process; leave ppg_jax.distributed() out, or call "
            "run for each setting"
        )
