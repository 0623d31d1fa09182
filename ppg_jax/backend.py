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

from ppg_jax.config import Config, ConfigError
from ppg_jax.parallel import Layout, by_threads, choose_layout


def use_all_cores() -> int:
    """Makes every CPU core a JAX device of its own, so that a ``vmap`` can be spread over them.

    JAX reads this once, before its first computation; afterwards, or where the number was set by
    hand (``JAX_NUM_CPU_DEVICES`` or ``XLA_FLAGS``), nothing changes.

    Returns:
      Devices of JAX's default backend.
    """
    by_hand = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    unset = jax.config.jax_num_cpu_devices < 0  # type: ignore[attr-defined]
    if unset and not by_hand:
        with contextlib.suppress(RuntimeError):  # a computation has already run
            jax.config.update("jax_num_cpu_devices", _cores())
    return jax.local_device_count()


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lay_out(config: Config, rows: int) -> Layout:
    """``choose_layout`` after CPU cores have become devices.

    Always: the cache tells programs apart by how many devices there are, and a later call in the
    same process may want them all.

    Raises:
      ConfigError: more devices than there are, or the environment cannot be made.
    """
    available, cores = use_all_cores(), _cores()
    what = f"JAX has {available} here"
    if by_threads(config):
        available = max(available, cores)
        what = f"{available} can work here"
    elif jax.default_backend() == "cpu":
        what += (
            " (CPU cores become devices only before JAX's first computation: call "
            "ppg_jax.use_all_cores() early)"
        )
    if (config.devices or 1) > available:
        raise ConfigError(
            f"devices: {config.devices} will not do; {what}, and null takes all that are of use"
        )
    return choose_layout(config, rows, cores)


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
