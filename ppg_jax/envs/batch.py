"""Makes a batch of a suite's environments a ``BatchEnvironment``: spaces, storage, dtypes."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.config import ConfigError
from ppg_jax.envs.base import StepResult
from ppg_jax.envs.conversion import NATIVE, Conversion, ConvertedSpaces
from ppg_jax.envs.suite import SuiteBatch


class BatchAdapter(ConvertedSpaces):
    """A batch of a suite's environments as an ``envs.base.BatchEnvironment``.

    Raises:
      ConfigError: a space is not supported, or a compact dtype may change observations.
    """

    _raw: SuiteBatch

    def __init__(self, raw: SuiteBatch, conversion: Conversion = NATIVE) -> None:
        self._conversion = conversion
        seen, _ = jax.eval_shape(lambda key: raw.reset(key, 1), jax.random.key(0))
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), seen)
        super().__init__(raw, one, conversion)
        self.outside = raw.outside
        dtype = conversion.observation_dtype
        if dtype in ("bool", "uint8") and any(x.dtype != dtype for x in jax.tree.leaves(one)):
            raise ConfigError(
                f"observation_dtype: {dtype} is invalid; observations of {raw.name} have another "
                "dtype, and whether they fit cannot be tried out; use native"
            )

    def with_levels(self, num_levels: int, first_level: int) -> "BatchAdapter":
        """The same environments, restricted to some levels.

        Raises:
          ConfigError: the suite has no levels, or these do not exist.
        """
        return BatchAdapter(self._raw.with_levels(num_levels, first_level), self._conversion)

    def reset_batch(self, key: chex.PRNGKey, num_envs: int) -> tuple[Any, Any]:
        """Begins B episodes and returns ``(obs, state)``; ``obs`` has leaves ``[B, ...]``."""
        obs, state = self._raw.reset(key, num_envs)
        return jax.vmap(self.store)(obs), state

    def draw(self, key: chex.PRNGKey, num_envs: int) -> None:
        """Nothing: the library draws by itself."""

    def draw_resets(self, randomness: None) -> None:
        """Nothing: the library begins episodes by itself."""

    def step_batch(
        self, randomness: None, state: Any, actions: chex.Array
    ) -> tuple[StepResult, Any, Any]:
        """Takes a step in each environment, and begins a new episode where one ended."""
        step = self._raw.step(state, jax.vmap(self.to_env)(actions))
        result = StepResult(
            obs=jax.vmap(self.store)(step.obs),
            state=step.state,
            reward=jnp.asarray(step.reward, jnp.float32),
            terminated=jnp.asarray(step.terminated, jnp.bool_),
            truncated=jnp.asarray(step.truncated, jnp.bool_),
        )
        return result, jax.vmap(self.store)(step.next_obs), step.state

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """None: a batch does not show its last states."""
        return {}

    def shown(self, obs: Any, state: Any) -> Any:
        """What pictures are drawn from: the observations."""
        return obs

    def close(self, state: Any) -> None:
        """Frees what the environments of a state hold. The state cannot be stepped any more."""
        self._raw.close(state)
