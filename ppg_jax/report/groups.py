"""Grouping of runs, and the returns of each group."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ppg_jax.config import Config, ConfigError, did_you_mean, flatten
from ppg_jax.report.statistics import final_returns, first_bad_iteration, smooth_returns
from ppg_jax.types import MetricArrays

POINTS = 60
"""Number of points of a learning curve."""
FEW = 3
"""Largest number of fields in a group's name."""
ALIKE = (
    "seed", "seeds", "strategy", "chunk_size", "devices", "devices_per_seed", "env",
    "total_timesteps",
)  # fmt: skip
"""Fields that are ignored when runs are grouped automatically."""


class Run(Protocol):
    """A run to compare: a ``ppg_jax.Result``, or the result of ``ppg_jax.load_run(...)``."""

    @property
    def config(self) -> Config: ...

    @property
    def metrics(self) -> MetricArrays: ...


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose results are pooled.

    Attributes:
      label: name of the group for display.
      runs: runs of the group, in one or more environments.
    """

    label: str
    runs: tuple[Run, ...]

    def envs(self) -> list[str]:
        """Names of the environments of the group, sorted."""
        return sorted({run.config.env_name for run in self.runs})

    @property
    def name(self) -> str:
        """The label, with a note if some seeds had NaN or infinite losses."""
        marks = [x for r in self.runs for x in first_bad_iteration(r.metrics, r.config)]
        lost = sum(mark is not None for mark in marks)
        return f"{self.label} ({lost} of {len(marks)} seeds NaN)" if lost else self.label

    def scores(self, env: str) -> np.ndarray:
        """Final returns in an environment, for the seeds of all runs; NaN if no episode ended."""
        found = [final_returns(r.metrics) for r in self.runs if r.config.env_name == env]
        return np.concatenate(found) if found else np.empty(0)

    def curves(self, env: str) -> tuple[np.ndarray, np.ndarray]:
        """Learning curves in an environment: env steps ``[P]`` and returns ``[seeds, P]``."""
        found = [smooth_returns(r.metrics, POINTS) for r in self.runs if r.config.env_name == env]
        grid = np.linspace(
            min(steps[0] for steps, _ in found), max(steps[-1] for steps, _ in found), POINTS
        )
        rows = [_on_grid(grid, steps, row) for steps, rows in found for row in rows]
        return grid, np.array(rows)


def _on_grid(grid: np.ndarray, steps: np.ndarray, row: np.ndarray) -> np.ndarray:
    known = np.isfinite(row)
    if not known.any():
        return np.full(grid.shape, np.nan)
    return np.interp(grid, steps[known], row[known], left=np.nan, right=np.nan)


def group_runs(runs: Sequence[Run], by: Sequence[str] | None = None) -> list[Group]:
    """Sorts runs into groups.

    Args:
      runs: runs to sort.
      by: fields of the configuration, such as ``hparams.gamma``. Runs with the same values of
        these fields are a group. None: all fields that differ between runs, except the environment,
        its steps, the seeds, and how the runs were distributed over devices. If more than ``FEW``
        fields differ, the groups are named after their algorithms, provided that these names
        differ.

    Raises:
      ConfigError: there is no such field.
    """
    flat = [flatten(run.config.to_dict()) for run in runs]
    known = list(dict.fromkeys(name for fields in flat for name in fields))
    for name in by or ():
        if name not in known:
            hint = did_you_mean(name, known).strip() or "config.yaml of a run shows all fields"
            raise ConfigError(f"by: {name!r} is not a field; {hint}")
    chosen = list(by) if by is not None else [
        name
        for name in known
        if name.split(".")[0] not in ALIKE and len({repr(f.get(name)) for f in flat}) > 1
    ]  # fmt: skip
    groups: dict[str, list[Run]] = {}
    for run, fields in zip(runs, flat, strict=True):
        label = ", ".join(f"{name.split('.')[-1]} {_short(fields.get(name))}" for name in chosen)
        groups.setdefault(label or algorithm_name(run.config), []).append(run)
    names = _algorithms(groups) if by is None and len(chosen) > FEW else list(groups)
    return [
        Group(label, tuple(members)) for label, members in zip(names, groups.values(), strict=True)
    ]


def _algorithms(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Names of the groups' algorithms if they all differ; otherwise the groups' own names."""
    found = [{algorithm_name(run.config) for run in members} for members in groups.values()]
    everything = [name for names in found for name in names]
    return everything if len(set(everything)) == len(everything) == len(found) else list(groups)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def algorithm_name(config: Config) -> str:
    """Name of the algorithm and its architecture, such as ``PPG dual``."""
    return f"{'PPG' if config.e_aux else 'PPO'} {config.arch}"
