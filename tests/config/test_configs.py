"""Every configuration that ships is built, and shows its networks what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import train_phases, train_tail
from ppg_jax.config.yaml_files import available_configs, configs_folder, find_config, load_config
from ppg_jax.envs import suites
from ppg_jax.envs.spaces import random_action

pytestmark = pytest.mark.slow

NAMES = available_configs()
META = ("bernoulli_bandit", "gaussian_bandit", "meta_maze", "four_rooms", "point_robot")
CHAINS = ("memory_chain", "memory_chain_100", "memory_chain_100_history", "umbrella_chain")
MEMORY = (*CHAINS, "cartpole", "pendulum")
OF_SUITES = {
    "brax/ant",
    "brax/inverted_pendulum",
    "craftax/classic_symbolic",
    "craftax/symbolic",
    "jumanji/game_2048",
    "jumanji/snake",
    "navix/doorkey_5x5",
    "pgx/minatar_asterix",
    "playground/cartpole_balance",
    "xminigrid/doorkey_6x6",
    "xminigrid/empty_8x8",
}
"""Of suites that may not be installed: ``make test`` has Pgx, ``make test-suites`` has all."""


def test_the_promised_configurations_are_there():
    promised = {"cartpole", "acrobot", "mountain_car", "pendulum"}
    games = ("breakout", "asterix", "freeway", "space_invaders")
    promised |= {f"minatar/{game}" for game in games}
    promised |= {f"meta/{name}" for name in META} | {f"memory/{name}" for name in MEMORY}
    promised |= {f"procgen/{name}" for name in ("easy", "hard", "starpilot_small")}
    promised |= OF_SUITES | {"ppo/cartpole", "ppo/minatar/breakout"}
    assert promised <= set(NAMES)
    assert configs_folder().is_dir()


def test_a_configuration_of_a_suite_is_in_the_folder_of_its_suite():
    for name in OF_SUITES:
        suite = load_config(name).env.partition("/")[0]
        assert name.startswith(f"{suite}/")
        assert suite in suites()


@pytest.mark.parametrize("name", NAMES)
def test_it_builds(name):
    config = load_config(name)
    suite = suites().get(config.env.rpartition("/")[0])
    if suite is not None and not suite.installed:
        pytest.skip(f"the suite {suite.name} is not installed; pip install '{suite.install}'")
    build(config)
    state = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    if config.num_phases:
        hparams = config.hparams
        _, metrics = jax.eval_shape(lambda s: train_phases(config, hparams, s, 1), state)
        assert metrics["env_steps"].shape == (config.n_pi,)
    else:
        jax.eval_shape(lambda s: train_tail(config, config.hparams, s), state)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_headed_by_its_command(name):
    first = find_config(name).read_text().splitlines()[0]
    assert first.startswith(f"# ppg-jax train {name}")


def first_two_observations(config, same_action):
    """Of 64 episodes: what each shows at first, and after a step; ``[64, ...]`` each."""
    env = build(config).env
    keys = jax.random.split(jax.random.key(0), 64)
    first, states = jax.vmap(env.reset)(keys)
    action_keys = jnp.broadcast_to(keys[0], keys.shape) if same_action else keys
    actions = jax.vmap(lambda key: random_action(env.action, key))(action_keys)
    result = jax.vmap(env.step)(keys, states, actions)
    assert result.reward.std() > 0
    return np.asarray(first), np.asarray(result.obs)


def test_an_umbrella_is_announced_and_no_longer_seen_once_it_is_taken():
    first, second = first_two_observations(load_config("memory/umbrella_chain"), same_action=False)
    assert 16 < first[:, 0].sum() < 48  # needed about every other time
    np.testing.assert_array_equal(second[:, 0], first[:, 0])
    np.testing.assert_array_equal([first[:, 1], second[:, 1]], 0.0)


@pytest.mark.parametrize("name", ["bernoulli_bandit", "gaussian_bandit"])
def test_bandits_show_neither_rewards_nor_actions(name):
    for seen in first_two_observations(load_config(f"meta/{name}"), same_action=False):
        np.testing.assert_array_equal(seen, np.broadcast_to(seen[0], seen.shape))


def test_the_point_robot_does_not_see_its_rewards():
    config = load_config("meta/point_robot")
    config = config.replace(env_params={**config.env_params, "dense_reward": True})
    for seen in first_two_observations(config, same_action=True):
        np.testing.assert_array_equal(seen, np.broadcast_to(seen[0], seen.shape))
