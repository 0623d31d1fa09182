"""Collecting and estimating, against slow oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.rollout import (
    collect_rollout,
    estimate_values,
    normalize_rewards,
    successor_values,
)
from ppg_jax.algorithm.train import build, init
from ppg_jax.config.config import Config
from ppg_jax.networks.network import POLICY, VALUE
from ppg_jax.types import Inputs
from tests import probes


def collect(config, key=1):
    env, agent = build(config)
    state = init(config, jax.random.key(0))
    envs, _memory, rollout, episodes = jax.jit(
        lambda s, k: collect_rollout(config, env, agent, s.params, None, s.envs, s.memory, k)
    )(state, jax.random.key(key))
    return agent, state, envs, rollout, episodes


def small(env, **changes):
    sizes = {"num_envs": 4, "num_steps": 12, "num_minibatches": 2, "num_aux_minibatches": 4}
    return Config(env=env, n_pi=2, network={"hidden_sizes": (8,)}, **(sizes | changes))


def test_rollout_fits_together():
    agent, state, envs, rollout, episodes = collect(small("CartPole-v1", num_steps=40))
    done = rollout.terminated | rollout.truncated
    np.testing.assert_array_equal(rollout.starts[1:], done[:-1])
    np.testing.assert_array_equal(rollout.starts[0], True)
    running = ~done[:-1]
    np.testing.assert_array_equal(rollout.obs[1:][running], rollout.final_obs[:-1][running])
    np.testing.assert_array_equal(rollout.next_obs, envs.obs)
    assert episodes.count == done.sum() > 0
    out = agent.unroll(state.params, None, rollout.inputs, rollout.memory, (POLICY,))
    np.testing.assert_allclose(
        rollout.log_probs, out.policy.log_prob(rollout.actions), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_successors_of_truncated_steps_are_final_observations(limit):
    # From no truncation at all to one at every step, which takes several rounds of B.
    env_params = {"max_steps_in_episode": limit}
    config = small("Pendulum-v1", env_params=env_params)
    agent, state, _, rollout, _ = collect(config)
    values, states = estimate_values(config, agent, state.params, None, rollout)
    found = jax.jit(lambda p: successor_values(agent, p, None, rollout, values, states))(
        state.params
    )
    final = Inputs(rollout.final_obs, rollout.starts)
    want = agent.unroll(state.params, None, final, rollout.memory, (VALUE,)).values
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def test_terminated_steps_need_no_successor():
    config = small(probes.ConstantReward())
    agent, state, _, rollout, _ = collect(config)
    assert rollout.terminated.all()
    values, states = estimate_values(config, agent, state.params, None, rollout)
    found = successor_values(agent, state.params, None, rollout, values, states)
    assert jnp.isfinite(found).all()


def test_values_in_blocks_are_values():
    config = small("CartPole-v1", num_minibatches=4)
    agent, state, _, rollout, _ = collect(config)
    values, states = estimate_values(config, agent, state.params, None, rollout)
    want = agent.unroll(state.params, None, rollout.inputs, rollout.memory, (VALUE,)).values
    np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-6)
    assert states.keys() == {"value_net"}


def test_reward_sums_continue_from_rollout_to_rollout():
    config = small(probes.DelayedReward(), num_steps=5)  # ends in the middle of an episode
    _, state, _, rollout, _ = collect(config)
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
