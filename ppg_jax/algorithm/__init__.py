"""The algorithm: rollout, policy phase, auxiliary phase, and the loop over them.

``train.py`` is the place to begin reading. Everything here is a pure function that can be jitted
and vmapped. Nothing here prints, reads a clock or a file, or asks which device it runs on.
"""

from ppg_jax.algorithm.checks import check_key, traced_in_32_bits
from ppg_jax.algorithm.groups import by_environment
from ppg_jax.algorithm.initial_state import init, restart_envs
from ppg_jax.algorithm.learned import Learned, learned_by, with_learned
from ppg_jax.algorithm.metrics import ITERATION, LOST, env_steps, metric_names
from ppg_jax.algorithm.ppg import PPG, build, replay_difference
from ppg_jax.algorithm.train import make_train, stored_shapes, train_phases, train_tail

__all__ = [
    "ITERATION",
    "LOST",
    "PPG",
    "Learned",
    "build",
    "by_environment",
    "check_key",
    "env_steps",
    "init",
    "learned_by",
    "make_train",
    "metric_names",
    "replay_difference",
    "restart_envs",
    "stored_shapes",
    "traced_in_32_bits",
    "train_phases",
    "train_tail",
    "with_learned",
]
