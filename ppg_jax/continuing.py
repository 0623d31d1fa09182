"""What a run goes on with: which changes it bears, and from which checkpoint."""

from pathlib import Path
from typing import Any

from ppg_jax.checkpoint import Saved
from ppg_jax.config import Config, ConfigError, config_from_dict
from ppg_jax.files import merge
from ppg_jax.folder import METRICS
from ppg_jax.groups import flatten
from ppg_jax.logging import read_metrics
from ppg_jax.progress import Display
from ppg_jax.segments import Start
from ppg_jax.summary import MetricArrays

LAYOUT_FIELDS = ("strategy", "chunk_size", "devices")
"""What may differ when a run goes on: where seeds run changes their numbers by rounding at most."""


def changed_config(before: Config, changes: dict[str, Any]) -> Config:
    """The configuration with changes that a run can go on with.

    Args:
      before: the run's.
      changes: fields; sections field by field.

    Raises:
      ConfigError: a change is none that a run bears; the line names all of these.
    """
    after = config_from_dict(merge(before.to_dict() | {"env": before.env}, changes))
    old, new = flatten(before.to_dict()), flatten(after.to_dict())
    wrong = [
        f"{name} ({old.get(name)!r} to {new.get(name)!r})"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in (*LAYOUT_FIELDS, "total_timesteps")
    ]
    if wrong:
        raise ConfigError(
            f"resume: a run goes on as it began; these differ: {', '.join(wrong)}; train anew"
        )
    scheduled = [
        name
        for name, used in (("lr_schedule", True), ("aux_lr_schedule", before.e_aux > 0))
        if used and getattr(before, name) != "constant"
    ]
    if before.total_timesteps != after.total_timesteps and scheduled:
        raise ConfigError(
            f"total_timesteps: {after.total_timesteps} will not do; {' and '.join(scheduled)} "
            f"depends on it, so it stays {before.total_timesteps}"
        )
    return after


def where_to_go_on(
    config: Config, folder: Path, saved: Saved | None, display: Display
) -> tuple[Start | None, tuple[MetricArrays, int] | None]:
    """The state to go on from, and the metrics up to there.

    Args:
      config: of the run.
      folder: of the run.
      saved: its newest whole checkpoint, if there is any.
      display: is told what came of it.

    Returns:
      The start, and metrics ``[S, iterations]`` with their bytes in the file; None and None: the
      run begins anew.

    Raises:
      ConfigError: the file with the metrics does not reach that far.
    """
    if saved is None:
        display.note("no checkpoint yet: from the beginning")
        return None, None
    for line in saved.skipped:
        display.note(f"warning: {line}")
    display.note(f"going on after phase {saved.phases} of {config.num_phases}")
    metrics = read_metrics(folder / METRICS, config.seeds, saved.phases * config.n_pi)
    return Start(saved.state, saved.phases, saved.compile_seconds, saved.run_seconds), metrics
