"""The norm of a tree is optax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax.kernels.norms import LANES, LONG, global_norm


@pytest.mark.parametrize("split", [True, False])
def test_norm_over_small_and_large_leaves(split):
    rng = np.random.default_rng(0)
    sizes = {"scalar": (), "small": (3, 2), "large": (LONG, LANES), "odd": (LONG + 1,)}
    tree = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in sizes.items()}
    np.testing.assert_allclose(global_norm(tree, split=split), optax.tree.norm(tree), rtol=1e-6)
    grads, want = (
        jax.grad(functools.partial(global_norm, split=split))(tree),
        jax.grad(optax.tree.norm)(tree),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, want)
