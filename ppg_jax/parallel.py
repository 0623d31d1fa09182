"""Running many seeds in one program: all at once, or in turn."""

from collections.abc import Callable
from typing import Any

import jax

from ppg_jax.config import Config


def resolve_strategy(config: Config) -> str:
    """What ``auto`` means on this machine for a configuration.

    On an accelerator small networks leave most of the chip idle, so seeds run together
    (``vmap``). A CPU is full with one seed, and batching over parameters only makes its matrix
    products and its working set worse: there seeds run in turn (``map``).
    """
    if config.strategy != "auto":
        return config.strategy
    return "map" if jax.default_backend() == "cpu" else "vmap"


def compiler_options() -> dict[str, str] | None:
    """What to tell XLA when compiling a run, for ``jax.jit(..., compiler_options=...)``.

    On CPU much of the compile time is LLVM's. At its first optimisation level a run compiles 10 to
    20% sooner, is as fast and gives the same bits (``benchmarks/compile_time.py``).
    """
    return {"xla_backend_optimization_level": "1"} if jax.default_backend() == "cpu" else None


def over_seeds(fn: Callable[..., Any], strategy: str) -> Callable[..., Any]:
    """Maps ``fn(shared, per_seed)`` over the leading axis of its second argument.

    Args:
      fn: pure function of one seed.
      strategy: ``vmap`` or ``map``.

    Returns:
      The same function on ``[S, ...]`` leaves, ready for ``jax.jit``.
    """
    if strategy == "vmap":
        return jax.vmap(fn, in_axes=(None, 0))
    return lambda shared, per_seed: jax.lax.map(lambda one: fn(shared, one), per_seed)
