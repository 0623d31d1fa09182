"""Compiled programs, kept while the process lives: the same training again compiles nothing."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from ppg_jax.config import Config, Hyperparams, same_environment
from ppg_jax.execution.backend import compiler_options
from ppg_jax.execution.layout import Layout

KEPT = 8
"""Functions of each kind that are kept; of more the one that was not wanted for longest goes."""


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """Remembers the jitted functions that ``make(config, layout, *rest)`` made.

    JAX keeps what it traced and compiled of a jitted function as long as that lives, by shapes and
    by its own settings, until ``jax.clear_caches()``. So the same function is all it takes. What
    does not shape a program (seeds, hyperparameters, how many batches there are and how many threads
    call them) is left out of what is compared; ``make`` gets it in a neutral form.

    Args:
      make: of a configuration, a layout and more that can be compared, what ``jax.jit`` gives.
    """
    remembered = functools.lru_cache(KEPT)(
        lambda _, config, layout, *rest: make(config, layout, *rest)
    )

    @functools.wraps(make)
    def find(config: Config, layout: Layout, *rest: Any) -> Any:
        return remembered(_around(config, layout), _shaping(config), _batch(layout), *rest)

    return find


def _shaping(config: Config) -> Config:
    """The configuration without what is traced or does not touch a batch's program."""
    return config.replace(
        hparams=Hyperparams(), seed=0, seeds=1, strategy="map", chunk_size=None, devices=None
    )


def _batch(layout: Layout) -> Layout:
    """The layout of one batch."""
    return dataclasses.replace(layout, replicas=layout.batch_size, workers=1)


def _around(config: Config, layout: Layout) -> tuple[Any, ...]:
    """What else a program depends on, and JAX does not compare."""
    told = compiler_options() or {}
    return (
        jax.config.jax_debug_nans,  # type: ignore[attr-defined]
        jax.config.jax_debug_infs,  # type: ignore[attr-defined]
        tuple(jax.local_devices()[: layout.devices]),
        tuple(told.items()),
        same_environment(config),
    )
