"""What each thing that was done for speed gives: training as it is against that one thing undone.

    python benchmarks/levers.py minatar/breakout cartpole --levers observations resets

``gain`` is how many times as fast a phase is as with the lever undone, a median over rounds that
run every program in turn. One seed on one device.
"""

import dataclasses
import functools
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from common import Phases, changed, finish, in_turn, one_phase, options, ratio
from report import rows_of

from ppg_jax.algorithm import minibatch, policy_phase, rollout, train
from ppg_jax.algorithm.descent import descend
from ppg_jax.algorithm.optimizer import make_adam
from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.config.yaml_files import load_config
from ppg_jax.envs import parallel
from ppg_jax.execution.layout import choose_layout
from ppg_jax.networks.network import VALUE
from ppg_jax.networks.trunks import Trunks, Unroll
from ppg_jax.types import TrainState


class Undone(NamedTuple):
    """Training without a lever.

    Attributes:
      config: what is trained.
      changes: attributes of modules to change while tracing.
      donate: whether the state's memory is reused.
      backend: fields of the backend to change.
    """

    config: Config
    changes: Sequence[tuple[Any, str, Any]] = ()
    donate: bool = True
    backend: Mapping[str, Any] = MappingProxyType({})


def values_by_step(ppg: PPG, state: TrainState, stored: Any) -> Any:
    """``estimate_values`` a step at a time, as the network would run inside the rollout's loop."""

    def step(memory: Any, inputs: Any):
        inputs = jax.tree.map(lambda x: x[None], inputs)
        out = ppg.agent.unroll(state.network, inputs, memory, Unroll((VALUE,)))
        out = jax.tree.map(lambda x: x[0], out)
        return memory | out.states, (out.values, out.states)

    return jax.lax.scan(step, stored.memory, stored.inputs)[1]


def plain_permutations(key: Any, num_items: int, count: int) -> Any:
    keys = jax.random.split(key, count)
    return jax.lax.map(lambda k: jax.random.permutation(k, num_items), keys)


def products_apart(trunks: Trunks, network: Any, seen: dict[str, Any], beside: Any) -> Any:
    """``_first_products`` without a product: each network computes its own."""
    return {name: {} for name in seen}


def associative_advantages(
    rewards: Any,
    values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    gamma: Any,
    lam: Any,
    *,
    unroll: int,
) -> Any:
    """``generalized_advantages`` by ``jax.lax.associative_scan``."""
    alive = 1.0 - terminated
    deltas = rewards + gamma * alive * next_values - values
    keep = gamma * lam * alive * (1.0 - truncated)

    def combine(later: Any, earlier: Any):
        return earlier[0] * later[0], earlier[1] + earlier[0] * later[1]

    _, advantages = jax.lax.associative_scan(combine, (keep, deltas), reverse=True)
    return advantages, advantages + values


def apart(ppg: PPG, hparams: Any, state: TrainState, batch: Any, key: Any) -> Any:
    """``policy_phase`` with policy and value epochs apart, each minibatch gathered twice."""
    metrics: dict[str, Any] = {}
    runs = (policy_phase.VALUE_EPOCHS, policy_phase.POLICY_EPOCHS)
    rate = hparams.learning_rate
    for objective, run_key in zip(runs, jax.random.split(key), strict=True):
        parts = functools.partial(policy_phase.norm_parts, ppg.agent, objective)
        indices = policy_phase.minibatch_indices(ppg.config, run_key, ppg.config.e_pi)
        (params, opt_state), measured = descend(
            make_adam(ppg, hparams, rate, state.params, parts),
            (state.params, state.opt_states["policy"]),
            policy_phase.minibatch_gradient(ppg, hparams, state, batch, objective),
            (indices, policy_phase.minibatch_advantages(ppg, batch, indices)),
        )
        state = state.replace(params=params, opt_states=state.opt_states | {"policy": opt_state})
        metrics |= jax.tree.map(lambda x: x.mean(0), measured)
    return state, metrics


def aux_minibatches(times: float) -> Callable[[Config], Undone]:
    def undo(c: Config) -> Undone:
        return Undone(c.replace(num_aux_minibatches=max(1, int(c.num_aux_minibatches * times))))

    return undo


def without(**fields: Any) -> Callable[[Config], Undone]:
    """Fields of the backend as they are where the lever is not used."""
    return lambda c: Undone(c, backend=fields)


def unshuffled(c: Config) -> Undone:
    if c.minibatch_by == "env":
        return Undone(c.replace(minibatch_by="sample"))
    return Undone(c.replace(minibatch_by="env"))


LEVERS: dict[str, Callable[[Config], Undone]] = {
    "values after the rollout, in large batches": lambda c: Undone(
        c, [(rollout, "estimate_values", values_by_step)]
    ),
    "resets only where needed": lambda c: Undone(c, [(parallel, "HEAVY", sys.maxsize)]),
    "large environments reset some at a time": without(resets_some=False),
    "permutations by plain sorts": lambda c: Undone(
        c, [(minibatch, "permutations", plain_permutations)]
    ),
    "narrow heads column by column": without(narrow_heads=False),
    "norms of large leaves in two sums": without(split_norms=False),
    "convolutions as patches": without(convolutions="lax"),
    "first layers of both networks as one product": lambda c: Undone(
        c, [(Trunks, "_first_products", products_apart)]
    ),
    "skipping what observations never set": without(skip_zeros=False),
    "GAE by an unrolled loop, not an associative scan": lambda c: Undone(
        c, [(rollout, "generalized_advantages", associative_advantages)]
    ),
    "policy and value loss in one step": lambda c: Undone(c, [(train, "policy_phase", apart)]),
    "compact observations": lambda c: Undone(c.replace(observation_dtype="native")),
    "memory of the state reused (donation)": lambda c: Undone(c, donate=False),
    "XLA at optimisation level 1": without(compiler_options=()),
    "the other kind of minibatches": unshuffled,
    "four times as many auxiliary minibatches": aux_minibatches(4),
    "a quarter of the auxiliary minibatches": aux_minibatches(0.25),
    "bfloat16": lambda c: Undone(c.replace(network={"compute_dtype": "bfloat16"})),
}  # fmt: skip


def compiled(undone: Undone) -> Phases:
    layout = choose_layout(undone.config, 1)
    backend = dataclasses.replace(layout.backend, **undone.backend)
    with changed(undone.changes):
        layout = dataclasses.replace(layout, backend=backend)
        return Phases(undone.config, layout, donate=undone.donate)


def measure(name: str, args: Any) -> list[dict]:
    config = one_phase(load_config(name), args.n_pi).replace(devices=1, seeds=1)
    chosen = {
        k: v for k, v in LEVERS.items() if not args.levers or any(w in k for w in args.levers)
    }
    programs = {"as it is": Phases(config, choose_layout(config, 1))}
    for lever, undo in chosen.items():
        try:
            programs[lever] = compiled(undo(config))
        except ConfigError as error:  # sizes that do not divide: said, and left out
            print(f"{lever}: {error}", file=sys.stderr)
    seconds = in_turn(programs, args.repeats)
    ours = seconds["as it is"]
    return [
        {
            "config": name,
            "lever": lever,
            "env_steps_per_second": round(program.steps / statistics.median(seconds[lever])),
            "gain": round(ratio(ours, seconds[lever]), 3),
            "memory_mib": round(program.memory_mib, 1),
        }
        for lever, program in programs.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["minatar/breakout", "cartpole"])
    parser.add_argument(
        "--levers", nargs="+", help="only those whose names hold one of these words"
    )
    parser.add_argument("--n-pi", type=int, help="of the phase that is timed; default its own")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    return finish(args, lambda: rows_of(args.configs, lambda name: measure(name, args)))


if __name__ == "__main__":
    sys.exit(main())
