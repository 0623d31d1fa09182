"""Sweeps: many settings of the hyperparameters, trained by the same compiled programs.

The settings are trained here, ranked and written to the folder of the sweep. Fields that shape the
program cannot be swept, and a sweep keeps no checkpoints. Nothing here depends on the command line.
"""

from ppg_jax.sweeps.report import sweep_table
from ppg_jax.sweeps.sweep import SweepResult, sweep

__all__ = ["SweepResult", "sweep", "sweep_table"]
