"""Loads runs for commands. Problems with their files are printed as warnings of one line."""

import sys
import warnings
from pathlib import Path
from typing import Any

from ppg_jax.config import ConfigError
from ppg_jax.runs import SavedRun, SavedSetting, load_run


def load_with_warnings(directory: Path, setting: str = "") -> SavedRun:
    """Loads a run, or a setting of a sweep, and says which setting.

    Each warning is printed as one line on standard error.

    Args:
      directory: folder of a run or a sweep.
      setting: number of the setting, or ``best``; empty: best, or the folder contains a run.
    """
    which: Any = setting or None
    if setting and setting != "best":
        try:
            which = int(setting)
        except ValueError:
            raise ConfigError(
                f"setting: {setting!r} is invalid; it should be a number or best"
            ) from None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = load_run(directory, setting=which)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    if isinstance(run, SavedSetting):
        note = ", the best" if which in (None, "best") else ""
        print(f"setting {run.setting}{note}: {run.words}")
    return run


def lost_seeds(run: SavedRun) -> list[int | None]:
    """First iteration of each seed with a NaN or infinite loss, or None.

    If the metrics cannot be read, a warning is printed and every seed counts as None.
    """
    try:
        return run.first_bad_iteration
    except ConfigError as error:
        reason = str(error).removeprefix("DIR: ")
        print(f"warning: {reason}; seeds with a NaN loss are not marked", file=sys.stderr)
        return [None] * run.config.seeds
