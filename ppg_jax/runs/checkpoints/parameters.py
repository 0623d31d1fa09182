"""What plays once a run is over: parameters and observation statistics on disk."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.algorithm import init
from ppg_jax.config import Config, ConfigError, read_plain
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.storage import LARGEST_TEXT, load_arrays, one_line, save_arrays
from ppg_jax.runs.files import remove, write_whole
from ppg_jax.types import TrainState

FINAL, DIGEST = "final", "digest.json"


def save_parameters(directory: Path, state: TrainState) -> None:
    """Writes what is needed to act: parameters and observation statistics of every seed.

    What was there stays until the new ones are whole.

    Args:
      directory: of the run; they go to ``checkpoints/final`` in it.
      state: leaves ``[S, ...]``.

    Raises:
      OSError: they cannot be written.
    """
    final = directory.absolute() / "checkpoints" / FINAL
    made, before = (final.with_name(f"{FINAL}.{kind}") for kind in ("new", "old"))
    acting = jax.tree.map(np.asarray, _what_acts(state))
    try:
        _clear(final)
        save_arrays(made, acting)
        write_whole(made / DIGEST, json.dumps({"digest": _digest(acting)}) + "\n")
    except OSError:
        _clear(final)  # it fills the disk
        raise
    if final.is_symlink() or final.exists():
        remove(before)
        final.rename(before)
    made.rename(final)
    remove(before)


def _clear(final: Path) -> None:
    """Removes what was being written beside the parameters."""
    for half_written in final.parent.glob(f"{FINAL}.new*"):
        remove(half_written)


def load_parameters(directory: Path, config: Config) -> tuple[Any, Any]:
    """What ``save_parameters`` wrote; else what the newest whole checkpoint of the run holds.

    A ``RuntimeWarning`` says so where what was written is damaged.

    Args:
      directory: of the run.
      config: of the run.

    Returns:
      Parameters and observation statistics (or None), leaves ``[S, ...]``.

    Raises:
      ConfigError: there are none that are whole.
    """
    final = directory.absolute() / "checkpoints" / FINAL
    reasons = []
    for place in (final, final.with_name(f"{FINAL}.old")):
        if place.exists() or place.is_symlink():
            try:
                acting = _load(place, config)
                return acting["params"], acting["obs_stats"]
            except OSError as error:
                reasons.append(f"{place} cannot be read: {one_line(error)}")
    saved, skipped = Checkpoints(directory).newest(config)
    reasons += skipped
    if saved is None:
        why = f"; {reasons[0]}" if reasons else f": {final} is missing"
        raise ConfigError(f"DIR: {directory} holds no parameters that are whole{why}")
    if reasons:
        warnings.warn(
            f"{reasons[0]}; taken from the checkpoint of phase {saved.phases}",
            RuntimeWarning,
            stacklevel=2,
        )
    return saved.state.params, saved.state.obs_stats


def _load(place: Path, config: Config) -> dict[str, Any]:
    def initial(key: jax.Array) -> dict[str, Any]:
        return _what_acts(init(config, key))

    keys = jax.random.split(jax.random.key(0), config.seeds)
    found = load_arrays(place, jax.eval_shape(jax.vmap(initial), keys))
    said = _said_digest(place / DIGEST)
    if said is not None and said != _digest(found):
        raise OSError("its contents are not what was saved")
    return found


def _said_digest(file: Path) -> Any:
    """What a file says; None where there is none, as in folders of older packages."""
    if not file.exists() and not file.is_symlink():
        return None
    try:
        return dict(json.loads(read_plain(file, LARGEST_TEXT)))["digest"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _digest(acting: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(acting):
        found.update(f"{jax.tree_util.keystr(path)}{x.dtype}{x.shape}".encode())
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def _what_acts(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "obs_stats": state.obs_stats}
