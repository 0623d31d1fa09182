"""Compiles trainings for accelerators that are not here, and counts what they would launch.

    python benchmarks/accelerators.py minatar/breakout cartpole --targets h100 v5e --seeds 1 128

XLA compiles for GPUs and TPUs on a machine that has none. **Nothing runs**: there are no speeds
here. The compiled program tells how much memory it takes and what it launches. On small networks
launches are most of the time. For a TPU, launches are operations.

The compilers live in virtual environments that this script makes (``--venv``, several gigabytes;
Python 3.12 or newer). ``--rejax`` adds Rejax's PPO and ours with the same sizes. ``--table`` writes
the results of earlier calls as a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from aot.programs import OUR_PPO, REJAX
from aot.table import table
from aot.targets import TARGETS
from aot.venvs import PROJECT, make_venv
from report import finished, rows_of, say

REJAX_CASES = ("breakout", "cartpole")


def vmapped(strategy: str, seeds: int, chunk: int | None) -> int:
    """How many seeds the program has that a strategy calls, once or several times."""
    if strategy == "map":
        return 1
    return min(seeds, chunk or seeds) if strategy == "chunk" else seeds


def python_for(args: argparse.Namespace, target: str, program: str) -> Path:
    """A Python with the target's compiler and what the program needs."""
    platform, rejax = TARGETS[target].platform, program.startswith(REJAX)
    if platform == "cpu":
        return Path(sys.executable)
    names = {"gpu": "python_cuda", "tpu": "python_tpu"}
    given = getattr(args, names[platform] + ("_rejax" if rejax else ""))
    return given or make_venv(args.venv, TARGETS[target].package, rejax)


def worker(python: Path, spec: dict[str, Any], limit: float) -> dict[str, Any]:
    """What a worker finds out, in a process of its own.

    Raises:
      SystemExit: it failed.
    """
    # This checkout's package and not the one that is installed; Rejax's Python has none at all.
    path = [Path(__file__).parent] + ([] if spec["program"].startswith(REJAX) else [PROJECT])
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [str(python), "-m", "aot.worker", json.dumps(spec)]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not compiled within {limit:.0f} s"}
    if done.returncode:
        what = f"{spec['program']} for {spec['target']}, {spec['vmapped']} seeds"
        raise SystemExit(f"{what}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows: configurations by targets by numbers of seeds."""
    programs = list(args.configs)
    if args.rejax:
        programs += [begin + case for case in REJAX_CASES for begin in (OUR_PPO, REJAX)]

    def rows(case: tuple[str, str, int]) -> Iterator[dict[str, Any]]:
        target, program, seeds = case
        inside = vmapped(args.strategy, seeds, args.chunk_size)
        changes = {} if program.startswith((OUR_PPO, REJAX)) else args.changes
        name = {"program": _short(program), "target": target, "seeds": seeds}
        how = {"strategy": args.strategy, "seeds_in_program": inside, "changes": changes}
        say(f"compiling {name['program']} for {target}, {seeds} seeds")
        spec = {"program": program, "changes": changes, "target": target}
        spec |= {"vmapped": inside, "loops": not args.brief}
        yield name | how | worker(python_for(args, target, program), spec, args.limit)

    return rows_of(product(args.targets, programs, args.seeds), rows)


def _short(program: str) -> str:
    """Of a file its name."""
    return Path(program).stem if program.endswith((".yaml", ".yml")) else program


def changes(given: list[str]) -> dict[str, Any]:
    """Fields and values of ``--set``: JSON where it is, else text; dots lead into groups."""
    result: dict[str, Any] = {}
    for text in given:
        path, equals, value = text.partition("=")
        if not equals:
            raise SystemExit(f"--set {text}: write FIELD=VALUE")
        *groups, field = path.split(".")
        inside = result
        for group in groups:
            inside = inside.setdefault(group, {})
        try:
            inside[field] = json.loads(value)
        except ValueError:
            inside[field] = value
    return result


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = made.add_argument
    add("configs", nargs="*", help="names or files of configurations")
    add("--targets", nargs="+", choices=list(TARGETS), default=["h100", "v5e"])
    add("--seeds", type=int, nargs="+", default=[1, 128])
    add("--strategy", choices=["vmap", "map", "chunk"], default="vmap")
    add("--chunk-size", type=int, help="seeds of a program with --strategy chunk")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="fields to change, not of --rejax",
    )
    add("--rejax", action="store_true", help="also Rejax's PPO, and ours with the same sizes")
    add("--limit", type=float, default=1800, help="seconds that a program may take")
    add("--brief", action="store_true", help="do not list every loop")
    venvs = Path(tempfile.gettempdir()) / "accelerator-venvs"
    add("--venv", type=Path, default=venvs, help="folder of the virtual environments")
    for name in ("cuda", "tpu", "cuda-rejax", "tpu-rejax"):
        add(f"--python-{name}", type=Path, metavar="PYTHON", help="use this one instead")
    add("--table", type=Path, nargs="+", metavar="JSON", help="only write these results as a table")
    add("--out", type=Path, help="write the JSON here, not only to the screen")
    return made


def main(argv: list[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    if args.strategy == "chunk" and not args.chunk_size:
        options.error("--strategy chunk needs --chunk-size")
    if not (args.configs or args.rejax or args.table):
        options.error("name a configuration, or give --rejax")
    if args.table:
        print(
            table([row for path in args.table for row in json.loads(path.read_text())["results"]])
        )
        return 0
    args.changes = changes(args.set)
    return finished(args.out, lambda: measure(args), lambda: {"compiled": True, "run": False})


if __name__ == "__main__":
    sys.exit(main())
