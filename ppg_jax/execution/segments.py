"""The training loop on the host: compiles the programs, calls them, and yields metrics between."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import chex
import jax
import numpy as np

from ppg_jax.algorithm import (
    ITERATION,
    LOST,
    build,
    env_steps,
    init,
    restart_envs,
    train_phases,
    train_tail,
)
from ppg_jax.config import Config, ConfigError, Hyperparams
from ppg_jax.envs import close_envs, live_outside
from ppg_jax.execution.dispatch import (
    explained,
    over_replicas,
    placed,
    repeat,
    run_batches,
    shard,
)
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import kept
from ppg_jax.execution.starts import Start, WarmStart, begins_with, warmed
from ppg_jax.functional import marked_as_nan
from ppg_jax.types import MetricArrays, TrainState

SEGMENTS = 100
"""Approximate number of segments of a run."""
SEGMENT_STEPS = 2**20
"""Most environment steps of a replica in a segment, unless a phase alone has more. A hundredth of a
very long run would be hours without progress, checkpoint or an answer to Ctrl-C. The number does
not depend on the replicas, because their programs do not either."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a run: one call of a compiled program for every batch of replicas.

    Attributes:
      metrics: metrics by name, each ``[replicas, iterations of the segment]``.
      phases: number of phases that the run has completed after this segment.
      at_phase_end: whether the segment ends with a complete phase. False for the iterations after
        the last complete phase.
      states: training state of each batch after the segment, leaves ``[layout.batch_size, ...]``.
        Valid only until the next segment is requested, because its buffers are donated.
      compile_seconds: total time of tracing and compiling so far.
      run_seconds: total time of running so far.
    """

    metrics: MetricArrays
    phases: int
    at_phase_end: bool
    states: list[Any]
    compile_seconds: float
    run_seconds: float


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a run is split into segments.

    Attributes:
      most_phases: largest number of phases per segment; None: no limit.
      stop_every: interval in phases at which a segment must end; None: no such interval.
      segments: approximate number of segments of the run; None: ``SEGMENTS``.
      compiled: callback for the moment when all programs are compiled and training begins.
      spent: seconds of compiling before the run, to be counted as the run's.
    """

    most_phases: int | None = None
    stop_every: int | None = None
    segments: int | None = None
    compiled: Callable[[], None] = lambda: None
    spent: float = 0.0


def train_segments(
    config: Config,
    layout: Layout,
    hparams: Hyperparams,
    start: chex.PRNGKey | WarmStart | Start,
    *,
    shared: bool,
    pace: Pace = Pace(),  # frozen
) -> Iterator[Segment]:
    """Trains every replica, segment by segment.

    Args:
      config: configuration to train.
      layout: layout of the replicas.
      hparams: hyperparameters as scalars, or leaves ``[replicas]``.
      start: random keys ``[replicas]``, keys and what another run has learned, or a state from
        which to continue.
      shared: whether the hyperparameters are scalars, which all replicas share.
      pace: how the run is split into segments.

    Yields:
      A ``Segment`` after each call of a program that returns metrics. At the end, environments that
      live outside of the program are closed.

    Raises:
      ConfigError: observations are packed, and an observation would be lost.
    """
    hparams = jax.tree.map(jax.numpy.float32, hparams)
    per_batch = repeat(hparams, layout) if shared else shard(hparams, layout)
    phases, compiling, running = 0, 0.0, 0.0
    fresh = not isinstance(start, Start)
    if isinstance(start, Start):
        phases, compiling, running = start.phases, start.compile_seconds, start.run_seconds
    states = shard(begins_with(start), layout)
    began = time.perf_counter()
    parts = programs(config, layout, shared, done=None if fresh else phases, pace=pace)
    compiled = compile_all([part[0] for part in parts], layout, per_batch[0], states[0])
    compiling += pace.spent + time.perf_counter() - began
    pace.compiled()
    try:
        for program, (_, calls, phases_per_call) in zip(compiled, parts, strict=True):
            for _ in range(calls):
                began = time.perf_counter()
                done = run_batches(program, per_batch, states, layout)
                states = [state for state, _ in done]
                running += time.perf_counter() - began
                phases += phases_per_call
                if isinstance(start, WarmStart) and not done[0][1]:  # ``init``
                    states = warmed(states, start, layout)
                if done[0][1]:
                    metrics = _all_replicas(config, [part for _, part in done], layout)
                    _check_nothing_lost(metrics)
                    at_end = phases_per_call > 0
                    yield Segment(metrics, phases, at_end, states, compiling, running)
    finally:
        close_states(config, states)


def phase_programs(config: Config, layout: Layout) -> tuple[Any, Any]:
    """The program that makes the first states, and the one that trains them for a phase."""
    return _init_program(config, layout, True), _phase_program(config, layout, True, 1)


def _check_nothing_lost(metrics: MetricArrays) -> None:
    """Checks that packing has changed no observation of a segment.

    Raises:
      ConfigError: it has.
    """
    lost = metrics.get(LOST)
    if lost is not None and lost.any():
        raise ConfigError(
            f"aux_storage: packed would lose {int(lost.sum())} observations of this run, whose "
            "components were not all 0 or 1 where random play found only these; use full or replay"
        )


def close_states(config: Config, states: list[Any]) -> None:
    """Frees the environments of states, if they live outside of the program."""
    env = build(config).env
    if not live_outside(env):
        return
    for state in states:
        # Random keys have no environments yet. A program that failed has taken its state.
        if isinstance(state, TrainState) and not state.envs.starts.is_deleted():
            jax.lax.map(lambda envs: close_envs(env, envs), state.envs)


def _all_replicas(
    config: Config, parts: list[dict[str, jax.Array]], layout: Layout
) -> MetricArrays:
    """Joins the metrics of the batches to metrics of all replicas, with ``env_steps`` as int64."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(part[name]) for part in parts])[: layout.replicas]

    metrics = {name: marked_as_nan(joined(name)) for name in parts[0]}
    metrics["env_steps"] = env_steps(config, metrics)
    # In order: the files of a run have the same columns on both sides of 2^31 steps.
    return {name: x for name, x in sorted(metrics.items()) if name != ITERATION}


def compile_all(programs: list[Any], layout: Layout, hparams: Any, state: Any) -> list[Any]:
    """Compiles a sequence of programs, where each takes the state that the previous one returns.

    While XLA compiles one program, Python traces the next. Tracing runs in the caller's thread,
    because JAX's settings (such as ``jax.default_matmul_precision``) may apply only to this thread.
    """
    pool = ThreadPoolExecutor()
    try:
        lowered = lower_all(programs, layout, hparams, state)
        compiled = [pool.submit(program.compile) for program in lowered]
        with explained(layout):
            return [future.result() for future in compiled]
    finally:
        pool.shutdown(wait=False)


def lower_all(programs: list[Any], layout: Layout, hparams: Any, state: Any) -> Iterator[Any]:
    """Traces a sequence of programs, where each takes the state that the previous one returns."""
    for program in programs:
        lowered = program.lower(hparams, state)
        yield lowered
        state = placed(lowered.out_info[0], layout)


def programs(
    config: Config,
    layout: Layout,
    shared: bool,
    *,
    done: int | None = None,
    pace: Pace = Pace(),  # frozen
) -> list[tuple[Any, int, int]]:
    """The programs of a run, in the order in which they are called.

    Args:
      config: configuration to train.
      layout: layout of the replicas.
      shared: whether all replicas share the hyperparameters, as in ``train_segments``.
      done: number of phases completed in the state from which to continue; None: a new run.
      pace: how the run is split into segments.

    Returns:
      For each program: the program, its number of calls, and its phases per call.
    """
    training = _training_programs(config, layout, shared, done or 0, pace)
    if done is None:
        return [(_init_program(config, layout, shared), 1, 0), *training]
    if training and live_outside(build(config).env):
        return [(_restart_program(config, layout, shared), 1, 0), *training]
    return training


def _training_programs(
    config: Config, layout: Layout, shared: bool, done: int, pace: Pace
) -> list[tuple[Any, int, int]]:
    """Those of ``programs`` that train; the one that needs most memory is the first."""
    programs = []
    if left := config.num_phases - done:
        each = _segment_phases(config, done, pace)
        programs.append((_phase_program(config, layout, shared, each), left // each, each))
    if config.num_tail_iterations:
        programs.append((_tail_program(config, layout, shared), 1, 0))
    return programs


def largest_program(
    config: Config, layout: Layout, shared: bool, *, done: int | None = None, pace: Pace = Pace()
) -> tuple[Any, Any, Any] | None:
    """The program of a run that needs most memory, and the shapes of its arguments.

    It is one of ``programs``, for the same arguments, so compiling it is no extra work for the run.

    Returns:
      The program, its hyperparameters and its state, as shapes with their places on the devices;
      None if nothing is left to train.
    """
    training = _training_programs(config, layout, shared, done or 0, pace)
    if not training:
        return None
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), layout.batch_size))
    hparams = placed(batched_scalars(config, layout, shared), layout, same=shared)
    state, _ = jax.eval_shape(_init_program(config, layout, shared), hparams, keys)
    return training[0][0], hparams, placed(state, layout)


def batched_scalars(config: Config, layout: Layout, shared: bool) -> Any:
    """Shapes of the hyperparameters of one batch: scalars, or ``[layout.batch_size]``."""
    shape = () if shared else (layout.batch_size,)
    return jax.tree.map(lambda _: jax.ShapeDtypeStruct(shape, jax.numpy.float32), config.hparams)


@kept
def _init_program(config: Config, layout: Layout, shared: bool) -> Any:
    how = {"backend": layout.backend, "env_axis": layout.env_axis}
    return _jitted(
        lambda _, key: (init(config, key, **how), {}), config, layout, shared, in_place=False
    )


@kept
def _restart_program(config: Config, layout: Layout, shared: bool) -> Any:
    """New episodes: those of a saved state are gone if they were outside of the program."""
    return _jitted(
        lambda _, state: (restart_envs(config, state, backend=layout.backend), {}),
        config,
        layout,
        shared,
    )


@kept
def _phase_program(config: Config, layout: Layout, shared: bool, each: int) -> Any:
    how = {"backend": layout.backend, "env_axis": layout.env_axis}
    return _jitted(lambda h, s: train_phases(config, h, s, each, **how), config, layout, shared)


@kept
def _tail_program(config: Config, layout: Layout, shared: bool) -> Any:
    how = {"backend": layout.backend, "env_axis": layout.env_axis}
    return _jitted(lambda h, s: train_tail(config, h, s, **how), config, layout, shared)


def _jitted(
    fn: Callable[..., Any], config: Config, layout: Layout, shared: bool, *, in_place: bool = True
) -> Any:
    like = None
    if layout.env_axis is not None:
        like = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    return jax.jit(
        over_replicas(fn, layout, shared=shared, like=like),
        donate_argnums=(1,) if in_place else (),
        compiler_options=dict(layout.backend.compiler_options),
    )


def _segment_phases(config: Config, done: int, pace: Pace) -> int:
    """Phases per segment. It divides the remaining phases, so that one program is enough."""
    left, phase_steps = config.num_phases - done, config.n_pi * config.steps_per_iteration
    whole = math.gcd(left, pace.stop_every or 0, done if pace.stop_every else 0)
    most = max(1, min(left // (pace.segments or SEGMENTS), SEGMENT_STEPS // phase_steps))
    most = min(most, pace.most_phases or left)
    return max(d for d in range(1, most + 1) if whole % d == 0)
