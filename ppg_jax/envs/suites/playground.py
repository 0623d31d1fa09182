"""MuJoCo Playground: the DeepMind control suite, and robots, simulated by MJX.

``env_kwargs`` are changes to an environment's configuration, by names with dots where it has
sections (``reward_config.scales.tracking_lin_vel``). The robots need model files that Playground
downloads. They are not downloaded here.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.envs.mujoco import DrawnByMujoco, quiet_model, quiet_trace
from ppg_jax.envs.spaces import Box, Dict
from ppg_jax.envs.suite import (
    TIME_LIMIT,
    Suite,
    SuiteStep,
    check_names,
    take_time_limit,
)

IN_JAX = {"impl": "jax"}
"""MJX's implementation in JAX. The other, Warp, needs CUDA to be fast."""
POLICY_KEY = "state"
"""What the policy reads if observations have several parts; another is ``privileged_state``."""


def ids() -> list[str]:
    """Names of the environments whose model files are there."""
    from mujoco_playground import registry

    return sorted(name for name in registry.ALL_ENVS if not _lacks_models(name))


def refused() -> dict[str, str]:
    """The robots, as long as their model files are missing."""
    from mujoco_playground import registry

    return {
        name: "its robot models (MuJoCo Menagerie) are missing, which Playground downloads when "
        f"mujoco_playground.registry.load('{name}') is first called; call it once yourself"
        for name in registry.ALL_ENVS
        if _lacks_models(name)
    }


def make(
    env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> "PlaygroundEnvironment":
    """An environment of MuJoCo Playground.

    Raises:
      ConfigError: a name or a value is invalid.
    """
    from mujoco_playground import registry

    name = f"playground/{env_id}"
    settings = registry.get_default_config(env_id)
    known = [key for key, _ in _flat(settings)]
    changes = dict(_flat(env_kwargs))
    check_names("env_kwargs", changes, known, name)
    if "impl" in known:
        changes = {**IN_JAX, **changes}
    try:
        settings.update_from_flattened_dict(changes)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"env_kwargs: {dict(env_kwargs)} is invalid for {name}: {reason}"
        ) from None
    repeat = int(settings.get("action_repeat", 1))
    limit, rest = take_time_limit(env_params, math.ceil(settings.episode_length / repeat))
    check_names("env_params", rest, [TIME_LIMIT], name)
    with quiet_model():
        env = registry.load(env_id, config=settings)
    return PlaygroundEnvironment(env, name, limit, repeat)


def _lacks_models(env_id: str) -> bool:
    """Whether an environment is a robot and the files of the robots are not there."""
    from mujoco_playground import dm_control_suite
    from mujoco_playground._src.mjx_env import MENAGERIE_PATH

    return env_id not in dm_control_suite.ALL_ENVS and not MENAGERIE_PATH.exists()


def _flat(settings: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a nested configuration, by names with dots."""
    for name, value in settings.items():
        if hasattr(value, "items"):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


class PlaygroundEnvironment(DrawnByMujoco):
    """An environment of MuJoCo Playground.

    The time limit is its ``episode_length``. A step repeats the action ``action_repeat`` times.
    Playground leaves both to its training wrappers.
    """

    def __init__(self, env: Any, name: str, limit: int | None, repeat: int = 1) -> None:
        self.env, self.name, self.max_episode_steps = env, name, limit
        self._repeat = repeat
        self.action_space = Box(-1.0, 1.0, (env.action_size,))
        obs, _ = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_space: Any = jax.tree.map(_unbounded, obs)
        if isinstance(obs, Mapping):
            self.observation_space = Dict(self.observation_space)
            self.default_key = POLICY_KEY if POLICY_KEY in obs else None

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        with quiet_trace():
            state = self.env.reset(key)
        return state.obs, state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. If the episode ended, nothing is reset."""

        def once(state: Any, _: Any) -> tuple[Any, Any]:
            copied = jax.tree.map(lambda x: x, state)  # it writes into the dicts of a state
            after = self.env.step(copied, action)
            return after, after.reward

        with quiet_trace():
            if self._repeat == 1:
                after, reward = once(state, None)
            else:
                after, rewards = jax.lax.scan(once, state, length=self._repeat)
                reward = rewards.sum()
        return SuiteStep(after.obs, after, reward, jnp.asarray(after.done) > 0)

    def model(self) -> Any:
        """The ``MjModel`` to draw."""
        return self.env.mj_model

    def pose(self, state: Any) -> tuple[Any, ...]:
        """The positions in a state."""
        return state.data.qpos, state.data.mocap_pos, state.data.mocap_quat


def _unbounded(x: Any) -> Box:
    return Box(-np.inf, np.inf, x.shape)


SUITE = Suite("playground", "mujoco_playground", make, ids, "ppg-jax[playground]", refused)
