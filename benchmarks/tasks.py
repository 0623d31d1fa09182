"""Learning within a task: mean return of a task's first, second, ... episode, after training.

    python benchmarks/tasks.py meta/bernoulli_bandit --seeds 5

With what the configuration recalls of the step before (RL^2's inputs), and with nothing recalled.
``gain`` is the last episode's mean return less the first's over fresh tasks, a mean over seeds with
a 95% bootstrap interval.
"""

import sys
from typing import Any

import numpy as np
from common import finish, options
from report import REPORT, whole
from rich.console import Console

from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.evaluation import evaluate_seeds
from ppg_jax.execution.layout import lay_out
from ppg_jax.report.statistics import mean_interval
from ppg_jax.runs.run import run


def measure(args: Any) -> list[dict]:
    console, rows = Console(stderr=True), []
    base = load_config(args.config, seeds=args.seeds)
    if args.total_timesteps:
        base = base.replace(total_timesteps=args.total_timesteps)
    network = base.to_dict()["network"]
    for recall in (network["recall"], []):
        config = base.replace(network={**network, "recall": recall})
        result = whole(run(config, console=console))
        state, layout = result.state, lay_out(result.config, args.seeds)
        returns, *_ = evaluate_seeds(
            result.config, layout, state.params, state.obs_stats, 1, args.tasks, greedy=args.greedy
        )
        by_episode = returns.mean(1)  # [seed, episode]
        gain, low, high = mean_interval(by_episode[:, -1] - by_episode[:, 0])
        row = REPORT.add(
            {
                "config": args.config,
                "memory": network["memory"],
                "recall": recall,
                "seeds": args.seeds,
                "tasks": args.tasks,
                "return_by_episode": np.round(by_episode.mean(0).astype(float), 3).tolist(),
                "gain": round(gain, 3),
                "gain_interval_95": [round(low, 3), round(high, 3)],
                "env_steps_per_second": round(result.env_steps_per_second),
            }
        )
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="fresh ones, of each seed")
    parser.add_argument("--greedy", action="store_true", help="the most probable actions")
    parser.add_argument("--total-timesteps", help="instead of the configuration's own")
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
