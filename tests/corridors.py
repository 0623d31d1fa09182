"""One environment twice: written in JAX, and in numpy, outside of the program.

A corridor: the right action moves up, others stay; the end terminates with reward 1, a time limit
truncates. Nothing is random, so both must give the same training, bit for bit.
"""

import jax.numpy as jnp
import numpy as np

from ppg_jax.envs import (
    Box,
    Discrete,
    OutsideBatch,
    OutsideStep,
    SuiteEnvironment,
    SuiteStep,
)

LENGTH, LIMIT = 4, 9


class Inside(SuiteEnvironment):
    """A place, and a turn that says which action moves."""

    name, max_episode_steps = "Corridor", LIMIT
    observation_space, action_space = Box(0.0, 9.0, (2,)), Discrete(2)

    def reset(self, key):
        place = jnp.int32(0)
        return jnp.zeros(2), place

    def step(self, key, state, action):
        place = state + (action == state % 2)
        obs = jnp.stack([place, place % 2]).astype(jnp.float32)
        return SuiteStep(obs, place, (place == LENGTH).astype(jnp.float32), place == LENGTH)


class Outside(OutsideBatch):
    """The same in numpy."""

    name, max_episode_steps = "Corridor", LIMIT
    observation_space, action_space = Box(0.0, 9.0, (2,)), Discrete(2)
    obs_shape, obs_dtype = (2,), np.float32

    def __init__(self, fails_after=None):
        self.opened, self.fails_after = [], fails_after

    def frame(self, state):
        return np.full((64, 64, 3), 20 * int(state[0]), np.uint8)

    def open(self, seed, num_envs):
        if self.fails_after == 0:
            raise OSError("no games here")
        self.opened.append(_Corridors(seed, num_envs, self.fails_after))
        return self.opened[-1]


class _Corridors:
    def __init__(self, seed, num_envs, fails_after):
        self.seed, self.closed, self.left = seed, False, fails_after
        self._place, self._steps = np.zeros((2, num_envs), int)

    def reset(self):
        return self._obs()

    def _obs(self):
        return np.stack([self._place, self._place % 2], 1).astype(np.float32)

    def step(self, actions):
        assert not self.closed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("the games are over")
        self._place = self._place + (actions == self._place % 2)
        self._steps = self._steps + 1
        obs, terminated = self._obs(), self._place == LENGTH
        truncated = self._steps == LIMIT
        keep = ~(terminated | truncated)
        self._place, self._steps = self._place * keep, self._steps * keep
        reward = terminated.astype(np.float32)
        return OutsideStep(obs, reward, terminated, truncated, self._obs())

    def close(self):
        self.closed = True
