"""Names of all metrics, and the metrics of a rollout."""

from collections.abc import Mapping
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np

from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config import Config
from ppg_jax.functional import explained_variance, missing
from ppg_jax.types import Batch, EpisodeStats, Metrics, Rollout

LOST = "aux_storage_lost"
"""Metric of ``packing_metrics``."""
ITERATION = "iteration"
"""Metric that stands for ``env_steps`` in a program that cannot count so far."""
MOST_COUNTED = 2**31 - 1
"""Most environment steps that a program counts: it computes in 32 bits."""


def phase_metrics(config: Config) -> tuple[str, ...]:
    """Names of the metrics that are measured once a phase, after its auxiliary phase."""
    if not config.e_aux:
        return ()
    names = ["clone_kl", "aux_value_loss", "aux_phase_value_loss", "aux_grad_norm"]
    names += ["value_loss_before_aux", "value_loss_after_aux"]
    names += ["aux_grad_cosine"] * (config.gradient_conflict != "off")
    names += ["replay_difference"] * (config.aux_storage == "replay")
    return (*names, *["beta_clone"] * config.adapt_beta_clone)


def metric_names(config: Config) -> set[str]:
    """Names of all metrics of a run on the host, where ``env_steps`` has 64 bits."""
    names = {"env_steps", "episode_return", "episode_length", "num_episodes", "explained_variance"}
    names |= {"policy_loss", "entropy", "clip_fraction", "approx_kl", "policy_grad_norm"}
    names |= {"value_loss", "value_grad_norm", *phase_metrics(config)}
    names |= {LOST} if config.aux_storage == "packed" else set()
    one_encoder = config.arch == "shared" and config.e_pi == config.e_v
    return names | ({"grad_cosine"} if one_encoder and config.gradient_conflict != "off" else set())


def rollout_metrics(
    ppg: PPG, iteration: chex.Array, episodes: EpisodeStats, batch: Batch
) -> Metrics:
    """The steps so far, the episodes that ended (NaN if none did), and explained variance.

    The program has no int64. Where the run's last count does not fit into int32, ``iteration``
    stands for ``env_steps``.
    """
    episodes = ppg.pool.sum(episodes)
    count = jnp.maximum(episodes.count, 1).astype(jnp.float32)

    def mean(total: chex.Array) -> chex.Array:
        return jnp.where(episodes.count > 0, total / count, missing())

    steps = ppg.pool.size * ppg.config.steps_per_iteration
    fits = steps * ppg.config.num_iterations <= MOST_COUNTED
    return {
        **({"env_steps": (iteration + 1) * steps} if fits else {ITERATION: iteration}),
        "episode_return": mean(episodes.return_sum),
        "episode_length": mean(episodes.length_sum.astype(jnp.float32)),
        "num_episodes": episodes.count,
        "explained_variance": explained_variance(batch.old_values, batch.value_targets, ppg.pool),
    }


def env_steps(config: Config, metrics: Mapping[str, Any]) -> np.ndarray:
    """Environment steps of a seed after each iteration, on the host in 64 bits.

    Use it for runs of 2^31 steps and more. Their programs cannot count so far in 32 bits, so
    ``make_train``, ``train_phases`` and ``train_tail`` give the metric ``iteration`` instead of
    ``env_steps``: the number of iterations before, int32. ``run`` and ``sweep`` need no help.

    Args:
      config: configuration of the run.
      metrics: of one of these functions, for any run, each ``[..., iterations]``.

    Returns:
      The steps, int64 ``[..., iterations]``.
    """
    if ITERATION not in metrics:
        return np.asarray(metrics["env_steps"]).astype(np.int64)
    return (np.asarray(metrics[ITERATION]).astype(np.int64) + 1) * config.steps_per_iteration


def packing_metrics(ppg: PPG, rollout: Rollout) -> Metrics:
    """How many of a rollout's observations packing changed; empty if none may be packed."""
    if ppg.config.aux_storage != "packed":
        return {}
    lost = jnp.int32(0) if rollout.lost is None else rollout.lost.sum()
    return {LOST: ppg.pool.sum(lost)}


def on_last_iteration(config: Config, measured: Metrics) -> Metrics:
    """Metrics of an auxiliary phase as ``[n_pi]``: NaN except in the last iteration."""
    blank = jnp.full(config.n_pi, missing(), jnp.float32)
    return {name: blank.at[-1].set(x) for name, x in measured.items()}


def not_measured(config: Config, iterations: int) -> Metrics:
    """Metrics of an auxiliary phase for iterations without one: all NaN."""
    blank = jnp.full(iterations, missing(), jnp.float32)
    return dict.fromkeys(phase_metrics(config), blank)
