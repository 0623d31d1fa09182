"""Reading regular files: never a pipe or a device, and never more bytes than a limit."""

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from ppg_jax.config.fields import ConfigError

NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not block


def as_path(name: str, value: Any) -> Path:
    """Converts an argument to a path.

    Args:
      name: name of the argument, for the message.
      value: the argument.

    Raises:
      ConfigError: the argument is not a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name}: {value!r} is invalid; it should be a path")
    return Path(value)


def read_plain(path: Path, limit: int) -> bytes:
    """All bytes of a regular file, or of one that a link points to.

    Args:
      path: path of the file.
      limit: largest size in bytes.

    Raises:
      OSError: the file cannot be read, is not a regular file, or exceeds the limit.
    """
    with open(os.open(path, os.O_RDONLY | NO_WAITING), "rb") as file:
        size = plain_size(file)
        if size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes")
        # Python allocates what is asked for. A size of 0 may be wrong, as in /proc.
        return file.read(min(limit, max(size, 2**20)))


def plain_size(file: BinaryIO) -> int:
    """Size of a regular file in bytes.

    Raises:
      OSError: the file is not a regular file.
    """
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return info.st_size
