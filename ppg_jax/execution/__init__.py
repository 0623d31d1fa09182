"""Compiles the training and evaluation programs and runs them over seeds and devices.

This folder decides how replicas are distributed, keeps compiled programs, and calls them. A replica
is a seed, or a seed with one setting of the hyperparameters; a batch is the replicas that one call
of the compiled program runs. Nothing here may read or write a run folder or print.
"""

from ppg_jax.execution.acting import Step, act, check_seed, export_policy, initial_memory, to_env
from ppg_jax.execution.compilation_cache import kept_programs, use_compilation_cache
from ppg_jax.execution.dispatch import gather, run_batches, shard
from ppg_jax.execution.evaluation import (
    LONGEST_LIMIT,
    MOST_EPISODES,
    MOST_STEPS,
    Played,
    evaluate,
    evaluate_seeds,
    evaluation_program,
    recording_program,
)
from ppg_jax.execution.fitting import Plan, Training, plan_training
from ppg_jax.execution.joining import distributed, processes_here
from ppg_jax.execution.layout import Layout, lay_out, use_all_cores
from ppg_jax.execution.link import EXIT_CODE, ProcessGoneError
from ppg_jax.execution.processes import ALONE, Processes
from ppg_jax.execution.segments import Pace, Segment, Start, train_segments
from ppg_jax.execution.sharing import share_seeds

__all__ = [
    "ALONE",
    "EXIT_CODE",
    "LONGEST_LIMIT",
    "MOST_EPISODES",
    "MOST_STEPS",
    "Layout",
    "Pace",
    "Plan",
    "Played",
    "ProcessGoneError",
    "Processes",
    "Segment",
    "Start",
    "Step",
    "Training",
    "act",
    "check_seed",
    "distributed",
    "evaluate",
    "evaluate_seeds",
    "evaluation_program",
    "export_policy",
    "gather",
    "initial_memory",
    "kept_programs",
    "lay_out",
    "plan_training",
    "processes_here",
    "recording_program",
    "run_batches",
    "shard",
    "share_seeds",
    "to_env",
    "train_segments",
    "use_all_cores",
    "use_compilation_cache",
]
