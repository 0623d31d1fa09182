"""Reading plain files: never a pipe, a device, or more than was expected."""

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from ppg_jax.config.fields import ConfigError

NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # a pipe is opened at once, and then refused


def as_path(name: str, value: Any) -> Path:
    """A path that a function was given; ``name`` is the argument's.

    Raises:
      ConfigError: it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name}: {value!r} is invalid; it should be a path")
    return Path(value)


def read_plain(path: Path, limit: int) -> bytes:
    """All bytes of a plain file, or of one that a link leads to.

    Args:
      path: of the file.
      limit: bytes that it may have.

    Raises:
      OSError: it cannot be read, is no plain file, or is larger.
    """
    with open(os.open(path, os.O_RDONLY | NO_WAITING), "rb") as file:
        if plain_size(file) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes")
        return file.read(limit)


def plain_size(file: BinaryIO) -> int:
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    return info.st_size
