"""Recurrent PPG: a whole phase against a slow oracle, successors, routing, inputs, minibatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.aux_phase import aux_phase
from ppg_jax.algorithm.optimizer import TreeAdam
from ppg_jax.algorithm.policy_phase import policy_phase
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.rollout import collect, make_batch
from ppg_jax.algorithm.train import init as init_eagerly
from ppg_jax.algorithm.train import make_train, train_phases
from ppg_jax.config.config import Config
from ppg_jax.functional import losses
from ppg_jax.functional.gae import generalized_advantages
from ppg_jax.networks.agent import Unroll
from ppg_jax.networks.memory import last_state
from ppg_jax.networks.network import AUX_VALUE, POLICY, VALUE
from ppg_jax.types import AuxBuffer, Inputs, NetworkState

pytestmark = pytest.mark.slow

init = jax.jit(init_eagerly, static_argnums=0)
CLOSE = {"rtol": 2e-4, "atol": 2e-6}


def small(memory, **changes):
    """CartPole with episodes that end, and are cut, within a rollout; one minibatch an epoch."""
    network = {"memory": memory, "hidden_sizes": (8,), "recall": ["action", "reward", "done"]}
    network |= {"history_length": 3} if memory == "history" else {}
    fields = {
        "env": "CartPole-v1", "env_params": {"max_steps_in_episode": 5}, "num_envs": 4,
        "num_steps": 8, "n_pi": 2, "num_minibatches": 1, "num_aux_minibatches": 1, "e_aux": 1,
        "total_timesteps": 64, "normalize_rewards": False, "network": network,
    }  # fmt: skip
    rates = {"learning_rate": 1e-2, "aux_learning_rate": 1e-2}
    # A large epsilon: otherwise Adam makes whole steps of gradients that are rounding errors.
    rates |= {"adam_eps": 1e-3} | changes.pop("hparams", {})
    return Config(**(fields | changes), hparams=rates)


class Oracle:
    """The networks a step at a time, in Python loops, with nothing stored but what was seen."""

    def __init__(self, config):
        self.config = config
        self.ppg = build(config)
        self.agent = self.ppg.agent
        # A step is compiled once; in one program with its gradients the loops compile for long.
        self.unroll = jax.jit(self.agent.unroll, static_argnames="how")

    def run(self, params, inputs, memory, wanted, detach=False):
        """Outputs of every step, and the memories after it."""
        outs, memories = [], []
        for t in range(inputs.starts.shape[0]):
            now = jax.tree.map(lambda x, t=t: x[t][None], inputs)
            out = self.unroll(NetworkState(params), now, memory, how=Unroll(wanted, detach))
            memory = memory | {name: last_state(s) for name, s in out.states.items()}
            outs.append(out.replace(states={}))
            memories.append(memory)
        return jax.tree.map(lambda *x: jnp.concatenate(x), *outs), memories

    def batch(self, params, rollout):
        """Values, real successors one by one, advantages."""
        out, memories = self.run(params, rollout.inputs, rollout.memory, (VALUE,))
        successors = []
        for t, memory in enumerate(memories):
            recalled = jax.tree.map(lambda x, t=t: x[t], rollout.final_recalled)
            seen = Inputs(rollout.final_obs[t], jnp.zeros(self.config.num_envs, bool), recalled)
            out_after = self.agent.step(NetworkState(params), seen, memory, (VALUE,))
            successors.append(out_after.values)
        advantages, targets = generalized_advantages(
            rollout.rewards, out.values, jnp.stack(successors), rollout.terminated,
            rollout.truncated, self.config.hparams.gamma, self.config.hparams.gae_lambda,
        )  # fmt: skip
        return losses.normalize_advantages(advantages), targets

    def policy_step(self, params, opt_state, rollout, advantages, targets):
        h = self.config.hparams

        def loss(params):
            out, _ = self.run(
                params, rollout.inputs, rollout.memory, (POLICY, VALUE),
                detach=self.agent.architecture.detach_policy_phase,
            )  # fmt: skip
            surrogate = losses.policy_loss(
                out.policy.log_prob(rollout.actions), rollout.log_probs, advantages, h.clip_eps, 0.0
            )
            entropy = out.policy.entropy().mean()
            value = h.value_coef * losses.squared_error(out.values, targets)
            return surrogate - h.entropy_coef * entropy + value

        adam = TreeAdam(h, h.learning_rate, lambda _: {})
        return adam.step((params, opt_state), jax.grad(loss)(params))[0]

    def aux_steps(self, params, opt_state, rollouts, targets):
        h = self.config.hparams
        old = [self.run(params, r.inputs, r.memory, (POLICY,))[0].policy for r in rollouts]

        def loss(params):
            total = 0.0
            for rollout, target, before in zip(rollouts, targets, old, strict=True):
                out, _ = self.run(
                    params, rollout.inputs, rollout.memory, (POLICY, VALUE, AUX_VALUE),
                    detach=self.agent.architecture.detach_aux_phase,
                )  # fmt: skip
                total += h.beta_clone * before.kl(out.policy).mean()
                total += 0.5 * losses.squared_error(out.values, target)
                total += 0.5 * losses.squared_error(out.aux_values, target)
            return total / len(rollouts)

        for _ in range(self.config.e_aux):
            grads = jax.grad(loss)(params)
            adam = TreeAdam(h, h.aux_learning_rate, lambda _: {})
            params, opt_state = adam.step((params, opt_state), grads)[0]
        return params


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **CLOSE), a, b)


@pytest.mark.parametrize(
    ("memory", "arch"),
    [("lstm", "dual"), ("mingru", "single"), ("history", "detach")],
)
def test_a_whole_phase_is_the_oracle_s(memory, arch):
    """Rollouts, advantages, policy phase and auxiliary phase, from the behaviour's memories."""
    config = small(memory, arch=arch, num_steps=6, total_timesteps=48)
    oracle = Oracle(config)
    ppg = oracle.ppg
    state = init(config, jax.random.key(0))
    slow, slow_opt, hparams = state.params, state.opt_states["policy"], config.hparams

    @jax.jit
    def iteration(state, key):
        state, rollout, _ = collect(ppg, state, key)
        state, batch = make_batch(ppg, hparams, state, rollout)
        state, _ = policy_phase(ppg, hparams, state, batch, key)
        return state.replace(iteration=state.iteration + 1), rollout, batch

    rollouts, records, targets = [], [], []
    for k in range(config.n_pi):
        state, rollout, batch = iteration(state, jax.random.key(k))
        advantages, target = oracle.batch(slow, rollout)
        assert_close((batch.advantages, batch.value_targets), (advantages, target))
        slow, slow_opt = oracle.policy_step(slow, slow_opt, rollout, advantages, target)
        assert_close(state.params, slow)
        rollouts.append(rollout)
        targets.append(target)
        records.append(AuxBuffer.of(batch))
    assert rollouts[0].truncated.any()
    buffer = jax.tree.map(lambda *x: jnp.stack(x), *records)
    aux = state.opt_states["aux"]
    after, _ = jax.jit(lambda s: aux_phase(ppg, hparams, s, buffer, jax.random.key(9)))(state)
    assert_close(after.params, oracle.aux_steps(slow, aux, rollouts, targets))


def test_memories_go_on_from_rollout_to_rollout():
    """Two rollouts of T steps are one of 2T, if nothing is learnt in between."""
    rates = {"learning_rate": 0.0, "aux_learning_rate": 0.0}
    long = small("lstm", num_steps=16, n_pi=1, hparams=rates)
    short = small("lstm", num_steps=8, n_pi=2, hparams=rates)
    state = init(long, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)

    ppg = build(short)
    play = jax.jit(lambda s, k: collect(ppg, s, k))
    after, first, _ = play(state, keys[0])
    assert all(np.any(x) for x in jax.tree.leaves(after.memory["policy_net"]))
    _, second, _ = play(after, keys[1])
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first.inputs, second.inputs)
    out = build(long).agent.unroll(state.network, both, state.memory, Unroll((POLICY,)))
    actions = jnp.concatenate([first.actions, second.actions])
    found = jnp.concatenate([first.log_probs, second.log_probs])
    np.testing.assert_allclose(out.policy.log_prob(actions), found, rtol=1e-5, atol=1e-6)


def test_the_state_holds_each_networks_own_memory():
    config = small("lstm")
    state, _ = jax.jit(make_train(config))(jax.random.key(0))
    assert set(state.memory) == {"policy_net", "value_net"}
    a, b = state.memory["policy_net"]["hidden"], state.memory["value_net"]["hidden"]
    assert a.shape == (4, 8)
    assert not np.allclose(a, b)
    shared = init(small("lstm", arch="shared", e_aux=0), jax.random.key(0))
    assert set(shared.memory) == {"policy_net"}


def moved(before, after):
    """Parts of networks whose parameters changed."""
    same = {
        f"{net}.{part}": all(jax.tree.leaves(jax.tree.map(np.array_equal, tree, after[net][part])))
        for net, parts in before.items()
        for part, tree in parts.items()
    }
    return {name for name, kept in same.items() if not kept}


@pytest.mark.parametrize("arch", ["dual", "detach", "single"])
def test_losses_reach_the_memories_they_should(arch):
    rates = {"learning_rate": 0.0, "beta_clone": 0.0, "aux_learning_rate": 1e-2}
    config = small("gru", arch=arch, hparams=rates)
    before = init(config, jax.random.key(0))
    run = jax.jit(train_phases, static_argnums=(0, 3))
    after, _ = run(config, config.hparams, before, 1)
    p, v = "policy_net.", "value_net."
    # Without the KL, only value errors move anything in the auxiliary phase.
    common = {p + "encoder", p + "memory", p + "aux_value_head"}
    own = {v + "encoder", v + "memory", v + "value_head"} if arch == "dual" else {p + "value_head"}
    assert moved(before.params, after.params) == common | own
    only_values = {"learning_rate": 1e-2, "aux_learning_rate": 0.0, "entropy_coef": 0.0}
    config = small(
        "gru", arch=arch, normalize_advantages="off", hparams=only_values | {"gamma": 0.0}
    )
    ppg, hparams, key = build(config), config.hparams, jax.random.key(0)
    batch = _batch_without_advantages(ppg, before)
    learnt, _ = jax.jit(lambda s, b: policy_phase(ppg, hparams, s, b, key))(before, batch)
    assert moved(before.params, learnt.params) == own


def _batch_without_advantages(ppg, state):
    """The policy's loss is 0 then, and what moves is the value loss's doing."""

    @jax.jit
    def play():
        after, rollout, _ = collect(ppg, state, jax.random.key(1))
        return make_batch(ppg, ppg.config.hparams, after, rollout)[1]

    batch = play()
    return batch.replace(advantages=jnp.zeros_like(batch.advantages))


def test_recalled_steps_are_the_steps_before():
    config = small("lstm")
    ppg, state = build(config), init(config, jax.random.key(0))
    _, rollout, _ = jax.jit(lambda s: collect(ppg, s, jax.random.key(1)))(state)
    starts, recalled = np.asarray(rollout.starts), rollout.recalled
    assert starts[1:].any()
    assert not starts[1:].all()
    went_on = ~starts[1:]
    np.testing.assert_array_equal(recalled.actions[1:][went_on], rollout.actions[:-1][went_on])
    np.testing.assert_array_equal(recalled.rewards[1:][went_on], rollout.rewards[:-1][went_on])
    np.testing.assert_array_equal(recalled.actions[starts], -1)
    np.testing.assert_array_equal(recalled.rewards[starts], 0)
    np.testing.assert_array_equal(recalled.done, starts)
    # Beside the final observation stands the step that led to it, also where an episode ended.
    np.testing.assert_array_equal(rollout.final_recalled.actions, rollout.actions)
    np.testing.assert_array_equal(rollout.final_recalled.rewards, rollout.rewards)


def test_networks_see_what_is_recalled_and_nothing_else():
    for recall in ([], ["action"], ["reward", "done"]):
        network = {"memory": "none", "hidden_sizes": (8,), "recall": recall}
        config = small("none", network=network)
        agent = build(config).agent
        state = init(config, jax.random.key(0))
        inputs = state.envs.inputs
        kernel = state.params["policy_net"]["encoder"]["dense_0"]["kernel"]
        assert kernel.shape[0] == 4 + {"action": 2, "reward": 1, "done": 1}.get(
            recall[0] if len(recall) == 1 else "", len(recall)
        )

        def logits(inputs, agent=agent, state=state):
            step = jax.jit(agent.step, static_argnums=3)
            return step(state.network, inputs, state.memory, (POLICY,)).policy.log_probs

        for field in ("actions", "rewards", "done"):
            value = getattr(inputs.recalled, field, None)
            assert (value is not None) == (field.rstrip("s") in recall)
            if value is not None:
                new = jnp.zeros_like(value) if field == "done" else jnp.ones_like(value)
                other = inputs.recalled.replace(**{field: new})
                changed = logits(inputs.replace(recalled=other))
                assert not np.allclose(changed, logits(inputs))


def test_burn_in_and_segments_train():
    sizes = {"num_minibatches": 2, "num_aux_minibatches": 4}
    config = small("mingru", burn_in=4, bptt_steps=4, **sizes)
    state, metrics = jax.jit(make_train(config))(jax.random.key(0))
    plain, _ = jax.jit(make_train(small("mingru", **sizes)))(jax.random.key(0))
    assert np.isfinite(metrics["value_loss"]).all()
    assert np.isfinite(metrics["clone_kl"][-1])
    a, b = (jax.tree.leaves(s.params) for s in (state, plain))
    assert any(not np.allclose(x, y) for x, y in zip(a, b, strict=True))
