"""What a launch is for, by its name and by the Python that it is from."""

import re
from collections.abc import Iterable

from aot.hlo import Frame, Hlo
from aot.loops import Launch

PURPOSES = (
    "environment", "network", "backward", "optimizer", "norms", "stores", "copies", "exchanges",
    "other",
)  # fmt: skip
"""``network`` is forward passes, action distributions and losses; ``copies`` include padding;
``stores`` write a step's outputs; ``exchanges`` are between devices; ``other`` is mostly the
gathering of minibatches and counters."""

_COPIED = re.compile(r"(^|_)(wrapped_copy|copy|pad|wrapped_transpose|slice)(_fusion)?(\.\d+)?$")
_EXCHANGED = re.compile(r"all[-_]?reduce|all[-_]?gather|collective", re.IGNORECASE)
_STORED = re.compile(r"dynamic[_-]update[_-]slice")
_COPIES = ("kCopy", "copy", "copy-start", "slice-start", "pad", "transpose")
_NORMS = (
    "norms",
    "_sum_in_two_steps",
    "_sum_of_squares",
    "global_norm",
    "tree_norm",
    "tree_sum",
    "clip_by_global_norm",
)
_OPTIMIZER = ("/optax/", "/algorithm/optimizer.py")
_ENVIRONMENT = (
    "/ppg_jax/envs/", "/gymnax/", "/brax/", "/craftax/", "/jumanji/", "/navix/", "/pgx/",
    "/mujoco/", "/mujoco_playground/", "/xminigrid/",
)  # fmt: skip
_NETWORK = (
    "/ppg_jax/networks/", "/ppg_jax/kernels/", "/functional/distributions.py",
    "/functional/categories.py", "/functional/losses.py", "/rejax/networks.py", "/distrax/",
    "/flax/",
)  # fmt: skip


def purpose(hlo: Hlo, launch: Launch) -> str:
    """One of ``PURPOSES``."""
    op_name = launch.instruction.op_name if launch.instruction else ""
    stack = hlo.stack(launch.instruction)
    if _EXCHANGED.search(f"{launch.kind} {launch.name}"):
        return "exchanges"
    if _STORED.search(launch.name) or op_name.endswith("dynamic_update_slice"):
        return "stores"
    if launch.kind in _COPIES or _COPIED.search(launch.name):
        return "copies"
    if any(frame.function in _NORMS for frame in stack):
        return "norms"
    if _from(stack, _OPTIMIZER):
        return "optimizer"
    if "transpose(" in op_name and "jvp(" in op_name:
        return "backward"
    if _from(stack, _ENVIRONMENT):
        return "environment"
    if "jvp(" in op_name or _from(stack, _NETWORK):
        return "network"
    return "other"


def _from(stack: Iterable[Frame], places: Iterable[str]) -> bool:
    """Whether a call of the stack is in one of these files or folders."""
    return any(place in frame.file for frame in stack for place in places)
