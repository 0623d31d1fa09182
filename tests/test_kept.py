"""The same run again begins at once, and is the same; what differs is compiled anew."""

import gc

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax import Config, ConfigError, run, sweep
from ppg_jax.kept import PROGRAMS, KeptPrograms
from tests import probes


def small(**changes):
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 5, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


def same(result, other):
    for name, x in other.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, name)


def test_the_same_run_again(monkeypatch):
    PROGRAMS.clear()
    first = run(small(), seeds=2, progress=False, evaluate_every=1, eval_episodes=2)
    changed = small(hparams={"gamma": 0.5}, seed=3)
    want = run(changed, seeds=3, progress=False)
    PROGRAMS.clear()
    alone = run(changed, seeds=3, progress=False)
    same(want, alone)  # other values and seeds are arguments of the same programs
    run(small(), seeds=2, progress=False, evaluate_every=1, eval_episodes=2)

    def compile_(*args, **kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    again = run(small(), seeds=2, progress=False, evaluate_every=1, eval_episodes=2)
    same(again, first)
    assert again.evaluations == first.evaluations
    assert again.compile_seconds < 1
    same(run(changed, seeds=3, progress=False), alone)
    with pytest.raises(AssertionError, match="compiled again"):
        run(small(n_pi=1), progress=False)
    with (
        jax.default_matmul_precision("highest"),
        pytest.raises(AssertionError, match="compiled again"),
    ):
        run(small(), seeds=2, progress=False)


def test_memory_stays_flat():
    held = []
    for _ in range(4):
        run(small(), progress=False)
        gc.collect()
        held.append(sum(x.nbytes for x in jax.live_arrays()))
    assert held[1] == held[-1]


def test_an_edited_environment_is_another():
    class Mine(probes.ActionMustMatch):
        def reward(self, state, action):
            return 1.0

    first = run(small(env=Mine()), progress=False)

    class Mine(probes.ActionMustMatch):  # as in a notebook's cell that is run again
        def reward(self, state, action):
            return 2.0

    second = run(small(env=Mine()), progress=False)
    assert first.metrics["episode_return"].max() == 1
    assert second.metrics["episode_return"].max() == 2


def test_only_so_many_are_kept():
    kept = KeptPrograms(2)
    for key in "abac":
        kept.get_or_make(key, lambda key=key: key.upper())
    assert [kept.get(key) for key in "abc"] == ["A", None, "C"]


def test_the_cache_folder_is_used_unless_it_is_not_wanted(monkeypatch):
    asked = []
    for module in ("runner", "sweeping"):
        monkeypatch.setattr(f"ppg_jax.{module}.use_compilation_cache", lambda: asked.append(1))
    run(small(), progress=False, cache=False)
    sweep(small(), {"gamma": [0.9]}, progress=False, cache=False)
    assert not asked
    run(small(), progress=False)
    sweep(small(), {"gamma": [0.9]}, progress=False)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, k: ppg_jax.make_train({}), "config: dict will not do; it should be a Config"),
        (lambda c, k: ppg_jax.init({}, k), "config: dict"),
        (lambda c, k: ppg_jax.train_phases("x", c.hparams, None, 1), "config: str"),
        (lambda c, k: ppg_jax.train_phases(c, {}, None, 1), "hparams: dict will not do"),
        (lambda c, k: ppg_jax.train_phases(c, c.hparams, None, 0), "n: 0 will not do"),
        (lambda c, k: ppg_jax.train_tail(c, 3, None), "hparams: int"),
        (lambda c, k: ppg_jax.make_train(c, env=3), "env: 3 will not do"),
        (lambda c, k: ppg_jax.make_train(c)(k, hparams={"gamma": 1}), "hparams: dict"),
        (lambda c, k: ppg_jax.run("cartpole"), "config: str"),
        (lambda c, k: ppg_jax.run(c, seeds=0), "seeds: 0"),
        (lambda c, k: ppg_jax.run(c, seeds="two"), "seeds: 'two'"),
        (lambda c, k: ppg_jax.sweep({}, {"gamma": [1]}), "config: dict"),
        (lambda c, k: ppg_jax.sweep(c, 3), "values: 3"),
        (lambda c, k: ppg_jax.sweep(c, {"lr": [1]}), "did you mean learning_rate"),
    ],
)
def test_what_is_no_configuration_is_said_in_a_line(call, words):
    with pytest.raises(ConfigError, match=words) as caught:
        call(small(), jax.random.key(0))
    assert "\n" not in str(caught.value)
