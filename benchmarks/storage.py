"""Steps per second and memory with each ``aux_storage``: full, packed and replay.

    python benchmarks/storage.py minatar/breakout cartpole --n-pi 4

``speed`` is how many times as fast a phase is as with the first storage, a median over rounds that
run every program in turn. One seed on one device. ``buffer_bytes`` is the auxiliary buffer alone,
and ``memory_mib`` the whole program by XLA's own account.
"""

import statistics
import sys
from typing import Any

import jax
from common import Phases, finish, in_turn, one_phase, options, ratio
from memory import size
from report import rows_of

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build, replay_difference
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.layout import choose_layout

STORAGES = ("full", "packed", "replay")


def buffer_bytes(config: Config) -> int:
    """Size of the auxiliary buffer of one seed."""
    storage = build(config).storage
    blank = jax.eval_shape(lambda k: storage.blank(init(config, k)), jax.random.key(0))
    return size(blank)


def measure(name: str, args: Any) -> list[dict]:
    config = one_phase(load_config(name), args.n_pi).replace(devices=1, seeds=1)
    configs = {s: config.replace(aux_storage=s) for s in args.storages}
    programs = {s: Phases(c, choose_layout(c, 1)) for s, c in configs.items()}
    seconds = in_turn(programs, args.repeats)
    first = seconds[args.storages[0]]
    rows = [
        {
            "config": name,
            "storage": s,
            "env_steps_per_second": round(program.steps / statistics.median(seconds[s])),
            "speed": round(ratio(seconds[s], first), 3),
            "buffer_bytes": buffer_bytes(configs[s]),
            "memory_mib": round(program.memory_mib, 1),
        }
        for s, program in programs.items()
    ]
    for row in rows:
        if row["storage"] == "replay":
            row["replay_difference"] = replay_difference(config)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["minatar/breakout", "cartpole"])
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=list(STORAGES))
    parser.add_argument("--n-pi", type=int, help="of the phase that is timed; default its own")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    return finish(args, lambda: rows_of(args.configs, lambda name: measure(name, args)))


if __name__ == "__main__":
    sys.exit(main())
