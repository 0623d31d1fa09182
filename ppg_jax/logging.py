"""Where metrics go while a run is under way: a CSV file."""

import csv
from pathlib import Path

import numpy as np

from ppg_jax.report import MetricArrays

FIRST_COLUMNS = (
    "seed",
    "iteration",
    "env_steps",
    "episode_return",
    "episode_length",
    "num_episodes",
)


class CsvLogger:
    """One row for each iteration and seed, appended segment by segment.

    Args:
      path: of the file, which must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = []

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Appends a segment.

        Args:
          metrics: ``[S, iterations]`` each, with the same names at every call.
          first_iteration: number of the segment's first iteration in the run, from 0.
        """
        fresh = not self._columns
        if fresh:
            rest = sorted(set(metrics) - set(FIRST_COLUMNS))
            self._columns = [*FIRST_COLUMNS, *rest]
        seeds, iterations = metrics["env_steps"].shape
        with self._path.open("x" if fresh else "a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self._columns)
            for i in range(iterations):
                for seed in range(seeds):
                    values = (metrics[name][seed, i] for name in self._columns[2:])
                    writer.writerow([seed, first_iteration + i, *map(_shortest, values)])


def _shortest(value: np.generic) -> str:
    """The fewest digits that read back as the same number."""
    return str(value)
