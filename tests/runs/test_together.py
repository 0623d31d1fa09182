"""What several processes of a run decide together: its end, its start and its options."""

import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax import Config, ConfigError
from ppg_jax.algorithm import Learned
from ppg_jax.execution import joining
from ppg_jax.execution.link import Link
from ppg_jax.execution.processes import Processes
from ppg_jax.runs import session, together
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.options import RunOptions
from ppg_jax.runs.recorder import CheckpointOptions
from ppg_jax.runs.stopping import StopOptions, Stopping
from ppg_jax.runs.warm_start import Taken


@pytest.fixture
def two():
    """Two processes, both in this one, joined by a socket."""
    a, b = socket.socketpair()
    processes = (Processes(2, 0, Link({1: a})), Processes(2, 1, Link({0: b})))
    yield processes
    in_both(lambda p: p.link.leave(), processes)
    a.close()
    b.close()


def in_both(work, processes):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, processes))


def tiny(**changes):
    fields = {"num_envs": 4, "num_steps": 8, "n_pi": 1, "e_aux": 0, "arch": "shared",
              "num_minibatches": 1, "total_timesteps": 4 * 8 * 4, "seeds": 3,
              "network": {"hidden_sizes": (8,)}}  # fmt: skip
    return Config(**fields | changes)


def returns(value):
    """Metrics of two iterations in which every episode has this return."""
    return {"episode_return": np.full((3, 2), value), "num_episodes": np.ones((3, 2), int),
            "env_steps": np.ones((3, 2), np.int64)}  # fmt: skip


def fails(_):
    raise RuntimeError("mine")


@pytest.mark.parametrize(
    ("options", "signals", "reason"),
    [
        ({}, (None, None), None),
        ({"at_return": 3.0}, (None, None), None),
        ({"at_return": 2.0}, (None, None), "the mean return 2 of the last 1 iterations has rea"),
        ({}, (None, "SIGTERM"), "SIGTERM in process 1"),
        ({}, ("SIGTERM", "SIGTERM"), "SIGTERM"),
        ({"seconds": 0.001, "began": 0.0}, (None, None), "stop_after is 0.001 s"),
        ({"on_segment": lambda _: True}, (None, None), "on_segment returned True"),
        ({"on_segment": fails}, (None, None), "on_segment raised RuntimeError"),
    ],
)
def test_the_first_process_decides_where_the_run_ends(two, options, signals, reason):
    recorder = SimpleNamespace(metrics=returns(2.0), so_far=lambda segment: segment)

    def ends(process):
        # The second one alone would go on.
        own = StopOptions(**options) if process.first else StopOptions(seconds=1e9)
        stopping = Stopping(own, tiny(), processes=process)
        return stopping.ends(recorder, None, signals[process.index]), stopping

    (first, mine), (second, its) = in_both(ends, two)
    assert first == second == (reason is not None)
    assert mine.reason == its.reason
    assert reason is None or reason in mine.reason
    assert type(mine.error) is (RuntimeError if options.get("on_segment") is fails else type(None))
    its.raise_error()  # there is none


def test_a_return_that_was_reached_before_is_told_to_all(two):
    options = StopOptions(at_return=2.0)
    found = in_both(lambda p: Stopping(options, tiny(), returns(2.0), p).reason, two)
    assert found[0] == found[1]
    assert found[0].endswith("before it was resumed, so nothing was trained")


def test_each_process_starts_with_its_seeds():
    params = {"w": np.arange(6.0).reshape(3, 2)}
    notes = []
    taken = Taken(Learned(params), {}, ("starting from there",))
    display = SimpleNamespace(note=notes.append)
    whole = session.first_start(tiny(), taken, display)
    part = session.first_start(tiny(), taken, display, Processes(2, 1))
    np.testing.assert_array_equal(whole.learned.params["w"], params["w"])
    np.testing.assert_array_equal(part.learned.params["w"], params["w"][1:])
    assert part.learned.opt_states is None
    cold = session.first_start(tiny(), None, display, Processes(2, 0))
    for keys, same in ((part.keys, whole.keys[1:]), (cold, whole.keys[:1])):
        np.testing.assert_array_equal(*map(jax.random.key_data, (keys, same)))
    assert notes == ["starting from there"] * 2


def test_what_is_taken_must_be_the_same(two):
    def check(process):
        taken = Taken(None, {"digest": str(process.index), "init_from": "/runs/x"}, ())
        try:
            together.check_taken(taken, process)
        except ConfigError as error:
            return str(error)
        return None

    assert in_both(check, two) == [
        None,
        "init_from: /runs/x is another run here than in process 0; name one on a file system that "
        "all processes share",
    ]


def test_options_of_a_stop_must_be_the_same(two):
    def check(process):
        stop = StopOptions(seconds=60.0) if process.first else StopOptions()
        options = RunOptions((), CheckpointOptions(), EvaluationOptions(), stop)
        with pytest.raises(ConfigError) as caught:
            together.check_same("run", tiny(), options.shared, process)
        return str(caught.value)

    assert set(in_both(check, two)) == {
        "stop_after: None in process 1, but 60.0 in process 0; start all processes with the same "
        "options"
    }


def test_the_fewest_devices_decide_how_many_share_a_seed(two):
    fewer = {"env_groups": 4}, {"devices": 3, "devices_per_seed": 1, "env_groups": 4}
    notes = []

    def share(process):
        changes = fewer[process.index]
        if process.first:
            changes = changes | {"devices": 4, "devices_per_seed": 2}
        together.note_all(("fewer",), notes.append if process.first else lambda _: None, process)
        return together._shared_alike(tiny(**changes), 2, process, notes.append)

    first, second = in_both(share, two)
    assert (first.devices, first.devices_per_seed, first.env_groups) == (4, 1, 4)
    assert (second.devices, second.devices_per_seed, second.env_groups) == (3, 1, 4)
    assert notes[:2] == ["fewer", "process 1: fewer"]
    assert set(notes[2:]) == {"devices_per_seed 1, because not all processes have as many devices"}


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: ppg_jax.sweep(tiny(), {"gamma": [0.9]}), "a sweep"),
        (lambda: ppg_jax.resume_sweep("nowhere"), "a sweep"),
        (lambda: ppg_jax.tune(tiny(), {"gamma": {"uniform": [0.9, 0.99]}}, 1), "a search"),
        (lambda: ppg_jax.resume_tune("nowhere"), "a search"),
    ],
)
def test_a_sweep_and_a_search_run_in_one_process(monkeypatch, call, what):
    monkeypatch.setattr(joining._Here, "processes", Processes(2))
    with pytest.raises(ConfigError, match=f"^distributed: {what} runs in one process"):
        call()
