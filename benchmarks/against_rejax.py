"""Our PPO and PPG against Rejax's PPO: same game, networks, batch and epochs, in turn.

    python benchmarks/against_rejax.py --seeds 1 8

Makes a virtual environment for Rejax (``--venv``; Rejax needs gymnax 0.0.9, we need 1.x) with the
version of JAX that runs here. Every program lives in a process of its own and trains when told to,
so that ratios are taken within a round. Rejax maps over seeds by ``vmap``, as its documentation
does, ours by ``auto``. Policy and value networks are two 64-64 tanh MLPs each time; our PPO is
``arch: separate``, our PPG has the paper's epochs (``dual``, e_pi 1, e_v 1, n_pi 16, e_aux 6: 14
passes a sample where that PPO does 8) and auxiliary minibatches of twice the policy phase's
samples, as configs/minatar/breakout.yaml has them.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import Phases, finish, in_turn, options, ratio
from rejax_cases import CASES, COMMON
from report import REPORT

from ppg_jax.config.config import Config
from ppg_jax.execution.layout import lay_out


class Worker:
    """A process that trains when called, and gives the seconds."""

    def __init__(self, command: list[Any]) -> None:
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        told = json.loads(self._line())
        self.steps, self.compile_seconds = told["steps"], told["compile_seconds"]

    def __call__(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended with {self._process.wait()}")
        return line

    def close(self) -> None:
        self._process.communicate()


def our_config(spec: dict, algorithm: str) -> Config:
    """The same training by our PPO or PPG."""
    num_envs, num_minibatches = spec["num_envs"], spec["num_minibatches"]
    ppo = algorithm == "ppo"
    n_pi = spec["iterations"] if ppo else 16
    sequences = n_pi * num_envs
    wanted = 8 * num_minibatches  # of twice the samples of a minibatch of the policy phase
    return Config(
        env=spec["env"],
        observation_dtype="bool" if "MinAtar" in spec["env"] else "native",
        num_envs=num_envs,
        num_steps=spec["num_steps"],
        num_minibatches=num_minibatches,
        minibatch_by="sample",
        arch="separate" if ppo else "dual",
        n_pi=n_pi,
        e_pi=spec["epochs"] if ppo else 1,
        e_v=spec["epochs"] if ppo else 1,
        e_aux=0 if ppo else 6,
        num_aux_minibatches=math.gcd(wanted, sequences),
        total_timesteps=n_pi * num_envs * spec["num_steps"],
        normalize_advantages="minibatch",
        normalize_rewards=False,
        seeds=spec["seeds"],
        network={"encoder": "mlp", "activation": "tanh"},  # type: ignore[arg-type]
        hparams={  # type: ignore[arg-type]
            "learning_rate": spec["learning_rate"],
            "max_grad_norm": spec["max_grad_norm"],
            "gamma": spec["gamma"],
            "value_clip_eps": 0.2,
        },
    )


def serve(spec: dict, algorithm: str) -> None:
    """The worker for ours: trains on every line of standard input."""
    config = our_config(spec, algorithm)
    phases = Phases(config, lay_out(config, config.seeds))
    calls = max(1, spec["iterations"] // config.n_pi)  # short phases are run several times
    compile_seconds = phases.trace_seconds + phases.compile_seconds
    steps = phases.steps * calls
    print(json.dumps({"steps": steps, "compile_seconds": compile_seconds}), flush=True)
    for _ in sys.stdin:
        print(sum(phases() for _ in range(calls)), flush=True)


def make_venv(folder: Path) -> Path:
    """A Python with Rejax from the package index."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = ["rejax", "gymnax==0.0.9", "six", f"jax=={version('jax')}"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def measure(args: argparse.Namespace) -> list[dict]:
    python = args.python or make_venv(args.venv)
    here = Path(__file__).parent
    rows = []
    for case in args.cases:
        for seeds in args.seeds:
            spec = COMMON | CASES[case] | {"seeds": seeds}
            spec["iterations"] = CASES[case]["iterations"][seeds > 1]
            text = json.dumps(spec)
            workers = {
                f"our {algorithm}": Worker([sys.executable, __file__, "--serve", algorithm, text])
                for algorithm in ("ppo", "ppg")
            }
            workers["rejax ppo"] = Worker([python, here / "rejax_worker.py", text])
            in_turn(workers, args.before)
            seconds = in_turn(workers, args.repeats)
            for worker in workers.values():
                worker.close()
            per_step = {n: [s / workers[n].steps for s in x] for n, x in seconds.items()}
            for name, worker in workers.items():
                row = REPORT.add(
                    {
                        "case": case,
                        "seeds": seeds,
                        "trainer": name,
                        "env_steps_per_second": round(1 / statistics.median(per_step[name])),
                        "over_rejax": round(ratio(per_step[name], per_step["rejax ppo"]), 2),
                        "compile_seconds": round(worker.compile_seconds, 1),
                    }
                )
                rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--before", type=int, default=0, metavar="N",
        help="rounds that are not timed: what policies observe changes while they learn",
    )  # fmt: skip
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "rejax-venv", help="made here"
    )
    parser.add_argument("--python", type=Path, help="a Python that has Rejax, instead of --venv")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(json.loads(args.serve[1]), args.serve[0])
        return 0
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
