"""Arrays on disk by orbax: written whole, and read no further than they may reach."""

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
"""Bytes of a description that is read."""


def checkpointer(*items: str) -> Any:
    """What saves and restores: one tree of arrays, or several items of a composite.

    It works in the thread that calls it. Orbax's own background threads survive errors of the disk,
    and keep the process from ending.

    Args:
      *items: names of the composite's items; those called ``about`` are JSON, others arrays.
    """
    # Orbax takes seconds to import, which only a run that saves should pay.
    import orbax.checkpoint as ocp

    quieten_orbax()
    arrays, text = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
    if not items:
        return ocp.Checkpointer(arrays())
    handlers = {name: text() if name == "about" else arrays() for name in items}
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers))


def save_arrays(path: Path, tree: Any, about: Mapping[str, Any] | None = None) -> None:
    """Writes a tree of arrays to a folder, with a description beside it if there is one.

    Raises:
      OSError: it cannot be written.
    """
    import orbax.checkpoint as ocp

    args: Any = ocp.args.StandardSave(tree)
    if about is not None:
        args = ocp.args.Composite(state=args, about=ocp.args.JsonSave(dict(about)))
    try:
        with checkpointer(*(("state", "about") if about is not None else ())) as saver:
            saver.save(path, args=args)
    except Exception as error:  # orbax and its storage raise many kinds
        raise OSError(one_line(error)) from error
    sync_folder(path.parent)


def load_arrays(path: Path, like: Any) -> Any:
    """Reads a tree of arrays, if they are what they should be.

    Args:
      path: of the folder that holds them.
      like: tree of ``jax.ShapeDtypeStruct``.

    Returns:
      The tree, as arrays of the default device.

    Raises:
      OSError: they cannot be read, or have other shapes.
    """
    import orbax.checkpoint as ocp

    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    try:
        _check_claims(path, like)
        with checkpointer() as reader:
            return reader.restore(path, args=ocp.args.StandardRestore(like))
    except Exception as error:  # orbax and its storage raise many kinds
        raise OSError(one_line(error)) from error


def _check_claims(path: Path, like: Any) -> None:
    """Whether files are plain, and arrays as large as they should be, before any is read.

    A few bytes may claim to be more than any memory holds.
    """
    import tensorstore

    in_all = sum(x.size * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(like))
    check_plain_tree(path, LARGEST_TEXT + 2 * in_all)
    for place, x in jax.tree_util.tree_leaves_with_path(like):
        name = jax.tree_util.keystr(place, simple=True, separator=".")
        store = {"driver": "ocdbt", "base": path.as_uri() + "/", "path": name + "/"}
        found = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True).result()
        chunk = found.chunk_layout.read_chunk.shape or ()
        claims = (found.shape, found.dtype.numpy_dtype)
        larger = any((c or 1) > max(n, 1) for c, n in zip(chunk, x.shape, strict=False))
        if claims != (x.shape, np.dtype(x.dtype)) or larger:
            raise OSError(
                errno.EINVAL,
                f"{name} is {claims[1]}{list(claims[0])} in pieces of {list(chunk)}, it should be "
                f"{x.dtype}{list(x.shape)}",
            )


def quieten_orbax() -> None:
    """Keeps its warnings, and tracebacks of what is told anyway, off the screen."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(not_of_orbax)


def not_of_orbax(record: logging.LogRecord) -> bool:
    """False for what failed inside orbax: it is raised and told too, without pages of traceback."""
    trace = record.exc_info[2] if record.exc_info else None
    return not any("orbax" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace))


def one_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    if code:  # tensorstore tells all paths first
        return os.strerror(int(code[1]))
    return text[:300] or type(error).__name__
