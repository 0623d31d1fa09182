"""XLand-MiniGrid (Nikulin et al. 2023, arXiv:2312.12044): grid worlds with goals and rules."""

from collections.abc import Mapping
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from ppg_jax.envs.spaces import Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_id,
    check_names,
    take_time_limit,
)

FRAME_TILE = 32
"""Pixels of a tile's side in a picture."""


class XMiniGrid(SuiteEnvironment):
    """An environment of XLand-MiniGrid. Observations are tile and colour ids, uint8 ``[V, V, 2]``.

    Rulesets of XLand's benchmarks are downloaded by the suite and are not supported; an XLand id
    has the suite's own example ruleset.
    """

    def __init__(self, env_id: str, env_params: Mapping[str, Any]) -> None:
        import xminigrid
        from xminigrid.core.constants import NUM_COLORS, NUM_TILES

        self._env, params = xminigrid.make(env_id)
        names = ("height", "width", "view_size", "max_steps")
        usual = int(params.max_steps or self._env.time_limit(params))
        limit, changes = take_time_limit(env_params, env_params.get("max_steps", usual))
        check_names("env_params", changes, (*names, "max_steps_in_episode"), env_id)
        changes = {name: x for name, x in changes.items() if name != "max_steps"}
        # The reward depends on the limit.
        self._params = params.replace(**changes, max_steps=limit or NO_LIMIT)
        self.name, self.max_episode_steps = env_id, limit
        self.action_space = Discrete(self._env.num_actions(self._params))
        shape = self._env.observation_shape(self._params)
        sizes = np.broadcast_to(np.array([NUM_TILES, NUM_COLORS]), shape)
        self.observation_space = MultiDiscrete(sizes, jnp.uint8)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        first = self._env.reset(self._params, key)
        return first.observation, first.state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. All randomness is in the state."""
        from xminigrid.types import StepType, TimeStep

        before = TimeStep(
            state=state,
            step_type=StepType.MID,
            reward=jnp.float32(0.0),
            discount=jnp.float32(1.0),
            observation=None,
        )
        after = self._env.step(self._params, before, action)
        return SuiteStep(after.observation, after.state, after.reward, after.discount == 0)

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the grid, uint8 ``[height, width, 3]``."""
        from xminigrid.rendering.rgb_render import render

        view = self._params.view_size
        return np.asarray(render(np.asarray(state.grid), state.agent, view, FRAME_TILE))


def make(env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> XMiniGrid:
    """The environment of an id."""
    check_id("xminigrid", env_id, ids())
    check_names("env_kwargs", env_kwargs, (), env_id)
    return XMiniGrid(env_id, env_params)


def ids() -> list[str]:
    """All registered ids."""
    import xminigrid

    return list(xminigrid.registered_environments())


SUITE = Suite("xminigrid", "xminigrid", make, ids, "ppg-jax[xminigrid]")
