"""JAX's search for NaN and infinity passes healthy runs with all that may divide by zero."""

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config
from ppg_jax.functional.losses import explained_variance
from ppg_jax.functional.missing import LOWEST, marked_as_nan

pytestmark = pytest.mark.slow

SMALL = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
    "total_timesteps": 160, "network": {"hidden_sizes": (8,)},
}  # fmt: skip
MOST = {  # what has roots, quotients and logarithms of its own
    "normalize_observations": True, "normalize_rewards": True, "adapt_beta_clone": True,
    "gradient_conflict": "measure", "normalize_advantages": "minibatch",
}  # fmt: skip


def same_places(found, expected):
    """NaN where that is, and nowhere else; where gradients all but vanish, numbers may differ."""
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(expected[name]), name)
        assert not np.isinf(found[name]).any(), name


def test_nothing_divides_by_what_does_not_vary():
    """Op by op, as JAX goes on where it has found a NaN."""
    constant = jax.numpy.ones(4)
    assert np.isnan(explained_variance(constant, constant))
    with jax.debug_nans(True):
        assert explained_variance(constant, constant) == LOWEST


def test_a_healthy_run_passes():
    """The host hands out the same metrics, NaN where nothing was measured."""
    config = Config(**SMALL | MOST)
    options = {"progress": False, "evaluate_every": 1, "eval_episodes": 2}
    calm = ppg_jax.run(config, **options)
    with jax.debug_nans(True), jax.debug_infs(True):
        watched = ppg_jax.run(config, **options)
    same_places(watched.metrics, calm.metrics)
    assert len(watched.evaluations) == len(calm.evaluations) > 0
    assert not watched.problems
    assert np.isnan(watched.metrics["episode_return"]).any()


def test_make_train_passes_mapped():
    """Traced while NaN is looked for it marks by a number, before and after by NaN."""
    config = Config(**SMALL | {"total_timesteps": 128})  # whole phases, which compile sooner
    keys = jax.random.split(jax.random.key(0), 2)
    with jax.debug_nans(True):
        _, watched = jax.jit(jax.vmap(make_train(config)))(keys)
    _, calm = jax.jit(jax.vmap(make_train(config)))(keys)
    same_places(jax.tree.map(lambda x: marked_as_nan(np.asarray(x)), watched), calm)
