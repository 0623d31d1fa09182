"""Environments so small that the right values and actions are known by arithmetic."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from ppg_jax.envs import MultiDiscrete


@struct.dataclass
class State(environment.EnvState):
    obs: jax.Array
    time: int


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 1000


class Probe(environment.Environment):
    """One step, observation 0, reward 1, two actions."""

    length = 1

    @property
    def default_params(self):
        return Params()

    @property
    def name(self):
        return type(self).__name__

    def observation_space(self, params):
        return spaces.Box(-1, 1, (1,), jnp.float32)

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def reset_env(self, key, params):
        obs = self.first_obs(key)
        return obs, State(obs=obs, time=0)

    def step_env(self, key, state, action, params):
        time = state.time + 1
        reward = self.reward(state, action)
        after = State(obs=self.next_obs(state), time=time)
        return after.obs, after, reward, self.is_terminated(after, params), {}

    def is_terminated(self, state, params):
        return state.time >= self.length

    def first_obs(self, key):
        return jnp.zeros(1)

    def next_obs(self, state):
        return state.obs

    def reward(self, state, action):
        return 1.0


class ConstantReward(Probe):
    """V = 1."""


class RewardByObservation(Probe):
    """Observations -1 and 1, reward the same: V(o) = o."""

    def first_obs(self, key):
        return jax.random.rademacher(key, (1,), jnp.float32)

    def reward(self, state, action):
        return state.obs[0]


class DelayedReward(Probe):
    """Observation 0, then 1, then a reward of 1: V(0) = gamma, V(1) = 1."""

    length = 2

    def next_obs(self, state):
        return state.obs + 1.0

    def reward(self, state, action):
        return jnp.where(state.time == 1, 1.0, 0.0)


class RewardByAction(Probe):
    """Reward 1 for action 1, otherwise -1."""

    def reward(self, state, action):
        return jnp.where(action == 1, 1.0, -1.0)


class ActionMustMatch(RewardByObservation):
    """Reward 1 for action 1 where the observation is 1 and 0 where it is -1, otherwise -1."""

    def reward(self, state, action):
        return jnp.where((state.obs[0] > 0) == (action == 1), 1.0, -1.0)


class EndlessReward(Probe):
    """Reward 1 for ever, cut after 4 steps by a time limit: V = 1 / (1 - gamma)."""

    @property
    def default_params(self):
        return Params(max_steps_in_episode=4)

    def is_terminated(self, state, params):
        return jnp.array(False)


class HitTheTarget(Probe):
    """Continuous: reward -(a - 0.5)^2 of the action that arrives, in a box [-3, 3]."""

    def action_space(self, params=None):
        return spaces.Box(-3.0, 3.0, (1,), jnp.float32)

    def reward(self, state, action):
        return -jnp.square(action[0] - 0.5)


class TwoDials(Probe):
    """Multi-discrete: a point for the first dial at 2 of 3, a point for the second at 0 of 2."""

    def action_space(self, params=None):
        return MultiDiscrete((3, 2))

    def reward(self, state, action):
        return (action[0] == 2).astype(jnp.float32) + (action[1] == 0)


class TwoDialsTuple(TwoDials):
    """The same with a Tuple space, whose actions arrive as a tuple."""

    def action_space(self, params=None):
        return spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2)))

    def reward(self, state, action):
        assert isinstance(action, tuple)
        return super().reward(state, action)


class BytePicture(Probe):
    """A 6x6x1 uint8 image, all 0 or all 255: reward 1 for action 1 on the bright one."""

    def observation_space(self, params):
        return spaces.Box(0, 255, (6, 6, 1), jnp.uint8)

    def first_obs(self, key):
        bright = jax.random.bernoulli(key).astype(jnp.uint8)
        return jnp.full((6, 6, 1), 255, jnp.uint8) * bright

    def reward(self, state, action):
        return jnp.where((state.obs[0, 0, 0] > 0) == (action == 1), 1.0, -1.0)
