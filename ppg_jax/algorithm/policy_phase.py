"""The policy phase: epochs of the policy and the value loss over one rollout."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.gradients import LossPair, pair_gradient
from ppg_jax.algorithm.minibatch import after_burn_in, epoch_indices, take_envs, take_samples
from ppg_jax.algorithm.optimizer import apply_gradients, global_norm
from ppg_jax.config import Config, Hyperparams
from ppg_jax.functional import RunningStats, losses
from ppg_jax.kernels import LiveComponents
from ppg_jax.networks import POLICY, VALUE, Agent, AgentOutput
from ppg_jax.types import Batch, Metrics


def policy_objective(
    hparams: Hyperparams, out: AgentOutput, batch: Batch
) -> tuple[chex.Array, Metrics]:
    """``L_pi``: surrogate minus entropy bonus, and its measures."""
    log_probs, entropy = out.policy.log_prob(batch.actions), out.policy.entropy().mean()
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
    """``L_V``: weighted squared error to the rollout's value targets."""
    error = losses.clipped_squared_error(
        out.values, batch.value_targets, batch.old_values, hparams.value_clip_eps
    )
    loss = hparams.value_coef * error
    return loss, {"value_loss": loss}


def _objective(
    name: str, hparams: Hyperparams, out: AgentOutput, batch: Batch
) -> tuple[LossPair, Metrics]:
    """The losses of a run of epochs: ``joint``, or ``policy`` or ``value`` with the other 0."""
    losses, metrics = {POLICY: jnp.float32(0.0), VALUE: jnp.float32(0.0)}, Metrics()
    for head, objective in ((POLICY, policy_objective), (VALUE, value_objective)):
        if head in _HEADS[name]:
            losses[head], measured = objective(hparams, out, batch)
            metrics |= measured
    return (losses[POLICY], losses[VALUE]), metrics


_HEADS = {"joint": (POLICY, VALUE), "policy": (POLICY,), "value": (VALUE,)}


def learn_from_batch(
    config: Config,
    hparams: Hyperparams,
    agent: Agent,
    params: Any,
    opt_states: dict[str, Any],
    obs_stats: RunningStats | None,
    batch: Batch,
    learning_rate: chex.Numeric,
    key: chex.PRNGKey,
    live: LiveComponents | None = None,
) -> tuple[Any, dict[str, Any], Metrics]:
    """All policy and value epochs over one rollout.

    With ``e_pi == e_v`` both losses share each step and the ``policy`` optimizer; otherwise all
    value epochs come first, with the ``value`` optimizer, and then the policy epochs.

    Args:
      config: epochs, minibatches, architecture.
      hparams: coefficients.
      agent: the networks.
      params: of all networks.
      opt_states: holds ``policy``, and ``value`` where ``e_pi != e_v``.
      obs_stats: frozen statistics of observations, or None.
      batch: of ``make_batch``.
      learning_rate: of this iteration, scalar.
      key: for shuffling.
      live: the order observations are in, or None (``Agent.sort_observations``).

    Returns:
      Parameters, optimizer states, and metrics: scalars, each the mean over its minibatch steps.
    """
    joint = config.e_pi == config.e_v
    runs = [("joint", "policy", config.e_pi)] if joint else [
        ("value", "value", config.e_v),
        ("policy", "policy", config.e_pi),
    ]  # fmt: skip
    metrics: Metrics = {}
    opt_states = dict(opt_states)
    for (objective, optimizer, epochs), run_key in zip(
        runs, jax.random.split(key, len(runs)), strict=True
    ):
        indices = minibatch_indices(config, run_key, epochs)
        (params, opt_states[optimizer]), measured = jax.lax.scan(
            _minibatch_step(
                config, hparams, agent, obs_stats, batch, learning_rate, objective, live
            ),
            (params, opt_states[optimizer]),
            indices,
        )
        metrics |= jax.tree.map(lambda x: x.mean(0), measured)
    return params, opt_states, metrics


def minibatch_indices(config: Config, key: chex.PRNGKey, epochs: int) -> chex.Array:
    by_env = config.minibatch_by == "env"
    items = config.num_envs if by_env else config.steps_per_iteration
    return epoch_indices(key, items, config.num_minibatches, epochs)


def _minibatch_step(
    config: Config,
    hparams: Hyperparams,
    agent: Agent,
    obs_stats: RunningStats | None,
    batch: Batch,
    learning_rate: chex.Numeric,
    objective: str,
    live: LiveComponents | None,
):
    """The scan body: one gradient step on one minibatch."""
    take = take_envs if config.minibatch_by == "env" else take_samples
    detach = agent.architecture.detach_policy_phase
    # Elsewhere no encoder gets both gradients in this phase.
    both = objective == "joint" and not (agent.architecture.value_net or detach)
    conflict = config.gradient_conflict if both else "off"

    def loss(params: Any, minibatch: Batch) -> tuple[LossPair, Metrics]:
        out = agent.unroll(
            params,
            obs_stats,
            minibatch.inputs,
            minibatch.memory,
            _HEADS[objective],
            detach_value=detach,
            burn_in=config.burn_in,
            bptt_steps=config.bptt_steps,
            live=live,
        )
        return _objective(objective, hparams, out, after_burn_in(config, minibatch))

    def step(carry: tuple[Any, Any], index: chex.Array):
        params, opt_state = carry
        minibatch = take(batch, index)
        if config.normalize_advantages == "minibatch":
            advantages = losses.normalize_advantages(minibatch.advantages)
            minibatch = minibatch.replace(advantages=advantages)
        grads, metrics, angle = pair_gradient(conflict, agent, lambda p: loss(p, minibatch), params)
        metrics |= angle | _gradient_norms(agent, grads, objective)
        params, opt_state = apply_gradients(hparams, learning_rate, params, opt_state, grads)
        return (params, opt_state), metrics

    return step


def _gradient_norms(agent: Agent, grads: Any, objective: str) -> Metrics:
    """Norms before any cut: of what the policy reads, and of the value network or value head."""
    if objective == "policy":
        return {"policy_grad_norm": global_norm(grads)}
    if objective == "value":
        return {"value_grad_norm": global_norm(grads)}
    policy_part, value_part = agent.split_value_part(grads)
    return {
        "policy_grad_norm": global_norm(policy_part),
        "value_grad_norm": global_norm(value_part),
    }
