"""Environment steps per second of training, for a configuration and a list of seed counts.

    python benchmarks/throughput.py minatar/breakout --seeds 1 8 --out result.json

Compile time is measured apart; a phase is repeated and its median counts.
"""

import math
import sys

from common import finish, options, peak_mib
from report import REPORT, say

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.speed import measure_speed
from ppg_jax.runs.session import resolve


def measure(config: Config, repeats: int, most_seconds: float = math.inf) -> dict:
    """Compiles one phase for all seeds and times it ``repeats`` times after a warm-up.

    After ``most_seconds`` three times are enough. ``compiled_mib`` is XLA's account of what all
    seeds hold, ``compiled_peak_mib`` of what one call holds at most, ``peak_mib`` the device's.
    """
    speed = measure_speed(resolve(config), repeats, most_seconds=most_seconds, note=say)
    return {
        "seeds": config.seeds,
        "layout": str(speed.plan.layout),
        "aux_storage": speed.plan.config.aux_storage,
        "compile_seconds": round(speed.compile_seconds, 3),
        "env_steps_per_run": speed.steps,
        "run_seconds": [round(s, 4) for s in speed.run_seconds],
        "env_steps_per_second": round(speed.steps_per_second, 1),
        "compiled_mib": round(speed.compiled_bytes / 2**20, 1),
        "compiled_peak_mib": round(speed.compiled_peak_bytes / 2**20, 1),
        "peak_mib": peak_mib(),
    }


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config", nargs="?", default="minatar/breakout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--strategy", default="auto", choices=["auto", "vmap", "map", "chunk"])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)

    def results() -> list[dict]:
        base = load_config(args.config, strategy=args.strategy)
        return [
            REPORT.add({"config": args.config} | measure(base.replace(seeds=seeds), args.repeats))
            for seeds in args.seeds
        ]

    return finish(args, results)


if __name__ == "__main__":
    sys.exit(main())
