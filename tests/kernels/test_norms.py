"""The norm of a tree is optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax.kernels.norms import LANES, LONG, global_norm


def test_norm_over_small_and_large_leaves():
    rng = np.random.default_rng(0)
    sizes = {"scalar": (), "small": (3, 2), "large": (LONG, LANES), "odd": (LONG + 1,)}
    tree = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in sizes.items()}
    np.testing.assert_allclose(global_norm(tree), optax.tree.norm(tree), rtol=1e-6)
    grads, want = jax.grad(global_norm)(tree), jax.grad(optax.tree.norm)(tree)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, want)
