"""Programs that are compiled ahead are the ones that training uses, and change no result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.config.config import Config
from ppg_jax.execution import Ahead, Training, plan_training, segments, train_segments
from ppg_jax.runs import resolve

SIZES = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
    "e_aux": 1, "total_timesteps": 4 * 8 * 5, "network": {"hidden_sizes": (8,)},
}  # fmt: skip


def train(config, training):
    plan = plan_training(config, training)
    hparams = jax.tree.map(lambda x: jnp.repeat(jnp.float32(x), 2), config.hparams)
    keys = jax.random.split(jax.random.key(0), 2)
    return [
        segment.metrics["value_loss"]
        for segment in train_segments(plan.config, plan.layout, hparams, keys, shared=False)
    ]


@pytest.fixture
def compiled():
    """One entry for each program that XLA compiles."""
    found = []

    def count(name, _, **__):
        if name.endswith("backend_compile_duration"):
            found.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)
    yield found
    jax.monitoring.unregister_event_duration_listener(count)


def test_nothing_is_compiled_twice(compiled, monkeypatch):
    config, training = resolve(Config(**SIZES, e_pi=2)), Training(2, shared=False)
    with Ahead(2) as ahead:
        ahead.begin("it", config, training)
        ahead.begin("it", config, training)  # only once
        ahead.finish("it")
        ahead.finish("another, which was never begun")
    assert len(compiled) >= 3  # init, phases and the iteration after them
    counts = []
    compile_now = segments.compile_all

    def counted(*args):
        before = len(compiled)
        found = compile_now(*args)
        counts.append(len(compiled) - before)
        return found

    monkeypatch.setattr(segments, "compile_all", counted)
    first = train(config, training)
    assert counts == [0]
    jax.clear_caches()
    again = train(config, training)
    assert counts[1] >= 3
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_wrong_is_raised_by_the_training():
    config = resolve(Config(**SIZES)).replace(devices=1_000)
    with Ahead(1) as ahead:
        ahead.begin("it", config, Training(2, shared=False))
        ahead.finish("it")
