"""Summaries by hand."""

import numpy as np
import pytest

from ppg_jax.config.config import Config
from ppg_jax.report.curves import plot_learning_curve
from ppg_jax.report.statistics import (
    final_returns,
    first_bad_iteration,
    mean_interval,
    smooth_returns,
)

NAN = np.nan


def metrics(returns, counts):
    returns, counts = np.array(returns), np.array(counts)
    steps = np.tile(10 * np.arange(1, returns.shape[1] + 1), (len(returns), 1))
    losses = dict.fromkeys(("policy_loss", "value_loss"), np.zeros(returns.shape))
    return {"episode_return": returns, "num_episodes": counts, "env_steps": steps} | losses


def test_final_returns_weigh_every_episode_alike():
    m = metrics([[9.0, 1.0, 4.0], [9.0, NAN, NAN]], [[5, 1, 2], [5, 0, 0]])
    np.testing.assert_allclose(final_returns(m, 2 / 3), [3.0, NAN])
    np.testing.assert_allclose(final_returns(m), [4.0, NAN])


def test_smoothing_keeps_episodes():
    m = metrics([[1.0, 3.0, NAN, 5.0]], [[1, 3, 0, 2]])
    steps, returns = smooth_returns(m, 2)
    np.testing.assert_array_equal(steps, [20, 40])
    np.testing.assert_allclose(returns, [[2.5, 5.0]])


def test_interval():
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0, NAN]))
    assert mean == pytest.approx(2.0)
    assert low < mean < high
    assert mean_interval(np.ones(5)) == (1.0, 1.0, 1.0)
    assert np.isnan(mean_interval(np.array([4.0]))[1])
    assert np.isnan(mean_interval(np.array([NAN]))[0])


def test_bad_iterations():
    config = Config(total_timesteps=8192 * 64)  # two phases of 32
    finite = np.zeros((3, 64))
    m = {n: finite.copy() for n in ("policy_loss", "value_loss")}
    m |= {n: np.full((3, 64), NAN) for n in ("aux_value_loss", "aux_phase_value_loss", "clone_kl")}
    for name in ("aux_value_loss", "aux_phase_value_loss", "clone_kl"):
        m[name][:, [31, 63]] = 0.0
    assert first_bad_iteration(m, config) == [None] * 3
    m["value_loss"][1, 5] = np.inf
    m["clone_kl"][2, 63] = NAN
    assert first_bad_iteration(m, config) == [None, 5, 63]


def test_plot_with_gaps_and_a_single_seed(tmp_path):
    m = metrics([[NAN, 1.0, 2.0]], [[0, 1, 1]])
    figure = plot_learning_curve(Config(e_aux=0), m)
    figure.savefig(tmp_path / "curve.png")
    assert figure.axes[0].get_xlabel() == "environment steps"
