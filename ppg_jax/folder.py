"""A run's folder: made once, held by one process, read back."""

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

from ppg_jax.config import Config, ConfigError
from ppg_jax.files import load_config

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

METRICS = "metrics.csv"
SWEEP = "sweep.yaml"
"""What tells a sweep's folder from a run's."""
_PACKAGES = ("ppg-jax", "jax", "jaxlib", "flax", "optax", "gymnax")


def new_folder(folder: Path, config: Config) -> Path:
    """Makes a run's folder, never one that already holds something.

    Raises:
      ConfigError: it does, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        is_run = (folder / "config.yaml").is_file() and not (folder / SWEEP).exists()
        advice = (
            f" (or go on with the run in it: ppg-jax train --resume {folder})" if is_run else ""
        )
        raise ConfigError(f"out: {folder} already holds something; name a new folder{advice}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
    except OSError as error:
        raise ConfigError(f"out: {folder} cannot be made: {error.strerror}") from None
    return folder


def write_config(folder: Path, config: Config) -> None:
    """``config.yaml``, whole or not at all."""
    header = "# Feed this file back to ppg-jax train to repeat the run.\n"
    if not isinstance(config.env, str):
        header = (
            "# The environment was an object: load_config(this file, env=...) takes it again.\n"
        )
    text = yaml.safe_dump(config.to_dict(), sort_keys=False)
    write_whole(folder / "config.yaml", header + text)


def write_whole(path: Path, text: str) -> None:
    """A file that is never seen half written."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    os.replace(beside, path)


def folder_config(folder: Path, env: Any = None) -> Config:
    """The configuration of the run in a folder.

    Args:
      folder: of the run.
      env: the environment, where it was an object.

    Raises:
      ConfigError: there is no run.
    """
    file = folder / "config.yaml"
    if (folder / SWEEP).is_file():
        raise ConfigError(
            f"DIR: {folder} holds a sweep, not a run; settings.md and sweep.png in it compare its "
            "settings"
        )
    if not file.is_file():
        raise ConfigError(f"DIR: {folder} is no run's folder: it has no config.yaml")
    return load_config(file) if env is None else load_config(file, env=env)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes from training into the same folder meanwhile.

    The lock goes with the process, however that ends. Where file systems know no locks, nothing
    is kept.

    Raises:
      ConfigError: another one does.
    """
    with (folder / ".lock").open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"DIR: {folder} is in use: another process trains there"
                ) from None
            except OSError:
                pass
        yield


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


def finite_or_none(values: np.ndarray) -> list[float | None]:
    """For JSON, which knows no NaN."""
    return [float(x) if np.isfinite(x) else None for x in values]
