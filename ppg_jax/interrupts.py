"""Ctrl-C and SIGTERM as a wish to stop at the next good moment."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """While entered, a first Ctrl-C or SIGTERM only sets ``requested``; a second Ctrl-C raises.

    Signals reach Python in its main thread and between two of its instructions, so what takes long
    has to run in another (``parallel.in_turns``). Away from the main thread, where Python takes no
    signals, everything is as it is without.

    Args:
      told: called when a stop is first asked for.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        self.requested = False
        self._told = told
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested = True
            self._told()
