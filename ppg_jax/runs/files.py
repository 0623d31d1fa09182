"""Files of a run's folder: only plain ones are opened, and they are written whole or not at all.

A folder may come from anywhere. A pipe in it would wait for ever, a device never ends, and a link
points to something that is not ours to write.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ppg_jax.config import NO_WAITING, plain_size

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
TEMPORARY = ".*.tmp"
"""Names of what is half written."""


def open_plain(path: Path, flags: int) -> BinaryIO:
    """A plain file, for reading and writing; never one that a link leads to.

    Raises:
      OSError: it cannot be opened so.
    """
    number = os.open(path, os.O_RDWR | _NO_LINKS | NO_WAITING | flags, 0o666)
    file: Any = open(number, "r+b", buffering=0)  # noqa: SIM115  # the caller closes it
    try:
        plain_size(file)
    except OSError:
        file.close()
        raise
    return file


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is never seen half written, and is on disk afterwards.

    What was there before, a link too, is replaced; where a link leads to, nothing changes.

    Raises:
      OSError: it cannot be written; what was there before stays.
    """
    _beside(path, content, lambda made: os.replace(made, path))


def write_new(path: Path, content: str | bytes) -> None:
    """``write_whole`` where nothing may be there yet: of two writers one alone succeeds.

    Raises:
      FileExistsError: something is.
      OSError: it cannot be written.
    """

    def link(made: Path) -> None:
        try:
            os.link(made, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("xb") as file:
                file.write(made.read_bytes())

    _beside(path, content, link)


def _beside(path: Path, content: str | bytes, into_place: Callable[[Path], None]) -> None:
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with made.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        into_place(made)
    finally:
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes sure that names in a folder are on disk, where the system can be told so."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder, as far as that can be done."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def check_plain_tree(folder: Path, largest: int) -> None:
    """Whether a folder holds nothing but folders and plain files of a bearable size.

    Raises:
      OSError: it is none itself, or something in it is a link, a pipe, a device, or too large.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise OSError(errno.ENOTDIR, "it is no folder")
    for place, _, _ in os.walk(folder, onerror=_raise):
        with os.scandir(place) as entries:
            for entry in entries:
                _check_entry(entry, largest)


def _check_entry(entry: "os.DirEntry[str]", largest: int) -> None:
    info = entry.stat(follow_symlinks=False)
    plain = stat.S_ISREG(info.st_mode)
    if not plain and not stat.S_ISDIR(info.st_mode):
        raise OSError(errno.EINVAL, f"{entry.name} in it is no plain file")
    if plain and info.st_size > largest:
        raise OSError(errno.EFBIG, f"{entry.name} in it has {info.st_size:,} bytes")


def _raise(error: OSError) -> None:
    raise error


class TextLog:
    """A text file that grows by whole pieces.

    What could not be written is tried again with the next piece, from where the last whole one
    ended: a disk that was full for a while leaves no gap and no torn line. Where the file is gone,
    was cut or became a link, all of it is written anew.

    Args:
      path: of the file.
      everything: gives the whole text, with the piece that is being added.
    """

    def __init__(self, path: Path, everything: Callable[[], str]) -> None:
        self._path, self._everything = path, everything
        self._size, self._pending = 0, b""

    def append(self, text: str) -> None:
        """Adds a piece; the first one replaces what was there before.

        Raises:
          OSError: it cannot be written now.
        """
        self._pending += text.encode()
        if not (self._size and self._grow()):
            whole = self._everything().encode()
            write_whole(self._path, whole)
            self._size = len(whole)
        self._pending = b""

    def _grow(self) -> bool:
        """Writes what is pending behind the rest; False if the rest is not there any more."""
        try:
            file = open_plain(self._path, 0)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO):
                return False
            raise
        with file:
            if plain_size(file) < self._size:
                return False
            file.seek(self._size)
            left = memoryview(self._pending)
            while left:
                left = left[file.write(left) :]
            file.truncate()
        self._size += len(self._pending)
        return True

    def sync(self) -> None:
        """Makes sure that all of it is on disk.

        Raises:
          OSError: it is not.
        """
        if self._size:
            with open_plain(self._path, 0) as file:
                os.fsync(file.fileno())
