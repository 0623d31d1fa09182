"""What a person sees while a run is under way: a live bar, or plain lines away from a terminal."""

import dataclasses
import time
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ppg_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Where a run is.

    Attributes:
      iterations: done so far.
      phases: whole phases done so far.
      env_steps: done so far, all trainings together.
      speed: env steps/s, all trainings together.
      returns: of each training, mean over the episodes of the newest segment, NaN if none ended.
      bad: trainings whose loss is not finite.
    """

    iterations: int
    phases: int
    env_steps: int
    speed: float
    returns: np.ndarray
    bad: int

    def mean_return(self) -> str:
        """The return in words: mean, and standard deviation where there are several."""
        returns = self.returns[np.isfinite(self.returns)]
        if not returns.size:
            return "-"
        spread = f" ± {returns.std():.2f}" if len(self.returns) > 1 else ""
        return f"{returns.mean():.2f}{spread}"

    def warning(self) -> str:
        """How many trainings are lost, if any."""
        return f"{self.bad} of {len(self.returns)} NaN" if self.bad else ""


class Display(Protocol):
    """What the runner tells while it works. Enter it as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def note(self, text: str) -> None:
        """One line, said once."""

    def update(self, now: Snapshot) -> None:
        """Where the run is."""


class Silent:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Ignored."""

    def update(self, now: Snapshot) -> None:
        """Ignored."""


class Lines:
    """Plain lines, at most one in ``every`` seconds, for logs and pipes."""

    def __init__(self, console: Console, config: Config, every: float = 5.0) -> None:
        self._console, self._config, self._every = console, config, every
        self._last = -every

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def update(self, now: Snapshot) -> None:
        """Prints a line unless the last one is too recent."""
        clock, total = time.monotonic(), self._config.num_iterations
        if clock - self._last < self._every and now.iterations < total:
            return
        self._last = clock
        left = (total / now.iterations - 1) * now.env_steps / now.speed
        words = [
            f"phase {now.phases}/{self._config.num_phases}",
            f"iteration {now.iterations}/{total}",
            f"{now.env_steps:,} steps",
            f"{now.speed:,.0f} steps/s",
            f"return {now.mean_return()}",
            f"{left:.0f} s left",
            now.warning(),
        ]
        self.note("  ".join(word for word in words if word))


class Bar(Lines):
    """A progress bar with phase, env steps, speed, return and time left."""

    def __init__(self, console: Console, config: Config) -> None:
        super().__init__(console, config)
        self._progress = Progress(
            TextColumn("phase {task.fields[phases]}/" + str(config.num_phases)),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[steps]} steps"),
            TextColumn("[cyan]{task.fields[speed]}/s"),
            TextColumn("return [bold]{task.fields[mean_return]}"),
            TextColumn("[red]{task.fields[warning]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        blank: dict[str, Any] = {
            "steps": "-",
            "speed": "-",
            "mean_return": "-",
            "warning": "",
            "phases": 0,
        }
        self._task = self._progress.add_task("", total=config.num_iterations, **blank)

    def __rich__(self) -> Progress:
        """As it stands, to be printed."""
        return self._progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, now: Snapshot) -> None:
        """Moves the bar."""
        self._progress.update(
            self._task,
            completed=now.iterations,
            phases=now.phases,
            steps=f"{now.env_steps:,}",
            speed=f"{now.speed:,.0f}",
            mean_return=now.mean_return(),
            warning=now.warning(),
        )


def make_display(console: Console | None, config: Config) -> Display:
    """A bar on a terminal or in a notebook, lines elsewhere, nothing without a console."""
    if console is None:
        return Silent()
    if console.is_terminal or console.is_jupyter:
        return Bar(console, config)
    return Lines(console, config)
