"""Products as one are the products alone."""

import chex
import jax
import jax.numpy as jnp

from ppg_jax.kernels.matmul import joined_products


def test_joined_products_are_each_alone():
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (7, 5))
    kernels = [jax.random.normal(k, (5, n)) for k, n in zip(keys[1:], (3, 1, 4), strict=True)]

    def joined(x, kernels):
        return joined_products(lambda kernel: x @ kernel, kernels)

    def alone(x, kernels):
        return [x @ kernel for kernel in kernels]

    def loss(products):
        return lambda *args: sum(jnp.sin(p).sum() for p in products(*args))

    close = {"rtol": 1e-5, "atol": 1e-5}
    chex.assert_trees_all_close(joined(x, kernels), alone(x, kernels), **close)
    grads = [jax.grad(loss(products), argnums=(0, 1))(x, kernels) for products in (joined, alone)]
    chex.assert_trees_all_close(*grads, **close)
