"""Jumanji (Bonnet et al. 2024, arXiv:2306.09884): combinatorial problems and games.

Most environments say which actions are legal. Actions of several numbers are of two kinds. If every
number has a mask of its own (one for each agent), the action is multi-discrete. If the mask is over
all combinations, the action is a single number that stands for a combination.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.spaces import Box, Dict, Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_id,
    check_names,
    take_time_limit,
)

NEEDS_DOWNLOAD = frozenset({"Sokoban-v0"})
"""Environments that download their levels."""
MASK = "action_mask"


class Jumanji(SuiteEnvironment):
    """An environment of Jumanji.

    Rewards of several agents are added up. The time limit, which the suite reports as the end of
    the problem in some environments, is switched off: the adapter truncates instead.
    """

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import jumanji

        try:
            self._env = jumanji.make(env_id, **env_kwargs)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"env_kwargs: {dict(env_kwargs)} is invalid for {env_id}: {error}"
            ) from None
        self.name = env_id
        usual = getattr(self._env, "time_limit", None)
        self.max_episode_steps, rest = take_time_limit(env_params, usual)
        check_names("env_params", rest, ("max_steps_in_episode",), env_id)
        if usual is not None:
            self._env.time_limit = NO_LIMIT
        first = jax.eval_shape(self._env.reset, jax.random.key(0))[1]
        parts = _as_dict(first.observation)
        mask = parts.pop(MASK, None)
        self.mask_key = None if mask is None else MASK
        self.observation_space = _space(parts)
        self.action_space, self._joint = _actions(self._env.action_spec, mask)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        state, first = self._env.reset(key)
        return _as_dict(first.observation), state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. All randomness is in the state."""
        if self._joint:
            action = jnp.stack(jnp.unravel_index(action, self._joint)).astype(jnp.int32)
        state, after = self._env.step(state, action)
        over = jnp.all(after.discount == 0)
        obs, reward = _as_dict(after.observation), jnp.sum(after.reward)
        return SuiteStep(obs, state, reward, after.last() & over, after.last() & ~over)

    def frame(self, state: Any) -> np.ndarray:
        """A picture of a state, uint8 ``[height, width, 3]``, drawn with matplotlib."""
        from matplotlib import pyplot, rc_context

        with rc_context(), pyplot.ioff():
            viewer = _viewer(self._env)
            viewer._display = viewer._display_rgb_array
            figure_size = 4.0  # inches, at 100 dots each
            viewer.figure_size = (figure_size, figure_size)
            return np.asarray(viewer.render(state))[..., :3]


def _viewer(env: Any) -> Any:
    for name in ("_viewer", "_env_viewer", "viewer"):
        if getattr(env, name, None) is not None:
            return getattr(env, name)
    raise ConfigError(f"env: {type(env).__name__} cannot be drawn; it has no viewer")


def _as_dict(obs: Any) -> dict[str, Any]:
    """A record and the records in it as dicts."""
    if dataclasses.is_dataclass(obs):
        fields = {f.name: getattr(obs, f.name) for f in dataclasses.fields(obs)}
    elif hasattr(obs, "_asdict"):
        fields = obs._asdict()
    else:
        return {"observation": obs}
    nested = [name for name, x in fields.items() if not hasattr(x, "shape")]
    return {name: _as_dict(x) if name in nested else x for name, x in fields.items()}


def _space(parts: Mapping[str, Any]) -> Any:
    """The space of a dict of arrays: flags are bits, everything else numbers without bounds."""
    spaces = {}
    for name, x in parts.items():
        if isinstance(x, Mapping):
            spaces[name] = _space(x)
        elif x.dtype == jnp.bool_:
            spaces[name] = Box(0, 1, x.shape, x.dtype)
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


def make(env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Jumanji:
    """The environment of an id."""
    if env_id in NEEDS_DOWNLOAD:
        raise ConfigError(
            f"env: jumanji/{env_id} is not supported, because it downloads its levels; use another"
        )
    check_id("jumanji", env_id, ids())
    return Jumanji(env_id, env_params, env_kwargs)


def ids() -> list[str]:
    """All registered ids, without those that download."""
    import jumanji

    return sorted(set(jumanji.registered_environments()) - NEEDS_DOWNLOAD)


SUITE = Suite("jumanji", "jumanji", make, ids, "ppg-jax[jumanji]")
