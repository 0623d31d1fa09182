"""Memories: a step at a time against whole sequences, resets, gradients, windows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.backend import CPU
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.config.network import NetworkConfig
from ppg_jax.networks.memory import MEMORIES, last_state, unroll_memory
from ppg_jax.networks.recurrence import gru_cell, linear_recurrence, lstm_cell, recur
from ppg_jax.networks.resolve import resolve_network
from ppg_jax.types import ObservationSpec

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
T, B, F = 9, 3, 4
SPEC = ObservationSpec((5,), jnp.float32)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
GATED = [name for name in MEMORIES if name != "none"]

features = jax.random.normal(KEY, (T, B, F))
# Episodes that begin at the first step, in the middle, twice in a row, at the last one, or never.
starts = jnp.zeros((T, B), bool).at[0, 0].set(True).at[4, 0].set(True).at[8, 0].set(True)
starts = starts.at[3, 1].set(True).at[4, 1].set(True)


def make(name, **fields):
    config = NetworkConfig(
        memory=name, hidden_sizes=(F,), memory_size=6, memory_horizon=8, activation="tanh", **fields
    )
    config = resolve_network(config, SPEC, CPU)
    module = MEMORIES[name](config)
    state = module.initial_state(B)
    params = module.init(jax.random.key(1), features, starts, state)
    return lambda *args: module.apply(params, *args), state, module, params


def some_state(state):
    """What a memory may hold in the middle of a run."""
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(2), max(1, len(leaves)))
    filled = [
        jnp.tanh(jax.random.normal(k, x.shape)).astype(x.dtype)
        if x.dtype != bool
        else jax.random.bernoulli(k, 0.3, x.shape)
        for k, x in zip(keys, leaves, strict=False)
    ]
    return jax.tree.unflatten(tree, filled)


def by_steps(remember, state, features=features, starts=starts):
    summaries, states = [], []
    for f, s in zip(features, starts, strict=True):
        summary, after = remember(f[None], s[None], state)
        state = last_state(after)
        summaries.append(summary[0])
        states.append(state)
    return jnp.stack(summaries), jax.tree.map(lambda *x: jnp.stack(x), *states)


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(CLOSE | tolerance)), a, b)


@pytest.mark.parametrize("name", MEMORIES)
def test_steps_and_sequences_agree(name):
    remember, state, _, _ = make(name, **({"history_length": 4} if name == "history" else {}))
    for before in (state, some_state(state)):
        assert_close(jax.jit(remember)(features, starts, before), by_steps(remember, before))


@pytest.mark.parametrize("name", GATED)
def test_nothing_passes_an_episodes_start(name):
    remember, state, _, _ = make(name)
    summaries, _ = remember(features, starts, some_state(state))
    fresh, _ = remember(features[4:], starts[4:], state)
    for env in (0, 1):
        np.testing.assert_allclose(summaries[4:, env], fresh[:, env], **CLOSE)
    # Where none begins, what was before counts.
    assert np.abs(summaries[4:, 2] - fresh[:, 2]).max() > 1e-3


@pytest.mark.parametrize("name", GATED)
def test_memories_remember(name):
    remember, state, _, _ = make(name)
    other = features.at[2, 2].add(1.0)
    change = remember(other, starts, state)[0] - remember(features, starts, state)[0]
    assert np.abs(change[:2]).max() == 0
    assert (np.abs(change[2:6, 2]).max(-1) > 1e-4).all()
    assert np.abs(change[:, :2]).max() == 0


@pytest.mark.parametrize("name", GATED)
def test_initial_states_are_zero_and_starts_are_them(name):
    remember, state, _, _ = make(name)
    assert all(not np.any(x) for x in jax.tree.leaves(state))
    begin = starts.at[0].set(True)
    assert_close(
        remember(features, begin, some_state(state))[0], remember(features, begin, state)[0]
    )


def test_lstm_is_flax_s():
    remember, _, _, params = make("lstm")
    ours = params["params"]
    order = {"i": 0, "f": 1, "g": 2, "o": 3}
    pick = {k: slice(6 * n, 6 * n + 6) for k, n in order.items()}
    theirs = {
        f"h{k}": {"kernel": ours["recurrent"][:, s], "bias": ours["input"]["bias"][s]}
        for k, s in pick.items()
    } | {f"i{k}": {"kernel": ours["input"]["kernel"][:, s]} for k, s in pick.items()}
    cell = nn.OptimizedLSTMCell(6)
    carry = jnp.zeros((B, 6)), jnp.zeros((B, 6))
    found, _ = remember(features, jnp.zeros_like(starts), {"cell": carry[0], "hidden": carry[1]})
    for t in range(T):
        carry, hidden = cell.apply({"params": theirs}, carry, features[t])
        np.testing.assert_allclose(found[t], hidden, **CLOSE)


def test_gru_is_flax_s():
    remember, state, _, params = make("gru")
    ours, pick = params["params"], {"r": slice(0, 6), "z": slice(6, 12), "n": slice(12, 18)}
    theirs = {f"h{k}": {"kernel": ours["recurrent"][:, s]} for k, s in pick.items()}
    theirs["hn"]["bias"] = jnp.zeros(6)
    theirs |= {
        f"i{k}": jax.tree.map(lambda x, s=s: x[..., s], ours["input"]) for k, s in pick.items()
    }
    found, _ = remember(features, jnp.zeros_like(starts), state)
    hidden = state["hidden"]
    for t in range(T):
        hidden, _ = nn.GRUCell(6).apply({"params": theirs}, hidden, features[t])
        np.testing.assert_allclose(found[t], hidden, **CLOSE)


def loops(cell, kernel, drive, starts, state):
    """``recur`` as a Python loop, differentiated by JAX."""
    states = []
    for t in range(T):
        state = jax.tree.map(lambda x, t=t: jnp.where(starts[t][:, None], 0.0, x), state)
        state = cell(drive[t], state["hidden"] @ kernel, state)
        states.append(state)
    return jax.tree.map(lambda *x: jnp.stack(x), *states)


@pytest.mark.parametrize(("cell", "gates"), [(lstm_cell, 4), (gru_cell, 3)])
def test_gradients_of_recurrences(cell, gates):
    keys = jax.random.split(KEY, 5)
    kernel = jax.random.normal(keys[0], (6, gates * 6))
    drive = jax.random.normal(keys[1], (T, B, gates * 6))
    state = {"hidden": jax.random.normal(keys[2], (B, 6))}
    if gates == 4:
        state["cell"] = jax.random.normal(keys[3], (B, 6))

    def loss(run, kernel, drive, state):
        states = run(cell, kernel, drive, starts, state)
        return sum(jnp.sin(3 * x).sum() for x in jax.tree.leaves(states))

    def both(run):
        return jax.value_and_grad(loss, argnums=(1, 2, 3))(run, kernel, drive, state)

    assert_close(both(recur), both(loops), rtol=1e-3, atol=1e-4)


def test_gradients_of_the_linear_recurrence():
    keys = jax.random.split(KEY, 3)
    keep = jnp.where(starts[..., None], 0.0, jax.random.uniform(keys[0], (T, B, 2)))
    drive, state = jax.random.normal(keys[1], (T, B, 2)), jax.random.normal(keys[2], (B, 2))

    def loop(keep, drive, state):
        states = []
        for t in range(T):
            state = keep[t] * state + drive[t]
            states.append(state)
        return jnp.stack(states)

    def both(run):
        return jax.value_and_grad(lambda *a: jnp.sin(3 * run(*a)).sum(), argnums=(0, 1, 2))(
            keep, drive, state
        )

    assert_close(both(linear_recurrence), both(loop))


def test_the_parallel_memory_runs_no_loop_over_time():
    remember, state, _, _ = make("mingru")
    text = str(jax.make_jaxpr(jax.grad(lambda f: remember(f, starts, state)[0].sum()))(features))
    assert "while[" not in text
    assert "scan[" not in text


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_history_is_its_window_from_zero(length):
    remember, state, _, params = make("history", history_length=length)
    found, states = remember(features, jnp.zeros_like(starts), some_state(state))
    drive = features @ params["params"]["input"]["kernel"] + params["params"]["input"]["bias"]
    for t in range(length - 1, T):
        one = {"cell": jnp.zeros((B, 6)), "hidden": jnp.zeros((B, 6))}
        for age in range(t - length + 1, t + 1):
            one = lstm_cell(drive[age], one["hidden"] @ params["params"]["recurrent"], one)
        np.testing.assert_allclose(found[t], one["hidden"], **CLOSE)
    window = np.moveaxis(np.asarray(states["features"][-1]), 1, 0)
    np.testing.assert_array_equal(window, features[T - length + 1 :])


@pytest.mark.parametrize("name", GATED)
def test_time_constants_are_spread_over_the_horizon(name):
    config = NetworkConfig(memory=name, hidden_sizes=(2,), memory_size=400, memory_horizon=50)
    module = MEMORIES[name](resolve_network(config, SPEC, CPU))
    args = jnp.zeros((1, 1, 2)), jnp.zeros((1, 1), bool), module.initial_state(1)
    params = module.init(KEY, *args)["params"]
    bias = {
        "lstm": lambda: params["input"]["bias"][400:800],
        "history": lambda: params["input"]["bias"][400:800],
        "gru": lambda: params["input"]["bias"][400:800],
        "mingru": lambda: params["keep"]["bias"],
    }[name]()
    constants = np.exp(bias)  # a gate sigmoid(b) forgets over 1 + exp(b) steps
    np.testing.assert_allclose(np.quantile(constants, [0, 0.5, 1]), [1, 25.5, 50], atol=3)


@pytest.mark.parametrize("name", MEMORIES)
def test_burn_in_only_warms_the_state_up(name):
    remember, state, _, _ = make(name)
    before = some_state(state)

    def late(features):
        return unroll_memory(remember, features, starts, before, burn_in=3)[0]

    assert_close(late(features), remember(features, starts, before)[0][3:])
    grad = jax.grad(lambda f: jnp.square(late(f)).sum())(features)
    assert not np.any(grad[:3])
    assert np.any(grad[3])


@pytest.mark.parametrize("name", GATED)
def test_gradients_stop_where_a_segment_begins(name):
    remember, state, _, _ = make(name)
    before = some_state(state)

    def cut(features):
        return unroll_memory(remember, features, starts, before, bptt_steps=3)[0]

    assert_close(cut(features), remember(features, starts, before)[0])
    # Environment 2 begins no episode: step 5 ends the segment of steps 3 to 5.
    grad = jax.grad(lambda f: cut(f)[5, 2].sum())(features)[:, 2]
    assert not np.any(grad[:3])
    assert np.abs(grad[3:6]).min(axis=-1).max() > 0
    assert np.any(grad[3])
    whole = jax.grad(lambda f: remember(f, starts, before)[0][5, 2].sum())(features)[:, 2]
    assert np.any(whole[2])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minibatch_by": "sample"}, "minibatch_by: sample .* needs whole sequences; use env"),
        ({"burn_in": 16}, "burn_in: 16 leaves no step of num_steps 16"),
        ({"bptt_steps": 5}, "bptt_steps: 5 does not divide the 16 steps .* use 4 or 8"),
        ({"burn_in": 4, "bptt_steps": 8}, "bptt_steps: 8 does not divide the 12 steps"),
        ({"burn_in": 4, "network": {}}, "burn_in: 4 has no effect without a memory"),
        ({"network": {"memory": "ltsm"}}, "network.memory: 'ltsm' is invalid.*'lstm'"),
        ({"network": {"recall": ["acton"]}}, "network.recall.0: 'acton' is invalid.*'action'"),
        ({"network": {"memory": "gru", "memory_size": 0}}, "network.memory_size: 0 is invalid"),
        ({"adapt_beta_clone": True, "e_aux": 0}, "adapt_beta_clone: true needs an auxiliary phase"),
    ],
)
def test_what_does_not_fit_is_said(fields, message):
    sizes = {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2}
    sizes |= {"num_aux_minibatches": 2, "network": {"memory": "lstm"}}
    with pytest.raises(ConfigError, match=message):
        Config(**(sizes | fields))
