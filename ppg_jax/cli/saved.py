"""Runs that commands play: what is wrong with their files is said in lines."""

import sys
import warnings
from pathlib import Path

from ppg_jax.config import ConfigError
from ppg_jax.runs import SavedRun, load_run


def load_to_play(directory: Path) -> SavedRun:
    """A run; what had to be taken from elsewhere is said on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = load_run(directory)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    return run


def lost_seeds(run: SavedRun) -> list[int | None]:
    """Where each seed's loss was lost; nowhere, and a line, if its metrics cannot be read."""
    try:
        return run.first_bad_iteration
    except ConfigError as error:
        reason = str(error).removeprefix("DIR: ")
        print(f"warning: {reason}; seeds lost to NaN are not marked", file=sys.stderr)
        return [None] * run.config.seeds
