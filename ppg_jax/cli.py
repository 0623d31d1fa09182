"""The command line: ``ppg-jax train | eval | list``."""

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from ppg_jax.cli_args import changed_fields, config_options, parse, take_free_mappings
from ppg_jax.config import ConfigError, config_from_dict
from ppg_jax.files import available_configs, load_config, merge, read_config

if TYPE_CHECKING:
    from ppg_jax.runner import Result

USAGE = """usage: ppg-jax COMMAND ...

  train [CONFIG] [--seeds N] [--out DIR] [--field value | --section.field value ...]
  eval DIR [--episodes N] [--greedy] [--seed N]
  list

ppg-jax COMMAND --help says more."""
NO_CACHE = "Compile anew; otherwise compiled programs are kept in the user's cache folder."


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``ppg-jax``.

    Args:
      argv: arguments; default the process's own.

    Returns:
      Exit code: 0, 1 for a failure while running, 2 for a bad argument or configuration.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    commands = {"train": _train, "eval": _eval, "list": _list}
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    try:
        if args[0] not in commands:
            raise ConfigError(f"command: {args[0]!r} is unknown; use {', '.join(commands)}")
        return commands[args[0]](args[1:])
    except ConfigError as error:
        return _fail(str(error), 2)
    except (OSError, jax.errors.JaxRuntimeError) as error:  # a full disk, or memory run out
        return _fail(" ".join(str(error).split())[:500], 1)
    except KeyboardInterrupt:
        return _fail("stopped", 130)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _train_command(base: dict[str, Any]) -> type:
    """What ``train`` takes: its own options, and every field with ``base``'s values as defaults."""
    name = Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="CONFIG", help="Name (ppg-jax list shows them) or .yaml file."),
    ]
    out = Annotated[
        str, tyro.conf.arg(metavar="DIR", help="New folder for everything the run gives.")
    ]
    quiet = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="No progress.")]
    no_cache = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=NO_CACHE)]
    options = config_options(base)
    fields: Any = Annotated[options, tyro.conf.arg(name="")]
    entries: list[Any] = [("config", name, "cartpole"), ("out", out, ""), ("quiet", quiet, False)]
    entries.append(("no_cache", no_cache, False))
    entries.append(("fields", fields, dataclasses.field(default_factory=options)))
    command = dataclasses.make_dataclass("Train", entries)
    command.__doc__ = "Trains a configuration, any field of it changed, and shows what came of it."
    return command


def _train(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Parsed twice: first to learn which configuration, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    config_name = parse(_train_command({}), without_help, "ppg-jax train").config
    base = read_config(config_name)
    args = parse(_train_command(base), argv, "ppg-jax train")
    config = config_from_dict(merge(merge(base, changed_fields(args.fields, base)), free))

    from ppg_jax.backend import use_compilation_cache
    from ppg_jax.runner import run

    if not args.no_cache:
        use_compilation_cache()
    console = Console()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table says it
        result = run(config, out=args.out or None, progress=not args.quiet, console=console)
    console.print(_seed_table(result))
    if args.out:
        console.print(f"written to {args.out}", highlight=False)
    return 0


def _seed_table(result: "Result") -> Table:
    table = Table(title=f"{result.env_steps_per_second:,.0f} env steps/s")
    for heading in ("seed", "final return", "episodes", "env steps", "loss"):
        table.add_column(heading, justify="right")
    for seed, bad in enumerate(result.first_bad_iteration):
        episodes = result.metrics["num_episodes"][seed].sum()
        steps = result.metrics["env_steps"][seed, -1]
        verdict = "finite" if bad is None else f"[red]NaN or infinite from iteration {bad}[/red]"
        final = f"{result.final_returns[seed]:.2f}"
        table.add_row(str(seed), final, f"{episodes:,}", f"{steps:,}", verdict)
    return table


@dataclasses.dataclass
class _EvalCommand:
    """Plays the saved policy of every seed and prints its mean return with a 95% interval."""

    directory: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="A run's folder.")
    ]
    episodes: Annotated[int, tyro.conf.arg(help="Episodes of each seed, side by side.")] = 128
    greedy: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="Take the most probable action instead of a sample."),
    ] = False
    seed: Annotated[int, tyro.conf.arg(help="Of the episodes' randomness.")] = 0
    no_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=NO_CACHE)] = False


def _eval(argv: list[str]) -> int:
    args = parse(_EvalCommand, argv, "ppg-jax eval")
    if args.episodes < 1:
        raise ConfigError(f"episodes: {args.episodes} will not do; it should be at least 1")
    if not 0 <= args.seed < 2**32:
        raise ConfigError(f"seed: {args.seed} will not do; it should be from 0 to 4294967295")
    file = args.directory / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"DIR: {args.directory} is no run's folder: it has no config.yaml")
    config = load_config(file)

    from ppg_jax.backend import use_all_cores, use_compilation_cache
    from ppg_jax.checkpoint import load_parameters
    from ppg_jax.evaluation import evaluate_seeds
    from ppg_jax.report import mean_interval

    if not args.no_cache:
        use_compilation_cache()
    if config.seeds > 1:
        use_all_cores()
    params, obs_stats = load_parameters(args.directory, config)
    returns, lengths, ended = evaluate_seeds(
        config, params, obs_stats, args.seed, args.episodes, greedy=args.greedy
    )
    table = Table(title=f"{config.env}, {'greedy' if args.greedy else 'stochastic'} policy")
    for heading in ("seed", "mean return", "95% interval", "mean length", "unfinished"):
        table.add_column(heading, justify="right")
    rows = [(str(i), returns[i], lengths[i], ended[i]) for i in range(config.seeds)]
    rows += [("all", returns, lengths, ended)] if config.seeds > 1 else []
    for name, r, n, e in rows:
        mean, low, high = mean_interval(r)
        interval = f"{low:.2f} to {high:.2f}"
        table.add_row(name, f"{mean:.2f}", interval, f"{n.mean():.1f}", str(int((~e).sum())))
    Console().print(table)
    return 0


@dataclasses.dataclass
class _ListCommand:
    """Lists the environments and the configurations there are."""


def _list(argv: list[str]) -> int:
    parse(_ListCommand, argv, "ppg-jax list")
    from ppg_jax.envs import available_envs

    print("configurations (ppg-jax train NAME):")
    print("\n".join(f"  {name}" for name in available_configs()))
    print("environments (--env ID):")
    print("\n".join(f"  {name}" for name in available_envs()))
    return 0
