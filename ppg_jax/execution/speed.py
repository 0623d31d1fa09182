"""How fast a configuration trains here: one phase of all replicas, compiled and timed."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from ppg_jax.config import Config
from ppg_jax.execution.dispatch import explained, placed, repeat, run_batches, shard
from ppg_jax.execution.fitting import Plan, Training, plan_training
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.memory import machine_bytes, peak_bytes, readable, too_large, used_bytes
from ppg_jax.execution.program_cache import own_programs
from ppg_jax.execution.segments import close_states, phase_programs

FEWEST = 3
"""Number of timings that are enough when the time is up."""


class PhaseTimer:
    """One phase of all replicas of a layout, compiled. ``start`` it; then each call times it.

    Args:
      config: configuration to train.
      layout: layout of the replicas.
      donate: whether a new state takes the memory of the one before, as in a run.

    Attributes:
      steps: environment steps of all replicas in a phase.
      start_seconds: seconds to trace and compile the program of the first states.
      trace_seconds: seconds to trace the program of a phase.
      compile_seconds: seconds to compile it.
      compiled_bytes: bytes of each device that training takes, as ``used_bytes``.
      compiled_peak_bytes: most bytes that one call of the program holds, by XLA's account.
    """

    def __init__(self, config: Config, layout: Layout, *, donate: bool = True) -> None:
        self.config, self.layout = config, layout
        self.steps = layout.replicas * config.n_pi * config.steps_per_iteration
        self._hparams = repeat(jax.tree.map(jnp.float32, config.hparams), layout)
        keys = jax.random.split(jax.random.key(config.seed), layout.replicas)
        self._states = shard(keys, layout)
        begin, phase = phase_programs(config, layout)
        if not donate:
            options = dict(layout.backend.compiler_options)
            phase = jax.jit(phase.__wrapped__, compiler_options=options)
        began = time.perf_counter()
        lowered = begin.lower(self._hparams[0], self._states[0])
        self._begin = _compiled(lowered, layout)
        self.start_seconds = time.perf_counter() - began
        began = time.perf_counter()
        lowered = phase.lower(self._hparams[0], placed(lowered.out_info[0], layout))
        self.trace_seconds = time.perf_counter() - began
        self._phase = _compiled(lowered, layout)
        self.compile_seconds = time.perf_counter() - began - self.trace_seconds
        self.compiled_bytes = used_bytes(self._phase, layout)
        stats = self._phase.memory_analysis()
        self.compiled_peak_bytes = int(stats.peak_memory_in_bytes) if stats else 0

    def start(self) -> None:
        """Makes the first states and runs a phase, which is not timed.

        Raises:
          ConfigError: memory does not suffice.
        """
        with explained(self.layout):
            self._run(self._begin)
            self._run(self._phase)

    def __call__(self) -> float:
        """Trains all replicas for a phase more, and gives its seconds."""
        began = time.perf_counter()
        self._run(self._phase)
        return time.perf_counter() - began

    def close(self) -> None:
        """Frees environments that live outside of the program."""
        close_states(self.config, self._states)

    def _run(self, program: Any) -> None:
        done = run_batches(program, self._hparams, self._states, self.layout)
        self._states = [state for state, _ in done]


def _compiled(lowered: Any, layout: Layout) -> Any:
    """Compiles in another thread, so that Ctrl-C need not wait."""
    pool = ThreadPoolExecutor(1)
    try:
        with explained(layout):
            return pool.submit(lowered.compile).result()
    finally:
        pool.shutdown(wait=False)


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a number of replicas trains, and what it needs.

    Attributes:
      plan: how they are trained.
      compile_seconds: seconds to trace and compile all programs.
      run_seconds: seconds of a phase of all replicas, timed several times.
      steps: environment steps of all replicas in a phase.
      compiled_bytes: bytes of each device, as the compiled program says; 0: it does not say.
      compiled_peak_bytes: most bytes that one call of the program holds, by XLA's account.
      device_peak_bytes: most bytes that a device had in use meanwhile, as it reports; None: it does
        not report them, or the process had needed more before.
    """

    plan: Plan
    compile_seconds: float
    run_seconds: tuple[float, ...]
    steps: int
    compiled_bytes: int
    compiled_peak_bytes: int
    device_peak_bytes: int | None

    @property
    def steps_per_second(self) -> float:
        """Environment steps of all replicas in a second: the median."""
        return self.steps / statistics.median(self.run_seconds)


def measure_speed(
    config: Config,
    repeats: int,
    *,
    most_seconds: float = math.inf,
    note: Callable[[str], None] = lambda _: None,
) -> Speed:
    """Trains ``config.seeds`` replicas for some phases, as ``run`` would, and takes the time.

    Programs are compiled anew. Nothing is written.

    Args:
      config: configuration to train, with networks as ``build`` resolves them.
      repeats: number of timings, after a phase that is not timed.
      most_seconds: after so many seconds ``FEWEST`` timings are enough.
      note: called with a line of text before each step.

    Raises:
      TooLargeError: memory does not suffice.
      ConfigError: the configuration cannot be trained here.
    """
    phase = config.replace(total_timesteps=config.n_pi * config.steps_per_iteration)
    with own_programs():
        plan = plan_training(phase, Training(config.seeds), note)
        before = peak_bytes(plan.layout)
        note(f"compiling for {plan.layout}")
        timer = PhaseTimer(plan.config, plan.layout)
    _check_fits(timer)
    seconds: list[float] = []
    try:
        note("warming up")
        timer.start()
        while len(seconds) < repeats and (len(seconds) < FEWEST or sum(seconds) < most_seconds):
            note(f"timing {len(seconds) + 1} of {repeats}")
            seconds.append(timer())
    finally:
        timer.close()
    peak = peak_bytes(plan.layout)
    return Speed(
        plan=plan,
        compile_seconds=(
            plan.seconds + timer.start_seconds + timer.trace_seconds + timer.compile_seconds
        ),
        run_seconds=tuple(seconds),
        steps=timer.steps,
        compiled_bytes=timer.compiled_bytes,
        compiled_peak_bytes=timer.compiled_peak_bytes,
        device_peak_bytes=peak if before is None or (peak or 0) > before else None,
    )


def _check_fits(timer: PhaseTimer) -> None:
    """Checks that a program for CPU needs no more than the machine has.

    An accelerator says so itself. A machine would swap, or end the process.

    Raises:
      TooLargeError: it needs more.
    """
    have = machine_bytes()
    if timer.layout.backend.threads and have is not None and timer.compiled_bytes > have:
        need = f"they need {readable(timer.compiled_bytes)}, this machine has {readable(have)}"
        raise too_large(timer.layout, need)
