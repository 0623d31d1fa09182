"""Whether one seed on several devices learns the same, and how fast it is on CPU devices.

    python benchmarks/sharing.py cartpole --devices-per-seed 1 2 4 --seeds 10

Every run has as many groups of environments as devices for a seed, so the numbers differ; the
returns should not. The devices are made of the cores of this machine, which they share.
"""

import os
import sys
from typing import Any

from report import rows_of

MOST = 8
os.environ["JAX_NUM_CPU_DEVICES"] = str(MOST)  # before JAX starts

from common import finish, options  # noqa: E402

import ppg_jax  # noqa: E402
from ppg_jax.report import iqm_interval  # noqa: E402


def measure(case: tuple[str, int], args: Any) -> list[dict]:
    name, each = case
    wanted = {"total_timesteps": args.total_timesteps, "num_minibatches": args.num_minibatches}
    changes = {field: value for field, value in wanted.items() if value is not None}
    config = ppg_jax.load_config(name, devices_per_seed=each, **changes)
    result = ppg_jax.run(config, seeds=args.seeds, progress=False, cache=False)
    middle, low, high = iqm_interval([result.final_returns])
    return [
        {
            "config": name,
            "devices_per_seed": each,
            "env_groups": result.config.env_groups,
            "seeds": args.seeds,
            "final_return": round(middle, 2),
            "interval": [round(low, 2), round(high, 2)],
            "env_steps_per_second": round(result.env_steps_per_second),
        }
    ]


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="+", help="names or files of configurations")
    parser.add_argument("--devices-per-seed", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--total-timesteps", type=int, help="instead of the configuration's")
    parser.add_argument("--num-minibatches", type=int, help="instead of the configuration's")
    args = parser.parse_args(argv)
    cases = [(name, each) for name in args.configs for each in args.devices_per_seed]
    return finish(args, lambda: rows_of(cases, lambda case: measure(case, args)))


if __name__ == "__main__":
    sys.exit(main())
