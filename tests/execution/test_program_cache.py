"""Compiled programs are kept while the process lives, and none that does not fit is used."""

import threading

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax.config.config import Config
from ppg_jax.execution import program_cache as module
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import kept
from tests import probes

SMALL = {  # PPO of whole phases: two programs that compile soon
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "arch": "shared", "e_aux": 0,
    "total_timesteps": 128, "network": {"hidden_sizes": (8,)},
}  # fmt: skip
CONFIG = Config(**SMALL)
ALONE = Layout("map", 1, 1, 1)


@pytest.fixture
def made():
    """What was asked for, each time something had to be made."""
    calls = []

    @kept
    def make(config, layout, *rest):
        calls.append((config, layout, *rest))
        return object()

    make.calls = calls
    return make


def test_what_does_not_shape_a_program_is_left_out(made):
    first = made(CONFIG, ALONE, 3)
    others = CONFIG.replace(seed=7, seeds=4, devices=2, hparams={"gamma": 0.5})
    assert made(others, Layout("map", 1, 1, 9, workers=2), 3) is first
    assert len(made.calls) == 1
    made(others, ALONE, 4)
    made(others, Layout("vmap", 1, 2, 2), 3)
    made(others.replace(n_pi=1), ALONE, 3)
    assert len(made.calls) == 4


def test_what_jax_does_not_compare(made):
    make = made
    first = make(CONFIG, ALONE)
    with jax.debug_nans(True):
        assert make(CONFIG, ALONE) is not first
    with jax.debug_infs(True):
        assert make(CONFIG, ALONE) is not first
    whole = CONFIG.replace(env_params={"gravity": 10})
    assert whole == CONFIG.replace(env_params={"gravity": 10.0})
    assert make(whole, ALONE) is not make(CONFIG.replace(env_params={"gravity": 10.0}), ALONE)
    assert make(CONFIG, ALONE) is first


class Equal(probes.ConstantReward):
    """Equal to all of its kind."""

    def __init__(self, gain):
        self.gain = gain

    def __eq__(self, other):
        return isinstance(other, Equal)

    def __hash__(self):
        return 1

    def reward(self, state, action):
        return self.gain


def test_an_environment_is_the_object_and_what_it_holds(made):
    env = Equal(1.0)
    config = CONFIG.replace(env=env)
    first = made(config, ALONE)
    assert made(config.replace(seed=3), ALONE) is first
    assert made(CONFIG.replace(env=Equal(1.0)), ALONE) is not first
    env.gain = 2.0
    assert made(config, ALONE) is not first


def test_the_newest_are_kept(made):
    first = made(CONFIG, ALONE, 0)
    for i in range(1, module.KEPT + 1):
        made(CONFIG, ALONE, i)
    assert made(CONFIG, ALONE, module.KEPT) is not None
    assert len(made.calls) == module.KEPT + 1
    assert made(CONFIG, ALONE, 0) is not first


def test_the_second_run_begins_at_once():
    """With other seeds and hyperparameters too; the same numbers, and no more memory."""

    def run(**changes):
        config = CONFIG.replace(**changes)
        return ppg_jax.run(config, progress=False, evaluate_every=1, eval_episodes=2)

    def held():
        return sum(x.nbytes for x in jax.live_arrays())

    jax.clear_caches()
    first = run(seeds=2)
    size = held()
    again = run(seeds=2)
    assert again.compile_seconds < 0.1 * first.compile_seconds
    for name, values in first.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values, name)
    assert again.evaluations == first.evaluations
    del first
    other = run(seeds=1, seed=5, hparams={"learning_rate": 1e-4})
    assert other.compile_seconds < 0.5
    del other
    assert held() <= size
    with jax.default_matmul_precision("highest"):
        assert run(seeds=1).compile_seconds > 0.2
    jax.clear_caches()
    assert run(seeds=1).compile_seconds > 0.2


def test_an_edited_environment_is_trained():
    """Made anew, as by a notebook's cell that runs again, or set anew."""

    def returns(env):
        result = ppg_jax.run(CONFIG.replace(env=env, n_pi=4), progress=False)
        return result.metrics["episode_return"][0, -1]

    env = Equal(1.0)
    assert returns(env) == 1.0
    assert returns(Equal(3.0)) == 3.0
    env.gain = 2.0
    assert returns(env) == 2.0


def test_threads_share_them():
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ppg_jax.run(CONFIG, progress=False)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for name, values in found[0].metrics.items():
        np.testing.assert_array_equal(found[2].metrics[name], values, name)


def test_what_failed_is_tried_again():
    class Broken(probes.ConstantReward):
        works = False

        def reward(self, state, action):
            if not self.works:
                raise ArithmeticError("not yet")
            return 1.0

    env = Broken()
    config = CONFIG.replace(env=env)
    with pytest.raises(ppg_jax.ConfigError, match="not yet"):
        ppg_jax.run(config, progress=False)
    Broken.works = True
    assert ppg_jax.run(config, progress=False).finished
