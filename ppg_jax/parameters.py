"""What plays once a run is over: parameters and observation statistics on disk."""

from pathlib import Path
from typing import Any

import jax

from ppg_jax.checkpoint import PHASES, Checkpoints
from ppg_jax.config import Config, ConfigError
from ppg_jax.storage import one_line, quieten_orbax
from ppg_jax.train import init
from ppg_jax.types import TrainState

FINAL = "final"


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
        raise OSError(one_line(error)) from error


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
        raise ConfigError(f"DIR: {path} cannot be read: {one_line(error)}") from error
    return saved["params"], saved["obs_stats"]


def _what_acts(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "obs_stats": state.obs_stats}


def _path(directory: Path) -> Path:
    return directory.absolute() / "checkpoints" / FINAL


def _checkpointer() -> Any:
    # Orbax takes seconds to import, which only a run that saves should pay.
    import orbax.checkpoint as ocp

    quieten_orbax()
    return ocp.StandardCheckpointer()
