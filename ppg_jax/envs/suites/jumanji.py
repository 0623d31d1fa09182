"""Jumanji (Bonnet et al. 2024, arXiv:2306.09884): combinatorial problems and games.

Most environments say which actions are legal. Actions of several numbers are of two kinds. If every
number has a mask of its own (one for each agent), the action is multi-discrete. If the mask is over
all combinations, the action is a single number that stands for a combination.
"""

import dataclasses
import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Box, Dict, Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    TIME_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_names,
    take_time_limit,
)

REFUSED = {"Sokoban-v0": "it downloads its levels"}
CATEGORIES: dict[str, dict[str, tuple[int, int] | None]] = {
    "CVRP": {"position": None, "trajectory": (0, 20)},
    "Cleaner": {"grid": None},
    "Connector": {"grid": (0, 30)},  # three numbers for each of ten agents
    "Game2048": {"board": (0, 17)},  # exponents; the largest tile of a 4x4 board is 2^17
    "GraphColoring": {"colors": None, "current_node_index": None},
    "JobShop": {"ops_machine_ids": None, "machines_job_ids": None},
    "MMST": {"node_types": None, "positions": None},
    "Minesweeper": {"board": None},
    "RubiksCube": {"cube": None},
    "SlidingTilePuzzle": {"puzzle": None},
    "Sudoku": {"board": (-1, 8)},
    "TSP": {"position": None, "trajectory": None},
}
"""Entries of observations whose numbers name things, with smallest and largest value (None: as the
suite's specification says)."""
MASK = "action_mask"
FRAME_INCHES = 4.0
"""Side of a picture, at 100 dots an inch."""


class Jumanji(SuiteEnvironment):
    """An environment of Jumanji.

    Rewards of several agents are added up. The time limit, which most environments report as the
    end of the problem, is switched off: the adapter truncates instead.
    """

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        self.name = env_id
        self._env, self.max_episode_steps = _make(env_id, env_params, env_kwargs)
        with quiet():
            first = jax.eval_shape(self._env.reset, jax.random.key(0))[1]
        parts = _as_dict(first.observation)
        mask = parts.pop(MASK, None)
        self.mask_key = None if mask is None else MASK
        spec = self._env.observation_spec
        self._flags = _flags(parts, spec)
        categories = CATEGORIES.get(type(self._env).__name__, {})
        self._boards = [name for name in categories if len(parts[name].shape) == 2]
        bounds = {name: x or _bounds(spec[name]) for name, x in categories.items()}
        shapes = jax.eval_shape(self._prepared, parts)  # it sorts names; the suite's order stays
        ordered = {n: x if isinstance(x, Mapping) else shapes[n] for n, x in parts.items()}
        self.observation_space = _space(ordered, bounds)
        self.action_space, self._joint = _actions(self._env.action_spec, mask)

    def _prepared(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """Flags as bool; boards of categories with an axis for their only channel."""
        flags = {name: obs[name] != 0 for name in self._flags}
        return {**obs, **flags, **{name: obs[name][..., None] for name in self._boards}}

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        with quiet():
            state, first = self._env.reset(key)
        return self._prepared(_as_dict(first.observation)), state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. All randomness is in the state."""
        if self._joint:
            action = jnp.stack(jnp.unravel_index(action, self._joint)).astype(jnp.int32)
        with quiet():
            state, after = self._env.step(state, action)
        over = jnp.all(after.discount == 0)
        obs, reward = self._prepared(_as_dict(after.observation)), jnp.sum(after.reward)
        return SuiteStep(obs, state, reward, after.last() & over, after.last() & ~over)

    def check_drawable(self) -> None:
        """Checks that the suite can draw the environment.

        Raises:
          ConfigError: it cannot.
        """
        if type(self._env).__name__ == "MMST":
            raise ConfigError(f"env: {self.name} cannot be drawn; the suite's pictures are empty")

    def frame(self, state: Any) -> np.ndarray:
        """A picture of a state, uint8 ``[height, width, 3]``, drawn with matplotlib."""
        from matplotlib import pyplot, rc_context

        pictures: list[np.ndarray] = []
        others = pyplot.get_fignums()
        with rc_context(), pyplot.ioff():
            viewer = _viewer(self._env)
            viewer._display = lambda figure: pictures.append(viewer._display_rgb_array(figure))
            viewer.figure_size = (FRAME_INCHES, FRAME_INCHES)
            on_device = type(self._env).__name__ in ("Maze", "PacMan")  # they draw with JAX
            self._env.render(state if on_device else jax.tree.map(_on_host, state))
        for figure in set(pyplot.get_fignums()) - set(others):
            pyplot.close(figure)
        return pictures[-1][..., :3]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps away a warning that BinPack gives when it is traced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scatter inputs have incompatible", FutureWarning)
        yield


def _make(
    env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> tuple[Any, int | None]:
    """The suite's environment without its time limit, and the limit."""
    import jumanji

    usual = jumanji.make(env_id)
    names = _plain_arguments(type(usual))
    check_names("env_kwargs", env_kwargs, names, env_id)
    limit = env_kwargs.get("time_limit", getattr(usual, "time_limit", None))
    limit, rest = take_time_limit(env_params, limit)
    check_names("env_params", rest, (TIME_LIMIT,), env_id)
    if "time_limit" in names and limit is not None:
        env_kwargs = {**env_kwargs, "time_limit": limit}  # some make room for as many steps
    try:
        env = jumanji.make(env_id, **env_kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"env_kwargs: {dict(env_kwargs)} is invalid for {env_id}: {error}"
        ) from None
    if hasattr(env, "time_limit"):
        _switch_off_limit(env)
    return env, limit


def _plain_arguments(kind: type) -> list[str]:
    """Names of a constructor's arguments that are numbers. Others are objects, as generators."""
    numbers = (int, float, bool)
    optional = tuple(n | None for n in numbers)
    arguments = inspect.signature(kind).parameters.values()
    return [x.name for x in arguments if x.annotation in numbers + optional]


def _switch_off_limit(env: Any) -> None:
    if type(env).__name__ == "SearchAndRescue":  # there rewards fall towards the limit
        usual, limit = env._reward_fn, env.time_limit
        env._reward_fn = lambda found, step, time_limit: usual(found, step, limit)
    env.time_limit = NO_LIMIT


def _viewer(env: Any) -> Any:
    names = ("_viewer", "_env_viewer", "viewer")
    return next(getattr(env, name) for name in names if hasattr(env, name))


def _on_host(x: chex.Array) -> Any:
    """An array of numpy, which is read much faster number by number. Random keys stay."""
    return x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)


def _as_dict(obs: Any) -> dict[str, Any]:
    """A record and the records in it as dicts."""
    if dataclasses.is_dataclass(obs):
        fields = {f.name: getattr(obs, f.name) for f in dataclasses.fields(obs)}
    elif hasattr(obs, "_asdict"):
        fields = obs._asdict()
    else:
        return {"observation": obs}
    records = [n for n, x in fields.items() if dataclasses.is_dataclass(x) or hasattr(x, "_asdict")]
    return {name: _as_dict(x) if name in records else x for name, x in fields.items()}


def _bounds(spec: Any) -> tuple[int, int]:
    """Smallest and largest value of an array of whole numbers."""
    return int(np.min(spec.minimum)), int(np.max(spec.maximum))


def _flags(parts: Mapping[str, Any], spec: Any) -> list[str]:
    """Names of the arrays of whole numbers that are only 0 or 1."""
    arrays = {name: x for name, x in parts.items() if not isinstance(x, Mapping)}
    whole = [name for name, x in arrays.items() if jnp.issubdtype(x.dtype, jnp.integer)]
    return [n for n in whole if hasattr(spec[n], "minimum") and _bounds(spec[n]) == (0, 1)]


def _space(parts: Mapping[str, Any], categories: Mapping[str, tuple[int, int]]) -> Any:
    """The space of a dict of arrays. What is neither flag nor category has no bounds."""
    spaces: dict[str, Any] = {}
    for name, x in parts.items():
        if isinstance(x, Mapping):
            spaces[name] = _space(x, {})
        elif name in categories:
            low, high = categories[name]
            spaces[name] = MultiDiscrete(np.full(x.shape, high - low + 1), x.dtype, low)
        elif x.dtype == jnp.bool_:
            spaces[name] = Box(0, 1, x.shape, jnp.bool_)
        else:
            spaces[name] = Box(-np.inf, np.inf, x.shape, x.dtype)
    return Dict(spaces)


def _actions(spec: Any, mask: Any) -> tuple[Any, tuple[int, ...]]:
    """The action space, and the sizes of an action that stands for a combination (or ())."""
    if hasattr(spec, "num_values"):
        sizes = tuple(int(n) for n in np.ravel(spec.num_values))
        if not np.shape(spec.num_values):
            return Discrete(sizes[0]), ()
        if mask is not None and mask.shape == sizes:
            return Discrete(math.prod(sizes)), sizes
        return MultiDiscrete(sizes), ()
    if jnp.issubdtype(spec.dtype, jnp.integer):  # a number for each of several vehicles
        return MultiDiscrete(np.full(spec.shape, mask.shape[-1]), spec.dtype), ()
    return Box(spec.minimum, spec.maximum, spec.shape, spec.dtype), ()


def ids() -> list[str]:
    """All registered ids, without those that download."""
    import jumanji

    return sorted(set(jumanji.registered_environments()) - set(REFUSED))


SUITE = Suite("jumanji", "jumanji", Jumanji, ids, "ppg-jax[jumanji]", lambda: REFUSED)
