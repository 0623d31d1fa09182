"""A run from its start: it trains all seeds, shows progress, logs metrics and saves checkpoints."""

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.config import Config, check_config
from ppg_jax.execution import Training, kept_programs
from ppg_jax.runs.checkpoints import Checkpoints
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.folder import WARM_START, check_new, new_folder
from ppg_jax.runs.loggers import Logger
from ppg_jax.runs.options import RunOptions
from ppg_jax.runs.progress import make_display
from ppg_jax.runs.recorder import CheckpointOptions, Recorder
from ppg_jax.runs.result import Result
from ppg_jax.runs.session import Session, first_start, laid_out, resolve, train_from
from ppg_jax.runs.stopping import OnSegment, StopOptions, Stopping
from ppg_jax.runs.together import check_same, check_shared, check_taken, plan_together, together
from ppg_jax.runs.warm_start import WarmStartOptions, take


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
    stop_at_return: float | None = None,
    stop_after: float | str | datetime.timedelta | None = None,
    on_segment: OnSegment | None = None,
    init_from: str | Path | None = None,
    init_from_seed: int | None = None,
    init_optimizer: bool = False,
    init_statistics: bool = True,
) -> Result:
    """Trains every seed of a configuration. The results are the same as those of ``make_train``.

    Seed i starts from ``jax.random.split(jax.random.key(config.seed), seeds)[i]``, which does not
    depend on the number of seeds.

    The first Ctrl-C or SIGTERM ends the run after the current segment (at most a hundredth of the
    run). With ``out`` the state is saved, and ``resume`` continues from it. ``stop_at_return``,
    ``stop_after`` and ``on_segment`` end a run in the same way, and ``Result.stopped`` says why. A
    run does not end when a file cannot be written or a logger fails: see ``Result.problems``.

    After ``ppg_jax.distributed`` the seeds are spread over all processes. The first one decides
    when a run ends, and only it calls ``on_segment``.

    Args:
      config: configuration to train.
      seeds: number of seeds, instead of ``config.seeds``.
      out: folder to write to; it must be new or empty.
      progress: whether to show a progress bar, or lines if there is no terminal.
      console: console for the progress; default: standard output.
      cache: whether to keep the compiled programs of this run in the user's cache folder, for later
        processes. Other programs of this process are not kept there. If a cache folder is already
        set (``JAX_COMPILATION_CACHE_DIR``), nothing changes.
      log: loggers besides ``metrics.csv``: ``jsonl``, ``tensorboard``, ``wandb``, or your own
        objects (``ppg_jax.logging.Logger``).
      checkpoint_every: number of phases between two checkpoints; None: by time only.
      checkpoint_minutes: minutes between two checkpoints; None: by phases only.
      keep: number of newest checkpoints that are kept, besides the one with the best return.
      evaluate_every: number of phases between two evaluations (``Result.evaluations`` and
        ``evaluation.csv``); None: never.
      eval_episodes: number of new episodes of each seed in an evaluation, for each of the
        stochastic and the greedy policy.
      evaluate_on: further environments to evaluate in, as changes by name:
        ``{"long pole": {"env_params": {"length": 1.0}}}``. The changes may also be ``env_kwargs``,
        ``num_levels`` and ``first_level``.
      stop_at_return: the run ends as soon as its mean return is at least this. That is the mean
        over seeds of each seed's mean return in the last tenth of the iterations so far, at least
        one phase. It is never reached as long as some seed has no episode that ended there.
      stop_after: the run ends after the segment that is under way at this wall time, counted from
        this call on, compiling included: seconds, a ``timedelta``, or a text such as ``90s``,
        ``10m`` or ``1h30m``. With this or ``stop_at_return`` a segment is about a thousandth of the
        run.
      on_segment: called after every segment with the run so far, a ``RunSoFar``; True ends the run.
        If it raises an exception, the run ends in order, and then the exception is raised.
      init_from: folder of a run with the same networks; every seed begins with its parameters. All
        else begins anew: environments, random keys, schedules, counters.
      init_from_seed: seed of that run for all seeds; None: seed for seed.
      init_optimizer: whether the optimizers begin with its states too. Then everything comes from
        its newest checkpoint.
      init_statistics: whether the statistics of rewards and observations are taken too, if both
        runs normalise these.

    Returns:
      Metrics, final training states and timings.

    Raises:
      ConfigError: the configuration, ``out`` or another option is invalid.
      ProcessGoneError: another process of the run is gone.
    """
    check_config(config)
    if seeds is not None:
        config = config.replace(seeds=seeds)
    options = RunOptions(
        log,
        CheckpointOptions(checkpoint_every, checkpoint_minutes, keep),
        EvaluationOptions(evaluate_every, eval_episodes, evaluate_on or {}),
        StopOptions.of(stop_at_return, stop_after, on_segment),
    )
    warm = WarmStartOptions.of(init_from, init_from_seed, init_optimizer, init_statistics)
    config = resolve(config)
    options.check(config, out is not None)
    folder = Path(out) if out is not None else None
    training = Training(config.seeds, pace=options.pace(folder is not None))
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(together(folder))
        first, origin = processes.first, dataclasses.asdict(warm) if warm is not None else {}
        check_same("run", config, options.shared | origin, processes)
        stack.enter_context(kept_programs(cache))
        if folder is not None and first:
            check_new(folder)
        taken = take(warm, config) if warm is not None else None
        check_taken(taken, processes)
        display = make_display((console or Console()) if progress and first else None, config)
        plan = laid_out(plan_together(config, training, processes, display.note))
        checkpoints = None
        if folder is not None:
            also = {WARM_START: taken.text} if taken is not None else {}
            if first:
                stack.enter_context(new_folder(folder, plan.config, also))
            check_shared(folder, processes)
            checkpoints = Checkpoints(folder, options.checkpoints.keep, processes)
        stack.enter_context(display)
        own = folder if first else None
        evaluator = options.evaluation.evaluator(plan.config, plan.layout, own, 0, processes)
        recorder = Recorder(
            plan.config, display, folder=own, loggers=log if first else (),
            options=options.checkpoints, checkpoints=checkpoints, evaluator=evaluator, before=None,
            processes=processes,
        )  # fmt: skip
        stopping = Stopping(options.stop, plan.config, processes=processes)
        session = Session(own, display, recorder, stopping, training.pace, processes)
        start = first_start(plan.config, taken, display, processes)
        result = train_from(plan, start, session)
    stopping.raise_error()  # out here: the other processes have ended in order
    return result
