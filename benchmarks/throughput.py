"""Environment steps per second of training, for a configuration and a list of seed counts.

    python benchmarks/throughput.py minatar/breakout --seeds 1 8 --out result.json

Compile time is measured apart; a run is repeated and its median counts.
"""

import argparse
import functools
import json
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from ppg_jax.config import Config, ConfigError
from ppg_jax.files import load_config
from ppg_jax.parallel import compiler_options, over_seeds, resolve_strategy
from ppg_jax.train import init, train_phases


def measure(config: Config, repeats: int) -> dict:
    """Compiles one phase for all seeds and times it ``repeats`` times after a warm-up."""
    strategy = resolve_strategy(config)
    hparams = jax.tree.map(jnp.float32, config.hparams)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    state = jax.jit(jax.vmap(functools.partial(init, config)))(keys)
    phase = over_seeds(lambda h, s: train_phases(config, h, s, 1), strategy)
    began = time.perf_counter()
    options = compiler_options()
    program = jax.jit(phase, donate_argnums=(1,), compiler_options=options)
    lowered = program.lower(hparams, state)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    state, _ = jax.block_until_ready(compiled(hparams, state))
    seconds = []
    for _ in range(repeats):
        began_run = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(hparams, state))
        seconds.append(time.perf_counter() - began_run)
    steps = config.seeds * config.n_pi * config.steps_per_iteration
    return {
        "seeds": config.seeds,
        "strategy": strategy,
        "trace_seconds": round(traced - began, 3),
        "compile_seconds": round(done - traced, 3),
        "env_steps_per_run": steps,
        "run_seconds": [round(s, 4) for s in seconds],
        "env_steps_per_second": round(steps / statistics.median(seconds), 1),
    }


def environment() -> dict:
    """Device and versions, to stand beside every figure."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ppg-jax", "jax", "jaxlib", "flax")},
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="minatar/breakout")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--strategy", default="auto", choices=["auto", "vmap", "map"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the JSON here, not only to the screen")
    args = parser.parse_args(argv)
    try:
        base = load_config(args.config, strategy=args.strategy)
        # One phase is what is timed, however long the configuration's own run is.
        base = base.replace(total_timesteps=base.n_pi * base.steps_per_iteration)
        rows = [measure(base.replace(seeds=seeds), args.repeats) for seeds in args.seeds]
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = json.dumps({"config": args.config, **environment(), "results": rows}, indent=2)
    print(report)
    if args.out:
        args.out.write_text(report + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
