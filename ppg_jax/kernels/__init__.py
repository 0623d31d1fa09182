"""Faster versions of plain operations, each for some backends (``ppg_jax.backend``).

For CPU only: convolutions as patches (``convolution``), narrow heads (``matmul.narrow_product``),
norms in two steps (``norms``) and products that skip what is never set (``skip_zeros``). For
accelerators only: a tree as one vector (``flat_tree``).

Each one gives the numbers of the plain operation, to rounding. Its test compares it with that
operation. Code that gains less than 3% does not stay here (``benchmarks/levers.py``). A kernel
knows nothing of networks or configurations.
"""

from ppg_jax.kernels.convolution import conv_by_lax, conv_by_patches, max_pool
from ppg_jax.kernels.flat_tree import FlatTree, Parts
from ppg_jax.kernels.matmul import joined_products, narrow_product
from ppg_jax.kernels.norms import global_norm
from ppg_jax.kernels.skip_zeros import (
    MIN_COMPONENTS,
    LiveComponents,
    SortedObservations,
    live_product,
    none_live,
    sort_components,
    sorted_by,
)

__all__ = [
    "MIN_COMPONENTS",
    "FlatTree",
    "LiveComponents",
    "Parts",
    "SortedObservations",
    "conv_by_lax",
    "conv_by_patches",
    "global_norm",
    "joined_products",
    "live_product",
    "max_pool",
    "narrow_product",
    "none_live",
    "sort_components",
    "sorted_by",
]
