"""The loop over the groups of a sweep: what is there is loaded, what is missing is trained."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ppg_jax.config import Config
from ppg_jax.execution import Ahead
from ppg_jax.runs import METRICS, Display, StoppedError, StopRequest, make_display
from ppg_jax.sweeps.folder import write_figures, write_tables
from ppg_jax.sweeps.groups import Group
from ppg_jax.sweeps.result import SweepResult
from ppg_jax.sweeps.rows import MetricRows
from ppg_jax.sweeps.settings import Setting
from ppg_jax.sweeps.training import Options, Sweep, Trained, load_group, train_group

AHEAD = 2
"""Number of groups whose programs are compiled while another trains. More would fill the memory."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep to train: its configuration, all settings, its folder (or None) and options."""

    config: Config
    settings: Sequence[Setting]
    folder: Path | None
    options: Options

    def result(self, trained: Sequence[Trained], problems: Sequence[str] = ()) -> SweepResult:
        """The result of what is trained so far."""
        found = {number: run for each in trained for number, run in each.results().items()}
        runs = tuple(found.get(setting.number) for setting in self.settings)
        return SweepResult(
            config=self.config,
            settings=[setting.values for setting in self.settings],
            runs=runs,
            compile_seconds=sum(each.compile_seconds for each in trained),
            run_seconds=sum(each.run_seconds for each in trained),
            finished=all(run is not None and run.finished for run in runs),
            problems=tuple(dict.fromkeys(problems)),
        )


def train_all(plan: Plan, groups: Sequence[Group]) -> SweepResult:
    """Trains all groups, or until a stop, and writes the results of the sweep.

    Raises:
      ConfigError: a group cannot be trained. Those before it are saved, if there is a folder.
      StoppedError: a signal came before anything was trained.
    """
    folder, display = plan.folder, make_display(plan.options.console, plan.config)
    rows = MetricRows(folder / METRICS, list(plan.settings[0].values)) if folder else None
    trained: list[Trained] = []
    left: list[Group] = []
    for group in groups:
        loaded = load_group(group, folder) if folder and group.begun else None
        if loaded is None:
            left.append(group)
            continue
        trained.append(loaded)
        if rows:
            rows.begin(group, loaded.metrics, loaded.metrics)
    if trained:
        display.note(f"{len(trained)} of {len(groups)} groups are trained already")
    with Ahead(min(1 + AHEAD, os.cpu_count() or 1)) as ahead:
        sweep = Sweep(folder, rows, plan.options, ahead)
        _train_groups(plan, sweep, left, trained, display)
    problems = [problem for each in trained for problem in each.problems]
    if folder and rows:
        rows.finish()
        problems += [rows.problem] if rows.problem else []
        problems += write_tables(folder, plan.result(trained))
        problems += write_figures(folder, plan.result(trained))
    return plan.result(trained, problems)


def _train_groups(
    plan: Plan, sweep: Sweep, left: Sequence[Group], trained: list[Trained], display: Display
) -> None:
    """Trains the groups that are left, and appends each to those that are trained."""
    total = len(left) + len(trained)
    with StopRequest(display.note) as stop:
        stop.wait_for_segments()
        for place, group in enumerate(left):
            if total > 1:
                _compile_ahead(sweep, left[place : place + 1 + AHEAD], stop)
            if stop.requested and not trained:
                raise StoppedError
            if stop.requested:
                return
            try:
                trained.append(train_group(group, sweep, _headline(group, len(trained), total)))
            except StoppedError:
                if not trained:
                    raise
                return
            if trained[-1].stopped:
                return
            if sweep.directory and place + 1 < len(left):
                write_tables(sweep.directory, plan.result(trained))


def _compile_ahead(sweep: Sweep, groups: Sequence[Group], stop: StopRequest) -> None:
    """Begins to compile groups. One that was begun may continue anywhere, so it is left out."""
    for group in groups:
        if not group.begun and not stop.requested:
            sweep.ahead.begin(group.number, group.replicas, sweep.training(group))


def _headline(group: Group, done: int, total: int) -> str:
    config, common = group.config, group.in_words()
    which = f"group {done + 1} of {total}: " if total > 1 else ""
    count = f"{len(group.settings)} setting" + "s" * (len(group.settings) > 1)
    return (
        f"{which}{common + ': ' if common else ''}{count} x {config.seeds} "
        f"seed{'s' * (config.seeds > 1)} x {config.num_iterations} iterations on {config.env_name}"
    )
