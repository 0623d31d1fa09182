"""Calls in threads of their own."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def begin(call: Callable[[], T]) -> Callable[[], T]:
    """Starts a call; what is returned waits for it, and returns or raises what it does.

    Its thread does not keep the process alive.
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((True, call()))
        except BaseException as error:
            outcome.put((False, error))

    def result() -> T:
        ended, given = outcome.get()
        if ended:
            return given
        raise given

    threading.Thread(target=work, daemon=True).start()
    return result
