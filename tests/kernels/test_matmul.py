"""Products as one, and column by column, are plain products."""

import chex
import jax
import jax.numpy as jnp
import pytest

from ppg_jax.kernels.matmul import NARROW, joined_products, narrow_product


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


@pytest.mark.parametrize("width", [1, 2, NARROW, NARROW + 1])
@pytest.mark.parametrize("lead", [(7,), (5, 3)])
def test_a_narrow_product_is_a_product(width, lead):
    """Forward and both gradients are those of ``@``."""
    keys = jax.random.split(jax.random.key(width), 3)
    x, kernel = jax.random.normal(keys[0], (*lead, 9)), jax.random.normal(keys[1], (9, width))
    weights = jax.random.normal(keys[2], (*lead, width))

    def both(product):
        loss = jax.value_and_grad(lambda x, k: (jnp.tanh(product(x, k)) * weights).sum(), (0, 1))
        return product(x, kernel), loss(x, kernel)

    chex.assert_trees_all_close(both(narrow_product), both(jnp.matmul), rtol=1e-5, atol=1e-5)
