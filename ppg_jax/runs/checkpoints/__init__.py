"""Training states and parameters on disk.

They are written as a whole or not at all, and checked when they are read. This is the only folder
that imports orbax. Metrics, logs and settings of a run are not stored here.
"""

from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.metadata import VERSION, DamagedError
from ppg_jax.runs.checkpoints.parameters import digest_of, load_parameters, save_parameters
from ppg_jax.runs.checkpoints.storage import LARGEST_TEXT, one_line

__all__ = [
    "LARGEST_TEXT",
    "VERSION",
    "Checkpoints",
    "DamagedError",
    "digest_of",
    "load_parameters",
    "one_line",
    "save_parameters",
]
