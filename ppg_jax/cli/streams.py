"""Standard streams that never stand in the way: what cannot be shown is left out."""

import contextlib
import errno
import functools
import os
import sys
from typing import Any

_PLAIN = str.maketrans({"±": "+/-", "…": "...", "–": "-", "×": "x"})  # noqa: RUF001


class Forgiving:
    """A text stream around another that raises nothing.

    Letters that the other cannot encode are replaced. What it cannot take, because its reader has
    gone, its disk is full or it is closed, is dropped from then on.

    Attributes:
      failed: why it takes no more; None: it does.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what can be written; how long the text is."""
        if self.failed is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                # The stream's own name for it: the error calls every code page "charmap".
                encoding = self._stream.encoding
                plain = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
                self._try(functools.partial(self._stream.write, plain))
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes all of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands on what was written."""
        if self.failed is None:
            self._try(self._stream.flush)

    def _try(self, do: Any) -> None:
        try:
            do()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed = error if isinstance(error, OSError) else _closed()
        # What is left in its buffer is written when Python ends, and may not fail then.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @property
    def reader_has_gone(self) -> bool:
        """Whether somebody read as much as they wanted (``| head``)."""
        return self.failed is not None and self.failed.errno == errno.EPIPE


def _closed() -> OSError:
    return OSError(errno.EBADF, "it is closed")


def forgive() -> tuple[Forgiving, Forgiving]:
    """Makes this process's standard output and error forgiving.

    A stream that was closed before goes nowhere, and has failed from the start. Its number must not
    be free: the next file to be opened would get it, and every message with it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        was_closed = stream is None
        if was_closed:
            stream = open(number, "w", closefd=False)  # noqa: SIM115  # as long as the process
        forgiving = Forgiving(stream)
        forgiving.failed = _closed() if was_closed else None
        setattr(sys, name, forgiving)
    return sys.stdout, sys.stderr  # type: ignore[return-value]
