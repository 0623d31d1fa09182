"""Masked distributions, tanh Gaussians, and bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.functional import (
    Categorical,
    DiagGaussian,
    MultiCategorical,
    TanhGaussian,
    one_hot,
    pack_bits,
    unpack_bits,
)


def test_a_masked_categorical_is_one_over_the_legal_actions():
    logits, legal = jnp.array([0.5, 2.0, -1.0, 3.0]), jnp.array([True, False, True, True])
    masked = Categorical.from_logits(logits, legal)
    alone = Categorical.from_logits(logits[jnp.array([0, 2, 3])])
    np.testing.assert_allclose(masked.entropy(), alone.entropy(), rtol=1e-6)
    np.testing.assert_allclose(masked.log_prob(jnp.int32(2)), alone.log_prob(jnp.int32(1)))
    other = Categorical.from_logits(-logits, legal)
    other_alone = Categorical.from_logits(-logits[jnp.array([0, 2, 3])])
    np.testing.assert_allclose(masked.kl(other), alone.kl(other_alone), rtol=1e-6)


def test_gradients_of_masked_distributions_are_finite_and_zero_where_illegal():
    legal = jnp.array([True, False, True])

    def loss(logits):
        policy = Categorical.from_logits(logits, legal)
        old = Categorical.from_logits(jnp.array([1.0, 5.0, 0.0]), legal)
        return policy.entropy() + old.kl(policy) + policy.log_prob(jnp.int32(0))

    grad = jax.grad(loss)(jnp.array([0.3, 9.0, -0.2]))
    assert np.isfinite(grad).all()
    assert grad[1] == 0
    assert np.abs(grad[0]) > 0.01


def test_a_forbidden_action_is_never_taken():
    """A million actions, with an illegal action that the logits favour strongly."""
    legal = jax.random.bernoulli(jax.random.key(0), 0.4, (1000, 7)).at[:, 6].set(True)
    logits = jnp.where(legal, 0.0, 50.0)
    one = Categorical.from_logits(logits, legal)
    many = MultiCategorical.from_logits(logits.at[:, 3].set(9.0), (3, 4), legal.at[:, 0].set(True))
    assert not jnp.isnan(many.entropy()).any()

    @jax.jit
    def illegal(key):
        chosen = one.sample(key)
        both = many.sample(key) + jnp.array([0, 3])
        taken = jnp.concatenate([chosen[:, None], both], axis=1)
        mask = legal.at[:, 0].set(True)
        wrong = ~jnp.take_along_axis(mask, taken[:, 1:], 1)
        return (~jnp.take_along_axis(legal, taken[:, :1], 1)).sum() + wrong.sum()

    assert jax.lax.map(illegal, jax.random.split(jax.random.key(1), 1000)).sum() == 0
    assert jnp.take_along_axis(legal, one.mode()[:, None], 1).all()


def test_without_a_legal_action_all_are():
    policy = Categorical.from_logits(jnp.zeros(3), jnp.zeros(3, jnp.bool_))
    np.testing.assert_allclose(policy.entropy(), np.log(3), rtol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std", "error"),
    [(0.0, 0.1, 1e-5), (0.7, 1.0, 1e-5), (-2.0, 2.0, 1e-3), (0.5, 5.0, 0.03)],
)
def test_the_tanh_gaussian_is_a_density_and_has_this_entropy(mean, std, error):
    policy = TanhGaussian(jnp.array([mean]), jnp.log(jnp.array([std])))

    u = np.linspace(mean - 8 * std, mean + 8 * std, 20_001)
    log_prob = np.float64(policy.log_prob(jnp.asarray(u)[:, None]))
    slope = np.exp(2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u)))))
    np.testing.assert_allclose(np.trapezoid(np.exp(log_prob) * slope, u), 1.0, rtol=1e-3)
    normal = np.exp(-0.5 * ((u - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    exact = -np.trapezoid(normal * log_prob, u)
    np.testing.assert_allclose(policy.entropy(), exact, atol=error)


def test_tanh_does_not_change_the_kl():
    a, b = (jnp.array([0.1, -1.0]), jnp.zeros(2)), (jnp.array([0.5, 0.0]), jnp.array([0.3, -0.2]))
    plain = DiagGaussian(*a).kl(DiagGaussian(*b))
    np.testing.assert_array_equal(TanhGaussian(*a).kl(TanhGaussian(*b)), plain)


def test_bits_lose_nothing():
    flags = jax.random.bernoulli(jax.random.key(0), 0.5, (3, 13))
    packed = pack_bits(flags)
    assert packed.shape == (3, 2)
    np.testing.assert_array_equal(unpack_bits(packed, 13), flags)


def test_grids_are_one_hot_cell_by_cell():
    grid = jnp.array([[[0, 1], [2, 0]]])  # [1, 2, 2]: 3 tiles, 2 colours
    want = [[[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]]
    np.testing.assert_array_equal(one_hot(grid, (3, 2) * 2, (1, 2, 2)), want)
