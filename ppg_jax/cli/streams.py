"""Standard streams that never raise: text that cannot be shown is left out."""

import contextlib
import errno
import functools
import os
import sys
from typing import Any

_PLAIN = str.maketrans({"±": "+/-", "…": "...", "–": "-", "×": "x"})  # noqa: RUF001


class Forgiving:
    """A wrapper of a text stream that raises no exceptions.

    Characters that the stream cannot encode are replaced. Once a write fails, because the reader of
    a pipe has gone, the disk is full or the stream is closed, all further text is dropped.

    Attributes:
      failed: error of the first write that failed; None: no write has failed.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failed: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text if that is possible, and returns the length of the text."""
        if self.failed is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                # The encoding is not taken from the error, which calls every code page "charmap".
                encoding = self._stream.encoding
                plain = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
                self._try(functools.partial(self._stream.write, plain))
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several pieces of text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream."""
        if self.failed is None:
            self._try(self._stream.flush)

    def _try(self, do: Any) -> None:
        try:
            do()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed = error if isinstance(error, OSError) else _closed()
        # Python writes the rest of the buffer when it exits. That must not fail, so the file
        # descriptor now points to the null device.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @property
    def reader_has_gone(self) -> bool:
        """Whether the reader of the pipe closed it, as ``| head`` does."""
        return self.failed is not None and self.failed.errno == errno.EPIPE


def _closed() -> OSError:
    return OSError(errno.EBADF, "it is closed")


def forgive() -> tuple[Forgiving, Forgiving]:
    """Makes this process's standard output and error forgiving.

    A stream that is already closed counts as failed from the start. Its file descriptor is opened
    on the null device. Otherwise the next file to be opened would get this descriptor, and every
    message would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        was_closed = stream is None
        if was_closed:
            stream = open(number, "w", closefd=False)  # noqa: SIM115  # open until the process ends
        forgiving = Forgiving(stream)
        forgiving.failed = _closed() if was_closed else None
        setattr(sys, name, forgiving)
    return sys.stdout, sys.stderr  # type: ignore[return-value]
