"""B copies of one environment, stepped together. New episodes begin where others ended."""

from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp

from ppg_jax.envs.base import AnyEnvironment, Batch, BatchEnvironment, Environment, StepResult
from ppg_jax.functional import one_of_split

HEAVY = 4096
"""Size of all states and observations together from which it pays to avoid resets."""


class Randomness(NamedTuple):
    """The randomness of one step of B environments. It does not depend on states or actions.

    Attributes:
      step: keys for the steps, ``[B]``.
      reset: keys for the resets, ``[B]``.
      fresh: observations and states after a reset of every environment, leaves ``[B, ...]``. None
        if these are large; then environments are reset only when episodes end.
    """

    step: chex.PRNGKey
    reset: chex.PRNGKey
    fresh: tuple[chex.Array, Any] | None


class Parallel:
    """B copies of one environment, as an ``envs.base.Batch``.

    Args:
      env: the environment.
      resets_some: how large environments are reset (``_begin_some``); the numbers are the same.
    """

    outside = False

    def __init__(self, env: Environment, *, resets_some: bool = False) -> None:
        self._env, self._resets_some = env, resets_some
        self.action = env.action

    def reset_batch(self, key: chex.PRNGKey, num_envs: int) -> tuple[Any, Any]:
        """Begins B episodes and returns ``(obs, state)``."""
        return jax.vmap(self._env.reset)(jax.random.split(key, num_envs))

    def draw(self, key: chex.PRNGKey, num_envs: int) -> Randomness:
        """Draws the randomness of one step."""
        return self._randomness(*jax.random.split(key, (2, num_envs)))

    def draw_some(self, keys: chex.PRNGKey, num_envs: int, index: chex.Array) -> Randomness:
        """For each of M keys what ``draw(key, num_envs)`` draws for one of the environments.

        Args:
          keys: random keys, ``[M]``.
          num_envs: B of ``draw``.
          index: the environments, int32 ``[M]``.
        """

        def one(key: chex.PRNGKey, index: chex.Array) -> tuple[chex.PRNGKey, chex.PRNGKey]:
            return tuple(one_of_split(key, 2 * num_envs, n) for n in (index, num_envs + index))

        return self._randomness(*jax.vmap(one)(keys, index))

    def _randomness(self, step_keys: chex.PRNGKey, reset_keys: chex.PRNGKey) -> Randomness:
        env, num_envs = self._env, len(step_keys)
        size = sum(x.size for x in jax.tree.leaves(jax.eval_shape(env.reset, reset_keys[0])))
        fresh = jax.vmap(env.reset)(reset_keys) if num_envs * size < HEAVY else None
        return Randomness(step_keys, reset_keys, fresh)

    def draw_resets(self, randomness: Randomness) -> Randomness:
        """The randomness of a step, with a reset of every environment."""
        if randomness.fresh is not None:
            return randomness
        return randomness._replace(fresh=jax.vmap(self._env.reset)(randomness.reset))

    def step_batch(
        self, randomness: Randomness, state: Any, actions: chex.Array
    ) -> tuple[StepResult, Any, Any]:
        """Takes a step in each environment, and begins a new episode where one ended."""
        result = jax.vmap(self._env.step)(randomness.step, state, actions)
        done = result.terminated | result.truncated
        stepped = result.obs, result.state
        if randomness.fresh is not None:
            return result, *choose(done, randomness.fresh, stepped)
        begin = _begin_some if self._resets_some and done.shape[0] >= 4 else _begin_all
        return result, *begin(self._env, randomness.reset, done, stepped)

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """Measures of B episodes by name, ``[B]``."""
        if not jax.tree.leaves(state):  # nothing to read, and nothing that vmap could map
            return {}
        named: dict[str, chex.Array] = jax.vmap(self._env.measures)(state)
        return named

    def shown(self, obs: Any, state: Any) -> Any:
        """What pictures are drawn from: the suite's own states."""
        return self._env.inner_state(state)

    def close(self, state: Any) -> None:
        """There is nothing to free."""


def as_batch(env: AnyEnvironment | Batch, *, resets_some: bool = False) -> Batch:
    """A batch as it is, or many copies of a single environment (``Parallel``)."""
    if isinstance(env, BatchEnvironment | Parallel):
        return env
    return Parallel(cast(Environment, env), resets_some=resets_some)


def _begin_all(
    env: Environment, keys: chex.PRNGKey, done: chex.Array, stepped: tuple[chex.Array, Any]
) -> tuple[chex.Array, Any]:
    """Observations and states ``[B, ...]``, with a new episode where ``done``.

    Every environment is reset, and the new episodes are used where they are needed.
    """
    return choose(done, jax.vmap(env.reset)(keys), stepped)


def _begin_some(
    env: Environment, keys: chex.PRNGKey, done: chex.Array, stepped: tuple[chex.Array, Any]
) -> tuple[chex.Array, Any]:
    """``_begin_all`` for CPU, where most of the resets would be wasted work.

    Resets run for a quarter of the environments at a time, and only as many times as the ended
    episodes need: mostly none. On accelerators such a loop would cost more than it saves.
    """
    some = done.shape[0] // 4
    rank = jnp.cumsum(done) - 1  # of each environment among those with an ended episode

    def reset_some(carry: tuple[chex.Array, Any]):
        first, current = carry
        slot = rank - first
        here = done & (slot >= 0) & (slot < some)
        index = jnp.argmax(here & (slot == jnp.arange(some)[:, None]), axis=1)
        fresh = jax.vmap(env.reset)(keys[index])
        fresh = jax.tree.map(lambda x: x[jnp.clip(slot, 0, some - 1)], fresh)
        return first + some, choose(here, fresh, current)

    ended = done.sum()
    start = jnp.int32(0), stepped
    return jax.lax.while_loop(lambda carry: carry[0] < ended, reset_some, start)[1]


def choose(where: chex.Array, fresh: Any, old: Any) -> Any:
    """Leaves ``[B, ...]``: of ``fresh`` where ``where`` is true, of ``old`` elsewhere."""

    def leaf(fresh: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(where.reshape(where.shape + (1,) * (old.ndim - 1)), fresh, old)

    return jax.tree.map(leaf, fresh, old)
