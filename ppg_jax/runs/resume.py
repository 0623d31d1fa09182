"""Resuming a run: the configuration changes it allows, and the checkpoint it starts from."""

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError, config_from_dict, flatten, merge
from ppg_jax.envs import live_outside
from ppg_jax.execution import ALONE, Processes, Start, Training, kept_programs
from ppg_jax.runs.checkpoints import Checkpoints, DamagedError
from ppg_jax.runs.devices import fewer_devices
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.folder import METRICS, folder_config, folder_lock, write_config
from ppg_jax.runs.loggers import Logger, MetricsFileError, read_metrics
from ppg_jax.runs.options import RunOptions
from ppg_jax.runs.progress import make_display
from ppg_jax.runs.recorder import CheckpointOptions, Recorder
from ppg_jax.runs.result import Result
from ppg_jax.runs.session import Session, first_start, laid_out, resolve, train_from
from ppg_jax.runs.stopping import OnSegment, StopOptions, Stopping
from ppg_jax.runs.together import check_same, moved, note_all, plan_together, together
from ppg_jax.runs.warm_start import take_again
from ppg_jax.types import MetricArrays

LAYOUT_FIELDS = ("strategy", "chunk_size", "devices", "devices_per_seed")
"""Fields that may change when a run is resumed. They change results by rounding errors at most."""


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """The point at which a run resumes.

    Attributes:
      start: state to resume from; None: the run starts from the beginning.
      metrics: metrics of the run up to this point, each ``[S, iterations]``, or None.
      notes: messages for the user, one line each.
    """

    start: Start | None
    metrics: MetricArrays | None
    notes: tuple[str, ...]

    @property
    def phases(self) -> int:
        """Number of phases before this point."""
        return self.done or 0

    @property
    def done(self) -> int | None:
        """Number of phases before this point; None: the run starts from the beginning."""
        return self.start.phases if self.start else None


def changed_config(before: Config, changes: dict[str, Any]) -> Config:
    """The configuration of a resumed run.

    Args:
      before: configuration of the run so far.
      changes: changed fields; a section may give only some of its fields.

    Returns:
      The configuration with the changes.

    Raises:
      ConfigError: a change is not allowed; the message names all such fields.
    """
    before = before.replace(env_groups=before.groups)  # unset in runs of older versions
    after = config_from_dict(merge(before.to_dict() | {"env": before.env}, changes))
    _check_same(before.to_dict(), after, "these fields cannot change")
    return after


def _check_same(before: Mapping[str, Any], after: Config, message: str) -> None:
    """Checks that a run with the fields ``before`` can resume with the configuration ``after``.

    Args:
      before: fields of the run so far.
      after: configuration to resume with.
      message: first words of the error message if fields differ.

    Raises:
      ConfigError: fields that must not change differ, or ``total_timesteps`` is invalid.
    """
    old, new = flatten(before), flatten(after.to_dict())
    free = (*LAYOUT_FIELDS, "total_timesteps")
    wrong = [
        f"{name} ({old[name]!r} to {new.get(name)!r})"
        for name in sorted(old)  # fields of newer versions are not in it
        if old[name] != new.get(name) and name not in free
    ]
    if wrong:
        raise ConfigError(
            f"resume: {message}: {', '.join(wrong)}; change them back, or start a new run"
        )
    steps, wanted = old.get("total_timesteps", after.total_timesteps), after.total_timesteps
    scheduled = [
        name
        for name, used in (("lr_schedule", True), ("aux_lr_schedule", after.e_aux > 0))
        if used and getattr(after, name) != "constant"
    ]
    if steps != wanted and scheduled:
        raise ConfigError(
            f"total_timesteps: {wanted} is invalid; it should stay {steps}, because it determines "
            f"{' and '.join(scheduled)}"
        )
    if wanted < steps:
        raise ConfigError(
            f"total_timesteps: {wanted} is invalid; it should be at least {steps}, the run's own"
        )


def starting_point(
    config: Config, folder: Path, checkpoints: Checkpoints, processes: Processes = ALONE
) -> StartingPoint:
    """Finds the newest checkpoint that the run can resume from. No file is changed.

    If there are several processes, the first one chooses, and each one loads its seeds.

    Args:
      config: configuration to resume with.
      folder: run folder.
      checkpoints: checkpoints of the run.
      processes: the processes of the run.

    Raises:
      ConfigError: a checkpoint was saved with a different configuration, or there are checkpoints
        but none is usable.
    """
    if processes.first:
        point = _newest_usable(config, folder, checkpoints, processes)
        processes.from_first(point.done)
        return point
    phases = processes.from_first(None)
    if phases is None:
        return StartingPoint(None, None, ())
    try:
        saved = checkpoints.load(config, phases, processes.rows(config.seeds))
    except DamagedError as problem:
        raise ConfigError(
            f"DIR: checkpoint of phase {phases} cannot be read here: {problem}"
        ) from None
    metrics = read_metrics(folder / METRICS, config, phases * config.n_pi)
    start = Start(saved.state, phases, saved.compile_seconds, saved.run_seconds)
    return StartingPoint(start, metrics, ())


def _newest_usable(
    config: Config, folder: Path, checkpoints: Checkpoints, processes: Processes
) -> StartingPoint:
    skipped: list[str] = []
    for phases in reversed(checkpoints.phases()):
        try:
            saved = checkpoints.load(config, phases, processes.rows(config.seeds))
            _check_saved_config(saved.config, config, phases)
            metrics = read_metrics(folder / METRICS, config, phases * config.n_pi)
        except DamagedError as problem:
            _check_saved_config(problem.config, config, phases)
            skipped.append(f"checkpoint of phase {phases} is damaged: {problem}")
        except MetricsFileError as problem:
            skipped.append(f"checkpoint of phase {phases} is skipped: {problem}")
        else:
            notes = [f"warning: {line}" for line in skipped]
            notes.append(f"resuming after phase {phases} of {config.num_phases}")
            if line := moved(list(saved.parts), processes, config.seeds):
                notes.append(line)
            goes_on = phases < config.num_phases or config.num_tail_iterations
            if goes_on and live_outside(build(config).env):
                notes.append(f"new episodes begin: those of {config.env_name} cannot be saved")
            start = Start(saved.state, phases, saved.compile_seconds, saved.run_seconds)
            return StartingPoint(start, metrics, tuple(notes))
    if skipped:
        raise ConfigError(f"DIR: {checkpoints.folder} contains no usable checkpoint: {skipped[0]}")
    return StartingPoint(None, None, ("no checkpoint yet: training starts from the beginning",))


def _check_saved_config(
    saved_config: Mapping[str, Any] | None, config: Config, phases: int
) -> None:
    """Checks that a checkpoint was saved with the configuration of the run.

    Args:
      saved_config: fields stored in the checkpoint; None: an older version stored none.
      config: configuration of the run.
      phases: number of phases of the checkpoint.

    Raises:
      ConfigError: it was saved with a different configuration, or after more phases than
        ``total_timesteps`` allows.
    """
    if saved_config is not None:
        message = f"config.yaml differs from the configuration of the checkpoint of phase {phases}"
        _check_same(saved_config, config, message)
    if phases > config.num_phases:
        raise ConfigError(
            f"total_timesteps: {config.total_timesteps} is invalid; it gives {config.num_phases} "
            f"phases, but there is a checkpoint of phase {phases}"
        )


def resume(
    directory: str | Path,
    *,
    env: Any = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
    log: Sequence[str | Logger] = (),
    checkpoint_every: int | None = None,
    checkpoint_minutes: float | None = 5.0,
    keep: int = 2,
    evaluate_every: int | None = None,
    eval_episodes: int = 32,
    evaluate_on: Mapping[str, Mapping[str, Any]] | None = None,
    stop_at_return: float | None = None,
    stop_after: float | str | datetime.timedelta | None = None,
    on_segment: OnSegment | None = None,
    **changes: Any,
) -> Result:
    """Resumes a run that was stopped or killed, or makes a finished run longer.

    The run resumes from the newest usable checkpoint, or from the beginning if there is none yet.
    On the same device, with the same seeds and strategy, the results are bit for bit those of a run
    that was never interrupted. Environments that live outside of the program (Procgen) cannot be
    saved: there new episodes begin.

    If there are fewer devices than before, those that are there are used, and a line says so.

    Args:
      directory: run folder.
      env: environment, if the run's environment was an object.
      progress: as in ``run``.
      console: as in ``run``.
      cache: as in ``run``.
      log: as in ``run``.
      checkpoint_every: as in ``run``.
      checkpoint_minutes: as in ``run``.
      keep: as in ``run``.
      evaluate_every: as in ``run``.
      eval_episodes: as in ``run``.
      evaluate_on: as in ``run``.
      stop_at_return: as in ``run``. A run that has reached it before is not trained further.
      stop_after: as in ``run``, counted from this call on; at least one segment is trained.
      on_segment: as in ``run``; it sees the run from its first iteration on.
      **changes: ``strategy``, ``chunk_size``, ``devices``, ``devices_per_seed``, and
        ``total_timesteps`` if no learning rate depends on it. Other fields may be given too, but
        only with their old values.

    Returns:
      The result of the whole run, with metrics from its first iteration on.

    Raises:
      ConfigError: there is no run, its checkpoints are not usable, or a change is not allowed.
      ProcessGoneError: another process of the run is gone.
    """
    folder = Path(directory)
    options = RunOptions(
        log,
        CheckpointOptions(checkpoint_every, checkpoint_minutes, keep),
        EvaluationOptions(evaluate_every, eval_episodes, evaluate_on or {}),
        StopOptions.of(stop_at_return, stop_after, on_segment),
    )
    before = folder_config(folder, env)
    fewer = fewer_devices(before, changes)
    config = resolve(changed_config(before, fewer.changes | changes))
    options.check(config, True)
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(together(folder))
        asked = {name: changes.get(name) for name in LAYOUT_FIELDS}  # the rest may differ
        check_same("resume", config, options.shared | asked, processes)
        first, own = processes.first, folder if processes.first else None
        stack.enter_context(kept_programs(cache))
        if first:
            stack.enter_context(folder_lock(folder))
        checkpoints = Checkpoints(folder, options.checkpoints.keep, processes)
        display = make_display((console or Console()) if progress and first else None, config)
        stack.enter_context(display)
        note_all(fewer.notes, display.note, processes)
        point = starting_point(config, folder, checkpoints, processes)
        for line in point.notes:
            display.note(line)
        start: Any = point.start
        if start is None:
            start = first_start(config, take_again(folder, config), display, processes)
        training = Training(config.seeds, done=point.done, pace=options.pace(True))
        plan = laid_out(plan_together(config, training, processes, display.note))
        evaluator = options.evaluation.evaluator(
            plan.config, plan.layout, own, point.phases, processes
        )
        processes.wait()
        # Nothing in the folder is changed before this line, so an error above leaves it as it was.
        if first:
            checkpoints.clear_half_written()
            checkpoints.set_aside_after(point.phases)
            write_config(folder, plan.config)
        processes.wait()
        recorder = Recorder(
            plan.config, display, folder=own, loggers=log if first else (),
            options=options.checkpoints, checkpoints=checkpoints, evaluator=evaluator,
            before=point.metrics, processes=processes,
        )  # fmt: skip
        stopping = Stopping(options.stop, plan.config, point.metrics, processes)
        session = Session(own, display, recorder, stopping, training.pace, processes)
        result = train_from(plan, start, session)
    stopping.raise_error()  # out here: the other processes have ended in order
    return result
