"""Collecting and estimating, against slow oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.rollout import collect, estimate_values, normalize_rewards, successor_values
from ppg_jax.config.config import Config
from ppg_jax.networks.agent import Unroll
from ppg_jax.networks.network import POLICY, VALUE
from ppg_jax.types import Inputs
from tests import probes


def act(config, key=1):
    """The state before a rollout and after it, the rollout and its episodes."""
    ppg, state = build(config), init(config, jax.random.key(0))
    collected = jax.jit(lambda s, k: collect(ppg, s, k))(state, jax.random.key(key))
    return ppg, state, *collected


def small(env, **changes):
    sizes = {"num_envs": 4, "num_steps": 12, "num_minibatches": 2, "num_aux_minibatches": 4}
    return Config(env=env, n_pi=2, network={"hidden_sizes": (8,)}, **(sizes | changes))


def test_rollout_fits_together():
    ppg, state, after, rollout, episodes = act(small("CartPole-v1", num_steps=40))
    done = rollout.terminated | rollout.truncated
    np.testing.assert_array_equal(rollout.starts[1:], done[:-1])
    np.testing.assert_array_equal(rollout.starts[0], True)
    running = ~done[:-1]
    np.testing.assert_array_equal(rollout.obs[1:][running], rollout.final_obs[:-1][running])
    np.testing.assert_array_equal(
        np.where(done[-1][:, None], after.envs.obs, rollout.final_obs[-1]), after.envs.obs
    )
    assert episodes.count == done.sum() > 0
    out = ppg.agent.unroll(state.network, rollout.inputs, rollout.memory, Unroll((POLICY,)))
    np.testing.assert_allclose(
        rollout.log_probs, out.policy.log_prob(rollout.actions), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_successors_of_truncated_steps_are_final_observations(limit):
    # From no truncation at all to one at every step, which takes several rounds of B.
    env_params = {"max_steps_in_episode": limit}
    config = small("Pendulum-v1", env_params=env_params)
    ppg, state, _, rollout, _ = act(config)
    values, states = estimate_values(ppg, state, rollout)
    found = jax.jit(lambda s: successor_values(ppg, s, rollout, values, states))(state)
    final = Inputs(rollout.final_obs, rollout.starts)
    want = ppg.agent.unroll(state.network, final, rollout.memory, Unroll((VALUE,))).values
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_terminated_steps_need_no_successor():
    config = small(probes.ConstantReward())
    ppg, state, _, rollout, _ = act(config)
    assert rollout.terminated.all()
    values, states = estimate_values(ppg, state, rollout)
    found = successor_values(ppg, state, rollout, values, states)
    assert jnp.isfinite(found).all()


def test_values_in_blocks_are_values():
    config = small("CartPole-v1", num_minibatches=4)
    ppg, state, _, rollout, _ = act(config)
    values, states = estimate_values(ppg, state, rollout)
    want = ppg.agent.unroll(state.network, rollout.inputs, rollout.memory, Unroll((VALUE,))).values
    np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-6)
    assert states.keys() == {"value_net"}


def test_reward_sums_continue_from_rollout_to_rollout():
    config = small(probes.DelayedReward(), num_steps=5)  # ends in the middle of an episode
    _, state, _, rollout, _ = act(config)
    once, _ = normalize_rewards(state.reward_scaler, rollout, 0.5)
    follow = rollout.replace(starts=rollout.starts.at[0].set(False))
    twice, scaled = normalize_rewards(once, follow, 0.5)
    sums, total, every = np.zeros(4), [], []
    for part in (rollout, follow):
        for t in range(5):
            sums = part.rewards[t] + 0.5 * np.where(part.starts[t], 0.0, sums)
            every.append(sums)
        total.append(np.var(every))
    np.testing.assert_allclose(twice.stats.var, total[1], rtol=1e-3)
    np.testing.assert_allclose(twice.sums, sums, rtol=1e-6)
    np.testing.assert_allclose(scaled, rollout.rewards / np.sqrt(total[1]), rtol=1e-3)
