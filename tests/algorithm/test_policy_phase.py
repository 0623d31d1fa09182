"""The policy-phase objectives by hand."""

import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm.policy_phase import policy_objective, value_objective
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.functional.distributions import Categorical
from ppg_jax.networks.agent import AgentOutput
from ppg_jax.types import Batch

ACTIONS = jnp.array([[0, 1]])
LOG_HALF = jnp.log(jnp.full((1, 2), 0.5))


def make_batch(**changes):
    blank = jnp.zeros((1, 2))
    fields = {
        "obs": blank, "starts": blank, "memory": {}, "actions": ACTIONS, "old_log_probs": LOG_HALF,
        "old_values": blank, "advantages": jnp.array([[1.0, -2.0]]), "value_targets": blank,
    }  # fmt: skip
    return Batch(**(fields | changes))


def output(probs, values=0.0):
    policy = Categorical.from_logits(jnp.log(jnp.asarray(probs)))
    return AgentOutput(policy=policy, values=jnp.full((1, 2), values), aux_values=None, states={})


def test_policy_loss_subtracts_the_entropy_bonus():
    out = output([[[0.55, 0.45], [0.55, 0.45]]])
    loss, metrics = policy_objective(Hyperparams(entropy_coef=0.1), out, make_batch())
    surrogate = np.mean([-1.0 * 1.1, 2.0 * 0.9])  # ratios 1.1 and 0.9, inside the clip
    entropy = -(0.55 * np.log(0.55) + 0.45 * np.log(0.45))
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(loss, surrogate - 0.1 * entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy_loss"], loss)


def test_value_loss_is_weighted_not_halved():
    batch = make_batch(value_targets=jnp.array([[1.0, 5.0]]))
    loss, _ = value_objective(Hyperparams(value_coef=0.25), output([[[0.5, 0.5]] * 2], 2.0), batch)
    np.testing.assert_allclose(loss, 0.25 * (1 + 9) / 2, rtol=1e-6)
