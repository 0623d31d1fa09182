"""Configurations: what is refused, and how it is said."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import yaml
from gymnax.wrappers.purerl import StickyActionWrapper

from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config, config_from_dict
from ppg_jax.config.fields import ConfigError, all_field_names
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.config.network import NetworkConfig
from ppg_jax.config.yaml_files import load_config, read_config
from tests import probes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_env": 3}, ["num_env:", "num_envs"]),
        ({"learning_rate": 1e-3}, ["learning_rate:", "hparams.learning_rate"]),
        ({"hparams": {"gama": 0.9}}, ["hparams.gama:", "hparams.gamma"]),
        ({"hparams": {"gamma": 1.5}}, ["hparams.gamma: 1.5", "less than or equal to 1"]),
        ({"hparams": {"gamma": float("nan")}}, ["hparams.gamma: nan", "finite"]),
        ({"hparams": Hyperparams(gamma=2.0)}, ["hparams.gamma: 2.0"]),
        ({"num_envs": 0}, ["num_envs: 0", "greater than or equal to 1"]),
        ({"num_envs": True}, ["num_envs: True", "whole number"]),
        ({"num_envs": 2.5}, ["num_envs: 2.5"]),
        ({"num_envs": "many"}, ["num_envs: 'many'"]),
        ({"num_envs": 10}, ["num_minibatches: 8", "num_envs 10", "5 or 10"]),
        (
            {"minibatch_by": "sample", "num_minibatches": 7},
            ["num_minibatches: 7", "num_envs x num_steps"],
        ),
        ({"num_aux_minibatches": 100}, ["num_aux_minibatches: 100", "n_pi x num_envs 2048"]),
        ({"total_timesteps": 10}, ["total_timesteps: 10", "8192"]),
        ({"arch": "separate"}, ["e_aux: 6", "separate", "set e_aux to 0"]),
        ({"arch": "duel"}, ["arch: 'duel'", "'dual'"]),
        ({"e_aux": -1}, ["e_aux: -1"]),
        ({"env": ""}, ["env: ''"]),
        ({"env": 3}, ["env: 3"]),
        ({"env_params": [1]}, ["env_params: [1]", "mapping"]),
        ({"network": {"memory": "lsmt"}}, ["network.memory: 'lsmt'", "'lstm'"]),
        ({"network": {"hidden_sizes": []}}, ["network.hidden_sizes"]),
        ({"network": 3}, ["network: 3"]),
        ({"network": {"compute_dtype": "float16"}}, ["compute_dtype: 'float16'", "bfloat16"]),
        ({"devices": 0}, ["devices: 0", "greater than or equal to 1"]),
        ({"strategy": "pmap"}, ["strategy: 'pmap'", "'vmap'"]),
        ({"strategy": "vmap", "chunk_size": 4}, ["chunk_size: 4", "strategy vmap"]),
        (
            {"minibatch_by": "sample", "num_steps": 2**19, "total_timesteps": 2**30},
            ["num_steps: 524288", "num_envs 64", "at most 16777216", "minibatch_by env"],
        ),
    ],
)
def test_bad_values_are_named_in_one_line(fields, words):
    with pytest.raises(ConfigError) as caught:
        Config(**fields)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_numbers_as_yaml_and_people_write_them():
    config = config_from_dict(
        yaml.safe_load("{total_timesteps: 1e6, num_envs: '64', hparams: {learning_rate: 3e-4}}")
    )
    assert config.total_timesteps == 1_000_000
    assert config.num_envs == 64
    assert config.hparams.learning_rate == 3e-4


def test_round_trip_and_hash():
    config = Config(
        env_params={"max_steps_in_episode": 7}, network={"hidden_sizes": [8]}, hparams={"gamma": 0}
    )
    again = config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert config != config.replace(seed=1)


def test_replace_checks_anew():
    with pytest.raises(ConfigError, match="num_minibatches"):
        Config().replace(num_envs=7)


def test_an_environment_object_stands_in_a_file_as_one():
    config = Config(env=probes.ConstantReward())
    assert config.to_dict()["env"] == "<object ConstantReward>"
    again = config_from_dict(config.to_dict())
    assert again.env_name == config.env_name == "ConstantReward"
    with pytest.raises(ConfigError, match=r"was an object \(ConstantReward\)"):
        make_train(again)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("tests.probes:ConstantReward", "ConstantReward"),
        ("<object suite:Mine>", "suite:Mine"),
    ],
)
def test_what_environments_are_called(env, name):
    assert Config(env=env).env_name == name


@pytest.mark.parametrize(
    "env",
    [probes.ConstantReward, StickyActionWrapper(probes.ConstantReward(), 0.5), object()],
    ids=["class", "wrapper", "object"],
)
def test_what_is_no_environment(env):
    # A wrapper of gymnax passes step_env on to what it wraps: it would train unwrapped.
    with pytest.raises(ConfigError, match="env: .* not a wrapper or a class"):
        Config(env=env)


def test_every_field_is_documented():
    hints = {Hyperparams: Hyperparams.__annotations__}
    for kind in (Config, NetworkConfig):
        for field in dataclasses.fields(kind):
            assert field.default.description, field.name
    for name, hint in hints[Hyperparams].items():
        assert hint.__metadata__[-1].description, name
    assert "hparams.beta_clone" in all_field_names(Config)


def test_hyperparams_are_a_pytree_that_vmaps():
    many = jax.vmap(lambda g: Config().hparams.replace(gamma=g))(jnp.array([0.5, 0.9]))
    out = jax.vmap(lambda h: h.gamma * h.clip_eps)(many)
    assert out.tolist() == pytest.approx([0.1, 0.18])


def test_iterations_phases_and_tail():
    config = Config(total_timesteps=8192 * 70 + 5)
    assert (config.num_iterations, config.num_phases, config.num_tail_iterations) == (70, 2, 6)


def test_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("num_envs: 16\nhparams:\n")
    assert load_config(path).num_envs == 16
    assert load_config(path, num_envs=32).num_envs == 32
    path.write_text("")
    assert load_config(path) == Config()
    path.write_text("{normalize_advantages: off, hparams: {gamma: 0.9}}")
    config = load_config(path, hparams={"clip_eps": 0.1})
    assert config.normalize_advantages == "off"
    assert (config.hparams.gamma, config.hparams.clip_eps) == (0.9, 0.1)
    for text, word in [
        ("num_envs: 1\nnum_envs: 2", "twice"),
        ("- 1", "list"),
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("1: 2", "1"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=word) as caught:
            load_config(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean cartpole"):
        read_config("cartpol")
