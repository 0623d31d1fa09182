"""Ctrl-C, SIGTERM and a closed connection as a wish to stop at the next good moment."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class StoppedError(KeyboardInterrupt):
    """A run was stopped before its first segment: nothing had been trained, nothing is lost."""


class StopRequest:
    """While entered, a first signal to stop only sets ``requested``; a second Ctrl-C raises.

    Until ``wait_for_segments`` is called, while programs compile, already the first one raises
    ``StoppedError``.

    Such signals are Ctrl-C, SIGTERM and, unless ``nohup`` had it ignored, SIGHUP.
    Signals reach Python in its main thread and between two of its instructions, so what takes long
    has to run in another (``run_batches``). Away from the main thread, where Python takes no
    signals, everything is as it is without.

    Args:
      tell: called with a line when a stop is first asked for.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.requested = False
        self._tell = tell
        self._seconds: list[float] = []
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is None:  # Windows knows no SIGHUP
                    continue
                ignored = name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
                if not ignored:  # nohup asks to go on
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait_for_segments(self) -> None:
        """From now on a first signal waits: before, there was nothing to wait for."""
        self._waits = True

    def passed(self, run_seconds: float) -> None:
        """Takes note of the time at the end of a segment, to tell how long the next one takes."""
        self._seconds = [*self._seconds[-1:], run_seconds]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._waits:
            raise StoppedError
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            # A resumed run's first segment counts from the run's beginning: of two, the difference.
            known = len(self._seconds) > 1
            within = f", in about {self._seconds[-1] - self._seconds[-2]:.1g} s" if known else ""
            self._tell(f"stopping after this segment{within}; Ctrl-C once more stops at once")
