"""Returns of several configurations after the same number of environment steps, with intervals.

    python benchmarks/learning.py minatar/breakout ppo/minatar/breakout --seeds 5 --out result.json

Every configuration runs as it stands, with the same seeds. The last figure is the bootstrap
interval of the difference between the first two configurations' mean returns.
"""

import sys
from typing import Any

import numpy as np
from common import finish, options
from report import REPORT, whole
from rich.console import Console

from ppg_jax.config.yaml_files import load_config
from ppg_jax.report.statistics import mean_interval, smooth_returns
from ppg_jax.runs.result import Result
from ppg_jax.runs.run import run


def summarize(name: str, result: Result) -> dict:
    """Final return of every seed, their mean and interval, and the curve of their mean."""
    mean, low, high = mean_interval(result.final_returns)
    steps, returns = smooth_returns(result.metrics, 20)
    count = np.isfinite(returns).sum(0)
    curve = np.nansum(returns, 0) / np.where(count > 0, count, np.nan)
    return {
        "config": name,
        "env_steps_per_seed": int(result.metrics["env_steps"][0, -1]),
        "final_returns": np.round(result.final_returns, 3).tolist(),
        "mean": round(mean, 3),
        "interval_95": [round(low, 3), round(high, 3)],
        "curve_env_steps": steps.tolist(),
        "curve_mean_return": np.round(curve, 3).tolist(),
        "strategy": result.config.strategy,
        "compile_seconds": round(result.compile_seconds, 2),
        "run_seconds": round(result.run_seconds, 2),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
    }


def difference(a: np.ndarray, b: np.ndarray) -> dict:
    """Difference of two means with a 95% percentile bootstrap interval over seeds."""
    rng = np.random.default_rng(0)
    resampled = [
        rng.choice(x, (10_000, len(x))).mean(1) for x in (a[np.isfinite(a)], b[np.isfinite(b)])
    ]
    low, high = np.percentile(resampled[0] - resampled[1], [2.5, 97.5])
    mean = np.nanmean(a) - np.nanmean(b)
    return {"mean": round(float(mean), 3), "interval_95": [round(low, 3), round(high, 3)]}


def measure(names: list[str], changes: dict[str, Any]) -> dict[str, Any]:
    """Trains them all, one after the other."""
    console = Console(stderr=True)
    results, runs = [], []
    for name in names:
        results.append(whole(run(load_config(name, **changes), console=console)))
        runs.append(REPORT.add(summarize(name, results[-1])))
    if len(runs) == 1:
        return {"runs": runs}
    first, second = (result.final_returns for result in results[:2])
    return {"runs": runs, "first_minus_second": difference(first, second)}


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--total-timesteps", help="instead of each configuration's own")
    args = parser.parse_args(argv)
    changes: dict[str, Any] = {"seeds": args.seeds}
    if args.total_timesteps:
        changes["total_timesteps"] = args.total_timesteps
    return finish(args, lambda: measure(args.configs, changes))


if __name__ == "__main__":
    sys.exit(main())
