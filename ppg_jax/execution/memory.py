"""Memory of devices and of compiled programs, and what to do when it does not suffice."""

import math
import os
from typing import Any

import jax

from ppg_jax.config import ConfigError
from ppg_jax.execution.layout import Layout

MARGIN = 0.05
"""Part of a device's free memory that is left free: allocators cannot use every gap."""


def free_bytes(layout: Layout) -> int | None:
    """Bytes that a training may use on each device; None if a device does not report its memory.

    That is what JAX may use, without what arrays of this process use now, and without ``MARGIN``.
    """
    free = []
    for device in jax.local_devices()[: layout.devices]:
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        free.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(min(free) * (1 - MARGIN))


def machine_bytes() -> int | None:
    """Bytes of this machine's main memory; None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def used_bytes(compiled: Any, layout: Layout) -> int:
    """Bytes that a training uses on each device, while its compiled program runs.

    Beside the program, every other batch waits with its arguments and its metrics. On CPU a device
    is the machine, where several batches run at the same time.

    Args:
      compiled: compiled program of a batch.
      layout: layout of the replicas.

    Returns:
      The bytes; 0 if the compiler does not tell them.
    """
    stats = compiled.memory_analysis()
    if stats is None:
        return 0
    # All that is allocated. ``peak_memory_in_bytes`` would be less, but on some backends it leaves
    # out most of the temporaries. On TPU the temporaries include on-chip memory: some MiB too many.
    batch = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    inside = stats.temp_size_in_bytes * layout.workers + stats.generated_code_size_in_bytes
    return int(batch * layout.num_batches + inside)


def peak_bytes(layout: Layout) -> int | None:
    """Most bytes that a device of a layout has had in use since the process began.

    Returns:
      The bytes; None if a device does not tell them, as a CPU.
    """
    peaks: list[int] = []
    for device in jax.local_devices()[: layout.devices]:
        stats = device.memory_stats() or {}
        if "peak_bytes_in_use" not in stats:
            return None
        peaks.append(stats["peak_bytes_in_use"])
    return max(peaks)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree. Shapes are enough."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def out_of_memory(error: BaseException) -> bool:
    """Whether JAX or XLA failed because a device has too little memory."""
    failed = isinstance(error, jax.errors.JaxRuntimeError)
    return failed and "RESOURCE_EXHAUSTED" in str(error)


class TooLargeError(ConfigError):
    """A program needs more memory than a device has."""


def too_large(layout: Layout, reason: str) -> TooLargeError:
    """The error for a program that did not fit.

    Args:
      layout: layout that does not fit.
      reason: why; of several lines only the first is shown.
    """
    why = reason.strip().splitlines()[0][:200]
    return TooLargeError(f"memory: {what_runs(layout)} do not fit ({why}); use {remedy(layout)}")


def what_runs(layout: Layout) -> str:
    """A layout in words."""
    return f"{layout.replicas} replica{'s' * (layout.replicas > 1)} by {layout}"


def remedy(layout: Layout) -> str:
    """What needs less memory than a layout that does not fit."""
    fewer = "strategy auto or a smaller chunk_size, " if layout.chunk_size > 1 else ""
    return (
        f"{fewer}fewer num_envs or num_steps, a smaller n_pi, aux_storage packed or replay, or "
        "observation_dtype bool or uint8 if the observations allow it"
    )


def readable(size: float) -> str:
    """A number of bytes as MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
