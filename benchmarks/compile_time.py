"""Seconds until a configuration's whole run is traced and compiled, each in a fresh process.

    python benchmarks/compile_time.py minatar/breakout cartpole --seeds 1 8 64

``options``: ``ours`` is what ``ppg_jax.run`` and the command line tell XLA, ``none`` is what
``jax.jit`` does by itself. All in turn, medians; ``over_fewest`` is the median quotient of
seconds over those of the fewest seeds in the same round.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from typing import Any

from common import finish, fresh_process, in_turn, options, ratio


def once(name: str, seeds: int, ours: bool) -> dict[str, Any]:
    """Traces and compiles all programs of a run, in this process."""
    import jax

    from ppg_jax.algorithm.train import build
    from ppg_jax.config.yaml_files import load_config
    from ppg_jax.execution import segments
    from ppg_jax.execution.dispatch import repeat, shard
    from ppg_jax.execution.layout import lay_out

    config = load_config(name)
    layout = lay_out(config, seeds)
    if not ours:
        backend = dataclasses.replace(layout.backend, compiler_options=())
        layout = dataclasses.replace(layout, backend=backend)
    build(config)  # imports gymnax and tries the environment: once a process, whatever is compiled
    hparams, *_ = repeat(jax.tree.map(jax.numpy.float32, config.hparams), layout)
    state: Any = shard(jax.random.split(jax.random.key(config.seed), seeds), layout)[0]
    programs = [program for program, *_ in segments.programs(config, layout, shared=True)]
    began = time.perf_counter()
    segments.compile_all(programs, layout, hparams, state)
    return {"layout": str(layout), "seconds": time.perf_counter() - began}


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows for every configuration, seed count and kind of options."""
    kinds = [(n, s, o) for n in args.configs for s in args.seeds for o in args.options]
    layouts: dict[tuple, str] = {}

    def timer(kind: tuple) -> float:
        name, seeds, given = kind
        found = fresh_process(__file__, name, "--seeds", seeds, "--options", given, "--once")
        layouts[kind] = found["layout"]
        return found["seconds"]

    seconds = in_turn({kind: lambda kind=kind: timer(kind) for kind in kinds}, args.repeats)
    rows = []
    for name, seeds, given in kinds:
        kind, fewest = (name, seeds, given), (name, args.seeds[0], given)
        row = {"config": name, "seeds": seeds, "layout": layouts[kind], "options": given}
        row["seconds"] = round(statistics.median(seconds[kind]), 2)
        rows.append(row | {"over_fewest": round(1 / ratio(seconds[kind], seconds[fewest]), 3)})
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["minatar/breakout", "cartpole"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--options", nargs="+", default=["ours"], choices=["ours", "none"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.once:
        print(json.dumps(once(args.configs[0], args.seeds[0], args.options == ["ours"])))
        return 0
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
