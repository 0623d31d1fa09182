"""Programs over seeds and devices: laid out, compiled, kept, called.

The only place that calls ``jax.jit``. Nothing here knows a run's folder or a screen.
"""

from ppg_jax.execution.acting import Step, act, check_seed, export_policy, initial_memory, to_env
from ppg_jax.execution.backend import compiler_options, kept_programs, use_compilation_cache
from ppg_jax.execution.dispatch import collect, deal, in_turns, over_rows
from ppg_jax.execution.evaluation import (
    LONGEST_LIMIT,
    MOST_EPISODES,
    MOST_STEPS,
    evaluate,
    evaluate_seeds,
    record_episode,
)
from ppg_jax.execution.layout import Layout, by_threads, lay_out, use_all_cores
from ppg_jax.execution.program_cache import kept
from ppg_jax.execution.segments import Pace, Segment, Start, train_segments

__all__ = [
    "LONGEST_LIMIT",
    "MOST_EPISODES",
    "MOST_STEPS",
    "Layout",
    "Pace",
    "Segment",
    "Start",
    "Step",
    "act",
    "by_threads",
    "check_seed",
    "collect",
    "compiler_options",
    "deal",
    "evaluate",
    "evaluate_seeds",
    "export_policy",
    "in_turns",
    "initial_memory",
    "kept",
    "kept_programs",
    "lay_out",
    "over_rows",
    "record_episode",
    "to_env",
    "train_segments",
    "use_all_cores",
    "use_compilation_cache",
]
