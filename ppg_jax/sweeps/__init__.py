"""Sweeps: many settings of any fields, trained by one program for each group of settings.

Settings that differ only in hyperparameters share a program. The groups are trained here, with the
checkpoints and files of ``runs``, ranked, and written to the folder of the sweep. Nothing here
depends on the command line.
"""

from ppg_jax.sweeps.folder import stored_config
from ppg_jax.sweeps.report import sweep_table
from ppg_jax.sweeps.result import SweepResult
from ppg_jax.sweeps.sweep import resume_sweep, sweep
from ppg_jax.sweeps.tuning import TuneResult, resume_tune, tune, tune_text

__all__ = [
    "SweepResult",
    "TuneResult",
    "resume_sweep",
    "resume_tune",
    "stored_config",
    "sweep",
    "sweep_table",
    "tune",
    "tune_text",
]
