"""What a run came to: summaries over seeds, and the learning curve."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.config import Config

MetricArrays = dict[str, np.ndarray]


def final_returns(metrics: MetricArrays, share: float = 0.1) -> np.ndarray:
    """Mean raw return of the episodes that ended in the last iterations of each seed.

    Args:
      metrics: ``[S, iterations]`` each.
      share: of the iterations that count as last, at least one.

    Returns:
      ``[S]``; NaN where no episode ended.
    """
    last = max(1, round(share * metrics["episode_return"].shape[1]))
    count = metrics["num_episodes"][:, -last:]
    total = np.where(count > 0, metrics["episode_return"][:, -last:] * count, 0.0).sum(1)
    episodes = count.sum(1)
    return np.divide(total, episodes, out=np.full(len(total), np.nan), where=episodes > 0)


def mean_return(metrics: MetricArrays) -> float:
    """Mean over rows of their mean return in all these iterations; NaN where no episode ended."""
    returns = final_returns(metrics, 1.0)
    return float(np.nanmean(returns)) if np.isfinite(returns).any() else np.nan


def first_bad_iteration(metrics: MetricArrays, config: Config) -> list[int | None]:
    """For each seed the first iteration whose loss is NaN or infinite, None if all are finite."""
    bad = ~np.isfinite(metrics["policy_loss"]) | ~np.isfinite(metrics["value_loss"])
    if config.e_aux > 0:
        ends = slice(config.n_pi - 1, config.num_phases * config.n_pi, config.n_pi)
        aux = metrics["aux_value_loss"] + metrics["aux_phase_value_loss"] + metrics["clone_kl"]
        bad[:, ends] |= ~np.isfinite(aux[:, ends])
    return [int(row.argmax()) if row.any() else None for row in bad]


def mean_interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its bootstrap interval (percentile, 10,000 resamples, fixed seed); NaN left out.

    Args:
      samples: any shape.
      confidence: of the interval.

    Returns:
      ``(mean, low, high)``; the bounds are NaN for fewer than two samples.
    """
    from scipy.stats import bootstrap

    samples = samples[np.isfinite(samples)].ravel()
    if samples.size < 2:
        return (float(samples.mean()) if samples.size else np.nan), np.nan, np.nan
    if np.ptp(samples) == 0:
        return (float(samples[0]),) * 3
    found = bootstrap(
        (samples,),
        np.mean,
        n_resamples=10_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(samples.mean()), float(found.low), float(found.high)


def smooth_returns(metrics: MetricArrays, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Mean return over bins of iterations: env steps ``[P]`` and returns ``[S, P]``."""
    returns, count = metrics["episode_return"], metrics["num_episodes"]
    edges = np.linspace(0, returns.shape[1], min(points, returns.shape[1]) + 1).astype(int)
    sums = np.where(count > 0, returns * count, 0.0)
    total, episodes = (np.add.reduceat(x, edges[:-1], axis=1) for x in (sums, count))
    binned = np.divide(total, episodes, out=np.full(total.shape, np.nan), where=episodes > 0)
    return metrics["env_steps"][0][edges[1:] - 1], binned


def plot_learning_curve(config: Config, metrics: MetricArrays) -> Figure:
    """Mean return over env steps with its 95% bootstrap interval over seeds, and each seed."""
    steps, returns = smooth_returns(metrics)
    rows = np.array([mean_interval(returns[:, i]) for i in range(len(steps))])
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes: Any = figure.add_subplot()
    for seed in returns:
        axes.plot(steps, seed, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.fill_between(steps, rows[:, 1], rows[:, 2], color="tab:blue", alpha=0.2, linewidth=0)
    axes.plot(steps, rows[:, 0], color="tab:blue", linewidth=1.8)
    algorithm = "PPG" if config.e_aux else "PPO"
    seeds = f"{len(returns)} seed" + "s" * (len(returns) > 1)
    axes.set_title(f"{config.env_name}, {algorithm} {config.arch}, {seeds}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("episode return")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
