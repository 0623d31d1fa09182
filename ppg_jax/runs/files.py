"""Files of a run folder: only regular files are opened, and files are written atomically.

A run folder may come from an unknown source. Opening a pipe in it could wait forever, a device may
never end, and a link may point to a file that the run must not change.
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
"""Pattern of the names of temporary files."""


def open_plain(path: Path, flags: int) -> BinaryIO:
    """Opens a regular file for reading and writing. Links are not followed.

    Raises:
      OSError: the file cannot be opened, or is not a regular file.
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
    """Writes a file atomically. When this returns, the file is on disk.

    An existing file or link at this path is replaced. The target of a link is not changed.

    Raises:
      OSError: the file cannot be written; an existing file is unchanged.
    """
    _write_beside(path, content, lambda made: os.replace(made, path))


def write_new(path: Path, content: str | bytes) -> None:
    """Like ``write_whole``, but the file must not exist. Of two writers, only one succeeds.

    Raises:
      FileExistsError: the path exists already.
      OSError: the file cannot be written.
    """

    def link(made: Path) -> None:
        try:
            os.link(made, path)
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links
            with path.open("xb") as file:
                file.write(made.read_bytes())

    _write_beside(path, content, link)


def _write_beside(path: Path, content: str | bytes, into_place: Callable[[Path], None]) -> None:
    """Writes a temporary file in the same folder, then calls ``into_place`` with its path."""
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
    """Makes sure that the names in a folder are on disk, if the system supports this."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with its contents. Errors are ignored."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def check_plain_tree(folder: Path, largest: int) -> None:
    """Checks that a folder contains only folders and regular files of at most ``largest`` bytes.

    Raises:
      OSError: it is not a folder, or it contains a link, a pipe, a device or a larger file.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise OSError(errno.ENOTDIR, "it is not a folder")
    for place, _, _ in os.walk(folder, onerror=_raise):
        with os.scandir(place) as entries:
            for entry in entries:
                _check_entry(entry, largest)


def _check_entry(entry: "os.DirEntry[str]", largest: int) -> None:
    info = entry.stat(follow_symlinks=False)
    plain = stat.S_ISREG(info.st_mode)
    if not plain and not stat.S_ISDIR(info.st_mode):
        raise OSError(errno.EINVAL, f"{entry.name} in it is not a regular file")
    if plain and info.st_size > largest:
        raise OSError(errno.EFBIG, f"{entry.name} in it has {info.st_size:,} bytes, too many")


def _raise(error: OSError) -> None:
    raise error


class TextLog:
    """A text file to which pieces of text are appended, each as a whole.

    If a piece cannot be written, it is written again together with the next piece, from the end of
    the last complete piece. So a disk that is full for a while causes no gaps and no incomplete
    lines. If the file was removed, cut or replaced by a link, the whole text is written again.

    Args:
      path: path of the file.
      whole_text: function that returns the whole text, including the piece to append.
    """

    def __init__(self, path: Path, whole_text: Callable[[], str]) -> None:
        self._path, self._whole_text = path, whole_text
        self._size, self._pending = 0, b""

    def append(self, text: str) -> None:
        """Appends a piece. The first piece replaces a file that existed before.

        Raises:
          OSError: the piece cannot be written now; the next call tries again.
        """
        self._pending += text.encode()
        if not (self._size and self._grow()):
            whole = self._whole_text().encode()
            write_whole(self._path, whole)
            self._size = len(whole)
        self._pending = b""

    def _grow(self) -> bool:
        """Appends the pending text; False if the file is no longer there or is too short."""
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
        """Makes sure that the whole file is on disk.

        Raises:
          OSError: the file cannot be opened or synchronised.
        """
        if self._size:
            with open_plain(self._path, 0) as file:
                os.fsync(file.fileno())
