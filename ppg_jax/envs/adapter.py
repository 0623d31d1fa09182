"""Makes an environment of a suite an ``Environment``: spaces, storage, time limit, dtypes."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.base import StepResult
from ppg_jax.envs.observations import Store, entry, read_observation
from ppg_jax.envs.spaces import random_action, read_action_space
from ppg_jax.envs.suite import SuiteEnvironment, SuiteStep
from ppg_jax.functional import pack_bits
from ppg_jax.types import ActionSpec, Observation, ObservationSpec


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How observations and actions are converted; the fields of ``Config`` with these names.

    Attributes:
      observation_dtype: dtype of stored observations: ``native``, ``bool``, ``uint8``, ``mixed``.
      observation_scale: divisor of observations in the networks; None: 255 for byte images, else 1.
      observation_key: entry of the observations that networks read; None: all, as one vector.
      value_observation_key: entry that the value network reads instead; None: the same.
      scale_actions: scale a continuous policy's -1 to 1 to the full range of bounded dimensions.
      squash_actions: continuous actions pass through tanh first.
    """

    observation_dtype: str = "native"
    observation_scale: float | None = None
    observation_key: str | None = None
    value_observation_key: str | None = None
    scale_actions: bool = False
    squash_actions: bool = False


class Counted(struct.PyTreeNode):
    """A suite's state, and the number of steps since its reset.

    Attributes:
      state: the suite's own state.
      steps: int32 scalar.
    """

    state: Any
    steps: chex.Array


class Adapter:
    """An environment of a suite as an ``envs.base.Environment``.

    Some environments return Python numbers from a reset and arrays from a step. States are
    converted to common dtypes, so that a scan can carry them.
    """

    def __init__(self, raw: SuiteEnvironment, conversion: Conversion = Conversion()) -> None:
        self._raw = raw
        self.name = str(raw.name)
        self.max_episode_steps = raw.max_episode_steps
        self.task_fields = raw.task_fields
        self.given, state = jax.eval_shape(raw.reset, jax.random.key(0))
        self.observation, self._read = self._observations(conversion)
        self.action: ActionSpec
        self.action, self._to_env = read_action_space(
            raw.action_space,
            self.name,
            scale=conversion.scale_actions,
            squash=conversion.squash_actions,
        )
        self._mask = raw.mask_key
        if self._mask is not None:
            self.action = dataclasses.replace(self.action, masked=True)
            self._check_mask()
        stepped = jax.eval_shape(self._raw_step, jax.random.key(0), state)
        self._state = jax.tree.map(_common, state, stepped.state)
        self._check_measures()

    def _observations(self, how: Conversion) -> tuple[ObservationSpec, Any]:
        """The spec of stored observations, and the functions that make their parts."""
        policy_key = how.observation_key or self._raw.default_key
        spec, policy = self._part("observation_key", policy_key, how)
        key = how.value_observation_key
        if key is None or key == policy_key:
            return spec, (policy, None)
        value_spec, value = self._part("value_observation_key", key, how)
        return dataclasses.replace(spec, value=value_spec), (policy, value)

    def _part(self, field: str, key: str | None, how: Conversion) -> tuple[ObservationSpec, Store]:
        """The spec and the conversion of one entry of the observations, or of all of them."""
        space, indices = self._raw.observation_space, []
        for name in key.split(".") if key else []:
            names = _names(space)
            if name not in names:
                has = f"its parts are {', '.join(names)}" if names else "it has no parts"
                raise ConfigError(
                    f"{field}: {key!r} is unknown to the observation of {self.name}; "
                    f"{did_you_mean(name, names)}{has}"
                )
            indices.append(name if isinstance(space.spaces, Mapping) else int(name))
            space = space.spaces[indices[-1]]
        has_parts, mask = hasattr(space, "spaces"), self._raw.mask_key

        def take(obs: Any) -> Any:
            for index in indices:
                obs = entry(obs, index)
            if indices or mask is None:
                return obs
            rest = {name: x for name, x in obs.items() if name != mask}
            return rest if has_parts else next(iter(rest.values()))

        spec, convert = read_observation(
            space,
            take(self.given),
            self.name,
            observation_dtype=how.observation_dtype,
            observation_scale=how.observation_scale,
        )
        return spec, lambda obs: convert(take(obs))

    def _check_mask(self) -> None:
        sizes, mask = self.action.sizes, self.given[self._mask]
        if self.action.kind == "continuous" or mask.size != sum(sizes):
            raise ConfigError(
                f"env: {self.name} has an action mask of shape {mask.shape}, which does not fit "
                f"its {self.action.kind} actions of sizes {sizes}"
            )

    def _check_measures(self) -> None:
        for name, x in jax.eval_shape(self._raw.measures, self._state).items():
            if getattr(x, "shape", None) != ():
                raise ConfigError(f"env: measure {name!r} of {self.name} should be a scalar")

    @property
    def unwrapped(self) -> SuiteEnvironment:
        """The suite's environment."""
        return self._raw

    def inner_state(self, state: Any) -> Any:
        """The suite's own state."""
        return state.state if self._raw.counts_steps else state

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """The suite's measures of an episode by its state; scalars, bool or float32."""
        given = self._raw.measures(self.inner_state(state))
        # JAX sorts the names of a dict, but keeps the suite's order in an OrderedDict.
        return OrderedDict((str(name), _measure(x)) for name, x in given.items())

    def to_env(self, action: chex.Array) -> Any:
        """Converts a policy's action to the environment's action space."""
        return self._to_env(action)

    def store(self, obs: Any) -> Any:
        """Converts an observation of the environment to its stored form."""
        policy, value = self._read
        stored = policy(obs)
        if value is None and self._mask is None:
            return stored
        legal = None
        if self._mask is not None:
            legal = pack_bits(jnp.asarray(obs[self._mask], jnp.bool_).reshape(-1))
        return Observation(stored, value and value(obs), legal)

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


def _names(space: Any) -> list[str]:
    """Names of a space's parts; numbers for a Tuple; none for other spaces."""
    spaces = getattr(space, "spaces", ())
    return [str(name) for name in (spaces if isinstance(spaces, Mapping) else range(len(spaces)))]


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
