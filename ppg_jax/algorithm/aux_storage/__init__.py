"""How the auxiliary phase's data is kept: in full, packed, or as what can be played again.

``aux_phase`` talks to ``AuxStorage`` only. The numbers of a run are the same with each.
"""

from ppg_jax.algorithm.aux_storage.choice import (
    AuxStorage,
    check_replays,
    difference_of_replay,
    make_storage,
)
from ppg_jax.algorithm.aux_storage.packing import UNPACKED, Packing, find_packing

__all__ = [
    "UNPACKED",
    "AuxStorage",
    "Packing",
    "check_replays",
    "difference_of_replay",
    "find_packing",
    "make_storage",
]
