"""Runs the same sweep of seeds again and again, each in a process with a time limit.

    python benchmarks/hang.py --pythons .venv/bin/python /elsewhere/bin/python --repeats 20

Some releases of jaxlib deadlock at random on CPU in vmapped training programs. A run that is not
back within the limit is killed and counted as a hang. Exit code 1 if there was one.
"""

import subprocess
import sys
import time
from typing import Any

from common import finish, options
from report import REPORT

CHILD = """
import platform, sys, jax
import ppg_jax
from ppg_jax.execution import lay_out
config = ppg_jax.load_config(
    sys.argv[1], strategy=sys.argv[2], total_timesteps=int(sys.argv[4]), n_pi=int(sys.argv[5])
)
result = ppg_jax.run(config, seeds=int(sys.argv[3]), progress=False)
layout = lay_out(result.config, result.config.seeds)
print(platform.python_version(), jax.__version__, result.run_seconds, layout)
"""


def once(python: str, strategy: str, args: Any) -> dict:
    """One run; ``hung`` if it had to be killed."""
    numbers = map(str, (args.seeds, args.timesteps, args.n_pi))
    command = [python, "-W", "ignore", "-c", CHILD, args.config, strategy, *numbers]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=args.limit
        )
    except subprocess.TimeoutExpired:
        return {"hung": True}
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr[-2000:]}")
    python_version, jax_version, seconds, layout = done.stdout.strip().split(maxsplit=3)
    return {
        "hung": False,
        "jax": f"{jax_version} on Python {python_version}",
        "layout": layout,
        "run_seconds": float(seconds),
        "seconds": time.perf_counter() - began,
    }


def measure(args: Any) -> list[dict]:
    """A row for every Python and strategy."""
    rows = []
    for python in args.pythons:
        for strategy in args.strategies:
            runs = []
            for _ in range(args.repeats):
                runs.append(once(python, strategy, args))
                print(
                    f"{python} {strategy} {len(runs)}/{args.repeats}: {runs[-1]}", file=sys.stderr
                )
            ended = [run for run in runs if not run["hung"]]
            row = REPORT.add(
                {
                    "jax": sorted({run["jax"] for run in ended}),
                    "strategy": strategy,
                    "layout": sorted({run["layout"] for run in ended}),
                    "seeds": args.seeds,
                    "limit_seconds": args.limit,
                    "runs": len(runs),
                    "hung": len(runs) - len(ended),
                    "longest_seconds": round(max((r["seconds"] for r in ended), default=0.0), 1),
                }
            )
            rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config", nargs="?", default="minatar/breakout")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable])
    parser.add_argument("--strategies", nargs="+", default=["vmap", "auto"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--timesteps", type=int, default=4 * 8192, help="of each seed")
    parser.add_argument("--n-pi", type=int, default=4, help="so that a short run has phases")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--limit", type=float, default=180, help="seconds until a run has hung")
    args = parser.parse_args(argv)
    code = finish(args, lambda: measure(args))
    return code or (1 if any(row["hung"] for row in REPORT.rows) else 0)


if __name__ == "__main__":
    sys.exit(main())
