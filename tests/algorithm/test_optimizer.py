"""Adam against optax, schedules and the gradient limit by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax.algorithm.optimizer import apply_gradients, init_optimizer, scheduled
from ppg_jax.config.hyperparams import Hyperparams

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
GRADS = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_steps_are_optax_adam_with_clipping(limit):
    chain = [optax.clip_by_global_norm(limit)] if limit else []
    reference = optax.chain(*chain, optax.adam(1e-2, eps=1e-5))
    want, want_state = PARAMS, reference.init(PARAMS)
    params, state = PARAMS, init_optimizer(PARAMS)
    hparams = Hyperparams(max_grad_norm=limit, adam_eps=1e-5)
    for scale in (1.0, 0.1, 10.0):
        grads = {k: scale * g for k, g in GRADS.items()}
        updates, want_state = reference.update(grads, want_state)
        want = optax.apply_updates(want, updates)
        params, state = apply_gradients(hparams, 1e-2, params, state, grads)
    for name in PARAMS:
        np.testing.assert_allclose(params[name], want[name], rtol=1e-5)


def test_without_gradient_nothing_moves():
    params, state = PARAMS, init_optimizer(PARAMS)
    zero = {k: jnp.zeros_like(g) for k, g in GRADS.items()}
    for _ in range(3):
        params, state = apply_gradients(Hyperparams(), 1.0, params, state, zero)
    np.testing.assert_array_equal(params["a"], PARAMS["a"])


def test_schedules():
    assert scheduled(0.5, "constant", jnp.int32(9), 10) == 0.5
    np.testing.assert_allclose(scheduled(0.5, "linear", jnp.int32(0), 10), 0.5)
    np.testing.assert_allclose(scheduled(0.5, "linear", jnp.int32(9), 10), 0.05, rtol=1e-5)
    assert scheduled(0.5, "linear", jnp.int32(10), 10) == 0.0
