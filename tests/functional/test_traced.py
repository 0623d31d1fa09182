"""A traced function is the function, its operations are counted, and it is traced only once."""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.functional.traced import number_of_operations, trace


def test_operations_of_calls_and_loops():
    def body(x, _):
        return jnp.sin(x) + 1.0, x

    def program(x):
        x, _ = jax.lax.scan(body, x, None, 100)
        return jax.jit(jnp.cos)(x) * 2.0

    assert number_of_operations(jax.make_jaxpr(program)(1.0)) == 2 + 1 + 1


def test_it_is_the_function_with_what_it_closes_over():
    calls = []

    def outer(scale, xs):
        def fn(carry, x):
            calls.append(x)
            return carry + scale * x["a"], {"sum": carry, "none": None}

        traced = trace(fn, 0.0, jax.tree.map(lambda x: x[0], xs))
        assert traced.result[1]["sum"].shape == ()
        return jax.lax.scan(traced.call, 0.0, xs, unroll=2)

    scales, xs = jnp.array([1.0, 10.0]), {"a": jnp.arange(4.0)}
    last, stored = jax.vmap(outer, in_axes=(0, None))(scales, xs)
    np.testing.assert_array_equal(last, [6.0, 60.0])
    np.testing.assert_array_equal(stored["sum"], [[0, 0, 1, 3], [0, 0, 10, 30]])
    assert len(calls) == 1
