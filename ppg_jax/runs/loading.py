"""Loading what was trained from its folder: a run, or one setting of a sweep."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax

from ppg_jax.config import ConfigError, as_path, check_whole
from ppg_jax.report import in_words, run_line
from ppg_jax.runs.checkpoints import load_parameters
from ppg_jax.runs.folder import SWEEP, folder_config
from ppg_jax.runs.saved_run import SavedRun
from ppg_jax.runs.sweep_folder import SavedGroup, best_setting, find_setting, saved_groups
from ppg_jax.types import MetricArrays

Which = int | Literal["best"] | None


@dataclasses.dataclass(frozen=True, repr=False)
class SavedSetting(SavedRun):
    """One setting of a sweep, loaded from the sweep's folder: a run of S seeds.

    Attributes:
      directory: folder of the sweep.
      config: resolved configuration of the setting.
      setting: its number in the sweep.
      values: values of the swept fields, by name.
      group: the files of all settings that were trained with it.
    """

    setting: int
    values: dict[str, Any]
    group: SavedGroup

    @functools.cached_property
    def metrics(self) -> MetricArrays:
        """Metrics by name, each ``[S, iterations]``; as of now, if the sweep is not finished.

        Raises:
          ConfigError: ``metrics.csv`` is missing or damaged.
        """
        part = self.group.part(self.setting)
        return {name: x[part] for name, x in self.group.metrics().items()}

    @functools.cached_property
    def parameters(self) -> tuple[Any, Any]:
        """Parameters and observation statistics (or None) of all seeds, leaves ``[S, ...]``.

        Raises:
          ConfigError: no parameters were saved, or they are damaged.
        """
        part = self.group.part(self.setting)
        with jax.ensure_compile_time_eval():  # the caller may be tracing
            found = load_parameters(self.group.folder, self.group.replicas)
            return jax.tree.map(lambda x: x[part], found)

    @property
    def words(self) -> str:
        """The values as text."""
        return in_words(self.values)

    def __repr__(self) -> str:
        what = f"setting {self.setting} of {self.directory}"
        return run_line("Saved setting", self.config, self._returns_or_nan(), what)


def load_run(directory: str | Path, env: Any = None, *, setting: Which = None) -> SavedRun:
    """Loads a run, or a setting of a sweep, from its folder. It may be stopped, killed or running.

    The parameters are read at once, so that ``policy`` can be traced and still works if the folder
    is changed or removed.

    Args:
      directory: folder of a run or a sweep.
      env: environment, if the run's environment was an object.
      setting: number of a setting of a sweep; ``best`` or None: the one with the highest final
        return (IQM over seeds). The result's ``setting`` is its number.

    Raises:
      ConfigError: there is no run or no such setting, or neither its parameters nor its metrics can
        be read.
    """
    run = open_run(directory, env, setting=setting)
    try:
        _ = run.parameters
    except ConfigError:
        _ = run.metrics  # one of the two is enough to load a run
    return run


def open_run(directory: str | Path, env: Any = None, *, setting: Which = None) -> SavedRun:
    """Like ``load_run``, but the parameters are read when they are first used."""
    folder = as_path("DIR", directory)
    if not (folder / SWEEP).is_file():
        if setting is not None:
            raise ConfigError(f"setting: {folder} contains no sweep; leave the setting out")
        return SavedRun(folder, folder_config(folder, env))
    groups = saved_groups(folder, env)
    number = best_setting(groups) if setting in (None, "best") else setting
    return _opened(folder, find_setting(groups, check_whole("setting", number, 0)), number)


def open_runs(directory: Path) -> list[SavedRun]:
    """The run in a folder, or all settings of a sweep whose training has begun, in their order."""
    if not (directory / SWEEP).is_file():
        return [open_run(directory)]
    groups = saved_groups(directory)
    numbers = sorted(number for group in groups for number in group.settings)
    return [_opened(directory, find_setting(groups, number), number) for number in numbers]


def _opened(folder: Path, group: SavedGroup, number: Any) -> SavedSetting:
    return SavedSetting(folder, group.config_of(number), number, group.settings[number], group)
