"""What the host costs: a run by the command line against its compiled program alone, in turn.

    python benchmarks/overhead.py minatar/breakout --timesteps 1048576

The command line's run has progress, CSV, checkpoints, the summary, the picture and the parameters,
from its first compiled program to the last file, less what compiling took; the other is one call of
one compiled program.
"""

import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from common import finish, in_turn, options, ratio

from ppg_jax.algorithm.train import make_train
from ppg_jax.cli.main import main as ppg_jax
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.dispatch import over_replicas, run_batches, shard
from ppg_jax.execution.layout import lay_out


class Bare:
    """The whole run as one program."""

    def __init__(self, config: Config) -> None:
        self._layout = layout = lay_out(config, config.seeds)
        train = make_train(config)
        rows = over_replicas(lambda _, key: train(key), layout)
        self._keys = shard(jax.random.split(jax.random.key(config.seed), config.seeds), layout)
        program = jax.jit(rows, compiler_options=dict(layout.backend.compiler_options))
        self._compiled = program.lower(None, self._keys[0]).compile()

    def __call__(self) -> float:
        began = time.perf_counter()
        run_batches(self._compiled, [None] * len(self._keys), self._keys, self._layout)
        return time.perf_counter() - began


class CommandLine:
    """The same through ``ppg-jax train``."""

    def __init__(self, args: Any) -> None:
        self._args = args

    def __call__(self) -> float:
        with tempfile.TemporaryDirectory() as work:
            out = Path(work) / "run"
            began = time.perf_counter()
            options = ["--seeds", self._args.seeds, "--total-timesteps", self._args.timesteps]
            options += ["--checkpoint-minutes", self._args.checkpoint_minutes, "--out", out]
            with contextlib.redirect_stdout(io.StringIO()):
                code = ppg_jax(["train", self._args.config, *map(str, options)])
            seconds = time.perf_counter() - began
            if code:
                raise SystemExit(code)
            summary = json.loads((out / "summary.json").read_text())
        return seconds - summary["compile_seconds"]


def measure(args: Any) -> dict[str, Any]:
    config = load_config(args.config, total_timesteps=args.timesteps, seeds=args.seeds)
    programs: dict[str, Any] = {"bare": Bare(config), "command_line": CommandLine(args)}
    in_turn(programs, 1)  # imports, fonts, caches
    seconds = in_turn(programs, args.repeats)
    return {
        "config": args.config,
        "seeds": args.seeds,
        "timesteps": args.timesteps,
        "seconds": {name: round(statistics.median(x), 3) for name, x in seconds.items()},
        "command_line_over_bare": round(ratio(seconds["bare"], seconds["command_line"]), 4),
    }


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config", nargs="?", default="minatar/breakout")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--timesteps", type=int, default=8 * 16 * 8192)
    parser.add_argument("--checkpoint-minutes", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
