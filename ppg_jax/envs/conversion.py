"""Converts the observations and actions of suites to those of the networks, as configured."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import chex
import jax.numpy as jnp

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.observations import Store, entry, read_observation
from ppg_jax.envs.spaces import read_action_space
from ppg_jax.envs.suite import SuiteSpaces
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


NATIVE = Conversion()
"""Everything as the suite has it."""


class ConvertedSpaces:
    """The spaces of a suite's environment, converted. Adapters are subclasses.

    Args:
      raw: the suite's environment.
      given: shapes and dtypes of one observation, as the suite returns it.
      conversion: how to convert.

    Raises:
      ConfigError: a space or a setting of the conversion is not supported.
    """

    def __init__(self, raw: SuiteSpaces, given: Any, conversion: Conversion) -> None:
        self._raw: Any = raw
        self.name = str(raw.name)
        self.max_episode_steps = raw.max_episode_steps
        self.given = given
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

    @property
    def unwrapped(self) -> Any:
        """The suite's environment."""
        return self._raw

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


def _names(space: Any) -> list[str]:
    """Names of a space's parts; numbers for a Tuple; none for other spaces."""
    spaces = getattr(space, "spaces", ())
    return [str(name) for name in (spaces if isinstance(spaces, Mapping) else range(len(spaces)))]
