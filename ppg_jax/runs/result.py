"""The result of a run."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.config import Config
from ppg_jax.report import (
    final_returns,
    plot_learning_curve,
    run_line,
    seed_rows,
    table_html,
    to_dataframe,
)
from ppg_jax.types import MetricArrays, TrainState

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class RunSoFar:
    """A run of S seeds up to the end of a segment, as ``on_segment`` gets it.

    It has no training states: the next segment overwrites them. All arrays are copies.

    Attributes:
      config: resolved configuration; none of its values depends on the machine or the environment.
      metrics: metrics by name, each ``[S, iterations]``.
      compile_seconds: time for tracing and compiling all programs.
      run_seconds: time for running them.
      first_bad_iteration: first iteration of each seed with a NaN or infinite loss, or None.
      problems: files and loggers that failed, one line each.
      evaluations: one row for each evaluation, seed, policy and environment.
    """

    config: Config
    metrics: MetricArrays
    compile_seconds: float
    run_seconds: float
    first_bad_iteration: list[int | None]
    problems: tuple[str, ...] = ()
    evaluations: tuple[dict[str, Any], ...] = ()

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of each seed over the last tenth of the run, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps of all seeds, divided by the time for running the programs."""
        return float(self.metrics["env_steps"][:, -1].sum()) / self.run_seconds

    def __repr__(self) -> str:
        done = f"{self.metrics['env_steps'].shape[1]} of {self.config.num_iterations} iterations"
        return run_line("Run", self.config, self.final_returns, done, *self.problems)

    def _repr_html_(self) -> str:
        rows = seed_rows(self.final_returns, self.first_bad_iteration)
        return table_html(repr(self), rows, self.problems)

    def plot(self) -> Figure:
        """The learning curve: mean return with a 95% bootstrap interval over seeds."""
        return plot_learning_curve(self.config, self.metrics)

    def to_dataframe(self) -> "pd.DataFrame":
        """The metrics as a table, one row for each seed and iteration."""
        return to_dataframe(self.metrics)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Result(RunSoFar):
    """The result of a run of S seeds: that of ``RunSoFar``, and more.

    Attributes:
      state: final training states, leaves ``[S, ...]``; of several processes, each has its seeds.
      finished: False if the run was stopped before its last iteration.
      stopped: why it was stopped, in a few words; None if it is finished.
    """

    state: TrainState
    finished: bool = True
    stopped: str | None = None
