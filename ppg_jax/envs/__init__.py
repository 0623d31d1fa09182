"""Environments: a single one as pure functions, and B of them in parallel.

Only this folder imports environment libraries, with one file per library in ``suites/``. The
classes in ``wrappers/`` change an environment of any library. Nothing here knows the networks.
"""

from ppg_jax.envs.base import AnyEnvironment, Batch, BatchEnvironment, Environment, StepResult
from ppg_jax.envs.drawing import animate
from ppg_jax.envs.make import make_env, make_training_env
from ppg_jax.envs.outside import OutsideBatch, OutsideEnvs, OutsideStep, outside_error
from ppg_jax.envs.parallel import Parallel, Randomness, as_batch, choose
from ppg_jax.envs.random_play import RandomPlay, play_randomly
from ppg_jax.envs.registry import register_suite, suite_ids, suites
from ppg_jax.envs.spaces import Box, Dict, Discrete, MultiDiscrete, random_action
from ppg_jax.envs.suite import BatchStep, Suite, SuiteBatch, SuiteEnvironment, SuiteStep
from ppg_jax.envs.suites.gymnax import available_envs
from ppg_jax.envs.vector import (
    VectorStep,
    close_envs,
    draw_randomness,
    draw_resets,
    live_outside,
    read_measures,
    reset_envs,
    shown_states,
    step_envs,
    take_step,
)
from ppg_jax.envs.wrappers.levels import Levels
from ppg_jax.envs.wrappers.partial_observation import PartlyObserved
from ppg_jax.envs.wrappers.tasks import Tasks

__all__ = [
    "AnyEnvironment",
    "Batch",
    "BatchEnvironment",
    "BatchStep",
    "Box",
    "Dict",
    "Discrete",
    "Environment",
    "Levels",
    "MultiDiscrete",
    "OutsideBatch",
    "OutsideEnvs",
    "OutsideStep",
    "Parallel",
    "PartlyObserved",
    "RandomPlay",
    "Randomness",
    "StepResult",
    "Suite",
    "SuiteBatch",
    "SuiteEnvironment",
    "SuiteStep",
    "Tasks",
    "VectorStep",
    "animate",
    "as_batch",
    "available_envs",
    "choose",
    "close_envs",
    "draw_randomness",
    "draw_resets",
    "live_outside",
    "make_env",
    "make_training_env",
    "outside_error",
    "play_randomly",
    "random_action",
    "read_measures",
    "register_suite",
    "reset_envs",
    "shown_states",
    "step_envs",
    "suite_ids",
    "suites",
    "take_step",
]
