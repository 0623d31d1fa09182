"""What stands in a program's metrics where nothing was measured.

That is NaN, which ``JAX_DEBUG_NANS`` takes for a mistake and ends the run. So while JAX looks for
NaN or infinity, the mark is the lowest number that float32 has; the host makes NaN of it again.
"""

import jax
import numpy as np

LOWEST = float(np.finfo(np.float32).min)


def missing() -> float:
    """The mark, as JAX's settings are while a program is traced."""
    looked_for = jax.config.jax_debug_nans or jax.config.jax_debug_infs  # type: ignore[attr-defined]
    return LOWEST if looked_for else float("nan")


def marked_as_nan(x: np.ndarray) -> np.ndarray:
    """Metrics as the host hands them out: NaN where nothing was measured."""
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return np.where(x == np.float32(LOWEST), np.float32(np.nan), x)
