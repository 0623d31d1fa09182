"""What a person sees while a run is under way: a live bar, or plain lines away from a terminal."""

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

NAMED = 8
"""Trainings lost in the same segment that are named one by one."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Where a run is.

    Attributes:
      iterations: done so far.
      phases: whole phases done so far.
      env_steps: done so far, all trainings together.
      speed: env steps/s, all trainings together.
      returns: of each training, mean over the episodes of the newest segment, NaN if none ended.
      bad: trainings whose loss was NaN or infinite at some time.
    """

    iterations: int
    phases: int
    env_steps: int
    speed: float
    returns: np.ndarray
    bad: int

    def mean_return(self, digits: int = 2) -> str:
        """The return in words: mean, and standard deviation where there are several."""
        returns = self.returns[np.isfinite(self.returns)]
        if not returns.size:
            return "-"
        spread = f" ± {returns.std():.{digits}f}" if len(self.returns) > 1 else ""
        return f"{returns.mean():.{digits}f}{spread}"

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


def harmless(method: Callable[..., None]) -> Callable[..., None]:
    """A method of a display that raises nothing; once it could not show, it tries no more.

    A terminal that has gone, a full disk behind a pipe, letters that a console cannot show: none of
    them is a reason for a run to end. (Rich ends the process at a broken pipe.)
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
    """Plain lines, at most one in ``every`` seconds, for logs and pipes.

    Attributes:
      broken: nothing can be shown any more.
    """

    def __init__(self, console: Console, config: Config, every: float = 5.0) -> None:
        self._console, self._config, self._every = console, config, every
        self._last = -every
        self.broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @harmless
    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    @harmless
    def update(self, now: Snapshot) -> None:
        """Shows a line unless the last one is too recent."""
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
    """A bar in a notebook's cell that changes in place.

    Rich's own needs ipywidgets there, and shows nothing without; IPython's displays need nothing.
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

    80 columns hold it all. Where there are fewer, some of it is left out: no number is cut.
    """

    NARROWEST = 32
    """Columns that a bar needs."""

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
            auto_refresh=False,  # its thread has nobody to tell what goes wrong
        )
        blank: dict[str, Any] = dict.fromkeys(styles, "")
        blank |= {"phase": f"phase 0/{config.num_phases}"}
        self._task = self._progress.add_task("", total=config.num_iterations, **blank)

    def __rich__(self) -> Progress:
        """As it stands, to be printed."""
        return self._progress

    def __enter__(self) -> Self:
        self._begin()
        return self

    @harmless
    def _begin(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._end()

    @harmless
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
    """1536000 as 1.54M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            x = number / size
            return f"{x:.{2 if x < 10 else 1 if x < 100 else 0}f}{unit}"
    return f"{number:.0f}"


def make_display(console: Console | None, config: Config) -> Display:
    """A bar on a terminal or in a notebook, lines elsewhere, nothing without a console."""
    if console is None:
        return Silent()
    if console.is_jupyter:
        return Cell(console, config)
    moves = console.is_terminal and not console.is_dumb_terminal
    wide = console.width >= Bar.NARROWEST
    return Bar(console, config) if moves and wide else Lines(console, config)


def print_table(console: Console, table: Table) -> None:
    """Prints a table as wide as it is: a narrow terminal breaks its lines, and no number is cut."""
    wide = console.options.update(width=1_000)
    table.width = Measurement.get(console, wide, table).maximum
    console.print(table, crop=False, no_wrap=True, overflow="ignore")


class Watch:
    """Where trainings are, segment by segment, and which of them were lost on the way.

    Args:
      config: of the trainings.
      rows: how many there are.
      display: where it shows; a lost one is named there once.
      name: what training i is called.
    """

    def __init__(
        self, config: Config, rows: int, display: Display, name: Callable[[int], str]
    ) -> None:
        self._config, self._rows, self._display, self._name = config, rows, display, name
        self._lost: set[int] = set()

    def update(self, segment: Segment) -> None:
        """Shows where they are after a segment."""
        part, rows = segment.metrics, self._rows
        steps = int(part["env_steps"][0, -1])  # of one training, counted from the beginning
        done = steps // self._config.steps_per_iteration
        self.find_lost(part, done - part["env_steps"].shape[1])
        now = Snapshot(
            iterations=done,
            phases=segment.phases,
            env_steps=rows * steps,
            speed=rows * steps / segment.run_seconds,
            returns=final_returns(part, 1.0),
            bad=len(self._lost),
        )
        self._display.update(now)

    def find_lost(self, part: MetricArrays, first_iteration: int) -> None:
        """Names trainings whose loss is NaN or infinite for the first time.

        Args:
          part: metrics of whole phases, or of the iterations behind the last one.
          first_iteration: number of its first iteration.
        """
        found = enumerate(first_bad_iteration(part, self._config))
        fresh = {row: at for row, at in found if at is not None and row not in self._lost}
        self._lost |= fresh.keys()
        for row, at in list(fresh.items())[:NAMED]:
            self._display.note(
                f"warning: {self._name(row)}: the loss is NaN or infinite from iteration "
                f"{first_iteration + at} on"
            )
        if len(fresh) > NAMED:
            self._display.note(f"warning: {len(fresh) - NAMED} more likewise")
