"""``ppg-jax train``."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ppg_jax.cli.joining import join_processes
from ppg_jax.cli.options import (
    NO_CACHE,
    changed_fields,
    command_with_fields,
    parse,
    take_free_mappings,
)
from ppg_jax.config import ConfigError, config_from_dict, merge, read_config, read_value

if TYPE_CHECKING:
    from ppg_jax.runs import Result

TRAIN_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for all results of the run."),
    ("resume", str, "", "DIR", "Resume the run in this folder, instead of CONFIG."),
    ("checkpoint_every", int, 0, "INT", "Phases between two checkpoints; 0: by time only."),
    ("checkpoint_minutes", float, 5.0, "FLOAT", "Minutes between two checkpoints."),
    ("keep", int, 2, "INT", "Number of newest checkpoints to keep, besides the best."),
    ("evaluate_every", int, 0, "INT", "Phases between two evaluations on new episodes; 0: never."),
    ("eval_episodes", int, 32, "INT", "Episodes of each seed in an evaluation."),
    ("stop_at_return", str, "", "FLOAT", "End the run when its mean return is at least this."),
    ("stop_after", str, "", "TIME", "End the run after this wall time: 90s, 10m, 1h30m."),
    ("init_from", str, "", "DIR", "Start with the parameters of the run in this folder."),
    ("init_from_seed", str, "", "INT", "Seed of that run for all seeds; default: seed for seed."),
    ("init_optimizer", bool, False, "", "Take the states of its optimizers too."),
    ("no_init_statistics", bool, False, "", "Do not take its reward and observation statistics."),
    ("log", tuple[str, ...], (), "{jsonl,tensorboard,wandb}", "Loggers besides the CSV file."),
    ("distributed", bool, False, "", "Spread the seeds over the processes of a cluster's job."),
    (
        "coordinator",
        str,
        "",
        "HOST:PORT",
        "Address of process 0, outside of a cluster.",
    ),
    ("num_processes", int | None, None, "INT", "Number of processes, with --coordinator."),
    ("process_id", int | None, None, "INT", "Index of this process from 0, with --coordinator."),
    ("quiet", bool, False, "", "Show no progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, placeholder of the value and help text of each option."""


def _train_command(base: dict[str, Any]) -> type:
    """The command ``train``: its own options and every field, with the defaults of ``base``."""
    name = ("config", "CONFIG", "Name (see ppg-jax list) or .yaml file.", "cartpole")
    command = command_with_fields("Train", name, TRAIN_OPTIONS, base)
    command.__doc__ = "Trains a configuration and shows the results. Options change its fields."
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Arguments are parsed twice: first to find the configuration, then with its values as defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    first = parse(_train_command({}), without_help, "ppg-jax train")
    base = read_config(_run_config(first.resume) if first.resume else first.config)
    args = parse(_train_command(base), argv, "ppg-jax train")
    if args.resume and args.out:
        raise ConfigError(
            f"out: {args.out} is invalid; remove it, a resumed run stays in its folder"
        )
    changes = merge(changed_fields(args.fields, base), free)
    warm_start = _warm_start(args)
    shows = join_processes(args)

    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.runs import StoppedError, resume, run

    if not args.no_cache:
        use_compilation_cache()
    console = Console()
    options = _run_options(args) | {"console": console}
    folder = args.resume or args.out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below in the table and as errors
        try:
            if args.resume:
                changes = _asked_for(args.fields, argv) | changes
                result = resume(args.resume, **options, **changes)
            else:
                config = config_from_dict(merge(base, changes))
                result = run(config, out=args.out or None, **options, **warm_start)
        except StoppedError:
            hint = _resume_hint(folder)
            raise StoppedError(f"stopped before training began, nothing is lost{hint}") from None
    if not shows:
        return _print_problems(result)
    return _print_result(result, folder, console, quiet=args.quiet)


def _run_options(args: Any) -> dict[str, Any]:
    """The options that ``run`` and ``resume`` share."""
    return {
        "progress": not args.quiet,
        "cache": not args.no_cache,
        "log": args.log,
        "checkpoint_every": args.checkpoint_every or None,
        "checkpoint_minutes": args.checkpoint_minutes,
        "keep": args.keep,
        "evaluate_every": args.evaluate_every or None,
        "eval_episodes": args.eval_episodes,
        "stop_at_return": args.stop_at_return or None,
        "stop_after": args.stop_after or None,
    }


def _warm_start(args: Any) -> dict[str, Any]:
    """The options of a warm start, for ``run``.

    Raises:
      ConfigError: a run is resumed, or the number of the seed is none.
    """
    seed = read_value(args.init_from_seed) if args.init_from_seed else None
    given = {
        "init_from": args.init_from or None,
        "init_from_seed": seed,
        "init_optimizer": args.init_optimizer,
        "init_statistics": not args.no_init_statistics,
    }
    for name in ("init_from", "init_from_seed", "init_optimizer"):
        if args.resume and given[name] not in (None, False):
            raise ConfigError(
                f"{name}: {given[name]} is invalid; remove it, a resumed run continues from its "
                "own checkpoints"
            )
    return given


def _asked_for(fields: Any, argv: list[str]) -> dict[str, Any]:
    """Fields of devices that are given now. They count as asked for, even with the old value."""
    given = {arg.partition("=")[0].replace("_", "-") for arg in argv}
    names = [n for n in ("devices", "devices_per_seed") if "--" + n.replace("_", "-") in given]
    values = {name: getattr(fields, name) for name in names}
    return {name: None if x in ("none", "null") else x for name, x in values.items()}


def _resume_hint(folder: str) -> str:
    return f"; resume with: ppg-jax train --resume {folder}" if folder else ""


def _run_config(directory: str) -> Path:
    """The file of the configuration in a run folder."""
    file = Path(directory) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"resume: {directory} is not a run folder: it has no config.yaml")
    return file


def _print_result(result: "Result", folder: str, console: Console, *, quiet: bool) -> int:
    """Prints the results of a run and returns the exit code."""
    from ppg_jax.runs import print_table

    print_table(console, _seed_table(result))
    if folder:
        errors = ", with the errors below" if result.problems else ""
        _print_line(console, f"written to {folder}{errors}")
    if not result.finished:
        done = result.metrics["env_steps"].shape[1]
        total = result.config.num_iterations
        why = f": {result.stopped}" if quiet else ""  # otherwise it was shown before
        hint = _resume_hint(folder)
        _print_line(console, f"stopped after iteration {done} of {total}{why}{hint}")
    return _print_problems(result)


def _print_problems(result: "Result") -> int:
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def _print_line(console: Console, text: str) -> None:
    """Prints text without markup, because the name of a folder may contain brackets."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _seed_table(result: "Result") -> Table:
    table = Table(title=f"{result.env_steps_per_second:,.0f} env steps/s")
    for heading in ("seed", "final return", "episodes", "env steps", "loss"):
        table.add_column(heading, justify="right")
    for seed, bad in enumerate(result.first_bad_iteration):
        episodes = result.metrics["num_episodes"][seed].sum()
        steps = result.metrics["env_steps"][seed, -1]
        verdict = "finite" if bad is None else f"[red]NaN from iteration {bad}[/red]"
        final = f"{result.final_returns[seed]:.2f}"
        table.add_row(str(seed), final, f"{episodes:,}", f"{steps:,}", verdict)
    return table
