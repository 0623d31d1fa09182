"""The auxiliary phase: distils values into the policy network and keeps the policy the same."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.descent import descend
from ppg_jax.algorithm.gradients import Heads, LossPair, pair_gradient
from ppg_jax.algorithm.minibatch import after_burn_in, epoch_indices
from ppg_jax.algorithm.optimizer import make_adam, scheduled
from ppg_jax.algorithm.ppg import PPG
from ppg_jax.algorithm.rollout import estimate_values
from ppg_jax.config import Hyperparams
from ppg_jax.functional import Distribution, adapted_scale, squared_error
from ppg_jax.networks import AUX_VALUE, POLICY, VALUE, AgentOutput, Unroll
from ppg_jax.types import AuxBuffer, Metrics, TrainState


def auxiliary_objective(
    hparams: Hyperparams, out: AgentOutput, old_policy: Distribution, value_targets: chex.Array
) -> tuple[LossPair, Metrics]:
    """``L_joint + L_value`` (arXiv:2009.04416, eq. 3 and the value function's loss).

    Outputs that are None add nothing.

    Returns:
      A pair: the cloning KL's loss, and the sum of both value losses. And metrics, unweighted.
    """
    measured = Metrics()
    if out.policy is not None:
        measured["clone_kl"] = old_policy.kl(out.policy).mean()
    for name, values in (("aux_value_loss", out.aux_values), ("aux_phase_value_loss", out.values)):
        if values is not None:
            measured[name] = 0.5 * squared_error(values, value_targets)
    errors = [loss for name, loss in measured.items() if name != "clone_kl"]
    clone_loss = hparams.beta_clone * measured.get("clone_kl", jnp.float32(0.0))
    return (clone_loss, sum(errors, jnp.float32(0.0))), measured


def old_policies(ppg: PPG, state: TrainState, buffer: Any) -> Distribution:
    """The policy before the auxiliary phase, on all stored observations, by minibatches.

    Returns:
      Distribution with batch axes ``[N x B sequences, T - burn_in]``.
    """
    config = ppg.config
    sequences = config.n_pi * config.num_envs
    order = jnp.arange(sequences).reshape(config.num_aux_minibatches, -1)
    unroll, network = Unroll((POLICY,), burn_in=config.burn_in), ppg.agent.cast(state.network)

    def evaluate(index: chex.Array) -> Distribution:
        part = ppg.storage.sequences(state, buffer, index)
        out = ppg.agent.unroll(network, part.inputs, part.memory, unroll)
        policy: Distribution = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), out.policy.as_stored())
        return policy

    parts = jax.lax.map(evaluate, order)
    policies: Distribution = jax.tree.map(lambda x: x.reshape(sequences, *x.shape[2:]), parts)
    return policies


def aux_phase(
    ppg: PPG, hparams: Hyperparams, state: TrainState, buffer: Any, key: chex.PRNGKey
) -> tuple[TrainState, Metrics]:
    """The auxiliary epochs. After them ``beta_clone`` is adapted, if the configuration says so.

    Returns:
      The state after the phase, and metrics: scalars. They are means over the last epoch's
      minibatches, and the value loss on the newest rollout before and after the phase.
    """
    scale = 1.0 if state.beta_scale is None else state.beta_scale
    hparams = dataclasses.replace(hparams, beta_clone=hparams.beta_clone * scale)
    before = state
    state, by_epoch = aux_epochs(ppg, hparams, state, buffer, key)
    measured = {name: x[-1] for name, x in by_epoch.items()}
    measured |= _value_loss_change(ppg, before, state, buffer)
    measured |= ppg.pool.max(ppg.storage.measured(before, buffer))
    if state.beta_scale is not None:
        measured["beta_clone"] = jnp.asarray(hparams.beta_clone)
        scale = adapted_scale(state.beta_scale, measured["clone_kl"], hparams.clone_kl_target)
        state = state.replace(beta_scale=scale)
    return state, measured


def aux_epochs(
    ppg: PPG, hparams: Hyperparams, state: TrainState, buffer: Any, key: chex.PRNGKey
) -> tuple[TrainState, Metrics]:
    """``e_aux`` epochs over shuffled (iteration, environment) sequences of N iterations.

    Returns:
      The state with new parameters and auxiliary optimizer state, and metrics ``[e_aux]``: means
      over each epoch's minibatches, unweighted.
    """
    config, agent = ppg.config, ppg.agent
    phase_number = (state.iteration - 1) // config.n_pi
    rate = scheduled(
        hparams.aux_learning_rate, config.aux_lr_schedule, phase_number, config.num_phases
    )
    old_policy = old_policies(ppg, state, buffer)
    detach = agent.architecture.detach_aux_phase

    def loss(
        params: Any, heads: Heads, part: AuxBuffer, old: Distribution
    ) -> tuple[LossPair, Metrics]:
        network = state.network.replace(params=params)
        unroll = Unroll(heads, detach, config.burn_in, config.bptt_steps)
        out = agent.unroll(network, part.inputs, part.memory, unroll)
        return auxiliary_objective(hparams, out, old, after_burn_in(config, part).value_targets)

    def gradient(params: Any, index: chex.Array) -> tuple[Any, Metrics]:
        part = ppg.storage.sequences(state, buffer, index)
        old = jax.tree.map(lambda x: jnp.moveaxis(x[index], 1, 0), old_policy)
        pair = functools.partial(loss, part=part, old=old)
        heads = POLICY, VALUE, AUX_VALUE
        grads, metrics, angle = pair_gradient(config.gradient_conflict, ppg, pair, params, heads)
        return grads, metrics | {f"aux_{name}": x for name, x in angle.items()}

    indices = epoch_indices(
        key, config.n_pi * config.num_envs, config.num_aux_minibatches, config.e_aux
    )
    (params, opt_state), metrics = descend(
        make_adam(ppg, hparams, rate, state.params, lambda grads: {"aux_grad_norm": grads}),
        (state.params, state.opt_states["aux"]),
        gradient,
        indices,
    )
    by_epoch = jax.tree.map(lambda x: x.reshape(config.e_aux, -1).mean(1), metrics)
    state = state.replace(params=params, opt_states=state.opt_states | {"aux": opt_state})
    return state, by_epoch


def _value_loss_change(ppg: PPG, before: TrainState, after: TrainState, buffer: Any) -> Metrics:
    """Halved value error on the phase's newest rollout, before and after the auxiliary phase."""
    newest = ppg.storage.newest(before, buffer)

    def loss(params: Any) -> chex.Array:
        values, _ = estimate_values(ppg, before.replace(params=params), newest)
        return 0.5 * squared_error(values, newest.value_targets)

    both = jax.lax.map(loss, jax.tree.map(lambda *x: jnp.stack(x), before.params, after.params))
    both = ppg.pool.mean(both)
    return {"value_loss_before_aux": both[0], "value_loss_after_aux": both[1]}
