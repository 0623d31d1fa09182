"""How near each part of training comes to what its matrix products alone would take.

    python benchmarks/limit.py minatar/breakout ppo/minatar/breakout

For rollout, policy phase and auxiliary phase apart: the matrix products in the traced program are
counted, each kind is timed alone in a loop, in the same shapes and on the same threads, and their
sum is the limit. First layers count in the width that the rollout's observations need.
``of_limit`` is limit over measured time: what is missing from 1 went to everything else
(environments, gathering, activations, optimizer, dispatch). ``parts`` times what that is made of.
"""

import collections
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from common import changed, finish, in_turn, options
from jax.extend.core import ClosedJaxpr, Jaxpr
from report import rows_of

from ppg_jax.algorithm.aux_phase import aux_epochs
from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.minibatch import take_envs, take_samples
from ppg_jax.algorithm.policy_phase import minibatch_indices, policy_phase
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.rollout import collect, make_batch
from ppg_jax.backend import this_backend
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.envs.spaces import random_action
from ppg_jax.envs.vector import step_envs
from ppg_jax.kernels import skip_zeros
from ppg_jax.kernels.skip_zeros import LiveComponents
from ppg_jax.types import AuxBuffer, TrainState

Product = tuple[tuple[int, ...], tuple[int, ...], Any]


def products(jaxpr: Any, times: int = 1) -> collections.Counter[Product]:
    """Matrix products of a program, and how often each runs; loops by their length.

    A ``while`` of unknown length counts once.
    """
    found: collections.Counter[Product] = collections.Counter()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            left, right = (v.aval.shape for v in eqn.invars)
            # Norms are products to a number; outer ones are fused with what follows.
            contracted = eqn.params["dimension_numbers"][0][0]
            if eqn.outvars[0].aval.shape and contracted:
                found[left, right, eqn.params["dimension_numbers"]] += times
        inside = times * eqn.params.get("length", 1) if eqn.primitive.name == "scan" else times
        for sub in inner_programs(eqn.params):
            found += products(sub, inside)
    return found


def inner_programs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Those that an operation's parameters hold: bodies, branches, called functions."""
    kinds = (ClosedJaxpr, Jaxpr)
    for x in jax.tree.leaves(list(params.values()), is_leaf=lambda x: isinstance(x, kinds)):
        if isinstance(x, kinds):
            yield x.jaxpr if isinstance(x, ClosedJaxpr) else x


def flops(product: Product) -> int:
    """Multiplications and additions of one product."""
    left, right, ((contracted, _), (batch, _)) = product
    shared = math.prod(left[i] for i in (*contracted, *batch))
    return 2 * math.prod(left) * math.prod(right) // shared


def product_seconds(product: Product, repeats: int = 5) -> float:
    """Seconds of one product, run many times in a loop as training does."""
    left, right, numbers = product
    count = min(max(4, int(2e9 / flops(product))), 20_000)
    a, b = jnp.ones(left), jnp.full(right, 1e-3)

    def body(_: Any, carry: tuple[Any, Any]):
        a, out = carry
        # The loop must not be emptied: the next operand depends on the last result, by nothing.
        a = a.at[(0,) * a.ndim].add(0.0 * out.reshape(-1)[0])
        return a, jax.lax.dot_general(a, b, numbers)

    out = jax.eval_shape(lambda a, b: jax.lax.dot_general(a, b, numbers), a, b)
    loop = jax.jit(lambda a: jax.lax.fori_loop(0, count, body, (a, jnp.zeros(out.shape))))
    loop = loop.lower(a).compile(dict(this_backend().compiler_options))
    jax.block_until_ready(loop(a))
    return statistics.median(timed(lambda: loop(a)) for _ in range(repeats)) / count


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


Parts = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]


def training_parts(config: Config) -> tuple[Parts, LiveComponents | None]:
    """The three parts of training and two of their ingredients, with arguments of a real run.

    And what its observations set.
    """
    ppg = build(config)
    env = ppg.env
    hparams = jax.tree.map(jnp.float32, config.hparams)
    state = jax.jit(lambda k: init(config, k))(jax.random.key(config.seed))
    state = state.replace(obs_order=ppg.agent.initial_order(state.obs_stats))
    key = jax.random.key(1)

    def rollout(state: TrainState, key: Any):
        state, rollout, _ = collect(ppg, state, key)
        return make_batch(ppg, hparams, state, rollout)

    def policy(state: TrainState, batch: Any, key: Any):
        return policy_phase(ppg, hparams, state, batch, key)

    def auxiliary(state: TrainState, buffer: Any, key: Any):
        return aux_epochs(ppg, hparams, state, buffer, key)

    def stepping(envs: Any, key: Any):
        def step(envs: Any, key: Any):
            keys = jax.random.split(key, config.num_envs)
            actions = jax.vmap(lambda k: random_action(env.action, k))(keys)
            return step_envs(env, key, envs, actions)

        return jax.lax.scan(step, envs, jax.random.split(key, config.num_steps))

    def gathering(batch: Any, key: Any):
        take = take_envs if config.minibatch_by == "env" else take_samples
        indices = minibatch_indices(config, key, config.e_pi)
        return jax.lax.scan(lambda c, i: (c, take(batch, i)), None, indices)

    state, batch = jax.jit(rollout)(state, key)
    parts: Parts = {
        "rollout": (rollout, (state, key)),
        "policy_phase": (policy, (state, batch, key)),
        "environments_alone": (stepping, (state.envs, key)),
        "gathering_alone": (gathering, (batch, key)),
    }
    if config.e_aux:
        record = AuxBuffer.of(batch)
        buffer = jax.tree.map(lambda x: jnp.stack([x] * config.n_pi), record)
        parts["aux_phase"] = (auxiliary, (state, buffer, key))
    return parts, state.obs_order


def width_that_runs(found: LiveComponents | None) -> list[tuple[Any, str, Any]]:
    """For ``changed``: first layers have this width only."""
    if found is None:
        return []
    size, count = found.order.size, int(found.count)
    least = min(part for part in skip_zeros.WIDTHS if math.ceil(part * size) >= count)
    return [(skip_zeros, "WIDTHS", (least,))]


def products_that_run(
    fn: Callable[..., Any], args: tuple[Any, ...], found: LiveComponents | None
) -> collections.Counter[Product]:
    """Products of a part of training with its arguments, of first layers in the width that runs."""
    with changed(width_that_runs(found)):
        # Under a name of its own: JAX keeps what it traced of ``fn`` for compiling, every width.
        return products(jax.make_jaxpr(lambda *args: fn(*args))(*args).jaxpr)


def measure(name: str, repeats: int) -> dict:
    """All parts of one configuration."""
    config = load_config(name)
    parts, found = training_parts(config)
    compiled = {
        part: jax.jit(fn).lower(*args).compile(dict(this_backend().compiler_options))
        for part, (fn, args) in parts.items()
    }
    timers = {
        part: lambda run=compiled[part], args=args: timed(lambda: run(*args))
        for part, (_, args) in parts.items()
    }
    in_turn(timers, 1)
    seconds = {part: statistics.median(x) for part, x in in_turn(timers, repeats).items()}
    report: dict[str, Any] = {"config": name, "env_steps_per_iteration": config.steps_per_iteration}
    for part, (fn, args) in parts.items():
        report[part] = {"seconds": round(seconds[part], 5)}
        if part.endswith("_alone"):
            continue
        counted = products_that_run(fn, args, found)
        work = sum(flops(p) * n for p, n in counted.items())
        limit = sum(product_seconds(p) * n for p, n in counted.items())
        report[part] |= {
            "gflop": work / 1e9,
            "gflop_per_second": round(work / seconds[part] / 1e9, 1),
            "products_alone_gflop_per_second": round(work / limit / 1e9, 1),
            "of_limit": round(limit / seconds[part], 3),
        }
    return report


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["minatar/breakout", "ppo/minatar/breakout"])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    return finish(args, lambda: rows_of(args.configs, lambda name: [measure(name, args.repeats)]))


if __name__ == "__main__":
    sys.exit(main())
