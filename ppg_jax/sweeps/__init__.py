"""Many settings as one program, and what came of them."""

from ppg_jax.sweeps.report import sweep_table
from ppg_jax.sweeps.sweep import SweepResult, sweep

__all__ = ["SweepResult", "sweep", "sweep_table"]
