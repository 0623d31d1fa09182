"""Training with action masks, several parts of an observation, bits, and own encoders."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import Box, Dict, Discrete, MultiDiscrete, SuiteEnvironment, SuiteStep


class Masked(SuiteEnvironment):
    """Two numbers must be chosen; an illegal choice is punished by -100. The value sees more."""

    name, mask_key, max_episode_steps = "Masked", "legal", 8

    def __init__(self, sizes=(3, 4)):
        self.sizes = sizes
        self.action_space = MultiDiscrete(sizes) if len(sizes) > 1 else Discrete(sizes[0])
        map_space, numbers = Box(0, 1, (5, 5, 2), jnp.bool_), Box(-9, 9, (3,))
        self.observation_space = Dict(
            {"map": map_space, "numbers": numbers, "all": Box(0, 9, (6,))}
        )

    def observation(self, key):
        map_key, number_key, legal_key = jax.random.split(key, 3)
        return {
            "map": jax.random.bernoulli(map_key, 0.5, (5, 5, 2)),
            "numbers": jax.random.normal(number_key, (3,)),
            "all": jnp.ones(6),
            "legal": jax.random.bernoulli(legal_key, 0.5, (sum(self.sizes),)).at[0].set(True),
        }

    def reset(self, key):
        obs = self.observation(key)
        return obs, {"legal": obs["legal"], "key": jax.random.key_data(key)}

    def step(self, key, state, action):
        obs, legal = self.observation(key), state["legal"]
        starts = np.cumsum((0, *self.sizes[:-1]))
        chosen = jnp.atleast_1d(action) + starts
        parts = jnp.split(legal, starts[1:]) if len(starts) > 1 else [legal]
        allowed = jnp.array([True])
        for part, i in zip(parts, range(len(parts)), strict=True):
            allowed &= legal[chosen[i]] | ~part.any()
        reward = jnp.where(allowed.all(), 1.0, -100.0)
        return SuiteStep(obs, state | {"legal": obs["legal"]}, reward, False)


SMALL = {
    "total_timesteps": 512, "num_envs": 8, "num_steps": 16, "n_pi": 2, "e_aux": 2,
    "num_minibatches": 2, "num_aux_minibatches": 4, "normalize_rewards": False,
}  # fmt: skip


def train(**changes):
    config = Config(**(SMALL | {"env": Masked()} | changes))
    state, metrics = jax.jit(ppg_jax.make_train(config))(jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert np.isfinite(metrics["clone_kl"][1::2]).all()
    return state, metrics


@pytest.mark.parametrize("sizes", [(5,), (3, 4)])
def test_illegal_actions_are_never_taken_in_training(sizes):
    _, metrics = train(env=Masked(sizes))
    returns = metrics["episode_return"]
    assert (returns[np.isfinite(returns)] == 8).all()


def test_bits_give_the_same_training():
    (mixed, _), (native, _) = (train(observation_dtype=d) for d in ("mixed", "native"))
    for a, b in zip(jax.tree.leaves(mixed.params), jax.tree.leaves(native.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_value_network_reads_more_and_the_map_has_convolutions():
    state, _ = train(
        value_observation_key="all",
        normalize_observations=True,
        network={"encoder": "map", "channels": (4,), "hidden_sizes": (8,)},
    )
    assert "conv_0" in state.params["policy_net"]["encoder"]
    assert state.params["value_net"]["encoder"]["dense_0"]["kernel"].shape[0] == 6
    with pytest.raises(ConfigError, match="value_observation_key: 'all' needs a value network"):
        Config(env=Masked(), value_observation_key="all", arch="shared")
    with pytest.raises(ConfigError, match="observation_key: 'mapp' is unknown.*did you mean map"):
        ppg_jax.make_train(Config(**SMALL, env=Masked(), observation_key="mapp"))


class Own(nn.Module):
    width: int = 7

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.sum()


def test_an_encoder_of_ones_own():
    own = f"{__name__}:Own"
    for encoder, kwargs in ((own, {"width": 5}), (Own, {"width": 5}), (Own(5), {})):
        state, _ = train(
            observation_key="map", network={"encoder": encoder, "encoder_kwargs": kwargs}
        )
        kernel = state.params["policy_net"]["encoder"]["own"]["Dense_0"]["kernel"]
        assert kernel.shape == (50, 5)
    for encoder, kwargs, says in (
        ("no_such:Thing", {}, "cannot be imported"),
        (own, {"widht": 3}, "cannot be made"),
        (Flat, {}, r"float features \[N, F\]"),
        (f"{__name__}:SMALL", {}, "flax.linen module"),
    ):
        network = {"encoder": encoder, "encoder_kwargs": kwargs}
        with pytest.raises(ConfigError, match=says):
            ppg_jax.make_train(Config(**SMALL, env=Masked(), network=network))


@pytest.mark.parametrize("name", ["tanh_gaussian", "tanh_gaussian_state_std", "gaussian_state_std"])
def test_distributions_of_continuous_actions(name):
    train(env="Pendulum-v1", policy_distribution=name)
    with pytest.raises(ConfigError, match=f"policy_distribution: {name} is for continuous"):
        ppg_jax.make_train(Config(**SMALL, env="CartPole-v1", policy_distribution=name))
