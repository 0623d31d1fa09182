"""The result of a sweep."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.config import Config, ConfigError, check_whole
from ppg_jax.report import exact, run_line, table_html, to_dataframe
from ppg_jax.runs import Result
from ppg_jax.sweeps.figures import plot_setting_curves, plot_sweep
from ppg_jax.sweeps.report import ranked
from ppg_jax.sweeps.rows import column_names
from ppg_jax.types import MetricArrays, TrainState

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResult:
    """The result of a sweep over H settings and S seeds.

    Attributes:
      config: configuration of the sweep; its fields apply where a setting gives no value.
      settings: the H settings, each with values by name.
      runs: the result of each setting; None if its training has not begun. The times in it are
        those of all settings that share its program.
      compile_seconds: time for tracing and compiling, as far as training waited for it.
      run_seconds: time for running the programs.
      finished: whether all settings were trained to the end.
      problems: files that could not be written, one line each.
    """

    config: Config
    settings: list[dict[str, Any]]
    runs: tuple[Result | None, ...]
    compile_seconds: float
    run_seconds: float
    finished: bool = True
    problems: tuple[str, ...] = ()

    def setting(self, number: int) -> Result:
        """The result of one setting: metrics ``[S, iterations]``, as of ``ppg_jax.run``.

        If an earlier process trained it, its ``state`` has only ``params`` and ``obs_stats``.

        Raises:
          ConfigError: there is no such setting, or its training has not begun.
        """
        run = self.runs[check_whole("setting", number, 0, len(self.runs) - 1)]
        if run is None:
            raise ConfigError(f"setting: {number} is not trained yet; resume the sweep")
        return run

    @functools.cached_property
    def metrics(self) -> MetricArrays:
        """Metrics by name, each ``[H, S, iterations]``.

        Settings may differ in their iterations and in their metrics. What a setting lacks is NaN;
        whole numbers then become float64.
        """
        found = [run.metrics if run else {} for run in self.runs]
        names = dict.fromkeys(name for metrics in found for name in metrics)
        return {name: self._stacked([metrics.get(name) for metrics in found]) for name in names}

    def _stacked(self, parts: list[np.ndarray | None]) -> np.ndarray:
        known = [x for x in parts if x is not None]
        length = max(x.shape[1] for x in known)
        if len(known) == len(parts) and all(x.shape[1] == length for x in known):
            return np.stack(known)
        kind = np.float32 if known[0].dtype == np.float32 else np.float64
        whole = np.full((len(parts), self.config.seeds, length), np.nan, kind)
        for place, x in enumerate(parts):
            if x is not None:
                whole[place, :, : x.shape[1]] = x
        return whole

    @property
    def state(self) -> TrainState:
        """Final training states, leaves ``[H, S, ...]``.

        Raises:
          ConfigError: the states of the settings differ in their shapes; ask for each.
        """
        states = [run.state for run in self.runs if run]
        try:
            if len(states) < len(self.runs):
                raise ValueError
            return jax.tree.map(lambda *x: jnp.stack(x), *states)
        except (ValueError, TypeError):
            raise ConfigError(
                "state: the settings' states have different shapes; use setting(number).state"
            ) from None

    @property
    def first_bad_iteration(self) -> list[list[int | None]]:
        """First iteration with a NaN or infinite loss, or None, ``[H][S]``."""
        blank: list[int | None] = [None] * self.config.seeds
        return [run.first_bad_iteration if run else blank for run in self.runs]

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return over the last tenth of each setting's iterations, ``[H, S]``."""
        blank = np.full(self.config.seeds, np.nan)
        return np.stack([run.final_returns if run else blank for run in self.runs])

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps of all replicas, divided by the time for running the programs."""
        steps = sum(float(run.metrics["env_steps"][:, -1].sum()) for run in self.runs if run)
        return steps / self.run_seconds

    def ranked(self) -> list[dict[str, Any]]:
        """The settings, best first: rank, number, values, final IQM with 95% interval, NaN seeds.

        Equal settings share a rank. Settings in different environments are ranked apart.
        """
        return ranked(self.settings, self.final_returns, self.first_bad_iteration)

    def plot(self) -> Figure:
        """A heat map for a grid of two fields, otherwise a plot for each field."""
        return plot_sweep(self.settings, self.final_returns, self.first_bad_iteration, self.config)

    def plot_curves(self) -> Figure:
        """A learning curve for each setting: the best in colour with 95% intervals over seeds."""
        return plot_setting_curves(self.settings, self.runs, self.ranked())

    def __repr__(self) -> str:
        done = f"{len(self.settings)} settings, " + ("finished" if self.finished else "stopped")
        return run_line("Sweep", self.config, self.final_returns, done, *self.problems)

    def _repr_html_(self) -> str:
        return table_html(repr(self), self.ranked(), self.problems)

    def to_dataframe(self) -> "pd.DataFrame":
        """A table of settings and metrics, one row for each setting, seed and iteration."""
        import pandas as pd

        tables = []
        for number, (setting, run) in enumerate(zip(self.settings, self.runs, strict=True)):
            if run is None:
                continue
            table = to_dataframe(run.metrics)
            table.insert(0, "setting", number)
            names = column_names(setting, self.metrics)
            for place, (name, value) in enumerate(zip(names, setting.values(), strict=True), 1):
                table.insert(place, name, exact(value) if isinstance(value, list | dict) else value)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)
