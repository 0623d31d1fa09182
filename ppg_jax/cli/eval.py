"""``ppg-jax eval``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ppg_jax.cli.options import NO_CACHE, SETTING, parse, take_free_mappings
from ppg_jax.config import ConfigError


@dataclasses.dataclass
class _EvalCommand:
    """Plays the saved policy of every seed and prints its mean return with a 95% interval."""

    directory: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="Folder of a run or a sweep.")
    ]
    episodes: Annotated[int, tyro.conf.arg(help="Episodes of each seed, played in parallel.")] = 128
    greedy: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="Take the most probable action instead of a sample."),
    ] = False
    seed: Annotated[int, tyro.conf.arg(help="Random seed of the episodes.")] = 0
    max_steps: Annotated[
        int | None,
        tyro.conf.arg(
            help="Step at which an episode is cut off; default: the environment's own time limit "
            "if it is at most 100,000, otherwise 10,000."
        ),
    ] = None
    num_levels: Annotated[
        str, tyro.conf.arg(metavar="INT", help="Number of levels to play; none: all levels.")
    ] = ""
    first_level: Annotated[str, tyro.conf.arg(metavar="INT", help="The first level.")] = ""
    setting: Annotated[str, tyro.conf.arg(metavar="INT", help=SETTING)] = ""
    no_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=NO_CACHE)] = False


def main(argv: list[str]) -> int:
    argv, changes = take_free_mappings(argv)
    args = parse(_EvalCommand, argv, "ppg-jax eval")
    if args.episodes < 1:
        raise ConfigError(f"episodes: {args.episodes} is invalid; it should be at least 1")
    if not 0 <= args.seed < 2**32:
        raise ConfigError(f"seed: {args.seed} is invalid; it should be from 0 to 4294967295")
    for name in ("num_levels", "first_level"):
        text = getattr(args, name)
        if text:
            changes[name] = None if text in ("none", "null") else text
    from ppg_jax.cli.saved import load_with_warnings, lost_seeds
    from ppg_jax.execution import use_all_cores, use_compilation_cache
    from ppg_jax.report import mean_interval
    from ppg_jax.runs import print_table

    if not args.no_cache:
        use_compilation_cache()
    run = load_with_warnings(args.directory, args.setting)
    if run.config.seeds > 1:
        use_all_cores()
    played = run.play(
        args.episodes,
        greedy=args.greedy,
        seed=args.seed,
        max_steps=args.max_steps,
        **changes,
    )
    by_episode, lengths, ended, measures = played
    returns = by_episode.sum(-1)
    how = "greedy" if args.greedy else "stochastic"
    changed = "".join(f", {name} {value}" for name, value in changes.items())
    title = f"{run.config.env_name}, {how} policy{changed}"
    table = Table(title=Text(title, "table.title"))
    for heading in ("seed", "mean return", "95% interval", "mean length", "unfinished"):
        table.add_column(heading, justify="right")
    lost = [" (NaN)" if bad is not None else "" for bad in lost_seeds(run)]
    rows = [(f"{i}{lost[i]}", returns[i], lengths[i], ended[i]) for i in range(run.config.seeds)]
    rows += [("all", returns, lengths, ended)] if run.config.seeds > 1 else []
    for name, r, n, e in rows:
        mean, low, high = mean_interval(r)
        interval = f"{low:.2f} to {high:.2f}"
        table.add_row(name, f"{mean:.2f}", interval, f"{n.mean():.1f}", str(int((~e).sum())))
    console = Console()
    print_table(console, table)
    if by_episode.shape[-1] > 1:
        means = ", ".join(f"{x:.2f}" for x in by_episode.mean((0, 1)))
        console.print(f"mean return of a task's episodes, first to last: {means}")
    _print_measures(console, measures)
    return 0


def _print_measures(console: Console, measures: Mapping[str, Any]) -> None:
    """Prints the mean of each measure, ``[S, E]`` by name: bool measures in percent."""
    from ppg_jax.report import crafter_score
    from ppg_jax.runs import print_table

    if not measures:
        return
    table = Table(title=Text("at the end of an episode", "table.title"))
    table.add_column("measure")
    table.add_column("mean", justify="right")
    for name, x in measures.items():
        table.add_row(Text(name), f"{x.mean():.1%}" if x.dtype == bool else f"{x.mean():.2f}")
    print_table(console, table)
    if sum(x.dtype == bool for x in measures.values()) > 1:
        score = crafter_score(measures).mean()
        console.print(f"geometric mean of the percentages (Crafter's score): {score:.2f}%")
