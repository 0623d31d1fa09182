"""Minibatches hold what their indices say."""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm.minibatch import epoch_indices, take_envs, take_samples, take_sequences
from ppg_jax.types import AuxBuffer, Batch

T, B, N = 3, 4, 2
LABELS = jnp.arange(T * B).reshape(T, B)


def make_batch():
    memory = {"policy_net": jnp.arange(B)}
    return Batch(LABELS, LABELS, memory, LABELS, LABELS, LABELS, LABELS, LABELS)


def test_every_epoch_is_another_permutation():
    index = epoch_indices(jax.random.key(0), 12, 3, 4)
    assert index.shape == (12, 4)
    epochs = np.sort(index.reshape(4, 12), axis=1)
    np.testing.assert_array_equal(epochs, np.tile(np.arange(12), (4, 1)))
    assert len({tuple(e) for e in np.asarray(index.reshape(4, 12))}) == 4


def test_whole_sequences_of_some_environments():
    part = take_envs(make_batch(), jnp.array([2, 0]))
    np.testing.assert_array_equal(part.obs, LABELS[:, [2, 0]])
    np.testing.assert_array_equal(part.memory["policy_net"], [2, 0])


def test_single_samples():
    part = take_samples(make_batch(), jnp.array([7, 2]))
    np.testing.assert_array_equal(part.obs, [[7, 2]])
    np.testing.assert_array_equal(part.memory["policy_net"], [3, 2])
    images = jnp.arange(T * B * 6).reshape(T, B, 3, 2)
    part = take_samples(make_batch().replace(obs=images), jnp.array([7, 2]))
    np.testing.assert_array_equal(part.obs, images.reshape(-1, 3, 2)[jnp.array([[7, 2]])])


def test_sequences_of_an_auxiliary_buffer():
    labels = jnp.arange(N * T * B).reshape(N, T, B)
    memory = {"policy_net": jnp.arange(N * B).reshape(N, B)}
    part = take_sequences(AuxBuffer(labels, labels, memory, labels), jnp.array([5, 0]))
    np.testing.assert_array_equal(part.obs, np.stack([labels[1, :, 1], labels[0, :, 0]], 1))
    np.testing.assert_array_equal(part.memory["policy_net"], [5, 0])
