"""Many seeds by every strategy, on one device and on all, called by one thread and by all.

    python benchmarks/seeds.py minatar/breakout benchmarks/breakout_cnn.yaml --seeds 1 8 --n-pi 2

This is what ``auto`` rests on (``ppg_jax/execution/layout.py``). Programs run in turn;
``over_vmap`` and ``over_one_seed`` are medians of the quotients within a round, of environment
steps per second in all. Memory is XLA's account of a device's arguments, outputs and temporaries.
"""

import dataclasses
import statistics
import sys
from typing import Any

import jax
from common import Phases, finish, in_turn, one_phase, options, ratio
from report import rows_of

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.layout import Layout, choose_layout, use_all_cores

CHUNK = 4


def layouts(config: Config, seeds: int, strategies: list[str]) -> dict[str, Layout]:
    """How the seeds may run, by what it is called."""
    found = {"auto": choose_layout(config, seeds)}
    if seeds == 1:  # one seed runs alike by every strategy
        return found
    for devices in sorted({1, min(jax.local_device_count(), seeds)}):
        for strategy in strategies:
            if strategy == "chunk" and seeds // devices <= CHUNK:
                continue
            chunk_size = CHUNK if strategy == "chunk" else None
            changed = config.replace(strategy=strategy, devices=devices, chunk_size=chunk_size)
            layout = choose_layout(changed, seeds)
            for workers in {1, layout.workers}:
                each = dataclasses.replace(layout, workers=workers)
                found[str(each)] = each
    return found


def measure(name: str, args: Any) -> list[dict]:
    """All strategies for all seed counts of one configuration."""
    base = one_phase(load_config(name), args.n_pi)
    programs: dict[tuple[int, str], Phases] = {}
    for seeds in args.seeds:
        for how, layout in layouts(base, seeds, args.strategies).items():
            programs[seeds, how] = Phases(base, layout)
    seconds = in_turn(programs, args.repeats)
    rows = []
    for (seeds, how), program in programs.items():
        own = [s / program.steps for s in seconds[seeds, how]]
        row = {
            "config": name,
            "seeds": seeds,
            "strategy": how,
            "layout": str(program.layout),
            "env_steps_per_second": round(1 / statistics.median(own)),
            "trace_seconds": round(program.trace_seconds, 2),
            "compile_seconds": round(program.compile_seconds, 2),
            "memory_mib": round(program.memory_mib, 1),
        }
        for other, title in (((seeds, "vmap"), "over_vmap"), ((1, "auto"), "over_one_seed")):
            if other in programs and other != (seeds, how):
                theirs = [s / programs[other].steps for s in seconds[other]]
                row[title] = round(ratio(own, theirs), 3)
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["minatar/breakout"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--strategies", nargs="+", default=["vmap", "map", "chunk"])
    parser.add_argument("--n-pi", type=int, help="of the phase that is timed; default its own")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    use_all_cores()
    return finish(args, lambda: rows_of(args.configs, lambda name: measure(name, args)))


if __name__ == "__main__":
    sys.exit(main())
