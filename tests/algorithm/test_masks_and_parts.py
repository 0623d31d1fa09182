"""Training with action masks, several parts of an observation, bits, and own encoders."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import (
    Box,
    Dict,
    Discrete,
    MultiDiscrete,
    SuiteEnvironment,
    SuiteStep,
    make_training_env,
)


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


@pytest.mark.parametrize(
    ("sizes", "changes"),
    [
        ((5,), {}),
        ((3, 4), {}),
        pytest.param((3, 4), {"network": {"memory": "gru"}, "burn_in": 4}, marks=pytest.mark.long),
    ],
)
def test_illegal_actions_are_never_taken_in_training(sizes, changes):
    _, metrics = train(env=Masked(sizes), **changes)
    returns = metrics["episode_return"]
    assert (returns[np.isfinite(returns)] == 8).all()


@pytest.mark.long
def test_illegal_actions_are_never_taken_in_evaluation_and_by_a_saved_policy(tmp_path):
    env = Masked((3, 4))
    config = Config(**SMALL, env=env)
    ppg_jax.run(config, out=tmp_path / "run", progress=False)
    saved = ppg_jax.load_run(tmp_path / "run", env=env)
    for greedy in (False, True):
        assert (saved.evaluate(8, greedy=greedy)[0] == 8).all()
    obs = jax.vmap(env.observation)(jax.random.split(jax.random.key(0), 500))
    actions = saved.policy(obs, jax.random.key(1))
    legal = np.array(obs["legal"])
    legal[~legal[:, 3:].any(1), 3:] = True  # without a legal choice, all are
    assert np.take_along_axis(legal, np.asarray(actions) + np.array([0, 3]), 1).all()


class Grid(Masked):
    """Tiles and colours; the goal is to say the colour of the tile in the middle."""

    name, mask_key = "Grid", None

    def __init__(self):
        self.action_space = Discrete(4)
        self.observation_space = MultiDiscrete(np.broadcast_to([6, 4], (5, 5, 2)), jnp.uint8)

    def reset(self, key):
        obs = jax.random.randint(key, (5, 5, 2), 0, jnp.array([6, 4])).astype(jnp.uint8)
        return obs, {"colour": obs[2, 2, 1]}

    def step(self, key, state, action):
        obs, after = self.reset(key)
        return SuiteStep(obs, after, jnp.float32(action == state["colour"]), False)


@pytest.mark.long
def test_grids_of_categories_are_embedded_and_learned():
    changes = {"network": {"channels": [16], "hidden_sizes": [32]}, "total_timesteps": 16_384}
    state, metrics = train(env=Grid(), num_steps=32, hparams={"learning_rate": 5e-3}, **changes)
    encoder = state.params["policy_net"]["encoder"]
    assert encoder["embedding_0"].shape == (6, 16)
    assert encoder["embedding_1"].shape == (4, 16)
    assert metrics["episode_return"][-1] > 4  # at random 2, at most 8
    with pytest.raises(ConfigError, match="grid needs a grid"):
        train(env="CartPole-v1", network={"encoder": "grid"})
    with pytest.raises(ConfigError, match="map needs observations of several parts"):
        train(env=Grid(), network={"encoder": "map"})


@pytest.mark.long
def test_bits_give_the_same_training():
    (mixed, _), (native, _) = (train(observation_dtype=d) for d in ("mixed", "native"))
    for a, b in zip(jax.tree.leaves(mixed.params), jax.tree.leaves(native.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("storage", [pytest.param("packed", marks=pytest.mark.long), "replay"])
def test_every_storage_keeps_masks_parts_and_bits(storage):
    """Several actions with a mask, flags as bits, a value network that reads another part."""
    changes = {"observation_dtype": "mixed", "value_observation_key": "map"}
    found = [train(aux_storage=kind, **changes) for kind in ("full", storage)]
    (full, metrics), (state, measured) = found
    for a, b in zip(jax.tree.leaves(full.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_array_equal(metrics["episode_return"], measured["episode_return"])
    (own,) = set(measured) - set(metrics)
    assert measured[own][-1] == 0


def test_what_is_hidden_from_the_policy_is_not_hidden_from_the_value_function():
    keys = {"observation_key": "numbers", "value_observation_key": "all"}
    env = make_training_env(Config(**SMALL, env=Masked(), hide_components=(0, 2), **keys))
    obs, state = env.reset(jax.random.key(0))
    for seen in (obs, env.step(jax.random.key(1), state, jnp.zeros(2, jnp.int32)).obs):
        np.testing.assert_array_equal(seen.policy == 0, [True, False, True])
        assert (seen.value == 1).all()


@pytest.mark.long
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


class Embeds(nn.Module):
    """It needs whole numbers."""

    @nn.compact
    def __call__(self, x):
        return nn.Embed(6, 3)(x[..., 0]).reshape(len(x), -1)


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.sum()


@pytest.mark.long
def test_an_encoder_of_ones_own(tmp_path):
    own = f"{__name__}:Own"
    for encoder, kwargs in ((own, {"width": 5}), (Own, {"width": 5}), (Own(5), {})):
        state, _ = train(
            observation_key="map", network={"encoder": encoder, "encoder_kwargs": kwargs}
        )
        kernel = state.params["policy_net"]["encoder"]["own"]["Dense_0"]["kernel"]
        assert kernel.shape == (50, 5)
    ppg_jax.run(Config(**SMALL, env="CartPole-v1", network={"encoder": Own()}), out=tmp_path / "r")
    with pytest.raises(ConfigError, match=r"network.encoder: .* an object \(Own\), which a file"):
        ppg_jax.load_run(tmp_path / "r").evaluate(2)
    state, _ = train(env=Grid(), network={"encoder": Embeds})
    assert state.params["policy_net"]["policy_head"]["dense"]["kernel"].shape == (75, 4)
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
    state, _ = train(env="Pendulum-v1", policy_distribution=name)
    config = Config(**SMALL, env="Pendulum-v1", policy_distribution=name)
    begun = jax.jit(ppg_jax.init, static_argnums=0)(config, jax.random.key(0))
    before, after = (x.params["policy_net"]["policy_head"]["log_std"] for x in (begun, state))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old != new).any()
    with pytest.raises(ConfigError, match=f"policy_distribution: {name} is for continuous"):
        ppg_jax.make_train(Config(**SMALL, env="CartPole-v1", policy_distribution=name))
