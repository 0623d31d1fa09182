"""Training on disk, by orbax: whole states while a run goes on, and what plays once it is over."""

import dataclasses
import hashlib
import json
import logging
import math
import os
import re
import shutil
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.train import init
from ppg_jax.types import TrainState

FINAL = "final"
PHASES = "phases"
FORMAT = 1
"""Of what is stored; raised when an older package could not be continued from any more."""

VERSION = version("ppg-jax")

Arrays = dict[str, np.ndarray]


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

        _quieten_orbax()
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
        state: TrainState,
        rows: int,
        *,
        mean_return: float,
        run_seconds: float,
        compile_seconds: float,
    ) -> None:
        """Copies a state and begins to write it; an earlier one is waited for.

        Args:
          phases: that it has behind it; what is saved for them already stays.
          state: leaves ``[slots, ...]``, of which the first ``rows`` count.
          rows: how many trainings there are.
          mean_return: by which the best is known; NaN counts as worst.
          run_seconds: so far.
          compile_seconds: so far.

        Raises:
          OSError: this one, or the one before, cannot be written; whole ones stay as they are.
        """
        if phases in self._manager.all_steps():
            return
        arrays = to_arrays(state, rows)
        # One vector: orbax takes a time for each array, and these are many and small.
        packed = np.concatenate([x.reshape(-1).view(np.uint8) for x in arrays.values()])
        about = {
            "format": FORMAT,
            "ppg_jax": VERSION,
            "arrays": [[name, str(x.dtype), list(x.shape)] for name, x in arrays.items()],
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
            raise OSError(_one_line(error)) from error

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          OSError: it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise OSError(_one_line(error)) from error

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
                skipped.append(f"checkpoint of phase {phases} is damaged: {_one_line(error)}")
                continue
            _check_version(self.folder, about)
            state = from_arrays(_unpack(packed, about["arrays"]), config)
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


def to_arrays(state: TrainState, rows: int) -> Arrays:
    """A state's leaves by their paths, copied to the host; random keys as their data."""

    def leaf(x: Any) -> np.ndarray:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        # A copy: on CPU the array would share memory with a buffer that training reuses.
        return np.array(np.asarray(x)[:rows])

    return {_name(path): leaf(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def from_arrays(arrays: Arrays, config: Config) -> TrainState:
    """What ``to_arrays`` took apart.

    Raises:
      ConfigError: these are not the arrays of such a configuration.
    """
    impls: dict[str, Any] = {}

    def like(keys: jax.Array) -> TrainState:
        state = jax.vmap(lambda key: init(config, key))(keys)

        def plain(path: Any, x: Any) -> Any:
            if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return x
            impls[_name(path)] = jax.random.key_impl(x)
            return jax.random.key_data(x)

        return jax.tree_util.tree_map_with_path(plain, state)

    keys = jax.random.split(jax.random.key(0), config.seeds)
    expected = jax.eval_shape(like, keys)

    def leaf(path: Any, x: Any) -> jax.Array:
        name = _name(path)
        found = arrays.get(name)
        if found is None or (found.shape, found.dtype) != (x.shape, x.dtype):
            what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise ConfigError(
                f"DIR: the checkpoint is another configuration's: {name} is {what}, it should be "
                f"{x.dtype}{list(x.shape)}"
            )
        array = jnp.array(found)
        return jax.random.wrap_key_data(array, impl=impls[name]) if name in impls else array

    return jax.tree_util.tree_map_with_path(leaf, expected)


def _name(path: Any) -> str:
    # Orbax makes folders of "/".
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _unpack(packed: np.ndarray, index: list[Any]) -> Arrays:
    """The arrays of a vector of bytes, by their names, types and shapes."""
    arrays, start = {}, 0
    for name, dtype, shape in index:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = packed[start : start + size].view(dtype).reshape(shape)
        start += size
    return arrays


def _quieten_orbax() -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """False for what failed inside orbax: it is raised and told too, without pages of traceback."""
    trace = record.exc_info[2] if record.exc_info else None
    return not any("orbax" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)
    if code:  # tensorstore tells all paths first
        return os.strerror(int(code[1]))
    return text[:300] or type(error).__name__


def save_parameters(directory: Path, state: TrainState) -> None:
    """Writes what is needed to act: parameters and observation statistics of every seed.

    Args:
      directory: of the run; they go to ``checkpoints/final`` in it, instead of what was there.
      state: leaves ``[S, ...]``.

    Raises:
      OSError: they cannot be written.
    """
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(_path(directory), _what_acts(state), force=True)
    except Exception as error:  # orbax and its storage raise many kinds
        raise OSError(_one_line(error)) from error


def load_parameters(directory: Path, config: Config) -> tuple[Any, Any]:
    """What ``save_parameters`` wrote; of a run that was killed, what its newest checkpoint holds.

    Args:
      directory: of the run.
      config: of the run.

    Returns:
      Parameters and observation statistics (or None), leaves ``[S, ...]``.

    Raises:
      ConfigError: there are none, or they are damaged or another configuration's.
    """
    path = _path(directory)
    if not path.is_dir():
        saved = None
        if (path.parent / PHASES).is_dir():
            saved = Checkpoints(directory, 1, read_only=True).newest(config, config.num_phases)
        if saved is None:
            raise ConfigError(f"DIR: {directory} holds no parameters: {path} is missing")
        return saved.state.params, saved.state.obs_stats

    def initial(key: jax.Array) -> dict[str, Any]:
        return _what_acts(init(config, key))

    keys = jax.random.split(jax.random.key(0), config.seeds)
    like = jax.eval_shape(jax.vmap(initial), keys)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like)
    try:
        with _checkpointer() as checkpointer:
            saved = checkpointer.restore(path, like)
    except Exception as error:  # orbax and its storage raise many kinds
        raise ConfigError(f"DIR: {path} cannot be read: {_one_line(error)}") from error
    return saved["params"], saved["obs_stats"]


def _what_acts(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "obs_stats": state.obs_stats}


def _path(directory: Path) -> Path:
    return directory.absolute() / "checkpoints" / FINAL


def _checkpointer() -> Any:
    # Orbax takes seconds to import, which only a run that saves should pay.
    import orbax.checkpoint as ocp

    _quieten_orbax()
    return ocp.StandardCheckpointer()
