"""Several episodes of one task in a row, for agents that learn within a task."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.envs.base import Environment, StepResult
from ppg_jax.envs.wrappers.base import Wrapper


class TaskState(struct.PyTreeNode):
    """A task under way.

    Attributes:
      env: the environment's state.
      episode: number of the running episode, int32 scalar.
      first: observation and state that the task began with; None where the environment can tell
        the task from the rest of a state.
    """

    env: Any
    episode: chex.Array
    first: Any


class Tasks(Wrapper):
    """``episodes`` episodes of the environment make up one: the same task again and again.

    As for RL^2 (Duan et al. 2016, arXiv:1611.02779): memories start anew with a task only, values
    look beyond the end of an episode to the next ones, and the task ends, for good, with its last
    episode, however that ends. A task is what the environment's ``task_fields`` say (the goal, the
    arms of a bandit); everything else of a new episode is fresh. Where it names none, every episode
    begins exactly as the task's first.

    Args:
      env: of one episode.
      episodes: of a task, at least 1.
    """

    def __init__(self, env: Environment, episodes: int) -> None:
        super().__init__(env)
        self.episodes = episodes
        if env.max_episode_steps is not None:
            self.max_episode_steps = episodes * env.max_episode_steps

    def inner_state(self, state: TaskState) -> Any:
        """The innermost environment's part of a state."""
        return self._env.inner_state(state.env)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, TaskState]:
        """The first episode of a fresh task: ``(obs, state)``."""
        obs, state = self._env.reset(key)
        first = None if self._env.task_fields else (obs, state)
        return obs, TaskState(env=state, episode=jnp.int32(0), first=first)

    def step(self, key: chex.PRNGKey, state: TaskState, action: chex.Array) -> StepResult:
        """One step; where an episode ends, the next one of the task has begun."""
        step_key, again_key = jax.random.split(key)
        result = self._env.step(step_key, state.env, action)
        over = result.terminated | result.truncated
        again = over & (state.episode + 1 < self.episodes)
        fresh = state.first or self._env.reset_task(again_key, result.state)
        obs, env_state = jax.tree.map(
            lambda new, old: jnp.where(again, new, old), fresh, (result.obs, result.state)
        )
        return StepResult(
            obs=obs,
            state=state.replace(env=env_state, episode=state.episode + again.astype(jnp.int32)),
            reward=result.reward,
            terminated=over & ~again,
            truncated=jnp.zeros_like(over),
            begins=again,
        )
