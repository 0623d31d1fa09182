"""Whole runs: shapes, purity, segments, hyperparameters, seeds, statistics."""

import dataclasses
import re

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm import train
from ppg_jax.algorithm.aux_storage.stored import Stored
from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.metrics import phase_metrics
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train, train_phases, train_tail
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.envs.suites.gymnax import available_envs
from tests import probes

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def small(**changes):
    """Three phases of two iterations and a tail of one."""
    fields = {
        "env": "CartPole-v1", "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2,
        "num_aux_minibatches": 2, "e_aux": 2, "total_timesteps": 64 * 7,
        "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**(fields | changes))


def leaves(state):
    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return [plain(x) for x in jax.tree.leaves(state)]


def assert_same(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def run():
    config = small()
    return config, *jax.jit(make_train(config))(KEY)


def test_metrics_are_named_and_small(run):
    _config, state, metrics = run
    assert {x.shape for x in metrics.values()} == {(7,)}
    np.testing.assert_array_equal(metrics["env_steps"], 64 * np.arange(1, 8))
    assert state.iteration == 7
    for name in ("policy_loss", "value_loss", "entropy", "clip_fraction", "approx_kl"):
        assert jnp.isfinite(metrics[name]).all(), name
    for name in ("policy_grad_norm", "value_grad_norm"):
        assert (metrics[name] > 0).all(), name
    assert set(metrics) >= {"episode_return", "episode_length", "num_episodes"}
    assert "explained_variance" in metrics


def test_phase_metrics_stand_where_a_phase_ended(run):
    config, _, metrics = run
    ends = np.array([0, 1, 0, 1, 0, 1, 0], bool)
    assert "clone_kl" in phase_metrics(config)
    for name in phase_metrics(config):
        np.testing.assert_array_equal(np.isfinite(metrics[name]), ends, name)


@pytest.mark.bits
def test_several_calls_are_one_call_bit_for_bit(run):
    config, whole, whole_metrics = run
    hparams = jax.tree.map(jnp.float32, config.hparams)
    phases = jax.jit(train_phases, static_argnums=(0, 3))
    state = jax.jit(init, static_argnums=0)(config, KEY)
    parts = []
    for _ in range(3):  # of several phases: test_segments_do_not_depend_on_their_number
        state, metrics = phases(config, hparams, state, 1)
        parts.append(metrics)
    state, metrics = jax.jit(train_tail, static_argnums=0)(config, hparams, state)
    parts.append(metrics)
    assert_same(state, whole)
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    for name, x in whole_metrics.items():
        np.testing.assert_array_equal(x, joined[name], name)


@pytest.mark.bits
def test_given_and_built_in_hyperparameters_are_the_same_bits(run):
    config, whole, _ = run
    state, _ = jax.jit(make_train(config))(KEY, config.hparams)
    assert_same(state, whole)


@pytest.mark.bits
def test_hyperparameters_closed_over_are_the_same_bits_too(run):
    config, whole, _ = run
    state, _ = jax.jit(lambda key: make_train(config)(key, config.hparams))(KEY)
    assert_same(state, whole)


@pytest.mark.bits
@pytest.mark.parametrize("hide", ["no", "barrier"])
def test_why_hyperparameters_are_hidden_from_the_compiler(monkeypatch, hide):
    """Without ``hide_from_compiler`` built-in values give other bits than traced ones.

    An optimization barrier would be enough on jaxlib 0.9, but not on 0.11.
    """
    if hide == "barrier" and jax.__version_info__ < (0, 11):
        pytest.skip("the barrier works here")
    barrier = jax.lax.optimization_barrier if hide == "barrier" else lambda x: x
    monkeypatch.setattr(
        train, "hide_from_compiler", lambda h, _: barrier(jax.tree.map(jnp.float32, h))
    )
    rates = {
        "max_grad_norm": 0.5,
        "value_coef": 0.7,
        "entropy_coef": 0.013,
        "learning_rate": 3.3e-3,
    }
    config = small(env="Pendulum-v1", hparams=rates, total_timesteps=64 * 4, arch="shared", e_aux=0)
    options = {"xla_backend_optimization_level": "3"}  # as users compile
    run = jax.jit(make_train(config), compiler_options=options)
    (built_in, _), (given, _) = run(KEY), run(KEY, config.hparams)
    same = jax.tree.map(np.array_equal, built_in.params, given.params)
    assert not all(jax.tree.leaves(same))


@pytest.fixture(scope="module")
def one_phase():
    """A configuration, its training compiled, and what was appended whenever it was traced."""
    config, traces = small(total_timesteps=128), []
    train = make_train(config)

    @jax.jit
    def traced(key, hparams):
        traces.append(1)
        return train(key, hparams)

    return config, traced, traces


def test_one_program_for_every_hyperparameter(one_phase):
    config, traced, traces = one_phase
    one, _ = traced(KEY, config.hparams)
    other, _ = traced(KEY, config.hparams.replace(learning_rate=3e-3, beta_clone=0.1))
    assert len(traces) == 1
    assert head_bias(one) != head_bias(other)


def test_vmap_over_seeds_and_hyperparameters(one_phase):
    config, traced, _ = one_phase
    train = make_train(config)
    keys = jax.random.split(KEY, 3)
    rates = jnp.array([0.0, 1e-3])
    many = jax.vmap(lambda r: config.hparams.replace(learning_rate=r, aux_learning_rate=r))(rates)
    by_seed = jax.vmap(train, in_axes=(0, None))
    state, metrics = jax.jit(jax.vmap(by_seed, in_axes=(None, 0)))(keys, many)
    assert metrics["episode_return"].shape == (2, 3, 2)
    fresh = jax.vmap(lambda k: init(config, k))(keys)
    for trained, initial in zip(leaves(state.params), leaves(fresh.params), strict=True):
        np.testing.assert_allclose(trained[0], initial, atol=1e-6)  # rate 0 learned nothing
        assert trained.shape[:2] == (2, 3)
    alone, _ = traced(keys[1], config.hparams.replace(learning_rate=1e-3, aux_learning_rate=1e-3))
    # Rounding differs, and Adam makes steps of it; a step is 1e-3.
    for a, b in zip(leaves(alone.params), leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b[1, 1], atol=5e-4)


def test_a_seed_does_not_depend_on_its_neighbours():
    """Nor on one whose losses blow up."""
    config = small(total_timesteps=128)
    train = jax.jit(jax.vmap(make_train(config)))
    keys = jax.random.split(KEY, 4)
    np.testing.assert_array_equal(
        jax.random.key_data(jax.random.split(KEY, 2)), jax.random.key_data(keys[:2])
    )
    many = jax.tree.map(lambda x: jnp.full(4, x), config.hparams)
    broken = many.replace(learning_rate=many.learning_rate.at[3].set(jnp.nan))
    a, _ = train(keys, many)
    b, metrics = train(keys.at[1:].set(jax.random.split(jax.random.key(9), 3)), broken)
    assert not np.isfinite(metrics["policy_loss"][3]).all()
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x[0], y[0])


def test_nothing_leaves_the_program_on_the_way():
    text = jax.jit(make_train(small())).lower(KEY).as_text()
    assert not re.search(r"callback|infeed|outfeed", text)


def test_ppo_keeps_no_auxiliary_buffer_and_has_no_phase_metrics():
    config = small(e_aux=0, arch="shared", total_timesteps=128)
    state, metrics = jax.jit(make_train(config))(KEY)
    assert not set(phase_metrics(small())) & set(metrics)
    assert set(state.opt_states) == {"policy"}
    assert "aux_value_head" not in state.params["policy_net"]


def test_optimizers_where_epochs_differ():
    config = small(e_v=2, total_timesteps=128)
    state, _ = jax.jit(make_train(config))(KEY)
    steps = {name: int(opt.count) for name, opt in state.opt_states.items()}
    # 2 iterations x 2 minibatches x epochs; 1 phase x 2 minibatches x 2 epochs.
    assert steps == {"policy": 4, "value": 8, "aux": 4}


def test_observation_statistics_are_frozen_within_a_phase():
    config = small(normalize_observations=True, total_timesteps=128 * 2)
    state = init(config, KEY)
    np.testing.assert_allclose(state.obs_stats.count, 64, rtol=1e-3)  # of random actions
    phase = jax.jit(train_phases, static_argnums=(0, 3))
    first, metrics = phase(config, config.hparams, state, 1)
    # Acting and learning used what the phase began with; what it saw waits for the next.
    assert_same(first.obs_stats, state.obs_stats)
    np.testing.assert_allclose(first.seen_obs_stats.count, 64 + 128, rtol=1e-3)
    second, _ = phase(config, config.hparams, first, 1)
    assert_same(second.obs_stats, first.seen_obs_stats)
    # Within the phase only the statistics at its start count: other later ones change nothing.
    blank = state.replace(obs_stats=jax.tree.map(jnp.zeros_like, state.obs_stats))
    assert_same(phase(config, config.hparams, blank, 1)[0], first)
    # And they do count.
    seen = state.seen_obs_stats
    shifted = state.replace(seen_obs_stats=dataclasses.replace(seen, mean=seen.mean + 1.0))
    _, other = phase(config, config.hparams, shifted, 1)
    assert not np.array_equal(other["value_loss"], metrics["value_loss"])


def head_bias(state):
    return state.params["value_net"]["value_head"]["dense"]["bias"][0]


def test_the_auxiliary_rate_never_reaches_zero():
    config = small(lr_schedule="linear", aux_lr_schedule="linear", total_timesteps=128 * 3)
    state = init(config, KEY)
    phase = jax.jit(train_phases, static_argnums=(0, 3))
    hparams = config.hparams.replace(learning_rate=0.0, aux_learning_rate=1e-2)
    steps = []
    for _ in range(3):
        before = head_bias(state)
        state, _ = phase(config, hparams, state, 1)
        steps.append(abs(float(head_bias(state) - before)))
    assert steps[0] > steps[2] > 1e-4


# One for each kind of observation and action.
WITH_AUXILIARY_PHASE = {
    "CartPole-v1", "Pendulum-v1", "Breakout-MinAtar", "Catch-bsuite", "FourRooms-misc",
    "FrozenLake-misc", "Pong-misc",
}  # fmt: skip


@pytest.mark.parametrize("name", available_envs())
def test_every_environment_traces_through_a_whole_run(name):
    """The auxiliary phase sees no environment, only observations and actions of some kind."""
    kind = {} if name in WITH_AUXILIARY_PHASE else {"arch": "shared", "e_aux": 0}
    config = small(env=name, n_pi=1, total_timesteps=64, **kind)
    _, metrics = jax.eval_shape(make_train(config), KEY)
    assert metrics["episode_return"].shape == (1,)


@pytest.mark.bits
def test_an_environment_object_and_a_registered_one_train_alike():
    name = "ActionMustMatch-train-test"
    if name not in gymnax.registered_envs:
        gymnax.register(name, probes.ActionMustMatch)
    config = small(total_timesteps=128, arch="shared", e_aux=0)
    by_name, _ = jax.jit(make_train(config.replace(env=name)))(KEY)
    by_object, _ = jax.jit(make_train(config, env=probes.ActionMustMatch()))(KEY)
    assert_same(by_name.params, by_object.params)


GIVEN_WRONG = [
    (lambda c, s: make_train({}), "config: dict is invalid"),
    (lambda c, s: make_train("cartpole"), "config: str is invalid"),
    (lambda c, s: make_train(c, env=3), "env: "),
    (lambda c, s: make_train(c)(jax.random.key(0), {"gamma": 0.9}), "hparams: dict is invalid"),
    (lambda c, s: make_train(c)(0), "key: int is invalid"),
    (lambda c, s: make_train(c)(jax.random.split(jax.random.key(0), 3)), "key: .*shape \\(3,\\)"),
    (lambda c, s: init({}, jax.random.key(0)), "config: dict is invalid"),
    (lambda c, s: init(c, None), "key: NoneType is invalid"),
    (lambda c, s: train_phases("x", c.hparams, s, 1), "config: str is invalid"),
    (lambda c, s: train_phases(c, c, s, 1), "hparams: Config is invalid"),
    (lambda c, s: train_phases(c, c.hparams, s.params, 1), "state: dict is invalid"),
    (lambda c, s: train_phases(c, c.hparams, s, 0), "n: 0 is invalid"),
    (lambda c, s: train_phases(c, c.hparams, s, 1.5), "n: 1.5 is invalid"),
    (lambda c, s: train_tail(c.hparams, c.hparams, s), "config: Hyperparams is invalid"),
    (lambda c, s: train_tail(c, None, s), "hparams: NoneType is invalid"),
]


@pytest.mark.parametrize(("call", "said"), GIVEN_WRONG)
def test_what_is_given_wrong_is_said_in_a_line(call, said):
    config = Config(num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2)
    state = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    with pytest.raises(ConfigError, match=f"^{said}") as caught:
        call(config, state)
    assert "\n" not in str(caught.value)


def test_rollout_shuffling_and_auxiliary_phase_draw_from_keys_of_their_own(monkeypatch):
    """Three keys an iteration, all different, and other ones in every iteration."""
    config = small()
    keys = {"collect": [], "policy_phase": [], "aux_phase": []}

    def spy(name, result):
        def called(*args):
            keys[name].append(tuple(jax.random.key_data(args[-1]).tolist()))
            return result(*args)

        monkeypatch.setattr(train, name, called)

    spy("collect", lambda ppg, state, key: (state, None, None))
    spy("policy_phase", lambda ppg, hparams, state, batch, key: (state, {}))
    spy("aux_phase", lambda ppg, hparams, state, buffer, key: (state, {}))
    monkeypatch.setattr(train, "make_batch", lambda ppg, hparams, state, rollout: (state, None))
    monkeypatch.setattr(train, "rollout_metrics", lambda *_: {})
    monkeypatch.setattr(Stored, "keep", lambda self, buffer, *_: buffer)
    state = jax.jit(init, static_argnums=0)(config, KEY)
    with jax.disable_jit():
        for _ in range(2):
            state, _ = train.phase(build(config), config.hparams, state)
    assert [len(drawn) for drawn in keys.values()] == [4, 4, 2]
    drawn = [key for some in keys.values() for key in some]
    assert len(set(drawn)) == len(drawn)
