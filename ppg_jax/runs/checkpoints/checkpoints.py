"""Checkpoints of a run: complete training states on disk, from which the run can resume."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pydantic

from ppg_jax.config import Config, read_plain
from ppg_jax.runs.checkpoints.packing import (
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
FORMAT = 1
"""Version of the file format. It is raised when checkpoints of older versions become unusable."""

VERSION = version("ppg-jax")


class Metadata(pydantic.BaseModel):
    """The JSON metadata stored with a state. It is validated strictly when it is read.

    Attributes:
      format: version of the file format.
      ppg_jax: version of the package that wrote the checkpoint.
      arrays: name, dtype and shape of every packed array.
      run_seconds: time for running programs so far.
      compile_seconds: time for compiling so far.
      config: fields of the configuration; None: an older version stored none.
      episode_return: mean over the seeds, by which the best checkpoint is chosen; None: no episode
        ended.
      digest: SHA-256 of the arrays and of the other metadata.
    """

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    format: int
    ppg_jax: str
    arrays: list[tuple[str, str, list[pydantic.NonNegativeInt]]]
    run_seconds: pydantic.NonNegativeFloat
    compile_seconds: pydantic.NonNegativeFloat
    config: dict[str, Any] | None = None
    episode_return: float | None = None
    digest: str


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that was loaded.

    Attributes:
      phases: number of phases before it.
      state: training state of all seeds, leaves ``[S, ...]``.
      config: fields of its configuration; None: an older version stored none.
      run_seconds: time for running programs until then.
      compile_seconds: time for compiling until then.
    """

    phases: int
    state: TrainState
    config: dict[str, Any] | None
    run_seconds: float
    compile_seconds: float


class DamagedError(Exception):
    """A checkpoint that a run cannot resume from.

    Attributes:
      config: fields of the configuration stored in it, or None.
    """

    def __init__(self, reason: str, config: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.config = config


class Checkpoints:
    """The checkpoints of a run: the newest ones, and the one with the best return.

    Files are written in the background. A checkpoint gets its name only when it is complete, so a
    process that is killed while it writes leaves no incomplete checkpoint. A digest detects later
    damage.

    Args:
      directory: run folder; to write, this process must have locked it.
      keep: number of newest checkpoints that are kept.
    """

    def __init__(self, directory: Path, keep: int = 1) -> None:
        self.folder = directory.absolute() / "checkpoints" / PHASES
        self._keep = keep
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
          states: states of all batches, leaves ``[batch_size, ...]``; only the first
            ``config.seeds`` replicas are saved, the rest is padding.
          mean_return: value by which the best checkpoint is chosen; NaN counts as worst.
          run_seconds: time for running programs so far.
          compile_seconds: time for compiling so far.

        Raises:
          OSError: this or the previous checkpoint cannot be written; complete ones are kept.
        """
        self.wait()
        if self.path(phases).exists():
            return
        packed, index = pack(to_arrays(states, config.seeds))
        about = {
            "format": FORMAT,
            "ppg_jax": VERSION,
            "arrays": index,
            "run_seconds": run_seconds,
            "compile_seconds": compile_seconds,
            "config": config.to_dict(),
            "episode_return": mean_return if math.isfinite(mean_return) else None,
        }
        about["digest"] = _digest(packed, about)
        self._writing = self._thread.submit(self._write, phases, packed, about)

    def _write(self, phases: int, packed: np.ndarray, about: Mapping[str, Any]) -> None:
        try:
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
            _check_version(raw)
            return Metadata.model_validate_json(text), raw
        except OSError as error:
            raise DamagedError(one_line(error)) from None
        except (ValueError, RecursionError):  # errors of pydantic are ValueErrors
            raise DamagedError("its metadata is invalid") from None

    def load(self, config: Config, phases: int) -> Saved:
        """Loads the checkpoint of a phase.

        Raises:
          DamagedError: the checkpoint is damaged, or belongs to another configuration.
        """
        about, raw = self._metadata(phases)
        wanted = index_of(config)
        found = [[name, dtype, list(shape)] for name, dtype, shape in about.arrays]
        if found != wanted:
            raise DamagedError(_difference(found, wanted), about.config)
        size = packed_size(wanted)
        try:
            like = {"packed": jax.ShapeDtypeStruct((size,), np.uint8)}
            packed = np.asarray(load_arrays(self.path(phases) / "state", like)["packed"])
        except OSError as error:
            raise DamagedError(one_line(error)) from None
        if raw.pop("digest") != _digest(packed, raw):
            raise DamagedError("its contents do not match the stored digest")
        state = from_arrays(unpack(packed, wanted), config)
        return Saved(phases, state, about.config, about.run_seconds, about.compile_seconds)

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


def _digest(packed: np.ndarray, about: Mapping[str, Any]) -> str:
    """Digest of a checkpoint and its metadata, which detects damage."""
    described = json.dumps(about, sort_keys=True).encode()
    return hashlib.sha256(packed.tobytes() + described).hexdigest()


def _difference(found: list[Any], wanted: list[Any]) -> str:
    """Message about the first difference between two lists of arrays."""
    shapes = {name: f"{dtype}{shape}" for name, dtype, shape in found}
    for name, dtype, shape in wanted:
        if shapes.get(name) != f"{dtype}{shape}":
            stored = shapes.get(name, "missing")
            return f"{name} is {stored}, but should be {dtype}{shape} for this configuration"
    return "it contains arrays that this configuration does not have"


def _check_version(raw: Any) -> None:
    about = raw if isinstance(raw, dict) else {}
    made = about.get("format"), about.get("ppg_jax")
    if isinstance(made[0], int) and isinstance(made[1], str) and made != (FORMAT, VERSION):
        raise DamagedError(
            f"it was written by ppg_jax {made[1][:40]} (format {made[0]}); this is {VERSION} "
            f"(format {FORMAT}); resume it with the version that wrote it"
        )
