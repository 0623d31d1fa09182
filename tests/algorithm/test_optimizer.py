"""Adam against optax, schedules and the gradient limit by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax.algorithm import build
from ppg_jax.algorithm.optimizer import (
    FlatAdam,
    TreeAdam,
    init_optimizer,
    make_adam,
    scheduled,
)
from ppg_jax.backend import GPU
from ppg_jax.config import Config
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.kernels import FlatTree

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
GRADS = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}


def parts(tree):
    return {"first": {"a": tree["a"]}, "second": {"b": tree["b"]}, "both": tree}


def adam(kind, hparams, rate):
    if kind == "tree":
        return TreeAdam(hparams, rate, parts)
    return FlatAdam(hparams, rate, FlatTree.of(PARAMS, parts))


@pytest.mark.parametrize("kind", ["tree", "flat"])
@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_steps_are_optax_adam_with_clipping(limit, kind):
    chain = [optax.clip_by_global_norm(limit)] if limit else []
    reference = optax.chain(*chain, optax.adam(1e-2, eps=1e-5))
    want, want_state = PARAMS, reference.init(PARAMS)
    ours = adam(kind, Hyperparams(max_grad_norm=limit, adam_eps=1e-5), 1e-2)
    carry = ours.begin(PARAMS, init_optimizer(PARAMS))
    for scale in (1.0, 0.1, 10.0):
        grads = {k: scale * g for k, g in GRADS.items()}
        updates, want_state = reference.update(grads, want_state)
        want = optax.apply_updates(want, updates)
        carry, norms = ours.step(carry, grads)
        wanted = {"first": 3.0 * scale, "second": 4.0 * scale, "both": 5.0 * scale}
        assert norms == pytest.approx(wanted, rel=1e-6)
        chex.assert_trees_all_close(ours.params(carry), want, rtol=1e-5)
    params, state = ours.end(carry)
    chex.assert_trees_all_close(params, want, rtol=1e-5)
    chex.assert_trees_all_close(state, want_state[-1][0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["tree", "flat"])
def test_without_gradient_nothing_moves(kind):
    ours = adam(kind, Hyperparams(), 1.0)
    carry = ours.begin(PARAMS, init_optimizer(PARAMS))
    for _ in range(3):
        carry, _ = ours.step(carry, jax.tree.map(jnp.zeros_like, PARAMS))
    chex.assert_trees_all_equal(ours.params(carry), PARAMS)


def test_parameters_of_another_dtype_stay_a_tree():
    ppg = build(Config(num_envs=4, num_steps=4, num_minibatches=1), GPU)
    for dtype, kind in ((jnp.float32, FlatAdam), (jnp.bfloat16, TreeAdam)):
        made = make_adam(ppg, Hyperparams(), 1.0, {"a": jnp.ones(3, dtype)}, lambda x: {"all": x})
        assert isinstance(made, kind)


def test_schedules():
    assert scheduled(0.5, "constant", jnp.int32(9), 10) == 0.5
    np.testing.assert_allclose(scheduled(0.5, "linear", jnp.int32(0), 10), 0.5)
    np.testing.assert_allclose(scheduled(0.5, "linear", jnp.int32(9), 10), 0.05, rtol=1e-5)
    assert scheduled(0.5, "linear", jnp.int32(10), 10) == 0.0


def test_schedules_of_more_iterations_than_float32_counts():
    """Every iteration has its own rate, to the last one."""
    total = 2**31 - 1
    for left in (total, 2**30, 3, 2, 1):
        rate = scheduled(0.5, "linear", jnp.int32(total - left), total)
        np.testing.assert_allclose(rate, 0.5 * left / total, rtol=1e-6)
    assert scheduled(0.5, "linear", jnp.int32(total), total) == 0.0
