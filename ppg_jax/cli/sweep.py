"""``ppg-jax sweep``."""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ppg_jax.cli.options import changed_fields, command_with_fields, parse, take_free_mappings
from ppg_jax.cli.spec import Spec
from ppg_jax.cli.train import TRAIN_OPTIONS
from ppg_jax.config import (
    ConfigError,
    config_from_dict,
    merge,
    read_config,
)

if TYPE_CHECKING:
    from ppg_jax.sweeps import SweepResult

SPEC = Spec(
    "sweep",
    ("values", "a mapping of fields to lists"),
    ("config", "changes", "values", "zipped", "draws", "draw_seed", "seeds"),
    {
        "config": (str, "a name or a file"),
        "changes": (dict, "a mapping"),
        "zipped": (bool, "true or false"),
    },
)
"""The file of a sweep."""
HELP = {
    "out": "New folder for all results of the sweep.",
    "resume": "Resume the sweep in this folder; the settings of SPEC, if given, are added to it.",
    "keep": "Number of newest checkpoints of each group to keep, besides the best.",
}
"""Help texts that differ from those of ``train``."""
SHARED = ("out", "resume", "checkpoint_every", "checkpoint_minutes", "keep", "evaluate_every",
          "eval_episodes", "log", "quiet", "no_cache")  # fmt: skip
"""Options of ``train`` that a sweep has too."""
SWEEP_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("draws", int, 0, "INT", "Settings to draw at random from the values; 0: as SPEC says."),
    *(
        (name, *rest, HELP.get(name, text))
        for name, *rest, text in TRAIN_OPTIONS
        if name in SHARED
    ),
]  # fmt: skip
"""Name, type, default, placeholder of the value and help text of each option."""


def _sweep_command(base: dict[str, Any]) -> type:
    """The command ``sweep``: its own options and every field, with the defaults of ``base``."""
    spec = ("spec", "SPEC", "File (.yaml) that describes the sweep.", "")
    command = command_with_fields("Sweep", spec, SWEEP_OPTIONS, base)
    command.__doc__ = """Trains many settings of any fields, each with many seeds, and ranks them.

    SPEC.yaml contains: values (names of fields, each with a list), and optionally config (a name,
    or a file next to SPEC.yaml; default cartpole), changes (fields of the configuration), zipped
    (the lists are the columns of a table), draws (settings to draw at random, where values may be
    ranges: {log: [low, high]}, {uniform: [low, high]}, {int: [low, high]}, {choice: [...]}),
    draw_seed, and seeds. Options on the command line override fields of the file.
    """
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Arguments are parsed twice: first to find the file, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    first = parse(_sweep_command({}), without_help, "ppg-jax sweep")
    spec = SPEC.read(Path(first.spec)) if first.spec else {}
    stored = _stored_fields(Path(first.resume)) if first.resume else None
    given = _fields_of(spec, resumed=stored is not None)
    base = given if stored is None else stored
    args = parse(_sweep_command(base), argv, "ppg-jax sweep")
    _check_folders(args)
    changes = merge(changed_fields(args.fields, base), free)

    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.runs import StoppedError
    from ppg_jax.sweeps import resume_sweep, sweep

    if not args.no_cache:
        use_compilation_cache()
    options = _options(args, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below as errors
        try:
            if args.resume:
                values = spec.get("values")
                result = resume_sweep(args.resume, values, **options, **merge(given, changes))
            else:
                config = config_from_dict(merge(base, changes))
                result = sweep(config, spec["values"], out=args.out, **options)
        except StoppedError:
            hint = _resume_hint(args.resume or args.out)
            raise StoppedError(f"stopped before training began, nothing is lost; {hint}") from None
    return _print_result(result, args.resume or args.out)


def _fields_of(spec: Mapping[str, Any], *, resumed: bool) -> dict[str, Any]:
    """The fields of the configuration that the file of a sweep sets.

    A sweep that is resumed has a configuration already. The file may leave it out.
    """
    named = "config" in spec or not resumed
    base = read_config(spec.get("config", "cartpole")) if named else {}
    base = merge(base, spec.get("changes") or {})
    return base | ({"seeds": spec["seeds"]} if "seeds" in spec else {})


def _stored_fields(directory: Path) -> dict[str, Any]:
    """The fields of the sweep in a folder.

    Raises:
      ConfigError: the folder contains no sweep.
    """
    from ppg_jax.sweeps import stored_config

    return stored_config(directory).to_dict()


def _check_folders(args: Any) -> None:
    """Checks that the arguments say what to train, and where.

    Raises:
      ConfigError: they do not.
    """
    if args.resume and args.out:
        raise ConfigError(
            f"out: {args.out} is invalid; remove it, a resumed sweep stays in its folder"
        )
    if not args.spec and not args.resume:
        raise ConfigError("spec: is missing; name a .yaml file that describes the sweep")
    if not args.out and not args.resume:
        raise ConfigError("out: is missing; name a new folder")


def _options(args: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``sweep`` and ``resume_sweep``."""
    return {
        "zipped": spec.get("zipped", False),
        "draws": args.draws or spec.get("draws"),
        "draw_seed": spec.get("draw_seed", 0),
        "progress": not args.quiet,
        "console": Console(),
        "cache": not args.no_cache,
        "log": args.log,
        "checkpoint_every": args.checkpoint_every or None,
        "checkpoint_minutes": args.checkpoint_minutes,
        "keep": args.keep,
        "evaluate_every": args.evaluate_every or None,
        "eval_episodes": args.eval_episodes,
    }


def _resume_hint(folder: str) -> str:
    return f"resume with: ppg-jax sweep --resume {folder}"


def _print_result(result: "SweepResult", folder: str) -> int:
    """Prints the ranked settings and returns the exit code."""
    from ppg_jax.sweeps import sweep_table

    print(sweep_table(result.ranked()))
    print(f"written to {folder}" + (", with the errors below" if result.problems else ""))
    if not result.finished:
        done = sum(run is not None and run.finished for run in result.runs)
        total = len(result.settings)
        print(f"stopped: {done} of {total} settings are trained to the end; {_resume_hint(folder)}")
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0
