"""Names of all metrics, and the metrics of a rollout."""

import chex
import jax.numpy as jnp

from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config import Config
from ppg_jax.functional import explained_variance, missing
from ppg_jax.types import Batch, EpisodeStats, Metrics, Rollout

LOST = "aux_storage_lost"
"""Metric of ``packing_metrics``."""


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
    """Names of all metrics of a run."""
    names = {"env_steps", "episode_return", "episode_length", "num_episodes", "explained_variance"}
    names |= {"policy_loss", "entropy", "clip_fraction", "approx_kl", "policy_grad_norm"}
    names |= {"value_loss", "value_grad_norm", *phase_metrics(config)}
    names |= {LOST} if config.aux_storage == "packed" else set()
    one_encoder = config.arch == "shared" and config.e_pi == config.e_v
    return names | ({"grad_cosine"} if one_encoder and config.gradient_conflict != "off" else set())


def rollout_metrics(
    ppg: PPG, iteration: chex.Array, episodes: EpisodeStats, batch: Batch
) -> Metrics:
    """Raw returns and lengths of the episodes that ended (NaN if none), and explained variance."""
    episodes = ppg.pool.sum(episodes)
    count = jnp.maximum(episodes.count, 1).astype(jnp.float32)

    def mean(total: chex.Array) -> chex.Array:
        return jnp.where(episodes.count > 0, total / count, missing())

    return {
        "env_steps": (iteration + 1) * ppg.pool.size * ppg.config.steps_per_iteration,
        "episode_return": mean(episodes.return_sum),
        "episode_length": mean(episodes.length_sum.astype(jnp.float32)),
        "num_episodes": episodes.count,
        "explained_variance": explained_variance(batch.old_values, batch.value_targets, ppg.pool),
    }


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
