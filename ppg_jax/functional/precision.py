"""32-bit arithmetic, also where the caller has switched on JAX's 64 bits."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def in_32_bits() -> Iterator[None]:
    """Code that is traced inside computes in 32 bits, even with ``jax_enable_x64``."""
    with jax.enable_x64(False):
        yield
