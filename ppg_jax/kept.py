"""Compiled programs kept in the process, so that the same run again begins at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax

from ppg_jax.config import Config, Hyperparams
from ppg_jax.parallel import Layout

MOST = 24
"""Programs that are kept: the ones used last. A run has two or three."""


class KeptPrograms:
    """The programs that were used last, by what they are."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """A program, or None."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def keep(self, key: Hashable, program: Any) -> None:
        """Keeps a program, and lets go of the one that was not used for longest."""
        with self._lock:
            self._programs[key] = program
            self._programs.move_to_end(key)
            while len(self._programs) > self._most:
                self._programs.popitem(last=False)

    def get_or_make(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A program, made now if it was not kept."""
        program = self.get(key)
        if program is None:
            program = make()
            self.keep(key, program)
        return program

    def clear(self) -> None:
        """Lets go of all."""
        with self._lock:
            self._programs.clear()


PROGRAMS = KeptPrograms()


def program_key(config: Config, layout: Layout, arguments: Any, *more: Hashable) -> Hashable:
    """What a program depends on.

    Args:
      config: of the run; its seed, how many seeds there are, and the values of its hyperparameters
        are a program's arguments. An environment object counts as itself: an edited one is another.
      layout: how rows run; how many there are is none of one turn's business.
      arguments: of the program: their shapes, dtypes and places count.
      *more: what else tells it from others.
    """
    same = config.replace(seed=0, seeds=1, devices=None, hparams=Hyperparams())
    how = (layout.strategy, layout.devices, layout.chunk_size, tuple(jax.local_devices()))
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple((x.shape, x.dtype, _is_weak(x), _place(x)) for x in leaves)
    return same, how, tree, shapes, _settings(), more


def _is_weak(x: Any) -> bool:
    return bool(getattr(x, "weak_type", False))


def _place(x: Any) -> Hashable:
    sharding = getattr(x, "sharding", None)
    return None if sharding is None else str(sharding)


def _settings() -> Hashable:
    """JAX's settings in this thread: many of them change what is traced or compiled."""
    names = sorted(jax.config.values)
    return tuple((name, repr(getattr(jax.config, name, None))) for name in names)
