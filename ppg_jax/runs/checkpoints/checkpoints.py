"""Checkpoints of a run that goes on: whole training states on disk."""

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
"""Of what is stored; raised when an older package could not be continued from any more."""

VERSION = version("ppg-jax")


class About(pydantic.BaseModel):
    """What stands beside a state: all that is believed of it, and only if it is so.

    Attributes:
      arrays: name, dtype and shape of what is packed.
      run_seconds: that programs had run.
      compile_seconds: that compiling had taken.
      config: what it was made with; None: an older package did not say.
      episode_return: mean over the seeds, by which the best is known; None: no episode ended.
      digest: of everything else, and of the arrays.
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
    """A state that was saved.

    Attributes:
      phases: that it has behind it.
      state: leaves ``[rows, ...]``.
      made_with: fields of its configuration; None: an older package did not say.
      run_seconds: that programs had run.
      compile_seconds: that compiling had taken.
    """

    phases: int
    state: TrainState
    made_with: dict[str, Any] | None
    run_seconds: float
    compile_seconds: float


class DamagedError(Exception):
    """A checkpoint that cannot be gone on from.

    Attributes:
      made_with: fields of the configuration that it says it was made with, if it does.
    """

    def __init__(self, reason: str, made_with: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.made_with = made_with


class Checkpoints:
    """A run's checkpoints: the newest ones, and the one with the best return.

    Files are written in the background. What is half written when the process dies is no
    checkpoint: it gets its name only when it is whole, and a digest tells later damage.

    Args:
      directory: of the run, which this process holds unless nothing is written.
      keep: how many of the newest stay.
    """

    def __init__(self, directory: Path, keep: int = 1) -> None:
        self.folder = directory.absolute() / "checkpoints" / PHASES
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def phases(self) -> list[int]:
        """Phases of which there is a checkpoint, whole or damaged, in order."""
        there = (path.name for path in self.folder.glob("phase_*") if path.is_dir())
        found = (re.fullmatch(r"phase_(0|[1-9][0-9]{0,11})", name) for name in there)
        return sorted(int(match[1]) for match in found if match)

    def path(self, phases: int) -> Path:
        """Folder of a checkpoint."""
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
        """Copies a state and begins to write it; an earlier one is waited for.

        Args:
          config: of the run.
          phases: that the state has behind it; what is saved for them already stays.
          states: leaves ``[some rows, ...]``; of them all the first ``config.seeds`` count.
          mean_return: by which the best is known; NaN counts as worst.
          run_seconds: so far.
          compile_seconds: so far.

        Raises:
          OSError: this one, or the one before, cannot be written; whole ones stay as they are.
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
            self.clear_half_written()  # it fills the disk
            raise
        self._prune(phases)

    def clear_half_written(self) -> None:
        """Removes what was being written when a process died, or a disk was full."""
        for path in self.folder.glob("*tmp*"):
            remove(path)

    def _prune(self, newest: int) -> None:
        """Removes what is not to stay, now that a newer checkpoint is safe."""
        there = self.phases()
        scores = {phases: self._score(phases) for phases in there}
        best = max(there, key=lambda phases: (scores[phases], phases), default=None)
        for phases in there[: -self._keep]:
            if phases != best:
                remove(self.path(phases))
        for path in (self.folder.parent / SET_ASIDE).glob("phase_*"):
            ours = re.fullmatch(r"phase_([0-9]{1,12})(\.[0-9]+)?", path.name)
            if ours and int(ours[1]) <= newest:  # made again by now
                remove(path)

    def _score(self, phases: int) -> float:
        try:
            found = self._about(phases)[0].episode_return
        except DamagedError:
            found = None
        return -math.inf if found is None else found

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          OSError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Ends the writing thread."""
        self._thread.shutdown()

    def _about(self, phases: int) -> tuple[About, dict[str, Any]]:
        """What stands beside a checkpoint, and the same as it was written.

        Raises:
          DamagedError: it is missing, or is no such thing.
        """
        file = self.path(phases) / "about" / "metadata"
        try:
            check_plain_tree(self.path(phases), 1 << 62)
            text = read_plain(file, LARGEST_TEXT)
            raw = json.loads(text)
            _check_version(raw)
            return About.model_validate_json(text), raw
        except OSError as error:
            raise DamagedError(one_line(error)) from None
        except (ValueError, RecursionError):  # pydantic's too
            raise DamagedError("what stands beside it is not what was saved") from None

    def load(self, config: Config, phases: int) -> Saved:
        """A checkpoint.

        Raises:
          DamagedError: it is not what was saved, or another configuration's.
        """
        about, raw = self._about(phases)
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
            raise DamagedError("its contents are not what was saved")
        state = from_arrays(unpack(packed, wanted), config)
        return Saved(phases, state, about.config, about.run_seconds, about.compile_seconds)

    def newest(self, config: Config) -> tuple[Saved | None, list[str]]:
        """The newest whole checkpoint if there is one, and what is wrong with newer ones."""
        skipped: list[str] = []
        for phases in reversed(self.phases()):
            try:
                return self.load(config, phases), skipped
            except DamagedError as problem:
                skipped.append(f"checkpoint of phase {phases} is damaged: {problem}")
        return None, skipped

    def set_aside_after(self, phases: int) -> None:
        """Moves newer checkpoints out of the way; they stay until the run has made them again.

        Raises:
          OSError: that cannot be done.
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
    """Tells damage to a checkpoint, its description included."""
    described = json.dumps(about, sort_keys=True).encode()
    return hashlib.sha256(packed.tobytes() + described).hexdigest()


def _difference(found: list[Any], wanted: list[Any]) -> str:
    """Where two lists of arrays differ, in words."""
    shapes = {name: f"{dtype}{shape}" for name, dtype, shape in found}
    for name, dtype, shape in wanted:
        if shapes.get(name) != f"{dtype}{shape}":
            there = shapes.get(name, "missing")
            return f"{name} is {there}, this configuration's is {dtype}{shape}"
    return "it holds other arrays than this configuration has"


def _check_version(raw: Any) -> None:
    about = raw if isinstance(raw, dict) else {}
    made = about.get("format"), about.get("ppg_jax")
    if isinstance(made[0], int) and isinstance(made[1], str) and made != (FORMAT, VERSION):
        raise DamagedError(
            f"it was written by ppg_jax {made[1][:40]} (format {made[0]}); this is {VERSION} "
            f"(format {FORMAT}), go on with that one"
        )
