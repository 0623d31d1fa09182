"""``ppg-jax train``."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ppg_jax.cli.options import (
    NO_CACHE,
    changed_fields,
    command_with_fields,
    parse,
    take_free_mappings,
)
from ppg_jax.config import ConfigError, config_from_dict, merge, read_config
from ppg_jax.runs import StoppedError, print_table

if TYPE_CHECKING:
    from ppg_jax.runs import Result

TRAIN_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for everything the run gives."),
    ("resume", str, "", "DIR", "Go on with the run in this folder, instead of CONFIG."),
    ("checkpoint_every", int, 0, "INT", "Phases between two checkpoints; 0: only by time."),
    ("checkpoint_minutes", float, 5.0, "FLOAT", "Minutes between two checkpoints."),
    ("keep", int, 2, "INT", "How many of the newest checkpoints stay, beside the best one."),
    ("evaluate_every", int, 0, "INT", "Phases between two evaluations on fresh episodes; 0: none."),
    ("eval_episodes", int, 32, "INT", "Episodes of each evaluation."),
    ("log", tuple[str, ...], (), "{jsonl,tensorboard,wandb}", "Where metrics go beside the CSV."),
    ("quiet", bool, False, "", "No progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, how the value is shown, help."""


def _train_command(base: dict[str, Any]) -> type:
    """What ``train`` takes: its own options, and every field with ``base``'s values as defaults."""
    name = ("config", "CONFIG", "Name (ppg-jax list shows them) or .yaml file.", "cartpole")
    command = command_with_fields("Train", name, TRAIN_OPTIONS, base)
    command.__doc__ = "Trains a configuration, any field of it changed, and shows what came of it."
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Parsed twice: first to learn which configuration, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    first = parse(_train_command({}), without_help, "ppg-jax train")
    base = read_config(_run_config(first.resume) if first.resume else first.config)
    args = parse(_train_command(base), argv, "ppg-jax train")
    if args.resume and args.out:
        raise ConfigError(f"out: {args.out} is invalid; a resumed run stays in its own folder")
    changes = merge(changed_fields(args.fields, base), free)

    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.runs import resume, run

    if not args.no_cache:
        use_compilation_cache()
    console = Console()
    options: dict[str, Any] = {
        "progress": not args.quiet,
        "console": console,
        "cache": not args.no_cache,
        "log": args.log,
        "checkpoint_every": args.checkpoint_every or None,
        "checkpoint_minutes": args.checkpoint_minutes,
        "keep": args.keep,
        "evaluate_every": args.evaluate_every or None,
        "eval_episodes": args.eval_episodes,
    }
    folder = args.resume or args.out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table and the lines below say it
        try:
            if args.resume:
                result = resume(args.resume, **options, **changes)
            else:
                config = config_from_dict(merge(base, changes))
                result = run(config, out=args.out or None, **options)
        except StoppedError:
            how = _go_on(folder)
            raise StoppedError(f"stopped while programs compiled, nothing is lost{how}") from None
    return _tell(result, folder, console)


def _go_on(folder: str) -> str:
    return f"; go on with: ppg-jax train --resume {folder}" if folder else ""


def _run_config(directory: str) -> Path:
    """The configuration's file in a run's folder."""
    file = Path(directory) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"resume: {directory} is no run's folder: it has no config.yaml")
    return file


def _tell(result: "Result", folder: str, console: Console) -> int:
    """What came of a run; the exit code."""
    print_table(console, _seed_table(result))
    if folder:
        but = ", but for what is named below" if result.problems else ""
        _print_line(console, f"written to {folder}{but}")
    if not result.finished:
        done = result.metrics["env_steps"].shape[1]
        total = result.config.num_iterations
        _print_line(console, f"stopped after iteration {done} of {total}{_go_on(folder)}")
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def _print_line(console: Console, text: str) -> None:
    """As it is: brackets in the name of a folder are no markup."""
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
