"""B parallel environments: stepping, resetting after the end of an episode, summing returns."""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ppg_jax.envs.base import AnyEnvironment, BatchEnvironment, Environment, StepResult
from ppg_jax.types import EnvsState, EpisodeStats, Recalled, no_step

HEAVY = 4096
"""Size of all states and observations together from which it pays to avoid resets."""


class Randomness(NamedTuple):
    """The randomness of one step of B environments. It does not depend on states or actions.

    A ``BatchEnvironment`` draws its own: then all fields are None.

    Attributes:
      step: keys for the steps, ``[B]``.
      reset: keys for the resets, ``[B]``.
      fresh: observations and states after a reset of every environment, leaves ``[B, ...]``. None
        if these are large; then environments are reset only when episodes end.
    """

    step: Any = None
    reset: Any = None
    fresh: tuple[chex.Array, Any] | None = None


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
    env: AnyEnvironment, key: chex.PRNGKey, num_envs: int, recall: tuple[str, ...] | None = None
) -> EnvsState:
    """Begins ``num_envs`` episodes.

    Args:
      env: the environment.
      key: random key for the resets.
      num_envs: number of environments, B.
      recall: parts of the previous step that the networks read: some of ``action``, ``reward``,
        ``done``.
    """
    if isinstance(env, BatchEnvironment):
        obs, state = env.reset_batch(key, num_envs)
    else:
        obs, state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    return EnvsState(
        env=state,
        obs=obs,
        starts=jnp.ones(num_envs, jnp.bool_),
        returns=jnp.zeros(num_envs, jnp.float32),
        lengths=jnp.zeros(num_envs, jnp.int32),
        recalled=no_step(env.action, recall or (), (num_envs,)),
    )


def draw_randomness(env: AnyEnvironment, key: chex.PRNGKey, num_envs: int) -> Randomness:
    """Draws the randomness of one step, which does not depend on states or actions.

    So it can be drawn for many steps at once, outside the loop over steps. This is faster, because
    drawing consists of many small operations, and their overhead exceeds their arithmetic.

    Args:
      env: the environment.
      key: random key of the step.
      num_envs: number of environments, B.
    """
    if isinstance(env, BatchEnvironment):
        return Randomness()
    step_keys, reset_keys = jax.random.split(key, (2, num_envs))
    light = num_envs * sum(x.size for x in jax.tree.leaves(jax.eval_shape(env.reset, key))) < HEAVY
    return Randomness(step_keys, reset_keys, jax.vmap(env.reset)(reset_keys) if light else None)


def step_envs(
    env: AnyEnvironment,
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
    env: AnyEnvironment,
    randomness: Randomness,
    envs: EnvsState,
    actions: chex.Array,
    *,
    measured: bool = False,
) -> tuple[EnvsState, VectorStep]:
    """Steps every environment, and begins a new episode where one ended.

    Args:
      env: the environment.
      randomness: randomness of this step.
      envs: state of B environments.
      actions: actions of the policy, ``[B, ...]``.
      measured: whether to read the environment's measures too, before any reset.

    Returns:
      The environments after the step, and the results of the step.
    """
    result, obs, state = _step_and_begin(env, randomness, envs, actions)
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
        recalled=_wanted(envs.recalled, _choose(done, _blank(env, done.shape), made)),
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
        # Mapped over the whole result, because a state may have no arrays.
        measures=read_measures(env, result.state) if measured else {},
    )
    return after, step


def read_measures(env: AnyEnvironment, states: Any) -> dict[str, chex.Array]:
    """Measures of B episodes by name, ``[B]``; none for a batch that is stepped together."""
    return {} if isinstance(env, BatchEnvironment) else jax.vmap(env.measures)(states)


def live_outside(env: AnyEnvironment) -> bool:
    """Whether the environments live outside of the program, so that states are only numbers."""
    return isinstance(env, BatchEnvironment) and env.outside


def close_envs(env: AnyEnvironment, envs: EnvsState) -> None:
    """Frees environments that live outside of the program, after their last step.

    There is nothing to free for environments written in JAX.
    """
    if isinstance(env, BatchEnvironment):
        env.close(envs.env)


def shown_states(env: AnyEnvironment, envs: EnvsState) -> Any:
    """What pictures of B environments are drawn from, leaves ``[B, ...]``."""
    return envs.obs if isinstance(env, BatchEnvironment) else env.inner_state(envs.env)


def _step_and_begin(
    env: AnyEnvironment, randomness: Randomness, envs: EnvsState, actions: chex.Array
) -> tuple[StepResult, Any, Any]:
    """Results ``[B, ...]`` of a step, and observations and states after new episodes began."""
    if isinstance(env, BatchEnvironment):
        result, next_obs = env.step_batch(envs.env, actions)
        return result, next_obs, result.state
    result = jax.vmap(env.step)(randomness.step, envs.env, actions)
    done = result.terminated | result.truncated
    return result, *_begin_episodes(env, randomness, done, (result.obs, result.state))


def _blank(env: AnyEnvironment, shape: tuple[int, ...]) -> Recalled | None:
    return no_step(env.action, ("action", "reward", "done"), shape)


def _wanted(before: Recalled | None, recalled: Recalled) -> Recalled | None:
    """``recalled`` with only the fields that ``before`` has."""
    if before is None:
        return None
    names = [f.name for f in dataclasses.fields(before) if getattr(before, f.name) is not None]
    return Recalled(**{name: getattr(recalled, name) for name in names})


def _begin_episodes(
    env: Environment, randomness: Randomness, done: chex.Array, stepped: tuple[chex.Array, Any]
) -> tuple[chex.Array, Any]:
    """Observations and states ``[B, ...]``, with a new episode where ``done``.

    On CPU, if states are large, resets run for a quarter of the environments at a time, and only
    as many times as the ended episodes need: mostly none. In all other cases every environment is
    reset, and the new episodes are used where ``done``, because a loop would cost more than it
    saves. Both ways give the same result.
    """
    num_envs, keys = done.shape[0], randomness.reset
    some = num_envs // 4

    if randomness.fresh is not None:
        return _choose(done, randomness.fresh, stepped)
    if jax.default_backend() != "cpu" or some == 0:
        return _choose(done, jax.vmap(env.reset)(keys), stepped)
    rank = jnp.cumsum(done) - 1  # of each environment among those with an ended episode

    def reset_some(carry: tuple[chex.Array, Any]):
        first, current = carry
        slot = rank - first
        here = done & (slot >= 0) & (slot < some)
        index = jnp.argmax(here & (slot == jnp.arange(some)[:, None]), axis=1)
        fresh = jax.vmap(env.reset)(keys[index])
        fresh = jax.tree.map(lambda x: x[jnp.clip(slot, 0, some - 1)], fresh)
        return first + some, _choose(here, fresh, current)

    ended = done.sum()
    start = jnp.int32(0), stepped
    return jax.lax.while_loop(lambda carry: carry[0] < ended, reset_some, start)[1]


def _choose(where: chex.Array, fresh: Any, old: Any) -> Any:
    """Leaves ``[B, ...]``: of ``fresh`` where ``where`` is true, of ``old`` elsewhere."""

    def leaf(fresh: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(where.reshape(where.shape + (1,) * (old.ndim - 1)), fresh, old)

    return jax.tree.map(leaf, fresh, old)
