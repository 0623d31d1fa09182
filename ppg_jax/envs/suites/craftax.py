"""Craftax and Craftax-Classic, with symbolic observations or pixels.

``env_params`` are the fields of Craftax's ``EnvParams``, and ``env_kwargs`` those of its
``StaticEnvParams`` (sizes of the world and numbers of creatures).
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Box, Dict
from ppg_jax.envs.suite import (
    NO_LIMIT,
    TIME_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_names,
    take_time_limit,
)

IDS = [
    "Craftax-Classic-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Symbolic-v1",
]
OWN_LIMIT = "max_timesteps"
"""Craftax's own name of the time limit."""
NOT_NUMBERS = ("fractal_noise_angles",)
"""Fields of ``EnvParams`` that are arrays for the noise of the world."""
FRAME_TILE = 16
"""Size of a tile in pictures, in pixels."""


def make(
    env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> "CraftaxEnvironment":
    """An environment of Craftax.

    Raises:
      ConfigError: a name or a value is invalid.
    """
    name = f"craftax/{env_id}"
    classic, kind = "Classic" in env_id, "Symbolic" if "Symbolic" in env_id else "Pixels"
    package = "craftax.craftax_classic" if classic else "craftax.craftax"
    module = importlib.import_module(f"{package}.envs.craftax_{kind.lower()}_env")
    cls = getattr(module, f"Craftax{'Classic' if classic else ''}{kind}EnvNoAutoReset")
    static = _changed(module.StaticEnvParams(), "env_kwargs", env_kwargs, name)
    usual = module.EnvParams()
    given = {TIME_LIMIT if key == OWN_LIMIT else key: x for key, x in env_params.items()}
    limit, rest = take_time_limit(given, usual.max_timesteps)
    check_names("env_params", env_params, [*_fields(usual), TIME_LIMIT], name)
    params = _changed(usual, "env_params", rest, name)
    renderer = importlib.import_module(f"{package}.renderer")
    with _one_size(renderer):
        env = cls(static)
    return CraftaxEnvironment(env, params, name, limit, module.Achievement, renderer)


def _fields(record: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(record) if f.name not in NOT_NUMBERS]


def _changed(record: Any, section: str, changes: Mapping[str, Any], name: str) -> Any:
    """A record of Craftax with changed fields.

    Raises:
      ConfigError: a field is unknown, or a value is of another kind than its default.
    """
    check_names(section, changes, _fields(record), name)
    for key, value in changes.items():
        usual = getattr(record, key)
        wanted = f"{len(usual)} numbers" if isinstance(usual, tuple) else "a number"
        numbers = value if isinstance(value, tuple | list) else (value,)
        plain = all(isinstance(x, int | float) for x in numbers)
        if not plain or np.shape(value) != np.shape(usual):
            raise ConfigError(f"{section}.{key}: {value!r} is invalid; it should be {wanted}")
    made = {key: tuple(x) if isinstance(x, list) else x for key, x in changes.items()}
    return record.replace(**made) if hasattr(record, "replace") else type(record)(**made)


class _Sizes(dict[int, Any]):
    """Textures by size of a tile, each loaded when it is asked for."""

    def __init__(self, load: Callable[[int], Any]) -> None:
        super().__init__()
        self._load = load

    def __missing__(self, size: int) -> Any:
        return self._load(size)


@contextmanager
def _one_size(renderer: Any) -> Iterator[None]:
    """Lets Craftax load only the textures that are used.

    By itself it loads those of three sizes, prints so, and writes them beside its package: minutes
    at the first time. One size takes 2 to 3 seconds.
    """
    usual = renderer.load_all_textures
    renderer.load_all_textures = lambda: _Sizes(renderer.load_all_textures_given_size)
    try:
        yield
    finally:
        renderer.load_all_textures = usual


class CraftaxEnvironment(SuiteEnvironment):
    """An environment of Craftax.

    Symbolic observations have two parts, which in this order are Craftax's own vector: ``map``,
    flags ``[height, width, channels]`` of what is on each tile in view, and ``numbers``, float32
    ``[n]`` of the inventory and the player.

    Attributes:
      env: Craftax's environment.
      params: its parameters, without time limit.
    """

    def __init__(
        self, env: Any, params: Any, name: str, limit: int | None, achievement: Any, renderer: Any
    ) -> None:
        # Craftax reports its time limit as termination. The adapter truncates instead.
        self.env, self.params = env, params.replace(**{OWN_LIMIT: NO_LIMIT})
        self.name, self.max_episode_steps = name, limit
        self.action_space = env.action_space(params)
        self._achievements = {a.name.lower(): a.value for a in achievement}
        self._renderer = renderer
        self._draw: Any = None
        self._map: tuple[int, ...] | None = None
        space = env.observation_space(params)
        self.observation_space: Any = Box(0.0, 1.0, space.shape)
        if "Symbolic" in name:
            module = importlib.import_module(type(env).__module__)
            self._map = tuple(module.get_map_obs_shape())
            rest = (module.get_inventory_obs_shape(),)
            self.observation_space = Dict(
                {"map": Box(0, 1, self._map, jnp.bool_), "numbers": Box(-np.inf, np.inf, rest)}
            )

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        obs, state = self.env.reset_env(key, self.params)
        return self._split(obs), state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. If the episode ended, nothing is reset."""
        obs, state, reward, done, _ = self.env.step_env(key, state, action, self.params)
        return SuiteStep(self._split(obs), state, reward, done)

    def _split(self, obs: chex.Array) -> Any:
        if self._map is None:
            return obs
        size = int(np.prod(self._map))
        return {"map": obs[:size].reshape(self._map) != 0, "numbers": obs[size:]}

    def measures(self, state: Any) -> dict[str, chex.Array]:
        """Which achievements an episode has reached so far, by name, bool."""
        return {name: state.achievements[i] != 0 for name, i in self._achievements.items()}

    def check_drawable(self) -> None:
        """Craftax can draw all its environments."""

    def frame(self, state: Any) -> np.ndarray:
        """A picture of a state, uint8 ``[height, width, 3]``, with 16 pixels for a tile."""
        if self._draw is None:
            with _one_size(self._renderer):
                draw = self._renderer.make_craftax_pixel_renderer(FRAME_TILE)
            self._draw = jax.jit(draw)  # pictures are drawn outside of all programs
        return np.clip(np.round(np.asarray(self._draw(state))), 0, 255).astype(np.uint8)


SUITE = Suite("craftax", "craftax", make, lambda: list(IDS), "ppg-jax[craftax]")
