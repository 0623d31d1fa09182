"""What JAX itself is told before it starts: how many devices, and where compiled programs are kept.

Everything here is a process's own business, so only the host calls it; the layers below take JAX as
they find it.
"""

import contextlib
import hashlib
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def use_compilation_cache() -> Path | None:
    """Keeps compiled programs in the user's cache folder, so that a run compiles only once.

    A folder that was chosen by hand (``JAX_COMPILATION_CACHE_DIR``) stays. Programs for CPU hold
    this processor's instructions, so each kind of processor has a folder of its own: homes are
    shared between machines.

    Returns:
      The folder, None if there is no writable one.
    """
    chosen: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "ppg_jax" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or no home at all
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


@contextlib.contextmanager
def kept_programs(cache: bool) -> Iterator[None]:
    """``use_compilation_cache`` for a while, not for what else the process compiles.

    Where a folder was chosen by hand nothing changes, also not for what does not want a cache.
    Several at a time are one.

    Args:
      cache: False: nothing changes.
    """
    with _COUNTING:
        begun = _WITHIN.count or not jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        counts = bool(cache and begun and use_compilation_cache())
        _WITHIN.count += counts
    try:
        yield
    finally:
        with _COUNTING:
            _WITHIN.count -= counts
            if counts and not _WITHIN.count:
                jax.config.update("jax_compilation_cache_dir", None)
                compilation_cache.reset_cache()  # JAX goes on with the one it has opened


class _Within:
    """How many are inside ``kept_programs``."""

    count = 0


_WITHIN, _COUNTING = _Within(), threading.Lock()


def _processor() -> str:
    """A name for this kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = sorted({line for line in lines if line.startswith(("flags", "Features", "model"))})
    except OSError:
        told = [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


LLVM_LEVEL = "1"
"""LLVM's optimisation level for programs of the host on CPU, ``"0"`` to ``"3"``."""


def compiler_options() -> dict[str, str] | None:
    """What to tell XLA when compiling a run, for ``jax.jit(..., compiler_options=...)``.

    On CPU much of the compile time is LLVM's. At its first optimisation level a run compiles 10 to
    20% sooner, is as fast and gives the same bits (``benchmarks/compile_time.py``).
    """
    level = {"xla_backend_optimization_level": LLVM_LEVEL}
    return level if jax.default_backend() == "cpu" else None
