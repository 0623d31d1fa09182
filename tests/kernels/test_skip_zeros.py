"""Zeros left out of first layers: the same numbers, whatever observations set, and for all rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train
from ppg_jax.config.yaml_files import load_config
from ppg_jax.kernels.skip_zeros import WIDTHS, live_product, none_live, sort_components
from ppg_jax.networks import trunks
from ppg_jax.networks.agent import Agent, Unroll
from ppg_jax.networks.network import POLICY, VALUE
from ppg_jax.types import Inputs, NetworkState, Recalled

F, W = 160, 5


def observations(live, seed=0, shape=(4, 3)):
    """Bool ``[T, B, F]`` that set all components of a list and no other."""
    wanted = np.isin(np.arange(F), live)
    some = np.random.default_rng(seed).random((*shape, F)) < 0.4
    some[0, 0] = True
    return jnp.asarray(some & wanted)


def spread(count, seed=0):
    return np.random.default_rng(seed).permutation(F)[:count]


def test_components_that_were_set_come_first_the_others_after_them_in_their_order():
    first = jnp.array([[[0, 0, 1, 0, 1, 0]], [[0, 0, 0, 0, 1, 0]]], bool)
    live, obs = sort_components(none_live(6), first)
    assert obs.astype(int).tolist() == [[[1, 1, 0, 0, 0, 0]], [[0, 1, 0, 0, 0, 0]]]
    assert live.order.tolist() == [2, 4, 0, 1, 3, 5]
    assert live.count == 2
    live, obs = sort_components(live, jnp.array([[[1, 0, 0, 0, 1, 1]]], bool))
    assert obs.astype(int).tolist() == [[[0, 1, 1, 1, 0, 0]]]
    assert live.order.tolist() == [2, 4, 0, 5, 1, 3]
    assert live.count == 4
    assert live.rank.tolist() == [2, 4, 0, 5, 1, 3]


def test_what_was_sorted_before_is_sorted_by_every_later_order_too():
    live, kept = none_live(F), []
    for seed in range(4):
        obs = observations(spread(30, seed), seed)
        live, found = sort_components(live, obs)
        kept.append((obs, found))
    for obs, earlier in kept:
        np.testing.assert_array_equal(obs[..., live.order], earlier)
        assert not earlier[..., live.count :].any()


@pytest.mark.parametrize("count", [0, 1, *(int(F * part) + d for part in WIDTHS for d in (0, 1))])
def test_products_and_gradients_are_those_of_all_components(count):
    obs = observations(spread(min(count, F)))
    kernel, weights = jax.random.normal(jax.random.key(0), (2, F, W))
    weights = weights[:12]
    live, x = sort_components(none_live(F), obs)
    x = x.reshape(-1, F)
    assert live.count == min(count, F)

    def with_live(kernel):
        return (live_product(live, x, kernel) * weights).sum()

    def plainly(kernel):
        return ((obs.reshape(-1, F).astype(jnp.float32) @ kernel) * weights).sum()

    got, want = (jax.jit(jax.value_and_grad(f))(kernel) for f in (with_live, plainly))
    np.testing.assert_allclose(with_live(kernel), want[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-5)


def test_only_the_least_width_that_holds_them_is_multiplied():
    live, x = sort_components(none_live(F), observations(spread(70)))
    x = x.reshape(-1, F)
    kernel = jnp.where(jnp.arange(F)[:, None] == live.order[100], jnp.inf, jnp.ones((F, W)))

    def learnt(live):
        return jax.vjp(lambda k: live_product(live, x, k), kernel)[0]

    assert jnp.isfinite(learnt(live)).all()  # 100 wide: infinity x 0 is left out
    assert not jnp.isfinite(learnt(live.replace(count=jnp.int32(101)))).any()
    assert not jnp.isfinite(live_product(live, x, kernel)).any()


def test_rows_of_vmap_multiply_all_components_and_only_them():
    obs = jnp.stack([observations(spread(30, seed), seed) for seed in range(3)])
    kernels = jax.random.normal(jax.random.key(0), (3, F, W))

    def row(obs, kernel):
        live, x = sort_components(none_live(F), obs)
        return live, x, jax.vjp(lambda k: live_product(live, x.reshape(-1, F), k), kernel)[0]

    rows = jax.vmap(row, out_axes=(None, 0, 0))  # None: the order has no axis of rows
    live, x, products = rows(obs, kernels)
    assert live.count == F
    np.testing.assert_array_equal(x, obs)
    want = obs.reshape(3, -1, F).astype(jnp.float32) @ kernels
    np.testing.assert_allclose(products, want, rtol=1e-4, atol=1e-5)
    program = str(jax.make_jaxpr(rows)(obs, kernels))
    assert program.count("cond[") == 1
    assert "select_n" not in program.split("cond[")[1]
    *_, again = jax.vmap(rows, out_axes=(None, 0, 0))(obs[None], kernels[None])
    np.testing.assert_array_equal(again[0], products)


BREAKOUT = load_config("minatar/breakout").replace(
    num_envs=8, num_steps=16, num_minibatches=2, n_pi=2, num_aux_minibatches=2, e_aux=2,
    total_timesteps=5 * 128,
)  # fmt: skip


@pytest.mark.parametrize(("arch", "recall"), [("dual", ("action", "reward")), ("detach", ())])
def test_networks_say_the_same_of_sorted_observations(arch, recall):
    config = BREAKOUT.replace(arch=arch, network={"encoder": "mlp", "recall": recall})
    ppg = build(config)
    env, agent = ppg.env, ppg.agent
    state = jax.jit(init, static_argnums=0)(config, jax.random.key(0))
    lead = (3, 8)
    obs = jax.random.uniform(jax.random.key(1), (*lead, *env.observation.shape)) < 0.1
    starts = jnp.ones(lead, bool)
    recalled = Recalled(jnp.ones(lead, jnp.int32), 0.5 * jnp.ones(lead)) if recall else None
    order, sorted_obs = agent.store(state.network.replace(obs_order=agent.initial_order(None)), obs)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def learn(params, obs, order):
        inputs = Inputs(obs, starts, recalled)
        network = NetworkState(params, None, order)
        out = agent.unroll(network, inputs, state.memory, Unroll((POLICY, VALUE)))
        return (out.values**2 + out.policy.entropy()).sum(), out.values

    learn = jax.jit(learn)
    got, want = learn(state.params, sorted_obs, order), learn(state.params, obs, None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.slow
def test_a_whole_run_is_the_same_to_rounding(monkeypatch):
    # With a large epsilon Adam makes no steps of gradients that are nothing but rounding.
    config = BREAKOUT.replace(hparams={"adam_eps": 1e-2}, total_timesteps=4 * 128)
    widths = []

    def spy(live, x, kernel):
        widths.append(kernel.shape[1])
        return live_product(live, x, kernel)

    monkeypatch.setattr(trunks, "live_product", spy)
    state, metrics = jax.jit(make_train(config))(jax.random.key(0))
    # Values, both networks learning, old policies, both networks learning, values again.
    assert widths == [64, 128, 64, 128, 64]
    monkeypatch.setattr(Agent, "initial_order", lambda *_: None)
    plain_state, plain = jax.jit(make_train(config))(jax.random.key(0))
    assert set(metrics) == set(plain)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], plain[name], rtol=1e-3, atol=1e-4, err_msg=name)
    ours, theirs = (ravel_pytree(s.params)[0] for s in (state, plain_state))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_a_seed_does_not_depend_on_its_neighbours():
    config = BREAKOUT.replace(n_pi=1, e_aux=1, total_timesteps=128)
    train = jax.jit(jax.vmap(make_train(config)))
    a, _ = train(jax.vmap(jax.random.key)(jnp.array([1, 2])))
    b, _ = train(jax.vmap(jax.random.key)(jnp.array([1, 3])))
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(x[0], y[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"observation_dtype": "native"},
        {"network": {"encoder": "cnn"}},
        {"normalize_observations": True},
        {"env": "CartPole-v1", "observation_dtype": "native"},
    ],
)
def test_other_observations_stay_as_they_are(changes):
    config = BREAKOUT.replace(**changes)
    state = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    assert build(config).agent.initial_order(state.obs_stats) is None
    assert build(BREAKOUT).agent.initial_order(None) is not None
