"""Statistics of a run: returns, intervals over seeds, and seeds with NaN losses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.types import MetricArrays

if TYPE_CHECKING:
    import pandas as pd


def final_returns(metrics: MetricArrays, share: float = 0.1) -> np.ndarray:
    """Mean raw return of the episodes that ended in the last iterations, for each seed.

    Args:
      metrics: metrics by name, each ``[S, iterations]``.
      share: share of the iterations that count as the last ones; at least one iteration counts.

    Returns:
      Mean returns ``[S]``; NaN if no episode ended.
    """
    last = max(1, round(share * metrics["episode_return"].shape[1]))
    count = metrics["num_episodes"][:, -last:]
    total = np.where(count > 0, metrics["episode_return"][:, -last:] * count, 0.0).sum(1)
    episodes = count.sum(1)
    return np.divide(total, episodes, out=np.full(len(total), np.nan), where=episodes > 0)


def first_bad_iteration(metrics: MetricArrays, config: Config) -> list[int | None]:
    """First iteration with a NaN or infinite loss, for each seed; None if all are finite."""
    bad = ~np.isfinite(metrics["policy_loss"]) | ~np.isfinite(metrics["value_loss"])
    if config.e_aux > 0:
        ends = slice(config.n_pi - 1, config.num_phases * config.n_pi, config.n_pi)
        aux = metrics["aux_value_loss"] + metrics["aux_phase_value_loss"] + metrics["clone_kl"]
        bad[:, ends] |= ~np.isfinite(aux[:, ends])
    return [int(row.argmax()) if row.any() else None for row in bad]


def mean_interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its bootstrap interval (percentile method, 10,000 resamples, fixed seed).

    Args:
      samples: samples of any shape; NaN and infinite values are ignored.
      confidence: confidence level of the interval.

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


def iqm(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264)."""
    from scipy.stats import trim_mean

    return trim_mean(scores, 0.25, axis=axis)


def iqm_interval(
    strata: Sequence[np.ndarray], confidence: float = 0.95, resamples: int = 2_000
) -> tuple[float, float, float]:
    """IQM over all runs of several tasks, and its stratified bootstrap interval.

    Runs are resampled within their task, so every resample has the same number of runs per task.
    This is the computation of rliable, but it needs only scipy. rliable's IQM is also
    ``scipy.stats.trim_mean``, and scipy's bootstrap of several samples resamples each on its own.

    Args:
      strata: scores of the runs of each task, ``[S]``; NaN and infinite values are ignored.
      confidence: confidence level of the interval.
      resamples: number of resamples; the seed is fixed.

    Returns:
      ``(iqm, low, high)``; the bounds are NaN if no task has two runs.
    """
    from scipy.stats import bootstrap

    strata = [x[np.isfinite(x)] for x in map(np.asarray, strata)]
    strata = [x for x in strata if x.size]
    if not strata:
        return np.nan, np.nan, np.nan
    everything = np.concatenate(strata)
    middle = float(iqm(everything))
    if max(x.size for x in strata) < 2:
        return middle, np.nan, np.nan
    if all(np.ptp(x) == 0 for x in strata):
        return middle, middle, middle

    # scipy resamples only samples of at least two runs. A task with a single run has only one
    # resample, so it is added unchanged.
    alone = np.concatenate([x for x in strata if x.size == 1] or [np.empty(0)])

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        fixed = np.broadcast_to(alone, (*samples[0].shape[:-1], alone.size))
        return iqm(np.concatenate([*samples, fixed], axis=axis), axis)

    found = bootstrap(
        [x for x in strata if x.size > 1],
        statistic,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return middle, float(found.low), float(found.high)


def crafter_score(measures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Crafter's score: the geometric mean of success rates (Hafner 2021, arXiv:2109.06780).

    ``exp(mean(ln(1 + s))) - 1`` over the rates ``s`` in percent. So it counts more to reach a rare
    achievement now and then than a common one more often.

    Args:
      measures: for each achievement, whether an episode reached it, bool ``[S, E]``. Measures that
        are numbers do not count.

    Returns:
      Score of each seed in percent, ``[S]``.

    Raises:
      ConfigError: no measure is bool.
    """
    rates = [100 * x.mean(-1) for x in measures.values() if x.dtype == np.bool_]
    if not rates:
        raise ConfigError("measures: none is bool; Crafter's score needs achievements")
    return np.expm1(np.log1p(rates).mean(0))


def smooth_returns(metrics: MetricArrays, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Mean return per bin of iterations: env steps ``[P]`` and returns ``[S, P]``."""
    returns, count = metrics["episode_return"], metrics["num_episodes"]
    edges = np.linspace(0, returns.shape[1], min(points, returns.shape[1]) + 1).astype(int)
    sums = np.where(count > 0, returns * count, 0.0)
    total, episodes = (np.add.reduceat(x, edges[:-1], axis=1) for x in (sums, count))
    binned = np.divide(total, episodes, out=np.full(total.shape, np.nan), where=episodes > 0)
    return metrics["env_steps"][0][edges[1:] - 1], binned


def to_dataframe(metrics: MetricArrays) -> "pd.DataFrame":
    """Metrics ``[S, iterations]`` as a table with one row per seed and iteration."""
    import pandas as pd

    seeds, iterations = metrics["env_steps"].shape
    index = {
        "seed": np.repeat(np.arange(seeds), iterations),
        "iteration": np.tile(np.arange(iterations), seeds),
    }
    return pd.DataFrame(index | {name: x.reshape(-1) for name, x in metrics.items()})
