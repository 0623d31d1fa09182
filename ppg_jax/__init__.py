"""Phasic Policy Gradient in JAX: whole runs and sweeps as one compiled program."""

from ppg_jax.config import Config, ConfigError, Hyperparams, NetworkConfig
from ppg_jax.train import init, make_train, train_phases, train_tail
