"""Tasks of several episodes, for agents that learn within a task (meta-learning)."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.envs.base import Environment, StepResult
from ppg_jax.envs.wrappers.base import Wrapper


class TaskState(struct.PyTreeNode):
    """State of a running task.

    Attributes:
      env: state of the environment.
      episode: number of the running episode, int32 scalar.
      first: observation and state at the beginning of the task; None if the environment has
        ``task_fields``, so that it can begin a new episode of the same task.
    """

    env: Any
    episode: chex.Array
    first: Any


class Tasks(Wrapper):
    """Joins ``episodes`` episodes of the same task to one long episode.

    This follows RL^2 (Duan et al. 2016, arXiv:1611.02779). Memories are reset only when a new task
    begins. Values include the rewards of the later episodes of the task. The last episode
    terminates the task, even if a time limit cut that episode.

    The environment's ``task_fields`` define the task (the goal, or the arms of a bandit); the rest
    of the state is drawn again for every episode. Without ``task_fields``, every episode begins
    exactly like the first one of the task.

    Args:
      env: environment of a single episode.
      episodes: number of episodes per task, at least 1.
    """

    def __init__(self, env: Environment, episodes: int) -> None:
        super().__init__(env)
        self.episodes = episodes
        if env.max_episode_steps is not None:
            self.max_episode_steps = episodes * env.max_episode_steps

    def inner_state(self, state: TaskState) -> Any:
        """The innermost environment's part of a state."""
        return self._env.inner_state(state.env)

    def measures(self, state: TaskState) -> dict[str, chex.Array]:
        """Measures of the running episode; at the end of a task, those of its last episode."""
        return self._env.measures(state.env)

    def reset(self, key: chex.PRNGKey) -> tuple[chex.Array, TaskState]:
        """Begins a new task with its first episode and returns ``(obs, state)``."""
        obs, state = self._env.reset(key)
        first = None if self._env.task_fields else (obs, state)
        return obs, TaskState(env=state, episode=jnp.int32(0), first=first)

    def step(self, key: chex.PRNGKey, state: TaskState, action: chex.Array) -> StepResult:
        """Takes one step. If an episode ends before the last one, the next one begins at once."""
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
