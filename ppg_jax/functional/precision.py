"""The bits that this package computes in, whatever the caller's JAX does."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def in_32_bits() -> Iterator[None]:
    """What is traced within computes in 32 bits, with ``jax_enable_x64`` too."""
    with jax.enable_x64(False):
        yield
