"""Searches: Optuna proposes settings, whole populations of them are trained as one program.

The samplers, pruners and the journal are Optuna's. What trains, scores and reports is here.
"""

from ppg_jax.sweeps.tuning.folder import tune_text
from ppg_jax.sweeps.tuning.result import TuneResult
from ppg_jax.sweeps.tuning.tune import resume_tune, tune

__all__ = ["TuneResult", "resume_tune", "tune", "tune_text"]
