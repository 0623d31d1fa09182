"""Distributions against scipy, Monte Carlo and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ppg_jax.functional.distributions import Categorical, DiagGaussian, MultiCategorical

KEYS = jax.random.split(jax.random.key(0), 8)


def pair(kind):
    if kind == "categorical":
        return [Categorical.from_logits(jax.random.normal(k, (3, 5))) for k in KEYS[:2]]
    if kind == "multi":
        return [
            MultiCategorical.from_logits(jax.random.normal(k, (3, 7)), (2, 5)) for k in KEYS[:2]
        ]
    return [
        DiagGaussian(jax.random.normal(a, (3, 2)), 0.3 * jax.random.normal(b, (3, 2)))
        for a, b in (KEYS[:2], KEYS[2:4])
    ]


@pytest.mark.parametrize("kind", ["categorical", "multi", "gaussian"])
def test_entropy_and_kl_agree_with_samples(kind):
    p, q = pair(kind)
    actions = jax.vmap(p.sample)(jax.random.split(KEYS[5], 20_000))
    log_p, log_q = jax.vmap(p.log_prob)(actions), jax.vmap(q.log_prob)(actions)
    np.testing.assert_allclose(p.entropy(), -log_p.mean(0), atol=0.03)
    np.testing.assert_allclose(p.kl(q), (log_p - log_q).mean(0), atol=0.05, rtol=0.05)
    np.testing.assert_allclose(p.kl(p), 0.0, atol=1e-6)
    assert jnp.all(p.kl(q) > 0)


@pytest.mark.parametrize("kind", ["categorical", "multi", "gaussian"])
def test_noise_is_drawn_before_the_distribution_is_known(kind):
    p, q = pair(kind)
    noise = jax.eval_shape(lambda: q).noise(KEYS[6])
    np.testing.assert_array_equal(p.choose(noise), p.sample(KEYS[6]))
    if kind == "categorical":
        np.testing.assert_array_equal(p.choose(noise), jax.random.categorical(KEYS[6], p.log_probs))


@pytest.mark.parametrize("kind", ["categorical", "multi", "gaussian"])
def test_mode_is_most_probable(kind):
    p, _ = pair(kind)
    actions = jax.vmap(p.sample)(jax.random.split(KEYS[5], 1000))
    assert jnp.all(p.log_prob(p.mode()) >= jax.vmap(p.log_prob)(actions).max(0))


def test_categorical_by_hand():
    p = Categorical.from_logits(jnp.log(jnp.array([1.0, 1.0, 2.0])))
    np.testing.assert_allclose(p.log_prob(jnp.array(2)), np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(p.entropy(), 1.5 * np.log(2), rtol=1e-6)
    q = Categorical.from_logits(jnp.zeros(3))
    np.testing.assert_allclose(p.kl(q), np.log(3) - 1.5 * np.log(2), rtol=1e-5)


def test_impossible_actions_give_no_nan():
    p = Categorical.from_logits(jnp.array([0.0, -jnp.inf]))
    assert p.entropy() == 0.0
    assert p.kl(p) == 0.0


def test_multi_categorical_is_a_product():
    p, q = pair("multi")
    actions = p.sample(KEYS[6])
    assert actions.shape == (3, 2)
    assert actions.dtype == jnp.int32
    parts = [part.log_prob(actions[:, i]) for i, part in enumerate(p.parts)]
    np.testing.assert_allclose(p.log_prob(actions), parts[0] + parts[1], rtol=1e-6)
    kls = [a.kl(b) for a, b in zip(p.parts, q.parts, strict=True)]
    np.testing.assert_allclose(p.kl(q), kls[0] + kls[1], rtol=1e-6)


def test_gaussian_against_scipy():
    p, _ = pair("gaussian")
    actions = p.sample(KEYS[6])
    reference = stats.norm(p.mean, np.exp(p.log_std))
    np.testing.assert_allclose(p.log_prob(actions), reference.logpdf(actions).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(p.entropy(), reference.entropy().sum(-1), rtol=1e-5)
