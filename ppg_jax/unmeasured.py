"""How programs mark what was not measured: NaN, or a finite number while NaN is looked for."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

LOWEST = float(np.finfo(np.float32).min)


def unmeasured() -> float:
    """The mark, as a program is traced: NaN, with ``JAX_DEBUG_NANS`` float32's lowest number.

    JAX stops at the first NaN that a program with that setting gives, and a metric that was not
    measured is no mistake.
    """
    searching = jax.config.jax_debug_nans  # type: ignore[attr-defined]
    return LOWEST if searching else float("nan")


def where_measured(measured: chex.Array, x: chex.Array) -> chex.Array:
    """``x`` where it was measured, the mark elsewhere; float32."""
    return jnp.where(measured, x, jnp.float32(unmeasured()))


def with_nan(x: np.ndarray) -> np.ndarray:
    """A metric for the host's user: NaN instead of either mark."""
    return np.where(x == np.float32(LOWEST), np.float32(np.nan), x) if x.dtype.kind == "f" else x
