"""A run from the host: compile, train in segments, show, log, save, and go on where one stopped."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ppg_jax.config import Config, check_config
from ppg_jax.execution import (
    kept_programs,
    lay_out,
)
from ppg_jax.runs.checkpoints import Checkpoints
from ppg_jax.runs.evaluator import Evaluating
from ppg_jax.runs.folder import (
    new_folder,
)
from ppg_jax.runs.loggers import Logger
from ppg_jax.runs.progress import make_display
from ppg_jax.runs.recorder import Recorder, Saving
from ppg_jax.runs.result import Result
from ppg_jax.runs.session import check_options, resolve, seed_keys, train_from

if TYPE_CHECKING:
    pass


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
      ConfigError: something in the configuration, ``out`` or the options is invalid.
    """
    check_config(config)
    if seeds is not None:
        config = config.replace(seeds=seeds)
    saving = Saving(checkpoint_every, checkpoint_minutes, keep)
    evaluating = Evaluating(evaluate_every, eval_episodes, evaluate_on or {})
    layout = lay_out(config, config.seeds)
    config = resolve(config, layout)
    check_options(config, log, evaluating, out is not None)
    folder = Path(out) if out is not None else None
    shown = (console or Console()) if progress else None
    keys = seed_keys(config)
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
        return train_from(config, layout, keys, folder, display, recorder)
