"""Checkpoints of a run that goes on: whole training states on disk, by orbax."""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.packing import from_arrays, pack, to_arrays, unpack
from ppg_jax.storage import one_line, quieten_orbax
from ppg_jax.types import TrainState

PHASES = "phases"
FORMAT = 1
"""Of what is stored; raised when an older package could not be continued from any more."""

VERSION = version("ppg-jax")


@dataclasses.dataclass(frozen=True)
class Saved:
    """A state that was saved.

    Attributes:
      phases: that it has behind it.
      state: leaves ``[rows, ...]``.
      run_seconds: that programs had run.
      compile_seconds: that compiling had taken.
      skipped: newer checkpoints that could not be read, one line each.
    """

    phases: int
    state: TrainState
    run_seconds: float
    compile_seconds: float
    skipped: list[str]


class Checkpoints:
    """A run's checkpoints: the newest ones, and the one with the best return.

    Files are written in the background. What is half written when the process dies is no
    checkpoint: orbax gives it its name only when it is whole, and a digest tells later damage.

    Args:
      directory: of the run.
      keep: how many of the newest stay.
      read_only: nothing is written, or cleared away.
    """

    def __init__(self, directory: Path, keep: int, *, read_only: bool = False) -> None:
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        quieten_orbax()
        self._ocp = ocp
        self.folder = directory.absolute() / "checkpoints" / PHASES
        kept = policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep),
                policies.BestN(n=1, get_metric_fn=lambda m: m["episode_return"]),
            ]
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                step_prefix="phase",
                preservation_policy=None if read_only else kept,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            ),
        )

    def save(
        self,
        phases: int,
        states: Sequence[TrainState],
        rows: int,
        *,
        mean_return: float,
        run_seconds: float,
        compile_seconds: float,
    ) -> None:
        """Copies a state and begins to write it; an earlier one is waited for.

        Args:
          phases: that it has behind it; what is saved for them already stays.
          states: leaves ``[some rows, ...]``; of them all the first ``rows`` count.
          rows: how many trainings there are.
          mean_return: by which the best is known; NaN counts as worst.
          run_seconds: so far.
          compile_seconds: so far.

        Raises:
          OSError: this one, or the one before, cannot be written; whole ones stay as they are.
        """
        if phases in self._manager.all_steps():
            return
        packed, index = pack(to_arrays(states, rows))
        about = {
            "format": FORMAT,
            "ppg_jax": VERSION,
            "arrays": index,
            "run_seconds": run_seconds,
            "compile_seconds": compile_seconds,
        }
        about["digest"] = _digest(packed, about)
        args = self._ocp.args
        both = args.Composite(
            state=args.StandardSave({"packed": packed}), about=args.JsonSave(about)
        )
        score = mean_return if np.isfinite(mean_return) else -np.finfo(np.float32).max
        try:
            self._manager.save(phases, args=both, metrics={"episode_return": float(score)})
        except Exception as error:  # orbax and its storage raise many kinds
            self._discard(phases)
            raise OSError(one_line(error)) from error

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          OSError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise OSError(one_line(error)) from error

    def close(self) -> None:
        """Ends the writing threads; what failed before is not raised again."""
        try:
            self._manager.close()
        except Exception as error:
            logging.getLogger(__name__).debug("closing: %s", error)

    def _discard(self, phases: int) -> None:
        """Removes what failed or is not wanted, half written ones with it: they fill the disk."""
        for path in (self.folder / f"phase_{phases}", *self.folder.glob("*tmp*")):
            shutil.rmtree(path, ignore_errors=True)

    def newest(self, config: Config, limit: int) -> Saved | None:
        """The newest whole checkpoint of at most ``limit`` phases, or None.

        Raises:
          ConfigError: it belongs to another version of the package, or to another configuration.
        """
        args = self._ocp.args
        wanted = args.Composite(state=args.StandardRestore(), about=args.JsonRestore())
        skipped: list[str] = []
        for phases in sorted(self._manager.all_steps(), reverse=True):
            if phases > limit:
                continue
            try:
                found = self._manager.restore(phases, args=wanted)
                about, packed = found["about"], np.asarray(found["state"]["packed"])
                same_format = about["format"] == FORMAT
                if same_format and about.pop("digest") != _digest(packed, about):
                    raise ValueError("its contents are not what was saved")
            except Exception as error:
                skipped.append(f"checkpoint of phase {phases} is damaged: {one_line(error)}")
                continue
            _check_version(self.folder, about)
            state = from_arrays(unpack(packed, about["arrays"]), config)
            return Saved(phases, state, about["run_seconds"], about["compile_seconds"], skipped)
        if skipped:
            raise ConfigError(f"DIR: {self.folder} holds no whole checkpoint: {skipped[0]}")
        return None

    def forget_after(self, phases: int) -> None:
        """Deletes newer checkpoints than this one: damaged, or of a longer run."""
        for newer in self._manager.all_steps():
            if newer > phases:
                self._manager.delete(newer)
                self._discard(newer)


def _digest(packed: np.ndarray, about: dict[str, Any]) -> str:
    """Tells damage to a checkpoint, its description included."""
    described = json.dumps(about, sort_keys=True).encode()
    return hashlib.sha256(packed.tobytes() + described).hexdigest()


def _check_version(folder: Path, about: dict[str, Any]) -> None:
    if (about.get("format"), about.get("ppg_jax")) != (FORMAT, VERSION):
        raise ConfigError(
            f"DIR: {folder} was written by ppg_jax {about.get('ppg_jax')} (format "
            f"{about.get('format')}); this is {VERSION} (format {FORMAT}), go on with that one"
        )
