"""The program of a GPU or a TPU is built, and run, on the CPU of the tests."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.algorithm import build, init
from ppg_jax.algorithm.gradients import pair_gradient
from ppg_jax.backend import CPU, GPU, TPU, backend_for, this_backend
from ppg_jax.envs import parallel
from ppg_jax.execution.layout import Layout, lay_out
from ppg_jax.execution.segments import train_segments
from ppg_jax.networks import AUX_VALUE, POLICY, VALUE, Unroll
from ppg_jax.types import Inputs, NetworkState

SMALL = {
    "num_envs": 4, "num_steps": 4, "num_minibatches": 2, "n_pi": 2, "e_aux": 1,
    "num_aux_minibatches": 2, "total_timesteps": 2 * 4 * 4,
}  # fmt: skip
CONFIGS = {
    "mlp": {
        "env": "Breakout-MinAtar",
        "observation_dtype": "bool",
        "network": {"encoder": "mlp", "hidden_sizes": [16]},
        "env_params": {"max_steps_in_episode": 3},  # new episodes, and values of final observations
    },
    "cnn": {"env": "Breakout-MinAtar", "network": {"encoder": "cnn"}},
    "shared": {
        "env": "CartPole-v1",
        "arch": "shared",
        "e_pi": 1,
        "normalize_observations": True,
        "gradient_conflict": "project",
    },
    "memory": {
        "env": "Pendulum-v1",
        "e_v": 2,
        "normalize_advantages": "minibatch",
        "network": {"memory": "gru", "memory_size": 8, "hidden_sizes": [16]},
    },
}


def config_of(name, **changes):
    fields = SMALL | CONFIGS[name] | changes
    return ppg_jax.Config(**{"network": {"hidden_sizes": [16]}} | fields)


@pytest.mark.parametrize(
    ("platform", "backend"),
    [("cpu", CPU), ("gpu", GPU), ("cuda", GPU), ("rocm", GPU), ("tpu", TPU), ("metal", GPU)],
)
def test_backends_by_name(platform, backend):
    assert backend_for(platform) == backend


def test_this_backend_is_that_of_the_device(monkeypatch):
    assert this_backend() == CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert this_backend() == TPU
    with jax.default_device("cpu"):
        assert this_backend() == CPU
    with jax.default_device(jax.devices("cpu")[0]):
        assert this_backend() == CPU


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.long) for name in ("shared", "memory"))]
)
def test_the_program_of_an_accelerator_trains_the_same(name, monkeypatch):
    monkeypatch.setattr(parallel, "HEAVY", 1)  # environments count as large: resets differ too
    config, key = config_of(name), jax.random.key(3)
    ran = {}
    for backend in (CPU, GPU):
        train = ppg_jax.make_train(config, backend=backend)
        ran[backend] = jax.jit(train)(key)
    state, metrics = ran[CPU]
    other, measured = ran[GPU]
    chex.assert_trees_all_equal_shapes_and_dtypes((state, metrics), (other, measured))
    # The first iteration's actions come from the same parameters: no rounding yet.
    first = {k: v[0] for k, v in metrics.items() if k.startswith("episode")}
    np.testing.assert_equal({k: v[0] for k, v in measured.items() if k in first}, first)
    chex.assert_trees_all_close(other.params, state.params, rtol=2e-3, atol=2e-3)


def test_programs_differ():
    """Otherwise the test above would compare a program with itself."""
    config = config_of("mlp")
    assert build(config, CPU).agent.initial_order(None) is not None
    assert build(config, GPU).agent.initial_order(None) is None
    convolutions = [build(config_of("cnn"), b).agent.network.conv for b in (CPU, GPU)]
    assert convolutions == ["patches", "lax"]


def test_networks_that_do_not_run_as_one_learn_in_turn():
    """The same gradient and metrics; a barrier keeps the second network for later.

    How much memory that saves, only the compiler for a GPU can tell (benchmarks/accelerators.py).
    """
    config = config_of("cnn")
    state = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    found = []
    for learns_in_turn in (False, True):
        ppg = build(config, dataclasses.replace(GPU, learns_in_turn=learns_in_turn))
        agent = ppg.agent

        def losses(params, heads, agent=agent):
            inputs = Inputs(jnp.ones((2, 4, 10, 10, 4), jnp.bool_), jnp.zeros((2, 4), jnp.bool_))
            out = agent.unroll(NetworkState(params), inputs, agent.initial_memory(4), Unroll(heads))
            values = {k: x for k, x in (("v", out.values), ("a", out.aux_values)) if x is not None}
            metrics = {name: (x**2).mean() for name, x in values.items()}
            policy = jnp.float32(0.0) if out.policy is None else out.policy.entropy().mean()
            return (policy, sum(metrics.values())), metrics

        def gradient(params, ppg=ppg, losses=losses):
            return pair_gradient("off", ppg, losses, params, (POLICY, VALUE, AUX_VALUE))

        traced = str(jax.make_jaxpr(gradient)(state.params))
        assert ("optimization_barrier" in traced) == learns_in_turn
        found.append(jax.jit(gradient)(agent.init(jax.random.key(0))))
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "turns"),
    [
        ("cnn", {}, 2),
        ("cnn", {"arch": "detach"}, 1),  # a shared encoder
        ("mlp", {}, 1),  # both networks run as one
    ],
)
def test_which_networks_learn_in_turn(name, changes, turns):
    agent = build(config_of(name, **changes), GPU).agent
    heads = (POLICY, VALUE, AUX_VALUE)
    groups = agent.turns(heads)
    assert len(groups) == turns
    assert sorted(head for _, some in groups for head in some) == sorted(heads)
    assert agent.turns((POLICY,)) == [(list(agent.init(jax.random.key(0))), (POLICY,))]
    assert len(build(config_of(name, **changes), CPU).agent.turns(heads)) == 1


def test_a_whole_run_by_the_program_of_a_gpu():
    config, keys = config_of("shared"), jax.random.split(jax.random.key(0), 3)
    hparams = jax.tree.map(jnp.float32, config.hparams)
    ended = []
    for layout in (lay_out(config, 3), Layout("vmap", 1, 3, 3, backend=GPU)):
        *_, last = train_segments(config, layout, hparams, keys, shared=True)
        ended.append(last.metrics)
    assert set(ended[0]) == set(ended[1])
    np.testing.assert_allclose(ended[0]["value_loss"], ended[1]["value_loss"], rtol=1e-3)


def test_compiler_options_reach_the_compiler():
    config = config_of("shared")
    backend = dataclasses.replace(CPU, compiler_options=(("xla_no_such_option", "1"),))
    layout = dataclasses.replace(lay_out(config, 1), backend=backend)
    keys, hparams = jax.random.split(jax.random.key(0), 1), jax.tree.map(float, config.hparams)
    with pytest.raises(Exception, match="xla_no_such_option"):
        next(train_segments(config, layout, hparams, keys, shared=True))
    options = dict(this_backend().compiler_options)
    assert set(options) == {"xla_backend_optimization_level"}
