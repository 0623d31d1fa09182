"""Probe environments with known answers; for every architecture those that imply the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.config import Config
from ppg_jax.networks import POLICY, VALUE
from ppg_jax.train import build, make_train
from ppg_jax.types import Inputs
from tests import probes

ARCHS = ["dual", "detach", "single", "shared", "separate"]


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
    _, agent = build(config)

    def ask(observations):
        obs = jnp.asarray(observations)[None]
        starts, memory = jnp.ones(obs.shape[:2], bool), agent.initial_memory(obs.shape[1])
        out = agent.unroll(
            state.params, state.obs_stats, Inputs(obs, starts), memory, (POLICY, VALUE)
        )
        return out.values[0], out.policy

    return ask, metrics


def test_constant_reward():
    ask, metrics = solve(probes.ConstantReward())
    np.testing.assert_allclose(ask([[0.0]])[0], [1.0], atol=0.05)
    np.testing.assert_array_equal(metrics["episode_return"], 1.0)
    np.testing.assert_array_equal(metrics["num_episodes"], 64)


@pytest.mark.parametrize("arch", ARCHS)
def test_reward_by_observation(arch):
    ask, _ = solve(probes.RewardByObservation(), arch)
    np.testing.assert_allclose(ask([[-1.0], [1.0]])[0], [-1.0, 1.0], atol=0.1)


@pytest.mark.parametrize("arch", ARCHS)
def test_discounting(arch):
    ask, _ = solve(probes.DelayedReward(), arch)
    np.testing.assert_allclose(ask([[0.0], [1.0]])[0], [0.9, 1.0], atol=0.06)


def test_reward_by_action():
    ask, metrics = solve(probes.RewardByAction())
    assert jnp.exp(ask([[0.0]])[1].log_prob(jnp.ones((1, 1), int))) > 0.95
    assert metrics["episode_return"][-1] > 0.8


@pytest.mark.parametrize("arch", ARCHS)
def test_action_that_depends_on_the_observation(arch):
    ask, _ = solve(probes.ActionMustMatch(), arch)
    policy = ask([[-1.0], [1.0]])[1]
    assert jnp.all(jnp.exp(policy.log_prob(jnp.array([[0, 1]]))) > 0.95)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_time_limit_is_no_terminal_state(arch):
    # Taken for termination, the value would be below 1 + .9 + .81 + .729 = 3.44.
    ask, metrics = solve(probes.EndlessReward(), arch, total_timesteps=64 * 600)
    np.testing.assert_allclose(ask([[0.0]])[0], [10.0], atol=1.0)
    np.testing.assert_array_equal(metrics["episode_length"], 4.0)


def test_multi_discrete_actions():
    ask, _ = solve(probes.TwoDials())
    assert jnp.exp(ask([[0.0]])[1].log_prob(jnp.array([[[2, 0]]]))) > 0.9


def test_continuous_actions():
    ask, metrics = solve(probes.HitTheTarget(), total_timesteps=64 * 600)
    np.testing.assert_allclose(ask([[0.0]])[1].mode(), 0.5, atol=0.15)
    assert metrics["episode_return"][-1] > -0.1


def test_byte_images_through_the_cnn():
    ask, _ = solve(probes.BytePicture(), network={"encoder": "cnn", "hidden_sizes": (16,)})
    bright = jnp.full((6, 6, 1), 255, jnp.uint8)
    policy = ask(jnp.stack([0 * bright, bright]))[1]
    assert jnp.all(jnp.exp(policy.log_prob(jnp.array([[0, 1]]))) > 0.95)


@pytest.mark.parametrize(
    "changes",
    [
        {"minibatch_by": "sample"},
        {"e_v": 1},
        {"hparams": {"learning_rate": 1e-2, "clip_eps": 0.0, "kl_penalty": 1.0}},
        {"normalize_advantages": "minibatch", "normalize_rewards": True},
        {"normalize_observations": True, "lr_schedule": "constant", "aux_lr_schedule": "constant"},
        {"hparams": {"learning_rate": 1e-2, "value_clip_eps": 0.5, "max_grad_norm": 0.5}},
        {"e_aux": 0},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_option_still_learns(changes):
    ask, metrics = solve(probes.ActionMustMatch(), **changes)
    policy = ask([[-1.0], [1.0]])[1]
    assert jnp.all(jnp.exp(policy.log_prob(jnp.array([[0, 1]]))) > 0.9)
    assert jnp.isfinite(metrics["policy_loss"]).all()
