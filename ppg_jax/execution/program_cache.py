"""Jitted functions, kept in memory: repeating a training in a process compiles nothing."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from ppg_jax.config import Config, Hyperparams, same_environment
from ppg_jax.execution.backend import compiler_options
from ppg_jax.execution.layout import Layout

KEPT = 8
"""Number of functions of each kind that are kept; the least recently used one is dropped."""


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that keeps the jitted functions which ``make(config, layout, *rest)`` returns.

    JAX keeps compiled programs with their jitted function, until ``jax.clear_caches()``. So it is
    enough to return the same function again. Settings that do not change the program are ignored
    (seeds, hyperparameters, numbers of batches and of threads); ``make`` gets neutral values.

    Args:
      make: maps a configuration, a layout and other hashable values to a result of ``jax.jit``.
    """
    remembered = functools.lru_cache(KEPT)(
        lambda _, config, layout, *rest: make(config, layout, *rest)
    )

    @functools.wraps(make)
    def find(config: Config, layout: Layout, *rest: Any) -> Any:
        return remembered(_around(config, layout), _shaping(config), _batch(layout), *rest)

    return find


def _shaping(config: Config) -> Config:
    """The configuration without the fields that do not change the program of a batch."""
    return config.replace(
        hparams=Hyperparams(), seed=0, seeds=1, strategy="map", chunk_size=None, devices=None
    )


def _batch(layout: Layout) -> Layout:
    """The layout of one batch."""
    return dataclasses.replace(layout, replicas=layout.batch_size, workers=1)


def _around(config: Config, layout: Layout) -> tuple[Any, ...]:
    """Other things that change a program, and that JAX does not compare."""
    told = compiler_options() or {}
    return (
        jax.config.jax_debug_nans,  # type: ignore[attr-defined]
        jax.config.jax_debug_infs,  # type: ignore[attr-defined]
        tuple(jax.local_devices()[: layout.devices]),
        tuple(told.items()),
        same_environment(config),
    )
