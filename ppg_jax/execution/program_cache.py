"""Keeps compiled programs until the process ends, so that repeated trainings do not recompile."""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ppg_jax.config import Config, Hyperparams, same_environment
from ppg_jax.execution.layout import Layout

KEPT = 8
"""Number of functions that are kept of each kind; beyond it the least recently used is dropped."""


_SCOPE: contextvars.ContextVar[object] = contextvars.ContextVar("_SCOPE", default=None)


@contextlib.contextmanager
def own_programs() -> Iterator[None]:
    """Inside, programs are made anew: nothing that was kept before is used, nor used afterwards.

    For measuring how long they take to compile, and for programs of changed functions.
    """
    before = _SCOPE.set(object())
    try:
        yield
    finally:
        _SCOPE.reset(before)


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps the jitted functions that ``make(config, layout, *rest)`` returns.

    As long as a jitted function lives, JAX keeps its traces and compiled programs, by shapes and by
    JAX's own settings, until ``jax.clear_caches()``. So it is enough to return the same function
    again. Settings that do not change the program (seeds, hyperparameters, the number of batches
    and of threads) are not compared; ``make`` gets default values for them.

    Args:
      make: function that returns a jitted function. Its arguments are a configuration, a layout and
        other hashable values.

    Returns:
      A function with the arguments of ``make`` that calls it only for new programs.
    """
    remembered = functools.lru_cache(KEPT)(
        lambda _, config, layout, *rest: make(config, layout, *rest)
    )

    @functools.wraps(make)
    def find(config: Config, layout: Layout, *rest: Any) -> Any:
        context = _compile_context(config, layout)
        return remembered(context, _static_config(config), _batch_layout(layout), *rest)

    return find


def _static_config(config: Config) -> Config:
    """The configuration with defaults for all fields that do not change a batch's program."""
    here = {"strategy": "map", "chunk_size": None, "devices": None, "devices_per_seed": None}
    return config.replace(hparams=Hyperparams(), seed=0, seeds=1, env_groups=config.groups, **here)


def _batch_layout(layout: Layout) -> Layout:
    """The layout of a single batch."""
    return dataclasses.replace(layout, replicas=layout.batch_size, workers=1)


def _compile_context(config: Config, layout: Layout) -> tuple[Any, ...]:
    """Everything else that a program depends on and that JAX's own cache does not compare."""
    return (
        jax.config.jax_debug_nans,  # type: ignore[attr-defined]
        jax.config.jax_debug_infs,  # type: ignore[attr-defined]
        tuple(jax.local_devices()[: layout.devices]),
        same_environment(config),
        _SCOPE.get(),
    )
