"""Networks: convolutions, pooling, initial weights, heads, reading of observations."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.backend import CPU
from ppg_jax.config.fields import ConfigError
from ppg_jax.config.network import NetworkConfig
from ppg_jax.functional.running_stats import init_stats, update_stats
from ppg_jax.networks import POLICY_NET
from ppg_jax.networks.agent import Agent, Unroll
from ppg_jax.networks.layers import Dense, make_initializer, normed_columns
from ppg_jax.networks.network import AUX_VALUE, POLICY, VALUE, previous_step
from ppg_jax.networks.resolve import resolve_network
from ppg_jax.types import ActionSpec, Inputs, NetworkState, ObservationSpec, Recalled, no_step

KEY = jax.random.key(0)


@pytest.mark.slow
def test_parameters_do_not_depend_on_the_implementation():
    obs = jax.random.bernoulli(KEY, 0.3, (2, 3, 10, 10, 4))
    large = jnp.zeros((2, 3, 40, 40, 1), jnp.uint8)
    spec = ObservationSpec((40, 40, 1), jnp.uint8)
    natures = (agent(spec, encoder="nature", conv=conv) for conv in ("lax", "patches"))
    chex.assert_trees_all_equal(*map(init, natures))
    assert unroll(agent(spec, encoder="nature"), large).values.shape == (2, 3)
    for encoder, channels in (("cnn", (4, 4)), ("impala", (2,))):
        by_lax, by_patches = (
            agent(IMAGE, encoder=encoder, channels=channels, conv=conv)
            for conv in ("lax", "patches")
        )
        chex.assert_trees_all_equal(init(by_lax), init(by_patches))
        np.testing.assert_allclose(
            unroll(by_lax, obs).values, unroll(by_patches, obs).values, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("encoder", ["mlp", "cnn", "impala"])
def test_bfloat16_is_only_for_the_encoders_arithmetic(encoder):
    obs = jax.random.bernoulli(KEY, 0.3, (4, 3, 10, 10, 4))
    exact, rough = (
        agent(IMAGE, encoder=encoder, compute_dtype=dtype, channels=(4,))
        for dtype in ("float32", "bfloat16")
    )
    chex.assert_trees_all_equal(init(exact), init(rough))
    a, b = unroll(exact, obs), unroll(rough, obs)
    assert {x.dtype for x in jax.tree.leaves(b)} == {jnp.dtype("float32")}
    assert not np.array_equal(a.values, b.values)
    np.testing.assert_allclose(a.values, b.values, atol=0.02 * np.abs(a.values).max())


def test_initial_weights():
    w = normed_columns(0.7)(KEY, (3, 3, 2, 5))
    np.testing.assert_allclose(np.linalg.norm(w.reshape(-1, 5), axis=0), 0.7, rtol=1e-5)
    w = make_initializer("orthogonal", 2.0)(KEY, (6, 4))
    np.testing.assert_allclose(w.T @ w, 4 * np.eye(4), atol=1e-5)


def agent(observation, action=None, arch="dual", **network):
    action = action or ActionSpec("discrete", (3,))
    resolved = resolve_network(NetworkConfig(**network), observation, CPU)
    return Agent(arch, resolved, observation, action, arch != "separate")


def init(agent):
    """Parameters, compiled as one program: an operation at a time takes longer."""
    return jax.jit(agent.init)(KEY)


def unroll(agent, obs, stats=None, wanted=(POLICY, VALUE, AUX_VALUE), **options):
    params, memory = init(agent), agent.initial_memory(obs.shape[1])
    starts = jnp.zeros(obs.shape[:2], bool)
    compiled = jax.jit(functools.partial(agent.unroll, how=Unroll(wanted, **options)))
    return compiled(NetworkState(params, stats), Inputs(obs, starts), memory)


VECTOR = ObservationSpec((4,), jnp.float32)
IMAGE = ObservationSpec((10, 10, 4), jnp.bool_)


@pytest.mark.parametrize(
    ("observation", "action", "event"),
    [
        (VECTOR, ActionSpec("discrete", (3,)), ()),
        (VECTOR, ActionSpec("multi_discrete", (3, 2)), (2,)),
        (VECTOR, ActionSpec("continuous", (2,)), (2,)),
        (IMAGE, ActionSpec("discrete", (3,)), ()),
        (ObservationSpec((5, 5), jnp.int32), ActionSpec("discrete", (3,)), ()),
        (ObservationSpec((), jnp.int32, categories=(7,)), ActionSpec("discrete", (3,)), ()),
    ],
)
def test_shapes_for_every_space(observation, action, event):
    obs = jnp.ones((2, 3, *observation.shape), observation.dtype)
    out = unroll(agent(observation, action), obs)
    assert out.values.shape == out.aux_values.shape == (2, 3)
    actions = out.policy.sample(KEY)
    assert actions.shape == (2, 3, *event)
    assert out.policy.log_prob(actions).shape == (2, 3)


def test_encoders_by_shape_and_by_name():
    def encoders(spec, **network):
        return resolve_network(NetworkConfig(**network), spec, CPU).encoder

    assert encoders(VECTOR) == "mlp"
    assert encoders(IMAGE) == "cnn"
    assert encoders(IMAGE, encoder="impala") == "impala"
    assert encoders(ObservationSpec((2, 2, 3), jnp.float32)) == "mlp"
    with pytest.raises(ConfigError, match=r"network.encoder: cnn .* \(4,\)"):
        encoders(VECTOR, encoder="cnn")
    with pytest.raises(ConfigError, match=r"network.channels: 5"):
        encoders(IMAGE, encoder="cnn", channels=(4,) * 5)


def test_nature_has_three_layers_with_strides():
    spec = ObservationSpec((64, 40, 3), jnp.uint8, scale=255.0)
    nature = agent(spec, encoder="nature")
    shapes = {x.shape for x in jax.tree.leaves(init(nature)[POLICY_NET])}
    assert {(8, 8, 3, 32), (4, 4, 32, 64), (3, 3, 64, 64), (4 * 1 * 64, 512)} <= shapes
    with pytest.raises(ConfigError, match=r"nature leave nothing of observations \(35, 35, 3\)"):
        agent(ObservationSpec((35, 35, 3), jnp.uint8), encoder="nature")
    agent(ObservationSpec((36, 36, 3), jnp.uint8), encoder="nature")
    with pytest.raises(ConfigError, match=r"network.channels: 4 layers .* at most 3"):
        agent(spec, encoder="nature", channels=(2,) * 4)


def test_first_policy_is_nearly_uniform_and_scales_can_be_set():
    obs = jax.random.normal(KEY, (50, 1, 4))
    assert unroll(agent(VECTOR), obs).policy.entropy().min() > 0.999 * np.log(3)
    wild = agent(VECTOR, policy_head_scale=5.0)
    assert unroll(wild, obs).policy.entropy().min() < 0.9 * np.log(3)


def test_observations_are_scaled_or_standardised():
    spec = ObservationSpec((4,), jnp.uint8, scale=255.0)
    obs = jnp.full((1, 1, 4), 255, jnp.uint8)
    plain = agent(ObservationSpec((4,), jnp.float32))
    np.testing.assert_allclose(
        unroll(agent(spec), obs).values, unroll(plain, jnp.ones((1, 1, 4))).values, rtol=1e-6
    )
    stats = update_stats(init_stats((4,)), jnp.array([[0.0] * 4, [200.0] * 4]))
    np.testing.assert_allclose(
        unroll(agent(spec), obs, stats).values,
        unroll(plain, jnp.full((1, 1, 4), 1.55)).values,
        rtol=1e-3,
    )


def test_only_wanted_networks_run():
    out = unroll(agent(VECTOR), jnp.ones((1, 1, 4)), wanted=(VALUE,))
    assert out.policy is None
    assert out.aux_values is None
    no_aux = Agent("dual", agent(VECTOR).network, VECTOR, ActionSpec("discrete", (3,)), False)
    assert AUX_VALUE not in init(no_aux)["policy_net"]


def test_two_networks_together_are_each_alone():
    """Together their first layers are one product; forward and gradient say the same."""
    a = agent(VECTOR)
    params, obs = init(a), jax.random.normal(KEY, (2, 3, 4))
    starts, memory = jnp.zeros((2, 3), bool), a.initial_memory(3)

    def loss(params, *calls):
        total = 0.0
        for wanted in calls:
            out = a.unroll(NetworkState(params), Inputs(obs, starts), memory, Unroll(wanted))
            total += 0.0 if out.policy is None else jnp.square(out.policy.log_probs).sum()
            total += 0.0 if out.values is None else jnp.square(out.values - 1.0).sum()
        return total

    together = jax.value_and_grad(loss)(params, (POLICY, VALUE))
    chex.assert_trees_all_close(together, jax.value_and_grad(loss)(params, (POLICY,), (VALUE,)))
    assert all(jnp.abs(g).sum() > 0 for g in jax.tree.leaves(together[1]["value_net"]))


def test_dense_is_flax_s():
    ours, theirs = Dense(3, normed_columns(1.0)), nn.Dense(3, kernel_init=normed_columns(1.0))
    x = jax.random.normal(KEY, (2, 4))
    params = theirs.init(KEY, x)
    chex.assert_trees_all_equal(params, ours.init(KEY, x))
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-6)


def test_a_step_is_an_unrolled_sequence_of_one():
    a = agent(VECTOR)
    params, memory, obs = init(a), a.initial_memory(3), jax.random.normal(KEY, (3, 4))
    starts = jnp.zeros(3, bool)
    network, heads = NetworkState(params), (POLICY, VALUE)
    one = a.step(network, Inputs(obs, starts), memory, heads)
    many = a.unroll(network, Inputs(obs[None], starts[None]), memory, Unroll(heads))
    np.testing.assert_array_equal(one.values, many.values[0])
    np.testing.assert_array_equal(one.policy.log_probs, many.policy.log_probs[0])


def test_encoders_agree_on_compact_and_native_observations():
    bits = jax.random.bernoulli(KEY, 0.3, (2, 3, 10, 10, 4))
    native = ObservationSpec((10, 10, 4), jnp.float32)
    a, b = unroll(agent(IMAGE), bits), unroll(agent(native), bits.astype(jnp.float32))
    np.testing.assert_array_equal(a.values, b.values)


def test_max_pool_of_an_impala_stack_halves_the_image():
    spec = ObservationSpec((9, 8, 3), jnp.uint8, scale=255.0)
    out = unroll(agent(spec, encoder="impala", channels=(4,)), jnp.ones((1, 2, 9, 8, 3), jnp.uint8))
    assert out.values.shape == (1, 2)


@pytest.mark.parametrize(
    ("action", "given", "want"),
    [
        (ActionSpec("discrete", (3,)), 1, [0, 1, 0]),
        (ActionSpec("multi_discrete", (3, 2)), [2, 0], [0, 0, 1, 1, 0]),
        (ActionSpec("continuous", (2,)), [0.5, -2.0], [0.5, -2.0]),
    ],
)
def test_the_step_before_as_numbers_for_every_action_space(action, given, want):
    everything = ("action", "reward", "done")
    nothing = no_step(action, everything, (1, 2))
    size = len(want)
    np.testing.assert_array_equal(
        previous_step(action, nothing), np.tile([0.0] * size + [0.0, 1.0], (1, 2, 1))
    )
    actions = jnp.broadcast_to(jnp.array(given), nothing.actions.shape)
    step = Recalled(actions.astype(nothing.actions.dtype), jnp.full((1, 2), 3.0), ~nothing.done)
    np.testing.assert_array_equal(
        previous_step(action, step), np.tile([*want, 3.0, 0.0], (1, 2, 1))
    )
    assert no_step(action, (), (1, 2)) is None
    assert previous_step(action, None) is None
    # And every encoder takes them.
    for spec, encoder in ((VECTOR, "mlp"), (IMAGE, "cnn"), (IMAGE, "impala")):
        a = agent(spec, action, encoder=encoder, recall=everything, channels=(4,))
        obs = jnp.ones((1, 2, *spec.shape), spec.dtype)
        params, memory = init(a), a.initial_memory(2)

        @jax.jit
        def values(recalled, a=a, obs=obs, params=params, memory=memory):
            inputs = Inputs(obs, nothing.done, recalled)
            return a.unroll(NetworkState(params), inputs, memory, Unroll((VALUE,))).values

        assert not np.allclose(values(nothing), values(step))
