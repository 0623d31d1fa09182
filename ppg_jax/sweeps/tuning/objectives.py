"""What a search maximises: one number for a training, from its metrics so far."""

from collections.abc import Callable, Mapping

import numpy as np

from ppg_jax.config import Config, ConfigError
from ppg_jax.report import final_returns, first_bad_iteration, iqm
from ppg_jax.types import MetricArrays


def final_return(metrics: MetricArrays) -> np.ndarray:
    """Mean return of the episodes that ended in the last tenth of the iterations, ``[S]``."""
    return final_returns(metrics)


def area(metrics: MetricArrays) -> np.ndarray:
    """Area under the learning curve over its length: the mean return of all iterations, ``[S]``.

    In iterations without an end of an episode, the curve keeps its last value. It begins with the
    first episode that ends; NaN if there is none.
    """
    return np.array([_mean_of_curve(x) for x in np.asarray(metrics["episode_return"], np.float64)])


def _mean_of_curve(returns: np.ndarray) -> float:
    known = np.flatnonzero(np.isfinite(returns))
    if not known.size:
        return float("nan")
    lengths = np.diff([*known, len(returns)])
    return float(np.average(returns[known], weights=lengths))


OBJECTIVES: dict[str, Callable[[MetricArrays], np.ndarray]] = {
    "final_return": final_return,
    "area": area,
}
"""Score of each seed, by the objective's name."""


def check_objective(name: str) -> str:
    """The name of an objective.

    Raises:
      ConfigError: there is none of this name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective: {name!r} is invalid; it should be {' or '.join(OBJECTIVES)}")
    return name


def score(name: str, config: Config, metrics: MetricArrays) -> float:
    """Interquartile mean over seeds of an objective; NaN if a seed's loss is NaN or infinite.

    It is also NaN if no episode of a seed has ended.
    """
    if any(bad is not None for bad in first_bad_iteration(metrics, config)):
        return float("nan")
    return float(iqm(OBJECTIVES[name](metrics)))


def normalized_score(
    scores: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]
) -> float:
    """Mean over environments of ``(score - low) / (high - low)``."""
    each = [(scores[env] - low) / (high - low) for env, (low, high) in bounds.items()]
    return float(np.mean(each))
