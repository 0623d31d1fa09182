"""Training states and parameters on disk: written whole, checked when read.

The only place that imports orbax.
"""

from ppg_jax.runs.checkpoints.checkpoints import Checkpoints, DamagedError
from ppg_jax.runs.checkpoints.parameters import load_parameters, save_parameters
from ppg_jax.runs.checkpoints.storage import LARGEST_TEXT, one_line

__all__ = [
    "LARGEST_TEXT",
    "Checkpoints",
    "DamagedError",
    "load_parameters",
    "one_line",
    "save_parameters",
]


__all__ = [
    "LARGEST_TEXT",
    "Checkpoints",
    "DamagedError",
    "load_parameters",
    "one_line",
    "save_parameters",
]
