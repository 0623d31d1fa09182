"""Makes the environments of a library a suite of ppg_jax, and trains in one: made-up "lamps".

A lamp is moved left or right on a line until it stands on the marked place. The library has its own
way to step; ``Lamp`` below translates it. Run: python examples/own_suite.py
"""

from types import MappingProxyType

import jax
import jax.numpy as jnp

import ppg_jax
from ppg_jax.envs import Box, Discrete, Suite, SuiteEnvironment, SuiteStep, register_suite


class lamps:  # noqa: N801  # stands for a library that you installed: "import lamps"
    SIZES = MappingProxyType({"Short-v0": 5, "Long-v0": 9})

    @staticmethod
    def begin(key, size):
        return {"lamp": jnp.int32(0), "mark": jax.random.randint(key, (), 1, size)}

    @staticmethod
    def move(state, direction, size):
        lamp = jnp.clip(state["lamp"] + direction, 0, size - 1)
        return state | {"lamp": lamp}, lamp == state["mark"]


class Lamp(SuiteEnvironment):
    max_episode_steps = 20  # counted for us, like dtypes, storage and resets

    def __init__(self, env_id, env_params, env_kwargs):
        self.name, self.size = env_id, lamps.SIZES[env_id]
        self.observation_space = Box(0.0, 1.0, (2, self.size))
        self.action_space = Discrete(2)

    def _see(self, state):
        return jnp.eye(self.size)[jnp.stack([state["lamp"], state["mark"]])]

    def reset(self, key):
        state = lamps.begin(key, self.size)
        return self._see(state), state

    def step(self, key, state, action):
        state, done = lamps.move(state, 2 * action - 1, self.size)
        return SuiteStep(self._see(state), state, jnp.where(done, 1.0, -0.05), done)


register_suite(Suite("lamps", "jax", Lamp, lambda: list(lamps.SIZES), "lamps"))

if __name__ == "__main__":
    sizes = {"num_envs": 16, "num_steps": 32, "n_pi": 4, "num_minibatches": 4}
    config = ppg_jax.Config(
        env="lamps/Short-v0", total_timesteps=40_960, num_aux_minibatches=8, **sizes
    )
    result = ppg_jax.run(config, progress=False)
    print("return:", result.metrics["episode_return"][0, [0, -1]])
