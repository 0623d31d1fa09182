"""An accelerator launches no more for a rollout step, or for a minibatch, than was agreed.

Launches are counted in the program before XLA compiles it, so that the numbers are steady and need
no accelerator. Products, sums, gathers and the like are a launch each; and so is each array that an
iteration returns. Everything else is elementwise, and XLA computes it on the way.
"""

import jax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import ppg_jax
from ppg_jax import functional
from ppg_jax.algorithm import rollout
from ppg_jax.backend import CPU, GPU
from ppg_jax.networks import Agent

STEPS, MINIBATCHES, AUX_MINIBATCHES = 24, 5, 7
SIZES = {
    "num_envs": 35, "num_steps": STEPS, "num_minibatches": MINIBATCHES, "n_pi": 2, "e_aux": 1,
    "num_aux_minibatches": AUX_MINIBATCHES, "total_timesteps": 2 * STEPS * 35,
}  # fmt: skip
MLP = {"encoder": "mlp", "hidden_sizes": [8, 8]}
BREAKOUT = {"env": "Breakout-MinAtar", "observation_dtype": "bool", "network": MLP}
CARTPOLE = {"env": "CartPole-v1", "network": MLP}
LAUNCHED = (
    "dot_general", "conv_general", "reduce", "arg", "cum", "gather", "scatter", "sort",
    "dynamic_slice", "dynamic_update_slice", "scan", "while", "cond", "random", "threefry",
)  # fmt: skip
"""Beginnings of the names of operations that are not elementwise."""

# Rollout step, policy minibatch, auxiliary minibatch. What a change may lower, but not raise.
AGREED = {"breakout": (25.5, 55, 52), "cartpole": (5.5, 55, 52)}
AT_ONCE = {"breakout": 4, "cartpole": 8}
"""Steps of the rollout in an iteration: as many as the environment's program allows."""


def bodies(jaxpr):
    """All equations of a program, those of inner loops and calls too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in inside(eqn):
            yield from bodies(inner)


def inside(eqn):
    """The programs that an equation calls."""
    values = [v if isinstance(v, tuple | list) else [v] for v in eqn.params.values()]
    return [x for value in values for x in value if isinstance(x, ClosedJaxpr | Jaxpr)]


def launches(loop):
    """Launches of one iteration of a scan: operations, and arrays that are returned changed."""
    body = loop.params["jaxpr"]
    body = getattr(body, "jaxpr", body)  # JAX 0.9 closes it over constants
    given = set(body.invars)
    return len({v for v in body.outvars if v not in given}) + operations(body)


def operations(jaxpr):
    """Operations that are not elementwise. A loop that is fully unrolled is no loop."""
    number = 0
    for eqn in jaxpr.eqns:
        inner = sum(map(operations, inside(eqn)))
        unrolled = eqn.primitive.name == "scan" and eqn.params["unroll"] >= eqn.params["length"]
        times = eqn.params["length"] if unrolled else 1
        number += times * inner + (not unrolled and eqn.primitive.name.startswith(LAUNCHED))
    return number


def program(fields, backend):
    config = ppg_jax.Config(**SIZES | fields)
    train = ppg_jax.make_train(config, backend=backend)
    return jax.make_jaxpr(train)(jax.random.key(0)).jaxpr


def counted(fields, backend, at_once):
    """Launches of a rollout step, a policy minibatch and an auxiliary one."""
    loops = [e for e in bodies(program(fields, backend)) if e.primitive.name == "scan"]

    def most(length):
        return max(launches(loop) for loop in loops if loop.params["length"] == length)

    return most(STEPS // at_once) / at_once, most(MINIBATCHES), most(AUX_MINIBATCHES)


@pytest.mark.parametrize(("name", "fields"), [("breakout", BREAKOUT), ("cartpole", CARTPOLE)])
def test_no_more_than_agreed(name, fields):
    found = counted(fields, GPU, AT_ONCE[name])
    assert all(n <= most for n, most in zip(found, AGREED[name], strict=True)), found
    # It can fail: the program of a CPU launches more.
    assert all(n > most for n, most in zip(counted(fields, CPU, 1), AGREED[name], strict=True))


def test_every_loop_has_a_known_length():
    loops = {eqn.primitive.name for eqn in bodies(program(CARTPOLE, GPU))}
    assert "scan" in loops
    assert "while" not in loops
    assert "while" in {eqn.primitive.name for eqn in bodies(program(CARTPOLE, CPU))}


def test_large_programs_have_few_steps_in_an_iteration(monkeypatch):
    def rollout_lengths():
        loops = [e for e in bodies(program(CARTPOLE, GPU)) if e.primitive.name == "scan"]
        return {e.params["length"] for e in loops if e.params["length"] in (1, 2, 3, 8, 12)}

    assert {STEPS // 8, 8} <= rollout_lengths()
    one = trace_of_a_step(monkeypatch)
    monkeypatch.setattr(rollout, "MOST_OPERATIONS", 2 * one)
    assert {STEPS // 2, 2} <= rollout_lengths()


def trace_of_a_step(monkeypatch):
    """Number of operations of a step of the rollout."""
    found = []

    def trace(*args):
        found.append(functional.trace(*args))
        return found[-1]

    monkeypatch.setattr(rollout, "trace", trace)
    program(CARTPOLE, GPU)
    return found[1].operations  # the first one is that of resets


def test_bfloat16_is_cast_before_loops_without_gradients(monkeypatch):
    """Encoders' parameters: in a loop the cast would be a launch at every step."""
    seen, unroll = [], Agent.unroll

    def watched(self, network, inputs, memory, how):
        leaves = jax.tree.leaves([net["encoder"] for net in network.params.values()])
        seen.append((how.heads, {x.dtype.name for x in leaves}))
        return unroll(self, network, inputs, memory, how)

    monkeypatch.setattr(Agent, "unroll", watched)
    program(CARTPOLE | {"network": MLP | {"compute_dtype": "bfloat16"}}, GPU)
    alone = [dtypes for heads, dtypes in seen if len(heads) == 1]
    assert len(alone) >= 5  # rollout, values, successors, old policies, values after the phase
    assert all(dtypes == {"bfloat16"} for dtypes in alone)
    assert all(dtypes == {"float32"} for heads, dtypes in seen if len(heads) > 1)
