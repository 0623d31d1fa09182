"""The auxiliary buffer with all observations, as they are or packed."""

import dataclasses
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.aux_storage.packing import Packing
from ppg_jax.algorithm.minibatch import take_sequences
from ppg_jax.config import Config
from ppg_jax.networks import Agent
from ppg_jax.types import AuxBuffer, Batch, Metrics, Rollout, TrainState

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """Keeps every observation, in the form in which rollouts have them.

    Attributes:
      config: sizes.
      agent: brings observations into their stored form.
      packing: packs them.
    """

    config: Config
    agent: Agent
    packing: Packing

    keeps_states = False

    def blank(self, state: TrainState) -> AuxBuffer:
        """A buffer of zeros ``[N, T, B, ...]``, before the first rollout of a phase."""
        c = self.config

        def step(state: TrainState) -> AuxBuffer:
            envs = jax.tree.map(lambda x: x[None], state.envs.inputs)
            _, obs = self.agent.store(state.network, envs.obs)
            targets = jnp.zeros((1, c.num_envs), jnp.float32)
            return AuxBuffer(self.packing.pack(obs), envs.starts, (), targets, envs.recalled)

        def zeros(x: jax.ShapeDtypeStruct) -> chex.Array:
            return jnp.zeros((c.n_pi, c.num_steps, *x.shape[1:]), x.dtype)

        blank: AuxBuffer = jax.tree.map(zeros, jax.eval_shape(step, state))
        memory = jax.tree.map(lambda x: jnp.zeros((c.n_pi, *x.shape), x.dtype), state.memory)
        return blank.replace(memory=memory)

    def keep(self, buffer: AuxBuffer, slot: chex.Array, _: Rollout, batch: Batch) -> AuxBuffer:
        """The buffer with an iteration's batch in a slot, written in place."""
        return put(buffer, slot, AuxBuffer.of(batch))

    def sequences(self, _: TrainState, buffer: AuxBuffer, index: chex.Array) -> AuxBuffer:
        """Some (iteration, environment) sequences: ``[T, M, ...]``."""
        return take_sequences(buffer, index)

    def newest(self, _: TrainState, buffer: AuxBuffer) -> AuxBuffer:
        """The newest rollout, ``[T, B, ...]``."""
        last: AuxBuffer = jax.tree.map(lambda x: x[-1], buffer)
        return last

    def measured(self, _: TrainState, buffer: AuxBuffer) -> Metrics:
        """No metrics of its own."""
        return {}


def put(buffer: T, slot: chex.Array, part: T) -> T:
    """Leaves ``[N, ...]`` with ``part`` at a place of the first axis."""
    update = jax.lax.dynamic_update_index_in_dim
    new: T = jax.tree.map(lambda x, y: update(x, y, slot, 0), buffer, part)
    return new
