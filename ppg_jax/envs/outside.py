"""Batches of environments that live outside of the compiled program, stepped by callbacks.

The state inside the program says which batch it is, and how many steps it has made. So one program
serves any number of batches, in loops and in several threads. A state can be stepped once only,
because the environments themselves have no copy.
"""

import itertools
import logging
import random
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.experimental import io_callback

from ppg_jax.config import ConfigError, reason
from ppg_jax.envs.suite import BatchStep, SuiteBatch


class OutsideStep(NamedTuple):
    """One step of B environments as numpy arrays; the fields are those of ``BatchStep``."""

    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: Any


class OutsideEnvs(Protocol):
    """B running environments, outside of JAX. They begin new episodes themselves."""

    def reset(self) -> np.ndarray:
        """Begins the first episodes and returns observations ``[B, ...]``. It is called once."""

    def step(self, actions: np.ndarray) -> OutsideStep:
        """Takes one step in each environment."""

    def close(self) -> None:
        """Frees everything."""


class OutsideState(struct.PyTreeNode):
    """What a program knows of a batch.

    Attributes:
      batch: uint32 ``[2]``: a number of this process, and the number of the batch in it.
      steps: steps that the batch has made, uint32 scalar.
    """

    batch: chex.Array
    steps: chex.Array


class OutsideError(ConfigError):
    """Environments outside of the program failed, or cannot be stepped."""


class _Running:
    """A batch, and the number of steps that it has made."""

    def __init__(self, envs: OutsideEnvs) -> None:
        self.envs, self.steps = envs, 0


_PROCESS = random.SystemRandom().getrandbits(32)
"""States of another process are recognised by this number."""
_running: dict[int, _Running] = {}
_numbers = itertools.count()
# JAX logs the traceback of every failed callback. Our errors say what is wrong in one line.
logging.getLogger("jax._src.callback").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], OutsideError))
)


def outside_error(error: Exception) -> OutsideError | None:
    """The error of the environments because of which a program failed; None: it has another cause.

    Args:
      error: what the program raised. JAX puts the whole traceback into its message.
    """
    _, found, message = str(error).rpartition(f"{OutsideError.__name__}: ")
    return OutsideError(message.splitlines()[0]) if found else None


class OutsideBatch(SuiteBatch):
    """Environments outside of the program. Subclasses say how they are opened.

    They cannot be vmapped: several seeds run one after another, or in several threads.

    Attributes:
      obs_shape: shape of one observation.
      obs_dtype: dtype of the observations.
    """

    outside = True
    obs_shape: tuple[int, ...]
    obs_dtype: Any

    def open(self, seed: int, num_envs: int) -> OutsideEnvs:
        """Makes B environments.

        Args:
          seed: 0 to 2^31 - 1.
          num_envs: number of environments, B.
        """
        raise NotImplementedError

    def reset(self, key: chex.PRNGKey, num_envs: int) -> tuple[Any, Any]:
        """Begins B episodes and returns ``(obs, state)``."""
        seed = jax.random.bits(key, (), jnp.uint32) >> 1

        def begin(seed: np.ndarray) -> tuple[Any, np.ndarray]:
            envs = self.open(int(seed), num_envs)
            obs, number = envs.reset(), next(_numbers)
            _running[number] = _Running(envs)
            return obs, np.array([_PROCESS, number], np.uint32)

        shapes = self._seen(num_envs), jax.ShapeDtypeStruct((2,), jnp.uint32)
        obs, batch = self._call(begin, shapes, seed)
        return obs, OutsideState(batch, jnp.uint32(0))

    def step(self, state: OutsideState, actions: chex.Array) -> BatchStep:
        """Takes one step in each environment, and begins a new episode where one ended."""
        num_envs = actions.shape[0]
        obs, flags = self._seen(num_envs), jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
        reward = jax.ShapeDtypeStruct((num_envs,), jnp.float32)

        def advance(
            batch: np.ndarray, steps: np.ndarray, actions: np.ndarray
        ) -> tuple[OutsideStep, np.uint32]:
            running = self._find(batch, int(steps))
            running.steps += 1
            try:
                return running.envs.step(actions), np.uint32(running.steps % 2**32)
            except Exception:
                _free(batch)
                raise

        shapes = OutsideStep(obs, reward, flags, flags, obs), jax.ShapeDtypeStruct((), jnp.uint32)
        # The number of steps comes from the callback. So the next callback needs this one's result:
        # nothing else fixes their order.
        made, steps = self._call(advance, shapes, state.batch, state.steps, actions)
        return BatchStep(state=state.replace(steps=steps), **made._asdict())

    def close(self, state: OutsideState) -> None:
        """Frees the environments. Closing them again does nothing."""
        self._call(lambda batch, _: _free(batch), None, state.batch, state.steps)

    def _seen(self, num_envs: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((num_envs, *self.obs_shape), self.obs_dtype)

    def _call(self, fn: Callable[..., Any], shapes: Any, *args: Any) -> Any:
        """Calls a function of numpy arrays outside of the program.

        Raises:
          ConfigError: the call is vmapped.
        """

        def guarded(*args: Any) -> Any:
            try:
                return _checked(fn(*map(np.asarray, args)), shapes)
            except OutsideError:
                raise
            except Exception as error:
                raise OutsideError(f"env: {self.name} failed: {reason(error)}") from error

        @jax.custom_batching.custom_vmap
        def call(*args: Any) -> Any:
            return io_callback(guarded, shapes, *args)

        @call.def_vmap
        def refuse(*_: Any) -> Any:
            raise ConfigError(
                f"env: {self.name} cannot be vmapped, because its environments live outside of the "
                "program; use strategy: map, or jax.lax.map over seeds"
            )

        return call(*args)

    def _find(self, batch: np.ndarray, steps: int) -> _Running:
        process, number = batch.tolist()
        running = _running.get(number) if process == _PROCESS else None
        if running is None or running.steps % 2**32 != steps:
            why = "were closed, or belong to another process"
            if running is not None:
                why = f"have made {running.steps} steps, and the state belongs after {steps}"
            raise OutsideError(
                f"state: it cannot be stepped, because the environments of {self.name} live "
                f"outside of the program and {why}; ppg_jax.restart_envs begins new episodes"
            )
        return running


def _free(batch: np.ndarray) -> None:
    process, number = batch.tolist()
    running = _running.pop(number, None) if process == _PROCESS else None
    if running is not None:
        running.envs.close()


def _checked(made: Any, shapes: Any) -> Any:
    """Arrays with the expected shapes and dtypes.

    Raises:
      ValueError: a shape is wrong.
    """

    def check(want: jax.ShapeDtypeStruct, x: Any) -> np.ndarray:
        if np.shape(x) != want.shape:
            raise ValueError(f"it returned the shape {np.shape(x)} instead of {want.shape}")
        return np.asarray(x, want.dtype)

    return jax.tree.map(check, shapes, made)
