"""Compiles the training and evaluation programs and runs them over seeds and devices.

This folder decides how replicas are distributed, keeps compiled programs, and calls them. A replica
is a seed, or a seed with one setting of the hyperparameters; a batch is the replicas that one call
of the compiled program runs. Nothing here may read or write a run folder or print.
"""

from ppg_jax.execution.acting import Step, act, check_seed, export_policy, initial_memory, to_env
from ppg_jax.execution.ahead import Ahead
from ppg_jax.execution.compilation_cache import (
    kept_programs,
    no_kept_programs,
    use_compilation_cache,
)
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
from ppg_jax.execution.layout import Layout, devices_here, lay_out, use_all_cores
from ppg_jax.execution.link import EXIT_CODE, ProcessGoneError
from ppg_jax.execution.memory import TooLargeError, readable
from ppg_jax.execution.processes import ALONE, Processes
from ppg_jax.execution.program_cache import own_programs
from ppg_jax.execution.segments import Pace, Segment, train_segments
from ppg_jax.execution.sharing import share_seeds
from ppg_jax.execution.speed import PhaseTimer, Speed, measure_speed
from ppg_jax.execution.starts import Start, WarmStart

__all__ = [
    "ALONE",
    "EXIT_CODE",
    "LONGEST_LIMIT",
    "MOST_EPISODES",
    "MOST_STEPS",
    "Ahead",
    "Layout",
    "Pace",
    "PhaseTimer",
    "Plan",
    "Played",
    "ProcessGoneError",
    "Processes",
    "Segment",
    "Speed",
    "Start",
    "Step",
    "TooLargeError",
    "Training",
    "WarmStart",
    "act",
    "check_seed",
    "devices_here",
    "distributed",
    "evaluate",
    "evaluate_seeds",
    "evaluation_program",
    "export_policy",
    "gather",
    "initial_memory",
    "kept_programs",
    "lay_out",
    "measure_speed",
    "no_kept_programs",
    "own_programs",
    "plan_training",
    "processes_here",
    "readable",
    "recording_program",
    "run_batches",
    "shard",
    "share_seeds",
    "to_env",
    "train_segments",
    "use_all_cores",
    "use_compilation_cache",
]
