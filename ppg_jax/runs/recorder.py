"""Logging, evaluation, progress display and checkpoints after each segment of a run."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.execution import ALONE, Processes, ProcessGoneError, Segment
from ppg_jax.report import final_returns, first_bad_iteration
from ppg_jax.runs.checkpoints import Checkpoints, one_line
from ppg_jax.runs.evaluator import Evaluator
from ppg_jax.runs.folder import METRICS
from ppg_jax.runs.loggers import CsvLogger, Logger, make_logger
from ppg_jax.runs.progress import Display, Watch
from ppg_jax.runs.result import RunSoFar
from ppg_jax.types import MetricArrays


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """When checkpoints are saved, and how many are kept.

    Attributes:
      every: number of phases between two checkpoints; None: by time only.
      minutes: minutes between two checkpoints; None: by phases only.
      keep: number of newest checkpoints that are kept, besides the one with the best return.
    """

    every: int | None = None
    minutes: float | None = 5.0
    keep: int = 2

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("minutes", 0), ("keep", 1)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= least):
                option = name if name == "keep" else f"checkpoint_{name}"
                raise ConfigError(f"{option}: {value!r} is invalid; it should be at least {least}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Recorder:
    """Logs and shows every segment of a run, and saves a checkpoint when one is due.

    A failure here does not end the run. Each failure is a line in ``problems``.

    Args:
      config: configuration of the run.
      display: display for progress and warnings.
      folder: run folder, or None.
      loggers: further loggers, as objects or names; the CSV file is always written to the folder.
      options: when to save checkpoints.
      checkpoints: checkpoints of the run; None: nothing is saved.
      evaluator: evaluator to call after each segment, or None.
      before: metrics of the run before it was resumed, ``[S, iterations]``, or None.
      name: function that returns the name of seed i, for warnings.
      processes: the processes of the run. All make the same calls; the first one decides when to
        save, and only it has a folder and loggers.

    Attributes:
      problems: failures so far, one line each.
    """

    def __init__(
        self,
        config: Config,
        display: Display,
        *,
        folder: Path | None,
        loggers: Sequence[str | Logger],
        options: CheckpointOptions,
        checkpoints: Checkpoints | None,
        evaluator: Evaluator | None,
        before: MetricArrays | None,
        name: Callable[[int], str] = lambda seed: f"seed {seed}",
        processes: Processes = ALONE,
    ) -> None:
        self._config, self._display, self._processes = config, display, processes
        self._options, self._checkpoints, self._evaluator = options, checkpoints, evaluator
        self._parts = [before] if before else []
        self._iterations = before["env_steps"].shape[1] if before else 0
        self._csv = CsvLogger(folder / METRICS, before) if folder else None
        self._watch = Watch(config, config.seeds, display, name)
        if before:
            self._watch.find_lost(before, 0)
        self.problems: list[str] = []
        self._loggers: list[Logger] = []
        for logger in loggers:
            self._add_logger(logger, folder, before)
        self._csv_complete = True
        self._saved_phases = self._iterations // config.n_pi
        self._saved_at = time.monotonic()

    def _add_logger(
        self, logger: str | Logger, folder: Path | None, before: MetricArrays | None
    ) -> None:
        if not isinstance(logger, str):
            self._loggers.append(logger)
        elif folder is not None:
            try:
                made = make_logger(logger, folder, self._config, before)
            except Exception as error:  # for example, a server that cannot be reached
                self._problem(logger, f"failed and is not used: {error}")
            else:
                self._loggers.append(made)

    @property
    def evaluations(self) -> tuple[dict[str, Any], ...]:
        """Rows of all evaluations so far."""
        return tuple(self._evaluator.rows) if self._evaluator else ()

    @property
    def metrics(self) -> MetricArrays:
        """Metrics of the run so far, each ``[S, iterations]``."""
        names = self._parts[0]
        return {name: np.concatenate([part[name] for part in self._parts], 1) for name in names}

    def so_far(self, segment: Segment) -> RunSoFar:
        """The run up to its newest segment. Every array is a copy."""
        metrics = self.metrics
        return RunSoFar(
            config=self._config,
            metrics=metrics,
            compile_seconds=segment.compile_seconds,
            run_seconds=segment.run_seconds,
            first_bad_iteration=first_bad_iteration(metrics, self._config),
            problems=tuple(self.problems),
            evaluations=self.evaluations,
        )

    def take(self, segment: Segment) -> None:
        """Logs, evaluates and shows a finished segment, and saves a checkpoint if one is due."""
        self._log(segment.metrics)
        self._parts.append(segment.metrics)
        self._iterations += segment.metrics["env_steps"].shape[1]
        if self._evaluator:
            evaluator = self._evaluator
            self.guard("evaluation", lambda: evaluator.take(segment))
        self._watch.update(segment)
        if self._checkpoints is None or not segment.at_phase_end:
            return
        if self._processes.from_first(self._due(segment)):
            self.save(segment)

    def save(self, segment: Segment) -> bool:
        """Saves the state after a segment. True if there is a checkpoint of it."""
        if self._checkpoints is None or not segment.at_phase_end:
            return False
        if self._processes.from_first(segment.phases == self._saved_phases):
            return True
        if not self._processes.from_first(self._csv_complete):
            self._problem("checkpoint", "not saved, since metrics.csv could not be written")
            return False
        returns = final_returns(segment.metrics, 1.0)
        finite = returns[np.isfinite(returns)]
        self._saved_at = time.monotonic()
        try:
            if self._csv:
                self._csv.sync()  # a checkpoint is usable only with its metrics
            self._checkpoints.save(
                self._config,
                segment.phases,
                segment.states,
                mean_return=float(finite.mean()) if finite.size else np.nan,
                run_seconds=segment.run_seconds,
                compile_seconds=segment.compile_seconds,
            )
        except OSError as error:
            reason = one_line(error)
            self._problem("checkpoint", f"of phase {segment.phases} not saved: {reason}")
            return False
        self._saved_phases = segment.phases
        return True

    def close(self) -> None:
        """Waits for the last checkpoint, and closes all loggers."""
        if self._checkpoints is not None:
            try:
                self._checkpoints.wait()
            except ProcessGoneError:  # the run ends with it, at the next exchange or before
                pass
            except OSError as error:
                self._problem("checkpoint", f"the newest is not saved: {error}")
            self._checkpoints.close()
        for logger in self._loggers:
            try:
                logger.close()
            except Exception as error:
                self._problem(type(logger).__name__, str(error))

    def guard(self, name: str, write: Callable[[], object]) -> None:
        """Calls a function that writes a file. A failure is added to the problems."""
        try:
            write()
        except ProcessGoneError:
            raise
        except Exception as error:  # each library raises its own error for a full disk
            self._problem(name, f"failed: {one_line(error)}")

    def _due(self, segment: Segment) -> bool:
        if segment.phases == self._config.num_phases:  # a longer run would resume here
            return True
        every, minutes = self._options.every, self._options.minutes
        if every is not None and segment.phases // every > self._saved_phases // every:
            return True
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _log(self, part: MetricArrays) -> None:
        if self._csv:
            try:
                self._csv.write(part, self._iterations)
                self._csv_complete = True
            except OSError as error:  # the rows are written again with the next segment
                self._csv_complete = False
                self._problem(METRICS, f"cannot be written: {error.strerror or error}")
        for logger in list(self._loggers):
            try:
                logger.write(part, self._iterations)
            except Exception as error:
                self._loggers.remove(logger)
                name = type(logger).__name__
                self._problem(name, f"failed and is no longer used: {error}")

    def _problem(self, name: str, text: str) -> None:
        line = f"{name}: " + " ".join(text.split())[:300]
        if line not in self.problems:
            self.problems.append(line)
            self._display.note(f"warning: {line}")
