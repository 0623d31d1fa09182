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

SPEC_KEYS = ("config", "changes", "values", "zipped", "seeds")
"""Keys of a sweep's file."""
TRAIN_ONLY = ("resume", "checkpoint_every", "checkpoint_minutes", "keep", "evaluate_every",
              "eval_episodes", "log")  # fmt: skip
"""Options of ``train`` that a sweep does not have."""
SWEEP_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for all results of the sweep."),
    ("quiet", bool, False, "", "Show no progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, placeholder of the value and help text of each option."""


def _sweep_command(base: dict[str, Any]) -> type:
    """The command ``sweep``: its own options and every field, with the defaults of ``base``."""
    spec = ("spec", "SPEC", "File (.yaml) that describes the sweep.", "")
    command = command_with_fields("Sweep", spec, SWEEP_OPTIONS, base)
    command.__doc__ = """Trains a grid of hyperparameters with many seeds and ranks the settings.

    SPEC.yaml contains: values (names of hparams, each with a list), and optionally config (a name,
    or a file next to SPEC.yaml; default cartpole), changes (fields of the configuration), zipped
    (the lists are the columns of a table) and seeds. Options on the command line override fields of
    the file.
    """
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    for arg in argv:
        name = arg.partition("=")[0].removeprefix("--").replace("-", "_")
        if arg.startswith("--") and name in TRAIN_ONLY:
            raise ConfigError(
                f"{arg}: is for ppg-jax train; remove it, a sweep has no checkpoints or evaluations"
            )
    # Arguments are parsed twice: first to find the file, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    file = parse(_sweep_command({}), without_help, "ppg-jax sweep").spec
    spec = read_spec(Path(file)) if file else {}
    base = merge(read_config(spec.get("config", "cartpole")), spec.get("changes") or {})
    base |= {"seeds": spec["seeds"]} if "seeds" in spec else {}
    args = parse(_sweep_command(base), argv, "ppg-jax sweep")
    for name, words in (("spec", "name a .yaml file that describes the sweep"),
                        ("out", "name a new folder")):  # fmt: skip
        if not getattr(args, name):
            raise ConfigError(f"{name}: is missing; {words}")
    config = config_from_dict(merge(base, merge(changed_fields(args.fields, base), free)))
    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.sweeps import sweep, sweep_table

    if not args.no_cache:
        use_compilation_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below as errors
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
    print(f"written to {args.out}" + (", with the errors below" if result.problems else ""))
    if not result.finished:
        done = result.metrics["env_steps"].shape[-1]
        print(f"stopped after iteration {done} of {result.config.num_iterations}")
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def read_spec(path: Path) -> dict[str, Any]:
    """Reads the file of a sweep.

    Raises:
      ConfigError: the file cannot be read, or a key is unknown, missing or of the wrong type.
    """
    if not path.is_file():
        raise ConfigError(
            f"spec: {path} does not exist; name a .yaml file that describes the sweep"
        )
    spec = read_mapping(path)
    for name in spec:
        if name not in SPEC_KEYS:
            hint = did_you_mean(str(name), SPEC_KEYS)
            raise ConfigError(f"{path}: {name}: is unknown; {hint}keys are {', '.join(SPEC_KEYS)}")
    if "values" not in spec:
        raise ConfigError(f"{path}: values: is missing; it should map hyperparameters to lists")
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
