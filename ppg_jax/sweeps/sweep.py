"""Sweeps: trains many settings, each with many seeds, by as few programs as possible."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.config import Config, ConfigError, as_path, check_config
from ppg_jax.execution import kept_programs
from ppg_jax.runs import (
    LAYOUT_FIELDS,
    SWEEP,
    CheckpointOptions,
    EvaluationOptions,
    StopOptions,
    changed_config,
    check_alone,
    check_new,
    folder_lock,
    new_folder,
    saved_groups,
    write_whole,
)
from ppg_jax.sweeps.folder import check_storable, spec_text, stored_config, stored_settings
from ppg_jax.sweeps.groups import begun_group, make_groups
from ppg_jax.sweeps.loop import Plan, train_all
from ppg_jax.sweeps.result import SweepResult
from ppg_jax.sweeps.rows import LogFactory
from ppg_jax.sweeps.settings import Setting, Values, checked_settings, make_settings, value_of
from ppg_jax.sweeps.training import Options


def sweep(
    config: Config,
    values: Values,
    seeds: int | None = None,
    *,
    zipped: bool = False,
    draws: int | None = None,
    draw_seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
    log: Sequence[str | LogFactory] = (),
    checkpoint_every: int | None = None,
    checkpoint_minutes: float | None = 5.0,
    keep: int = 2,
    evaluate_every: int | None = None,
    eval_episodes: int = 32,
    evaluate_on: Mapping[str, Mapping[str, Any]] | None = None,
) -> SweepResult:
    """Trains every setting of some fields with every seed.

    Settings that differ only in hyperparameters share one compiled program. All others need a
    program for each combination of their other fields. These groups are trained one after another,
    and the next programs are compiled meanwhile.

    Every setting starts from the same seeds, those of ``ppg_jax.run``, and has the results of the
    run of its own.

    The first Ctrl-C or SIGTERM ends the sweep after the current segment (about a hundredth of the
    group), and the results so far are returned. With ``out`` the state is saved, and
    ``resume_sweep`` continues from it.

    Args:
      config: configuration to train.
      values: for each field, by its name (``learning_rate``, ``hidden_sizes``, ``arch``, ``env``,
        ``env_params.NAME``), a list of its values. With ``draws`` it may also be a range:
        ``{"log": [low, high]}``, ``{"uniform": [low, high]}``, ``{"int": [low, high]}`` or
        ``{"choice": [...]}``.
      seeds: number of seeds, instead of ``config.seeds``.
      zipped: whether the lists are the columns of a table of settings, of equal length. Otherwise
        every combination is a setting, and the last name varies fastest.
      draws: number of settings to draw at random from the values; None: all of them.
      draw_seed: seed of the draws.
      out: folder to write to; it must be new or empty.
      progress: whether to show a progress bar, or lines if there is no terminal.
      console: console for the progress; default: standard output.
      cache: as in ``run``.
      log: loggers besides ``metrics.csv``: names as in ``run``, for which each setting has a folder
        in ``logs``, or functions of a setting's number and configuration that return a logger.
      checkpoint_every: as in ``run``.
      checkpoint_minutes: as in ``run``.
      keep: as in ``run``, for each group.
      evaluate_every: as in ``run``.
      eval_episodes: as in ``run``.
      evaluate_on: as in ``run``.

    Returns:
      The settings and the result of each, in the same order.

    Raises:
      ConfigError: a name, a value, the configuration, ``out`` or another option is invalid.
    """
    check_config(config)
    check_alone("a sweep")
    if seeds is not None:
        config = config.replace(seeds=seeds)
    rows = make_settings(values, zipped=zipped, draws=draws, draw_seed=draw_seed)
    settings = checked_settings(config, rows)
    evaluation = EvaluationOptions(evaluate_every, eval_episodes, evaluate_on or {})
    checkpoints = CheckpointOptions(checkpoint_every, checkpoint_minutes, keep)
    shown = (console or Console()) if progress else None
    options = Options(tuple(log), checkpoints, evaluation, StopOptions(), shown)
    folder = as_path("out", out) if out is not None else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        groups = make_groups(config, settings)
        for group in groups:
            options.check(group.config, folder is not None)
        if folder is not None:
            check_new(folder)
            check_storable(settings)
            drawn = f"draws {draws}, draw_seed {draw_seed}, from {dict(values)}" if draws else ""
            text = spec_text(settings, drawn)
            stack.enter_context(new_folder(folder, config, {SWEEP: text}))
        result = train_all(Plan(config, settings, folder, options), groups)
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return result


def resume_sweep(
    directory: str | Path,
    values: Values | None = None,
    *,
    zipped: bool = False,
    draws: int | None = None,
    draw_seed: int = 0,
    env: Any = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
    log: Sequence[str | LogFactory] = (),
    checkpoint_every: int | None = None,
    checkpoint_minutes: float | None = 5.0,
    keep: int = 2,
    evaluate_every: int | None = None,
    eval_episodes: int = 32,
    evaluate_on: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> SweepResult:
    """Resumes a sweep that was stopped or killed, and adds settings to it.

    Settings that are trained to the end are loaded. Others continue from their newest checkpoint.
    On the same device the results are bit for bit those of a sweep that was never interrupted.

    Args:
      directory: folder of the sweep.
      values: further settings, as in ``sweep``; those that the sweep has already are left out. A
        field that they do not name has the value of the sweep's configuration.
      zipped: as in ``sweep``, for the further settings.
      draws: as in ``sweep``, for the further settings. With the seed and ranges of the sweep, the
        first draws are those that it has already.
      draw_seed: as in ``sweep``.
      env: environment, if the sweep's environment was an object.
      progress: as in ``sweep``.
      console: as in ``sweep``.
      cache: as in ``sweep``.
      log: as in ``sweep``.
      checkpoint_every: as in ``sweep``.
      checkpoint_minutes: as in ``sweep``.
      keep: as in ``sweep``.
      evaluate_every: as in ``sweep``.
      eval_episodes: as in ``sweep``.
      evaluate_on: as in ``sweep``.
      **changes: ``strategy``, ``chunk_size``, ``devices`` and ``devices_per_seed``. Other fields
        may be given too, but only with their old values.

    Returns:
      The result of the whole sweep.

    Raises:
      ConfigError: there is no sweep, its checkpoints are not usable, or an argument is invalid.
    """
    check_alone("a sweep")
    folder = as_path("DIR", directory)
    evaluation = EvaluationOptions(evaluate_every, eval_episodes, evaluate_on or {})
    checkpoints = CheckpointOptions(checkpoint_every, checkpoint_minutes, keep)
    shown = (console or Console()) if progress else None
    options = Options(tuple(log), checkpoints, evaluation, StopOptions(), shown)
    config = _changed(stored_config(folder, env), changes)
    rows = None if values is None else make_settings(
        values, zipped=zipped, draws=draws, draw_seed=draw_seed
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        stack.enter_context(folder_lock(folder))
        before = stored_settings(folder, config)
        settings = before if rows is None else _extended(config, before, rows)
        layout = {name: value for name, value in changes.items() if name in LAYOUT_FIELDS}
        stored = saved_groups(folder, env)
        begun = [begun_group(group, config, settings, layout) for group in stored]
        known = {setting.number for group in begun for setting in group.settings}
        missing = [setting for setting in settings if setting.number not in known]
        first = max((group.number + 1 for group in begun), default=0)
        groups = [*begun, *make_groups(config, missing, first)]
        for group in groups:
            options.check(group.config, True)
        # Nothing in the folder is changed before this line, so an error above leaves it as it was.
        if settings != before:
            write_whole(folder / SWEEP, spec_text(settings))
        result = train_all(Plan(config, settings, folder, options), groups)
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return result


def _changed(before: Config, changes: dict[str, Any]) -> Config:
    """The configuration of a resumed sweep.

    Raises:
      ConfigError: a field changes that must not.
    """
    config = changed_config(before, changes)
    if config.total_timesteps != before.total_timesteps:
        raise ConfigError(
            f"total_timesteps: {config.total_timesteps} is invalid; it should stay "
            f"{before.total_timesteps}, as for the settings that are trained"
        )
    return config


def _extended(
    config: Config, before: Sequence[Setting], rows: Sequence[Mapping[str, Any]]
) -> list[Setting]:
    """The settings of a sweep, and after them those of rows that it does not have yet.

    All get the same names. A field that a setting does not name has the configuration's value.
    """
    added = checked_settings(config, rows, len(before))
    names = dict.fromkeys(name for s in (*before, *added) for name in s.values)
    settings: list[Setting] = []
    for setting in (*before, *added):
        values = {name: value_of(setting.config, name) for name in names}
        if setting.number < len(before) or all(values != other.values for other in settings):
            settings.append(Setting(len(settings), values, setting.config))
    return settings
