"""Procgen (Cobbe et al. 2020, arXiv:1912.01588) as part of EnvPool.

``env_params`` are Procgen's options, among them ``num_levels`` and ``start_level``, and
``distribution_mode`` instead of the one in the id. ``env_kwargs`` has ``num_threads``: threads that
step one batch; 0: as many as cores.

The games are written in C++ and run outside of the program (``envs.outside``). A step after the end
of an episode would only reset it. Here the reset follows the end at once, so no such step is seen.
"""

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppg_jax.config import ConfigError, reason
from ppg_jax.envs.outside import OutsideBatch, OutsideStep
from ppg_jax.envs.spaces import Box, Discrete
from ppg_jax.envs.suite import TIME_LIMIT, Suite, check_names, take_time_limit

GAMES = (
    "Bigfish", "Bossfight", "Caveflyer", "Chaser", "Climber", "Coinrun", "Dodgeball", "Fruitbot",
    "Heist", "Jumper", "Leaper", "Maze", "Miner", "Ninja", "Plunder", "Starpilot",
)  # fmt: skip
MODES = ("easy", "hard", "extreme", "memory", "exploration")
FLAGS = (
    "center_agent", "paint_vel_info", "restrict_themes", "use_backgrounds", "use_easy_jump",
    "use_generated_assets", "use_monochrome_assets", "use_sequential_levels",
)  # fmt: skip
LEVELS = ("num_levels", "start_level")
MOST_LEVELS = 2**31 - 1
INSTALL = "ppg-jax[procgen]"
PICTURE_SCALE = 6


def _library() -> Any:
    """EnvPool, after Qt 5 of PyQt5-Qt5. Without it EnvPool looks for Qt 5 of the system."""
    qt = importlib.util.find_spec("PyQt5")
    for folder in (qt.submodule_search_locations or []) if qt is not None else []:
        for part in ("Core", "Gui"):
            try:
                # Global, because EnvPool's own library looks for these symbols when it is loaded.
                ctypes.CDLL(f"{folder}/Qt5/lib/libQt5{part}.so.5", mode=ctypes.RTLD_GLOBAL)
            except OSError:
                break
    return importlib.import_module("envpool")


def _own_limit(env_id: str) -> int:
    """The time limit of a game in steps.

    Raises:
      ConfigError: there is no Qt 5, which EnvPool looks for when it makes a game.
    """
    try:
        limit: int = _library().make_spec(env_id).config.max_episode_steps
    except ImportError as error:
        raise ConfigError(
            f"env: procgen/{env_id} needs Qt 5 ({reason(error, 100)}); pip install '{INSTALL}'"
        ) from None
    return limit


def ids() -> list[str]:
    """Ids of all games of Procgen in EnvPool."""
    known = re.compile(rf"({'|'.join(GAMES)})({'|'.join(m.title() for m in MODES)})-v0")
    return sorted(name for name in _library().list_all_envs() if known.fullmatch(name))


def make(env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> "Procgen":
    """Batches of a game.

    Raises:
      ConfigError: a name or a value is invalid.
    """
    name = f"procgen/{env_id}"
    check_names("env_params", env_params, [*LEVELS, *FLAGS, "distribution_mode", TIME_LIMIT], name)
    check_names("env_kwargs", env_kwargs, ["num_threads"], name)
    if "distribution_mode" in env_params:
        env_id = _in_mode(env_id, env_params["distribution_mode"])
    usual = _own_limit(env_id)
    limit, rest = take_time_limit(env_params, usual)
    if limit is None or limit > usual:
        raise ConfigError(
            f"env_params.{TIME_LIMIT}: {env_params[TIME_LIMIT]!r} is invalid; the game itself ends "
            f"after {usual} steps, so it should be at most that"
        )
    options = {key: x for key, x in rest.items() if key != "distribution_mode"}
    for key, value in options.items():
        _check_option(key, value)
    threads = env_kwargs.get("num_threads", 0)
    if not _is_whole(threads, 0, 4096):
        raise ConfigError(
            f"env_kwargs.num_threads: {threads!r} is invalid; it should be a whole number, 0 for "
            "as many as cores"
        )
    return Procgen(env_id, options | {"num_threads": threads}, limit)


def _in_mode(env_id: str, mode: Any) -> str:
    """The id of the same game in another mode."""
    game = next(g for g in GAMES if env_id.startswith(g))
    known = [m for m in MODES if f"{game}{m.title()}-v0" in ids()]
    if mode not in known:
        raise ConfigError(
            f"env_params.distribution_mode: {mode!r} is invalid; {game} has {', '.join(known)}"
        )
    return f"{game}{mode.title()}-v0"


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_option(key: str, value: Any) -> None:
    if key in FLAGS and not isinstance(value, bool):
        raise ConfigError(f"env_params.{key}: {value!r} is invalid; it should be true or false")
    if key in LEVELS and not _is_whole(value, 0, MOST_LEVELS):
        raise ConfigError(
            f"env_params.{key}: {value!r} is invalid; it should be a whole number of at least 0"
        )


class Procgen(OutsideBatch):
    """Batches of a game.

    Args:
      env_id: id of EnvPool.
      options: options of EnvPool.
      limit: time limit in steps.

    Raises:
      ConfigError: the game does not work with these options.
    """

    obs_shape, obs_dtype = (64, 64, 3), np.uint8
    observation_space, action_space = Box(0, 255, obs_shape, np.uint8), Discrete(15)

    def __init__(self, env_id: str, options: dict[str, Any], limit: int) -> None:
        self.name = f"procgen/{env_id}"
        self.max_episode_steps = limit
        self._id, self._options, self._limit = env_id, options, limit
        if options.get("start_level") and not options.get("num_levels"):
            raise ConfigError(
                f"env_params.start_level: {options['start_level']} is invalid, because num_levels "
                "is 0, which means all levels; set num_levels too"
            )
        if "Exploration" in env_id and options.get("num_levels"):
            raise ConfigError(
                f"env_params.num_levels: {options['num_levels']} is invalid; {self.name} has a "
                "single level"
            )

    def with_levels(self, num_levels: int, first_level: int) -> "Procgen":
        """The same game, restricted to some levels, whatever ``env_params`` says of levels.

        Raises:
          ConfigError: the game has only one level.
        """
        if "Exploration" in self._id:
            raise ConfigError(
                f"num_levels: {num_levels} is invalid; {self.name} has a single level"
            )
        levels = {"num_levels": num_levels, "start_level": first_level}
        return Procgen(self._id, self._options | levels, self._limit)

    def open(self, seed: int, num_envs: int) -> "_Games":
        """Makes B games."""
        made = _library().make_gymnasium(
            self._id, num_envs=num_envs, seed=seed, channel_first=False, **self._options
        )
        return _Games(made, self._limit)

    def frame(self, state: Any) -> np.ndarray:
        """An observation, enlarged to 384 x 384 pixels."""
        return np.kron(np.asarray(state), np.ones((PICTURE_SCALE, PICTURE_SCALE, 1), np.uint8))


class _Games:
    """Running games, as ``envs.outside.OutsideEnvs``."""

    def __init__(self, pool: Any, limit: int) -> None:
        self.pool, self._limit = pool, limit

    def reset(self) -> np.ndarray:
        obs: np.ndarray = self.pool.reset()[0]
        return obs

    def step(self, actions: np.ndarray) -> OutsideStep:
        obs, reward, terminated, truncated, info = self.pool.step(actions)
        truncated = truncated | (info["elapsed_step"] >= self._limit) & ~terminated
        ended = np.flatnonzero(terminated | truncated).astype(np.int32)
        next_obs = obs
        if ended.size:
            first, info = self.pool.reset(ended)
            next_obs = obs.copy()
            next_obs[info["env_id"]] = first
        return OutsideStep(obs, reward, terminated, truncated, next_obs)

    def close(self) -> None:
        self.pool.close()
        self.pool = None  # its threads end only when nothing refers to it


SUITE = Suite("procgen", "envpool", make, ids, INSTALL)
