"""Playing a trained policy, without learning."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm import build, check_key, traced_in_32_bits
from ppg_jax.config import Config, ConfigError, check_config, check_whole
from ppg_jax.envs import Environment, reset_envs, step_envs
from ppg_jax.execution.backend import compiler_options
from ppg_jax.execution.dispatch import gather, over_replicas, run_batches, shard
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import kept
from ppg_jax.functional import RunningStats
from ppg_jax.networks import POLICY, Agent
from ppg_jax.types import EnvsState, NetworkState

USUAL_LIMIT, LONGEST_LIMIT = 10_000, 100_000
"""Steps that are played at most where no limit is known, and the longest limit waited for."""
MOST_EPISODES, MOST_STEPS = 1_000_000, 2**31 - 1
"""Episodes that are played side by side at most, and steps that are counted."""


def same_shapes(found: Any, want: Any) -> bool:
    """Whether a tree of arrays has the structure and shapes of another."""
    structure: Any = jax.tree.structure(found)
    return structure == jax.tree.structure(want) and all(
        jnp.shape(a) == b.shape
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True)
    )


def _check_params(agent: Agent, params: Any) -> None:
    """Whether parameters are those of one seed's networks.

    Raises:
      ConfigError: they are not.
    """
    if not same_shapes(params, jax.eval_shape(agent.init, jax.random.key(0))):
        raise ConfigError(
            "params: are not those of this configuration's networks, of one seed; of several seeds "
            "take one, jax.tree.map(lambda x: x[0], params), or vmap"
        )


def evaluate(
    config: Config,
    params: Any,
    obs_stats: RunningStats | None,
    key: chex.PRNGKey,
    num_episodes: int,
    *,
    greedy: bool = False,
    max_steps: int | None = None,
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Plays fresh episodes side by side, one in each environment, until all have ended.

    Pure: jit it with everything but ``params``, ``obs_stats`` and ``key`` static, vmap it over
    seeds. Where a task has several episodes, one of ours is the whole task.

    Args:
      config: of the run.
      params: of one seed.
      obs_stats: of one seed, or None.
      key: for resets, the environment and the policy.
      num_episodes: E.
      greedy: take the most probable action instead of a sample.
      max_steps: where to stop if episodes do not end; default the environment's own time limit if
        that is at most 100,000, otherwise 10,000.

    Returns:
      Raw returns ``[E]``, lengths ``[E]``, and whether each episode ended, bool ``[E]``.

    Raises:
      ConfigError: one of these is something else.
    """
    returns, lengths, ended = evaluate_tasks(
        config, params, obs_stats, key, num_episodes, greedy=greedy, max_steps=max_steps
    )
    return returns.sum(-1), lengths, ended


@traced_in_32_bits
def evaluate_tasks(
    config: Config,
    params: Any,
    obs_stats: RunningStats | None,
    key: chex.PRNGKey,
    num_tasks: int,
    *,
    greedy: bool = False,
    max_steps: int | None = None,
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """``evaluate`` with the returns of a task's episodes apart: does the policy learn within it?

    Returns:
      Raw returns ``[E, episodes_per_task]``, lengths ``[E]``, and whether each task ended.
    """
    check_config(config)
    check_whole("num_episodes", num_tasks, 1, MOST_EPISODES)
    check_key(key)
    ppg = build(config)
    env, agent, network = ppg.env, ppg.agent, NetworkState(params, obs_stats)
    _check_params(agent, params)
    limit = _step_limit(env)
    if max_steps is not None:
        limit = check_whole("max_steps", max_steps, 1, MOST_STEPS)
    numbers = jnp.arange(config.episodes_per_task or 1)[None]
    reset_key, play_key = jax.random.split(key)

    def unfinished(carry: tuple[Any, ...]) -> chex.Array:
        return (carry[0] < limit) & ~jnp.all(carry[3])

    def step(carry: tuple[Any, ...]):
        time, envs, memory, ended, episode, returns, lengths = carry
        action_key, env_key = jax.random.split(jax.random.fold_in(play_key, time))
        out = agent.step(network, envs.inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(action_key)
        envs, result = step_envs(env, env_key, envs, actions)
        counts = (episode[:, None] == numbers) & ~ended[:, None]
        returns = returns + jnp.where(counts, result.rewards[:, None], 0.0)
        lengths = jnp.where(ended, lengths, lengths + 1)
        ended = ended | result.terminated | result.truncated
        begins = result.begins.astype(jnp.int32)
        return time + 1, envs, memory | out.states, ended, episode + begins, returns, lengths

    envs: EnvsState = reset_envs(env, reset_key, num_tasks, agent.network.recall)
    memory = agent.initial_memory(num_tasks)
    no, none = jnp.zeros(num_tasks, jnp.bool_), jnp.zeros(num_tasks, jnp.int32)
    returns = jnp.zeros((num_tasks, numbers.size))
    start = (0, envs, memory, no, none, returns, none)
    _, _, _, ended, _, returns, lengths = jax.lax.while_loop(unfinished, step, start)
    return returns, lengths, ended


def _step_limit(env: Environment) -> int:
    """Steps after which the last episodes are cut off, so that playing ends."""
    own = env.max_episode_steps or 0
    # An environment may end its episodes later than its nominal limit says.
    return max(own, USUAL_LIMIT) if own <= LONGEST_LIMIT else USUAL_LIMIT


@traced_in_32_bits
def record_episode(
    config: Config,
    params: Any,
    obs_stats: RunningStats | None,
    key: chex.PRNGKey,
    *,
    greedy: bool = False,
    max_steps: int = 1_000,
) -> tuple[Any, chex.Array, chex.Array]:
    """One episode, step by step; pure like ``evaluate``.

    Args:
      config: of the run.
      params: of one seed.
      obs_stats: of one seed, or None.
      key: for the reset, the environment and the policy.
      greedy: take the most probable action instead of a sample.
      max_steps: T.

    Returns:
      The environment's states before each step, leaves ``[T, ...]``, rewards ``[T]``, and whether
      the episode is over after a step, bool ``[T]``; what follows belongs to other episodes.
    """
    ppg = build(config)
    env, agent, network = ppg.env, ppg.agent, NetworkState(params, obs_stats)
    reset_key, play_key = jax.random.split(key)

    def step(carry: tuple[EnvsState, Any], key: chex.PRNGKey):
        envs, memory = carry
        action_key, env_key = jax.random.split(key)
        out = agent.step(network, envs.inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(action_key)
        after, result = step_envs(env, env_key, envs, actions)
        ended = result.terminated | result.truncated
        return (after, memory | out.states), (env.inner_state(envs.env), result.rewards, ended)

    start = reset_envs(env, reset_key, 1, agent.network.recall), agent.initial_memory(1)
    _, played = jax.lax.scan(step, start, jax.random.split(play_key, max_steps))
    return jax.tree.map(lambda x: x[:, 0], played)


def evaluate_seeds(
    config: Config,
    layout: Layout,
    params: Any,
    obs_stats: RunningStats | None,
    seed: int,
    num_episodes: int,
    *,
    greedy: bool = False,
    max_steps: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``evaluate_tasks`` for the parameters of several seeds, compiled and run.

    Args:
      config: of the run.
      layout: how its seeds run.
      params: leaves ``[S, ...]``.
      obs_stats: leaves ``[S, ...]``, or None.
      seed: of the episodes' randomness.
      num_episodes: E, of each seed.
      greedy: take the most probable action instead of a sample.
      max_steps: as in ``evaluate``.

    Returns:
      Returns ``[S, E, episodes_per_task]``, lengths and whether each task ended, ``[S, E]``.
    """

    keys = jax.random.split(jax.random.key(seed), config.seeds)
    mapped = _playing(config, layout, num_episodes, greedy, max_steps)
    turns = shard((params, obs_stats, keys), layout)
    program = mapped.lower(None, turns[0]).compile()
    played = gather(run_batches(program, [None] * layout.num_batches, turns, layout), layout)
    returns, lengths, ended = map(np.asarray, played)
    return returns, lengths, ended


@kept
def _playing(
    config: Config, layout: Layout, episodes: int, greedy: bool, max_steps: int | None
) -> Any:
    def play(_: None, one: tuple[Any, Any, chex.PRNGKey]):
        return evaluate_tasks(config, *one, episodes, greedy=greedy, max_steps=max_steps)

    return jax.jit(over_replicas(play, layout), compiler_options=compiler_options())


@kept
def evaluation_program(config: Config, layout: Layout, episodes: int, greedy: bool) -> Any:
    """``evaluate`` of a batch of seeds, jitted.

    Its arguments are None and ``(params, obs_stats, keys)``, leaves ``[layout.batch_size, ...]``.
    """

    def play(_: None, one: tuple[Any, Any, chex.PRNGKey]):
        return evaluate(config, *one, episodes, greedy=greedy)

    return jax.jit(over_replicas(play, layout), compiler_options=compiler_options())


@functools.lru_cache(maxsize=4)
def recording_program(config: Config, greedy: bool, max_steps: int) -> Any:
    """``record_episode(params, obs_stats, key)``, jitted and kept for the next episode."""
    return jax.jit(
        lambda p, s, k: record_episode(config, p, s, k, greedy=greedy, max_steps=max_steps)
    )
