"""A run in several processes: the same bits as in one, whoever dies, and however it is resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import yaml

from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.processes import Processes
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.metadata import DamagedError
from ppg_jax.runs.together import moved
from tests import several

SMALL = ["cartpole", "--num-envs=4", "--num-steps=16", "--n-pi=2", "--num-minibatches=2",
         "--num-aux-minibatches=2", "--seeds=3", "--checkpoint-every=1", "--keep=3",
         f"--total-timesteps={4 * 16 * 2 * 30}", "--quiet"]  # fmt: skip
EVALUATED = ["--evaluate-every=15", "--eval-episodes=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run in one process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    [(code, _, errors)] = several.train([*SMALL, *EVALUATED, "--out", str(folder)], 1)
    assert code == 0, errors
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The run in two processes."""
    folder = tmp_path_factory.mktemp("runs") / "together"
    return folder, several.train([*SMALL, *EVALUATED, "--out", str(folder)], 2)


def state_of(folder, rows=None, processes=Processes()):  # noqa: B008
    config = load_config(folder / "config.yaml")
    checkpoints = Checkpoints(folder, processes=processes)
    saved = checkpoints.load(config, checkpoints.phases()[-1], rows)
    is_key = lambda x: jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    leaves = jax.tree.leaves(saved.state)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in leaves]


def assert_same(folder, other):
    for name in ("metrics.csv", "checkpoints/final/digest.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    for x, y in zip(state_of(folder), state_of(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_two_processes_have_the_bits_of_one(alone, together):
    folder, ((code, shown, errors), (other_code, other_shown, other_errors)) = together
    assert (code, other_code) == (0, 0), errors + other_errors
    assert "written to" in shown
    assert other_shown == other_errors == ""
    assert_same(folder, alone)
    for name in ("evaluation.csv", "config.yaml"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name
    assert json.loads((folder / "summary.json").read_text())["processes"] == 2


def test_a_checkpoint_in_parts_is_read_by_any_number(alone, together):
    folder = together[0]
    whole = state_of(alone)
    for processes in (Processes(2, 1), Processes(3, 2), Processes(3, 0)):
        rows = processes.rows(3)
        for x, y in zip(state_of(folder, rows, processes), whole, strict=True):
            np.testing.assert_array_equal(x, y[rows.start : rows.stop])
        # And one that a single process wrote.
        for x, y in zip(state_of(alone, rows, processes), whole, strict=True):
            np.testing.assert_array_equal(x, y[rows.start : rows.stop])


@pytest.mark.parametrize("how", ["part", "no part", "metadata", "parts"])
def test_damage_of_a_part_is_recognised(together, tmp_path, how):
    folder = tmp_path / "run"
    shutil.copytree(together[0], folder)
    newest = folder / "checkpoints" / "phases" / "phase_30"
    about = newest / "about" / "metadata"
    fields = json.loads(about.read_text())
    assert [part[:2] for part in fields["parts"]] == [[0, 1], [1, 3]]
    if how == "part":
        for file in (newest / "rows_1_3").glob("**/d/*"):
            data = bytearray(file.read_bytes())
            data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
            file.write_bytes(data)
    elif how == "no part":
        shutil.rmtree(newest / "rows_0_1")
    elif how == "metadata":
        about.write_text(json.dumps(fields | {"run_seconds": 1.5}))
    else:
        about.write_text(json.dumps(fields | {"parts": fields["parts"][:1]}))
    with pytest.raises(DamagedError):
        state_of(folder)


def wait_for(path, processes):
    end = time.monotonic() + 100
    while not path.exists():
        assert all(p.poll() is None for p in processes), several.finish(processes)
        assert time.monotonic() < end
        time.sleep(0.01)


def kill_and_wait(folder, victim, count):
    """Kills a process of a run after its third phase; the seconds until the others ended."""
    processes = several.start(["train", *SMALL, "--out", str(folder)], count)
    wait_for(folder / "checkpoints" / "phases" / "phase_3", processes)
    os.kill(processes[victim].pid, signal.SIGKILL)
    began = time.monotonic()
    ended = several.finish(processes)
    seconds = time.monotonic() - began
    for i, (code, _, errors) in enumerate(ended):
        if i != victim:
            assert code == 3, errors
            [line] = errors.splitlines()
            assert f"error: process {victim} is gone; the run is saved up to phase " in line
            assert f"resume with: ppg-jax train --resume {folder}" in line
    return seconds


def test_one_is_killed_and_the_run_is_resumed_in_one_process(alone, tmp_path):
    folder = tmp_path / "run"
    assert kill_and_wait(folder, 1, 2) < 30
    assert not (folder / "summary.json").exists()
    [(code, shown, errors)] = several.train(["--resume", str(folder), "--checkpoint-every=1"], 1)
    assert code == 0, errors
    assert "the run had 2 processes, now 1: seeds 1 to 2 moved" in shown
    assert_same(folder, alone)


@pytest.mark.long
@pytest.mark.parametrize(("victim", "before", "after"), [(0, 2, 3), (2, 4, 2)])
def test_any_is_killed_and_any_number_goes_on(tmp_path_factory, tmp_path, victim, before, after):
    seeds = ["--seeds=5"]
    whole, folder = tmp_path / "alone", tmp_path / "run"
    SMALL.extend(seeds)
    try:
        several.train([*SMALL, "--out", str(whole)], 1)
        assert kill_and_wait(folder, victim, before) < 40
    finally:
        SMALL.pop()
    for code, _, errors in several.train(["--resume", str(folder)], after):
        assert code == 0, errors
    assert_same(folder, whole)


@pytest.mark.long
def test_a_stop_and_an_error_reach_all(tmp_path):
    folder = tmp_path / "run"
    processes = several.start(["train", *SMALL, "--out", str(folder)], 2)
    wait_for(folder / "checkpoints" / "phases" / "phase_3", processes)
    processes[1].send_signal(signal.SIGTERM)
    (code, shown, _), (other, _, errors) = several.finish(processes)
    assert (code, other, errors) == (0, 0, "")
    assert "stopped after iteration" in shown
    (code, _, error), (other, _, same) = several.train([*SMALL, "--out", str(folder)], 2)
    assert (code, other) == (2, 3)
    assert "is not empty" in error
    assert same.strip() == f"{error.strip()} (process 0)"
    assert yaml.safe_load((folder / "config.yaml").read_text())["seeds"] == 3


def test_what_moved():
    two, three = Processes(2).parts(8), Processes(3).parts(8)
    assert moved(two, Processes(2), 8) is None
    assert moved(two, Processes(4), 8) == "the run had 2 processes, now 4: seeds 2 to 7 moved"
    assert moved([range(8)], Processes(2), 8) == "the run had 1 process, now 2: seeds 4 to 7 moved"
    assert (
        moved(two, Processes(3), 8) == "the run had 2 processes, now 3: seeds 2 to 3, 5 to 7 moved"
    )
    assert (
        moved(three, Processes(2), 8)
        == "the run had 3 processes, now 2: seeds 2 to 3, 5 to 7 moved"
    )


@pytest.mark.long
def test_a_warm_start_and_a_stop_in_two_processes(alone, tmp_path):
    one, both = tmp_path / "one", tmp_path / "both"
    warm = [*SMALL, "--init-from", str(alone), "--stop-at-return", "1"]
    [(code, _, errors)] = several.train([*warm, "--out", str(one)], 1)
    assert code == 0, errors
    (code, shown, errors), (other, silent, same) = several.train([*warm, "--out", str(both)], 2)
    assert (code, other) == (0, 0), errors + same
    assert silent == same == ""
    assert "has reached stop_at_return 1" in " ".join(shown.split())
    assert_same(both, one)
    told = json.loads((both / "summary.json").read_text())
    assert told["warm_start"]["init_from"] == str(alone)
    assert not told["finished"]

    # One of them begins again, before the first checkpoint, on fewer devices.
    shutil.rmtree(both / "checkpoints")
    (both / "metrics.csv").unlink()
    file = both / "config.yaml"
    file.write_text(file.read_text().replace("devices: null", "devices: 4096"))
    again = ["--resume", str(both), "--stop-at-return", "1", "--checkpoint-every=1"]
    (code, shown, errors), (other, silent, same) = several.train(again, 2)
    assert (code, other) == (0, 0), errors + same
    assert silent == same == ""
    assert "instead of 4096" in shown
    assert "starting from" in shown
    assert_same(both, one)
    [(code, shown, errors)] = several.train(["--resume", str(both), "--stop-after", "1h"], 1)
    assert code == 0, errors
    assert "the run had 2 processes, now 1: seeds 1 to 2 moved" in shown
    several.train(["--resume", str(one)], 1)
    assert_same(both, one)


SCRIPT = """
import sys, ppg_jax
ppg_jax.distributed(sys.argv[1], 2, int(sys.argv[2]))
from tests.runs.test_together import fails, tiny
try:
    result = ppg_jax.run(tiny(), out=sys.argv[3], progress=False, on_segment=fails)
except RuntimeError as error:
    print("raised", error)
else:
    print(result.stopped, result.metrics["env_steps"].dtype)
print(ppg_jax.resume(sys.argv[3], progress=False).finished)
"""


@pytest.mark.long
def test_a_callback_that_fails_ends_all_in_order(tmp_path):
    place, folder = f"127.0.0.1:{several.free_port()}", tmp_path / "run"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, place, str(i), str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    (code, shown, errors), (other, its, same) = several.finish(started)
    assert (code, other) == (0, 0), errors + same
    assert shown.splitlines() == ["raised mine", "True"]
    assert its.splitlines() == ["on_segment raised RuntimeError int64", "True"]
