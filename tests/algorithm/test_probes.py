"""Probe environments with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config
from ppg_jax.networks.agent import Unroll
from ppg_jax.networks.network import POLICY, VALUE
from ppg_jax.types import Inputs
from tests import probes

pytestmark = pytest.mark.slow


def solve(env, arch="dual", **changes):
    """Trains, then says values and policy for observations ``[N]``."""
    hparams = {"learning_rate": 1e-2, "aux_learning_rate": 1e-2, "gamma": 0.9}
    fields = {
        "env": env, "arch": arch, "num_envs": 8, "num_steps": 8, "num_minibatches": 2, "n_pi": 4,
        "num_aux_minibatches": 2, "e_aux": 0 if arch == "separate" else 2, "e_pi": 2, "e_v": 2,
        "normalize_rewards": False, "total_timesteps": 64 * 300, "hparams": hparams,
        # Steps that shrink: what is left at the end is no noise of Adam's.
        "lr_schedule": "linear", "aux_lr_schedule": "linear",
        "network": {"hidden_sizes": (16,), "activation": "tanh"},
    }  # fmt: skip
    config = Config(**(fields | changes))
    state, metrics = jax.jit(make_train(config))(jax.random.key(0))
    agent = build(config).agent

    def ask(observations):
        obs = jnp.asarray(observations)[None]
        starts, memory = jnp.ones(obs.shape[:2], bool), agent.initial_memory(obs.shape[1])
        how = Unroll((POLICY, VALUE))
        out = agent.unroll(state.network, Inputs(obs, starts), memory, how)
        return out.values[0], out.policy

    return ask, metrics


@pytest.mark.parametrize("arch", ["dual", "detach", "single", "shared", "separate"])
def test_known_values_and_actions(arch):
    ask, metrics = solve(
        probes.Medley(), arch, num_envs=16, num_minibatches=4, total_timesteps=128 * 600,
        hparams={"learning_rate": 1e-2, "aux_learning_rate": 1e-2, "gamma": 0.8},
    )  # fmt: skip
    tasks = jax.nn.one_hot(jnp.array([0, 0, 1, 1, 2, 2, 3]), 4)
    x = jnp.array([-1.0, 1.0, 0.0, 1.0, -1.0, 1.0, 0.0])
    values, policy = ask(jnp.column_stack([tasks, x]))
    # Taken for termination, the last one's time limit would make it 1 + .8 + .64 + .512 = 2.95.
    np.testing.assert_allclose(values, [-1.0, 1.0, 0.8, 1.0, 1.0, 1.0, 5.0], atol=0.1)
    right = jnp.exp(policy.log_prob((x > 0).astype(int)[None]))[0, 4:6]
    assert (right > 0.95).all()
    lengths = np.asarray(metrics["episode_length"])
    assert ((lengths >= 1) & (lengths <= 4)).all()
    np.testing.assert_allclose(lengths.mean(), (1 + 2 + 1 + 4) / 4, atol=0.1)


def test_multi_discrete_actions():
    ask, _ = solve(probes.TwoDials())
    assert jnp.exp(ask([[0.0]])[1].log_prob(jnp.array([[[2, 0]]]))) > 0.9


def test_continuous_actions():
    ask, metrics = solve(probes.HitTheTarget(), total_timesteps=64 * 600)
    np.testing.assert_allclose(3 * ask([[0.0]])[1].mode(), 0.5, atol=0.15)  # -1 to 1 is the box
    assert metrics["episode_return"][-1] > -0.1


@pytest.mark.long
def test_byte_images_through_the_cnn():
    ask, _ = solve(probes.BytePicture(), network={"encoder": "cnn", "hidden_sizes": (16,)})
    bright = jnp.full((6, 6, 1), 255, jnp.uint8)
    policy = ask(jnp.stack([0 * bright, bright]))[1]
    assert jnp.all(jnp.exp(policy.log_prob(jnp.array([[0, 1]]))) > 0.95)


@pytest.mark.parametrize(
    "changes",
    [
        {"minibatch_by": "sample", "e_v": 1},
        {
            "hparams": {"learning_rate": 1e-2, "clip_eps": 0.0, "kl_penalty": 1.0},
            "normalize_observations": True,
            "lr_schedule": "constant",
            "aux_lr_schedule": "constant",
        },
        {  # PPO as it is mostly run
            "e_aux": 0,
            "normalize_advantages": "minibatch",
            "normalize_rewards": True,
            "hparams": {"learning_rate": 1e-2, "value_clip_eps": 0.5, "max_grad_norm": 0.5},
        },
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_option_still_learns(changes):
    ask, metrics = solve(probes.ActionMustMatch(), **changes)
    policy = ask([[-1.0], [1.0]])[1]
    assert jnp.all(jnp.exp(policy.log_prob(jnp.array([[0, 1]]))) > 0.9)
    assert jnp.isfinite(metrics["policy_loss"]).all()
