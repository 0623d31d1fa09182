"""Environments. A new suite is one module here with a class that follows ``Environment``."""

from ppg_jax.envs.base import Environment, StepResult
from ppg_jax.envs.gymnax_env import available_envs, make_env
from ppg_jax.envs.levels import Levels
from ppg_jax.envs.partial import PartlyObserved
from ppg_jax.envs.spaces import MultiDiscrete, random_action
from ppg_jax.envs.tasks import Tasks
from ppg_jax.envs.training import make_training_env
from ppg_jax.envs.vector import (
    Chances,
    VectorStep,
    draw_chances,
    reset_envs,
    step_envs,
    take_step,
)

__all__ = [
    "Chances",
    "Environment",
    "Levels",
    "MultiDiscrete",
    "PartlyObserved",
    "StepResult",
    "Tasks",
    "VectorStep",
    "available_envs",
    "draw_chances",
    "make_env",
    "make_training_env",
    "random_action",
    "reset_envs",
    "step_envs",
    "take_step",
]
