"""The groups of a sweep on disk: settings that one program trains, with their files.

A group is stored like a run whose seeds are its replicas: those of its first setting, then those of
the second, and so on. Instead of ``config.yaml`` it has ``group.yaml``, so that nobody takes it for
a run, whose seeds would share their hyperparameters.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ppg_jax.config import (
    OBJECT,
    Config,
    ConfigError,
    Hyperparams,
    config_from_dict,
    read_mapping,
)
from ppg_jax.report import final_returns, iqm
from ppg_jax.runs.files import write_new
from ppg_jax.runs.folder import METRICS, SWEEP
from ppg_jax.runs.loggers import MetricsFileError, read_metrics
from ppg_jax.types import MetricArrays

GROUPS, GROUP = "groups", "group.yaml"
HYPERPARAMETERS = tuple(field.name for field in dataclasses.fields(Hyperparams))


@dataclasses.dataclass(frozen=True)
class SavedGroup:
    """A group of H settings with S seeds each, in a folder of its own.

    Attributes:
      folder: folder of the group.
      config: resolved configuration, with S seeds and the hyperparameters that no setting changes.
      settings: values of each setting by its number in the sweep, in the order of the replicas.
    """

    folder: Path
    config: Config
    settings: dict[int, dict[str, Any]]

    @property
    def replicas(self) -> Config:
        """The configuration of the group as a run, with H x S seeds."""
        return self.config.replace(seeds=len(self.settings) * self.config.seeds)

    def part(self, setting: int) -> slice:
        """The replicas of a setting."""
        first = list(self.settings).index(setting) * self.config.seeds
        return slice(first, first + self.config.seeds)

    def config_of(self, setting: int) -> Config:
        """The configuration of a setting."""
        values = self.settings[setting]
        hparams = {name: values[name] for name in HYPERPARAMETERS if name in values}
        fields = dataclasses.asdict(self.config.hparams) | hparams
        return self.config.replace(hparams=fields)

    def metrics(self, iterations: int | None = None) -> MetricArrays:
        """Metrics of all replicas, ``[H x S, iterations]``; None: as many as there are.

        Raises:
          MetricsFileError: the file is missing or damaged, or has too few iterations.
        """
        return read_metrics(self.folder / METRICS, self.replicas, iterations)


def write_group(group: SavedGroup) -> None:
    """Creates the folder of a group.

    Raises:
      OSError: it cannot be created, or exists already.
    """
    fields = {
        "settings": [{"number": n, "values": values} for n, values in group.settings.items()],
        "config": group.config.to_dict(),
    }
    group.folder.mkdir(parents=True, exist_ok=True)
    header = "# A part of a sweep: settings that one program trains.\n"
    write_new(group.folder / GROUP, header + yaml.safe_dump(fields, sort_keys=False))


def saved_groups(directory: Path, env: Any = None) -> list[SavedGroup]:
    """The groups in the folder of a sweep, in their order. A group that never began is left out.

    Args:
      directory: folder of the sweep.
      env: environment, if the sweep's environment was an object.

    Raises:
      ConfigError: the folder contains no sweep, or a file is damaged.
    """
    if not (directory / SWEEP).is_file():
        raise ConfigError(f"DIR: {directory} contains no sweep: it has no {SWEEP}")
    found = (directory / GROUPS).glob(f"*/{GROUP}")
    files = {int(f.parent.name): f for f in found if re.fullmatch("[0-9]{3,9}", f.parent.name)}
    return [_read_group(files[number], env) for number in sorted(files)]


def _read_group(file: Path, env: Any) -> SavedGroup:
    fields = read_mapping(file)
    try:
        found = {**fields["config"]}
        if env is not None and str(found.get("env")).startswith(OBJECT):
            found["env"] = env
        settings = {int(row["number"]): dict(row["values"]) for row in fields["settings"]}
        if not settings:
            raise ConfigError("settings: there are none")
        return SavedGroup(file.parent, config_from_dict(found), settings)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file} does not describe a group of a sweep: {error!r}") from None


def find_setting(groups: Sequence[SavedGroup], setting: int) -> SavedGroup:
    """The group of a setting.

    Raises:
      ConfigError: there is no such setting, or its training never began.
    """
    for group in groups:
        if setting in group.settings:
            return group
    known = sorted(n for group in groups for n in group.settings)
    which = f"those that were trained are {_ranges(known)}" if known else "none is trained yet"
    raise ConfigError(f"setting: {setting!r} is invalid; {which}")


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text, such as ``0 to 3, 5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in parts)


def best_setting(groups: Sequence[SavedGroup]) -> int:
    """The setting with the highest final return (IQM over its seeds); of equal ones the first.

    Raises:
      ConfigError: no setting is trained yet, or they play different environments.
    """
    scores: dict[str, dict[int, float]] = {}
    for group in groups:
        for number, score in _scores(group).items():
            scores.setdefault(group.config.env_name, {})[number] = score
    if not scores:
        raise ConfigError("setting: none is trained yet")
    best = {env: _highest(found) for env, found in scores.items()}
    if len(best) > 1:
        each = ", ".join(f"{number} in {env}" for env, number in best.items())
        raise ConfigError(
            f"setting: best is unclear in a sweep over environments; choose one of the best: {each}"
        )
    return next(iter(best.values()))


def _highest(scores: Mapping[int, float]) -> int:
    return min(scores, key=lambda number: (-scores[number], number))


def _scores(group: SavedGroup) -> dict[int, float]:
    """Final return of each setting; minus infinity if no episode ended; empty without metrics."""
    try:
        returns = final_returns(group.metrics())
    except MetricsFileError:
        return {}
    found = {number: returns[group.part(number)] for number in group.settings}
    known = {number: x[np.isfinite(x)] for number, x in found.items()}
    return {number: float(iqm(x)) if x.size else -np.inf for number, x in known.items()}
