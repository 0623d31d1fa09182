"""Small arrays of any dtype come back from words bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.functional.words import MOST, from_words, to_words

TREE = {
    "float": jnp.array([[-0.0, jnp.nan], [jnp.inf, 1e-45]], jnp.float32),
    "bool": jnp.array([True, False]),
    "int": jnp.array([-1, 2**31 - 1], jnp.int32),
    "byte": jnp.array([[0, 255], [7, 8]], jnp.uint8),
    "half": jnp.array([1.5, -2.0], jnp.bfloat16),
    "empty": jnp.zeros((2, 0), jnp.float32),
    "large": jnp.arange(2.0 * (MOST + 1)).reshape(2, -1),
    "image": jnp.ones((2, 5, 5), jnp.bool_),
    "none": None,
}


def test_there_and_back():
    words, large = to_words(TREE, 1)
    assert words.dtype == jnp.uint32
    assert words.shape == (2, 2 + 1 + 1 + 2 + 1 + 0)
    assert [x.shape for x in large] == [(2, 5, 5), (2, MOST + 1)]
    back = from_words((words, large), TREE, 1)
    assert jax.tree.structure(back) == jax.tree.structure(TREE)
    for found, want in zip(jax.tree.leaves(back), jax.tree.leaves(TREE), strict=True):
        assert (found.dtype, found.shape) == (want.dtype, want.shape)
        assert np.asarray(found).tobytes() == np.asarray(want).tobytes()


def test_first_axes_may_have_become_more():
    stacked = jax.tree.map(lambda x: jnp.stack([x, x, x]), TREE)
    words, large = to_words(stacked, 2)
    back = from_words((words, large), TREE, 2)
    assert back["int"].shape == (3, 2)
    np.testing.assert_array_equal(back["byte"][1], TREE["byte"])


def test_nothing_small():
    only = {"large": TREE["large"]}
    np.testing.assert_array_equal(from_words(to_words(only, 1), only, 1)["large"], TREE["large"])
