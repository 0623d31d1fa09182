"""Makes an environment of a suite an ``Environment``: spaces, storage, time limit, dtypes."""

import dataclasses
from collections import OrderedDict
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.config import ConfigError
from ppg_jax.envs.base import StepResult
from ppg_jax.envs.conversion import NATIVE, Conversion, ConvertedSpaces
from ppg_jax.envs.spaces import random_action
from ppg_jax.envs.suite import SuiteEnvironment, SuiteStep
from ppg_jax.types import Observation


class Counted(struct.PyTreeNode):
    """A suite's state, and the number of steps since its reset.

    Attributes:
      state: the suite's own state.
      steps: int32 scalar.
    """

    state: Any
    steps: chex.Array


class Adapter(ConvertedSpaces):
    """An environment of a suite as an ``envs.base.Environment``.

    Some environments return Python numbers from a reset and arrays from a step. States are
    converted to common dtypes, so that a scan can carry them.
    """

    _raw: SuiteEnvironment

    def __init__(self, raw: SuiteEnvironment, conversion: Conversion = NATIVE) -> None:
        given, state = jax.eval_shape(raw.reset, jax.random.key(0))
        super().__init__(raw, given, conversion)
        self.task_fields = raw.task_fields
        stepped = jax.eval_shape(self._raw_step, jax.random.key(0), state)
        self._state = jax.tree.map(_common, state, stepped.state)
        self._check_measures()

    def _check_measures(self) -> None:
        for name, x in jax.eval_shape(self._raw.measures, self._state).items():
            if getattr(x, "shape", None) != ():
                raise ConfigError(f"env: measure {name!r} of {self.name} should be a scalar")

    def inner_state(self, state: Any) -> Any:
        """The suite's own state."""
        return state.state if self._raw.counts_steps else state

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """The suite's measures of an episode by its state; scalars, bool or float32."""
        given = self._raw.measures(self.inner_state(state))
        # JAX sorts the names of a dict, but keeps the suite's order in an OrderedDict.
        return OrderedDict((str(name), _measure(x)) for name, x in given.items())

    def _raw_step(self, key: chex.PRNGKey, state: Any) -> SuiteStep:
        action = self._to_env(random_action(self.action, key))
        return self._raw.step(key, state, action)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        return self._begin(*self._raw.reset(key))

    def _begin(self, obs: Any, state: Any) -> tuple[Any, Any]:
        state = self._settle(state)
        return self.store(obs), Counted(state, jnp.int32(0)) if self._raw.counts_steps else state

    def reset_task(self, key: chex.PRNGKey, state: Any) -> tuple[Any, Any]:
        """Begins an episode that keeps the ``task_fields`` of a state; returns ``(obs, state)``."""
        reset_key, obs_key = jax.random.split(key)
        obs, fresh = self._raw.reset(reset_key)
        inner = self.inner_state(state)
        fresh = fresh.replace(**{name: getattr(inner, name) for name in self.task_fields})
        seen = self._raw.observe(obs_key, fresh)  # the task may be part of the observation
        return self._begin(obs if seen is None else seen, fresh)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> StepResult:
        """Takes one step. If the episode ended, nothing is reset."""
        result = self._raw.step(key, self.inner_state(state), self._to_env(action))
        after = self._settle(result.state)
        truncated = jnp.asarray(result.truncated, jnp.bool_).reshape(())
        if self._raw.counts_steps:
            steps = state.steps + 1
            after = Counted(after, steps)
            if self.max_episode_steps is not None:
                truncated |= steps >= self.max_episode_steps
        return StepResult(
            obs=self.store(result.obs),
            state=after,
            reward=jnp.asarray(result.reward, jnp.float32).reshape(()),
            terminated=jnp.asarray(result.terminated, jnp.bool_).reshape(()),
            truncated=truncated,
        )

    def _settle(self, state: Any) -> Any:
        def settle(x: Any, like: jax.ShapeDtypeStruct) -> chex.Array:
            if _is_key(like):
                return x
            return jnp.asarray(x).astype(like.dtype).reshape(like.shape)

        return jax.tree.map(settle, state, self._state)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _common(reset: jax.ShapeDtypeStruct, stepped: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    if _is_key(reset):
        return reset
    return jax.ShapeDtypeStruct(reset.shape, jnp.promote_types(reset.dtype, stepped.dtype))


def _measure(x: Any) -> chex.Array:
    return jnp.asarray(x, jnp.bool_ if jnp.result_type(x) == jnp.bool_ else jnp.float32)


def check_lossless(
    raw: SuiteEnvironment, made: Adapter, conversion: Conversion, num_steps: int = 256
) -> None:
    """Checks by random actions that a compact dtype does not change the observations.

    The bounds of the space are not enough: they do not tell whether every value is a whole number.

    Raises:
      ConfigError: the compact dtype would change an observation.
    """
    native = Adapter(raw, dataclasses.replace(conversion, observation_dtype="native"))
    compact = made.observation.dtype

    def play(carry: tuple[Any, Any], key: chex.PRNGKey):
        obs, state = carry
        seen = obs.policy if isinstance(obs, Observation) else obs
        kept = jnp.all(seen.astype(compact).astype(seen.dtype) == seen)
        step_key, action_key, reset_key = jax.random.split(key, 3)
        result = native.step(step_key, state, random_action(native.action, action_key, obs))
        done = result.terminated | result.truncated
        stepped, fresh = (result.obs, result.state), native.reset(reset_key)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, stepped), kept

    # The keys are an argument: with constant keys, the reset would run operation by operation.
    program = jax.jit(lambda keys: jax.lax.scan(play, native.reset(keys[0]), keys))
    _, kept = program(jax.random.split(jax.random.key(0), num_steps))
    if not bool(kept.all()):
        raise ConfigError(
            f"observation_dtype: {compact} would change the observations of {native.name}, "
            "which are not all whole numbers in its range; use native"
        )
