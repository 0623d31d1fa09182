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
from ppg_jax.files import available_configs, merge, read_config

if TYPE_CHECKING:
    from ppg_jax.runner import Result

USAGE = """usage: ppg-jax COMMAND ...

  train [CONFIG] [--seeds N] [--out DIR] [--field value | --section.field value ...]
  train --resume DIR [--total-timesteps N]
  eval DIR [--episodes N] [--greedy] [--seed N]
  list

ppg-jax COMMAND --help says more."""
STOPPED = 130
"""Exit code after Ctrl-C that did not wait."""
NO_CACHE = "Compile anew; otherwise compiled programs are kept in the user's cache folder."
TRAIN_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for everything the run gives."),
    ("resume", str, "", "DIR", "Go on with the run in this folder, instead of CONFIG."),
    ("checkpoint_every", int, 0, "INT", "Phases between two checkpoints; 0: only by time."),
    ("checkpoint_minutes", float, 5.0, "FLOAT", "Minutes between two checkpoints."),
    ("keep", int, 2, "INT", "How many of the newest checkpoints stay, beside the best one."),
    ("log", tuple[str, ...], (), "{jsonl,tensorboard,wandb}", "Where metrics go beside the CSV."),
    ("quiet", bool, False, "", "No progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, how the value is shown, help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``ppg-jax``.

    Args:
      argv: arguments; default the process's own.

    Returns:
      Exit code: 0, 1 for a failure while running, 2 for a bad argument or configuration, 130
      for Ctrl-C.
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
        return _fail("stopped", STOPPED)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _train_command(base: dict[str, Any]) -> type:
    """What ``train`` takes: its own options, and every field with ``base``'s values as defaults."""
    name = Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="CONFIG", help="Name (ppg-jax list shows them) or .yaml file."),
    ]
    entries: list[Any] = [("config", name, "cartpole")]
    for option, kind, default, metavar, text in TRAIN_OPTIONS:
        flag = (tyro.conf.FlagCreatePairsOff,) if kind is bool else ()
        info = tyro.conf.arg(metavar=metavar, help=text) if metavar else tyro.conf.arg(help=text)
        entries.append((option, Annotated[(kind, *flag, info)], default))
    options = config_options(base)
    fields: Any = Annotated[options, tyro.conf.arg(name="")]
    entries.append(("fields", fields, dataclasses.field(default_factory=options)))
    command = dataclasses.make_dataclass("Train", entries)
    command.__doc__ = "Trains a configuration, any field of it changed, and shows what came of it."
    return command


def _train(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Parsed twice: first to learn which configuration, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    first = parse(_train_command({}), without_help, "ppg-jax train")
    base = read_config(_run_config(first.resume) if first.resume else first.config)
    args = parse(_train_command(base), argv, "ppg-jax train")
    if args.resume and args.out:
        raise ConfigError(f"out: {args.out} will not do; a resumed run stays in its own folder")
    changes = merge(changed_fields(args.fields, base), free)

    from ppg_jax.backend import use_compilation_cache
    from ppg_jax.runner import resume, run

    if not args.no_cache:
        use_compilation_cache()
    console = Console()
    options: dict[str, Any] = {
        "progress": not args.quiet,
        "console": console,
        "log": args.log,
        "checkpoint_every": args.checkpoint_every or None,
        "checkpoint_minutes": args.checkpoint_minutes,
        "keep": args.keep,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table and the lines below say it
        if args.resume:
            result = resume(args.resume, **options, **changes)
        else:
            result = run(config_from_dict(merge(base, changes)), out=args.out or None, **options)
    return _tell(result, args.resume or args.out, console)


def _run_config(directory: str) -> Path:
    """The configuration's file in a run's folder."""
    file = Path(directory) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"resume: {directory} is no run's folder: it has no config.yaml")
    return file


def _tell(result: "Result", folder: str, console: Console) -> int:
    """What came of a run; the exit code."""
    console.print(_seed_table(result))
    if folder:
        console.print(f"written to {folder}", highlight=False)
    if not result.finished:
        done = result.metrics["env_steps"].shape[1]
        how = f"; go on with: ppg-jax train --resume {folder}" if folder else ""
        console.print(
            f"stopped after iteration {done} of {result.config.num_iterations}{how}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


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
    from ppg_jax.folder import folder_config

    config = folder_config(args.directory)

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
