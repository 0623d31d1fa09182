"""Several processes train a run: against one process, and killed again and again.

    python benchmarks/processes.py --kills 20

First the same run in one process and in several: wall time, and whether all bits are equal. Then a
run in several processes, in which a random one is killed with SIGKILL at a random moment after the
processes have met. The script measures how long the others take to end, compares what is written
so far with the run left alone, and resumes. In the end everything is compared. Exit code 1 if
anything differs, or if a process does not end by itself.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import REPORT, finish, options
from faults import everything
from report import say

COMMAND = [sys.executable, "-m", "ppg_jax", "train"]
SAVING = ["--checkpoint-every", "1", "--keep", "2"]
LONGEST_END = 90.0
"""Seconds after which a process that has not ended counts as hanging."""


def config_options(phases: int, seeds: int) -> list[str]:
    """CartPole in small phases, so that a good part of the time is saving."""
    sizes = {"num-envs": 8, "num-steps": 64, "n-pi": 2, "num-minibatches": 4, "seeds": seeds}
    sizes |= {"num-aux-minibatches": 4, "total-timesteps": phases * 2 * 8 * 64}
    return ["cartpole", *(x for name, size in sizes.items() for x in (f"--{name}", str(size)))]


class Life:
    """The processes of one command, from their start to their end."""

    def __init__(self, args: list[str], count: int) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{s.getsockname()[1]}"
        join = ["--distributed", "--coordinator", place, "--num-processes", str(count)]
        each = [[*join, "--process-id", str(i)] for i in range(count)] if count > 1 else [[]]
        self.processes = [
            subprocess.Popen(
                [*COMMAND, *args, *SAVING, *own],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for own in each
        ]  # fmt: skip
        self.errors = [""] * len(self.processes)
        self.met = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(i,)) for i in range(len(self.processes))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, i: int) -> None:
        process = self.processes[i]
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in process.stdout:
            self.met.set()  # the first one shows something when all have met
        self.errors[i] = process.stderr.read()
        self.met.set()

    def end(self, seconds: float | None) -> list[int | None]:
        """Waits for the ends; the exit codes, None for what hangs."""
        until = None if seconds is None else time.monotonic() + seconds
        codes: list[int | None] = []
        for process in self.processes:
            try:
                left = None if until is None else max(0.1, until - time.monotonic())
                codes.append(process.wait(left))
            except subprocess.TimeoutExpired:
                codes.append(None)
                process.kill()
        for reader in self._readers:
            reader.join()
        return codes


def to_the_end(args: list[str], count: int) -> float:
    """Lets a command run to its end; its seconds."""
    began = time.monotonic()
    life = Life(args, count)
    codes = life.end(None)
    if any(codes):
        raise SystemExit(f"exit codes {codes}: {life.errors}")
    return round(time.monotonic() - began, 2)


def kill_one(args: list[str], count: int, rng: random.Random, longest: float) -> dict[str, Any]:
    """One life, in which a random process is killed; or the run came to its end before."""
    life = Life(args, count)
    life.met.wait()
    victim, after = rng.randrange(count), round(rng.uniform(0.0, longest), 2)
    time.sleep(after)
    if any(process.poll() is not None for process in life.processes):
        codes = life.end(LONGEST_END)
        if any(codes):
            raise SystemExit(f"nobody was killed, but exit codes {codes}: {life.errors}")
        return {"killed": None}
    os.kill(life.processes[victim].pid, signal.SIGKILL)
    began = time.monotonic()
    codes = life.end(LONGEST_END)
    seconds = round(time.monotonic() - began, 2)
    others = [i for i in range(count) if i != victim]
    lines = [life.errors[i].strip() for i in others]
    return {
        "killed": victim,
        "seconds_after_meeting": after,
        "seconds_until_others_ended": seconds,
        "exit_codes_of_others": [codes[i] for i in others],
        "one_line_each": all(line.count("\n") == 0 and "is gone" in line for line in lines),
        "line": lines[0][:400],
    }


def phases_saved(folder: Path) -> int:
    names = [p.name for p in (folder / "checkpoints" / "phases").glob("phase_*")]
    return max((int(n[6:]) for n in names if n[6:].isdigit()), default=0)


def same_so_far(folder: Path, alone: Path, seeds: int) -> bool:
    """Whether the metrics up to the newest checkpoint are those of the run left alone."""
    rows = 1 + phases_saved(folder) * 2 * seeds
    if rows == 1:
        return True
    found, want = (
        (place / "metrics.csv").read_bytes().splitlines()[:rows] for place in (folder, alone)
    )
    return found == want


def different(folder: Path, alone: Path) -> list[str]:
    """Names of all that differs between two finished runs."""
    want, found = everything(alone), everything(folder)
    return [name for name in want if not np.array_equal(want[name], found.get(name))]


def begin_or_resume(folder: Path, begin: list[str]) -> list[str]:
    if (folder / "config.yaml").exists():
        return ["--resume", str(folder)]
    shutil.rmtree(folder, ignore_errors=True)
    return [*begin, "--out", str(folder)]


def measure(args: Any) -> dict[str, Any]:
    rng, begin = random.Random(args.seed), config_options(args.phases, args.seeds)
    work = Path(tempfile.mkdtemp(prefix="processes-"))
    alone, several = work / "alone", work / "several"
    to_the_end([*config_options(2, args.seeds), "--out", str(work / "warm")], 1)  # the cache
    report: dict[str, Any] = {"processes": args.processes, "seeds": args.seeds}
    report["phases"] = args.phases
    for i in range(args.rounds):  # in turn, since other work on the machine comes and goes
        for name, folder, count in (("one", alone, 1), ("several", several, args.processes)):
            shutil.rmtree(folder, ignore_errors=True)
            seconds = to_the_end([*begin, "--out", str(folder)], count)
            report.setdefault(f"seconds_in_{name}", []).append(seconds)
            say(f"round {i + 1}, {name}: {seconds} s")
    report["different_undisturbed"] = different(several, alone)
    REPORT.add(report)
    kills: list[dict[str, Any]] = []
    report |= {"kills": kills, "different_after_kills": [], "runs": 0}
    while len(kills) < args.kills:
        folder = work / f"killed_{report['runs']}"
        life = kill_one(begin_or_resume(folder, begin), args.processes, rng, args.longest)
        if life["killed"] is None:
            report["different_after_kills"] += different(folder, alone)
            report["runs"] += 1
            continue
        life["line"] = life["line"].replace(str(folder), "DIR")
        life |= {"phase": phases_saved(folder), "same": same_so_far(folder, alone, args.seeds)}
        kills.append(life)
        say(f"kill {len(kills)}: {life}")
        REPORT.rows[:] = [report]
        REPORT.write(REPORT.so_far())
    if kills:
        folder = work / f"killed_{report['runs']}"
        to_the_end(begin_or_resume(folder, begin), 1)  # on another number of processes
        report["different_after_kills"] += different(folder, alone)
        report["runs"] += 1
    ends = [life["seconds_until_others_ended"] for life in kills]
    if ends:
        report["seconds_until_others_ended"] = {"median": float(np.median(ends)), "max": max(ends)}
    ended_well = all(x["one_line_each"] and None not in x["exit_codes_of_others"] for x in kills)
    differ = report["different_undisturbed"] or report["different_after_kills"]
    report["good"] = ended_well and not differ and all(x["same"] for x in kills)
    if report["good"]:
        shutil.rmtree(work)
    else:
        say(f"the folders are kept in {work}")
    return report


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1, help="runs in one and in several, in turn")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--phases", type=int, default=400)
    parser.add_argument("--longest", type=float, default=12.0, help="latest moment of a kill, in s")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    report: dict[str, Any] = {}

    def once() -> dict[str, Any]:
        report.update(measure(args))
        return report

    return finish(args, once) or (0 if report["good"] else 1)


if __name__ == "__main__":
    sys.exit(main())
