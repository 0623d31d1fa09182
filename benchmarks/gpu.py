"""One command for whoever has a GPU: speed, memory, learning and repetition, in small parts.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --parts learning "ppo 64x128" --minutes 20

It runs on JAX's default device and ends after ``--minutes``. Each part has a process of its own
with a time limit, the most valuable first. A part that is done is in the file at once. The same
command goes on with what is left. A part that failed is kept with its reason, and tried again only
with ``--again``. Every part uses one device.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from common import environment, fresh_process, options
from gpu_parts import Part, parts
from report import REPORT, exit_code, say, terminable

from ppg_jax.execution import use_compilation_cache

HERE = Path(__file__).parent
DEVICE = "device"
"""Not a part: what the device is. Only processes that end soon may ask, as each takes memory."""


def here(part: Part, limit: float) -> dict[str, Any]:
    """Measures a part in this process. What goes wrong is a row too."""
    use_compilation_cache()
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    try:
        row = part.measure(limit)
    except Exception as error:
        traceback.print_exc()
        return {"failed": one_line(f"{type(error).__name__}: {error}")}
    return row | {"programs_from_cache": events.count("/jax/compilation_cache/cache_hits")}


def in_own_process(part: Part, limit: float, args: argparse.Namespace) -> dict[str, Any]:
    """The row of a part from a process that ends with it, so that its memory is free again."""
    began = time.perf_counter()
    try:
        row = fresh_process(__file__, *part_options(part.name, args), timeout=limit)
    except subprocess.TimeoutExpired:
        row = {"failed": f"killed after {limit:.0f} s: it hangs or is slow", "killed": True}
    except SystemExit as error:
        row = {"failed": one_line(str(error).strip().splitlines()[-1])}
    return {"part": part.name} | row | {"seconds": round(time.perf_counter() - began, 1)}


def device(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common.

    Raises:
      SystemExit: JAX finds no device.
    """
    try:
        return fresh_process(__file__, *part_options(DEVICE, args), timeout=180)
    except subprocess.TimeoutExpired:
        raise SystemExit("the device does not answer within 180 s") from None


def part_options(name: str, args: argparse.Namespace) -> list[Any]:
    return ["--part", name, "--patience", args.patience, *(["--small"] if args.small else [])]


def one_line(text: str) -> str:
    """The first line of a message, not too long."""
    return (text.splitlines() or [""])[0][:400]


def kept(out: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """What the file holds, or an empty report.

    Raises:
      SystemExit: the file is of something else. It is left as it is.
    """
    try:
        report = json.loads(out.read_text())
    except FileNotFoundError:
        return {**told, "complete": False, "results": [], "failed": []}
    except (OSError, ValueError) as error:
        raise SystemExit(f"{out}: cannot be read ({error}); use another --out") from None
    if not isinstance(report, dict) or not {"results", "failed"} <= report.keys():
        raise SystemExit(f"{out}: is not a file of this script; use another --out")
    for name, value in told.items():
        if report.get(name) != value:
            found = report.get(name)
            raise SystemExit(f"{out}: {name} is {found} there and {value} here; use another --out")
    return report


def keep(report: dict[str, Any], row: dict[str, Any]) -> None:
    """Adds a row and writes the file; rows are only ever added."""
    report["failed" if "failed" in row else "results"].append(row)
    report["repetition"] = compared(report)
    REPORT.write(report)
    told = ("failed", "env_steps_per_second", "compiled_mib", "peak_mib", "mean", "bits", "seconds")
    say("  " + ", ".join(f"{name} {row[name]}" for name in told if name in row))


def compared(report: dict[str, Any]) -> dict[str, int]:
    """What the repeated runs say together: hung ones, and how many different results."""
    ended, failed = (
        [row for row in report[kind] if row["part"].startswith("repetition ")]
        for kind in ("results", "failed")
    )
    return {
        "runs": len(ended) + len(failed),
        "hung": sum(row.get("killed", False) for row in failed),
        "different_results": len({row["bits"] for row in ended}),
    }


def chosen(every: list[Part], wanted: list[str] | None) -> list[Part]:
    """The parts whose names begin with one of the wanted words.

    Raises:
      SystemExit: no part does so for one of them.
    """
    if not wanted:
        return every
    for words in wanted:
        if not any(f"{part.name} ".startswith(f"{words} ") for part in every):
            names = ", ".join(part.name for part in every)
            raise SystemExit(f"--parts: {words!r} is no part; there are {names}")
    return [p for p in every if any(f"{p.name} ".startswith(f"{words} ") for words in wanted)]


def default_out(told: Mapping[str, Any]) -> Path:
    """A file named after the device and the day."""
    device = re.sub("[^a-z0-9]+", "-", told["device"].lower()).strip("-")
    small = "-small" if told["small"] else ""
    return HERE / "results" / f"{device}{small}-{datetime.date.today()}.json"


def measure(args: argparse.Namespace) -> int:
    """Measures what is not in the file yet, as far as the time goes."""
    began = time.monotonic()
    wanted = chosen(parts(args.small), args.parts)
    told = device(args)
    out = args.out or default_out(told)
    report = kept(out, told)
    REPORT.begin(out)
    REPORT.write(report)  # finds out now whether it can be written
    say(f"{told['device']} ({told['platform']}), JAX {told['versions']['jax']}: {out}")
    left = []
    for part in wanted:
        if part.name in passed(report, args.again):
            continue
        limit = part.limit * args.patience
        remaining = 60 * args.minutes - (time.monotonic() - began)
        if limit > remaining:
            left.append(part)
            continue
        say(f"{part.name}: at most {limit:.0f} s, {remaining:.0f} s left")
        keep(report, in_own_process(part, limit, args))
    report["complete"] = all(part.name in passed(report) for part in parts(args.small))
    print(REPORT.write(report))
    say_what_is_left(left, args, out)
    return 0


def passed(report: dict[str, Any], again: bool = False) -> set[str]:
    """Names of the parts that need not run: what failed needs to, if it is tried again."""
    rows = report["results"] + ([] if again else report["failed"])
    return {row["part"] for row in rows}


def say_what_is_left(left: list[Part], args: argparse.Namespace, out: Path) -> None:
    """How to go on."""
    if not left:
        return
    most = max(part.limit for part in left) * args.patience / 60
    more = f"; they need --minutes {most + 0.5:.1f} or more" if most > args.minutes else ""
    say(f"{len(left)} parts are left{more}. The same command goes on, with --out {out}")


def one_part(args: argparse.Namespace) -> dict[str, Any]:
    """What a process of a part prints."""
    # What is in use can be read either way. Without this JAX takes three quarters of the memory
    # at once, and a part would fail while the process before it is still giving its own back.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if args.part == DEVICE:
        return environment() | {"small": args.small}
    part = chosen(parts(args.small), [args.part])[0]
    return here(part, part.limit * args.patience)


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=9, help="until it ends, at most")
    parser.add_argument("--parts", nargs="+", help="first words of the parts to measure")
    parser.add_argument("--again", action="store_true", help="try what failed again")
    parser.add_argument("--patience", type=float, default=1, help="times the limits of the parts")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--part", help="measure this part here, and print it alone")
    args = parser.parse_args(argv)
    try:
        with terminable():
            if args.part:
                print(json.dumps(one_part(args)))
                return 0
            return measure(args)
    except BaseException as error:
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
