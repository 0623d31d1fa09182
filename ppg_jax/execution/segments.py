"""The host's loop: compiles a run's programs, calls them, and yields metrics in between."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chex
import jax
import numpy as np

from ppg_jax.algorithm import init, train_phases, train_tail
from ppg_jax.config import Config, Hyperparams
from ppg_jax.execution.backend import compiler_options
from ppg_jax.execution.dispatch import over_replicas, placed, repeat, run_batches, shard
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import kept
from ppg_jax.functional import marked_as_nan
from ppg_jax.types import MetricArrays

SEGMENTS = 100
"""Number of segments of a run, about."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a run: one call of a compiled program for every batch of replicas.

    Attributes:
      metrics: by name, each ``[replicas, iterations of the segment]``.
      phases: number of finished phases of the run.
      at_phase_end: whether the segment ends with a whole phase.
      states: training states of each batch, leaves ``[layout.batch_size, ...]``; invalid when the
        next segment begins.
      compile_seconds: seconds of tracing and compiling so far.
      run_seconds: seconds of running so far.
    """

    metrics: MetricArrays
    phases: int
    at_phase_end: bool
    states: list[Any]
    compile_seconds: float
    run_seconds: float


@dataclasses.dataclass(frozen=True)
class Start:
    """The state from which a resumed run continues.

    Attributes:
      state: training states, leaves ``[replicas, ...]``.
      phases: number of finished phases.
      compile_seconds: seconds of compiling before.
      run_seconds: seconds of running before.
    """

    state: Any
    phases: int
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a run is cut into segments.

    Attributes:
      most_phases: largest number of phases of a segment.
      stop_every: number of phases; a segment ends at each of its multiples.
      compiled: called when all programs are compiled and training begins.
    """

    most_phases: int | None = None
    stop_every: int | None = None
    compiled: Callable[[], None] = lambda: None


def train_segments(
    config: Config,
    layout: Layout,
    hparams: Hyperparams,
    start: chex.PRNGKey | Start,
    *,
    shared: bool,
    pace: Pace = Pace(),  # frozen
) -> Iterator[Segment]:
    """Trains every replica, segment by segment.

    Args:
      config: what to train.
      layout: how the replicas run.
      hparams: scalars, or leaves ``[replicas]``.
      start: keys ``[replicas]``, or the state to continue from.
      shared: whether the hyperparameters are scalars, the same for all replicas.
      pace: how the run is cut into segments.
    """
    hparams = jax.tree.map(jax.numpy.float32, hparams)
    per_batch = repeat(hparams, layout) if shared else shard(hparams, layout)
    phases, compiling, running = 0, 0.0, 0.0
    fresh = not isinstance(start, Start)
    if isinstance(start, Start):
        phases, compiling, running = start.phases, start.compile_seconds, start.run_seconds
    states = shard(start.state if isinstance(start, Start) else start, layout)
    began = time.perf_counter()
    parts = programs(config, layout, shared, done=None if fresh else phases, pace=pace)
    compiled = compile_all([part[0] for part in parts], layout, per_batch[0], states[0])
    compiling += time.perf_counter() - began
    pace.compiled()
    for program, (_, calls, phases_per_call) in zip(compiled, parts, strict=True):
        for _ in range(calls):
            began = time.perf_counter()
            done = run_batches(program, per_batch, states, layout)
            states = [state for state, _ in done]
            running += time.perf_counter() - began
            phases += phases_per_call
            if done[0][1]:
                metrics = _whole([part for _, part in done], layout)
                at_end = phases_per_call > 0
                yield Segment(metrics, phases, at_end, states, compiling, running)


def _whole(parts: list[dict[str, jax.Array]], layout: Layout) -> MetricArrays:
    """Metrics of all replicas, joined from the batches."""

    def whole(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(part[name]) for part in parts])[: layout.replicas]

    return {name: marked_as_nan(whole(name)) for name in parts[0]}


def compile_all(programs: list[Any], layout: Layout, hparams: Any, state: Any) -> list[Any]:
    """Compiles programs of which each gets the state that the one before returns.

    While XLA compiles one, Python traces the next. Tracing happens in the caller's thread, because
    JAX's settings (``jax.default_matmul_precision`` and others) may hold for that thread only.
    """
    pool = ThreadPoolExecutor()
    try:
        compiled = []
        for program in programs:
            lowered = program.lower(hparams, state)
            compiled.append(pool.submit(lowered.compile))
            state = placed(lowered.out_info[0], layout)
        return [future.result() for future in compiled]
    finally:
        pool.shutdown(wait=False)


def programs(
    config: Config,
    layout: Layout,
    shared: bool,
    *,
    done: int | None = None,
    pace: Pace = Pace(),  # frozen
) -> list[tuple[Any, int, int]]:
    """The programs of a run in order, with the number of calls and the phases of a call.

    Args:
      config: what to train.
      layout: how the replicas run.
      shared: as in ``train_segments``.
      done: number of finished phases of a resumed run; None for a new one.
      pace: how the run is cut into segments.
    """
    programs = []
    if done is None:
        programs.append((_beginning(config, layout, shared), 1, 0))
    left = config.num_phases - (done or 0)
    if left:
        each = _segment_phases(config.num_phases, done or 0, pace)
        programs.append((_phases(config, layout, shared, each), left // each, each))
    if config.num_tail_iterations:
        programs.append((_tail(config, layout, shared), 1, 0))
    return programs


@kept
def _beginning(config: Config, layout: Layout, shared: bool) -> Any:
    return _jitted(lambda _, key: (init(config, key), {}), layout, shared, in_place=False)


@kept
def _phases(config: Config, layout: Layout, shared: bool, each: int) -> Any:
    return _jitted(lambda h, s: train_phases(config, h, s, each), layout, shared)


@kept
def _tail(config: Config, layout: Layout, shared: bool) -> Any:
    return _jitted(lambda h, s: train_tail(config, h, s), layout, shared)


def _jitted(fn: Callable[..., Any], layout: Layout, shared: bool, in_place: bool = True) -> Any:
    return jax.jit(
        over_replicas(fn, layout, shared=shared),
        donate_argnums=(1,) if in_place else (),
        compiler_options=compiler_options(),
    )


def _segment_phases(num_phases: int, done: int, pace: Pace) -> int:
    """Number of phases of a segment: a divisor, so that all segments share one program."""
    whole = math.gcd(num_phases - done, pace.stop_every or 0, done if pace.stop_every else 0)
    most = min(max(1, (num_phases - done) // SEGMENTS), pace.most_phases or num_phases)
    return max(d for d in range(1, most + 1) if whole % d == 0)
