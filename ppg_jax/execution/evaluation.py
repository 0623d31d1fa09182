"""Evaluating a trained policy: playing episodes without learning."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm import build, check_key, traced_in_32_bits
from ppg_jax.backend import Backend
from ppg_jax.config import Config, ConfigError, check_config, check_whole
from ppg_jax.envs import (
    AnyEnvironment,
    close_envs,
    read_measures,
    reset_envs,
    shown_states,
    step_envs,
)
from ppg_jax.execution.dispatch import explained, gather, over_replicas, run_batches, shard
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import kept
from ppg_jax.functional import RunningStats
from ppg_jax.networks import POLICY, Agent
from ppg_jax.types import EnvsState, NetworkState

USUAL_LIMIT, LONGEST_LIMIT = 10_000, 100_000
"""Limit of steps if the environment names none, and the longest limit of its own that is used."""
MOST_EPISODES, MOST_STEPS = 1_000_000, 2**31 - 1
"""Limits of the number of parallel episodes and of the number of steps."""


class Played(NamedTuple):
    """E tasks that were played; a task is one episode, or ``episodes_per_task``.

    Attributes:
      returns: raw return of each episode, float32 ``[E, episodes_per_task]``.
      lengths: lengths of the tasks in steps, int32 ``[E]``.
      ended: whether each task ended, bool ``[E]``.
      measures: the environment's measures by name, bool or float32 ``[E]``, read from the last
        state before a reset; for a task that did not end, from the state in which it was cut. If a
        task has several episodes, they are those of the last one. Empty if the environment has
        none, or if they were not asked for.
    """

    returns: chex.Array
    lengths: chex.Array
    ended: chex.Array
    measures: dict[str, chex.Array]


def same_shapes(found: Any, want: Any) -> bool:
    """Whether two trees of arrays have the same structure and shapes."""
    structure: Any = jax.tree.structure(found)
    return structure == jax.tree.structure(want) and all(
        jnp.shape(a) == b.shape
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True)
    )


def _check_params(agent: Agent, params: Any) -> None:
    """Checks that parameters have the structure and shapes of one seed's networks.

    Raises:
      ConfigError: they have not.
    """
    if not same_shapes(params, jax.eval_shape(agent.init, jax.random.key(0))):
        raise ConfigError(
            "params: the structure or a shape is invalid; it should be the parameters of one seed "
            "of this configuration; for several seeds use vmap, or select one by "
            "jax.tree.map(lambda x: x[0], params)"
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
    backend: Backend | None = None,
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Plays episodes in parallel, one in each environment, until all have ended.

    The function is pure. You can jit it with all arguments static except ``params``, ``obs_stats``
    and ``key``, and vmap it over seeds. If a task has several episodes, the whole task counts as
    one episode here.

    Args:
      config: configuration of the run.
      params: parameters of one seed.
      obs_stats: observation statistics of one seed, or None.
      key: random key for resets, the environment and the policy.
      num_episodes: number of episodes, E.
      greedy: whether to take the most probable action instead of a sample.
      max_steps: limit of steps for episodes that do not end. Default: the environment's own time
        limit, but at least 10,000; if that limit is unknown or above 100,000, it is 10,000.
      backend: how the program is built; None: as for the device that JAX computes on.

    Returns:
      Raw returns ``[E]``, lengths ``[E]``, and whether each episode ended, bool ``[E]``.

    Raises:
      ConfigError: an argument is invalid.
    """
    limits = {"greedy": greedy, "max_steps": max_steps}
    played = play_tasks(config, params, obs_stats, key, num_episodes, **limits, backend=backend)
    return played.returns.sum(-1), played.lengths, played.ended


@traced_in_32_bits
def play_tasks(
    config: Config,
    params: Any,
    obs_stats: RunningStats | None,
    key: chex.PRNGKey,
    num_tasks: int,
    *,
    greedy: bool = False,
    max_steps: int | None = None,
    measured: bool = False,
    backend: Backend | None = None,
) -> Played:
    """``evaluate`` with one return per episode of a task, to see if the policy learns within it.

    With ``measured`` the measures of the environment are read too.
    """
    check_config(config)
    check_whole("num_episodes", num_tasks, 1, MOST_EPISODES)
    check_key(key)
    ppg = build(config, backend)
    env, agent, network = ppg.env, ppg.agent, NetworkState(params, obs_stats)
    _check_params(agent, params)
    network = agent.cast(network)
    limit = _step_limit(env)
    if max_steps is not None:
        limit = check_whole("max_steps", max_steps, 1, MOST_STEPS)
    numbers = jnp.arange(config.episodes_per_task or 1)[None]
    reset_key, play_key = jax.random.split(key)

    def unfinished(carry: tuple[Any, ...]) -> chex.Array:
        return (carry[0] < limit) & ~jnp.all(carry[3])

    def step(carry: tuple[Any, ...]):
        time, envs, memory, ended, episode, returns, lengths, measures = carry
        action_key, env_key = jax.random.split(jax.random.fold_in(play_key, time))
        out = agent.step(network, envs.inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(action_key)
        envs, result = step_envs(ppg.envs, env_key, envs, actions, measured=measured)
        counts = (episode[:, None] == numbers) & ~ended[:, None]
        returns = returns + jnp.where(counts, result.rewards[:, None], 0.0)
        lengths = jnp.where(ended, lengths, lengths + 1)
        measures = jax.tree.map(functools.partial(jnp.where, ended), measures, result.measures)
        ended = ended | result.terminated | result.truncated
        begins = result.begins.astype(jnp.int32)
        after = time + 1, envs, memory | out.states, ended, episode + begins, returns, lengths
        return *after, measures

    envs: EnvsState = reset_envs(ppg.envs, reset_key, num_tasks, agent.network.recall)
    memory = agent.initial_memory(num_tasks)
    no, none = jnp.zeros(num_tasks, jnp.bool_), jnp.zeros(num_tasks, jnp.int32)
    returns = jnp.zeros((num_tasks, numbers.size))
    measures = read_measures(ppg.envs, envs.env) if measured else {}
    start = (0, envs, memory, no, none, returns, none, measures)
    played = jax.lax.while_loop(unfinished, step, start)
    _, envs, _, ended, _, returns, lengths, measures = played
    close_envs(ppg.envs, envs)
    return Played(returns, lengths, ended, measures)


def _step_limit(env: AnyEnvironment) -> int:
    """Number of steps after which unfinished episodes are cut off."""
    own = env.max_episode_steps or 0
    # Some environments end an episode only after their nominal limit.
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
    """Plays one episode and returns every step; pure like ``evaluate``.

    Args:
      config: configuration of the run.
      params: parameters of one seed.
      obs_stats: observation statistics of one seed, or None.
      key: random key for the reset, the environment and the policy.
      greedy: whether to take the most probable action instead of a sample.
      max_steps: number of steps, T.

    Returns:
      What a picture before each step is drawn from, leaves ``[T, ...]`` (``shown_states``); rewards
      ``[T]``; and whether the episode ended with each step, bool ``[T]``. Later steps belong to
      other episodes.
    """
    ppg = build(config)
    agent, network = ppg.agent, NetworkState(params, obs_stats)
    reset_key, play_key = jax.random.split(key)

    def step(carry: tuple[EnvsState, Any], key: chex.PRNGKey):
        envs, memory = carry
        action_key, env_key = jax.random.split(key)
        out = agent.step(network, envs.inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(action_key)
        after, result = step_envs(ppg.envs, env_key, envs, actions)
        ended = result.terminated | result.truncated
        return (after, memory | out.states), (shown_states(ppg.envs, envs), result.rewards, ended)

    start = reset_envs(ppg.envs, reset_key, 1, agent.network.recall), agent.initial_memory(1)
    (envs, _), played = jax.lax.scan(step, start, jax.random.split(play_key, max_steps))
    close_envs(ppg.envs, envs)
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
) -> Played:
    """Compiles and runs ``play_tasks`` for several seeds.

    Args:
      config: configuration of the run.
      layout: layout of the seeds.
      params: parameters of all seeds, leaves ``[S, ...]``.
      obs_stats: observation statistics of all seeds, leaves ``[S, ...]``, or None.
      seed: random seed of the episodes.
      num_episodes: number of episodes per seed, E.
      greedy: whether to take the most probable action instead of a sample.
      max_steps: limit of steps, as in ``evaluate``.

    Returns:
      All that was played, with the measures; numpy arrays with the axis ``[S]`` first.
    """

    keys = jax.random.split(jax.random.key(seed), config.seeds)
    mapped = _task_evaluation_program(config, layout, num_episodes, greedy, max_steps)
    batches = shard((params, obs_stats, keys), layout)
    with explained(layout):
        program = mapped.lower(None, batches[0]).compile()
    played = gather(run_batches(program, [None] * layout.num_batches, batches, layout), layout)
    played = jax.tree.map(np.asarray, played)
    return played._replace(measures=dict(played.measures))


@kept
def _task_evaluation_program(
    config: Config, layout: Layout, episodes: int, greedy: bool, max_steps: int | None
) -> Any:
    def play(_: None, one: tuple[Any, Any, chex.PRNGKey]):
        limits = {"greedy": greedy, "max_steps": max_steps}
        return play_tasks(config, *one, episodes, **limits, measured=True, backend=layout.backend)

    return _jitted(play, layout)


@kept
def evaluation_program(config: Config, layout: Layout, episodes: int, greedy: bool) -> Any:
    """``evaluate`` for a batch of seeds, jitted.

    Its arguments are None and ``(params, obs_stats, keys)``, leaves ``[layout.batch_size, ...]``.
    """

    def play(_: None, one: tuple[Any, Any, chex.PRNGKey]):
        return evaluate(config, *one, episodes, greedy=greedy, backend=layout.backend)

    return _jitted(play, layout)


def _jitted(play: Callable[..., Any], layout: Layout) -> Any:
    options = dict(layout.backend.compiler_options)
    return jax.jit(over_replicas(play, layout), compiler_options=options)


@functools.lru_cache(maxsize=4)
def recording_program(config: Config, greedy: bool, max_steps: int) -> Any:
    """``record_episode`` as a function of ``(params, obs_stats, key)``, jitted and kept."""
    return jax.jit(
        lambda p, s, k: record_episode(config, p, s, k, greedy=greedy, max_steps=max_steps)
    )
