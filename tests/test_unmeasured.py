"""JAX's search for NaN: healthy runs pass it, a real NaN is found."""

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config import Config
from ppg_jax.losses import explained_variance
from ppg_jax.train import make_train
from ppg_jax.unmeasured import LOWEST, unmeasured, with_nan

SMALL = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
    "total_timesteps": 160, "network": {"hidden_sizes": (8,)},
}  # fmt: skip
MOST = {  # what has roots, quotients and logarithms of its own
    "normalize_observations": True, "normalize_rewards": True, "adapt_beta_clone": True,
    "gradient_conflict": "measure", "normalize_advantages": "minibatch",
}  # fmt: skip


def same(found, expected):
    """NaN in the same places, numbers to the rounding of another program."""
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], 1e-3, 1e-5, err_msg=name)


def test_the_mark_is_nan_unless_nan_is_looked_for():
    assert np.isnan(unmeasured())
    with jax.debug_nans(True):
        assert unmeasured() == LOWEST
    marked = np.array([[1.0, LOWEST], [np.nan, -np.inf]], np.float32)
    np.testing.assert_array_equal(with_nan(marked), [[1.0, np.nan], [np.nan, -np.inf]])
    counts = np.array([3, -7], np.int32)
    assert with_nan(counts) is counts


def test_nothing_divides_by_what_does_not_vary():
    """Op by op, as JAX goes on where it has found a NaN."""
    constant = jax.numpy.ones(4)
    assert np.isnan(explained_variance(constant, constant))
    with jax.debug_nans(True):
        assert explained_variance(constant, constant) == LOWEST


@pytest.mark.parametrize(
    "changes", [MOST, {"e_aux": 0, "env": "Pendulum-v1"}, {"network": {"memory": "gru"}}]
)
def test_a_healthy_run_passes(changes):
    """The host hands out the same metrics, NaN where nothing was measured."""
    config = Config(**SMALL | changes)
    calm = ppg_jax.run(config, seeds=2, progress=False, evaluate_every=1, eval_episodes=2)
    with jax.debug_nans(True), jax.debug_infs(True):
        watched = ppg_jax.run(config, seeds=2, progress=False, evaluate_every=1, eval_episodes=2)
    same(watched.metrics, calm.metrics)
    assert len(watched.evaluations) == len(calm.evaluations) > 0
    assert not watched.problems
    assert np.isnan(watched.metrics["episode_return"]).any()


def test_make_train_passes_mapped():
    """Traced while NaN is looked for it marks by a number, before and after by NaN."""
    config = Config(**SMALL)
    keys = jax.random.split(jax.random.key(0), 2)
    with jax.debug_nans(True):
        _, watched = jax.jit(jax.vmap(make_train(config)))(keys)
    _, calm = jax.jit(jax.vmap(make_train(config)))(keys)
    same(jax.tree.map(lambda x: with_nan(np.asarray(x)), watched), calm)


def test_a_real_nan_is_found():
    """In whichever thread the program runs, and where the setting is the caller's alone."""
    config = Config(**SMALL, hparams={"learning_rate": 1e30, "aux_learning_rate": 1e30})
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan") as caught:
        ppg_jax.run(config, seeds=2, progress=False)
    assert "\n" not in str(caught.value)
