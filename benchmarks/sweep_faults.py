"""Kills a sweep again and again at random moments, resumes it, and compares what comes out.

    python benchmarks/sweep_faults.py --kills 10

A sweep of several programs is killed with SIGKILL at a random moment of each of its lives, while
starting, compiling, training or saving, and resumed. In the end its metrics, its ranking and the
parameters and last checkpoint of every group must be, byte for byte and number for number, those of
the same sweep left alone. Exit code 1 if they are not.
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
import yaml
from common import REPORT, finish, options

from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.packing import to_arrays
from ppg_jax.runs.checkpoints.parameters import load_parameters
from ppg_jax.runs.sweep_folder import saved_groups

COMMAND = [sys.executable, "-m", "ppg_jax", "sweep"]
SAVING = ["--checkpoint-every", "5", "--keep", "2", "--quiet"]
FILES = ("metrics.csv", "settings.csv", "settings.md", "sweep.yaml", "config.yaml")


def write_spec(place: Path, phases: int) -> Path:
    """CartPole in small phases: four programs of two settings and two seeds each."""
    sizes = {"num_envs": 8, "num_steps": 32, "n_pi": 2, "num_minibatches": 4}
    sizes |= {"num_aux_minibatches": 4, "e_aux": 2, "total_timesteps": (phases * 2 + 1) * 8 * 32}
    values = {"arch": ["dual", "shared"], "e_pi": [1, 2], "learning_rate": [1e-3, 1e-2]}
    spec = place / "spec.yaml"
    fields = {"config": "cartpole", "seeds": 2, "changes": sizes, "values": values}
    spec.write_text(yaml.safe_dump(fields))
    return spec


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
        raise SystemExit(f"the sweep ended with {process.returncode}: {error}")
    return False


def progress(folder: Path) -> str:
    """Where the sweep was when it was killed."""
    groups = sorted((folder / "groups").glob("*"))
    done = sum((group / "summary.json").is_file() for group in groups)
    phases = Checkpoints(groups[-1]).phases() if groups else []
    return f"{done} groups trained, {len(groups)} begun, newest checkpoint {max(phases, default=0)}"


def everything(folder: Path) -> dict[str, Any]:
    """What must be the same: files, final parameters, and the last state of every group."""
    found: dict[str, Any] = {
        name: np.frombuffer((folder / name).read_bytes(), np.uint8) for name in FILES
    }
    for group in saved_groups(folder):
        config, name = group.replicas, group.folder.name
        saved, damaged = Checkpoints(group.folder).newest(config)
        assert saved is not None, damaged
        state = to_arrays([saved.state], config.seeds)
        found |= {f"group {name} {key}": x for key, x in state.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # damaged, and taken from elsewhere
            final = jax.tree.leaves(load_parameters(group.folder, config))
        found |= {f"group {name} final {i}": np.asarray(x) for i, x in enumerate(final)}
        text = (group.folder / "metrics.csv").read_bytes()
        found[f"group {name} metrics.csv"] = np.frombuffer(text, np.uint8)
    return found


def next_life(folder: Path, spec: Path) -> list[str]:
    """Arguments for the next life; what died before it wrote its description begins anew."""
    if (folder / "sweep.yaml").exists() and (folder / "config.yaml").exists():
        return ["--resume", str(folder)]
    shutil.rmtree(folder, ignore_errors=True)
    return [str(spec), "--out", str(folder)]


def measure(args: Any) -> dict[str, Any]:
    rng = random.Random(args.seed)
    work = Path(tempfile.mkdtemp(prefix="sweep-faults-"))
    alone, killed, spec = work / "alone", work / "killed", write_spec(work, args.phases)
    began = time.monotonic()
    live([str(spec), "--out", str(alone)], None)
    print(f"the sweep alone took {time.monotonic() - began:.0f} s", file=sys.stderr)
    endings: list[str] = []
    while len(endings) < args.kills:
        seconds = rng.uniform(args.shortest, args.longest)
        if not live(next_life(killed, spec), seconds):
            break
        endings.append(f"after {seconds:.1f} s: {progress(killed)}")
        REPORT.rows[:] = [{"kills": len(endings), "each": endings}]
        print(f"kill {len(endings)} {endings[-1]}", file=sys.stderr)
    live(next_life(killed, spec), None)
    want, found = everything(alone), everything(killed)
    names = sorted({*want, *found})
    different = [n for n in names if n not in found or n not in want
                 or not np.array_equal(want[n], found[n])]  # fmt: skip
    report = {
        "kills": len(endings),
        "phases": args.phases,
        "groups": len(saved_groups(alone)),
        "each": endings,
        "compared": len(names),
        "different": different,
    }
    if not different:
        shutil.rmtree(work)
    return report


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--phases", type=int, default=300, help="phases of each group")
    parser.add_argument("--shortest", type=float, default=4.0, help="seconds of a life, at least")
    parser.add_argument("--longest", type=float, default=25.0, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    report: dict[str, Any] = {}

    def once() -> dict[str, Any]:
        report.update(measure(args))
        return report

    return finish(args, once) or (1 if report["different"] else 0)


if __name__ == "__main__":
    sys.exit(main())
