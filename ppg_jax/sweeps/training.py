"""Training of one group of settings, or loading it if it is there already."""

import contextlib
import dataclasses
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from ppg_jax.algorithm import metric_names
from ppg_jax.config import ConfigError, read_plain
from ppg_jax.execution import Ahead, Plan, Segment, Training, gather, plan_training
from ppg_jax.report import first_bad_iteration
from ppg_jax.runs import (
    EVALUATION,
    Checkpoints,
    Logger,
    Recorder,
    Result,
    RunOptions,
    Session,
    StartingPoint,
    Stopping,
    StopRequest,
    laid_out,
    load_parameters,
    make_display,
    note_storage,
    one_line,
    read_rows,
    save_parameters,
    starting_point,
    train_until_stopped,
    write_group,
    write_summary,
)
from ppg_jax.sweeps.groups import Group
from ppg_jax.sweeps.rows import MetricRows, SettingLoggers
from ppg_jax.types import MetricArrays, TrainState

SUMMARY, LARGEST_SUMMARY = "summary.json", 1 << 20


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """How the groups of a sweep are trained.

    Attributes:
      log: loggers of the settings.
      console: console for the progress; None: no progress is shown.
    """

    log: Sequence[Any]
    console: Console | None = None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Where and how a sweep is trained.

    Attributes:
      directory: folder of the sweep; None: nothing is written.
      rows: its ``metrics.csv``, or None.
      options: how its groups are trained.
      ahead: programs that are compiled ahead.
    """

    directory: Path | None
    rows: MetricRows | None
    options: Options
    ahead: Ahead

    def training(self, group: Group, point: StartingPoint | None = None) -> Training:
        """What the programs of a group depend on, besides its configuration."""
        done, pace = point.done if point else None, self.options.pace(self.directory is not None)
        return Training(group.replicas.seeds, shared=False, done=done, pace=pace)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A group that was trained, or loaded from its folder.

    Attributes:
      group: the group, with the configuration that was trained.
      metrics: metrics by name, each ``[replicas, iterations]``.
      state: final training states, leaves ``[replicas, ...]``; for a loaded group only parameters
        and observation statistics, everything else is None.
      compile_seconds: time for tracing and compiling, as far as training waited for it.
      run_seconds: time for running the programs.
      evaluations: rows of all evaluations, with the number of the replica as their seed.
      problems: files and loggers that failed, one line each.
      stopped: whether a signal came while it was trained.
    """

    group: Group
    metrics: MetricArrays
    state: TrainState
    compile_seconds: float
    run_seconds: float
    evaluations: tuple[dict[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end."""
        return self.metrics["env_steps"].shape[1] == self.group.config.num_iterations

    def results(self) -> dict[int, Result]:
        """The result of each setting, by its number."""
        bad = first_bad_iteration(self.metrics, self.group.config)
        return {
            setting.number: self._result(place, bad)
            for place, setting in enumerate(self.group.settings)
        }

    def _result(self, place: int, bad: Sequence[int | None]) -> Result:
        group, seeds = self.group, self.group.config.seeds
        part = slice(place * seeds, (place + 1) * seeds)
        numbers = range(part.start, part.stop)
        return Result(
            config=group.config_of(group.settings[place]),
            metrics={name: x[part] for name, x in self.metrics.items()},
            state=jax.tree.map(lambda x: x[part], self.state),
            compile_seconds=self.compile_seconds,
            run_seconds=self.run_seconds,
            first_bad_iteration=list(bad[part]),
            finished=self.finished,
            evaluations=tuple(
                row | {"seed": row["seed"] - part.start}
                for row in self.evaluations
                if row["seed"] in numbers
            ),
        )


def train_group(group: Group, sweep: Sweep, words: str) -> Trained:
    """Trains a group from its start or its newest checkpoint, to its end or a stop.

    Args:
      group: group to train.
      sweep: where and how.
      words: what the group is, for the display.

    Raises:
      ConfigError: its checkpoints are not usable, or its memory does not suffice.
      StoppedError: a signal came while its programs were compiled.
    """
    options = sweep.options
    display = make_display(options.console, group.replicas)
    folder = group.stored(sweep.directory).folder if sweep.directory else None
    checkpoints = Checkpoints(folder, options.checkpoints.keep) if folder else None
    with display, StopRequest(display.note) as stop:
        point = StartingPoint(None, None, ())
        if checkpoints and folder and group.begun:
            point = starting_point(group.replicas, folder, checkpoints)
        display.note("; ".join([words, *point.notes]))
        began = time.perf_counter()
        sweep.ahead.finish(group.number)
        waited = time.perf_counter() - began
        plan = laid_out(plan_training(group.replicas, sweep.training(group, point), display.note))
        plan = dataclasses.replace(plan, seconds=plan.seconds + waited)
        group = dataclasses.replace(group, config=plan.config.replace(seeds=group.config.seeds))
        display.note(f"{plan.config.seeds} replicas by {plan.layout}; compiling")
        note_storage(plan.config, display)
        if folder and checkpoints and sweep.directory:
            if not group.begun:
                write_group(group.stored(sweep.directory))
            checkpoints.clear_half_written()
            checkpoints.set_aside_after(point.phases)
        loggers, failed = _loggers(group, sweep, point.metrics)
        evaluation = dataclasses.replace(options.evaluation, settings=len(group.settings))
        recorder = Recorder(
            plan.config, display, folder=folder, loggers=loggers, options=options.checkpoints,
            checkpoints=checkpoints, before=point.metrics, name=group.name_of,
            evaluator=evaluation.evaluator(plan.config, plan.layout, folder, point.phases),
        )  # fmt: skip
        recorder.problems += failed
        start = point.start if point.start is not None else group.keys
        stopping = Stopping(options.stop, plan.config)
        session = Session(folder, display, recorder, stopping, sweep.training(group, point).pace)
        segment = train_until_stopped(plan, start, session, stop, group.hparams)
        done = _finish(group, plan, recorder, segment, folder)
        return dataclasses.replace(done, stopped=stop.requested)


def _finish(
    group: Group, plan: Plan, recorder: Recorder, segment: Segment, folder: Path | None
) -> Trained:
    """The results of a group, which are also written to its folder."""
    evaluations = recorder.evaluations
    if folder is not None and not evaluations:  # perhaps there were some before it was resumed
        with contextlib.suppress(ConfigError):
            evaluations = tuple(read_rows(folder / EVALUATION, group.config.num_phases))
    done = Trained(
        group, recorder.metrics, _to_host(gather(segment.states, plan.layout)),
        segment.compile_seconds, segment.run_seconds, evaluations,
    )  # fmt: skip
    if folder is not None:
        fields = {
            "finished": done.finished,
            "compile_seconds": round(done.compile_seconds, 3),
            "run_seconds": round(done.run_seconds, 3),
        }
        recorder.guard("parameters", lambda: save_parameters(folder, done.state))
        # Last, because it says that all is there.
        if not any(line.startswith("parameters") for line in recorder.problems):
            recorder.guard(SUMMARY, lambda: write_summary(folder, fields))
    name = f"group {group.number}"
    return dataclasses.replace(done, problems=tuple(f"{name}: {x}" for x in recorder.problems))


def load_group(group: Group, directory: Path) -> Trained | None:
    """A group that was trained to the end before; None if something of it is missing.

    Args:
      group: a group whose training has begun.
      directory: folder of the sweep.
    """
    saved = group.stored(directory)
    try:
        summary = json.loads(read_plain(saved.folder / SUMMARY, LARGEST_SUMMARY))
        if not summary["finished"] or not (saved.folder / "checkpoints" / "final").is_dir():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # the parameters are damaged
            params, stats = load_parameters(saved.folder, saved.replicas)
        return Trained(
            group,
            saved.metrics(saved.config.num_iterations),
            _parameters_only(params, stats),
            float(summary["compile_seconds"]),
            float(summary["run_seconds"]),
            tuple(read_rows(saved.folder / EVALUATION, saved.config.num_phases)),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RuntimeWarning):
        return None


def _parameters_only(params: Any, stats: Any) -> TrainState:
    blank: Any = dict.fromkeys(field.name for field in dataclasses.fields(TrainState))
    return TrainState(**blank | {"params": params, "obs_stats": stats})


def _to_host(state: TrainState) -> TrainState:
    """The state in main memory, so that a device has room for the next group."""
    with contextlib.suppress(RuntimeError):  # JAX may have no CPU backend
        return jax.device_put(state, jax.devices("cpu")[0])
    return state


def _loggers(
    group: Group, sweep: Sweep, before: MetricArrays | None
) -> tuple[list[Logger], list[str]]:
    """The loggers of a group, and a line for each that cannot be made."""
    made: list[Logger] = []
    failed = []
    if sweep.rows is not None:
        made.append(sweep.rows.begin(group, metric_names(group.config), before))
    for log in sweep.options.log:
        try:
            made.append(SettingLoggers(group, log, sweep.directory, before))
        except Exception as error:  # for example, a server that cannot be reached
            name = log if isinstance(log, str) else "log"
            failed.append(f"{name}: failed and is not used: {one_line(error)}")
    return made, failed
