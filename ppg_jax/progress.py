"""What a person sees while a run is under way: a live bar, or plain lines away from a terminal."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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

    def update(self, iterations: int, speed: float, mean_return: float) -> None:
        """Iterations done so far, env steps/s over all seeds, mean return of the last segment."""


class Silent:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Ignored."""

    def update(self, iterations: int, speed: float, mean_return: float) -> None:
        """Ignored."""


class Lines:
    """Plain lines, at most one in ``every`` seconds, for logs and pipes."""

    def __init__(self, console: Console, total: int, every: float = 5.0) -> None:
        self._console, self._total, self._every = console, total, every
        self._last = -every

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def update(self, iterations: int, speed: float, mean_return: float) -> None:
        """Prints a line unless the last one is too recent."""
        now = time.monotonic()
        if now - self._last < self._every and iterations < self._total:
            return
        self._last = now
        self.note(
            f"iteration {iterations}/{self._total}  {speed:,.0f} steps/s  return {mean_return:.2f}"
        )


class Bar(Lines):
    """A progress bar with speed, mean return and time left."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self._progress = Progress(
            TextColumn("iteration {task.completed}/{task.total}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]} steps/s"),
            TextColumn("return {task.fields[mean_return]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=total, speed="-", mean_return="-")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, iterations: int, speed: float, mean_return: float) -> None:
        """Moves the bar."""
        self._progress.update(
            self._task,
            completed=iterations,
            speed=f"{speed:,.0f}",
            mean_return=f"{mean_return:.2f}",
        )


def make_display(console: Console | None, total: int) -> Display:
    """A bar on a terminal or in a notebook, lines elsewhere, nothing without a console."""
    if console is None:
        return Silent()
    if console.is_terminal or console.is_jupyter:
        return Bar(console, total)
    return Lines(console, total)
