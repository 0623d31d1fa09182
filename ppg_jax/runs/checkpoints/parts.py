"""Checkpoints that several processes write: a part for each, and a last step by the first process.

A part has the rows (seeds) of one process and the form of any other state on disk. The parts are
written to a folder with a temporary name. When all are on disk, the first process adds metadata
with their digests, and gives the folder its name. So a checkpoint is complete or does not exist,
whichever process dies. Any number of processes can read it: each reads the parts that have its
rows.

Orbax can write one array from many processes too. But then every process must wait for all others
inside orbax, which does not end when one of them dies.
"""

import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.execution import Processes
from ppg_jax.runs.checkpoints.packing import Arrays, Index, packed_size, unpack
from ppg_jax.runs.checkpoints.storage import load_arrays, one_line, save_arrays
from ppg_jax.runs.files import sync_folder, write_whole

FORMAT = 2
"""Version of the file format, for a checkpoint in parts."""
Part = tuple[int, int, str]
"""First row, end of the rows, and digest of the arrays."""


def temporary(path: Path) -> Path:
    """Folder in which the parts of a checkpoint are written, before it gets its name."""
    return path.with_name(f"{path.name}.tmp-parts")


def name_of(first: int, end: int) -> str:
    """Name of the folder of a part."""
    return f"rows_{first}_{end}"


def write_part(path: Path, packed: np.ndarray, rows: range, processes: Processes) -> None:
    """Writes the part of this process, and tells the first one whether that has worked.

    Args:
      path: folder of the checkpoint.
      packed: packed arrays of the rows.
      rows: rows of this process.
      processes: the processes of the run; this is not the first.

    Raises:
      OSError: the part cannot be written.
    """
    assert processes.link is not None
    try:
        part = _write(path, packed, rows)
    except OSError as error:
        refuse_part(path, one_line(error), processes)
        raise
    processes.link.send(0, path.name, json.dumps({"part": part}).encode())


def refuse_part(path: Path, reason: str, processes: Processes) -> None:
    """Tells the first process that this one does not write its part."""
    assert processes.link is not None
    told = {"error": f"{reason} (process {processes.index})"}
    processes.link.send(0, path.name, json.dumps(told).encode())


def write_checkpoint(
    path: Path, packed: np.ndarray, about: Mapping[str, Any], processes: Processes
) -> None:
    """Writes the part of the first process, waits for the others, and completes the checkpoint.

    Args:
      path: folder of the checkpoint.
      packed: packed arrays of the rows of the first process.
      about: metadata without ``parts`` and ``digest``, for the state of all rows.
      processes: the processes of the run; this is the first.

    Raises:
      OSError: a part or the metadata cannot be written.
      ProcessGoneError: a process is gone.
    """
    seeds = about["config"]["seeds"]
    own: Callable[[], Any] = lambda: {"part": _write(path, packed, processes.rows(seeds))}  # noqa: E731
    told = [json.loads(x) for x in _gathered(own, path.name, processes)]
    for answer in told:
        if "error" in answer:
            raise OSError(answer["error"])
    described = {**about, "format": FORMAT, "parts": [answer["part"] for answer in told]}
    described["digest"] = digest_of(described)
    made = temporary(path)
    (made / "about").mkdir()
    write_whole(made / "about" / "metadata", json.dumps(described))
    sync_folder(made)
    made.rename(path)
    sync_folder(path.parent)


def _gathered(own: Callable[[], Any], channel: str, processes: Processes) -> list[bytes]:
    """The answers of all processes. The first one waits for all, also if its own part fails."""
    failed: OSError | None = None
    answer: Any = {}
    try:
        answer = own()
    except OSError as error:
        failed = error
    found = processes.gather(json.dumps(answer).encode(), channel)
    if failed is not None:
        raise failed
    return found


def _write(path: Path, packed: np.ndarray, rows: range) -> Part:
    folder = temporary(path)
    place = folder / name_of(rows.start, rows.stop)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(one_line(error)) from None
    if not place.exists():  # an earlier attempt, which failed in another process, may have made it
        save_arrays(place, {"packed": packed})
    return rows.start, rows.stop, hashlib.sha256(packed.tobytes()).hexdigest()


def digest_of(about: Mapping[str, Any]) -> str:
    """Digest of the metadata, which has the digests of the parts."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def load_parts(
    path: Path, parts: list[Part], index: Callable[[int], Index], rows: range, check_all: bool
) -> Arrays:
    """Reads rows from a checkpoint in parts.

    Args:
      path: folder of the checkpoint.
      parts: the parts that its metadata names.
      index: name, dtype and shape of all arrays of a number of rows.
      rows: rows to read.
      check_all: whether parts with other rows are checked too.

    Returns:
      Arrays by name, each ``[rows, ...]``.

    Raises:
      OSError: a part is damaged, or they do not make up the rows.
    """
    if [first for first, _, _ in parts] != [0, *(end for _, end, _ in parts)][:-1]:
        raise OSError(errno.EINVAL, "its parts do not make up all seeds")
    found: list[Arrays] = []
    for first, end, digest in parts:
        here = range(max(first, rows.start), min(end, rows.stop))
        if not here and not check_all:
            continue
        wanted = index(end - first)
        like = {"packed": jax.ShapeDtypeStruct((packed_size(wanted),), np.uint8)}
        packed = np.asarray(load_arrays(path / name_of(first, end), like)["packed"])
        if hashlib.sha256(packed.tobytes()).hexdigest() != digest:
            raise OSError(errno.EINVAL, "its contents do not match the stored digest")
        if here:
            cut = slice(here.start - first, here.stop - first)
            found.append({name: x[cut] for name, x in unpack(packed, wanted).items()})
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
