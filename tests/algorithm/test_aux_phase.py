"""The auxiliary objective by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm.aux_phase import auxiliary_objective
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.functional.distributions import Categorical
from ppg_jax.networks.agent import AgentOutput

OLD = Categorical.from_logits(jnp.log(jnp.array([[0.9, 0.1]])))
NEW = Categorical.from_logits(jnp.log(jnp.array([[0.5, 0.5]])))
TARGETS = jnp.array([1.0])


def objective(beta_clone, new=NEW):
    out = AgentOutput(policy=new, values=jnp.array([3.0]), aux_values=jnp.array([2.0]), states={})
    return auxiliary_objective(Hyperparams(beta_clone=beta_clone), out, OLD, TARGETS)


def test_by_hand():
    # KL(old || new), not the other way round, which would be 0.51; halved squared errors.
    kl = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    loss, metrics = objective(beta_clone=3.0)
    np.testing.assert_allclose(metrics["clone_kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(metrics["aux_value_loss"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(metrics["aux_phase_value_loss"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(loss, (3.0 * kl, 0.5 + 2.0), rtol=1e-5)


def test_the_policy_is_pulled_back_to_the_old_one():
    def loss(logits):
        return sum(objective(1.0, Categorical.from_logits(logits))[0])

    grad = jax.grad(loss)(jnp.zeros((1, 2)))
    np.testing.assert_allclose(grad, [[0.5 - 0.9, 0.5 - 0.1]], rtol=1e-5)  # new minus old
