"""Environments so small that the right values and actions are known by arithmetic."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from ppg_jax.envs.spaces import MultiDiscrete


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


class Forever(Probe):
    """Never ends, and has a time limit that nobody waits for."""

    length = 2**30

    @property
    def default_params(self):
        return Params(max_steps_in_episode=10**9)


class ConstantReward(Probe):
    """V = 1."""


class DelayedReward(Probe):
    """Observation 0, then 1, then a reward of 1: V(0) = gamma, V(1) = 1."""

    length = 2

    def next_obs(self, state):
        return state.obs + 1.0

    def reward(self, state, action):
        return jnp.where(state.time == 1, 1.0, 0.0)


class ActionMustMatch(Probe):
    """Observations -1 and 1; reward 1 for action 1 where it is 1 and 0 where it is -1, else -1."""

    def first_obs(self, key):
        return jax.random.rademacher(key, (1,), jnp.float32)

    def reward(self, state, action):
        return jnp.where((state.obs[0] > 0) == (action == 1), 1.0, -1.0)


class Medley(Probe):
    """Four tasks, of which each episode draws one; observation: which (one-hot), and a number x.

    0. x is -1 or 1 and the reward is x: V(x) = x.
    1. x is 0, then 1, then there is a reward of 1: V(0) = gamma, V(1) = 1.
    2. ``ActionMustMatch`` with x: V = 1 of the best policy.
    3. Reward 1 for ever, cut after 4 steps by a time limit: V = 1 / (1 - gamma).
    """

    lengths = (1, 2, 1, 1000)

    @property
    def default_params(self):
        return Params(max_steps_in_episode=4)

    def observation_space(self, params):
        return spaces.Box(-1, 1, (5,), jnp.float32)

    def first_obs(self, key):
        task_key, sign_key = jax.random.split(key)
        task = jax.nn.one_hot(jax.random.randint(task_key, (), 0, 4), 4)
        sign = jax.random.rademacher(sign_key, (), jnp.float32)
        return jnp.append(task, sign * (task[0] + task[2]))

    def next_obs(self, state):
        return state.obs.at[4].add(state.obs[1])

    def is_terminated(self, state, params):
        return jnp.float32(state.time) >= state.obs[:4] @ jnp.array(self.lengths, jnp.float32)

    def reward(self, state, action):
        task, x = state.obs[:4], state.obs[4]
        match = jnp.where((x > 0) == (action == 1), 1.0, -1.0)
        return task @ jnp.stack([x, x, match, jnp.float32(1.0)])


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
        return (action[0] == 2).astype(jnp.float32) + (action[1] == 0).astype(jnp.float32)


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


class Exits(Probe):
    """Ends the process when it is made."""

    def __init__(self):
        raise SystemExit(3)
