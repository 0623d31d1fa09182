"""What memories are worth: returns of a configuration with each of them, and of recurrent PPO.

    python benchmarks/memories.py memory/memory_chain --memories none lstm gru mingru history
    python benchmarks/memories.py memory/cartpole --memories gru --ppo --seeds 10

Every run has the same seeds. Returns are of the last tenth of a run; ``iqm`` is their interquartile
mean over seeds with a 95% bootstrap interval. With ``--ppo`` the same network is also trained by
recurrent PPO: ``arch: shared``, no auxiliary phase, 3 epochs, everything else alike; the last row
is PPG's mean less PPO's.
"""

import sys
from typing import Any

import numpy as np
from common import finish, options
from learning import difference
from report import REPORT, whole
from rich.console import Console

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.report.statistics import iqm_interval
from ppg_jax.runs.run import run

PPO = {"arch": "shared", "e_aux": 0, "e_pi": 3, "e_v": 3, "n_pi": 1}


def variants(args: Any) -> list[tuple[str, str, Config]]:
    """Memory, algorithm and configuration of every run."""
    base = load_config(args.config, seeds=args.seeds)
    if args.total_timesteps:
        base = base.replace(total_timesteps=args.total_timesteps)
    found = []
    for memory in args.memories:
        network = {**base.to_dict()["network"], "memory": memory}
        if args.memory_size:
            network["memory_size"] = args.memory_size
        config = base.replace(network=network)
        found.append((memory, "ppg", config))
        if args.ppo:
            found.append((memory, "ppo", config.replace(**PPO)))
    return found


def measure(args: Any) -> list[dict]:
    console, rows, finals = Console(stderr=True), [], {}
    for memory, algorithm, config in variants(args):
        result = whole(run(config, progress=True, console=console))
        returns = finals[memory, algorithm] = result.final_returns
        middle, low, high = iqm_interval([returns])
        row = REPORT.add(
            {
                "config": args.config,
                "memory": memory,
                "algorithm": algorithm,
                "env_steps_per_seed": int(result.metrics["env_steps"][0, -1]),
                "final_returns": np.round(returns.astype(float), 3).tolist(),
                "iqm": round(float(middle), 3),
                "interval_95": [round(float(low), 3), round(float(high), 3)],
                "run_seconds": round(result.run_seconds, 1),
                "env_steps_per_second": round(result.env_steps_per_second),
            }
        )
        rows.append(row)
    for memory in args.memories if args.ppo else ():
        gap = difference(finals[memory, "ppg"], finals[memory, "ppo"])
        rows.append(REPORT.add({"config": args.config, "memory": memory, "ppg_minus_ppo": gap}))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config")
    parser.add_argument(
        "--memories", nargs="+", default=["none", "lstm", "gru", "mingru", "history"]
    )
    parser.add_argument("--ppo", action="store_true", help="recurrent PPO beside recurrent PPG")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--memory-size", type=int, help="instead of the configuration's own")
    parser.add_argument("--total-timesteps", help="instead of the configuration's own")
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
