"""Environments of which the agent sees less: hidden components, lost observations, tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.envs.make import make_env, make_training_env
from ppg_jax.envs.vector import reset_envs, step_envs
from ppg_jax.envs.wrappers.partial_observation import PartlyObserved
from ppg_jax.envs.wrappers.tasks import Tasks
from tests import probes

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def play(env, num_steps=40, num_envs=16, recall=(), action=None):
    """Inputs ``[T, B, ...]`` and what every step gave."""

    def step(envs, key):
        action_key, env_key = jax.random.split(key)
        if action is None:
            actions = jax.random.randint(action_key, (num_envs,), 0, env.action.sizes[0])
        else:
            actions = jnp.full(num_envs, action)
        after, result = step_envs(env, env_key, envs, actions)
        return after, (envs.inputs, envs.env, result)

    start = reset_envs(env, KEY, num_envs, recall)
    return jax.jit(lambda: jax.lax.scan(step, start, jax.random.split(KEY, num_steps))[1])()


@pytest.mark.bits
def test_hidden_components_are_zero_and_nothing_else_changes():
    whole = make_env("CartPole-v1")
    part = PartlyObserved(whole, (1, 3), 0.0)
    (seen, _, result), (full, _, all_of_it) = play(part), play(whole)
    np.testing.assert_array_equal(seen.obs[..., 1::2], 0)
    np.testing.assert_array_equal(seen.obs[..., ::2], full.obs[..., ::2])
    np.testing.assert_array_equal(result.rewards, all_of_it.rewards)
    np.testing.assert_array_equal(result.final_obs[..., 1::2], 0)
    assert np.any(result.final_obs[..., ::2])


def test_observations_are_lost_as_often_as_asked():
    part = PartlyObserved(make_env("CartPole-v1"), (), 0.3)
    seen, _, _ = play(part, num_envs=64)
    lost = ~np.any(seen.obs, axis=-1)
    assert 0.25 < lost.mean() < 0.35
    assert 0.05 < lost[0].mean() < 0.6  # at resets too
    # Independently: twice in a row as often as chance has it.
    assert 0.04 < (lost[1:] & lost[:-1]).mean() < 0.15


def test_a_lost_number_is_none():
    part = PartlyObserved(make_env("FrozenLake-misc"), (), 1.0)
    seen, _, _ = play(part, num_steps=3)
    np.testing.assert_array_equal(seen.obs, -1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hide_components": [4]}, "hide_components: 4 is invalid; .* components 0 to 3"),
        ({"hide_components": [-1]}, "hide_components.0: -1 is invalid"),
        ({"drop_observations": 1.5}, "drop_observations: 1.5 is invalid"),
        ({"episodes_per_task": 0}, "episodes_per_task: 0 is invalid"),
    ],
)
def test_what_cannot_be_hidden_is_said(fields, message):
    with pytest.raises(ConfigError, match=message):
        make_training_env(Config(**fields))


@pytest.mark.parametrize(
    ("name", "field", "limit"),
    [
        ("BernoulliBandit-misc", "reward_probs", {"max_steps_in_episode": 4.0}),
        ("GaussianBandit-misc", "mu", {"max_steps_in_episode": 4}),
        ("MetaMaze-misc", "goal", {"max_steps_in_episode": 4}),
        ("FourRooms-misc", "goal", {"max_steps_in_episode": 4, "resample_goal_pos": True}),
    ],
)
def test_a_task_stays_the_same_over_its_episodes(name, field, limit):
    env = Tasks(make_env(name, tuple_of(limit)), 3)
    inputs, states, result = play(env, recall=("done",))
    begins, ends = np.asarray(result.begins), np.asarray(result.terminated)
    assert not result.truncated.any()
    time = np.asarray(states.env.time)
    assert time.max() <= 3  # an episode of four steps, again and again
    if name != "FourRooms-misc":
        np.testing.assert_array_equal(begins[3::12], True)
        np.testing.assert_array_equal(begins[7::12], True)
        np.testing.assert_array_equal(ends[11::12], True)
    tasks = np.asarray(getattr(states.env, field)).reshape(*time.shape, -1)
    same = (tasks[1:] == tasks[:-1]).all(-1)
    assert same[~ends[:-1]].all()
    assert not same[ends[:-1]].all()
    # Networks are told of every beginning; only a task's resets their memories.
    np.testing.assert_array_equal(inputs.starts[1:], ends[:-1])
    np.testing.assert_array_equal(inputs.recalled.done[1:], ends[:-1] | begins[:-1])


def tuple_of(mapping):
    return Config(env_params=mapping).env_params


def test_without_known_fields_every_episode_begins_as_the_first():
    env = Tasks(make_env("CartPole-v1"), 2)
    inputs, _, result = play(env, num_steps=60, num_envs=4, recall=("done",), action=1)
    begins = np.asarray(inputs.recalled.done)
    for b in range(4):
        first = np.flatnonzero(begins[:, b])
        assert len(first) > 3
        obs = inputs.obs[first, b]
        np.testing.assert_array_equal(obs[0], obs[1])
        np.testing.assert_array_equal(obs[2], obs[3])
        assert np.any(obs[1] != obs[2])
    assert result.episodes.count.sum() == np.asarray(result.terminated).sum()


def test_observations_of_a_task_show_it():
    """FourRooms observes the goal: later episodes too begin with the sight of the task's."""
    env = Tasks(
        make_env(
            "FourRooms-misc", tuple_of({"max_steps_in_episode": 3, "resample_goal_pos": True})
        ),
        4,
    )
    inputs, states, _ = play(env)
    np.testing.assert_array_equal(inputs.obs[..., 2:], states.env.goal)


def test_values_look_beyond_an_episode_of_a_task():
    """One step an episode, reward 1, three episodes a task: values 3, 2 and 1, then it is over."""
    env = Tasks(make_env(probes.ConstantReward()), 3)
    _, _, result = play(env, num_steps=9)
    np.testing.assert_array_equal(result.terminated[:, 0], [False, False, True] * 3)
    np.testing.assert_array_equal(result.episodes.return_sum[2], 3 * 16)
