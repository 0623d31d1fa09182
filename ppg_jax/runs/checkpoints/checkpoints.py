"""Checkpoints of a run: complete training states on disk, from which the run can resume."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.config import Config, read_plain
from ppg_jax.execution import ALONE, Processes
from ppg_jax.runs.checkpoints import parts as in_parts
from ppg_jax.runs.checkpoints.metadata import (
    FORMAT,
    VERSION,
    DamagedError,
    Metadata,
    check_version,
    difference,
    digest,
)
from ppg_jax.runs.checkpoints.packing import (
    Arrays,
    Index,
    from_arrays,
    index_of,
    pack,
    packed_size,
    to_arrays,
    unpack,
)
from ppg_jax.runs.checkpoints.storage import LARGEST_TEXT, load_arrays, one_line, save_arrays
from ppg_jax.runs.files import check_plain_tree, remove
from ppg_jax.types import TrainState

PHASES, SET_ASIDE = "phases", "set_aside"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that was loaded.

    Attributes:
      phases: number of phases before it.
      state: training state of all seeds, leaves ``[S, ...]``, or of the rows that were asked for.
      config: fields of its configuration; None: an older version stored none.
      run_seconds: time for running programs until then.
      compile_seconds: time for compiling until then.
      parts: rows of each process that saved it.
    """

    phases: int
    state: TrainState
    config: dict[str, Any] | None
    run_seconds: float
    compile_seconds: float
    parts: tuple[range, ...]


class Checkpoints:
    """The checkpoints of a run: the newest ones, and the one with the best return.

    Files are written in the background. A checkpoint gets its name only when it is complete, so a
    process that is killed while it writes leaves no incomplete checkpoint. A digest detects later
    damage.

    Args:
      directory: run folder; to write, this process must have locked it.
      keep: number of newest checkpoints that are kept.
      processes: the processes of the run. Each one writes its rows, and must make the same calls of
        ``save``; all else is done by the first.
    """

    def __init__(self, directory: Path, keep: int = 1, processes: Processes = ALONE) -> None:
        self.folder = directory.absolute() / "checkpoints" / PHASES
        self._keep, self._processes = keep, processes
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def phases(self) -> list[int]:
        """Phases that have a checkpoint, complete or damaged, in ascending order."""
        names = (path.name for path in self.folder.glob("phase_*") if path.is_dir())
        found = (re.fullmatch(r"phase_(0|[1-9][0-9]{0,11})", name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def path(self, phases: int) -> Path:
        """Folder of the checkpoint of a phase."""
        return self.folder / f"phase_{phases}"

    def save(
        self,
        config: Config,
        phases: int,
        states: Sequence[TrainState],
        *,
        mean_return: float,
        run_seconds: float,
        compile_seconds: float,
    ) -> None:
        """Copies a state and starts to write it, after the previous one is written.

        Args:
          config: configuration of the run.
          phases: number of phases before the state; an existing checkpoint of them is kept.
          states: states of all batches, leaves ``[batch_size, ...]``; only as many replicas as
            this process has seeds are saved, the rest is padding.
          mean_return: value by which the best checkpoint is chosen; NaN counts as worst.
          run_seconds: time for running programs so far.
          compile_seconds: time for compiling so far.

        Raises:
          OSError: this or the previous checkpoint cannot be written; complete ones are kept.
        """
        rows, path = self._processes.rows(config.seeds), self.path(phases)
        if not self._processes.first:
            self._save_part(path, states, rows)
            return
        self.wait()
        if path.exists():
            return
        packed, index = pack(to_arrays(states, len(rows)))
        about = {
            "format": FORMAT,
            "ppg_jax": VERSION,
            "arrays": [[name, dtype, [config.seeds, *shape[1:]]] for name, dtype, shape in index],
            "run_seconds": run_seconds,
            "compile_seconds": compile_seconds,
            "config": config.to_dict(),
            "episode_return": mean_return if math.isfinite(mean_return) else None,
        }
        self._writing = self._thread.submit(self._write, phases, packed, about)

    def _save_part(self, path: Path, states: Sequence[TrainState], rows: range) -> None:
        """Saves the rows of a process that is not the first."""
        try:
            self.wait()
        except OSError as error:
            in_parts.refuse_part(path, one_line(error), self._processes)
            raise
        if path.exists():
            return
        packed, _ = pack(to_arrays(states, len(rows)))
        self._writing = self._thread.submit(
            in_parts.write_part, path, packed, rows, self._processes
        )

    def _write(self, phases: int, packed: np.ndarray, about: dict[str, Any]) -> None:
        try:
            if self._processes.count > 1:
                in_parts.write_checkpoint(self.path(phases), packed, about, self._processes)
            else:
                about["digest"] = digest(packed, about)
                save_arrays(self.path(phases), {"packed": packed}, about)
        except OSError:
            self.clear_half_written()  # otherwise it fills the disk
            raise
        self._prune(phases)

    def clear_half_written(self) -> None:
        """Removes incomplete files that a killed process or a full disk left."""
        for path in self.folder.glob("*tmp*"):
            remove(path)

    def _prune(self, newest: int) -> None:
        """Removes old checkpoints, now that a newer one is on disk."""
        saved = self.phases()
        scores = {phases: self._score(phases) for phases in saved}
        best = max(saved, key=lambda phases: (scores[phases], phases), default=None)
        for phases in saved[: -self._keep]:
            if phases != best:
                remove(self.path(phases))
        for path in (self.folder.parent / SET_ASIDE).glob("phase_*"):
            match = re.fullmatch(r"phase_([0-9]{1,12})(\.[0-9]+)?", path.name)
            if match and int(match[1]) <= newest:  # the run has made it again
                remove(path)

    def _score(self, phases: int) -> float:
        try:
            found = self._metadata(phases)[0].episode_return
        except DamagedError:
            found = None
        return -math.inf if found is None else found

    def wait(self) -> None:
        """Waits until the last saved checkpoint is on disk.

        Raises:
          OSError: the checkpoint could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Ends the writing thread."""
        self._thread.shutdown()

    def _metadata(self, phases: int) -> tuple[Metadata, dict[str, Any]]:
        """Reads the metadata of a checkpoint.

        Returns:
          The metadata, and the JSON object as it was written.

        Raises:
          DamagedError: the metadata is missing or invalid.
        """
        file = self.path(phases) / "about" / "metadata"
        try:
            check_plain_tree(self.path(phases), 1 << 62)
            text = read_plain(file, LARGEST_TEXT)
            raw = json.loads(text)
            check_version(raw)
            return Metadata.model_validate_json(text), raw
        except OSError as error:
            raise DamagedError(one_line(error)) from None
        except (ValueError, RecursionError):  # errors of pydantic are ValueErrors
            raise DamagedError("its metadata is invalid") from None

    def load(self, config: Config, phases: int, rows: range | None = None) -> Saved:
        """Loads the checkpoint of a phase.

        Args:
          config: configuration of the run.
          phases: number of phases before the checkpoint.
          rows: seeds to load; None: all. The first process checks all others too.

        Raises:
          DamagedError: the checkpoint is damaged, or belongs to another configuration.
        """
        about, raw = self._metadata(phases)
        wanted = index_of(config)
        found = [[name, dtype, list(shape)] for name, dtype, shape in about.arrays]
        if found != wanted:
            raise DamagedError(difference(found, wanted), about.config)
        rows = range(config.seeds) if rows is None else rows
        try:
            if about.parts is None:
                arrays = self._load_whole(phases, wanted, raw)
                arrays = {name: x[rows.start : rows.stop] for name, x in arrays.items()}
            else:
                arrays = self._load_parts(config, phases, about, raw, rows)
        except OSError as error:
            raise DamagedError(one_line(error)) from None
        state = from_arrays(arrays, config)
        spans = [(0, config.seeds, "")] if about.parts is None else about.parts
        written = tuple(range(first, end) for first, end, _ in spans)
        times = about.run_seconds, about.compile_seconds
        return Saved(phases, state, about.config, *times, written)

    def _load_whole(self, phases: int, wanted: Index, raw: dict[str, Any]) -> Arrays:
        like = {"packed": jax.ShapeDtypeStruct((packed_size(wanted),), np.uint8)}
        packed = np.asarray(load_arrays(self.path(phases) / "state", like)["packed"])
        if raw.pop("digest") != digest(packed, raw):
            raise OSError("its contents do not match the stored digest")
        return unpack(packed, wanted)

    def _load_parts(
        self, config: Config, phases: int, about: Metadata, raw: dict[str, Any], rows: range
    ) -> Arrays:
        assert about.parts is not None
        if raw.pop("digest") != in_parts.digest_of(raw):
            raise OSError("its metadata do not match the stored digest")
        if about.parts[-1:] and about.parts[-1][1] != config.seeds:
            raise OSError("its parts do not make up all seeds")
        return in_parts.load_parts(
            self.path(phases),
            about.parts,
            lambda count: index_of(config.replace(seeds=count)),
            rows,
            self._processes.first,
        )

    def newest(self, config: Config) -> tuple[Saved | None, list[str]]:
        """The newest complete checkpoint, or None, and a message for each newer damaged one."""
        skipped: list[str] = []
        for phases in reversed(self.phases()):
            try:
                return self.load(config, phases), skipped
            except DamagedError as problem:
                skipped.append(f"checkpoint of phase {phases} is damaged: {problem}")
        return None, skipped

    def set_aside_after(self, phases: int) -> None:
        """Moves newer checkpoints to another folder, until the run has made them again.

        Raises:
          OSError: a checkpoint cannot be moved.
        """
        aside = self.folder.parent / SET_ASIDE
        for newer in self.phases():
            if newer > phases:
                aside.mkdir(exist_ok=True)
                place, number = aside / f"phase_{newer}", 0
                while place.exists():
                    number += 1
                    place = aside / f"phase_{newer}.{number}"
                self.path(newer).rename(place)
