"""What a program needs to run fast on a platform: one record, chosen once and passed down.

Nothing below asks JAX where it runs. So a test on a CPU can build, and run, the program that a GPU
or a TPU gets: ``make_train(config, backend=backend_for("gpu"))``. All backends give the same
training, to rounding, and their training states fit each other.
"""

import dataclasses
from typing import Any, Literal

import jax

Platform = Literal["cpu", "gpu", "tpu"]


@dataclasses.dataclass(frozen=True)
class Backend:
    """How programs are built for a platform.

    The first group only pays on CPU, where large matrix products are the time. The second only pays
    on accelerators, where each operation is a launch, and launches are the time.
    ``benchmarks/levers.py`` and ``benchmarks/accelerators.py`` measure what each of them gains.

    Attributes:
      platform: the platform that programs are compiled for.
      threads: whether threads share the replicas, each calling a program of one replica. Otherwise
        JAX's devices share them, and each device runs many replicas in one program.
      convolutions: what ``network.conv: auto`` stands for (``kernels.convolution``).
      skip_zeros: whether products skip what observations never set (``kernels.skip_zeros``).
      narrow_heads: whether heads are multiplied column by column (``kernels.matmul``).
      split_norms: whether squares of large arrays are summed in two steps (``kernels.norms``).
      resets_some: whether large environments are reset a quarter at a time, only as many as needed
        (``envs.parallel``).
      steps_at_once: number of a rollout's steps that are one iteration of its loop
        (``algorithm.rollout``).
      flat_updates: whether Adam runs over one vector of all parameters (``algorithm.optimizer``).
      joins_networks: whether networks with the same layers run as one (``networks.agent``).
      learns_in_turn: whether networks that do not run as one learn one after the other, which needs
        less memory (``algorithm.gradients``).
      known_loops: whether all loops have a number of iterations that the compiler knows. Otherwise
        the host waits for the device (``algorithm.rollout.successor_values``).
      flat_storage: whether stored observations have one axis for all their components
        (``algorithm.aux_storage``); only for TPUs, which pad short axes.
      unroll: number of steps in an iteration of loops over single numbers, such as advantages.
      compiler_options: options of XLA, as pairs of name and value.
    """

    platform: Platform
    # CPU
    threads: bool = False
    convolutions: Literal["lax", "patches"] = "lax"
    skip_zeros: bool = False
    narrow_heads: bool = False
    split_norms: bool = False
    resets_some: bool = False
    # Accelerators
    steps_at_once: int = 1
    flat_updates: bool = False
    joins_networks: bool = False
    learns_in_turn: bool = False
    known_loops: bool = False
    flat_storage: bool = False
    unroll: int = 8
    # All
    compiler_options: tuple[tuple[str, str], ...] = ()


PLAIN = Backend("cpu")
"""Nothing that is only for speed: for a single call, and for tests."""
CPU = Backend(
    "cpu",
    threads=True,
    convolutions="patches",
    skip_zeros=True,
    narrow_heads=True,
    split_norms=True,
    resets_some=True,
    # Much of the compile time is spent in LLVM. With its optimisation level 1, compiling takes 10
    # to 20% less time, and runs have the same speed and bits (benchmarks/compile_time.py).
    compiler_options=(("xla_backend_optimization_level", "1"),),
)
GPU = Backend(
    "gpu",
    steps_at_once=8,
    flat_updates=True,
    joins_networks=True,
    learns_in_turn=True,
    known_loops=True,
    unroll=32,
)
TPU = dataclasses.replace(GPU, platform="tpu", flat_storage=True)

_BY_PLATFORM = {"cpu": CPU, "gpu": GPU, "cuda": GPU, "rocm": GPU, "tpu": TPU}


def backend_for(platform: str) -> Backend:
    """The backend of a platform, by JAX's name of it.

    Args:
      platform: ``cpu``, ``gpu`` (also ``cuda`` or ``rocm``) or ``tpu``. Any other platform is taken
        for an accelerator and gets the GPU's programs.
    """
    return _BY_PLATFORM.get(platform, GPU)


def this_backend() -> Backend:
    """The backend of the device that JAX computes on now.

    That is ``jax.default_device`` if it is set, and the first device otherwise.
    """
    chosen: Any = jax.config.jax_default_device  # type: ignore[attr-defined]
    if chosen is None:
        return backend_for(jax.default_backend())
    return backend_for(chosen if isinstance(chosen, str) else chosen.platform)
