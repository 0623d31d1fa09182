"""The policy phase: epochs of the policy loss and the value loss over one rollout."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.descent import Gradient, descend
from ppg_jax.algorithm.gradients import Heads, LossPair, pair_gradient
from ppg_jax.algorithm.minibatch import after_burn_in, epoch_indices, take_envs, take_samples
from ppg_jax.algorithm.optimizer import make_adam, scheduled
from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config import Config, Hyperparams
from ppg_jax.functional import losses
from ppg_jax.networks import POLICY, VALUE, Agent, AgentOutput, Unroll
from ppg_jax.types import Batch, Metrics, TrainState


def policy_objective(
    hparams: Hyperparams, out: AgentOutput, batch: Batch
) -> tuple[chex.Array, Metrics]:
    """``L_pi``: surrogate loss minus entropy bonus, and its metrics."""
    policy = out.policy.as_stored()  # normalised once, for both
    log_probs, entropy = policy.log_prob(batch.actions), policy.entropy().mean()
    surrogate = losses.policy_loss(
        log_probs, batch.old_log_probs, batch.advantages, hparams.clip_eps, hparams.kl_penalty
    )
    loss = surrogate - hparams.entropy_coef * entropy
    return loss, {
        "policy_loss": loss,
        "entropy": entropy,
        "clip_fraction": losses.clip_fraction(log_probs, batch.old_log_probs, hparams.clip_eps),
        "approx_kl": losses.approximate_kl(log_probs, batch.old_log_probs),
    }


def value_objective(
    hparams: Hyperparams, out: AgentOutput, batch: Batch
) -> tuple[chex.Array, Metrics]:
    """``L_V``: weighted squared error between values and value targets."""
    error = losses.clipped_squared_error(
        out.values, batch.value_targets, batch.old_values, hparams.value_clip_eps
    )
    loss = hparams.value_coef * error
    return loss, {"value_loss": loss}


def losses_of(hparams: Hyperparams, out: AgentOutput, batch: Batch) -> tuple[LossPair, Metrics]:
    """The policy loss and the value loss, and their metrics.

    A loss whose outputs are None is 0.
    """
    policy_loss, value_loss, metrics = jnp.float32(0.0), jnp.float32(0.0), Metrics()
    if out.policy is not None:
        policy_loss, metrics = policy_objective(hparams, out, batch)
    if out.values is not None:
        value_loss, measured = value_objective(hparams, out, batch)
        metrics |= measured
    return (policy_loss, value_loss), metrics


@dataclasses.dataclass(frozen=True)
class Objective:
    """The losses of a group of epochs.

    Attributes:
      heads: the heads whose losses are minimised: ``POLICY``, ``VALUE`` or both.
      optimizer: the name of its optimizer state.
    """

    heads: Heads
    optimizer: str


JOINT_EPOCHS = Objective((POLICY, VALUE), "policy")
POLICY_EPOCHS = Objective((POLICY,), "policy")
VALUE_EPOCHS = Objective((VALUE,), "value")


def policy_phase(
    ppg: PPG, hparams: Hyperparams, state: TrainState, batch: Batch, key: chex.PRNGKey
) -> tuple[TrainState, Metrics]:
    """All policy and value epochs over one rollout.

    If ``e_pi == e_v``, each minibatch step minimises both losses with the ``policy`` optimizer.
    Otherwise all value epochs come first, with the ``value`` optimizer, and then the policy epochs.

    Returns:
      The state with new parameters and optimizer states, and metrics: scalars, means over the
      minibatch steps.
    """
    config = ppg.config
    runs = [(VALUE_EPOCHS, config.e_v), (POLICY_EPOCHS, config.e_pi)]
    if config.e_pi == config.e_v:
        runs = [(JOINT_EPOCHS, config.e_pi)]
    metrics: Metrics = {}
    run_keys = jax.random.split(key, len(runs))
    for (objective, epochs), run_key in zip(runs, run_keys, strict=True):
        indices = minibatch_indices(config, run_key, epochs)
        rate = scheduled(
            hparams.learning_rate, config.lr_schedule, state.iteration, config.num_iterations
        )
        start = state.params, state.opt_states[objective.optimizer]
        parts = functools.partial(norm_parts, ppg.agent, objective)
        (params, opt_state), measured = descend(
            make_adam(ppg, hparams, rate, state.params, parts),
            start,
            minibatch_gradient(ppg, hparams, state, batch, objective),
            (indices, minibatch_advantages(ppg, batch, indices)),
        )
        opt_states = state.opt_states | {objective.optimizer: opt_state}
        state = state.replace(params=params, opt_states=opt_states)
        metrics |= jax.tree.map(lambda x: x.mean(0), measured)
    return state, metrics


def minibatch_indices(config: Config, key: chex.PRNGKey, epochs: int) -> chex.Array:
    """Indices of environments, or of samples: ``[epochs * num_minibatches, items of each]``."""
    by_env = config.minibatch_by == "env"
    items = config.num_envs if by_env else config.steps_per_iteration
    return epoch_indices(key, items, config.num_minibatches, epochs)


def minibatch_advantages(ppg: PPG, batch: Batch, indices: chex.Array) -> chex.Array | None:
    """Advantages normalised over each minibatch, ``[n, ...]``; None if that is not wanted.

    All of them are computed before the loop over minibatches, so that groups of environments
    exchange their moments once.
    """
    if ppg.config.normalize_advantages != "minibatch":
        return None
    take = take_envs if ppg.config.minibatch_by == "env" else take_samples

    def one(index: chex.Array) -> chex.Array:
        return losses.normalize_advantages(take(batch, index).advantages, ppg.pool)

    return jax.vmap(one)(indices)


def minibatch_gradient(
    ppg: PPG, hparams: Hyperparams, state: TrainState, batch: Batch, objective: Objective
) -> Gradient:
    """The gradient of a minibatch's losses, for ``descend``.

    A minibatch is given by its index, and by its advantages if they are not those of the batch.
    """
    config, agent = ppg.config, ppg.agent
    take = take_envs if config.minibatch_by == "env" else take_samples
    detach = agent.architecture.detach_policy_phase
    # In all other cases no encoder gets both gradients in this phase.
    both = objective is JOINT_EPOCHS and not (agent.architecture.value_net or detach)
    conflict = config.gradient_conflict if both else "off"

    def loss(params: Any, heads: Heads, minibatch: Batch) -> tuple[LossPair, Metrics]:
        network = state.network.replace(params=params)
        unroll = Unroll(heads, detach, config.burn_in, config.bptt_steps)
        out = agent.unroll(network, minibatch.inputs, minibatch.memory, unroll)
        return losses_of(hparams, out, after_burn_in(config, minibatch))

    def gradient(params: Any, given: tuple[chex.Array, Any]) -> tuple[Any, Metrics]:
        index, advantages = given
        minibatch = take(batch, index)
        if advantages is not None:
            minibatch = minibatch.replace(advantages=advantages)
        pair = functools.partial(loss, minibatch=minibatch)
        grads, metrics, angle = pair_gradient(conflict, ppg, pair, params, objective.heads)
        return grads, metrics | angle

    return gradient


def norm_parts(agent: Agent, objective: Objective, grads: Any) -> dict[str, Any]:
    """The policy's and the value function's part of the gradient, by the names of their norms."""
    parts = {POLICY: grads, VALUE: grads}
    if objective is JOINT_EPOCHS:
        parts[POLICY], parts[VALUE] = agent.split_value_part(grads)
    names = {POLICY: "policy_grad_norm", VALUE: "value_grad_norm"}
    return {names[head]: parts[head] for head in objective.heads}
