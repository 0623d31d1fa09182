"""Trains with Rejax's PPO on command, in the environment that ``against_rejax.py`` made for it.

Reads a line, trains for a while, writes the seconds; the first line out is what was compiled. It
knows nothing of ppg_jax, which is not installed there.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from rejax import PPO


def trainer(spec: dict) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """From a key to the first state, and from a state to the one after all iterations."""
    per_iteration = spec["num_envs"] * spec["num_steps"]
    algo = PPO.create(
        env=spec["env"],
        num_envs=spec["num_envs"],
        num_steps=spec["num_steps"],
        num_epochs=spec["epochs"],
        num_minibatches=spec["num_minibatches"],
        total_timesteps=per_iteration * spec["iterations"],
        eval_freq=per_iteration * spec["iterations"],
        skip_initial_evaluation=True,
        learning_rate=spec["learning_rate"],
        max_grad_norm=spec["max_grad_norm"],
        gamma=spec["gamma"],
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
    ).replace(eval_callback=lambda *_: ())

    def iterations(state: Any) -> Any:
        return jax.lax.fori_loop(
            0, spec["iterations"], lambda _, state: algo.train_iteration(state), state
        )

    return algo.init_state, iterations


def main(spec: dict) -> None:
    init, train = trainer(spec)
    keys = jax.random.split(jax.random.key(0), spec["seeds"])
    if spec["seeds"] == 1:
        keys = keys[0]
    else:  # its documentation's way with seeds
        init, train = jax.vmap(init), jax.vmap(train)
    state = jax.jit(init)(keys)
    began = time.perf_counter()
    compiled = jax.jit(train).lower(state).compile()
    compile_seconds = time.perf_counter() - began
    state = jax.block_until_ready(compiled(state))
    steps = spec["num_envs"] * spec["num_steps"] * spec["iterations"] * spec["seeds"]
    print(json.dumps({"steps": steps, "compile_seconds": compile_seconds}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        state = jax.block_until_ready(compiled(state))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
