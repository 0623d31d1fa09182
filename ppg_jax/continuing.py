"""What a run goes on with: which changes it bears, and from which checkpoint."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppg_jax.checkpoint import Checkpoints, DamagedError
from ppg_jax.config import Config, ConfigError, config_from_dict
from ppg_jax.files import merge
from ppg_jax.folder import METRICS
from ppg_jax.groups import flatten
from ppg_jax.logging import UnfitMetricsError, read_metrics
from ppg_jax.segments import Start
from ppg_jax.summary import MetricArrays

LAYOUT_FIELDS = ("strategy", "chunk_size", "devices")
"""What may differ when a run goes on: where seeds run changes their numbers by rounding at most."""


@dataclasses.dataclass(frozen=True)
class GoingOn:
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
            f"total_timesteps: {wanted} will not do; {' and '.join(scheduled)} depends on it, so "
            f"it stays {steps}"
        )
    if wanted < steps:
        raise ConfigError(
            f"total_timesteps: {wanted} will not do; the run has {steps}, and a run may only grow"
        )


def where_to_go_on(config: Config, folder: Path, checkpoints: Checkpoints) -> GoingOn:
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
            return GoingOn(start, metrics, tuple(notes))
    if skipped:
        raise ConfigError(f"DIR: {checkpoints.folder} holds no whole checkpoint: {skipped[0]}")
    return GoingOn(None, None, ("no checkpoint yet: from the beginning",))


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
            f"total_timesteps: {config.total_timesteps} will not do; there is a checkpoint of "
            f"phase {phases}, and that makes {config.num_phases}"
        )
