"""The suites of environments: steps per second beside each suite's own loop, and random returns.

    python benchmarks/suites.py xminigrid/doorkey_6x6 jumanji/snake --parts loops training random

The environments are those of configurations. ``loops``: env steps per second of ``ppg_jax.envs``
with random actions, in turn with the same loop over the suite's own functions
(``tests/envs/own_loops.py``). The second resets all environments at every step and takes the new
episodes where one ended; the third never resets. ``training``: env steps per second of training.
``random``: return of a policy that chooses uniformly among the legal actions.
"""

import functools
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import Phases, finish, in_turn, one_phase, options, ratio
from report import rows_of, say

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.envs import make_training_env, random_action, reset_envs, step_envs, suites
from ppg_jax.execution.layout import lay_out
from ppg_jax.report.statistics import mean_interval

CONFIGS = (
    "brax/ant",
    "craftax/classic_symbolic",
    "jumanji/snake",
    "navix/doorkey_5x5",
    "pgx/minatar_asterix",
    "playground/cartpole_balance",
    "xminigrid/doorkey_6x6",
)
PARTS = ("loops", "training", "random")
OWN_LOOPS = Path(__file__).parent.parent / "tests" / "envs" / "own_loops.py"
SHORTEST = 0.3
"""Seconds that a timing lasts at least."""


def uniform_action(env: Any, key: Any, obs: Any) -> Any:
    """An action that is uniform over the legal ones, or over the bounds if continuous."""
    if env.action.kind != "continuous":
        return random_action(env.action, key, obs)
    uniform = jax.random.uniform(key, env.action.sizes, minval=-1.0, maxval=1.0)
    return jnp.arctanh(uniform) if env.action.squashed else uniform


def uniform_actions(env: Any, key: Any, obs: Any, num_envs: int) -> Any:
    keys = jax.random.split(key, num_envs)
    return jax.vmap(functools.partial(uniform_action, env))(keys, obs)


class Loop:
    """A loop of many steps, compiled; each call gives the seconds that all its steps take once."""

    def __init__(self, name: str, begin: Callable, step: Callable, num_steps: int) -> None:
        def run(carry: Any, key: Any) -> Any:
            return jax.lax.scan(step, carry, jax.random.split(key, num_steps))[0]

        self._key, self._calls = jax.random.key(1), 1
        self._carry = jax.jit(begin)(jax.random.key(0))
        began = time.perf_counter()
        self._run = jax.jit(run).lower(self._carry, self._key).compile()
        say(f"{name}: compiled in {time.perf_counter() - began:.1f} s")
        self()
        self._calls = max(1, math.ceil(SHORTEST / self()))

    def __call__(self) -> float:
        began = time.perf_counter()
        for _ in range(self._calls):
            self._key, key = jax.random.split(self._key)
            self._carry = jax.block_until_ready(self._run(self._carry, key))
        return (time.perf_counter() - began) / self._calls


def our_loop(env: Any, num_envs: int) -> tuple[Callable, Callable]:
    """``reset_envs`` and ``step_envs`` with random actions; the carry is (environments, sum)."""

    def begin(key: Any) -> Any:
        return reset_envs(env, key, num_envs), jnp.float32(0)

    def step(carry: Any, key: Any) -> Any:
        envs, total = carry
        action_key, env_key = jax.random.split(key)
        actions = uniform_actions(env, action_key, envs.obs, num_envs)
        envs, result = step_envs(env, env_key, envs, actions)
        return (envs, total + result.rewards.sum()), None

    return begin, step


def own_loop(env: Any, loop: Any, num_envs: int, resets: bool) -> tuple[Callable, Callable]:
    """The same over a suite's own functions. The carry is (obs, state, lengths, sum)."""
    reset, own_step = loop
    limit = env.max_episode_steps or 2**30

    def begin(key: Any) -> Any:
        obs, state = jax.vmap(reset)(jax.random.split(key, num_envs))
        return jax.tree.map(jnp.asarray, (obs, state, jnp.zeros(num_envs, int), jnp.float32(0)))

    def step(carry: Any, key: Any) -> Any:
        obs, state, lengths, total = carry
        action_key, step_key, reset_key = jax.random.split(key, 3)
        actions = own_actions(env, action_key, obs, state, num_envs)
        keys = jax.random.split(step_key, num_envs)
        obs, state, reward, ended = jax.vmap(own_step)(keys, state, actions)
        total, lengths = total + jnp.sum(reward, dtype=jnp.float32), lengths + 1
        done = jnp.asarray(ended, bool) | (lengths >= limit)
        after = (obs, state, lengths)
        if resets:
            fresh = jax.vmap(reset)(jax.random.split(reset_key, num_envs))
            after = choose(done, (*fresh, jnp.zeros_like(lengths)), after)
        return same_types((*after, total), carry), None

    return begin, step


def own_actions(env: Any, key: Any, obs: Any, state: Any, num_envs: int) -> Any:
    """Random actions as the suite takes them, legal by the mask that it gives itself."""
    if env.action.masked:
        mask = obs.action_mask if hasattr(obs, "action_mask") else state.legal_action_mask
        logits = jnp.where(mask.reshape(num_envs, -1), 0.0, -jnp.inf)
        chosen = jax.random.categorical(key, logits)
    else:
        chosen = uniform_actions(env, key, None, num_envs)
    return jax.vmap(env.to_env)(chosen)


def choose(where: Any, new: Any, old: Any) -> Any:
    """Leaves ``[B, ...]`` of ``new`` where ``where`` is true, of ``old`` elsewhere."""

    def leaf(new: Any, old: Any) -> Any:
        return jnp.where(where.reshape(where.shape + (1,) * (jnp.ndim(old) - 1)), new, old)

    return jax.tree.map(leaf, new, old)


def same_types(new: Any, like: Any) -> Any:
    """Leaves with the dtypes of others: some suites return other ones from a step."""

    def cast(new: Any, like: Any) -> Any:
        is_key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
        return new if is_key else jnp.asarray(new).astype(like.dtype).reshape(like.shape)

    return jax.tree.map(cast, new, like)


def suites_own(config: Config) -> Any:
    """``(reset, step)`` of the environment's own suite."""
    found = importlib.util.spec_from_file_location("own_loops", OWN_LOOPS)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    suite, _, env_id = config.env.partition("/")
    return getattr(module, suite)(env_id)


def loops(config: Config, args: Any) -> dict:
    """Env steps per second of rollouts alone."""
    env, own, num_envs = make_training_env(config), suites_own(config), args.num_envs
    pairs = {
        "ours": our_loop(env, num_envs),
        "own": own_loop(env, own, num_envs, resets=True),
        "own, no resets": own_loop(env, own, num_envs, resets=False),
    }
    timers = {name: Loop(f"{config.env}, {name}", *x, args.steps) for name, x in pairs.items()}
    seconds = in_turn(timers, args.repeats)
    steps = num_envs * args.steps
    speeds = {name: round(steps / statistics.median(x)) for name, x in seconds.items()}
    return {
        "num_envs": num_envs,
        "rollout_steps_per_second": speeds["ours"],
        "own_loop_steps_per_second": speeds["own"],
        "own_loop_without_resets_steps_per_second": speeds["own, no resets"],
        "over_own_loop": round(ratio(seconds["ours"], seconds["own"]), 3),
        "over_own_loop_without_resets": round(ratio(seconds["ours"], seconds["own, no resets"]), 3),
    }


def training(config: Config, args: Any) -> dict:
    """Env steps per second of a phase, which may have fewer iterations than the configuration's."""
    short = one_phase(config.replace(seeds=1), args.n_pi)
    phases = Phases(short, lay_out(short, 1))
    seconds = [phases() for _ in range(args.repeats)]
    speed = round(phases.steps / statistics.median(seconds))
    return {"n_pi": short.n_pi, "training_steps_per_second": speed}


def random_return(config: Config, args: Any) -> dict:
    """Return of the uniformly random policy: the first episode of each environment."""
    env, num_envs = make_training_env(config), args.episodes

    def step(carry: Any) -> Any:
        envs, key, over, returns = carry
        key, action_key, env_key = jax.random.split(key, 3)
        actions = uniform_actions(env, action_key, envs.obs, num_envs)
        envs, result = step_envs(env, env_key, envs, actions)
        returns = jnp.where(over, returns, result.returns)
        return envs, key, over | result.terminated | result.truncated, returns

    def play(key: Any) -> Any:
        start = reset_envs(env, key, num_envs), key, jnp.zeros(num_envs, bool), jnp.zeros(num_envs)
        return jax.lax.while_loop(lambda carry: ~carry[2].all(), step, start)[3]

    returns = np.asarray(jax.jit(play)(jax.random.key(args.seed)))
    mean, low, high = (round(x, 3) for x in mean_interval(returns))
    return {"episodes": num_envs, "random_return": mean, "random_interval_95": [low, high]}


def measure(args: Any) -> list[dict]:
    parts = {"loops": loops, "training": training, "random": random_return}

    def row(case: tuple[str, str]) -> list[dict]:
        name, part = case
        config = load_config(name)
        suite = suites().get(config.env.partition("/")[0])
        if suite is None or not suite.installed:
            say(f"{name}: its suite is not installed")
            return []
        found = parts[part](config, args)
        return [{"config": name, "env": config.env, "part": part} | found]

    return rows_of([(name, part) for name in args.configs for part in args.parts], row)


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--num-envs", type=int, default=64, help="of the loops")
    parser.add_argument("--steps", type=int, default=128, help="of a loop")
    parser.add_argument("--n-pi", type=int, default=2, help="at most, in the phase that is timed")
    parser.add_argument("--episodes", type=int, default=128, help="of the random policy")
    parser.add_argument("--seed", type=int, default=0, help="of the random policy")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
