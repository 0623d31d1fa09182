"""Equations, each a pure function of arrays.

This folder holds losses, advantages, distributions, running statistics, gradient conflict and
random permutations. It never imports an environment, a network, flax or a file.
"""

from ppg_jax.functional.bits import pack_bits, unpack_bits
from ppg_jax.functional.categories import grid_sizes, one_hot
from ppg_jax.functional.columns import Columns, PackedColumns, as_bits, unpack_all
from ppg_jax.functional.distributions import (
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    TanhGaussian,
)
from ppg_jax.functional.gae import generalized_advantages
from ppg_jax.functional.gradient_conflict import adapted_scale, balanced_weights, cosine, project
from ppg_jax.functional.hidden_constants import hide_from_compiler
from ppg_jax.functional.losses import explained_variance, normalize_advantages, squared_error
from ppg_jax.functional.missing import marked_as_nan, missing
from ppg_jax.functional.pool import ALONE, Pool
from ppg_jax.functional.precision import in_32_bits
from ppg_jax.functional.random import one_of_split, permutations
from ppg_jax.functional.running_stats import (
    RunningStats,
    discounted_sums,
    init_stats,
    scale_rewards,
    standardize,
    update_stats,
)
from ppg_jax.functional.traced import trace
from ppg_jax.functional.words import from_words, to_words

__all__ = [
    "ALONE",
    "Categorical",
    "Columns",
    "DiagGaussian",
    "Distribution",
    "MultiCategorical",
    "PackedColumns",
    "Pool",
    "RunningStats",
    "TanhGaussian",
    "adapted_scale",
    "as_bits",
    "balanced_weights",
    "cosine",
    "discounted_sums",
    "explained_variance",
    "from_words",
    "generalized_advantages",
    "grid_sizes",
    "hide_from_compiler",
    "in_32_bits",
    "init_stats",
    "marked_as_nan",
    "missing",
    "normalize_advantages",
    "one_hot",
    "one_of_split",
    "pack_bits",
    "permutations",
    "project",
    "scale_rewards",
    "squared_error",
    "standardize",
    "to_words",
    "trace",
    "unpack_all",
    "unpack_bits",
    "update_stats",
]
