"""Training with our convolutions against the same trainer with flax's ``nn.Conv``.

    python benchmarks/conv.py --seeds 1 8

Ours are patches and a matrix product on CPU, ``lax`` elsewhere; all three are measured, in turn.
Only the convolution differs: encoders, parameters, batches and epochs are the same.
"""

import statistics
import sys
from typing import Any

import flax.linen as nn
import jax
from common import Phases, finish, in_turn, options, ratio
from report import REPORT

from ppg_jax.config.config import Config
from ppg_jax.execution.layout import lay_out, use_all_cores
from ppg_jax.networks import encoders


class FlaxConv(nn.Module):
    """What everyone writes, with the arguments of our ``Conv``."""

    features: int
    kernel_init: Any
    padding: int = 0
    implementation: str = ""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = nn.Conv(
            self.features, (3, 3), padding=self.padding, kernel_init=self.kernel_init, dtype=x.dtype
        )
        return conv(x)


def program(how: str, seeds: int, args: Any) -> Phases:
    """One phase of PPG on Breakout with the small CNN, compiled."""
    config = Config(
        env="Breakout-MinAtar",
        observation_dtype="bool",
        num_envs=args.num_envs,
        num_steps=args.num_steps,
        n_pi=args.n_pi,
        num_minibatches=8,
        minibatch_by="sample",
        num_aux_minibatches=4 * args.n_pi,
        total_timesteps=args.n_pi * args.num_envs * args.num_steps,
        seeds=seeds,
        network={"encoder": "cnn", "conv": "lax" if how == "flax nn.Conv" else how},
    )
    ours = encoders.Conv
    if how == "flax nn.Conv":
        encoders.Conv = FlaxConv
    try:
        return Phases(config, lay_out(config, seeds))
    finally:
        encoders.Conv = ours


def measure(args: Any) -> list[dict]:
    rows = []
    for seeds in args.seeds:
        programs = {how: program(how, seeds, args) for how in ("patches", "lax", "flax nn.Conv")}
        seconds = in_turn(programs, args.repeats)
        for how, phases in programs.items():
            row = REPORT.add(
                {
                    "conv": how,
                    "seeds": seeds,
                    "layout": str(phases.layout),
                    "env_steps_per_second": round(phases.steps / statistics.median(seconds[how])),
                    "over_flax": round(ratio(seconds[how], seconds["flax nn.Conv"]), 2),
                    "compile_seconds": round(phases.compile_seconds, 2),
                }
            )
            rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--n-pi", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    use_all_cores()
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
