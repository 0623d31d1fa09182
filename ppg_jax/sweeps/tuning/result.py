"""The result of a search."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.config import Config
from ppg_jax.report import exact, iqm_interval, table_html
from ppg_jax.runs import Result
from ppg_jax.sweeps.tuning.figures import plot_importances, plot_parallel
from ppg_jax.sweeps.tuning.objectives import OBJECTIVES
from ppg_jax.sweeps.tuning.study import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
class TuneResult:
    """The result of a search.

    Attributes:
      config: configuration of the search.
      best: configuration with the winner's values.
      best_values: the winner's values of the searched fields.
      trials: all settings that were tried, in the order in which they were asked for.
      importances: share of each field in how much scores vary, the largest first; empty if there
        are too few finished trials.
      env_steps: environment steps of the search, without the report.
      report: the winner on fresh seeds, by environment; empty if the search was stopped.
      baseline: the search's configuration on the same fresh seeds, by environment.
      objective: name of what was maximised.
      finished: whether the budget was used up and the report is complete.
      problems: files that could not be written, one line each.
    """

    config: Config
    best: Config
    best_values: dict[str, Any]
    trials: tuple[Trial, ...]
    importances: dict[str, float]
    env_steps: int
    report: Mapping[str, Result] = dataclasses.field(default_factory=dict)
    baseline: Mapping[str, Result] = dataclasses.field(default_factory=dict)
    objective: str = "final_return"
    finished: bool = True
    problems: tuple[str, ...] = ()

    def ranked(self) -> list[dict[str, Any]]:
        """The trials, best first: those that were trained longer stand before all others."""
        order = sorted(
            self.trials,
            key=lambda t: (-t.share, -np.nan_to_num(t.score, nan=-np.inf), t.number),
        )
        return [
            {
                "trial": t.number,
                **t.values,
                "score": t.score,
                "share": t.share,
                "env_steps": t.env_steps,
            }
            for t in order
        ]

    def compared(self) -> list[dict[str, Any]]:
        """The winner and the configuration before on fresh seeds.

        Rows have the IQM over seeds of the objective and of the final return, with 95% intervals.
        """
        rows = []
        for name, runs in (("winner", self.report), ("before", self.baseline)):
            for env, run in runs.items():
                row = {"environment": env, "setting": name, "seeds": run.config.seeds}
                for measure in dict.fromkeys((self.objective, "final_return")):
                    middle, low, high = iqm_interval([OBJECTIVES[measure](run.metrics)])
                    row |= {measure: middle, f"{measure}_low": low, f"{measure}_high": high}
                rows.append(row)
        return sorted(rows, key=lambda row: row["environment"])

    def plot(self) -> Figure:
        """Parallel coordinates: a line for each finished trial, coloured by its score."""
        return plot_parallel(self.trials)

    def plot_importances(self) -> Figure:
        """A bar for each searched field."""
        return plot_importances(self.importances)

    def to_dataframe(self) -> "pd.DataFrame":
        """The trials as a table, in their order."""
        import pandas as pd

        return pd.DataFrame(sorted(self.ranked(), key=lambda row: row["trial"]))

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {exact(value)}" for name, value in self.best_values.items())
        text = f"Search of {len(self.trials)} trials, {self.env_steps:,} env steps; best: {values}"
        name = self.objective
        for row in self.compared():
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            text += f"\n{row['environment']}, {row['setting']}: {row[name]:.4g} "
            text += f"({low:.4g} to {high:.4g}, {row['seeds']} fresh seeds)"
        return "\n".join([text, *self.problems])

    def _repr_html_(self) -> str:
        return table_html(repr(self), self.ranked(), self.problems)
