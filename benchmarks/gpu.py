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
import functools
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
NETWORKS = {"mlp": BREAKOUT, "cnn": str(HERE / "breakout_cnn.yaml")}
PPO_SIZES: dict[str, dict[str, Any]] = {
    "64x128": CASES["breakout"] | {"iterations": 2},
    "2048x10": {
        "env": "Breakout-MinAtar", "num_envs": 2048, "num_steps": 10, "num_minibatches": 32,
        "iterations": 2,
    },
}  # fmt: skip
"""Environments times steps, as PureJaxRL has them for MinAtar and for Brax."""
SMALL = {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "num_aux_minibatches": 2, "n_pi": 2}
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


def phase_speed(config: Config, _: float) -> dict[str, Any]:
    """Speed and memory of one phase."""
    return throughput.measure(config, 5, most_seconds=20)


def speed_part(network: str, strategy: str, seeds: int, chunk: int | None, small: bool) -> Part:
    """PPG on Breakout by a strategy. A phase has two iterations, so that many seeds fit in time."""

    def measure(limit: float) -> dict[str, Any]:
        how = {"strategy": strategy, "chunk_size": chunk, "seeds": seeds, "devices": 1}
        config = load_config(NETWORKS[network], **how, **(SMALL if small else {}))
        return phase_speed(one_phase(config, 2), limit)

    return Part(f"throughput {network} {strategy} {seeds}", measure, 90 if seeds < 1024 else 130)


def ppo_part(size: str, seeds: int, small: bool) -> Part:
    """PPO of PureJaxRL's sizes, vmapped over seeds."""

    def measure(limit: float) -> dict[str, Any]:
        spec = COMMON | PPO_SIZES[size] | {"seeds": seeds}
        config = our_config(spec, "ppo").replace(strategy="vmap", devices=1)
        small_sizes = {k: v for k, v in SMALL.items() if k != "num_aux_minibatches"}
        return phase_speed(one_phase(config.replace(**small_sizes) if small else config), limit)

    return Part(f"ppo {size} vmap {seeds}", measure, 90)


def training(seeds: int, steps: int | None, small: bool) -> Config:
    """Breakout as it is trained, on one device."""
    changes: dict[str, Any] = {"seeds": seeds, "devices": 1} | (SMALL if small else {})
    if steps:
        changes["total_timesteps"] = steps
    return load_config(BREAKOUT, **changes)


def learning(config: Config, limit: float) -> dict[str, Any]:
    """Trains to the end, or as far as the limit allows: the run then ends by itself."""
    alarm = threading.Timer(0.85 * limit, os.kill, (os.getpid(), signal.SIGTERM))
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
    return row if result.finished else row | {"failed": f"not at its end after {0.85 * limit:.0f} s"}


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
    """All parts, the most valuable first; in small, one of every kind."""
    if small:
        few = [
            *(speed_part("mlp", how, 2, 1 if how == "chunk" else None, small)
              for how in ("vmap", "map", "chunk")),
            speed_part("cnn", "vmap", 2, None, small),
            ppo_part("64x128", 2, small),
            learning_part(2, 2_560, small),
            *repetitions(2, 2, 256, small),
        ]  # fmt: skip
        return [dataclasses.replace(part, limit=60) for part in few]
    speed = functools.partial(speed_part, small=small)
    return [
        *(speed("mlp", "vmap", seeds, None) for seeds in (64, 1)),
        learning_part(128, None, small),
        *(speed("mlp", "vmap", seeds, None) for seeds in (1024, 256, 16)),
        *(ppo_part("64x128", seeds, small) for seeds in (64, 1, 256)),
        *repetitions(5, 8, 4 * 8192, small),
        *(speed("cnn", "vmap", seeds, None) for seeds in (64, 1, 1024)),
        speed("mlp", "map", 16, None),
        *(speed("mlp", "chunk", seeds, chunk) for seeds, chunk in ((1024, 128), (256, 64))),
        *(speed("cnn", "vmap", seeds, None) for seeds in (256, 16)),
        *(ppo_part("2048x10", seeds, small) for seeds in (64, 1, 256)),
        speed("cnn", "map", 16, None),
        *(speed("cnn", "chunk", seeds, chunk) for seeds, chunk in ((1024, 128), (256, 64))),
    ]


def learning_part(seeds: int, steps: int | None, small: bool) -> Part:
    """Returns of Breakout; the configuration's own steps where ``steps`` is None."""
    return Part(
        f"learning {BREAKOUT} {seeds}", lambda s: learning(training(seeds, steps, small), s), 420
    )


def repetitions(runs: int, seeds: int, steps: int, small: bool) -> list[Part]:
    """The same short training several times."""

    def measure(limit: float) -> dict[str, Any]:
        config = training(seeds, steps, small)
        fewer = {} if small else {"n_pi": 4, "num_aux_minibatches": 16}
        return repetition(config.replace(**fewer), limit)

    return [Part(f"repetition {BREAKOUT} {i + 1}", measure, 75) for i in range(runs)]


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
        row = {"failed": f"hung: killed after {limit:.0f} s", "hung": True}
    except SystemExit as error:
        row = {"failed": one_line(str(error).strip().splitlines()[-1])}
    return {"part": part.name} | row | {"seconds": round(time.perf_counter() - began, 1)}


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
        "hung": sum(row.get("hung", False) for row in failed),
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
    told = fresh_process(__file__, *part_options(DEVICE, args), timeout=180)
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
    (part,) = (part for part in parts(args.small) if part.name == args.part)
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
