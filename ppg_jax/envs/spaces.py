"""Reading action and observation spaces by their attributes: gymnax's, gymnasium's, look-alikes.

Discrete has ``n`` (and ``start``), MultiBinary ``n`` and a shape, MultiDiscrete ``nvec`` (and
``start``), Box ``low`` and ``high``, Tuple and Dict ``spaces``. A space that is none of these is
refused.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.types import ActionSpec

ToEnv = Callable[[chex.Array], Any]


class MultiDiscrete:
    """K independent choices, for environments of your own: gymnax has no such space.

    Args:
      nvec: number of categories of each choice. Actions are int32 ``[K]``.
    """

    def __init__(self, nvec: tuple[int, ...]) -> None:
        self.nvec = tuple(int(n) for n in np.ravel(nvec))
        self.shape = (len(self.nvec),)
        self.dtype = jnp.int32

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """One uniform action, int32 ``[K]``."""
        return jax.random.randint(key, self.shape, 0, jnp.array(self.nvec), self.dtype)

    def contains(self, x: chex.Array) -> chex.Array:
        """Whether every component of ``x [K]`` is one of its categories; bool scalar."""
        return jnp.all((x >= 0) & (x < jnp.array(self.nvec)))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A space that is one array.

    Attributes:
      kind: ``discrete`` (whole numbers from ``start`` on) or ``continuous``.
      shape: of the array.
      dtype: of the array, as JAX has it.
      sizes: how many values each component of the flattened array has; () where continuous.
      start: the least value of each, an int64 array ``[*shape]``.
      low: bounds of continuous ones, float64 ``[*shape]``.
      high: likewise.
      as_categories: whole numbers that are names rather than amounts: not those of MultiBinary.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: Any
    sizes: tuple[int, ...] = ()
    start: Any = 0
    low: Any = -np.inf
    high: Any = np.inf
    as_categories: bool = False


def read_space(space: Any) -> Numbers | dict[Any, Any] | tuple[Any, ...] | None:
    """A space as ``Numbers``, or a dict or tuple of such, nested; None: it is not understood.

    A composite of which a part is not understood is not understood itself.
    """
    if any(kind.__name__ == "OneOf" for kind in type(space).__mro__):
        return None  # one of its spaces at a time; it looks like a Tuple
    if hasattr(space, "spaces"):
        named = isinstance(space.spaces, Mapping)
        items = list(space.spaces.items()) if named else list(enumerate(space.spaces))
        parts = {name: read_space(part) for name, part in items}
        if not parts or any(part is None for part in parts.values()):
            return None
        return parts if named else tuple(parts.values())
    return _read_numbers(space)


def _read_numbers(space: Any) -> Numbers | None:
    usual = jnp.float32 if hasattr(space, "low") else jnp.int32
    dtype = jax.dtypes.canonicalize_dtype(getattr(space, "dtype", None) or usual)
    if hasattr(space, "nvec"):
        nvec = np.asarray(space.nvec)
        start = np.broadcast_to(np.asarray(getattr(space, "start", 0)), nvec.shape)
        return _whole(nvec.shape, dtype, nvec, start, as_categories=True)
    if hasattr(space, "n"):
        shape = tuple(getattr(space, "shape", None) or ())
        if shape:  # MultiBinary
            return _whole(shape, dtype, np.full(shape, 2), np.zeros(shape, int))
        start = np.asarray(getattr(space, "start", 0))
        return _whole((), dtype, np.asarray(space.n), start, as_categories=True)
    if hasattr(space, "low") and hasattr(space, "high"):
        shape = tuple(space.shape)
        low, high = (
            np.broadcast_to(np.asarray(x, np.float64), shape) for x in (space.low, space.high)
        )
        return Numbers("continuous", shape, dtype, low=low, high=high)
    return None


def _whole(
    shape: tuple[int, ...], dtype: Any, sizes: Any, start: Any, *, as_categories: bool = False
) -> Numbers | None:
    if np.any(sizes < 1) or not all(np.issubdtype(x.dtype, np.integer) for x in (sizes, start)):
        return None
    if sizes.size and jnp.issubdtype(dtype, jnp.integer):
        held = jnp.iinfo(dtype)  # as JAX has it: of 64 bits 32 are left
        largest = start.astype(np.int64) + (sizes - 1)
        if np.min(start) < held.min or np.max(largest) > held.max:
            return None
    flat = tuple(int(n) for n in sizes.ravel())
    return Numbers("discrete", shape, dtype, flat, start, as_categories=as_categories)


def parts_of(tree: Any) -> Iterator[Numbers]:
    """Every ``Numbers`` of what ``read_space`` gave, in order."""
    if isinstance(tree, Numbers):
        yield tree
    else:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from parts_of(part)


def read_action_space(
    space: Any, env_name: str, *, scale: bool = False
) -> tuple[ActionSpec, ToEnv]:
    """The policy's view of an action space, and how its actions are handed to the environment.

    A Tuple or Dict of discrete spaces is one multi-discrete action; the environment is handed the
    space's own structure.

    Continuous actions are brought into the space there; the policy keeps what it sampled, and its
    log-probabilities are of that. (The density of a scaled action differs by a constant factor,
    which no ratio, KL or gradient sees.)

    Args:
      space: of the environment.
      env_name: for messages.
      scale: a policy's -1 to 1 is the whole of a bounded dimension (see ``_into_box``); otherwise
        actions are only clipped.

    Raises:
      ConfigError: a space no policy here can act in.
    """
    tree = read_space(space)
    parts = [] if tree is None else list(parts_of(tree))
    kinds = {part.kind for part in parts}
    floats = all(jnp.issubdtype(p.dtype, jnp.floating) for p in parts if p.kind == "continuous")
    in_order = all(np.all(part.low <= part.high) for part in parts)  # NaN is in no order
    size = sum(math.prod(part.shape) for part in parts)
    alone = isinstance(tree, Numbers) or kinds == {"discrete"}
    if len(kinds) != 1 or not (floats and in_order and size and alone):
        raise ConfigError(
            f"env: {env_name} has the action space {space!r}; a policy needs Discrete, "
            "MultiDiscrete, MultiBinary, Tuples and Dicts of these, or one Box of floats"
        )
    if isinstance(tree, Numbers) and tree.kind == "discrete" and not tree.shape:
        return ActionSpec("discrete", tree.sizes), _hand_over(tree, scale)
    if kinds == {"discrete"}:
        sizes = tuple(n for part in parts for n in part.sizes)
        return ActionSpec("multi_discrete", sizes), _hand_over(tree, scale)
    return ActionSpec("continuous", (size,)), _hand_over(tree, scale)


def _hand_over(tree: Any, scale: bool) -> ToEnv:
    """What makes of a policy's action, flat, the structure of a space."""
    ends = np.cumsum([math.prod(part.shape) for part in parts_of(tree)])[:-1]
    convert = [
        _into_whole(part) if part.kind == "discrete" else _into_box(part, scale)
        for part in parts_of(tree)
    ]

    def structured(tree: Any, pieces: Iterator[Any]) -> Any:
        if isinstance(tree, Numbers):
            return next(pieces)
        if isinstance(tree, dict):
            return {name: structured(part, pieces) for name, part in tree.items()}
        return tuple(structured(part, pieces) for part in tree)

    def to_env(action: chex.Array) -> Any:
        pieces = jnp.split(action.reshape(-1), ends) if len(ends) else [action]
        return structured(tree, (fn(x) for fn, x in zip(convert, pieces, strict=True)))

    return to_env


def _into_whole(part: Numbers) -> ToEnv:
    def to_env(action: chex.Array) -> chex.Array:
        action = action.reshape(part.shape)
        if np.any(part.start):
            action = action + jnp.asarray(part.start, action.dtype)
        return action.astype(part.dtype)

    return to_env


def _into_box(part: Numbers, scale: bool) -> ToEnv:
    """Into the bounds of a Box.

    With ``scale``, where a dimension is bounded on both sides, -1 to 1 is all of it, and 0 its
    middle. Other dimensions stay as they are, but for a shift where 0 is outside: a policy's
    actions begin around 0, and clipped to a bound all of them would have no gradient.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.float32(part.low), np.float32(part.high)
        bounded = np.isfinite(high - low)
        middle = np.where(bounded, low / 2 + high / 2, np.clip(0, low, high)).astype(np.float32)
        half = np.where(bounded, high / 2 - low / 2, 1).astype(np.float32)

    def to_env(action: chex.Array) -> chex.Array:
        action = action.reshape(part.shape)
        if scale:
            action = jnp.where(bounded, jnp.clip(action, -1.0, 1.0), action) * half + middle
        return jnp.clip(action, low, high).astype(part.dtype)

    return to_env


def random_action(spec: ActionSpec, key: chex.PRNGKey) -> chex.Array:
    """An action as a policy gives it: uniform, or standard normal where actions are continuous."""
    if spec.kind == "continuous":
        return jax.random.normal(key, spec.sizes)
    action = jax.random.randint(key, (len(spec.sizes),), 0, jnp.array(spec.sizes), jnp.int32)
    return action[0] if spec.kind == "discrete" else action
