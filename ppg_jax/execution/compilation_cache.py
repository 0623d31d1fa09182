"""The compilation cache, a setting of JAX for the whole process.

Only code that controls the process calls these functions. The layers below use JAX as it is set.
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

    A folder that the user set (``JAX_COMPILATION_CACHE_DIR``) is not changed. Programs for CPU
    contain instructions of this type of processor. Machines can share a home folder, so each type
    of processor has its own cache folder.

    Returns:
      The folder; None if none is writable.
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
    """``use_compilation_cache`` inside the context only, not for the rest of the process.

    If the user set a cache folder, nothing changes, even with ``cache`` False. Contexts may overlap
    between threads: the cache is switched off when the last one ends.

    Args:
      cache: whether to use the cache; False: nothing changes.
    """
    with _USERS_LOCK:
        may_set = _USERS.count or not jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        counts = bool(cache and may_set and use_compilation_cache())
        _USERS.count += counts
    try:
        yield
    finally:
        with _USERS_LOCK:
            _USERS.count -= counts
            if counts and not _USERS.count:
                jax.config.update("jax_compilation_cache_dir", None)
                compilation_cache.reset_cache()  # otherwise JAX keeps using the opened cache


@contextlib.contextmanager
def no_kept_programs() -> Iterator[None]:
    """Inside, JAX compiles every program, whatever a cache folder holds, and adds none to it.

    Other threads that compile meanwhile use no cache folder either.
    """
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # otherwise JAX keeps using the opened cache
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


class _Users:
    """Number of ``kept_programs`` contexts that are open and use the cache."""

    count = 0


_USERS, _USERS_LOCK = _Users(), threading.Lock()


def _processor() -> str:
    """A name for the type of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted(
            {line for line in lines if line.startswith(("flags", "Features", "model"))}
        )
    except OSError:
        features = [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(repr(features).encode()).hexdigest()[:12]}"
