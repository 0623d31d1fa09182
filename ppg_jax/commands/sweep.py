"""``ppg-jax sweep``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from ppg_jax.cli_args import NO_CACHE, parse
from ppg_jax.config import ConfigError, config_from_dict
from ppg_jax.fields import did_you_mean
from ppg_jax.files import merge, read_config, read_mapping

KEYS = ("config", "changes", "values", "zipped", "seeds")


@dataclasses.dataclass
class _SweepCommand:
    """Trains a grid of hyperparameters with several seeds in one program, and ranks the settings.

    SPEC.yaml holds: values (names of hparams, each with a list), and optionally config (a name, or
    a file beside SPEC.yaml; default cartpole), changes (fields of it), zipped (the lists are a
    table) and seeds.
    """

    spec: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="SPEC", help="What to sweep, .yaml.")
    ]
    out: Annotated[
        str, tyro.conf.arg(metavar="DIR", help="New folder for everything the sweep gives.")
    ]
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="No progress.")] = False
    no_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=NO_CACHE)] = False


def main(argv: list[str]) -> int:
    args = parse(_SweepCommand, argv, "ppg-jax sweep")
    spec = read_spec(args.spec)
    from ppg_jax.backend import use_compilation_cache
    from ppg_jax.sweep_report import sweep_table
    from ppg_jax.sweeping import sweep

    if not args.no_cache:
        use_compilation_cache()
    base = read_config(spec["config"])
    config = config_from_dict(merge(base, spec.get("changes") or {}))
    result = sweep(
        config,
        spec["values"],
        spec.get("seeds"),
        zipped=spec.get("zipped", False),
        out=args.out,
        progress=not args.quiet,
        console=Console(),
        cache=not args.no_cache,
    )
    print(sweep_table(result.ranked()))
    print(f"written to {args.out}")
    if not result.finished:
        done = result.metrics["env_steps"].shape[-1]
        print(f"stopped after iteration {done} of {result.config.num_iterations}")
    return 0


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
            raise ConfigError(f"{path}: {name}: {spec[name]!r} will not do; it should be {words}")
    beside = path.parent / spec.setdefault("config", "cartpole")
    if beside.suffix == ".yaml" and beside.is_file():
        spec["config"] = str(beside)
    return spec
