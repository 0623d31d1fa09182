"""Operations are counted through calls and loops."""

import jax
import jax.numpy as jnp

from ppg_jax.functional import number_of_operations


def test_operations():
    def body(x, _):
        return jnp.sin(x) + 1.0, x

    def program(x):
        x, _ = jax.lax.scan(body, x, None, 100)
        return jax.jit(jnp.cos)(x) * 2.0

    assert number_of_operations(jax.make_jaxpr(program)(1.0)) == 2 + 1 + 1
