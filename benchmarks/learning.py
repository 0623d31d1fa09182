"""Returns of several configurations after the same number of environment steps, with intervals.

    python benchmarks/learning.py minatar/breakout ppo/minatar/breakout --seeds 5 --out result.json

Every configuration runs as it stands, with the same seeds. The last figure is the bootstrap
interval of the difference between the first two configurations' mean returns.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from throughput import environment

from ppg_jax.config import ConfigError
from ppg_jax.files import load_config
from ppg_jax.report import mean_interval, smooth_returns
from ppg_jax.runner import Result, run


def summarize(name: str, result: Result) -> dict:
    """Final return of every seed, their mean and interval, and the curve of their mean."""
    mean, low, high = mean_interval(result.final_returns)
    steps, returns = smooth_returns(result.metrics, 20)
    return {
        "config": name,
        "env_steps_per_seed": int(result.metrics["env_steps"][0, -1]),
        "final_returns": np.round(result.final_returns, 3).tolist(),
        "mean": round(mean, 3),
        "interval_95": [round(low, 3), round(high, 3)],
        "curve_env_steps": steps.tolist(),
        "curve_mean_return": np.round(np.nanmean(returns, 0), 3).tolist(),
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--total-timesteps", help="instead of each configuration's own")
    parser.add_argument("--out", type=Path, help="write the JSON here, not only to the screen")
    args = parser.parse_args(argv)
    changes = {"seeds": args.seeds}
    if args.total_timesteps:
        changes["total_timesteps"] = args.total_timesteps
    try:
        console = Console(stderr=True)
        results = [run(load_config(name, **changes), console=console) for name in args.configs]
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {
        **environment(),
        "results": [summarize(*pair) for pair in zip(args.configs, results, strict=True)],
    }
    if len(results) > 1:
        a, b = (r.final_returns for r in results[:2])
        report["first_minus_second"] = difference(a, b)
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
