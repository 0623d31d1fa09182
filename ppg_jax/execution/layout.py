"""How many trainings of a configuration are laid out on this machine."""

import contextlib
import dataclasses
import math
import os
from typing import Literal

import jax
import jax.numpy as jnp

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError

VMAP_LIMIT = 128
"""Replicas that ``auto`` lets an accelerator run together at most; more go in chunks."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where and how replicas run.

    Attributes:
      strategy: ``vmap`` (together), ``map`` (one after another) or ``chunk`` (one after another, some together).
      devices: how many of JAX's share the replicas; each runs its part by the strategy.
      chunk_size: replicas that run together on a device.
      replicas: how many there are.
      workers: batches that run at a time, each called by a thread of its own; 1 but on CPU.
    """

    strategy: Literal["vmap", "map", "chunk"]
    devices: int
    chunk_size: int
    replicas: int
    workers: int = 1

    @property
    def batch_size(self) -> int:
        """Replicas that one call takes, on all devices."""
        return self.chunk_size * self.devices

    @property
    def num_batches(self) -> int:
        """How often a batch runs until all replicas have; the last may not be full."""
        return math.ceil(self.replicas / self.batch_size)

    def __str__(self) -> str:
        how = f"{self.strategy} of {self.chunk_size}" if self.strategy == "chunk" else self.strategy
        if self.workers > 1:
            return f"{how}, {self.workers} at a time"
        return how + (f" on {self.devices} devices" if self.devices > 1 else "")


def by_threads(config: Config) -> bool:
    """Whether replicas are shared by threads that call the program, instead of by JAX's devices.

    So it is on CPU, where JAX computes on all cores whatever devices it counts. Replicas in a ``vmap``
    are one call, which only devices can share.
    """
    return jax.default_backend() == "cpu" and config.strategy != "vmap"


def choose_layout(config: Config, replicas: int, cores: int | None = None) -> Layout:
    """How a number of replicas of a configuration run on this machine.

    What the configuration leaves open is chosen so:

    - on CPU ``map``: one replica fills a core, and batching over parameters only makes its matrix
      products, convolutions and working set worse (``benchmarks/seeds.py``). As many threads call
      the program as there are cores; only a ``vmap`` is spread over JAX's devices.
    - elsewhere ``vmap`` on as many devices as shorten the work, since small networks leave most of
      an accelerator idle; where a device had more than ``VMAP_LIMIT`` replicas, or more than its memory
      may hold, ``chunk``.

    Args:
      config: what to train.
      replicas: how many trainings.
      cores: of the CPU; default as many as JAX counts devices.

    Raises:
      ConfigError: the environment of ``config`` cannot be made.
    """
    on_cpu, strategy = jax.default_backend() == "cpu", config.strategy
    if strategy == "auto" and on_cpu:
        strategy = "map"
    elif strategy == "auto" and config.chunk_size:
        strategy = "chunk"
    devices = workers = 1
    if by_threads(config):
        workers = min(config.devices or cores or jax.local_device_count(), replicas)
    else:
        devices = min(config.devices or jax.local_device_count(), replicas)
        if config.devices is None:  # nine replicas keep eight devices no less long than five
            devices = math.ceil(replicas / math.ceil(replicas / devices))
    share = math.ceil(replicas / devices / workers)
    together = _most_together(config) if strategy in ("auto", "chunk") else 1
    if strategy == "auto":
        strategy = "vmap" if share <= together else "chunk"
    size = {"map": 1, "vmap": share, "chunk": min(config.chunk_size or together, share)}[strategy]
    if strategy == "chunk":  # as equal as they can be
        size = math.ceil(share / math.ceil(share / size))
    layout = Layout(strategy, devices, size, replicas, workers)
    return dataclasses.replace(layout, workers=min(workers, layout.num_batches))


def _most_together(config: Config) -> int:
    """Replicas to run together on a device: what they store of a phase fills at most half of it."""
    memory = _device_memory()
    if memory is None:
        return VMAP_LIMIT
    seen = build(config).env.observation
    observation = math.prod(seen.shape) * jnp.dtype(seen.dtype).itemsize
    # A rollout holds every observation and its successor, and some sixteen numbers beside them.
    each = config.steps_per_iteration * (2 * observation + 64)
    if config.e_aux:
        each += config.n_pi * config.steps_per_iteration * observation
    return max(1, min(VMAP_LIMIT, memory // 2 // each))


def _device_memory() -> int | None:
    """Bytes that JAX may take of a device's memory, where it says."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


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


def lay_out(config: Config, replicas: int) -> Layout:
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
            f"devices: {config.devices} is invalid; {what}, and null takes all that are of use"
        )
    return choose_layout(config, replicas, cores)
