"""Every configuration that ships is built: environment, networks, one traced phase."""

import jax
import pytest

from ppg_jax.files import available_configs, configs_folder, find_config, load_config
from ppg_jax.train import build, init, train_phases, train_tail

NAMES = available_configs()
META = ("bernoulli_bandit", "gaussian_bandit", "meta_maze", "four_rooms", "point_robot")
MEMORY = ("memory_chain", "memory_chain_100", "umbrella_chain", "cartpole", "pendulum")


def test_the_promised_configurations_are_there():
    promised = {"cartpole", "acrobot", "mountain_car", "pendulum", "procgen_paper"}
    games = ("breakout", "asterix", "freeway", "space_invaders")
    promised |= {f"minatar/{game}" for game in games}
    promised |= {f"meta/{name}" for name in META} | {f"memory/{name}" for name in MEMORY}
    assert promised | {"ppo/cartpole", "ppo/minatar/breakout"} <= set(NAMES)
    assert configs_folder().is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_it_builds(name):
    config = load_config(name)
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
