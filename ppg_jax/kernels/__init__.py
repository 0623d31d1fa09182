"""The same numbers, faster on one backend.

Each file computes something that the plain operation computes too, and holds the plain version
beside it, as the oracle of its test. Nothing here knows what it is used for: no network, no
configuration.
"""

from ppg_jax.kernels.convolution import conv_by_lax, conv_by_patches, max_pool, resolve_conv
from ppg_jax.kernels.matmul import joined_products
from ppg_jax.kernels.skip_zeros import (
    MIN_COMPONENTS,
    LiveComponents,
    SortedObservations,
    live_product,
    none_live,
    sort_components,
)

__all__ = [
    "MIN_COMPONENTS",
    "LiveComponents",
    "SortedObservations",
    "conv_by_lax",
    "conv_by_patches",
    "joined_products",
    "live_product",
    "max_pool",
    "none_live",
    "resolve_conv",
    "sort_components",
]
