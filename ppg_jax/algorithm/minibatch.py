"""Minibatches: indices are drawn for all epochs at once, samples are gathered when used."""

from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp

from ppg_jax.config import Config
from ppg_jax.functional import permutations
from ppg_jax.types import AuxBuffer, Batch

Steps = TypeVar("Steps", Batch, AuxBuffer)


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
    return _map_steps(batch, lambda x: x[:, index], lambda x: x[index])


def take_samples(batch: Batch, index: chex.Array) -> Batch:
    """Single samples, for networks without a memory: ``[T, B, ...] -> [1, M, ...]``."""
    num_envs = batch.starts.shape[1]
    return _map_steps(
        batch,
        lambda x: x.reshape(-1, *x.shape[2:])[index][None],
        lambda x: x[index % num_envs],
    )


def take_sequences(buffer: AuxBuffer, index: chex.Array) -> AuxBuffer:
    """Some (iteration, environment) sequences: ``[N, T, B, ...] -> [T, M, ...]``.

    A sequence's index is ``iteration * B + environment``.
    """
    _, num_steps, num_envs = buffer.starts.shape
    iteration, env = index // num_envs, index % num_envs
    steps = jnp.arange(num_steps)[:, None]
    return _map_steps(buffer, lambda x: x[iteration, steps, env], lambda x: x[iteration, env])


def first_sequences(sequences: AuxBuffer, count: int) -> AuxBuffer:
    """The first few: ``[T, M, ...] -> [T, count, ...]``."""
    return _map_steps(sequences, lambda x: x[:, :count], lambda x: x[:count])


def after_burn_in(config: Config, sequences: Steps) -> Steps:
    """The steps that have a loss: ``[T, M, ...] -> [T - burn_in, M, ...]``."""
    if not config.burn_in:
        return sequences
    return _map_steps(sequences, lambda x: x[config.burn_in :], lambda x: x)


def _map_steps(
    steps: Steps,
    fn: Callable[[chex.Array], chex.Array],
    memory_fn: Callable[[chex.Array], chex.Array],
) -> Steps:
    """Applies one function to all data of steps, and another one to the memories before them."""
    memory = jax.tree.map(memory_fn, steps.memory)
    mapped: Steps = jax.tree.map(fn, steps.replace(memory=())).replace(memory=memory)
    return mapped
