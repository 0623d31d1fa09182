"""One command for whoever has a GPU: speed, memory, learning and repetition, in small parts.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --parts learning "ppo 64x128" --minutes 20

It runs on JAX's default device and ends after ``--minutes``. Each part has a process of its own
with a time limit, the most valuable first. A part that is done is in the file at once. The same
command goes on with what is left. A part that failed is kept with its reason, and tried again only
with ``--again``. Every part uses one device.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import throughput
from against_rejax import CASES, COMMON, our_config
from common import environment, fresh_process, one_phase, options, peak_mib
from learning import summarize
from report import REPORT, exit_code, say, terminable

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution import use_compilation_cache
from ppg_jax.report.statistics import iqm_interval
from ppg_jax.runs.run import run

HERE = Path(__file__).parent
BREAKOUT = "minatar/breakout"
CNN = "breakout_cnn"
CONFIGS: dict[str, str | Path] = {BREAKOUT: BREAKOUT, CNN: HERE / "breakout_cnn.yaml"}
PPO_SIZES: dict[str, dict[str, Any]] = {
    "64x128": CASES["breakout"] | {"iterations": 2},
    "2048x10": {
        "env": "Breakout-MinAtar", "num_envs": 2048, "num_steps": 10, "num_minibatches": 32,
        "iterations": 2,
    },
}  # fmt: skip
"""Environments times steps, as PureJaxRL has them for MinAtar and for Brax."""
SMALL: dict[str, Any] = {
    "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2, "arch": "shared", "e_aux": 0,
}  # fmt: skip
"""Runs and compiles soon."""
KNOWN = {
    "device": "two shared CPU cores", "seeds": 8, "mean": 47.5, "interval_95": [33.8, 63.0],
    "run_seconds": 486, "env_steps_per_second": 49_630,
}  # fmt: skip
"""The same training as README.md has it: seeds, return and seconds of all seeds together."""
DEVICE = "device"
"""Not a part: what the device is. Only processes that end soon may ask, as each takes memory."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
      name: its words go from the kind to the detail; ``--parts`` takes the first of them.
      measure: gives its row; takes the seconds after which it is killed.
      limit: these seconds.
    """

    name: str
    measure: Callable[[float], dict[str, Any]]
    limit: float


def speed_part(name: str, strategy: str, seeds: int, **changes: Any) -> Part:
    """PPG by a strategy."""

    def measure(_: float) -> dict[str, Any]:
        how = {"strategy": strategy, "seeds": seeds, "devices": 1}
        return speed(load_config(CONFIGS[name], **how, **changes))

    return Part(f"throughput {name} {strategy} {seeds}", measure, 90 if seeds < 1024 else 130)


def ppo_part(size: str, seeds: int, **changes: Any) -> Part:
    """PPO of one of PureJaxRL's sizes, vmapped over seeds."""

    def measure(_: float) -> dict[str, Any]:
        config = our_config(COMMON | PPO_SIZES[size] | {"seeds": seeds}, "ppo")
        return speed(config.replace(strategy="vmap", devices=1, **changes))

    return Part(f"ppo {size} vmap {seeds}", measure, 90)


def speed(config: Config) -> dict[str, Any]:
    """Speed and memory of a phase of two iterations; a slow one is repeated less often."""
    return throughput.measure(one_phase(config, 2), 5, most_seconds=20)


def training_part(
    name: str,
    measure: Callable[[Config, float], dict[str, Any]],
    limit: float,
    **changes: Any,
) -> Part:
    """A run of Breakout."""
    return Part(name, lambda s: measure(load_config(BREAKOUT, devices=1, **changes), s), limit)


def learning(config: Config, limit: float) -> dict[str, Any]:
    """Returns of a run, beside those that are known. Shortly before the limit the run ends."""
    seconds = 0.85 * limit
    alarm = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()
    try:
        result = run(config, progress=False)
    finally:
        alarm.cancel()
    middle, low, high = iqm_interval([result.final_returns])
    row = summarize(config.env_name, result) | {
        "iqm": round(middle, 3),
        "iqm_interval_95": [round(low, 3), round(high, 3)],
        "peak_mib": peak_mib(),
        "known_on_cpu": KNOWN,
    }
    cut_off = {"failed": f"not at its end after {seconds:.0f} s"}
    return row if result.finished else row | cut_off


def repetition(config: Config, _: float) -> dict[str, Any]:
    """A short run, and a hash of all of its metrics."""
    result = run(config, progress=False)
    digest = hashlib.sha256()
    for name in sorted(result.metrics):
        digest.update(name.encode() + np.ascontiguousarray(result.metrics[name]).tobytes())
    return {
        "seeds": config.seeds,
        "strategy": result.config.strategy,
        "run_seconds": round(result.run_seconds, 2),
        "bits": digest.hexdigest()[:16],
    }


def parts(small: bool) -> list[Part]:
    """All parts, the most valuable first; in small, some of every kind."""
    return small_parts() if small else [
        *(speed_part(BREAKOUT, "vmap", seeds) for seeds in (64, 1)),
        training_part(f"learning {BREAKOUT} 128", learning, 420, seeds=128),
        *(speed_part(BREAKOUT, "vmap", seeds) for seeds in (1024, 256, 16)),
        *(ppo_part("64x128", seeds) for seeds in (64, 1, 256)),
        *repetitions(5, seeds=8, total_timesteps=8 * 8192, n_pi=4, num_aux_minibatches=16),
        *(speed_part(CNN, "vmap", seeds) for seeds in (64, 1, 1024)),
        *other_strategies(BREAKOUT),
        *(speed_part(CNN, "vmap", seeds) for seeds in (256, 16)),
        *(ppo_part("2048x10", seeds) for seeds in (64, 1, 256)),
        *other_strategies(CNN),
    ]  # fmt: skip


def other_strategies(name: str) -> list[Part]:
    """What ``vmap`` of as many seeds is compared with."""
    return [
        speed_part(name, "map", 16),
        speed_part(name, "chunk", 1024, chunk_size=128),
        speed_part(name, "chunk", 256, chunk_size=64),
    ]


def repetitions(runs: int, **changes: Any) -> list[Part]:
    """The same short run several times."""
    names = [f"repetition {BREAKOUT} {i + 1}" for i in range(runs)]
    return [training_part(name, repetition, 75, **changes) for name in names]


def small_parts() -> list[Part]:
    """The same in tiny."""
    few = [
        speed_part(BREAKOUT, "vmap", 2, **SMALL),
        speed_part(BREAKOUT, "map", 2, **SMALL),
        speed_part(CNN, "chunk", 2, chunk_size=1, **SMALL),
        ppo_part("64x128", 2, **SMALL),
        training_part(
            f"learning {BREAKOUT} 2", learning, 0, seeds=2, total_timesteps=2_560, **SMALL
        ),
        *repetitions(2, seeds=2, total_timesteps=256, **SMALL),
    ]
    return [dataclasses.replace(part, limit=120) for part in few]


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
