"""Progress display during training: a live bar on a terminal, plain lines elsewhere."""

import dataclasses
import datetime
import functools
import html
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ppg_jax.config import Config
from ppg_jax.execution import Segment
from ppg_jax.report import final_returns, first_bad_iteration
from ppg_jax.types import MetricArrays

MOST_NAMED = 8
"""Largest number of lost replicas of one segment that are named one by one."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Progress of a run or a sweep.

    Attributes:
      iterations: number of finished iterations.
      phases: number of finished phases.
      env_steps: number of environment steps so far, of all replicas together.
      speed: environment steps per second, of all replicas together.
      returns: mean return of each replica over the newest segment; NaN if no episode ended.
      bad: number of replicas whose loss has been NaN or infinite.
    """

    iterations: int
    phases: int
    env_steps: int
    speed: float
    returns: np.ndarray
    bad: int

    def mean_return(self, digits: int = 2) -> str:
        """The return as text: mean, and standard deviation if there are several replicas."""
        returns = self.returns[np.isfinite(self.returns)]
        if not returns.size:
            return "-"
        spread = f" ± {returns.std():.{digits}f}" if len(self.returns) > 1 else ""
        return f"{returns.mean():.{digits}f}{spread}"

    def warning(self) -> str:
        """Number of lost replicas as text; empty if there are none."""
        return f"{self.bad} of {len(self.returns)} NaN" if self.bad else ""


class Display(Protocol):
    """Interface of a progress display. It is used as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def note(self, text: str) -> None:
        """Shows a line of text."""

    def update(self, now: Snapshot) -> None:
        """Shows the progress of the run."""


class Silent:
    """A display that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Does nothing."""

    def update(self, now: Snapshot) -> None:
        """Does nothing."""


def never_raises(method: Callable[..., None]) -> Callable[..., None]:
    """Wraps a method of a display so that it raises nothing. After an error it does nothing.

    A run does not end because a terminal was closed, the disk behind a pipe is full, or a console
    cannot show a character. (Rich ends the process at a broken pipe.)
    """

    @functools.wraps(method)
    def show(self: Any, *args: Any) -> None:
        if not self.broken:
            try:
                method(self, *args)
            except (Exception, SystemExit):
                self.broken = True

    return show


class Lines:
    """Plain lines for logs and pipes, at most one in ``every`` seconds.

    Attributes:
      broken: whether an error occurred, after which nothing is shown.
    """

    def __init__(self, console: Console, config: Config, every: float = 5.0) -> None:
        self._console, self._config, self._every = console, config, every
        self._last = -every
        self.broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @never_raises
    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    @never_raises
    def update(self, now: Snapshot) -> None:
        """Prints a line, unless the last one is too recent."""
        clock = time.monotonic()
        if clock - self._last < self._every and now.iterations < self._config.num_iterations:
            return
        self._last = clock
        self._show(now)

    def _show(self, now: Snapshot) -> None:
        self._console.print(self._line(now), highlight=False, soft_wrap=True, markup=False)

    def _line(self, now: Snapshot) -> str:
        total = self._config.num_iterations
        words = [
            f"phase {now.phases}/{self._config.num_phases}",
            f"iteration {now.iterations}/{total}",
            f"{now.env_steps:,} steps",
            f"{now.speed:,.0f} steps/s",
            f"return {now.mean_return()}",
            f"{self._left(now)} left",
            now.warning(),
        ]
        return "  ".join(word for word in words if word)

    def _left(self, now: Snapshot) -> str:
        rest = self._config.num_iterations / now.iterations - 1
        return str(datetime.timedelta(seconds=round(rest * now.env_steps / now.speed)))


class Cell(Lines):
    """A progress bar in the cell of a notebook, which is updated in place.

    The bar of rich shows nothing in a notebook without ipywidgets. IPython's display needs no
    further package.
    """

    def __init__(self, console: Console, config: Config) -> None:
        super().__init__(console, config, every=0.5)
        self._handle: Any = None

    def _show(self, now: Snapshot) -> None:
        from IPython.display import display

        line, total = self._line(now), self._config.num_iterations
        shown = {
            "text/plain": line,
            "text/html": f'<progress value="{now.iterations}" max="{total}"></progress> '
            f"<code>{html.escape(line)}</code>",
        }
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class Bar(Lines):
    """A progress bar with phase, env steps, speed, return and time left.

    It needs 80 columns. On a narrower terminal some parts are left out, so that no number is cut.
    """

    NARROWEST = 32
    """Smallest number of columns for a bar."""

    def __init__(self, console: Console, config: Config) -> None:
        super().__init__(console, config, every=0.1)
        styles = {"phase": "", "steps": "", "speed": "cyan", "mean_return": "bold", "left": "",
                  "warning": "red"}  # fmt: skip
        columns = [TextColumn(f"{{task.fields[{name}]}}", style) for name, style in styles.items()]
        self._progress = Progress(
            columns[0],
            BarColumn(bar_width=None),
            *columns[1:],
            console=console,
            auto_refresh=False,  # errors in its thread could not be caught
        )
        blank: dict[str, Any] = dict.fromkeys(styles, "")
        blank |= {"phase": f"phase 0/{config.num_phases}"}
        self._task = self._progress.add_task("", total=config.num_iterations, **blank)

    def __rich__(self) -> Progress:
        """The bar as rich prints it."""
        return self._progress

    def __enter__(self) -> Self:
        self._begin()
        return self

    @never_raises
    def _begin(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._end()

    @never_raises
    def _end(self) -> None:
        self._progress.stop()

    def _show(self, now: Snapshot) -> None:
        fields: dict[str, Any] = {
            "phase": f"phase {now.phases}/{self._config.num_phases}",
            "steps": f"{_short(now.env_steps)} steps",
            "speed": f"{_short(now.speed)}/s",
            "mean_return": f"return {now.mean_return(digits=1)}",
            "left": f"{self._left(now)} left",
            "warning": now.warning(),
        }
        between, bar = len(fields), 4  # a space before every column but the first
        for name in ("steps", "speed", "phase", "left", "warning"):
            if sum(map(len, fields.values())) + between + bar > self._console.width:
                fields[name] = ""
        self._progress.update(self._task, completed=now.iterations, **fields)
        self._progress.refresh()


def _short(number: float) -> str:
    """A number with three digits and a unit: 1536000 becomes 1.54M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            x = number / size
            return f"{x:.{2 if x < 10 else 1 if x < 100 else 0}f}{unit}"
    return f"{number:.0f}"


def make_display(console: Console | None, config: Config) -> Display:
    """A bar on a terminal or in a notebook, lines elsewhere, and no display if console is None."""
    if console is None:
        return Silent()
    if console.is_jupyter:
        return Cell(console, config)
    moves = console.is_terminal and not console.is_dumb_terminal
    wide = console.width >= Bar.NARROWEST
    return Bar(console, config) if moves and wide else Lines(console, config)


def print_table(console: Console, table: Table) -> None:
    """Prints a table in full width. A narrow terminal breaks the lines, but no number is cut."""
    wide = console.options.update(width=1_000)
    table.width = Measurement.get(console, wide, table).maximum
    console.print(table, crop=False, no_wrap=True, overflow="ignore")


class Watch:
    """Shows the progress of replicas after each segment, and names those that are lost.

    A replica is lost when its loss becomes NaN or infinite.

    Args:
      config: configuration of the replicas.
      replicas: number of replicas.
      display: display for progress and warnings; each lost replica is named once.
      name: function that returns the name of replica i.
    """

    def __init__(
        self, config: Config, replicas: int, display: Display, name: Callable[[int], str]
    ) -> None:
        self._config, self._replicas, self._display, self._name = config, replicas, display, name
        self._lost: set[int] = set()

    def update(self, segment: Segment) -> None:
        """Shows the progress after a segment."""
        part, replicas = segment.metrics, self._replicas
        steps = int(part["env_steps"][0, -1])  # of one replica, since the beginning of the run
        done = steps // self._config.steps_per_iteration
        self.find_lost(part, done - part["env_steps"].shape[1])
        now = Snapshot(
            iterations=done,
            phases=segment.phases,
            env_steps=replicas * steps,
            speed=replicas * steps / segment.run_seconds,
            returns=final_returns(part, 1.0),
            bad=len(self._lost),
        )
        self._display.update(now)

    def find_lost(self, part: MetricArrays, first_iteration: int) -> None:
        """Shows a warning for replicas whose loss is NaN or infinite for the first time.

        Args:
          part: metrics of complete phases, or of the iterations after the last complete phase.
          first_iteration: index of the first iteration of ``part`` in the run.
        """
        found = enumerate(first_bad_iteration(part, self._config))
        newly_lost = {i: at for i, at in found if at is not None and i not in self._lost}
        self._lost |= newly_lost.keys()
        for replica, at in list(newly_lost.items())[:MOST_NAMED]:
            self._display.note(
                f"warning: {self._name(replica)}: the loss is NaN or infinite from iteration "
                f"{first_iteration + at} on"
            )
        if len(newly_lost) > MOST_NAMED:
            self._display.note(f"warning: the same for {len(newly_lost) - MOST_NAMED} more")
