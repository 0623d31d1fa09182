"""Navix (Pignatelli et al. 2024, arXiv:2407.19396): MiniGrid in JAX.

Tasks differ between versions of the suite: with Python 3.11 pip installs 0.7, with 3.12 it installs
4.0. For example, the limit of Empty-8x8 is 100 steps in one and 256 in the other.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.spaces import Box, Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    TIME_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_names,
    take_time_limit,
)

OBSERVATIONS = (
    "symbolic",
    "symbolic_first_person",
    "categorical",
    "categorical_first_person",
    "rgb",
    "rgb_first_person",
)
"""Kinds of observations, for ``env_kwargs.observation``."""
SIZES = (11, 6, 4)
"""Categories of a tile's three numbers: entity, colour, and state or direction.

In version 0.7 a door's state may also be 254; networks read that as zeros.
"""
WALL = -1
"""Number of a wall in categorical observations, where it is the smallest."""
NOT_CHOSEN = ("max_steps", "disable_autoreset", "gamma")
"""Numbers of a Navix environment that are chosen in another way, or not used."""
TRUNCATION, TERMINATION = 1, 2
FRAME_PIXELS = 320
"""About the longer side of a picture. A tile of the suite has only 8 pixels."""


class Navix(SuiteEnvironment):
    """An environment of Navix, by default with the whole grid in symbols, uint8 ``[H, W, 3]``.

    The suite's states have a picture of the empty grid, most of their bytes. It is left out, and
    drawn again from the grid where pictures are needed.
    """

    counts_steps = False

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import navix

        kwargs = dict(env_kwargs)
        kind = kwargs.pop("observation", "symbolic")
        if kind not in OBSERVATIONS:
            raise ConfigError(
                f"env_kwargs.observation: {kind!r} is invalid; "
                f"{did_you_mean(str(kind), OBSERVATIONS)}use one of {', '.join(OBSERVATIONS)}"
            )
        made = navix.make(env_id, observation_fn=getattr(navix.observations, kind))
        _check_fields(made, kwargs, env_id)
        self.name = env_id
        self.max_episode_steps, rest = take_time_limit(env_params, int(made.max_steps))
        check_names("env_params", rest, (TIME_LIMIT,), env_id)
        self._env = made.replace(
            **kwargs,
            max_steps=self.max_episode_steps or NO_LIMIT,
            observation_fn=_drawn(kind) if kind.startswith("rgb") else made.observation_fn,
        )
        self._first = jax.jit(lambda key: _without_picture(self._env.reset(key)))(jax.random.key(0))
        self.action_space = Discrete(len(self._env.action_set))
        self.observation_space = _space(jax.eval_shape(self.reset, jax.random.key(0))[0], kind)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``; the state is ``(navix state, time)``."""
        first = _without_picture(self._env.reset(key))
        return self._env.observation_fn(first.state), (first.state, first.t)

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step, without the suite's reset. All randomness is in the state."""
        inner, time = state
        after = self._env._step(self._first.replace(state=inner, t=time), action)
        ended = after.step_type
        return SuiteStep(
            after.observation,
            (after.state, after.t),
            after.reward,
            ended == TERMINATION,
            ended == TRUNCATION,
        )

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the grid, uint8 ``[height, width, 3]``."""
        picture = np.asarray(_drawn("rgb")(state[0]))
        scale = max(1, FRAME_PIXELS // max(picture.shape))
        return picture.repeat(scale, 0).repeat(scale, 1)


def _check_fields(made: Any, given: Mapping[str, Any], env_id: str) -> None:
    """Checks that ``env_kwargs`` are numbers of the environment, such as ``n_obstacles``."""
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    plain = {
        name: x
        for name, x in fields.items()
        if isinstance(x, int | float | str) and name not in NOT_CHOSEN
    }
    check_names("env_kwargs", given, ("observation", *plain), env_id)
    for name, value in given.items():
        kinds = (int, float) if type(plain[name]) is float else (type(plain[name]),)
        if type(value) not in kinds:
            raise ConfigError(
                f"env_kwargs.{name}: {value!r} is invalid; it should be like {plain[name]!r}"
            )


def _without_picture(timestep: Any) -> Any:
    return timestep.replace(state=timestep.state.replace(cache=None))


def _drawn(kind: str) -> Callable[[Any], chex.Array]:
    """An observation in pixels, for states without the picture of the empty grid."""
    import navix
    from navix.rendering.cache import RenderingCache

    observe = getattr(navix.observations, kind)
    return lambda state: observe(state.replace(cache=RenderingCache.init(state.grid)))


def _space(obs: Any, kind: str) -> Any:
    if kind.startswith("symbolic"):
        return MultiDiscrete(np.broadcast_to(np.array(SIZES), obs.shape), jnp.uint8)
    if kind.startswith("categorical"):
        return MultiDiscrete(np.full(obs.shape, SIZES[0] - WALL), jnp.int32, WALL)
    return Box(0, 255, obs.shape, obs.dtype)


def ids() -> list[str]:
    """All registered ids."""
    import navix

    return list(navix.registry())


SUITE = Suite("navix", "navix", Navix, ids, "ppg-jax[navix]")
