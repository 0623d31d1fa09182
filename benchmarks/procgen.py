"""Procgen: how an iteration's time splits into games and networks.

    python benchmarks/procgen.py procgen/starpilot_small

In turn: the games' own loop in numpy (``own``), the same with resets at once as we need them
(``games``), our rollouts with random actions in a program (``rollout``), and training (``phase``).
The networks' share of an iteration is what the games do not take of it.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from common import Phases, finish, in_turn, one_phase, options, ratio
from report import REPORT

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.envs import make_training_env, random_action, reset_envs, step_envs
from ppg_jax.execution.layout import lay_out


def timed(step: Callable[[np.ndarray], Any], config: Config) -> Callable[[], float]:
    """Seconds of a rollout's steps with random actions, in numpy."""
    random = np.random.default_rng(0)  # each timer gets the same actions
    choices = make_training_env(config).action.sizes[0]

    def once() -> float:
        actions = random.integers(0, choices, (config.num_steps, config.num_envs), np.int32)
        began = time.perf_counter()
        for action in actions:
            step(action)
        return time.perf_counter() - began

    return once


def rollout(config: Config) -> Callable[[], float]:
    """Seconds of a rollout in a program, with random actions."""
    env = make_training_env(config)

    def step(envs: Any, key: Any) -> Any:
        keys = jax.random.split(key, config.num_envs)
        actions = jax.vmap(lambda one: random_action(env.action, one))(keys)
        envs, result = step_envs(env, key, envs, actions)
        return envs, (result.final_obs, result.rewards)

    run = jax.jit(
        lambda envs, key: jax.lax.scan(step, envs, jax.random.split(key, config.num_steps))
    )
    last = [jax.jit(lambda key: reset_envs(env, key, config.num_envs))(jax.random.key(0))]

    def once() -> float:
        began = time.perf_counter()
        last[0], _ = jax.block_until_ready(run(last[0], jax.random.key(1)))
        return time.perf_counter() - began

    once()
    return once


def measure(args: Any) -> list[dict]:
    config = one_phase(load_config(args.config).replace(seeds=1), args.n_pi)
    raw = make_training_env(config).unwrapped
    games, own = raw.open(0, config.num_envs), raw.open(0, config.num_envs)
    games.reset()
    own.reset()
    phases = Phases(config, lay_out(config, 1))
    timers = {
        "own": timed(own.pool.step, config),
        "games": timed(games.step, config),
        "rollout": rollout(config),
        "phase": lambda: phases() / config.n_pi,
    }
    seconds = in_turn(timers, args.repeats)
    steps = config.steps_per_iteration
    row = {"config": args.config, "num_envs": config.num_envs, "num_steps": config.num_steps}
    row |= {f"{name}_steps_per_second": round(steps / statistics.median(x))
            for name, x in seconds.items()}  # fmt: skip
    row["rollout_over_own"] = round(ratio(seconds["rollout"], seconds["own"]), 3)
    row["games_share_of_iteration"] = round(1 / ratio(seconds["games"], seconds["phase"]), 3)
    return [REPORT.add(row)]


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config", nargs="?", default="procgen/starpilot_small")
    parser.add_argument("--n-pi", type=int, default=2, help="at most, in the phase that is timed")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
