"""A run's folder: made once, held by one process, read back."""

import contextlib
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
import yaml
from matplotlib.figure import Figure

from ppg_jax.config import OBJECT, Config, ConfigError, config_from_dict, read_mapping
from ppg_jax.runs.files import TEMPORARY, open_plain, remove, write_new, write_whole
from ppg_jax.runs.older_runs import complete

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

CONFIG, LOCK, METRICS = "config.yaml", ".lock", "metrics.csv"
WAS_OBJECT = "# The environment was an object"
"""How the header of a configuration begins whose environment no file can hold."""
SWEEP = "sweep.yaml"
"""What tells a sweep's folder from a run's."""
_PACKAGES = ("ppg-jax", "jax", "jaxlib", "flax", "optax", "gymnax")


@contextlib.contextmanager
def new_folder(
    folder: Path, config: Config, also: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Makes a run's folder, never one that already holds something, and holds it.

    Nobody can come between the check and the first file: the folder is locked before, and where
    file systems know no locks, of two processes only one can make ``config.yaml``.

    Args:
      folder: to be made; if it is there it must be empty.
      config: to be written into it.
      also: more files for it, by name.

    Raises:
      ConfigError: it holds something, cannot be made, or another process was faster.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder))
            if any(not (p.name == LOCK or p.match(TEMPORARY)) for p in folder.iterdir()):
                raise FileExistsError
            write_new(folder / CONFIG, _config_text(config))
            for name, text in (also or {}).items():
                write_new(folder / name, text)
        except FileExistsError:
            raise _taken(folder) from None
        except OSError as error:
            raise ConfigError(f"out: {folder} cannot be made: {error.strerror}") from None
        yield


def _taken(folder: Path) -> ConfigError:
    is_run = (folder / CONFIG).is_file() and not (folder / SWEEP).exists()
    advice = f" (or go on with the run in it: ppg-jax train --resume {folder})" if is_run else ""
    return ConfigError(f"out: {folder} already holds something; name a new folder{advice}")


def write_config(folder: Path, config: Config) -> None:
    """``config.yaml``, whole or not at all; left alone where it says the same.

    Raises:
      OSError: it cannot be written.
    """
    file, text = folder / CONFIG, _config_text(config)
    if not file.is_file() or read_mapping(file) != yaml.safe_load(text):
        write_whole(file, text)


def _config_text(config: Config) -> str:
    header = "# Feed this file back to ppg-jax train to repeat the run.\n"
    if not isinstance(config.env, str):
        header = f"{WAS_OBJECT}: load_config(this file, env=...) takes it again.\n"
    return header + yaml.safe_dump(config.to_dict(), sort_keys=False)


def folder_config(folder: Path, env: Any = None) -> Config:
    """The configuration of the run in a folder.

    Args:
      folder: of the run.
      env: the environment, where it was an object.

    Raises:
      ConfigError: there is no run.
    """
    file = folder / CONFIG
    if (folder / SWEEP).is_file():
        there = [name for name in ("settings.md", "sweep.png") if (folder / name).is_file()]
        advice = f"; {' and '.join(there)} in it compare its settings" if there else ""
        raise ConfigError(f"DIR: {folder} holds a sweep, not a run{advice}")
    if not file.is_file():
        raise ConfigError(f"DIR: {folder} is no run's folder: it has no {CONFIG}")
    fields = read_mapping(file)
    was_object = file.read_bytes().startswith(WAS_OBJECT.encode())
    if env is not None:
        fields["env"] = env
    elif was_object and not str(fields.get("env")).startswith(OBJECT):  # an older package's
        fields["env"] = f"{OBJECT}{fields.get('env')}>"
    try:
        return config_from_dict(complete(fields))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keeps other processes from training into the same folder meanwhile.

    The lock goes with the process, however that ends. Where file systems know no locks, nothing
    is kept. What a process that died was writing is cleared away.

    Raises:
      ConfigError: another one does, or the folder cannot be written to.
    """
    try:
        lock = open_plain(folder / LOCK, os.O_CREAT)
    except OSError as error:
        raise ConfigError(f"DIR: {folder / LOCK} cannot be opened: {error.strerror}") from None
    with lock:
        if _locked(lock, folder):
            for path in folder.glob(TEMPORARY):
                remove(path)
        yield


def _locked(lock: BinaryIO, folder: Path) -> bool:
    """Whether this process alone has the lock; False where there are no locks.

    Raises:
      ConfigError: another process has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"DIR: {folder} is in use: another process trains there") from None
    except OSError:
        return False
    return True


def write_summary(folder: Path, fields: Mapping[str, Any]) -> None:
    """``summary.json``: the machine, versions, and what the run gave."""
    device = jax.devices()[0]
    machine = {
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
    write_whole(folder / "summary.json", json.dumps(machine | dict(fields), indent=2) + "\n")


def write_figure(
    path: Path, figure: Figure, dpi: int, metadata: Mapping[str, str] | None = None
) -> None:
    """A picture, in the format that its name ends in, with words about it inside.

    Raises:
      OSError: it cannot be written.
    """
    drawn = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    figure.savefig(drawn, dpi=dpi, format=kind, metadata=dict(metadata or {}))
    write_whole(path, drawn.getvalue())


def finite_or_none(values: np.ndarray) -> list[float | None]:
    """For JSON, which knows no NaN."""
    return [float(x) if np.isfinite(x) else None for x in values]
