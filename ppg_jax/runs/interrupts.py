"""Handling of Ctrl-C, SIGTERM and SIGHUP: a run stops after its current segment."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class StoppedError(KeyboardInterrupt):
    """A run was stopped before its first segment. Nothing was trained, so nothing is lost."""


class StopRequest:
    """A context in which the first stop signal sets ``requested`` and a second Ctrl-C raises.

    Until ``wait_for_segments`` is called, that is while programs compile, the first signal raises
    ``StoppedError`` at once.

    The stop signals are Ctrl-C, SIGTERM and SIGHUP. SIGHUP is left alone if ``nohup`` ignores it.
    Python handles signals in its main thread, between two instructions, so long computations must
    run in another thread (``run_batches``). If the context is entered in another thread, it changes
    nothing, because Python can set signal handlers in the main thread only.

    Args:
      notify: function that is called with one line of text at the first signal.

    Attributes:
      requested: whether a stop was asked for.
      reason: the signal that asked for it, in a few words; None: no signal came.
    """

    def __init__(self, notify: Callable[[str], None] = lambda _: None) -> None:
        self.requested = False
        self.reason: str | None = None
        self._notify = notify
        self._seconds: list[float] = []
        self._waits_for_segments = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is None:  # Windows has no SIGHUP
                    continue
                ignored = name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
                if not ignored:  # nohup: the run should continue
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
        """Makes the first signal wait for the end of a segment, from now on."""
        self._waits_for_segments = True

    def passed(self, run_seconds: float) -> None:
        """Records the run time at the end of a segment, to estimate the length of the next one."""
        self._seconds = [*self._seconds[-1:], run_seconds]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._waits_for_segments:
            raise StoppedError
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            # ``run_seconds`` counts from the beginning of the run, also after it is resumed. The
            # length of a segment is therefore the difference of two values.
            known = len(self._seconds) > 1
            within = f", in about {self._seconds[-1] - self._seconds[-2]:.1g} s" if known else ""
            self._notify(f"stopping after this segment{within}; press Ctrl-C again to stop at once")
