"""The auxiliary phase: distils values into the policy network, and holds the policy still."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.gradients import LossPair, pair_gradient
from ppg_jax.algorithm.minibatch import after_burn_in, epoch_indices, steps_first, take_sequences
from ppg_jax.algorithm.optimizer import apply_gradients, global_norm
from ppg_jax.config import Config, Hyperparams
from ppg_jax.functional import Distribution, RunningStats, squared_error
from ppg_jax.kernels import LiveComponents
from ppg_jax.networks import AUX_VALUE, POLICY, VALUE, Agent, AgentOutput
from ppg_jax.types import AuxBuffer, Metrics


def auxiliary_objective(
    hparams: Hyperparams, out: AgentOutput, old_policy: Distribution, value_targets: chex.Array
) -> tuple[LossPair, Metrics]:
    """``L_joint + L_value`` in two parts: the cloning KL, and both halved value errors.

    (The paper's eq. 3 and the value function's own loss.)
    """
    clone_kl = old_policy.kl(out.policy).mean()
    aux_value_loss = 0.5 * squared_error(out.aux_values, value_targets)
    value_loss = 0.5 * squared_error(out.values, value_targets)
    return (hparams.beta_clone * clone_kl, aux_value_loss + value_loss), {
        "clone_kl": clone_kl,
        "aux_value_loss": aux_value_loss,
        "aux_phase_value_loss": value_loss,
    }


def old_policies(
    config: Config,
    agent: Agent,
    params: Any,
    obs_stats: RunningStats | None,
    buffer: AuxBuffer,
    live: LiveComponents | None = None,
) -> Distribution:
    """The policy as the phase found it, on every stored observation, a minibatch at a time.

    Returns:
      Distribution with batch axes ``[N x B sequences, T - burn_in]``.
    """
    sequences = config.n_pi * config.num_envs
    order = jnp.arange(sequences).reshape(config.num_aux_minibatches, -1)

    def evaluate(index: chex.Array) -> Distribution:
        part = take_sequences(buffer, index)
        out = agent.unroll(
            params,
            obs_stats,
            part.inputs,
            part.memory,
            (POLICY,),
            burn_in=config.burn_in,
            live=live,
        )
        return steps_first(out.policy, buffer.memory)

    policies = jax.lax.map(evaluate, order)
    return jax.tree.map(lambda x: x.reshape(sequences, *x.shape[2:]), policies)


def auxiliary_phase(
    config: Config,
    hparams: Hyperparams,
    agent: Agent,
    params: Any,
    opt_state: Any,
    obs_stats: RunningStats | None,
    buffer: AuxBuffer,
    learning_rate: chex.Numeric,
    key: chex.PRNGKey,
    live: LiveComponents | None = None,
) -> tuple[Any, Any, Metrics]:
    """``e_aux`` epochs over shuffled (iteration, environment) sequences.

    Args:
      config: epochs, minibatches, architecture.
      hparams: coefficients.
      agent: the networks.
      params: of all networks.
      opt_state: of the auxiliary optimizer.
      obs_stats: the statistics the phase's rollouts were made with, or None.
      buffer: N iterations.
      learning_rate: of this phase, scalar.
      key: for shuffling.
      live: the order observations are in, or None (``Agent.sort_observations``).

    Returns:
      Parameters, optimizer state, and metrics ``[e_aux]``: means over each epoch's minibatches,
      unscaled.
    """
    old_policy = old_policies(config, agent, params, obs_stats, buffer, live)
    detach = agent.architecture.detach_aux_phase

    def loss(params: Any, part: AuxBuffer, old: Distribution) -> tuple[LossPair, Metrics]:
        wanted = (POLICY, VALUE, AUX_VALUE)
        out = agent.unroll(
            params,
            obs_stats,
            part.inputs,
            part.memory,
            wanted,
            detach_value=detach,
            burn_in=config.burn_in,
            bptt_steps=config.bptt_steps,
            live=live,
        )
        return auxiliary_objective(hparams, out, old, after_burn_in(config, part).value_targets)

    def step(carry: tuple[Any, Any], index: chex.Array):
        params, opt_state = carry
        part = take_sequences(buffer, index)
        old = steps_first(jax.tree.map(lambda x: x[index], old_policy), buffer.memory)
        grads, metrics, angle = pair_gradient(
            config.gradient_conflict, agent, lambda p: loss(p, part, old), params
        )
        metrics |= {"aux_grad_norm": global_norm(grads)}
        metrics |= {f"aux_{name}": x for name, x in angle.items()}
        params, opt_state = apply_gradients(hparams, learning_rate, params, opt_state, grads)
        return (params, opt_state), metrics

    indices = epoch_indices(
        key, config.n_pi * config.num_envs, config.num_aux_minibatches, config.e_aux
    )
    (params, opt_state), metrics = jax.lax.scan(step, (params, opt_state), indices)
    by_epoch = jax.tree.map(lambda x: x.reshape(config.e_aux, -1).mean(1), metrics)
    return params, opt_state, by_epoch
