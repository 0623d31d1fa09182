"""Arrays on disk, stored by orbax. They are written as a whole and checked before they are read."""

import errno
import logging
import os
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.runs.files import check_plain_tree, sync_folder

LARGEST_TEXT = 1 << 24
"""Largest size of a metadata file that is read, in bytes."""


def checkpointer(*items: str) -> Any:
    """An orbax checkpointer for one tree of arrays, or for several named items.

    It works in the calling thread. The background threads of orbax continue after disk errors and
    would keep the process from exiting.

    Args:
      *items: names of the items; the item ``about`` is JSON, all others are arrays.
    """
    # Orbax takes seconds to import, so it is imported only by runs that save.
    import orbax.checkpoint as ocp

    quieten_orbax()
    arrays, text = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
    if not items:
        return ocp.Checkpointer(arrays())
    handlers = {name: text() if name == "about" else arrays() for name in items}
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers))


def save_arrays(path: Path, tree: Any, about: Mapping[str, Any] | None = None) -> None:
    """Writes a tree of arrays to a folder, with JSON metadata if ``about`` is given.

    Raises:
      OSError: the files cannot be written.
    """
    import orbax.checkpoint as ocp

    args: Any = ocp.args.StandardSave(tree)
    if about is not None:
        args = ocp.args.Composite(state=args, about=ocp.args.JsonSave(dict(about)))
    try:
        with checkpointer(*(("state", "about") if about is not None else ())) as saver:
            saver.save(path, args=args)
    except Exception as error:  # orbax and tensorstore raise many kinds of errors
        raise OSError(one_line(error)) from error
    sync_folder(path.parent)


def load_arrays(path: Path, like: Any) -> Any:
    """Reads a tree of arrays, if they have the expected shapes and dtypes.

    Args:
      path: folder of the arrays.
      like: tree of the expected ``jax.ShapeDtypeStruct``.

    Returns:
      The tree of arrays, on the default device.

    Raises:
      OSError: the arrays cannot be read, or have other shapes or dtypes.
    """
    import orbax.checkpoint as ocp

    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    try:
        _check_sizes(path, like)
        with checkpointer() as reader:
            return reader.restore(path, args=ocp.args.StandardRestore(like))
    except Exception as error:  # orbax and tensorstore raise many kinds of errors
        raise OSError(one_line(error)) from error


def _check_sizes(path: Path, like: Any) -> None:
    """Checks, before any array is read, that files are plain and arrays have the expected sizes.

    A damaged file of a few bytes may declare an array that is larger than the memory.

    Raises:
      OSError: a file is not plain or too large, or an array has another shape, dtype or chunk size.
    """
    import tensorstore

    total_bytes = sum(x.size * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(like))
    check_plain_tree(path, LARGEST_TEXT + 2 * total_bytes)
    for place, x in jax.tree_util.tree_leaves_with_path(like):
        name = jax.tree_util.keystr(place, simple=True, separator=".")
        store = {"driver": "ocdbt", "base": path.as_uri() + "/", "path": name + "/"}
        found = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True).result()
        chunk = found.chunk_layout.read_chunk.shape or ()
        declared = (found.shape, found.dtype.numpy_dtype)
        too_large = any((c or 1) > max(n, 1) for c, n in zip(chunk, x.shape, strict=False))
        if declared != (x.shape, np.dtype(x.dtype)) or too_large:
            raise OSError(
                errno.EINVAL,
                f"{name} is {declared[1]}{list(declared[0])} in chunks of {list(chunk)}, it should "
                f"be {x.dtype}{list(x.shape)}",
            )


def quieten_orbax() -> None:
    """Hides warnings of orbax, and tracebacks of errors that are reported anyway."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(not_of_orbax)


def not_of_orbax(record: logging.LogRecord) -> bool:
    """False for log records of errors inside orbax. These errors are raised and reported anyway."""
    trace = record.exc_info[2] if record.exc_info else None
    return not any("orbax" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace))


def one_line(error: BaseException) -> str:
    """The message of an error, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    if code:  # tensorstore's message begins with many paths
        return os.strerror(int(code[1]))
    return text[:300] or type(error).__name__
