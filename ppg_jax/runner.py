"""A run from the host: compile, train in segments, show, log, save, and go on where one stopped."""

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chex
import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from ppg_jax.backend import kept_programs, lay_out
from ppg_jax.checkpoint import Checkpoints
from ppg_jax.config import Config, check_config
from ppg_jax.continuing import changed_config, where_to_go_on
from ppg_jax.evaluator import Evaluating, with_environment
from ppg_jax.folder import (
    finite_or_none,
    folder_config,
    held,
    new_folder,
    write_config,
    write_figure,
    write_summary,
)
from ppg_jax.interrupts import StopRequest
from ppg_jax.logging import Logger, check_logger
from ppg_jax.parallel import Layout, by_threads, collect, deal
from ppg_jax.parameters import save_parameters
from ppg_jax.progress import Display, make_display
from ppg_jax.recorder import Recorder, Saving
from ppg_jax.report import plot_learning_curve
from ppg_jax.segments import Segment, Start, train_segments
from ppg_jax.summary import (
    MetricArrays,
    final_returns,
    first_bad_iteration,
    to_dataframe,
)
from ppg_jax.train import build
from ppg_jax.types import TrainState
from ppg_jax.views import run_line, seed_rows, table_html

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a run gave.

    Attributes:
      config: resolved: nothing in it depends on the machine or the environment any more.
      metrics: by name, each ``[S, iterations]``.
      state: final states, leaves ``[S, ...]``.
      compile_seconds: tracing and compiling, all programs.
      run_seconds: running them.
      first_bad_iteration: for each seed where its loss first was NaN or infinite, or None.
      finished: False if it was stopped before its last iteration.
      problems: what could not be written or logged, one line each.
      evaluations: a row for each evaluation, seed, policy and set of levels.
    """

    config: Config
    metrics: MetricArrays
    state: TrainState
    compile_seconds: float
    run_seconds: float
    first_bad_iteration: list[int | None]
    finished: bool = True
    problems: tuple[str, ...] = ()
    evaluations: tuple[dict[str, Any], ...] = ()

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of the last tenth of the run for each seed, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps of all seeds over the seconds that the programs ran."""
        return float(self.metrics["env_steps"][:, -1].sum()) / self.run_seconds

    def __repr__(self) -> str:
        done = f"{self.metrics['env_steps'].shape[1]} of {self.config.num_iterations} iterations"
        return run_line("Run", self.config, self.final_returns, done, *self.problems)

    def _repr_html_(self) -> str:
        rows = seed_rows(self.final_returns, self.first_bad_iteration)
        return table_html(repr(self), rows, self.problems)

    def plot(self) -> Figure:
        """The learning curve: mean return with a 95% bootstrap interval over seeds."""
        return plot_learning_curve(self.config, self.metrics)

    def to_dataframe(self) -> "pd.DataFrame":
        """The metrics as a table, one row for each seed and iteration."""
        return to_dataframe(self.metrics)


def run(
    config: Config,
    seeds: int | None = None,
    *,
    out: str | Path | None = None,
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
) -> Result:
    """Trains every seed of a configuration; the same numbers as ``make_train`` gives.

    Seed i starts from ``jax.random.split(jax.random.key(config.seed), seeds)[i]``, which does
    not depend on how many seeds there are.

    A first Ctrl-C or SIGTERM ends the run after the segment that is under way (about a hundredth
    of the run); with ``out`` the state is saved, and ``resume`` goes on from it. What cannot be
    written or logged does not end a run: see ``Result.problems``.

    Args:
      config: what to train.
      seeds: how many, instead of ``config.seeds``.
      out: folder to write to; it must be new or empty.
      progress: show a progress bar (lines, where there is no terminal).
      console: where to show it; default standard output.
      cache: compiled programs are kept in the user's cache folder, for the next process; nothing
        else that this one compiles is. A folder chosen by hand (``JAX_COMPILATION_CACHE_DIR``)
        stays as it is.
      log: where metrics go beside ``metrics.csv``: ``jsonl``, ``tensorboard``, ``wandb``, or
        objects of your own (``ppg_jax.logging.Logger``).
      checkpoint_every: phases between two checkpoints.
      checkpoint_minutes: minutes between two checkpoints.
      keep: how many of the newest checkpoints stay, beside the one with the best return.
      evaluate_every: phases between two evaluations (``Result.evaluations``, and
        ``evaluation.csv``); None: no evaluation.
      eval_episodes: fresh episodes of each seed, each time, stochastic and greedy.
      evaluate_on: other settings of the environment to play too, by what they are called:
        ``{"long pole": {"env_params": {"length": 1.0}}}``; also ``env_kwargs``, ``num_levels`` and
        ``first_level``.

    Returns:
      Metrics, final states and timings.

    Raises:
      ConfigError: something in the configuration, ``out`` or the options will not do.
    """
    check_config(config)
    if seeds is not None:
        config = config.replace(seeds=seeds)
    saving = Saving(checkpoint_every, checkpoint_minutes, keep)
    evaluating = Evaluating(evaluate_every, eval_episodes, evaluate_on or {})
    layout = lay_out(config, config.seeds)
    config = resolve(config, layout)
    _check(config, log, evaluating, out is not None)
    folder = Path(out) if out is not None else None
    shown = (console or Console()) if progress else None
    keys = _seed_keys(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        checkpoints = None
        if folder is not None:
            stack.enter_context(new_folder(folder, config))
            checkpoints = Checkpoints(folder, saving.keep)
        display = stack.enter_context(make_display(shown, config))
        evaluator = evaluating.evaluator(config, layout, folder, 0)
        recorder = Recorder(
            config, display, folder=folder, loggers=log, saving=saving, checkpoints=checkpoints,
            evaluator=evaluator, before=None,
        )  # fmt: skip
        return _train(config, layout, keys, folder, display, recorder)


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
    _check(config, log, evaluating, True)
    shown = (console or Console()) if progress else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        stack.enter_context(held(folder))
        checkpoints = Checkpoints(folder, saving.keep)
        display = stack.enter_context(make_display(shown, config))
        going_on = where_to_go_on(config, folder, checkpoints)
        for line in going_on.notes:
            display.note(line)
        evaluator = evaluating.evaluator(config, layout, folder, going_on.phases)
        # Up to here nothing was changed: whatever is refused leaves the folder as it was.
        checkpoints.clear_half_written()
        checkpoints.set_aside_after(going_on.phases)
        write_config(folder, config)
        recorder = Recorder(
            config, display, folder=folder, loggers=log, saving=saving, checkpoints=checkpoints,
            evaluator=evaluator, before=going_on.metrics,
        )  # fmt: skip
        begin = going_on.start if going_on.start is not None else _seed_keys(config)
        return _train(config, layout, begin, folder, display, recorder)


def _check(
    config: Config, log: Sequence[str | Logger], evaluating: Evaluating, has_folder: bool
) -> None:
    """Finds mistakes in the options before anything is written."""
    for logger in log:
        if isinstance(logger, str):
            check_logger(logger, has_folder)
    for changes in evaluating.elsewhere.values():
        build(with_environment(config, dict(changes)))


def resolve(config: Config, layout: Layout) -> Config:
    """The configuration with every ``auto`` and default replaced by what it means here.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    env, agent = build(config)
    read_as_names = env.observation.categories is not None
    return config.replace(
        network=agent.network,
        observation_scale=None if read_as_names else env.observation.scale,
        strategy=layout.strategy,
        # How many threads there are changes no number, and the next machine may have fewer cores.
        devices=config.devices if by_threads(config) else layout.devices,
        chunk_size=layout.chunk_size if layout.strategy == "chunk" else None,
    )


def _seed_keys(config: Config) -> chex.PRNGKey:
    return jax.random.split(jax.random.key(config.seed), config.seeds)


def _train(
    config: Config,
    layout: Layout,
    start: chex.PRNGKey | Start,
    folder: Path | None,
    display: Display,
    recorder: Recorder,
) -> Result:
    """All segments from the start on, and what stands in the folder at the end."""
    with StopRequest(display.note) as stop:
        display.note(_headline(config, layout))
        if config.e_aux and not config.num_phases:
            display.note(
                f"warning: {config.num_iterations} iterations are less than one phase (n_pi "
                f"{config.n_pi}): no auxiliary phase will run"
            )
        segment = _train_until_stopped(config, layout, start, recorder, stop)
        metrics = recorder.metrics
        result = Result(
            config=config,
            metrics=metrics,
            state=collect(segment.states, layout),
            compile_seconds=segment.compile_seconds,
            run_seconds=segment.run_seconds,
            first_bad_iteration=first_bad_iteration(metrics, config),
            finished=metrics["env_steps"].shape[1] == config.num_iterations,
            evaluations=recorder.evaluations,
        )
        spent = f"compiled in {result.compile_seconds:.1f} s, ran in {result.run_seconds:.1f} s"
        display.note(spent)
        if folder is not None:
            _write_results(folder, result, recorder)
    result = dataclasses.replace(result, problems=tuple(recorder.problems))
    _warn(result)
    return result


def _train_until_stopped(
    config: Config,
    layout: Layout,
    start: chex.PRNGKey | Start,
    recorder: Recorder,
    stop: StopRequest,
) -> Segment:
    """Trains, records every segment, and returns the last one."""
    segment: Segment | None = None
    try:
        pace = dataclasses.replace(recorder.pace, compiled=stop.wait_for_segments)
        for segment in train_segments(
            config, layout, config.hparams, start, shared=True, pace=pace
        ):
            stop.passed(segment.run_seconds)
            recorder.take(segment)
            if stop.requested:
                break
        if segment is not None:
            recorder.save(segment)
    finally:
        recorder.close()
    if isinstance(start, Start) and segment is None:  # it had nothing left to do
        spent = start.compile_seconds, start.run_seconds
        segment = Segment({}, start.phases, True, deal(start.state, layout), *spent)
    assert segment is not None
    return segment


def _headline(config: Config, layout: Layout) -> str:
    algorithm = "PPG" if config.e_aux else "PPO"
    device = jax.devices()[0]
    seeds = f"{config.seeds} seed" + ("s" if config.seeds > 1 else "")
    return (
        f"{algorithm} {config.arch} on {config.env_name}: {seeds} by {layout} x "
        f"{config.num_iterations} iterations of {config.steps_per_iteration:,} steps; compiling "
        f"for {device.device_kind}"
    )


def _warn(result: Result) -> None:
    for seed, iteration in enumerate(result.first_bad_iteration):
        if iteration is not None:
            warnings.warn(
                f"seed {seed}: the loss is NaN or infinite from iteration {iteration} on; the "
                "other seeds are not affected",
                RuntimeWarning,
                stacklevel=4,
            )
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=4)


def _write_results(folder: Path, result: Result, recorder: Recorder) -> None:
    """Summary, curve and what plays; the fields of ``config.yaml`` stand beside them already."""
    summary = {
        "finished": result.finished,
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps": int(result.metrics["env_steps"][:, -1].sum()),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
        "final_episode_return": finite_or_none(result.final_returns),
        "first_bad_iteration": result.first_bad_iteration,
    }
    recorder.guard("summary.json", lambda: write_summary(folder, summary))
    curve = folder / "learning_curve.png"
    recorder.guard(curve.name, lambda: write_figure(curve, result.plot(), dpi=150))
    recorder.guard("parameters", lambda: save_parameters(folder, result.state))
