"""What a benchmark has so far: said on standard error and kept, also when it is cut off."""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


class Report:
    """Rows and timings of the script that runs.

    Attributes:
      rows: what is measured already.
      seconds: single timings that no row is made of yet, by what was timed.
    """

    def __init__(self) -> None:
        self._out: Path | None = None
        self.rows: list[Any] = []
        self.seconds: dict[str, list[float]] = {}

    def begin(self, out: Path | None) -> None:
        """A script starts."""
        self.__init__()  # type: ignore[misc]
        self._out = out

    def add(self, row: Any) -> Any:
        """A row is done; it is returned."""
        self.rows.append(row)
        self.seconds.clear()
        say(json.dumps(row))
        self.write(self.so_far())
        return row

    def timed(self, name: Any, seconds: float) -> None:
        """One timing is done."""
        key = " ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        self.seconds.setdefault(key, []).append(round(seconds, 4))
        say(f"{key}: {seconds:.3f} s")
        self.write(self.so_far())

    def so_far(self) -> dict[str, Any]:
        """As JSON wants it."""
        timings = {"seconds": self.seconds} if self.seconds else {}
        return {"complete": False, "results": self.rows, **timings}

    def write(self, report: dict[str, Any]) -> str:
        """Keeps a report where ``--out`` says, the one before until this is whole; its text."""
        text = json.dumps(report, indent=2)
        if self._out:
            beside = self._out.with_name(f".{self._out.name}.part")
            beside.write_text(text + "\n")
            os.replace(beside, self._out)
        return text


REPORT = Report()


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def rows_of(names: Iterable[Any], measure: Callable[[Any], Iterable[Any]]) -> list[Any]:
    """The rows that ``measure`` gives for each name; those of a name that is done are kept."""
    return [REPORT.add(row) for name in names for row in measure(name)]


def whole(result: Any) -> Any:
    """The result of ``ppg_jax.run`` or ``sweep``, which end early, without raising, at a signal.

    Raises:
      KeyboardInterrupt: it ended so.
    """
    if not result.finished:
        raise KeyboardInterrupt
    return result


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises, as SIGINT does."""

    def stop(*_: Any) -> None:
        raise TerminatedError

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(error: BaseException) -> int:
    """What a script that was cut off ends with; says why."""
    if isinstance(error, TerminatedError):
        say("terminated")
        return 143
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return 130
    if isinstance(error, SystemExit):  # of a process that a script has started
        say(f"error: {error}")
    else:
        traceback.print_exception(error)
    return 1


def finished(
    out: Path | None,
    measure: Callable[[], Any],
    beside: Callable[[], dict[str, Any]],
    expected: type[Exception] | tuple[type[Exception], ...] = (),
) -> int:
    """Measures, prints the report as JSON and keeps it; an exit code.

    Args:
      out: where to keep it.
      measure: gives the results.
      beside: gives what stands beside them.
      expected: errors of which the message says enough.
    """
    REPORT.begin(out)
    report, code = {"complete": True}, 0
    try:
        with terminable():
            report["results"] = measure()
    except expected as error:
        say(f"error: {error}")
        report, code = REPORT.so_far(), 2
    except BaseException as error:
        report, code = REPORT.so_far(), exit_code(error)
    if code and not (REPORT.rows or REPORT.seconds):
        return code
    print(REPORT.write(beside() | report))
    return code
