"""Conflicting gradients: cases with known answers, and what a run makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.gradients import pair_gradient
from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train, train_phases
from ppg_jax.config.config import Config
from ppg_jax.functional.gradient_conflict import adapted_scale, balanced_weights, cosine, project
from ppg_jax.networks.network import POLICY, VALUE

pytestmark = pytest.mark.slow

RIGHT, UP_LEFT = {"x": jnp.array([3.0, 0.0])}, {"x": jnp.array([-1.0, 1.0])}


def test_cosine_by_hand():
    np.testing.assert_allclose(cosine(RIGHT, UP_LEFT), -(0.5**0.5), rtol=1e-6)
    np.testing.assert_allclose(cosine(RIGHT, RIGHT), 1.0, rtol=1e-6)
    assert cosine(RIGHT, {"x": jnp.zeros(2)}) == 0.0


def test_projection_takes_off_what_opposes():
    np.testing.assert_allclose(project(RIGHT, UP_LEFT)["x"], [1.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(project(UP_LEFT, RIGHT)["x"], [0.0, 1.0], atol=1e-6)
    friend = {"x": jnp.array([1.0, 1.0])}
    np.testing.assert_array_equal(project(RIGHT, friend)["x"], RIGHT["x"])
    np.testing.assert_array_equal(project(RIGHT, {"x": jnp.zeros(2)})["x"], RIGHT["x"])


def test_balance_gives_both_the_mean_norm():
    a, b = balanced_weights({"x": jnp.array([3.0, 4.0])}, {"x": jnp.array([0.0, 1.0])})
    np.testing.assert_allclose([a * 5.0, b * 1.0], [3.0, 3.0], rtol=1e-6)
    _, b = balanced_weights({"x": jnp.array([1.0])}, {"x": jnp.array([1e-6])})
    assert b == 10.0


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.01, 1.0), (0.0144, 1.2), (1.0, 2.0), (0.0, 0.5), (jnp.nan, 1.0)]
)
def test_scale_follows_the_kl(kl, factor):
    np.testing.assert_allclose(adapted_scale(jnp.float32(3.0), kl, 0.01), 3.0 * factor, rtol=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_scale_finds_the_weight_that_gives_the_target(power):
    """KLs that fall with the first or second power of the weight."""
    scale = jnp.float32(1.0)
    for _ in range(40):
        scale = adapted_scale(scale, 4.0 / scale**power, 0.01)
    np.testing.assert_allclose(4.0 / scale**power, 0.01, rtol=0.01)


def small(**changes):
    fields = {
        "env": "CartPole-v1", "arch": "shared", "num_envs": 4, "num_steps": 8, "n_pi": 2,
        "num_minibatches": 2, "num_aux_minibatches": 2, "e_aux": 2, "total_timesteps": 128,
        "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**(fields | changes))


def gradients(conflict):
    """Of two losses whose gradients on the shared part are known: opposite but for one entry."""
    config = small(network={"hidden_sizes": (8,), "memory": "gru"})
    ppg = build(config)
    agent = ppg.agent
    params = jax.jit(init, static_argnums=0)(config, jax.random.key(0)).params
    shared = agent.shared_part(params)
    signs = jax.tree.map(lambda x: jnp.where(jnp.arange(x.size) == 0, 1.0, -1.0), shared)

    def dot(a, b):
        return sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))

    def loss(params, _):
        part = jax.tree.map(jnp.ravel, agent.shared_part(params))
        head = params["policy_net"]["policy_head"]["dense"]["bias"].sum()
        ones = jax.tree.map(jnp.ones_like, part)
        return (dot(part, ones) + 2.0 * head, 3.0 * dot(part, signs) + head), {}

    grads, _, metrics = pair_gradient(conflict, ppg, loss, params, (POLICY, VALUE))
    flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(agent.shared_part(grads))])
    ones = jnp.ones_like(flat)
    value = 3.0 * jnp.concatenate([x.ravel() for x in jax.tree.leaves(signs)])
    np.testing.assert_allclose(grads["policy_net"]["policy_head"]["dense"]["bias"], 3.0)
    assert not np.any(grads["policy_net"]["value_head"]["dense"]["kernel"])
    return flat, ones, value, metrics


def test_off_is_the_sum_and_measures_nothing():
    found, policy, value, metrics = gradients("off")
    np.testing.assert_allclose(found, policy + value)
    assert metrics == {}


def test_measure_is_the_sum_and_says_how_they_lie():
    found, policy, value, metrics = gradients("measure")
    np.testing.assert_allclose(found, policy + value)
    want = policy @ value / jnp.linalg.norm(policy) / jnp.linalg.norm(value)
    np.testing.assert_allclose(metrics["grad_cosine"], want, rtol=1e-5)
    assert want < -0.5


def test_project_is_pcgrad():
    found, policy, value, _ = gradients("project")
    inner = policy @ value
    want = policy - inner / (value @ value) * value + value - inner / (policy @ policy) * policy
    np.testing.assert_allclose(found, want, rtol=1e-4)
    # Neither loss grows along the step.
    assert found @ policy > -1e-3
    assert found @ value > -1e-3


def test_balance_weighs_both_alike():
    found, policy, value, _ = gradients("balance")
    np.testing.assert_allclose(found, 2.0 * policy + value * 2.0 / 3.0, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def plain_run():
    return jax.jit(make_train(small()))(jax.random.key(0))


def test_measuring_changes_nothing_but_the_metrics(plain_run):
    _, off = plain_run
    _, measured = jax.jit(make_train(small(gradient_conflict="measure")))(jax.random.key(0))
    assert set(measured) - set(off) == {"grad_cosine", "aux_grad_cosine"}
    for name, x in off.items():
        np.testing.assert_allclose(measured[name], x, rtol=2e-3, atol=1e-4, err_msg=name)
    assert (np.abs(measured["grad_cosine"]) <= 1).all()
    assert np.isfinite(measured["aux_grad_cosine"]).tolist() == [False, True, False, True]


@pytest.mark.parametrize("remedy", ["project", "balance"])
def test_remedies_train(remedy, plain_run):
    state, metrics = jax.jit(make_train(small(gradient_conflict=remedy)))(jax.random.key(0))
    off, _ = plain_run
    assert np.isfinite(metrics["value_loss"]).all()
    kernels = [s.params["policy_net"]["encoder"]["dense_0"]["kernel"] for s in (state, off)]
    assert not np.allclose(*kernels)


def test_networks_that_share_nothing_in_a_phase_have_no_cosine_there():
    state = jax.eval_shape(
        make_train(small(arch="dual", gradient_conflict="measure")), jax.random.key(0)
    )
    assert "grad_cosine" not in state[1]
    assert "aux_grad_cosine" in state[1]


def test_beta_follows_the_measured_kl_from_phase_to_phase():
    changes = {"n_pi": 1, "total_timesteps": 6 * 32, "adapt_beta_clone": True}
    hparams = {"beta_clone": 2.0, "clone_kl_target": 1e-6, "aux_learning_rate": 1e-2}
    config = small(hparams=hparams, **changes)
    _, metrics = jax.jit(make_train(config))(jax.random.key(0))
    beta, kl = metrics["beta_clone"], metrics["clone_kl"]
    assert beta[0] == 2.0
    np.testing.assert_allclose(
        beta[1:], 2.0 * adapted_scale(beta[:-1] / 2.0, kl[:-1], 1e-6), rtol=1e-5
    )
    assert len(set(beta.tolist())) > 3


def test_beta_s_scale_weighs_the_kl():
    changes = {"n_pi": 1, "total_timesteps": 2 * 32, "adapt_beta_clone": True}
    config = small(hparams={"aux_learning_rate": 1e-2}, **changes)
    phase = jax.jit(train_phases, static_argnums=(0, 3))
    state, _ = phase(config, config.hparams, init(config, jax.random.key(1)), 1)

    def kl(scale):
        scaled = state.replace(beta_scale=jnp.float32(scale))
        return phase(config, config.hparams, scaled, 1)[1]["clone_kl"][0]

    assert kl(100.0) < 0.5 * kl(0.01)
