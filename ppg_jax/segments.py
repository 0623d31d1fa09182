"""The host's loop: compile a run's programs, call them in turn, hand out metrics in between."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np

from ppg_jax.config import Config, Hyperparams
from ppg_jax.parallel import Layout, collect, compiler_options, fill, over_rows
from ppg_jax.report import MetricArrays
from ppg_jax.train import init, train_phases, train_tail

SEGMENTS = 100  # about how often a run comes back to the host

Report = Callable[[MetricArrays, float], None]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run's programs gave.

    Attributes:
      metrics: by name, each ``[rows, iterations]``.
      state: final states, leaves ``[rows, ...]``.
      compile_seconds: tracing and compiling, all programs.
      run_seconds: running them.
    """

    metrics: MetricArrays
    state: Any
    compile_seconds: float
    run_seconds: float


def train_rows(
    config: Config,
    layout: Layout,
    hparams: Hyperparams,
    keys: chex.PRNGKey,
    *,
    shared: bool,
    report: Report,
) -> Trained:
    """Trains every row from its key.

    Args:
      config: what to train.
      layout: how the rows run.
      hparams: scalars, or leaves ``[rows]``.
      keys: ``[rows]``.
      shared: the hyperparameters are scalars, the same for all rows.
      report: called between segments with their metrics ``[rows, iterations of the segment]`` and
        the seconds that programs have run so far.
    """
    compile_seconds, run_seconds = 0.0, 0.0
    parts: list[MetricArrays] = []
    hparams = jax.tree.map(jax.numpy.float32, hparams)
    hparams = hparams if shared else fill(hparams, layout)
    state: Any = fill(keys, layout)
    for program, calls in programs(config, layout, shared):
        began = time.perf_counter()
        compiled = program.lower(hparams, state).compile()
        compile_seconds += time.perf_counter() - began
        for _ in range(calls):
            began = time.perf_counter()
            state, metrics = jax.block_until_ready(compiled(hparams, state))
            run_seconds += time.perf_counter() - began
            if metrics:
                part = {name: np.asarray(x)[: layout.rows] for name, x in metrics.items()}
                parts.append(part)
                report(part, run_seconds)
    metrics = {name: np.concatenate([p[name] for p in parts], 1) for name in parts[0]}
    return Trained(metrics, collect(state, layout), compile_seconds, run_seconds)


def programs(config: Config, layout: Layout, shared: bool) -> list[tuple[Any, int]]:
    """The compiled parts of a run in their order, and how often each is called."""
    phases_per_call = _segment_phases(config.num_phases)

    def jitted(fn: Callable[..., Any], donate: bool = True) -> Any:
        return jax.jit(
            over_rows(fn, layout, shared=shared),
            donate_argnums=(1,) if donate else (),
            compiler_options=compiler_options(),
        )

    programs = [(jitted(lambda _, key: (init(config, key), {}), donate=False), 1)]
    if config.num_phases:
        phases = jitted(lambda h, s: train_phases(config, h, s, phases_per_call))
        programs.append((phases, config.num_phases // phases_per_call))
    if config.num_tail_iterations:
        programs.append((jitted(lambda h, s: train_tail(config, h, s)), 1))
    return programs


def _segment_phases(num_phases: int) -> int:
    """Phases between two returns to the host: a divisor, so that one program does for all."""
    most = max(1, num_phases // SEGMENTS)
    return max(d for d in range(1, most + 1) if num_phases % d == 0) if num_phases else 0
