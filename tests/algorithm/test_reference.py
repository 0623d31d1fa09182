"""The paper authors' own code on fixed inputs, number by number."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.aux_phase import aux_epochs, old_policies
from ppg_jax.algorithm.optimizer import init_optimizer
from ppg_jax.algorithm.policy_phase import policy_phase
from ppg_jax.algorithm.ppg import PPG
from ppg_jax.algorithm.rollout import make_batch, normalize_rewards
from ppg_jax.backend import CPU, GPU
from ppg_jax.config.config import Config
from ppg_jax.config.network import NetworkConfig
from ppg_jax.functional.running_stats import init_stats
from ppg_jax.networks.agent import Agent, Unroll
from ppg_jax.networks.encoders import ImpalaEncoder
from ppg_jax.networks.network import POLICY
from ppg_jax.networks.resolve import resolve_network
from ppg_jax.types import (
    ActionSpec,
    AuxBuffer,
    Inputs,
    ObservationSpec,
    RewardScaler,
    Rollout,
    TrainState,
)

REFERENCE = Path(__file__).parents[1] / "reference"
CLOSE = {"rtol": 1e-4, "atol": 1e-6}

# Our place in the parameter tree for each module of the reference.
PLACES = {
    "pi_enc": ("policy_net", "encoder"),
    "pi_head": ("policy_net", "policy_head"),
    "pi_vhead": ("policy_net", "value_head"),
    "aux_vf_head": ("policy_net", "aux_value_head"),
    "vf_enc": ("value_net", "encoder"),
    "vf_vhead": ("value_net", "value_head"),
}
LAYERS = {"l1": "dense_0", "l2": "dense_1", "weight": "kernel", "bias": "bias"}


def load_params(data, stage):
    params = {}
    for name in data.files:
        if not name.startswith(stage + "/"):
            continue
        module, *rest = name.removeprefix(stage + "/").split(".")
        path = [*PLACES[module], *(["dense"] if len(rest) == 1 else []), *(LAYERS[r] for r in rest)]
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = jnp.asarray(data[name])
    return params


def assert_params_close(actual, desired, **tolerance):
    def compare(path, a, b):
        np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)

    jax.tree_util.tree_map_with_path(compare, actual, desired)


def make_config(meta):
    shared = {f.name for f in dataclasses.fields(Config)} & set(meta)
    hparams = {k: v for k, v in meta.items() if k in Config().to_dict()["hparams"]}
    fields = {k: meta[k] for k in shared}
    total = meta["n_pi"] * meta["num_envs"] * meta["num_steps"]
    return Config(
        total_timesteps=total,
        network=NetworkConfig(hidden_sizes=(16, 16), activation="tanh"),
        hparams=hparams,
        **fields,
    )


@pytest.fixture(scope="module", params=["phase_dual_clip", "phase_detach_clip"])
def phase(request):
    data = np.load(REFERENCE / f"{request.param}.npz")
    return data, make_config(json.loads(str(data["meta"])))


def make_ppg(config, backend=CPU):
    """What plays without an environment: the rollouts are given."""
    observation = ObservationSpec((6,), jnp.float32)
    network = resolve_network(config.network, observation, backend)
    action = ActionSpec("discrete", (5,))
    agent = Agent(config.arch, network, observation, action, True, backend=backend)
    return PPG(config, None, agent, backend)


def make_state(ppg, params):
    scaler = RewardScaler(stats=init_stats(), sums=jnp.zeros(ppg.config.num_envs))
    return TrainState(
        params=params,
        opt_states={"policy": init_optimizer(params), "aux": init_optimizer(params)},
        envs=None,
        memory=ppg.agent.initial_memory(ppg.config.num_envs),
        reward_scaler=scaler,
        obs_stats=None,
        seen_obs_stats=None,
        key=jax.random.key(0),
        iteration=jnp.int32(0),
    )


def time_major(x):
    return jnp.swapaxes(jnp.asarray(x), 0, 1)


def make_rollout(data, k, ppg, state):
    obs, first = time_major(data["obs"][k]), time_major(data["first"][k])
    actions = time_major(data["actions"][k])
    inputs = Inputs(obs[:-1], first[:-1])
    policy = ppg.agent.unroll(state.network, inputs, state.memory, Unroll((POLICY,))).policy
    return Rollout(
        obs=obs[:-1],
        starts=first[:-1],
        memory=state.memory,
        actions=actions,
        log_probs=policy.log_prob(actions),
        rewards=time_major(data["rewards"][k]),
        terminated=first[1:],
        truncated=jnp.zeros_like(first[1:]),
        final_obs=obs[1:],
    )


@pytest.mark.parametrize("backend", [CPU, GPU], ids=["cpu", "gpu"])
def test_whole_phase(phase, backend):
    data, config = phase
    if backend is GPU and config.arch != "dual":
        pytest.skip("one architecture by the program of an accelerator is enough")
    ppg, hparams = make_ppg(config, backend), config.hparams
    raw_ppg = make_ppg(config.replace(normalize_advantages="off"), backend)
    state = make_state(ppg, load_params(data, "params_before"))
    records = []
    for k in range(config.n_pi):
        want = {n.split("/")[1]: data[n] for n in data.files if n.startswith(f"iter{k}/")}
        rollout = make_rollout(data, k, ppg, state)
        _, raw = make_batch(raw_ppg, hparams, state, rollout)
        _, scaled = normalize_rewards(state.reward_scaler, rollout, hparams.reward_norm_gamma)
        state, batch = make_batch(ppg, hparams, state, rollout)
        np.testing.assert_allclose(state.reward_scaler.stats.var, want["reward_norm_var"], **CLOSE)
        np.testing.assert_allclose(time_major(scaled), want["normalized_rewards"], **CLOSE)
        np.testing.assert_allclose(time_major(rollout.log_probs), want["log_probs"], **CLOSE)
        np.testing.assert_allclose(time_major(batch.old_values), want["values"], **CLOSE)
        np.testing.assert_allclose(time_major(raw.advantages), want["raw_advantages"], **CLOSE)
        np.testing.assert_allclose(time_major(batch.advantages), want["advantages"], **CLOSE)
        np.testing.assert_allclose(time_major(batch.value_targets), want["value_targets"], **CLOSE)
        state, metrics = policy_phase(ppg, hparams, state, batch, jax.random.key(k))
        state = state.replace(iteration=state.iteration + 1)
        np.testing.assert_allclose(metrics["policy_loss"], want["loss_pi"], **CLOSE)
        np.testing.assert_allclose(metrics["value_loss"], want["loss_vf"], **CLOSE)
        np.testing.assert_allclose(metrics["entropy"], want["entropy"], **CLOSE)
        records.append(AuxBuffer.of(batch))
    assert_params_close(state.params, load_params(data, "params_after_policy_phase"), **CLOSE)

    buffer = jax.tree.map(lambda *x: jnp.stack(x), *records)
    old = old_policies(ppg, state, buffer)
    shape = data["aux/old_logits"].shape
    np.testing.assert_allclose(old.log_probs.reshape(shape), data["aux/old_logits"], **CLOSE)
    state, by_epoch = aux_epochs(ppg, hparams, state, buffer, jax.random.key(9))
    params = state.params
    names = ("clone_kl", "aux_value_loss", "aux_phase_value_loss")
    losses = np.stack([by_epoch[name] for name in names], axis=1)
    np.testing.assert_allclose(losses, data["aux/losses_clone_aux_value"], **CLOSE)
    want_params = load_params(data, "params_after_aux_phase")
    # Only the KL reaches the policy head: its first gradient there is rounding, which Adam blows
    # up to a full step of either sign.
    noise = 2 * float(hparams.aux_learning_rate) * config.e_aux
    assert_params_close(
        params["policy_net"].pop("policy_head"),
        want_params["policy_net"].pop("policy_head"),
        rtol=0,
        atol=noise,
    )
    # What the head's noise does to the encoder through later gradients of the KL is another matter
    # on every processor: up to 3e-6, half a percent of one of Adam's steps.
    assert_params_close(params, want_params, rtol=1e-4, atol=1e-5)


def impala_params(data):
    """The reference's weights, convolutions to HWIO and the dense layer to our flattening."""
    params = {}
    for name in data.files:
        if not name.startswith("params/"):
            continue
        *path, kind = name.removeprefix("params/").split(".")
        x = data[name]
        if path[0] == "dense":
            place = "dense_0"
            if kind == "weight":
                x = x.reshape(256, 32, 4, 4).transpose(2, 3, 1, 0).reshape(512, 256)
        elif path[2] == "firstconv":
            place = f"stack_{path[1]}_first"
        else:
            place = f"stack_{path[1]}_block_{path[3]}_conv_{path[4][-1]}"
        if kind == "weight" and x.ndim == 4:
            x = x.transpose(2, 3, 1, 0)
        params.setdefault(place, {})["kernel" if kind == "weight" else "bias"] = jnp.asarray(x)
    return params


def impala_encoder(conv):
    spec = ObservationSpec((32, 32, 3), jnp.uint8, scale=255.0)
    return ImpalaEncoder(
        resolve_network(NetworkConfig(encoder="impala", conv=conv), spec, CPU), spec
    )


@pytest.mark.parametrize("conv", ["lax", "patches"])
def test_impala_forward_pass(conv):
    data = np.load(REFERENCE / "impala_forward.npz")
    obs = jnp.asarray(data["obs"], jnp.float32) / 255.0
    features = impala_encoder(conv).apply({"params": impala_params(data)}, obs)
    np.testing.assert_allclose(features, data["features"], rtol=1e-4, atol=1e-5)


def test_impala_initial_row_norms():
    data = np.load(REFERENCE / "impala_forward.npz")
    fresh = impala_encoder("lax").init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    want = impala_params(data)
    assert fresh.keys() == want.keys()
    for name, layer in fresh.items():
        assert layer["kernel"].shape == want[name]["kernel"].shape
        norms, want_norms = (
            np.linalg.norm(p["kernel"].reshape(-1, p["kernel"].shape[-1]), axis=0)
            for p in (layer, want[name])
        )
        np.testing.assert_allclose(norms, want_norms, rtol=1e-5)
        np.testing.assert_array_equal(layer["bias"], want[name]["bias"])
