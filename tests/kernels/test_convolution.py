"""Convolutions and pooling against flax's and XLA's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.kernels.convolution import conv_by_lax, conv_by_patches, max_pool

KEY = jax.random.key(0)


@pytest.mark.parametrize("where", ["alone", "scan", "vmap"])
@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 1), (0, 2), (1, 3)])
def test_our_convolutions_are_flax_s(padding, stride, where):
    """Forward and both gradients; in a loop, and with a kernel for each row."""
    flax_s = nn.Conv(4, (3, 3), stride, padding=padding, use_bias=False)
    implementations = {
        "flax": lambda x, k: flax_s.apply({"params": {"kernel": k}}, x),
        "lax": lambda x, k: conv_by_lax(x, k, padding, stride),
        "patches": lambda x, k: conv_by_patches(x, k, padding, stride),
    }
    x = jax.random.normal(KEY, (2, 5, 7, 9, 3))
    kernel = jax.random.normal(jax.random.key(1), (2, 3, 3, 3, 4))

    def outcome(convolve):
        def both(x, k):
            out, pull = jax.vjp(convolve, x, k)
            return out, pull(jnp.sin(out))

        if where == "vmap":
            return jax.vmap(both)(x, kernel)
        if where == "scan":
            return jax.lax.scan(lambda c, xk: (c, both(*xk)), 0, (x, kernel))[1]
        return both(x[0], kernel[0])

    want = outcome(implementations.pop("flax"))
    for convolve in implementations.values():
        for mine, theirs in zip(
            jax.tree.leaves(outcome(convolve)), jax.tree.leaves(want), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [5, 8])
def test_max_pool_is_xla_s_and_pads_both_sides(size, ties):
    x = jax.random.normal(KEY, (2, size, size, 3))
    x = jnp.round(x) if ties else x

    def plain(x):
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )

    np.testing.assert_array_equal(max_pool(x), plain(x))
    weights = jax.random.normal(jax.random.key(1), plain(x).shape)
    mine, theirs = (jax.grad(lambda x, p=p: (weights * p(x)).sum())(x) for p in (max_pool, plain))
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert jnp.isnan(max_pool(x.at[0, 2, 2, 0].set(jnp.nan))).any()
