"""``ppg-jax tune``."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ppg_jax.cli.options import (
    NO_CACHE,
    changed_fields,
    command_with_fields,
    parse,
    take_free_mappings,
)
from ppg_jax.cli.spec import Spec
from ppg_jax.config import (
    ConfigError,
    config_from_dict,
    merge,
    read_config,
    to_number,
)

if TYPE_CHECKING:
    from ppg_jax.sweeps import TuneResult

NUMBERS = {
    "budget": "Environment steps of all trials together; needed.",
    "population": "Trials of a generation, which are trained together; default 16.",
    "rungs": "Parts of a run; after each but the last, some trials end; default 3.",
    "reduction": "One trial in so many goes on, and each rung is so many times as long; default 3.",
    "sampler_seed": "Seed of the sampler; default 0.",
    "report_seeds": "Fresh seeds on which the winner is trained in the end; default 10.",
}
WORDS = {
    "objective": "final_return (default) or area.",
    "sampler": "tpe (default) or random.",
    "pruner": "halving (default), median or none.",
}
SPEC = Spec(
    "search",
    ("space", "a mapping of fields to ranges"),
    ("config", "changes", "space", "environments", "seeds", "baseline", *NUMBERS, *WORDS),
    {
        "config": (str, "a name or a file"),
        "changes": (dict, "a mapping"),
        "space": (dict, "a mapping of fields to ranges"),
        "environments": (dict, "a mapping of environments to two scores"),
        "baseline": (bool, "true or false"),
    },
)
"""The file of a search."""
TUNE_OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("out", str, "", "DIR", "New folder for all results of the search."),
    ("resume", str, "", "DIR", "Resume the search in this folder; a larger --budget is allowed."),
    *((name, str, "", "N", text) for name, text in NUMBERS.items()),
    *((name, str, "", "NAME", text) for name, text in WORDS.items()),
    ("quiet", bool, False, "", "Show no progress."),
    ("no_cache", bool, False, "", NO_CACHE),
]
"""Name, type, default, placeholder of the value and help text of each option."""


def _tune_command(base: dict[str, Any]) -> type:
    """The command ``tune``: its own options and every field, with the defaults of ``base``."""
    spec = ("spec", "SPEC", "File (.yaml) that describes the search.", "")
    command = command_with_fields("Tune", spec, TUNE_OPTIONS, base)
    command.__doc__ = """Searches good values of fields by Optuna, within a budget of steps.

    SPEC.yaml contains: space (names of fields, each with a range: {log: [low, high]}, {uniform:
    [low, high]}, {int: [low, high]}, {choice: [...]}), and optionally config (a name, or a file
    next to SPEC.yaml; default cartpole), changes (fields of the configuration), seeds, environments
    (ids, each with the scores of a random policy and of the best known one), baseline (false: do
    not train the configuration itself on the fresh seeds), and all options below. Options on the
    command line override those of the file.
    """
    return command


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Arguments are parsed twice: first to find the file, then with its values as the defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    file = parse(_tune_command({}), without_help, "ppg-jax tune").spec
    spec = SPEC.read(Path(file)) if file else {}
    base = merge(read_config(spec.get("config", "cartpole")), spec.get("changes") or {})
    base |= {"seeds": spec["seeds"]} if "seeds" in spec else {}
    args = parse(_tune_command(base), argv, "ppg-jax tune")
    options = _options(args, spec)
    changes = merge(changed_fields(args.fields, base), free)
    _check_folders(args, changes)

    from ppg_jax.execution import use_compilation_cache
    from ppg_jax.runs import StoppedError
    from ppg_jax.sweeps import resume_tune, tune

    if not args.no_cache:
        use_compilation_cache()
    shown: dict[str, Any] = {
        "progress": not args.quiet,
        "console": Console(),
        "cache": not args.no_cache,
    }
    folder = args.resume or args.out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below as errors
        try:
            if args.resume:
                result = resume_tune(folder, budget=options.get("budget"), **shown)
            else:
                if "budget" not in options:
                    raise ConfigError("budget: is missing; say how many environment steps to use")
                config = config_from_dict(merge(base, changes))
                result = tune(config, spec["space"], out=folder, **options, **shown)
        except StoppedError:
            raise StoppedError(
                f"stopped before a trial was finished; resume with: ppg-jax tune --resume {folder}"
            ) from None
    return _print_result(result, folder)


def _check_folders(args: Any, changes: Mapping[str, Any]) -> None:
    """Checks that the arguments say what to search, and where.

    Raises:
      ConfigError: they do not.
    """
    if args.resume:
        given = [name for name in ("out", "spec") if getattr(args, name)] + list(changes)
        if given:
            raise ConfigError(
                f"{given[0]}: cannot be used with --resume; a search goes on as it began, only "
                "--budget may grow"
            )
        return
    for name, words in (("spec", "name a .yaml file that describes the search"),
                        ("out", "name a new folder")):  # fmt: skip
        if not getattr(args, name):
            raise ConfigError(f"{name}: is missing; {words}")


def _options(args: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``tune``, from the command line and else from the file.

    Raises:
      ConfigError: a number is invalid.
    """
    found: dict[str, Any] = {}
    for name in (*NUMBERS, *WORDS):
        value = getattr(args, name) or spec.get(name)
        if value is None:
            continue
        value = to_number(value) if name in NUMBERS else value
        whole = isinstance(value, float) and value.is_integer()  # 1e6
        found[name] = int(value) if whole else value
    for name in ("environments", "baseline"):
        if name in spec:
            found[name] = spec[name]
    return found


def _print_result(result: "TuneResult", folder: str) -> int:
    """Prints the best trials and the comparison, and returns the exit code."""
    from ppg_jax.sweeps import tune_text

    print(tune_text(result, most=10))
    print(f"written to {folder}; ppg-jax train {folder}/winner.yaml trains the winner again")
    if not result.finished:
        print(f"stopped; resume with: ppg-jax tune --resume {folder}")
    for problem in result.problems:
        print(f"error: {problem}")
    return 1 if result.problems else 0
