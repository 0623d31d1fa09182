"""A run that ends before its last iteration: at a return, at a time, or when a callback says so."""

import datetime
import json
import math

import jax
import numpy as np
import pytest
from rich.console import Console

from ppg_jax import ConfigError, resume, run
from ppg_jax.config.config import Config
from ppg_jax.execution.segments import Pace, _segment_phases
from ppg_jax.runs.result import RunSoFar
from ppg_jax.runs.stopping import (
    SEGMENTS,
    StopOptions,
    Stopping,
    recent_iterations,
    recent_return,
    to_seconds,
)

ITERATIONS = 8


def small(**changes):
    """Four phases of two iterations, of PPO, which compiles sooner."""
    fields = {
        "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2, "seeds": 2, "e_aux": 0,
        "arch": "shared", "total_timesteps": 4 * 16 * ITERATIONS, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.fixture(scope="module")
def whole():
    return run(small(), progress=False)


def iterations(result):
    return result.metrics["env_steps"].shape[1]


def assert_same(result, other):
    for name, x in other.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, name)
    for a, b in zip(
        jax.tree.leaves(result.state.params), jax.tree.leaves(other.state.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def said(folder):
    return json.loads((folder / "summary.json").read_text())["stopped"]


# What is compared with ``stop_at_return``


def made_up(returns, counts):
    returns, counts = np.array(returns, np.float32), np.array(counts, np.int32)
    return {"episode_return": returns, "num_episodes": counts, "env_steps": counts}


def test_the_return_is_a_mean_over_seeds_of_means_over_episodes():
    """The last phase of two iterations: (1 x 10 + 3 x 20) / 4 = 17.5, and 40; their mean."""
    metrics = made_up([[99, 10, 20], [99, np.nan, 40]], [[5, 1, 3], [5, 0, 2]])
    assert recent_return(metrics, small()) == (17.5 + 40) / 2


def test_the_last_tenth_counts_and_at_least_a_phase():
    config = small()
    assert [recent_iterations(n, config) for n in (1, 2, 20, 30, 100)] == [1, 2, 2, 3, 10]


def test_a_seed_without_an_episode_is_no_stop():
    metrics = made_up([[900.0, 900.0], [np.nan, np.nan]], [[1, 1], [0, 0]])
    assert math.isnan(recent_return(metrics, small()))
    assert Stopping(StopOptions(at_return=1.0), small(), metrics).reason is None


# Values


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90), (0.5, 0.5), (np.float32(2), 2), ("90", 90), ("90s", 90), ("1.5h", 5400),
        ("1h 30m", 5400), ("2d", 172_800), ("10M", 600), (datetime.timedelta(minutes=2), 120),
    ],
)  # fmt: skip
def test_times(given, seconds):
    assert to_seconds(given) == seconds


@pytest.mark.parametrize(
    "given", ["soon", "", "-1m", "m", "1m30", "1.2.3s", 0, -1, "0s", math.nan, math.inf, True, [1]]
)
def test_what_is_no_time(given):
    with pytest.raises(ConfigError, match=r"stop_after: .* is invalid; it should be seconds"):
        run(small(), progress=False, stop_after=given)


@pytest.mark.parametrize("given", ["high", True, math.nan, [1.0]])
def test_what_is_no_return(given):
    with pytest.raises(ConfigError, match="stop_at_return: .* is invalid; it should be a number"):
        run(small(), progress=False, stop_at_return=given)


def test_what_is_no_function():
    with pytest.raises(ConfigError, match="on_segment: 3 is invalid; it should be a function"):
        run(small(), progress=False, on_segment=3)


# Runs


def test_a_return_ends_a_run_and_it_goes_on_when_asked(whole, tmp_path):
    log = (tmp_path / "log").open("w")
    result = run(
        small(), out=tmp_path / "run", stop_at_return=1.0, console=Console(file=log, width=200)
    )
    log.close()
    assert iterations(result) == 2  # every CartPole episode returns at least 1
    assert not result.finished
    found = recent_return(result.metrics, result.config)
    assert result.stopped == (
        f"the mean return {found:.6g} of the last 2 iterations has reached stop_at_return 1"
    )
    assert said(tmp_path / "run") == result.stopped
    assert f"stopped: {result.stopped}\n" in (tmp_path / "log").read_text()

    again = resume(tmp_path / "run", progress=False, stop_at_return=1.0)
    assert iterations(again) == 2
    assert again.stopped.endswith("before it was resumed, so nothing was trained")
    for a, b in zip(jax.tree.leaves(again.state.params), jax.tree.leaves(result.state.params),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)

    again = resume(tmp_path / "run", progress=False, stop_at_return=1e6)
    assert_same(again, whole)
    assert again.finished
    assert again.stopped is None
    assert said(tmp_path / "run") is None
    again = resume(tmp_path / "run", progress=False, stop_at_return=1.0)
    assert again.finished  # a run that is finished is not stopped
    assert again.stopped is None


def test_a_time_ends_a_run_after_the_segment(tmp_path):
    result = run(small(), out=tmp_path / "run", progress=False, stop_after=1e-3)
    assert iterations(result) == 2
    assert "stop_after is 0.001 s" in result.stopped
    again = resume(tmp_path / "run", progress=False, stop_after="0.001s")
    assert iterations(again) == 4  # each time it gets further
    assert resume(tmp_path / "run", progress=False, stop_after="1h").finished


def test_time_counts_from_the_call(monkeypatch):
    clock = iter([104.0, 110.0])
    monkeypatch.setattr("ppg_jax.runs.stopping.time.monotonic", lambda: next(clock))
    stopping = Stopping(StopOptions(seconds=10.0, began=100.0), small())
    assert not stopping.reached(None, None)
    assert stopping.reached(None, None)
    assert stopping.reason == "10 s have passed, stop_after is 10 s"


def test_a_callback_sees_the_run_and_ends_it(whole, tmp_path):
    seen = []

    def on_segment(so_far):
        seen.append(so_far)
        done = iterations(so_far)
        for x in so_far.metrics.values():
            x[:] = 0  # its own copy
        return done == 4

    result = run(small(), out=tmp_path / "run", progress=False, on_segment=on_segment)
    assert [type(x) for x in seen] == [RunSoFar, RunSoFar]
    assert not hasattr(seen[0], "state")
    assert seen[1].run_seconds == result.run_seconds
    assert seen[1].config == result.config
    assert result.stopped == "on_segment returned True"
    for name, x in result.metrics.items():
        np.testing.assert_array_equal(x, whole.metrics[name][:, :4], name)
    again = resume(tmp_path / "run", progress=False, on_segment=lambda so_far: so_far is None)
    assert_same(again, whole)


def test_a_callback_that_fails_ends_the_run_in_order(whole, tmp_path):
    def on_segment(so_far):
        if iterations(so_far) == 4:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(small(), out=tmp_path / "run", progress=False, on_segment=on_segment)
    assert said(tmp_path / "run") == "on_segment raised RuntimeError"
    assert (tmp_path / "run" / "checkpoints" / "final").is_dir()
    again = resume(tmp_path / "run", progress=False)
    assert again.finished
    assert_same(again, whole)


def test_a_callback_that_answers_something_else():
    with pytest.raises(ConfigError, match="on_segment: its result 'no' is invalid"):
        run(small(), progress=False, on_segment=lambda so_far: "no")


# How often it is looked at


def test_segments_are_short_enough():
    assert StopOptions().segments is None
    assert StopOptions(on_segment=print).segments is None
    assert StopOptions(at_return=1.0).segments == StopOptions(seconds=1.0).segments == SEGMENTS
    one_step = {"num_envs": 1, "num_steps": 1, "n_pi": 1, "num_minibatches": 1}
    config = Config(**one_step, num_aux_minibatches=1, total_timesteps=10_000)
    assert _segment_phases(config, 0, Pace()) == 100
    assert _segment_phases(config, 0, Pace(segments=SEGMENTS)) == 10
    assert _segment_phases(config, 0, Pace(segments=SEGMENTS, most_phases=3)) == 2
