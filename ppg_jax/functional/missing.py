"""The value that metrics have where nothing was measured.

Usually it is NaN. But ``JAX_DEBUG_NANS`` would take that NaN for an error and end the run. So while
JAX looks for NaN or infinity, the value is the lowest float32. The host replaces it by NaN.
"""

import jax
import numpy as np

LOWEST = float(np.finfo(np.float32).min)


def missing() -> float:
    """The value, chosen by JAX's settings while a program is traced."""
    looked_for = jax.config.jax_debug_nans or jax.config.jax_debug_infs  # type: ignore[attr-defined]
    return LOWEST if looked_for else float("nan")


def marked_as_nan(x: np.ndarray) -> np.ndarray:
    """Metrics for the user: NaN where nothing was measured."""
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return np.where(x == np.float32(LOWEST), np.float32(np.nan), x)
