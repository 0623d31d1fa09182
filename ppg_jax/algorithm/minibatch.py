"""Minibatches: indices are drawn for all epochs at once, samples are gathered when used."""

from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

from ppg_jax.config import Config
from ppg_jax.functional import permutations
from ppg_jax.types import AuxBuffer, Batch


def epoch_indices(
    key: chex.PRNGKey, num_items: int, num_minibatches: int, epochs: int
) -> chex.Array:
    """A new permutation for each epoch, cut into minibatches.

    If there is a single minibatch, nothing is shuffled: the order inside it does not matter.

    Returns:
      int32 ``[epochs * num_minibatches, num_items // num_minibatches]``; within an epoch every
      item occurs once.
    """
    if num_minibatches == 1:
        return jnp.broadcast_to(jnp.arange(num_items), (epochs, num_items))
    orders = permutations(key, num_items, epochs)
    return orders.reshape(epochs * num_minibatches, num_items // num_minibatches)


def take_envs(batch: Batch, index: chex.Array) -> Batch:
    """Whole sequences of some environments: ``[T, B, ...] -> [T, M, ...]``, memory ``[M, ...]``."""
    memory = jax.tree.map(lambda x: x[index], batch.memory)
    taken = jax.tree.map(lambda x: x[:, index], batch.replace(memory=()))
    return taken.replace(memory=memory)


def take_samples(batch: Batch, index: chex.Array) -> Batch:
    """Single samples, for networks without a memory: ``[T, B, ...] -> [1, M, ...]``."""
    num_envs = batch.starts.shape[1]
    memory = jax.tree.map(lambda x: x[index % num_envs], batch.memory)
    taken = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:])[index][None], batch.replace(memory=())
    )
    return taken.replace(memory=memory)


def take_sequences(buffer: AuxBuffer, index: chex.Array) -> AuxBuffer:
    """Some (iteration, environment) sequences: ``[N, T, B, ...] -> [T, M, ...]``.

    A sequence's index is ``iteration * B + environment``.
    """
    num_envs = buffer.starts.shape[2]
    iteration, env = index // num_envs, index % num_envs
    memory: Any = jax.tree.map(lambda x: x[iteration, env], buffer.memory)
    taken = jax.tree.map(
        lambda x: jnp.moveaxis(x[iteration, :, env], 1, 0), buffer.replace(memory=())
    )
    return taken.replace(memory=memory)


Sequences = TypeVar("Sequences", Batch, AuxBuffer)


def after_burn_in(config: Config, sequences: Sequences) -> Sequences:
    """The steps that have a loss: ``[T, M, ...] -> [T - burn_in, M, ...]``."""
    if not config.burn_in:
        return sequences
    late = jax.tree.map(lambda x: x[config.burn_in :], sequences.replace(memory=()))
    return late.replace(memory=sequences.memory)
