"""``ppg-jax sweep``."""

import sys
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.cli.options import (
    NO_CACHE,
    changed_fields,
    command_with_fields,
    parse,
    take_free_mappings,
)
from ppg_jax.config import (
    ConfigError,
    config_from_dict,
    did_you_mean,
    merge,
    read_config,
    read_mapping,
)

KEYS = ("config", "changes", "values", "zipped", "seeds")


NOT_HERE = ("resume", "checkpoint_every", "checkpoint_minutes", "keep", "evaluate_every",
            "eval_episodes", "log")  # fmt: skip
"""Options of train that a sweep has no use for."""
SWEEP_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for everything the sweep gives."),
    ("quiet", bool, False, "", "No progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, how the value is shown, help."""


def _sweep_command(base: dict[str, Any]) -> type:
    """What ``sweep`` takes: its own options, and every field with ``base``'s values as defaults."""
    command = command_with_fields("Sweep", ("spec", "SPEC", "What to sweep, .yaml.", ""),
                                  SWEEP_OPTIONS, base)  # fmt: skip
    command.__doc__ = """Trains a grid of hyperparameters with many seeds, and ranks the settings.

    SPEC.yaml holds: values (names of hparams, each with a list), and optionally config (a name, or
    a file beside SPEC.yaml; default cartpole), changes (fields of it), zipped (the lists are a
    table) and seeds. Options change fields over what it says.
    """
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    for arg in argv:
        name = arg.partition("=")[0].removeprefix("--").replace("-", "_")
        if arg.startswith("--") and name in NOT_HERE:
            raise ConfigError(
                f"{arg}: is for ppg-jax train; a sweep keeps no checkpoints and is not evaluated"
            )
    # Parsed twice: first to learn which file, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    file = parse(_sweep_command({}), without_help, "ppg-jax sweep").spec
    spec = read_spec(Path(file)) if file else {}
    base = merge(read_config(spec.get("config", "cartpole")), spec.get("changes") or {})
    base |= {"seeds": spec["seeds"]} if "seeds" in spec else {}
    args = parse(_sweep_command(base), argv, "ppg-jax sweep")
    for name, words in (("spec", "name a .yaml file, with what to sweep"),
                        ("out", "name a new folder")):  # fmt: skip
        if not getattr(args, name):
            raise ConfigError(f"{name}: is missing; {words}")
    config = config_from_dict(merge(base, merge(changed_fields(args.fields, base), free)))
    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.sweeps import sweep, sweep_table

    if not args.no_cache:
        use_compilation_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the lines below say it
        result = sweep(
            config,
            spec["values"],
            zipped=spec.get("zipped", False),
            out=args.out,
            progress=not args.quiet,
            console=Console(),
            cache=not args.no_cache,
        )
    print(sweep_table(result.ranked()))
    print(f"written to {args.out}" + (", but for what is named below" if result.problems else ""))
    if not result.finished:
        done = result.metrics["env_steps"].shape[-1]
        print(f"stopped after iteration {done} of {result.config.num_iterations}")
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def read_spec(path: Path) -> dict[str, Any]:
    """A sweep's file.

    Raises:
      ConfigError: it cannot be read, or a key is unknown, missing or no such thing.
    """
    if not path.is_file():
        raise ConfigError(f"spec: there is no file {path}")
    spec = read_mapping(path)
    for name in spec:
        if name not in KEYS:
            hint = did_you_mean(str(name), KEYS)
            raise ConfigError(f"{path}: {name}: unknown; {hint}keys are {', '.join(KEYS)}")
    if "values" not in spec:
        raise ConfigError(f"{path}: values: missing; it should map hyperparameters to lists")
    wanted: dict[str, tuple[type, str]] = {
        "config": (str, "a name or a file"),
        "changes": (dict, "a mapping"),
        "zipped": (bool, "true or false"),
    }
    for name, (kind, words) in wanted.items():
        if name in spec and not isinstance(spec[name], kind):
            raise ConfigError(f"{path}: {name}: {spec[name]!r} is invalid; it should be {words}")
    beside = path.parent / spec.setdefault("config", "cartpole")
    if beside.suffix == ".yaml" and beside.is_file():
        spec["config"] = str(beside)
    return spec
