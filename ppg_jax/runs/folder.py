"""The run folder: it is created, locked by one process, and read again."""

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
from ppg_jax.runs.older_runs import add_missing_fields

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

CONFIG, LOCK, METRICS = "config.yaml", ".lock", "metrics.csv"
OBJECT_HEADER = "# The environment was an object"
"""First words of a configuration file whose environment was an object, which no file can store."""
WARM_START = "warm_start.yaml"
"""File that says which run's parameters a run began with; most runs have none."""
SWEEP = "sweep.yaml"
"""File that only the folder of a sweep has, not that of a run."""
_PACKAGES = ("ppg-jax", "jax", "jaxlib", "flax", "optax", "gymnax")


@contextlib.contextmanager
def new_folder(
    folder: Path, config: Config, also: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Creates a run folder, and locks it until the context ends.

    Two processes cannot both create the folder: it is locked before it is checked. On a file system
    without locks, only one of two processes can create ``config.yaml``.

    Args:
      folder: folder to create; if it exists it must be empty.
      config: configuration to write into it.
      also: texts of further files to write, by name.

    Raises:
      ConfigError: the folder is not empty, cannot be created, or another process uses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(folder_lock(folder))
            if not _is_empty(folder):
                raise FileExistsError
            _write_together(folder, also or {}, config)
        except FileExistsError:
            raise _not_empty(folder) from None
        except OSError as error:
            raise ConfigError(f"out: {folder} cannot be created: {error.strerror}") from None
        yield


def _write_together(folder: Path, also: Mapping[str, str], config: Config) -> None:
    """Writes the files of a new folder. Only ``config.yaml`` makes it a run's, so it is the last.

    Raises:
      FileExistsError: another process was faster; its files are unchanged.
      OSError: a file cannot be written.
    """
    written: list[Path] = []
    try:
        for name, text in also.items():
            write_new(folder / name, text)
            written.append(folder / name)
        write_new(folder / CONFIG, _config_text(config, WARM_START in also))
    except OSError:
        for path in written:  # they do not belong to the other process's run
            remove(path)
        raise


def check_new(folder: Path) -> None:
    """Checks early that ``new_folder`` can take a folder, before work that would be lost.

    Raises:
      ConfigError: the folder is not empty.
    """
    with contextlib.suppress(OSError):  # ``new_folder`` says what is wrong
        if folder.is_dir() and not _is_empty(folder):
            raise _not_empty(folder)


def _is_empty(folder: Path) -> bool:
    return all(p.name == LOCK or p.match(TEMPORARY) for p in folder.iterdir())


def _not_empty(folder: Path) -> ConfigError:
    kind, command = ("sweep", "sweep") if (folder / SWEEP).is_file() else ("run", "train")
    begun = (folder / CONFIG).is_file()
    advice = f" (or resume the {kind} in it: ppg-jax {command} --resume {folder})" if begun else ""
    return ConfigError(f"out: {folder} is not empty; name a new folder{advice}")


def write_config(folder: Path, config: Config) -> None:
    """Writes ``config.yaml`` atomically. A file with the same contents is not written again.

    Raises:
      OSError: the file cannot be written.
    """
    file, text = folder / CONFIG, _config_text(config, (folder / WARM_START).is_file())
    if not file.is_file() or read_mapping(file) != yaml.safe_load(text):
        write_whole(file, text)


def _config_text(config: Config, warm_start: bool) -> str:
    also = f", with the options in {WARM_START}" if warm_start else ""
    header = f"# Feed this file back to ppg-jax train{also} to repeat the run.\n"
    if not isinstance(config.env, str):
        header = f"{OBJECT_HEADER}: load_config(this file, env=...) takes it again.\n"
    return header + yaml.safe_dump(config.to_dict(), sort_keys=False)


def folder_config(folder: Path, env: Any = None) -> Config:
    """The configuration of the run in a folder.

    Args:
      folder: run folder.
      env: environment, if the run's environment was an object.

    Raises:
      ConfigError: the folder contains no run, or its configuration is invalid.
    """
    file = folder / CONFIG
    if (folder / SWEEP).is_file():
        raise ConfigError(
            f"DIR: {folder} contains a sweep, not a run; resume it with ppg-jax sweep --resume"
        )
    if not file.is_file():
        raise ConfigError(f"DIR: {folder} is not a run folder: it has no {CONFIG}")
    fields = read_mapping(file)
    was_object = file.read_bytes().startswith(OBJECT_HEADER.encode())
    if env is not None:
        fields["env"] = env
    elif was_object and not str(fields.get("env")).startswith(
        OBJECT
    ):  # written by an older version
        fields["env"] = f"{OBJECT}{fields.get('env')}>"
    try:
        return config_from_dict(add_missing_fields(fields))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Locks a run folder, so that no other process can train in it until the context ends.

    The lock is released when the process ends, even if it is killed. On a file system without
    locks, the folder is not locked. Temporary files that a killed process left are removed.

    Raises:
      ConfigError: another process has the lock, or the folder cannot be written to.
    """
    try:
        lock = open_plain(folder / LOCK, os.O_CREAT)
    except OSError as error:
        raise ConfigError(f"DIR: {folder / LOCK} cannot be opened: {error.strerror}") from None
    with lock:
        if _take_lock(lock, folder):
            for path in folder.glob(TEMPORARY):
                remove(path)
        yield


def _take_lock(lock: BinaryIO, folder: Path) -> bool:
    """Takes the lock. False if the file system has no locks.

    Raises:
      ConfigError: another process has the lock.
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
    """Writes ``summary.json``: the device, package versions, and the given fields."""
    text = json.dumps(machine_facts() | dict(fields), indent=2) + "\n"
    write_whole(folder / "summary.json", text)


def machine_facts() -> dict[str, Any]:
    """Device and package versions, ready for JSON."""
    device = jax.local_devices()[0]
    return {
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }


def write_figure(
    path: Path, figure: Figure, dpi: int, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a figure, with metadata, in the format of the file's suffix.

    Raises:
      OSError: the file cannot be written.
    """
    drawn = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    figure.savefig(drawn, dpi=dpi, format=kind, metadata=dict(metadata or {}))
    write_whole(path, drawn.getvalue())


def finite_or_none(values: np.ndarray) -> list[float | None]:
    """Values for JSON, which has no NaN and no infinity."""
    return [float(x) if np.isfinite(x) else None for x in values]
