"""Environment steps per second of training, for a configuration and a list of seed counts.

    python benchmarks/throughput.py minatar/breakout --seeds 1 8 --out result.json

Compile time is measured apart; a phase is repeated and its median counts.
"""

import math
import statistics
import sys

from common import Phases, finish, one_phase, options, peak_mib
from report import REPORT

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.layout import lay_out


def measure(config: Config, repeats: int, most_seconds: float = math.inf) -> dict:
    """Compiles one phase for all seeds and times it ``repeats`` times after a warm-up.

    After ``most_seconds`` three times are enough. ``compiled_mib`` is XLA's account of what all
    seeds hold, ``compiled_peak_mib`` of what one call holds at most, ``peak_mib`` the device's.
    """
    phases = Phases(config, lay_out(config, config.seeds))
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < most_seconds):
        seconds.append(phases())
    return {
        "seeds": config.seeds,
        "layout": str(phases.layout),
        "trace_seconds": round(phases.trace_seconds, 3),
        "compile_seconds": round(phases.compile_seconds, 3),
        "env_steps_per_run": phases.steps,
        "run_seconds": [round(s, 4) for s in seconds],
        "env_steps_per_second": round(phases.steps / statistics.median(seconds), 1),
        "compiled_mib": round(phases.memory_mib, 1),
        "compiled_peak_mib": round(phases.compiled_peak_mib, 1),
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
        base = one_phase(load_config(args.config, strategy=args.strategy))
        # The largest first: only before JAX's first computation do CPU cores become devices.
        order = sorted(args.seeds, reverse=True)
        rows = {}
        for seeds in order:
            row = measure(base.replace(seeds=seeds), args.repeats)
            rows[seeds] = REPORT.add({"config": args.config} | row)
        return [rows[seeds] for seeds in args.seeds]

    return finish(args, results)


if __name__ == "__main__":
    sys.exit(main())
