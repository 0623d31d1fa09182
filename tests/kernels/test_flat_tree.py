"""A tree as a vector: nothing is lost, and norms of parts are those of the leaves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax.kernels.flat_tree import ROW, FlatTree

RNG = np.random.default_rng(0)
SHAPES = {"a": {"w": (3, 5), "b": ()}, "c": {"w": (ROW, 2), "v": (ROW + 1,)}, "d": (7,)}
TREE = jax.tree.map(
    lambda s: jnp.asarray(RNG.normal(size=s), jnp.float32),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
)


def overlapping(tree):
    return {"a": tree["a"], "weights": {"a": tree["a"]["w"], "c": tree["c"]["w"]}, "all": tree}


@pytest.mark.parametrize("parts", [overlapping, lambda tree: {"all": tree}, lambda tree: {}])
def test_there_and_back_and_norms(parts):
    flat = FlatTree.of(TREE, parts)
    vector = flat.join(TREE)
    assert vector.ndim == 1
    assert vector.size % ROW == 0
    chex.assert_trees_all_equal(flat.split(vector), TREE)
    whole, norms = flat.norms(vector)
    assert whole == pytest.approx(float(optax.tree.norm(TREE)), rel=1e-6)
    wanted = {name: float(optax.tree.norm(part)) for name, part in parts(TREE).items()}
    assert norms == pytest.approx(wanted, rel=1e-6)


def test_under_vmap():
    flat = FlatTree.of(TREE, overlapping)
    many = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), TREE)
    vectors = jax.vmap(flat.join)(many)
    chex.assert_trees_all_equal(jax.vmap(flat.split)(vectors), many)
    whole, norms = jax.vmap(flat.norms)(vectors)
    np.testing.assert_allclose(whole[1], 2 * whole[0], rtol=1e-6)
    np.testing.assert_allclose(norms["a"][1], 2 * norms["a"][0], rtol=1e-6)
