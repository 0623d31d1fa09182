"""JAX's rules for dtypes and shapes that this package is written for, whatever the caller's are."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def own_rules() -> Iterator[None]:
    """JAX's usual promotion of ranks and dtypes, and 32 bits.

    Stricter rules (``jax_numpy_rank_promotion``, ``jax_numpy_dtype_promotion``) are for the
    caller's own code: here, and in optax and flax, it is known what is promoted. With
    ``jax_enable_x64`` a run's numbers are the same as without.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.enable_x64(False),
    ):
        yield
