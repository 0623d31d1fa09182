"""The loop of PPG, pure from key to final state (arXiv:2009.04416, algorithm 1)."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.aux_phase import aux_phase
from ppg_jax.algorithm.checks import check_given, traced_in_32_bits
from ppg_jax.algorithm.groups import in_groups
from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.keys import iteration_keys
from ppg_jax.algorithm.metrics import (
    not_measured,
    on_last_iteration,
    packing_metrics,
    rollout_metrics,
)
from ppg_jax.algorithm.policy_phase import policy_phase
from ppg_jax.algorithm.ppg import PPG, build
from ppg_jax.algorithm.rollout import collect, make_batch
from ppg_jax.backend import Backend
from ppg_jax.config import Config, Hyperparams, check_config, check_whole
from ppg_jax.functional import hide_from_compiler
from ppg_jax.types import Metrics, TrainState


def phase(ppg: PPG, hparams: Hyperparams, state: TrainState) -> tuple[TrainState, Metrics]:
    """One phase of PPG: ``n_pi`` iterations of the policy phase, then the auxiliary phase.

    Returns:
      The state after both, and metrics ``[n_pi]``.
    """
    keep = ppg.config.e_aux > 0
    state, metrics, buffer = iterations(ppg, hparams, state, ppg.config.n_pi, keep=keep)
    if buffer is not None:
        *_, aux_key = iteration_keys(state.key, state.iteration - 1)
        state, measured = aux_phase(ppg, hparams, state, buffer, aux_key)
        metrics |= on_last_iteration(ppg.config, measured)
    return state.replace(obs_order=None), metrics


def iterations(
    ppg: PPG, hparams: Hyperparams, state: TrainState, n: int, *, keep: bool
) -> tuple[TrainState, Metrics, Any]:
    """``n`` iterations of the policy phase: a rollout each, and the epochs over it.

    Observation statistics are brought up to date before the first iteration and frozen for the
    whole phase.

    Returns:
      state: after the last iteration.
      metrics: ``[n]``.
      buffer: the auxiliary phase's data, of ``ppg.storage``; None unless ``keep``.
    """
    state = state.replace(obs_stats=state.seen_obs_stats)
    state = state.replace(obs_order=ppg.agent.initial_order(state.obs_stats))

    def iteration(
        carry: tuple[TrainState, Any], slot: chex.Array
    ) -> tuple[tuple[TrainState, Any], Metrics]:
        state, buffer = carry
        rollout_key, shuffle_key, _ = iteration_keys(state.key, state.iteration)
        state, rollout, episodes = collect(ppg, state, rollout_key)
        state, batch = make_batch(ppg, hparams, state, rollout)
        state, metrics = policy_phase(ppg, hparams, state, batch, shuffle_key)
        metrics |= rollout_metrics(ppg, state.iteration, episodes, batch)
        metrics |= packing_metrics(ppg, rollout)
        if keep:
            buffer = ppg.storage.keep(buffer, slot, rollout, batch)
        return (state.replace(iteration=state.iteration + 1), buffer), metrics

    # The buffer is carried and written in place. Stacked by the scan, it would exist twice under
    # ``vmap``.
    buffer = ppg.storage.blank(state) if keep else None
    (state, buffer), metrics = jax.lax.scan(iteration, (state, buffer), jnp.arange(n))
    return state, metrics, buffer


@traced_in_32_bits
def stored_shapes(config: Config, *, backend: Backend | None = None) -> tuple[TrainState, Any]:
    """Shapes of what a training must hold in memory. Nothing is computed.

    Args:
      config: what to train.
      backend: how the program is built; None: as for the device that JAX computes on.

    Returns:
      The training state, and the auxiliary phase's data; None if there is no auxiliary phase.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    ppg, keep = build(config, backend), config.e_aux > 0 and config.num_phases > 0
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: init(config, key, backend=backend), key)

    def buffer(state: TrainState) -> Any:
        order = ppg.agent.initial_order(state.seen_obs_stats)
        return ppg.storage.blank(state.replace(obs_order=order))

    return state, jax.eval_shape(buffer, state) if keep else None


@traced_in_32_bits
def train_phases(
    config: Config,
    hparams: Hyperparams,
    state: TrainState,
    n: int,
    *,
    backend: Backend | None = None,
    env_axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains for ``n`` whole phases: ``n_pi`` iterations each, and an auxiliary phase.

    Several calls give the same numbers as one call. ``config`` and ``n`` are static. The other
    arguments may be traced and vmapped.

    Args:
      config: what to train.
      hparams: scalars.
      state: of ``init`` or of an earlier call.
      n: phases, at least 1.
      backend: how the program is built; None: as for the device that JAX computes on.
      env_axis: name of the mesh axis over which the groups of environments are spread
        (``jax.shard_map``); None: all are here. ``state`` has the environments of this device.

    Returns:
      The state after them, and metrics ``[n * n_pi]``. ``ppg_jax.env_steps`` counts the steps of
      runs of 2^31 steps and more.
    """
    check_given(hparams, state)
    n = check_whole("n", n, 1)
    ppg, hparams = build(config, backend), hide_from_compiler(hparams, state.key)

    def phases(ppg: PPG, state: TrainState) -> tuple[TrainState, Metrics]:
        state, metrics = jax.lax.scan(lambda s, _: phase(ppg, hparams, s), state, None, n)
        return state, jax.tree.map(lambda x: x.reshape(n * config.n_pi), metrics)

    return in_groups(ppg, phases, state, env_axis)


@traced_in_32_bits
def train_tail(
    config: Config,
    hparams: Hyperparams,
    state: TrainState,
    *,
    backend: Backend | None = None,
    env_axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains for the iterations after the last whole phase. They have no auxiliary phase.

    Args:
      config: what to train; ``num_tail_iterations`` says how many.
      hparams: scalars.
      state: after ``num_phases`` phases.
      backend: as in ``train_phases``.
      env_axis: as in ``train_phases``.

    Returns:
      The final state, and metrics ``[num_tail_iterations]``.
    """
    check_given(hparams, state)
    ppg, hparams = build(config, backend), hide_from_compiler(hparams, state.key)
    tail = config.num_tail_iterations

    def last(ppg: PPG, state: TrainState) -> tuple[TrainState, Metrics]:
        state, metrics, _ = iterations(ppg, hparams, state, tail, keep=False)
        return state.replace(obs_order=None), metrics | not_measured(config, tail)

    return in_groups(ppg, last, state, env_axis)


def make_train(
    config: Config,
    env: Any = None,
    *,
    backend: Backend | None = None,
    env_axis: str | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """A whole run as one pure function. You can jit it and vmap it.

    Args:
      config: what to train.
      env: an environment to use instead of ``config.env``: of gymnax, a ``SuiteEnvironment`` or a
        ``SuiteBatch``.
      backend: how the program is built, of ``backend_for``; None: as for the device that JAX
        computes on. A program for another platform runs here too, only slower.
      env_axis: as in ``train_phases``, for a call inside of ``jax.shard_map``.

    Returns:
      ``train(key, hparams=config.hparams) -> (TrainState, Metrics)``; metrics are
      ``[iterations]``. ``ppg_jax.env_steps`` counts the steps of runs of 2^31 steps and more.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    check_config(config)
    if env is not None:
        config = config.replace(env=env)
    build(config, backend)
    where: Any = {"backend": backend, "env_axis": env_axis}

    def train(key: chex.PRNGKey, hparams: Hyperparams | None = None) -> tuple[TrainState, Metrics]:
        given = config.hparams if hparams is None else hparams
        state = init(config, key, **where)
        parts = []
        if config.num_phases:
            state, metrics = train_phases(config, given, state, config.num_phases, **where)
            parts.append(metrics)
        if config.num_tail_iterations:
            state, metrics = train_tail(config, given, state, **where)
            parts.append(metrics)
        return state, jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)

    return train
