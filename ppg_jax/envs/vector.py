"""B parallel environments: stepping, resetting after the end of an episode, summing returns."""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from ppg_jax.envs.base import AnyEnvironment, Batch
from ppg_jax.envs.parallel import as_batch, choose
from ppg_jax.types import EnvsState, EpisodeStats, Recalled, no_step


class VectorStep(NamedTuple):
    """One step of B environments.

    Attributes:
      final_obs: real successor observations, ``[B, ...]``.
      rewards: raw rewards, float32 ``[B]``.
      terminated: True where a terminal state was reached, bool ``[B]``.
      truncated: True where a time limit cut the episode, bool ``[B]``.
      begins: True where the next episode of the same task begins, bool ``[B]``.
      returns: raw returns of the running episodes, including this step, float32 ``[B]``.
      lengths: lengths of these episodes in steps, int32 ``[B]``.
      final_recalled: previous step that the networks read with ``final_obs``, or None.
      measures: measures of these episodes by name, ``[B]``; empty if they were not asked for.
    """

    final_obs: chex.Array
    rewards: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    begins: chex.Array
    returns: chex.Array
    lengths: chex.Array
    final_recalled: Recalled | None
    measures: dict[str, chex.Array]

    @property
    def episodes(self) -> EpisodeStats:
        """Sums over the episodes that ended, along the last axis (the environments)."""
        done = self.terminated | self.truncated
        return EpisodeStats(
            count=done.sum(-1, dtype=jnp.int32),
            return_sum=jnp.where(done, self.returns, 0.0).sum(-1),
            length_sum=jnp.where(done, self.lengths, 0).sum(-1, dtype=jnp.int32),
        )


def reset_envs(
    env: AnyEnvironment | Batch,
    key: chex.PRNGKey,
    num_envs: int,
    recall: tuple[str, ...] | None = None,
) -> EnvsState:
    """Begins ``num_envs`` episodes.

    Args:
      env: the environment.
      key: random key for the resets.
      num_envs: number of environments, B.
      recall: parts of the previous step that the networks read: some of ``action``, ``reward``,
        ``done``.
    """
    obs, state = as_batch(env).reset_batch(key, num_envs)
    return EnvsState(
        env=state,
        obs=obs,
        starts=jnp.ones(num_envs, jnp.bool_),
        returns=jnp.zeros(num_envs, jnp.float32),
        lengths=jnp.zeros(num_envs, jnp.int32),
        recalled=no_step(env.action, recall or (), (num_envs,)),
    )


def draw_randomness(env: AnyEnvironment | Batch, key: chex.PRNGKey, num_envs: int) -> Any:
    """Draws the randomness of one step, which does not depend on states or actions.

    So it can be drawn for many steps at once, outside the loop over steps. This is faster, because
    drawing consists of many small operations, and their overhead exceeds their arithmetic.

    Args:
      env: the environment.
      key: random key of the step.
      num_envs: number of environments, B.
    """
    return as_batch(env).draw(key, num_envs)


def draw_resets(env: AnyEnvironment | Batch, randomness: Any) -> Any:
    """The randomness of a step, with a reset of every environment.

    Resets do not depend on states, so those of several steps can be computed together (``vmap``).
    """
    return as_batch(env).draw_resets(randomness)


def step_envs(
    env: AnyEnvironment | Batch,
    key: chex.PRNGKey,
    envs: EnvsState,
    actions: chex.Array,
    *,
    measured: bool = False,
) -> tuple[EnvsState, VectorStep]:
    """``take_step``, with randomness that is drawn from ``key``."""
    randomness = draw_randomness(env, key, envs.starts.shape[0])
    return take_step(env, randomness, envs, actions, measured=measured)


def take_step(
    env: AnyEnvironment | Batch,
    randomness: Any,
    envs: EnvsState,
    actions: chex.Array,
    *,
    measured: bool = False,
) -> tuple[EnvsState, VectorStep]:
    """Steps every environment, and begins a new episode where one ended.

    Args:
      env: the environment.
      randomness: of ``draw_randomness``, for this step.
      envs: state of B environments.
      actions: actions of the policy, ``[B, ...]``.
      measured: whether to read the environment's measures too, before any reset.

    Returns:
      The environments after the step, and the results of the step.
    """
    result, obs, state = as_batch(env).step_batch(randomness, envs.env, actions)
    done = result.terminated | result.truncated
    returns, lengths = envs.returns + result.reward, envs.lengths + 1
    begins = jnp.broadcast_to(jnp.asarray(result.begins, jnp.bool_), done.shape)
    made = Recalled(actions=actions, rewards=result.reward, done=begins)
    after = EnvsState(
        env=state,
        obs=obs,
        starts=done,
        returns=jnp.where(done, 0.0, returns),
        lengths=jnp.where(done, 0, lengths),
        recalled=_wanted(envs.recalled, choose(done, _blank(env, done.shape), made)),
    )
    step = VectorStep(
        final_obs=result.obs,
        rewards=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        begins=begins,
        returns=returns,
        lengths=lengths,
        final_recalled=_wanted(envs.recalled, made),
        measures=read_measures(env, result.state) if measured else {},
    )
    return after, step


def read_measures(env: AnyEnvironment | Batch, states: Any) -> dict[str, chex.Array]:
    """Measures of B episodes by name, ``[B]``."""
    return as_batch(env).measures(states)


def live_outside(env: AnyEnvironment | Batch) -> bool:
    """Whether the environments live outside of the program, so that states are only numbers."""
    return as_batch(env).outside


def close_envs(env: AnyEnvironment | Batch, envs: EnvsState) -> None:
    """Frees environments that live outside of the program, after their last step."""
    as_batch(env).close(envs.env)


def shown_states(env: AnyEnvironment | Batch, envs: EnvsState) -> Any:
    """What pictures of B environments are drawn from, leaves ``[B, ...]``."""
    return as_batch(env).shown(envs.obs, envs.env)


def _blank(env: AnyEnvironment | Batch, shape: tuple[int, ...]) -> Recalled | None:
    return no_step(env.action, ("action", "reward", "done"), shape)


def _wanted(before: Recalled | None, recalled: Recalled) -> Recalled | None:
    """``recalled`` with only the fields that ``before`` has."""
    if before is None:
        return None
    names = [f.name for f in dataclasses.fields(before) if getattr(before, f.name) is not None]
    return Recalled(**{name: getattr(recalled, name) for name in names})
