"""What a run goes on with: which changes it bears, and from which checkpoint."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.config import (
    Config,
    ConfigError,
    config_from_dict,
    flatten,
    merge,
)
from ppg_jax.execution import (
    Start,
    kept_programs,
    lay_out,
)
from ppg_jax.runs.checkpoints import Checkpoints, DamagedError
from ppg_jax.runs.evaluator import Evaluating
from ppg_jax.runs.folder import (
    METRICS,
    folder_config,
    folder_lock,
    write_config,
)
from ppg_jax.runs.loggers import Logger, UnfitMetricsError, read_metrics
from ppg_jax.runs.progress import make_display
from ppg_jax.runs.recorder import Recorder, Saving
from ppg_jax.runs.result import Result
from ppg_jax.runs.session import check_options, resolve, seed_keys, train_from
from ppg_jax.types import MetricArrays

LAYOUT_FIELDS = ("strategy", "chunk_size", "devices")
"""What may differ when a run goes on: where seeds run changes their numbers by rounding at most."""


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """Where a run goes on.

    Attributes:
      start: the state; None: the run begins anew.
      metrics: of what is behind it, ``[S, iterations]``, or None.
      notes: for people, one line each.
    """

    start: Start | None
    metrics: MetricArrays | None
    notes: tuple[str, ...]

    @property
    def phases(self) -> int:
        """Phases behind it."""
        return self.start.phases if self.start else 0


def changed_config(before: Config, changes: dict[str, Any]) -> Config:
    """The configuration with changes that a run can go on with.

    Args:
      before: the run's.
      changes: fields; sections field by field.

    Raises:
      ConfigError: a change is none that a run bears; the line names all of these.
    """
    after = config_from_dict(merge(before.to_dict() | {"env": before.env}, changes))
    _check_same(before.to_dict(), after, "a run goes on as it began; these differ")
    return after


def _check_same(before: Mapping[str, Any], after: Config, what: str) -> None:
    """Whether a run with some fields can go on with a configuration.

    Raises:
      ConfigError: it cannot.
    """
    old, new = flatten(before), flatten(after.to_dict())
    free = (*LAYOUT_FIELDS, "total_timesteps")
    wrong = [
        f"{name} ({old[name]!r} to {new.get(name)!r})"
        for name in sorted(old)  # a field that came with a newer package is in none of them
        if old[name] != new.get(name) and name not in free
    ]
    if wrong:
        raise ConfigError(f"resume: {what}: {', '.join(wrong)}; put them back, or train anew")
    steps, wanted = old.get("total_timesteps", after.total_timesteps), after.total_timesteps
    scheduled = [
        name
        for name, used in (("lr_schedule", True), ("aux_lr_schedule", after.e_aux > 0))
        if used and getattr(after, name) != "constant"
    ]
    if steps != wanted and scheduled:
        raise ConfigError(
            f"total_timesteps: {wanted} is invalid; {' and '.join(scheduled)} depends on it, so "
            f"it stays {steps}"
        )
    if wanted < steps:
        raise ConfigError(
            f"total_timesteps: {wanted} is invalid; the run has {steps}, and a run may only grow"
        )


def starting_point(config: Config, folder: Path, checkpoints: Checkpoints) -> StartingPoint:
    """The newest state that can be gone on from. Nothing is changed.

    Args:
      config: of the run, as it is to be now.
      folder: of the run.
      checkpoints: of the run.

    Raises:
      ConfigError: the configuration is not the one a checkpoint was made with, or there are
        checkpoints and none will do.
    """
    skipped: list[str] = []
    for phases in reversed(checkpoints.phases()):
        try:
            saved = checkpoints.load(config, phases)
            _check_made_with(saved.made_with, config, phases)
            metrics = read_metrics(folder / METRICS, config, phases * config.n_pi)
        except DamagedError as problem:
            _check_made_with(problem.made_with, config, phases)
            skipped.append(f"checkpoint of phase {phases} is damaged: {problem}")
        except UnfitMetricsError as problem:
            skipped.append(f"checkpoint of phase {phases} is passed over: {problem}")
        else:
            notes = [f"warning: {line}" for line in skipped]
            notes.append(f"going on after phase {phases} of {config.num_phases}")
            start = Start(saved.state, phases, saved.compile_seconds, saved.run_seconds)
            return StartingPoint(start, metrics, tuple(notes))
    if skipped:
        raise ConfigError(f"DIR: {checkpoints.folder} holds no whole checkpoint: {skipped[0]}")
    return StartingPoint(None, None, ("no checkpoint yet: from the beginning",))


def _check_made_with(made_with: Mapping[str, Any] | None, config: Config, phases: int) -> None:
    """Whether a checkpoint's own configuration, as far as it says, is the run's.

    Raises:
      ConfigError: it is not.
    """
    if made_with is not None:
        what = f"config.yaml is not what the checkpoint of phase {phases} was made with"
        _check_same(made_with, config, what)
    if phases > config.num_phases:
        raise ConfigError(
            f"total_timesteps: {config.total_timesteps} is invalid; there is a checkpoint of "
            f"phase {phases}, and that makes {config.num_phases}"
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
    **changes: Any,
) -> Result:
    """Goes on with a run that was stopped, killed, or is to be longer.

    On the same device, with the same seeds and strategy, everything comes out bit for bit as if
    the run had never been interrupted. It goes on from the newest whole checkpoint, or from the
    beginning if there is none yet.

    Args:
      directory: the run's folder.
      env: the environment, where it was an object.
      progress: as in ``run``, like the following.
      console: see there.
      cache: see there.
      log: see there.
      checkpoint_every: see there.
      checkpoint_minutes: see there.
      keep: see there.
      evaluate_every: see there.
      eval_episodes: see there.
      evaluate_on: see there.
      **changes: ``total_timesteps``, if no learning rate depends on it; ``strategy``,
        ``chunk_size`` and ``devices``. Others may be given, but must be what they were.

    Returns:
      The whole run: metrics from its first iteration on.

    Raises:
      ConfigError: there is no run, its checkpoint will not do, or a change is none of these.
    """
    folder = Path(directory)
    saving = Saving(checkpoint_every, checkpoint_minutes, keep)
    evaluating = Evaluating(evaluate_every, eval_episodes, evaluate_on or {})
    before = folder_config(folder, env)
    config = changed_config(before, changes)
    layout = lay_out(config, config.seeds)
    config = resolve(config, layout)
    check_options(config, log, evaluating, True)
    shown = (console or Console()) if progress else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        stack.enter_context(folder_lock(folder))
        checkpoints = Checkpoints(folder, saving.keep)
        display = stack.enter_context(make_display(shown, config))
        begin_at = starting_point(config, folder, checkpoints)
        for line in begin_at.notes:
            display.note(line)
        evaluator = evaluating.evaluator(config, layout, folder, begin_at.phases)
        # Up to here nothing was changed: whatever is refused leaves the folder as it was.
        checkpoints.clear_half_written()
        checkpoints.set_aside_after(begin_at.phases)
        write_config(folder, config)
        recorder = Recorder(
            config, display, folder=folder, loggers=log, saving=saving, checkpoints=checkpoints,
            evaluator=evaluator, before=begin_at.metrics,
        )  # fmt: skip
        begin = begin_at.start if begin_at.start is not None else seed_keys(config)
        return train_from(config, layout, begin, folder, display, recorder)
