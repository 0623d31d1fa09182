"""Loads runs for commands. Problems with their files are printed as warnings of one line."""

import sys
import warnings
from pathlib import Path

from ppg_jax.config import ConfigError
from ppg_jax.runs import SavedRun, load_run


def load_with_warnings(directory: Path) -> SavedRun:
    """Loads a run and prints each warning as one line on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = load_run(directory)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
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
