"""The parameters and observation statistics on disk, from which a policy can be loaded."""

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
    """Writes the parameters and observation statistics of every seed.

    Existing ones are kept until the new ones are complete.

    Args:
      directory: run folder; the files are written to ``checkpoints/final`` in it.
      state: training states of all seeds, leaves ``[S, ...]``.

    Raises:
      OSError: the files cannot be written.
    """
    final = directory.absolute() / "checkpoints" / FINAL
    new, old = (final.with_name(f"{FINAL}.{kind}") for kind in ("new", "old"))
    arrays = jax.tree.map(np.asarray, _policy_arrays(state))
    try:
        _clear(final)
        save_arrays(new, arrays)
        write_whole(new / DIGEST, json.dumps({"digest": digest_of(arrays)}) + "\n")
    except OSError:
        _clear(final)  # otherwise it fills the disk
        raise
    if final.is_symlink() or final.exists():
        remove(old)
        final.rename(old)
    new.rename(final)
    remove(old)


def _clear(final: Path) -> None:
    """Removes incomplete files of an earlier attempt."""
    for half_written in final.parent.glob(f"{FINAL}.new*"):
        remove(half_written)


def load_parameters(directory: Path, config: Config) -> tuple[Any, Any]:
    """Loads the files of ``save_parameters``, or else the newest complete checkpoint of the run.

    If the files are damaged, a ``RuntimeWarning`` says that the checkpoint is used.

    Args:
      directory: run folder.
      config: configuration of the run.

    Returns:
      Parameters and observation statistics (or None), leaves ``[S, ...]``.

    Raises:
      ConfigError: there are no complete ones.
    """
    final = directory.absolute() / "checkpoints" / FINAL
    reasons = []
    for place in (final, final.with_name(f"{FINAL}.old")):
        if place.exists() or place.is_symlink():
            try:
                arrays = _load(place, config)
                return arrays["params"], arrays["obs_stats"]
            except OSError as error:
                reasons.append(f"{place} cannot be read: {one_line(error)}")
    saved, skipped = Checkpoints(directory).newest(config)
    reasons += skipped
    if saved is None:
        why = f"; {reasons[0]}" if reasons else f": {final} is missing"
        raise ConfigError(f"DIR: {directory} contains no complete parameters{why}")
    if reasons:
        warnings.warn(
            f"{reasons[0]}; the checkpoint of phase {saved.phases} is used instead",
            RuntimeWarning,
            stacklevel=2,
        )
    return saved.state.params, saved.state.obs_stats


def _load(place: Path, config: Config) -> dict[str, Any]:
    def initial(key: jax.Array) -> dict[str, Any]:
        return _policy_arrays(init(config, key))

    keys = jax.random.split(jax.random.key(0), config.seeds)
    found = load_arrays(place, jax.eval_shape(lambda keys: jax.lax.map(initial, keys), keys))
    stored = _stored_digest(place / DIGEST)
    if stored is not None and stored != digest_of(found):
        raise OSError("its contents do not match the stored digest")
    return found


def _stored_digest(file: Path) -> Any:
    """The digest in a file; None if there is no file, as in folders of older versions."""
    if not file.exists() and not file.is_symlink():
        return None
    try:
        return dict(json.loads(read_plain(file, LARGEST_TEXT)))["digest"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def digest_of(arrays: Any) -> str:
    """SHA-256 of a tree of arrays: their names, dtypes, shapes and values."""
    found = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(arrays):
        found.update(f"{jax.tree_util.keystr(path)}{x.dtype}{x.shape}".encode())
        found.update(np.ascontiguousarray(x).tobytes())
    return found.hexdigest()


def _policy_arrays(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "obs_stats": state.obs_stats}
