"""``ppg-jax bench``."""

import sys
from typing import Any

from rich.console import Console

from ppg_jax.cli.options import (
    changed_fields,
    command_with_fields,
    parse,
    take_free_mappings,
)
from ppg_jax.config import ConfigError, config_from_dict, merge, read_config

OPTIONS: list[tuple[str, Any, Any, str, str]] = [
    ("seeds", tuple[str, ...], (), "INT [INT ...]", "Numbers of seeds, measured in this order."),
    ("repeats", int, 5, "INT", "Timings of a phase, after one that does not count."),
    ("out", str, "", "FILE.json", "New file for the results, written after each number of seeds."),
    ("json", bool, False, "", "Print the results as JSON; the table goes to standard error."),
    ("quiet", bool, False, "", "Show no table."),
]
"""Name, type, default, placeholder of the value and help text of each option."""


def _bench_command(base: dict[str, Any]) -> type:
    """The command ``bench``: its own options and every field, with the defaults of ``base``."""
    name = ("config", "CONFIG", "Name (see ppg-jax list) or .yaml file.", "cartpole")
    command = command_with_fields("Bench", name, OPTIONS, base)
    command.__doc__ = (
        "Measures throughput, compile time and memory of a configuration, for each number of "
        "seeds. No run is kept. Options change the configuration's fields."
    )
    return command


def _count(text: str) -> int:
    """A number of seeds.

    Raises:
      ConfigError: it is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"seeds: {text!r} is invalid; it should be a whole number, and CONFIG stands before "
            "the options"
        ) from None


def main(argv: list[str]) -> int:
    argv, free = take_free_mappings(argv)
    # Arguments are parsed twice: first to find the configuration, then with its values as defaults.
    without_help = [arg for arg in argv if arg not in ("-h", "--help")]
    first = parse(_bench_command({}), without_help, "ppg-jax bench")
    base = read_config(first.config)
    args = parse(_bench_command(base), argv, "ppg-jax bench")
    config = config_from_dict(merge(base, merge(changed_fields(args.fields, base), free)))

    from ppg_jax.cli.main import STOPPED
    from ppg_jax.runs import bench, bench_json

    result = bench(
        config,
        [_count(text) for text in args.seeds] or None,
        repeats=args.repeats,
        out=args.out or None,
        progress=not args.quiet,
        console=Console(stderr=args.json),
    )
    if args.json:
        print(bench_json(result), end="")
    elif args.out and not result.problems and result.records:
        print(f"written to {args.out}")
    for problem in result.problems:
        print(f"error: {problem}", file=sys.stderr)
    if not result.finished:
        print("error: stopped", file=sys.stderr)
        return STOPPED
    failed = result.problems or all(record.problem for record in result)
    return 1 if failed else 0
