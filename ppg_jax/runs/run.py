"""A run from its start: it trains all seeds, shows progress, logs metrics and saves checkpoints."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.config import Config, check_config
from ppg_jax.execution import Training, kept_programs
from ppg_jax.runs.checkpoints import Checkpoints
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.folder import check_new, new_folder
from ppg_jax.runs.loggers import Logger
from ppg_jax.runs.progress import make_display
from ppg_jax.runs.recorder import CheckpointOptions, Recorder, pace_of
from ppg_jax.runs.result import Result
from ppg_jax.runs.session import (
    check_options,
    laid_out,
    resolve,
    seed_keys,
    shared_options,
    train_from,
)
from ppg_jax.runs.together import check_same, check_shared, plan_together, together


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
    """Trains every seed of a configuration. The results are the same as those of ``make_train``.

    Seed i starts from ``jax.random.split(jax.random.key(config.seed), seeds)[i]``, which does not
    depend on the number of seeds.

    The first Ctrl-C or SIGTERM ends the run after the current segment (about a hundredth of the
    run). With ``out`` the state is saved, and ``resume`` continues from it. A run does not end when
    a file cannot be written or a logger fails: see ``Result.problems``.

    After ``ppg_jax.distributed`` the seeds are spread over all processes.

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

    Returns:
      Metrics, final training states and timings.

    Raises:
      ConfigError: the configuration, ``out`` or another option is invalid.
      ProcessGoneError: another process of the run is gone.
    """
    check_config(config)
    if seeds is not None:
        config = config.replace(seeds=seeds)
    options = CheckpointOptions(checkpoint_every, checkpoint_minutes, keep)
    evaluation = EvaluationOptions(evaluate_every, eval_episodes, evaluate_on or {})
    config = resolve(config)
    check_options(config, log, evaluation, out is not None)
    folder = Path(out) if out is not None else None
    training = Training(config.seeds, pace=pace_of(options, evaluate_every, folder is not None))
    shown = (console or Console()) if progress else None
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(together(folder))
        check_same("run", config, shared_options(options, evaluation), processes)
        if not processes.first:
            shown, log = None, ()
        stack.enter_context(kept_programs(cache))
        if folder is not None and processes.first:
            check_new(folder)
        display = make_display(shown, config)
        plan = laid_out(plan_together(config, training, processes, display.note))
        config, layout = plan.config, plan.layout
        checkpoints = None
        if folder is not None:
            if processes.first:
                stack.enter_context(new_folder(folder, config))
            check_shared(folder, processes)
            checkpoints = Checkpoints(folder, options.keep, processes)
        stack.enter_context(display)
        own = folder if processes.first else None
        evaluator = evaluation.evaluator(config, layout, own, 0, processes)
        recorder = Recorder(
            config, display, folder=own, loggers=log, options=options, checkpoints=checkpoints,
            evaluator=evaluator, before=None, processes=processes,
        )  # fmt: skip
        return train_from(plan, seed_keys(config, processes), own, display, recorder, processes)
