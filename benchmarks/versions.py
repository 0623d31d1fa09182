"""How fast this checkout trains against another one, and how long both compile.

    git worktree add ../before COMMIT
    python benchmarks/versions.py ../before --configs minatar/breakout cartpole --seeds 1 8

Each checkout has a process of its own, and both train in turn, in random order, by
``ppg_jax.run``. ``speed`` is how many times as fast this checkout is: the median over rounds of the
other's seconds over ours. ``same`` is this checkout against itself: the noise of the machine.
``compile`` is our seconds to trace and compile over the other's, medians of fresh processes.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import finish, in_turn, one_phase, options, ratio
from report import rows_of

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config

HERE = Path(__file__).parent.parent
WORKER = """
import json, sys
import ppg_jax

config, seeds = ppg_jax.Config(**json.loads(sys.argv[1])), int(sys.argv[2])
for _ in sys.stdin:
    result = ppg_jax.run(config, seeds=seeds, progress=False, cache=False)
    print(json.dumps([result.compile_seconds, result.run_seconds]), flush=True)
"""


class Checkout:
    """A process that trains with the package of a checkout; each call gives the seconds."""

    def __init__(self, place: Path, *args: Any) -> None:
        environment = os.environ | {"PYTHONPATH": str(place), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=place,
        )
        self.compile_seconds, _ = self._train()

    def _train(self) -> tuple[float, float]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a checkout could not train; its error stands above")
        compiling, running = json.loads(line)
        return compiling, running

    def __call__(self) -> float:
        return self._train()[1]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def measure(case: tuple[str, int], args: Any) -> list[dict]:
    name, seeds = case
    config = one_phase(load_config(name), args.n_pi)
    config = config.replace(total_timesteps=args.phases * config.total_timesteps)
    # Only what is set: the other checkout may not have all fields.
    usual, fields = Config().to_dict(), config.to_dict()
    given = (json.dumps({k: v for k, v in fields.items() if v != usual[k]}), seeds)
    places = {"this": HERE, "other": args.other, "this again": HERE}
    compiling: dict[str, list[float]] = {kind: [] for kind in places}
    checkouts: dict[str, Checkout] = {}
    try:
        for _ in range(args.compiles):
            for kind, place in places.items():
                if kind in checkouts:
                    checkouts[kind].close()
                checkouts[kind] = Checkout(place, *given)
                compiling[kind].append(checkouts[kind].compile_seconds)
        seconds = in_turn(checkouts, args.repeats)
    finally:
        for checkout in checkouts.values():
            checkout.close()
    medians = {kind: statistics.median(x) for kind, x in compiling.items()}
    return [
        {
            "config": name,
            "seeds": seeds,
            "seconds": round(statistics.median(seconds["this"]), 4),
            "speed": round(ratio(seconds["this"], seconds["other"]), 3),
            "same": round(ratio(seconds["this"], seconds["this again"]), 3),
            "compile_seconds": round(medians["this"], 2),
            "compile": round(medians["this"] / medians["other"], 3),
        }
    ]


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--configs", nargs="+", default=["minatar/breakout", "cartpole"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--phases", type=int, default=4, help="of each training")
    parser.add_argument("--n-pi", type=int, default=4, help="iterations of a phase at most")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--compiles", type=int, default=1, help="fresh processes of each kind")
    args = parser.parse_args(argv)
    args.other = args.other.resolve()
    cases = [(name, seeds) for name in args.configs for seeds in args.seeds]
    return finish(args, lambda: rows_of(cases, lambda case: measure(case, args)))


if __name__ == "__main__":
    sys.exit(main())
