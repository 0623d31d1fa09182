"""Kills a run again and again at random moments, goes on with it, and compares what comes out.

    python benchmarks/faults.py --kills 30

A run with a checkpoint after every phase is killed with SIGKILL at a random moment of each of its
lives, while starting, training or saving, and resumed. In the end its metrics, its final parameters
and its last checkpoint must be, byte for byte and number for number, those of the same run left
alone. Exit code 1 if they are not.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import REPORT, finish, options

from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.packing import to_arrays
from ppg_jax.runs.checkpoints.parameters import load_parameters
from ppg_jax.runs.folder import folder_config

COMMAND = [sys.executable, "-m", "ppg_jax", "train"]
SAVING = ["--checkpoint-every", "1", "--keep", "2", "--quiet"]


def config_options(phases: int) -> list[str]:
    """CartPole in small phases, so that a good part of the time is saving."""
    steps = phases * 2 * 8 * 64
    sizes = {"num-envs": 8, "num-steps": 64, "n-pi": 2, "num-minibatches": 4}
    sizes |= {"num-aux-minibatches": 4, "total-timesteps": steps, "seeds": 2}
    return ["cartpole", *(x for name, size in sizes.items() for x in (f"--{name}", str(size)))]


def live(args: list[str], seconds: float | None) -> bool:
    """One life of the process; whether it was killed rather than came to its end."""
    process = subprocess.Popen(
        [*COMMAND, *args, *SAVING], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}: {error}")
    return False


def phases_saved(folder: Path) -> int:
    names = [p.name for p in (folder / "checkpoints" / "phases").glob("phase_*")]
    done = [int(n.removeprefix("phase_")) for n in names if n.removeprefix("phase_").isdigit()]
    return max(done, default=0)


def half_written(folder: Path) -> bool:
    """Whether a save was under way: orbax names what is unfinished so."""
    return any((folder / "checkpoints" / "phases").glob("*tmp*"))


def everything(folder: Path) -> dict[str, Any]:
    """What must be the same: metrics, final parameters, and the whole last state."""
    config = folder_config(folder)
    saved, damaged = Checkpoints(folder).newest(config)
    assert saved is not None, damaged
    found: dict[str, Any] = dict(to_arrays([saved.state], config.seeds))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # damaged, and taken from elsewhere
        final = jax.tree.leaves(load_parameters(folder, config))
    found |= {f"final {i}": np.asarray(x) for i, x in enumerate(final)}
    found["metrics.csv"] = np.frombuffer((folder / "metrics.csv").read_bytes(), np.uint8)
    return found


def begin_or_resume(folder: Path, phases: int) -> list[str]:
    """Arguments for the next life; what died before it wrote its configuration begins anew."""
    if (folder / "config.yaml").exists():
        return ["--resume", str(folder)]
    shutil.rmtree(folder, ignore_errors=True)
    return [*config_options(phases), "--out", str(folder)]


def measure(args: Any) -> dict[str, Any]:
    rng = random.Random(args.seed)
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    alone, killed = work / "alone", work / "killed"
    began = time.monotonic()
    live([*config_options(args.phases), "--out", str(alone)], None)
    print(f"the run alone took {time.monotonic() - began:.0f} s", file=sys.stderr)
    kills, in_saves, endings = 0, 0, []
    while kills < args.kills:
        seconds = rng.uniform(args.shortest, args.longest)
        if not live(begin_or_resume(killed, args.phases), seconds):
            break
        kills += 1
        in_saves += half_written(killed)
        endings.append(phases_saved(killed))
        REPORT.rows[:] = [{"kills": kills, "newest_checkpoint_after_each_kill": endings}]
        print(f"kill {kills}: after {seconds:.1f} s, phase {endings[-1]}", file=sys.stderr)
    live(begin_or_resume(killed, args.phases), None)
    want, found = everything(alone), everything(killed)
    different = [n for n in want if n not in found or not np.array_equal(want[n], found[n])]
    report = {
        "kills": kills,
        "kills_during_a_save": in_saves,
        "phases": args.phases,
        "newest_checkpoint_after_each_kill": endings,
        "compared": len(want),
        "different": different,
    }
    if not different:
        shutil.rmtree(work)
    return report


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--phases", type=int, default=800)
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds of a life, at least")
    parser.add_argument("--longest", type=float, default=14.0, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    report: dict[str, Any] = {}

    def once() -> dict[str, Any]:
        report.update(measure(args))
        return report

    return finish(args, once) or (1 if report["different"] else 0)


if __name__ == "__main__":
    sys.exit(main())
