"""Losses by hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.functional import losses

OLD = jnp.zeros(4)
NEW = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
ADVANTAGES = jnp.array([1.0, -1.0, 1.0, -1.0])


def test_clipped_surrogate():
    # ratios 1.5 1.5 .5 .5, clipped 1.2 1.2 .8 .8; the worse of both each time.
    want = np.mean([-1.2, 1.5, -0.5, 0.8])
    loss = losses.policy_loss(NEW, OLD, ADVANTAGES, 0.2, 0.0)
    np.testing.assert_allclose(loss, want, rtol=1e-6)


def test_clip_zero_means_no_clip_and_the_penalty_is_added():
    plain = np.mean([-1.5, 1.5, -0.5, 0.5])
    loss = losses.policy_loss(NEW, OLD, ADVANTAGES, 0.0, 0.0)
    np.testing.assert_allclose(loss, plain, atol=1e-7)
    penalty = 0.5 * np.mean(np.log([1.5, 1.5, 0.5, 0.5]) ** 2)
    loss = losses.policy_loss(NEW, OLD, ADVANTAGES, 0.0, 2.0)
    np.testing.assert_allclose(loss, plain + 2.0 * penalty, rtol=1e-5)


def test_gradient_stops_where_the_clip_binds():
    grad = jax.grad(losses.policy_loss)(NEW, OLD, ADVANTAGES, 0.2, 0.0)
    np.testing.assert_allclose(grad, np.array([0, 1.5, -0.5, 0]) / 4, rtol=1e-6)


def test_value_loss_with_and_without_clip():
    values, targets, old = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0]), jnp.array([1.0, 0.5])
    np.testing.assert_allclose(losses.squared_error(values, targets), (4 + 1) / 2)
    # clipped to 1.1 and 0.4: errors 1.21 and .36, both smaller, so the plain ones count.
    np.testing.assert_allclose(losses.clipped_squared_error(values, targets, old, 0.1), (4 + 1) / 2)
    # the other way round the clip is the pessimist: 1.9 instead of 0.
    loss = losses.clipped_squared_error(jnp.zeros(1), jnp.zeros(1), 2 * jnp.ones(1), 0.1)
    np.testing.assert_allclose(loss, 1.9**2, rtol=1e-6)
    assert losses.clipped_squared_error(values, targets, old, 0.0) == losses.squared_error(
        values, targets
    )


@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_value_gradient_where_nothing_is_clipped(eps):
    values, targets = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])
    grad = jax.grad(losses.clipped_squared_error)(values, targets, values, eps)
    np.testing.assert_allclose(grad, values - targets, rtol=1e-6)


def test_advantages_are_normalised_by_the_population_deviation():
    normed = losses.normalize_advantages(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_allclose(normed, (np.arange(1, 5) - 2.5).reshape(2, 2) / np.std([1, 2, 3, 4]))


def test_measures():
    np.testing.assert_allclose(losses.clip_fraction(NEW, OLD, 0.3), 1.0)
    np.testing.assert_allclose(losses.clip_fraction(NEW, OLD, 0.6), 0.0)
    np.testing.assert_allclose(losses.clip_fraction(NEW, OLD, 0.0), 0.0)
    want = np.mean([0.5 - np.log(1.5), -0.5 - np.log(0.5)])
    np.testing.assert_allclose(losses.approximate_kl(NEW, OLD), want, rtol=1e-5)
    targets = jnp.array([1.0, 2.0, 3.0])
    assert losses.explained_variance(targets, targets) == 1.0
    assert losses.explained_variance(jnp.zeros(3), targets) == 0.0
    assert jnp.isnan(losses.explained_variance(targets, jnp.ones(3)))
