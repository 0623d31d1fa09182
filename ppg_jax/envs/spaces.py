"""Reads action and observation spaces by their attributes, from gymnax, gymnasium and others.

Discrete has ``n`` (and ``start``), MultiBinary ``n`` and a shape, MultiDiscrete ``nvec`` (and
``start``), Box ``low`` and ``high``, Tuple and Dict ``spaces``. All other spaces are rejected.
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
from ppg_jax.functional import MultiCategorical
from ppg_jax.types import ActionSpec, legal_actions

ToEnv = Callable[[chex.Array], Any]


class Box:
    """Arrays of numbers between bounds.

    Args:
      low: lower bound, a number or an array of ``shape``.
      high: upper bound, likewise.
      shape: shape of the array.
      dtype: its dtype.
    """

    def __init__(self, low: Any, high: Any, shape: tuple[int, ...], dtype: Any = jnp.float32):
        self.low, self.high, self.shape, self.dtype = low, high, tuple(shape), dtype


class Discrete:
    """A whole number from ``start`` to ``start + n - 1``."""

    def __init__(self, n: int, start: int = 0) -> None:
        self.n, self.start, self.shape, self.dtype = int(n), int(start), (), jnp.int32


class Dict:
    """Several spaces by name. Values are mappings, or records with fields of these names."""

    def __init__(self, spaces: Mapping[str, Any]) -> None:
        self.spaces = dict(spaces)


class MultiDiscrete:
    """K independent discrete choices, or an array of category numbers.

    gymnax has no such space.

    Args:
      nvec: number of categories of each choice, ``[K]``; for arrays of category numbers, such as a
        grid of tiles, of any shape.
      dtype: dtype of the values.
      start: smallest value.
    """

    def __init__(self, nvec: Any, dtype: Any = jnp.int32, start: int = 0) -> None:
        numbers = np.asarray(nvec)
        self.nvec = tuple(int(n) for n in numbers) if numbers.ndim == 1 else numbers
        self.shape = numbers.shape
        self.dtype = dtype
        self.start = start

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """A uniformly random action, int32 ``[K]``."""
        end = self.start + jnp.array(self.nvec)
        return jax.random.randint(key, self.shape, self.start, end, self.dtype)

    def contains(self, x: chex.Array) -> chex.Array:
        """Whether every component of ``x [K]`` is a valid category; bool scalar."""
        return jnp.all((x >= self.start) & (x < self.start + jnp.array(self.nvec)))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A space whose values are single arrays.

    Attributes:
      kind: ``discrete`` (whole numbers that count from ``start``) or ``continuous``.
      shape: shape of the array.
      dtype: dtype of the array in JAX.
      sizes: number of values of each component of the flattened array; () if continuous.
      start: smallest value of each component, int64 ``[*shape]``.
      low: lower bounds if continuous, float64 ``[*shape]``.
      high: upper bounds if continuous, float64 ``[*shape]``.
      as_categories: True if the numbers name categories rather than amounts. False for
        MultiBinary.
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
    """Converts a space to ``Numbers``, or to nested dicts and tuples of them.

    Returns:
      The converted space; None if the space or one of its parts is not supported.
    """
    if any(kind.__name__ == "OneOf" for kind in type(space).__mro__):
        return None  # looks like a Tuple, but a value is from only one of its spaces
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
        limits = jnp.iinfo(dtype)  # JAX's dtype: it reduces 64 bits to 32
        largest = start.astype(np.int64) + (sizes - 1)
        if np.min(start) < limits.min or np.max(largest) > limits.max:
            return None
    flat = tuple(int(n) for n in sizes.ravel())
    return Numbers("discrete", shape, dtype, flat, start, as_categories=as_categories)


def parts_of(tree: Any) -> Iterator[Numbers]:
    """Yields every ``Numbers`` in a result of ``read_space``, in order."""
    if isinstance(tree, Numbers):
        yield tree
    else:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from parts_of(part)


def read_action_space(
    space: Any, env_name: str, *, scale: bool = False, squash: bool = False
) -> tuple[ActionSpec, ToEnv]:
    """The spec of the policy's actions, and the function that converts them for the environment.

    A Tuple or Dict of discrete spaces becomes one multi-discrete action. The environment still gets
    the structure of its own space.

    Continuous actions are scaled and clipped only for the environment. Stored actions and their
    log-probabilities are those that the policy sampled. (The density of a scaled action differs by
    a constant factor, which cancels in ratios, KL and gradients.)

    Args:
      space: action space of the environment.
      env_name: name of the environment, for messages.
      scale: scale the policy's -1 to 1 to the full range of each bounded dimension (see
        ``_into_box``). Otherwise actions are only clipped.
      squash: pass continuous actions through tanh first.

    Raises:
      ConfigError: the space is not supported, or actions cannot be squashed.
    """
    tree = read_space(space)
    parts = [] if tree is None else list(parts_of(tree))
    kinds = {part.kind for part in parts}
    floats = all(jnp.issubdtype(p.dtype, jnp.floating) for p in parts if p.kind == "continuous")
    in_order = all(np.all(part.low <= part.high) for part in parts)  # also false for NaN
    size = sum(math.prod(part.shape) for part in parts)
    alone = isinstance(tree, Numbers) or kinds == {"discrete"}
    if len(kinds) != 1 or not (floats and in_order and size and alone):
        raise ConfigError(
            f"env: {env_name} has the action space {space!r}, which is not supported; use "
            "Discrete, MultiDiscrete, MultiBinary, Tuples and Dicts of these, or one Box of floats"
        )
    if isinstance(tree, Numbers) and tree.kind == "discrete" and not tree.shape:
        return ActionSpec("discrete", tree.sizes), _hand_over(tree, scale)
    if kinds == {"discrete"}:
        sizes = tuple(n for part in parts for n in part.sizes)
        return ActionSpec("multi_discrete", sizes), _hand_over(tree, scale)
    to_env = _hand_over(tree, scale)
    if not squash:
        return ActionSpec("continuous", (size,)), to_env
    if not all(np.isfinite(part.high - part.low).all() for part in parts):
        raise ConfigError(
            f"policy_distribution: tanh cannot be used with {env_name}, whose actions have no "
            "bounds; use gaussian"
        )
    return ActionSpec("continuous", (size,), squashed=True), lambda u: to_env(jnp.tanh(u))


def _hand_over(tree: Any, scale: bool) -> ToEnv:
    """The function that converts a flat policy action to the structure of a space."""
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
    """The function that converts an action to the bounds of a Box.

    With ``scale``, -1 to 1 covers the full range of each dimension with two bounds, and 0 is its
    middle. Other dimensions are not scaled. If 0 is outside the bounds of such a dimension, its
    actions are shifted to the nearest bound: at first the policy's actions are around 0, and if
    all were clipped to the bound, the policy could learn nothing from them.
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


def random_action(spec: ActionSpec, key: chex.PRNGKey, obs: Any = None) -> chex.Array:
    """A random action in the policy's form: uniform if discrete, standard normal if continuous.

    Args:
      spec: the actions.
      key: random key.
      obs: observation for which the action is drawn; if it says which actions are legal, only those
        are drawn. None: any action.
    """
    if spec.kind == "continuous":
        return jax.random.normal(key, spec.sizes)
    if spec.masked and obs is not None:
        legal = legal_actions(spec, obs)
        any_legal = MultiCategorical.from_logits(jnp.zeros(sum(spec.sizes)), spec.sizes, legal)
        action = any_legal.sample(key)
    else:
        sizes = jnp.array(spec.sizes)
        action = jax.random.randint(key, (len(spec.sizes),), 0, sizes, jnp.int32)
    return action[0] if spec.kind == "discrete" else action
