"""Rollouts, and the advantages and value targets that are computed from them."""

import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.keys import rollout_keys
from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config import Hyperparams
from ppg_jax.envs import draw_randomness, draw_resets, take_step
from ppg_jax.functional import (
    ALONE,
    Pool,
    discounted_sums,
    from_words,
    generalized_advantages,
    normalize_advantages,
    scale_rewards,
    to_words,
    trace,
    update_stats,
)
from ppg_jax.networks import POLICY, POLICY_NET, VALUE, Unroll
from ppg_jax.types import (
    AuxBuffer,
    Batch,
    EnvsState,
    EpisodeStats,
    Inputs,
    RewardScaler,
    Rollout,
    TrainState,
)


def collect(
    ppg: PPG, state: TrainState, key: chex.PRNGKey
) -> tuple[TrainState, Rollout, EpisodeStats]:
    """Acts for T steps in B environments.

    Only the policy runs in this loop. The value function reads the stored observations afterwards,
    all at once (``estimate_values``).

    Returns:
      state: after the rollout: environments, the policy network's memory, observation statistics.
      rollout: T steps of B environments.
      episodes: sums over the episodes that ended.
    """
    config, agent, network = ppg.config, ppg.agent, ppg.agent.cast(state.network)
    packing, sorts = ppg.packing, state.obs_order is not None

    def step(
        carry: tuple[EnvsState, dict[str, Any], Any], drawn: tuple[Any, Any]
    ) -> tuple[tuple[EnvsState, dict[str, Any], Any], tuple[Any, ...]]:
        envs, memory, _ = carry
        noise, randomness = drawn
        out = agent.step(network, envs.inputs, memory, (POLICY,))
        actions = out.policy.choose(noise)
        after, result = take_step(ppg.envs, randomness, envs, actions)
        lost = packing.lost(envs.obs, result.final_obs)
        seen = envs.obs if sorts else packing.pack(envs.obs), envs.recalled
        # Nobody reads where the episodes of a task begin.
        result = result._replace(final_obs=packing.pack(result.final_obs), begins=None)
        before = envs.env if ppg.storage.keeps_states else None
        return (after, memory | out.states, before), (seen, out.policy, actions, result, lost)

    # Random numbers are drawn for all steps at once, before the loop. Everything else that does not
    # need the loop comes after it. With small networks each operation in the loop costs more than
    # its arithmetic.
    action_keys, env_keys = rollout_keys(key, config.num_steps)
    noise = jax.vmap(lambda k: agent.noise(k, config.num_envs))(action_keys)
    randomness = jax.vmap(lambda k: draw_randomness(ppg.envs, k, config.num_envs))(env_keys)
    before = state.envs.env if ppg.storage.keeps_states else None
    begin = state.envs, state.memory, before
    (envs, memory, before), stored = _scan_steps(ppg, step, begin, (noise, randomness))
    (obs, recalled), policies, actions, steps, lost = stored
    done = steps.terminated | steps.truncated
    seen_obs_stats = state.seen_obs_stats
    if seen_obs_stats is not None:
        seen_obs_stats = agent.update_stats(seen_obs_stats, obs, ppg.pool)
    obs_order, obs = agent.store(network, obs)
    rollout = Rollout(
        obs=packing.pack(obs),
        starts=jnp.concatenate([state.envs.starts[None], done[:-1]]),
        memory=state.memory,
        actions=actions,
        log_probs=policies.log_prob(actions),
        rewards=steps.rewards,
        terminated=steps.terminated,
        truncated=steps.truncated,
        final_obs=steps.final_obs,
        recalled=recalled,
        final_recalled=steps.final_recalled,
        lost=lost,
        before_last=before,
    )
    state = state.replace(
        envs=envs, memory=memory, seen_obs_stats=seen_obs_stats, obs_order=obs_order
    )
    return state, rollout, jax.tree.map(lambda x: x.sum(0), steps.episodes)


MOST_OPERATIONS = 1_500
"""Limit of the operations of all steps in an iteration: more take too long to compile."""


def _scan_steps(
    ppg: PPG, step: Callable[..., Any], begin: Any, drawn: tuple[Any, Any]
) -> tuple[Any, Any]:
    """``jax.lax.scan(step, begin, drawn)``, on accelerators with several steps in an iteration.

    Then resets of several steps are computed together, and what the steps return is stored once,
    in few arrays. So there are fewer operations for each step.
    """
    if ppg.backend.steps_at_once == 1:
        return jax.lax.scan(step, begin, drawn)
    noise, randomness = jax.tree.map(lambda x: x[0], drawn)
    resets = trace(lambda randomness: draw_resets(ppg.envs, randomness), randomness)
    one = trace(step, begin, (noise, resets.result))
    most = min(ppg.backend.steps_at_once, MOST_OPERATIONS // one.operations)
    at_once = most_at_once(ppg.config.num_steps, most)

    def some_steps(carry: Any, drawn: tuple[Any, Any]) -> tuple[Any, Any]:
        noise, randomness = drawn
        drawn = noise, jax.vmap(resets.call)(randomness)
        carry, stored = jax.lax.scan(one.call, carry, drawn, unroll=True)
        return carry, to_words(stored, lead=2)

    drawn = jax.tree.map(lambda x: x.reshape(-1, at_once, *x.shape[1:]), drawn)
    after, stored = jax.lax.scan(some_steps, begin, drawn)
    stored = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stored)
    return after, from_words(stored, one.result[1], lead=2)


def most_at_once(num_steps: int, wanted: int) -> int:
    """The largest divisor of ``num_steps`` that is at most ``wanted``, at least 1."""
    return max(n for n in range(1, max(1, wanted) + 1) if num_steps % n == 0)


def estimate_values(
    ppg: PPG, state: TrainState, stored: Rollout | AuxBuffer
) -> tuple[chex.Array, dict[str, Any]]:
    """The value function on stored steps, in blocks of time that keep activations small.

    There are as many blocks as minibatches, or the greatest common divisor of that number and T.

    Args:
      ppg: sizes and networks.
      state: parameters, and how observations are read.
      stored: inputs ``[T, B, ...]``, and memories before the first step.

    Returns:
      Values ``[T, B]``, and the memories of the networks that ran after every step, leaves
      ``[T, B, ...]``.
    """
    num_steps, network = ppg.config.num_steps, ppg.agent.cast(state.network)
    blocks = math.gcd(num_steps, ppg.config.num_minibatches)

    def block(memory: dict[str, Any], inputs: Inputs) -> tuple[dict[str, Any], tuple[Any, Any]]:
        out = ppg.agent.unroll(network, inputs, memory, Unroll((VALUE,)))
        return out.last_memory(memory), (out.values, out.states)

    def cut(x: chex.Array) -> chex.Array:
        return x.reshape(blocks, num_steps // blocks, *x.shape[1:])

    _, estimated = jax.lax.scan(block, stored.memory, jax.tree.map(cut, stored.inputs))
    values, memories = jax.tree.map(lambda x: x.reshape(num_steps, *x.shape[2:]), estimated)
    return values, memories


def successor_values(
    ppg: PPG,
    state: TrainState,
    rollout: Rollout,
    values: chex.Array,
    memories: dict[str, Any],
) -> chex.Array:
    """``V`` of every step's real successor.

    Mostly that is ``values[t + 1]``. Only the last step, and truncated steps, have another
    successor: the last observation of the episode.

    Args:
      ppg: the networks.
      state: parameters, and how observations are read.
      rollout: T steps of B environments.
      values: ``V(obs)``, ``[T, B]``.
      memories: after every step, leaves ``[T, B, ...]``, of ``estimate_values``.

    Returns:
      ``[T, B]``; the value is arbitrary where a step terminated.
    """
    missing = (rollout.truncated & ~rollout.terminated).at[-1].set(True)
    final = rollout.final_obs, rollout.final_recalled, memories
    network = ppg.agent.cast(state.network)
    successors = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])

    def evaluate(final: tuple[Any, Any, Any]) -> chex.Array:
        """Values ``[n]`` of final observations, leaves ``[n, ...]``."""
        obs, recalled, memory = final
        num, agent = len(jax.tree.leaves(obs)[0]), ppg.agent
        inputs, unused = Inputs(obs, jnp.zeros(num, jnp.bool_), recalled), agent.initial_memory(num)
        values: chex.Array = agent.step(network, inputs, unused | memory, (VALUE,)).values
        return values

    if ppg.backend.known_loops:
        return jnp.where(missing, _in_blocks(ppg, evaluate, final), successors)
    return _where_missing(evaluate, missing, final, successors)


def _in_blocks(ppg: PPG, evaluate: Callable[[Any], chex.Array], final: Any) -> chex.Array:
    """Values ``[T, B]`` of all final observations, leaves ``[T, B, ...]``.

    Most of them are not needed. But the number of those that are needed is known only when the
    program runs, and an accelerator would have to wait for the host to read it.
    """
    num_steps, num_envs = ppg.config.num_steps, ppg.config.num_envs
    blocks = math.gcd(num_steps, ppg.config.num_minibatches)
    cut = jax.tree.map(lambda x: x.reshape(blocks, -1, *x.shape[2:]), final)
    return jax.lax.map(evaluate, cut).reshape(num_steps, num_envs)


def _where_missing(
    evaluate: Callable[[Any], chex.Array], missing: chex.Array, final: Any, successors: chex.Array
) -> chex.Array:
    """``successors [T, B]`` with the values of final observations where ``missing``.

    These observations are gathered and evaluated B at a time: usually once in a rollout.
    """
    (num_steps, num_envs), missing = missing.shape, missing.reshape(-1)
    final = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), final)
    # Ascending. Entries after the missing ones point outside the array: such writes are dropped.
    where = jnp.nonzero(missing, size=missing.size, fill_value=missing.size)[0]

    def fill(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        done, successors = carry
        index = jax.lax.dynamic_slice(where, (done,), (num_envs,))
        values = evaluate(jax.tree.map(lambda x: x.at[index].get(mode="clip"), final))
        return done + num_envs, successors.at[index].set(values, mode="drop")

    total, start = missing.sum(), (0, successors.reshape(-1))
    _, successors = jax.lax.while_loop(lambda carry: carry[0] < total, fill, start)
    return successors.reshape(num_steps, num_envs)


def normalize_rewards(
    scaler: RewardScaler,
    rollout: Rollout,
    gamma: chex.Numeric,
    *,
    unroll: int = 8,
    pool: Pool = ALONE,
) -> tuple[RewardScaler, chex.Array]:
    """Scales a rollout's rewards by statistics that already include this rollout.

    ``unroll`` is that of ``functional.discounted_sums``. ``pool`` has all groups of environments.

    Returns:
      The scaler after the rollout, and rewards ``[T, B]``.
    """
    sums = discounted_sums(rollout.rewards, rollout.starts, scaler.sums, gamma, unroll=unroll)
    stats = update_stats(scaler.stats, sums.reshape(-1), pool)
    return RewardScaler(stats=stats, sums=sums[-1]), scale_rewards(stats, rollout.rewards)


def make_batch(
    ppg: PPG, hparams: Hyperparams, state: TrainState, rollout: Rollout
) -> tuple[TrainState, Batch]:
    """Computes the data of the policy phase, once, with the parameters that acted.

    Returns:
      state: after the rollout: reward scaler, memories of the networks that estimate values.
      batch: what the policy phase learns from.
    """
    scaler, rewards = state.reward_scaler, rollout.rewards
    if scaler is not None:
        gamma, unroll = hparams.reward_norm_gamma, ppg.backend.unroll
        scaler, rewards = normalize_rewards(scaler, rollout, gamma, unroll=unroll, pool=ppg.pool)
    values, memories = estimate_values(ppg, state, rollout)
    advantages, value_targets = generalized_advantages(
        rewards,
        values,
        successor_values(ppg, state, rollout, values, memories),
        rollout.terminated,
        rollout.truncated,
        hparams.gamma,
        hparams.gae_lambda,
        unroll=ppg.backend.unroll,
    )
    if ppg.config.normalize_advantages == "batch":
        advantages = normalize_advantages(advantages, ppg.pool)
    batch = Batch(
        obs=rollout.obs,
        starts=rollout.starts,
        memory=rollout.memory,
        actions=rollout.actions,
        old_log_probs=rollout.log_probs,
        old_values=values,
        advantages=advantages,
        value_targets=value_targets,
        recalled=rollout.recalled,
    )
    # The policy network's memory stays as it was after acting, even if it estimates values too.
    after = jax.tree.map(lambda x: x[-1], memories) | {POLICY_NET: state.memory[POLICY_NET]}
    return state.replace(reward_scaler=scaler, memory=state.memory | after), batch
