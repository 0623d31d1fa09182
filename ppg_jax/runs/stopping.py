"""What ends a run before its last iteration, besides signals: a return, a time, or the caller."""

import contextlib
import datetime
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.execution import ALONE, Processes, Segment
from ppg_jax.report import final_returns
from ppg_jax.runs.recorder import Recorder
from ppg_jax.runs.result import RunSoFar
from ppg_jax.types import MetricArrays

SEGMENTS = 1000
"""Approximate number of segments of a run that ends at a return or a time. With the usual hundred,
a run of ten hours could end six minutes too late."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORMS = "seconds, a timedelta, or a text such as 90s, 10m or 1h30m"

OnSegment = Callable[[RunSoFar], bool | None]


@dataclass(frozen=True)
class StopOptions:
    """When a run should end before its last iteration.

    Attributes:
      at_return: mean return that ends the run (``recent_return``); None: no return does.
      seconds: wall time that ends the run, counted from ``began``; None: no time does.
      on_segment: called after every segment; True ends the run.
      began: reading of the monotonic clock when the options were made.
    """

    at_return: float | None = None
    seconds: float | None = None
    on_segment: OnSegment | None = None
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, stop_at_return: Any, stop_after: Any, on_segment: Any) -> "StopOptions":
        """The options as users give them.

        Raises:
          ConfigError: a value is invalid.
        """
        if on_segment is not None and not callable(on_segment):
            raise ConfigError(f"on_segment: {on_segment!r} is invalid; it should be a function")
        seconds = None if stop_after is None else to_seconds(stop_after)
        return cls(_to_return(stop_at_return), seconds, on_segment)

    @property
    def segments(self) -> int | None:
        """Approximate number of segments that the options need; None: as many as usual."""
        return None if self.at_return is None and self.seconds is None else SEGMENTS


def _to_return(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"stop_at_return: {value!r} is invalid; it should be a number")
    return number


def to_seconds(value: Any) -> float:
    """A time in seconds, from a number, a ``timedelta`` or a text such as ``1h30m``.

    Raises:
      ConfigError: the value is none of these, or not above 0.
    """
    seconds = math.nan
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        text = value.replace(" ", "").lower()
        if re.fullmatch(r"([0-9]+(\.[0-9]*)?[smhd])+", text):
            parts = re.findall(r"([0-9.]+)([smhd])", text)
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        elif re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
            seconds = float(text)
    elif not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            seconds = float(value)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"stop_after: {value!r} is invalid; it should be {_FORMS}, above 0")
    return seconds


def recent_iterations(iterations: int, config: Config) -> int:
    """Number of iterations that count for ``stop_at_return``: the last tenth, at least a phase.

    A whole phase, because the first few episodes of a run are a biased sample: short ones end
    first.
    """
    return min(iterations, max(config.n_pi, round(0.1 * iterations)))


def recent_return(metrics: MetricArrays, config: Config) -> float:
    """The return that is compared with ``stop_at_return``: a mean over seeds.

    Of each seed it is the mean raw return of the episodes that ended in the last iterations
    (``recent_iterations``).

    Args:
      metrics: metrics of the run so far, each ``[S, iterations]``.
      config: configuration of the run.

    Returns:
      The mean; NaN, which ends no run, as long as no episode of some seed has ended there.
    """
    last = recent_iterations(metrics["episode_return"].shape[1], config)
    counted = {name: metrics[name][:, -last:] for name in ("episode_return", "num_episodes")}
    return float(final_returns(counted, 1.0).mean())


class Stopping:
    """Decides after every segment whether a run ends there.

    Args:
      options: when it should end.
      config: configuration of the run.
      before: metrics of the run before it was resumed, ``[S, iterations]``, or None.
      processes: the processes of the run. The first one decides, and tells the others.

    Attributes:
      reason: why the run ends, in a few words; None: it goes on.
      error: what ``on_segment`` raised, to be raised again when the run has ended in order.
    """

    def __init__(
        self,
        options: StopOptions,
        config: Config,
        before: MetricArrays | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._options, self._config, self._processes = options, config, processes
        self.reason: str | None = None
        self.error: BaseException | None = None
        if before is not None and processes.first:
            self._look_back(before)
        self.reason = processes.from_first(self.reason)

    def _look_back(self, metrics: MetricArrays) -> None:
        """Notices that a resumed run had reached ``stop_at_return`` before: it should not train."""
        unfinished = metrics["env_steps"].shape[1] < self._config.num_iterations
        if unfinished and self._reached(metrics):
            self.reason = f"{self.reason} before it was resumed, so nothing was trained"

    def ends(self, recorder: Recorder, segment: Segment, signal: str | None) -> bool:
        """Whether the run ends after the newest segment, which is recorded already.

        Args:
          recorder: recorder of the run.
          segment: the newest segment.
          signal: the signal that came to this process, or None. It ends all processes.
        """
        if self._processes.first:
            self.reached(recorder, segment)
        elif signal is not None:
            signal = f"{signal} in process {self._processes.index}"
        reasons = self._processes.all(signal or self.reason)
        self.reason = next((reason for reason in reasons if reason is not None), None)
        return self.reason is not None

    def reached(self, recorder: Recorder, segment: Segment) -> bool:
        """Whether the options end the run after the newest segment."""
        options = self._options
        if options.on_segment is not None:
            self._ask(options.on_segment, recorder.so_far(segment))
        if self.reason is None and options.at_return is not None:
            self._reached(recorder.metrics)
        if self.reason is None and options.seconds is not None:
            spent = time.monotonic() - options.began
            if spent >= options.seconds:
                self.reason = f"{spent:.3g} s have passed, stop_after is {options.seconds:g} s"
        return self.reason is not None

    def raise_error(self) -> None:
        """Raises what ``on_segment`` has raised, after the end of the run."""
        if self.error is not None:
            raise self.error

    def _reached(self, metrics: MetricArrays) -> bool:
        wanted = self._options.at_return
        if wanted is None:
            return False
        found = recent_return(metrics, self._config)
        if found >= wanted:
            last = recent_iterations(metrics["env_steps"].shape[1], self._config)
            self.reason = (
                f"the mean return {found:.6g} of the last {last} iterations has reached "
                f"stop_at_return {wanted:g}"
            )
        return self.reason is not None

    def _ask(self, on_segment: OnSegment, so_far: RunSoFar) -> None:
        """Calls ``on_segment``. What it raises is kept, so that the run can end in order."""
        try:
            answer = on_segment(so_far)
            if not isinstance(answer, bool | np.bool_ | None):
                raise ConfigError(
                    f"on_segment: its result {answer!r} is invalid; it should be True to end the "
                    "run, or False"
                )
        except (Exception, SystemExit) as error:
            self.error = error
            self.reason = f"on_segment raised {type(error).__name__}"
        else:
            self.reason = "on_segment returned True" if answer else None
