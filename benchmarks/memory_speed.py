"""What memories cost: env steps/s of training with each, by the length of the sequences.

    python benchmarks/memory_speed.py --num-steps 128 512

One phase of PPG on CartPole (two 64-64 MLPs and memories of 64 units), one seed. A rollout has as
many steps however long its sequences are, so fewer environments stand beside one another in longer
ones: what is lost from the first length to the last is the price of going through time step by
step. ``over_none`` compares within a round, at the same length; ``over_shortest`` a memory with
itself.
"""

import statistics
import sys
from typing import Any

from common import Phases, finish, in_turn, options, ratio

from ppg_jax.config.config import Config
from ppg_jax.execution.layout import choose_layout


def program(memory: str, num_steps: int, args: Any) -> Phases:
    num_envs = args.samples // num_steps
    config = Config(
        env="CartPole-v1",
        num_envs=num_envs,
        num_steps=num_steps,
        n_pi=4,
        num_minibatches=4,
        num_aux_minibatches=16,
        total_timesteps=4 * args.samples,
        network={"memory": memory, "history_length": args.history_length},  # type: ignore[arg-type]
    )
    return Phases(config, choose_layout(config, 1))


def measure(args: Any) -> list[dict]:
    kinds = [(memory, steps) for memory in args.memories for steps in args.num_steps]
    programs = {kind: program(*kind, args) for kind in kinds}
    seconds = in_turn(programs, args.repeats)
    rows = []
    for (memory, steps), phases in programs.items():
        own, shortest = seconds[memory, steps], seconds[memory, min(args.num_steps)]
        row = {
            "memory": memory,
            "num_steps": steps,
            "num_envs": phases.config.num_envs,
            "env_steps_per_second": round(phases.steps / statistics.median(own)),
            "over_shortest": round(ratio(own, shortest), 3),
            "compile_seconds": round(phases.compile_seconds, 2),
            "memory_mib": round(phases.memory_mib, 1),
        }
        if ("none", steps) in programs:
            row["over_none"] = round(ratio(own, seconds["none", steps]), 3)
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument(
        "--memories", nargs="+", default=["none", "lstm", "gru", "mingru", "history"]
    )
    parser.add_argument("--num-steps", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--samples", type=int, default=8192, help="of a rollout")
    parser.add_argument("--history-length", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
