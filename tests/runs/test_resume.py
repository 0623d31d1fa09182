"""A run that is stopped, killed or damaged goes on as if nothing had happened."""

import json
import logging
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
from rich.console import Console

from ppg_jax import ConfigError, resume, run
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution import segments
from ppg_jax.execution.layout import lay_out
from ppg_jax.execution.segments import Pace, train_segments
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.checkpoints.storage import not_of_orbax, one_line
from ppg_jax.runs.files import TextLog
from ppg_jax.runs.folder import folder_lock
from ppg_jax.runs.interrupts import StoppedError, StopRequest
from tests import probes


def small(**changes):
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 13, "seeds": 2, "normalize_observations": True,
        "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of six phases and a tail."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(small(), out=folder, progress=False, checkpoint_every=1, keep=3)


@pytest.fixture
def stopped(whole, tmp_path):
    """Its folder as it was after phase 4, in the middle of writing what came then."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    for name in ("phase_5", "phase_6", "../final"):
        shutil.rmtree(folder / "checkpoints" / "phases" / name)
    (folder / "summary.json").unlink()
    lines = (folder / "metrics.csv").read_bytes().splitlines(keepends=True)
    (folder / "metrics.csv").write_bytes(b"".join(lines[:20]) + lines[20][:11])
    return folder


def assert_same(result, other):
    for name, x in other.metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, name)
        assert result.metrics[name].dtype == x.dtype
    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(other.state), strict=True):
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_which_checkpoints_stay(whole):
    phases = {int(p.name[6:]) for p in (whole[0] / "checkpoints" / "phases").glob("phase_*")}
    assert {4, 5, 6} <= phases
    assert len(phases) <= 4  # and the best


def test_it_goes_on_bit_for_bit(whole, stopped):
    folder, result = whole
    again = resume(stopped, progress=False)
    assert_same(again, result)
    assert again.finished
    assert (stopped / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    assert (stopped / "config.yaml").read_bytes() == (folder / "config.yaml").read_bytes()
    assert json.loads((stopped / "summary.json").read_text())["finished"]


def test_a_finished_run_stays_as_it_is(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    assert_same(resume(folder, progress=False), whole[1])


def test_a_longer_run_is_the_longer_run(whole, stopped):
    longer = {"total_timesteps": 4 * 8 * 18}
    assert_same(resume(stopped, progress=False, **longer), run(small(**longer), progress=False))
    assert load_config(stopped / "config.yaml").total_timesteps == 4 * 8 * 18


def test_a_run_without_a_checkpoint_begins_anew(whole, stopped):
    shutil.rmtree(stopped / "checkpoints")
    assert_same(resume(stopped, progress=False), whole[1])


def damage(path):
    data = path.read_bytes()
    third = len(data) // 3
    path.write_bytes(data[:third] + bytes(third) + data[2 * third :])


@pytest.mark.parametrize("how", ["overwrite", "cut", "delete", "describe"])
def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, how):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    newest = folder / "checkpoints" / "phases" / "phase_6" / "state"
    files = [p for p in newest.glob("**/d/*") if p.is_file()]
    assert files
    if how == "overwrite":
        for file in files:
            damage(file)
    elif how == "cut":
        for file in files:
            file.write_bytes(file.read_bytes()[:-20])
    elif how == "delete":
        shutil.rmtree(newest)
    else:
        about = newest.parent / "about" / "metadata"
        about.write_text(about.read_text().replace("float32", "floa32", 1))
    with (tmp_path / "log").open("w") as log:
        again = resume(folder, console=Console(file=log))
    said = (tmp_path / "log").read_text()
    assert "checkpoint of phase 6 is damaged" in said
    assert "resuming after phase 5 of 6" in said
    assert_same(again, whole[1])


def test_all_checkpoints_damaged_is_an_error(stopped):
    for state in (stopped / "checkpoints" / "phases").glob("*/state"):
        shutil.rmtree(state)
    with pytest.raises(ConfigError, match="contains no usable checkpoint"):
        resume(stopped, progress=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_pi": 1, "seed": 3}, ["n_pi (2 to 1)", "seed (0 to 3)"]),
        ({"hparams": {"gamma": 0.5}}, ["hparams.gamma (0.999 to 0.5)"]),
        ({"network": {"hidden_sizes": [9]}}, ["network.hidden_sizes ([8] to [9])"]),
        ({"gamma": 1}, ["gamma: "]),
    ],
)
def test_another_configuration_is_refused(stopped, changes, words):
    before = (stopped / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError) as caught:
        resume(stopped, progress=False, **changes)
    assert all(word in str(caught.value) for word in words)
    assert (stopped / "metrics.csv").read_bytes() == before


def test_a_schedule_fixes_the_length(stopped):
    file = stopped / "config.yaml"
    file.write_text(file.read_text().replace("lr_schedule: constant", "lr_schedule: linear", 1))
    with pytest.raises(ConfigError, match=r"total_timesteps: 640 .* it determines lr_schedule"):
        resume(stopped, progress=False, total_timesteps=640)


def test_another_version_is_recognised(stopped, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("ppg_jax.runs.checkpoints.metadata.VERSION", "7.0")
        with pytest.raises(ConfigError, match=r"was written by ppg_jax 0.* this is 7.0"):
            resume(stopped, progress=False)
    about = stopped / "checkpoints" / "phases" / "phase_4" / "about" / "metadata"
    about.write_text(about.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(ConfigError, match=r"was written by ppg_jax .*format 7"):
        resume(stopped, progress=False)


def test_metrics_that_are_missing_are_an_error(stopped):
    (stopped / "metrics.csv").write_text("seed,iteration\n")
    with pytest.raises(ConfigError, match="has 0 iterations; at least 8 are needed"):
        resume(stopped, progress=False)


def test_no_run_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run folder: it has no config.yaml"):
        resume(tmp_path, progress=False)


def test_a_folder_is_held_by_one_process(stopped):
    with folder_lock(stopped), pytest.raises(ConfigError, match="another process trains there"):
        resume(stopped, progress=False)


def test_an_environment_object_comes_along(tmp_path):
    env = probes.ActionMustMatch()
    config = small(env=env, seeds=1, total_timesteps=4 * 8 * 12, arch="shared", e_aux=0)
    result = run(config, out=tmp_path / "run", progress=False, checkpoint_every=1)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "phases" / "phase_6")
    assert_same(resume(tmp_path / "run", env=env, progress=False), result)


def test_a_disk_that_is_full(whole, tmp_path, monkeypatch):
    config, folder = small(), tmp_path / "run"
    full = Checkpoints.save

    def save(self, config, phases, *args, **kwargs):
        if phases == 5:
            raise OSError("No space left on device")
        full(self, config, phases, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.warns(RuntimeWarning, match="checkpoint: of phase 5 not saved: No space left"):
        result = run(config, out=folder, progress=False, checkpoint_every=1)
    assert_same(result, whole[1])
    assert result.problems


def test_what_the_disk_said_is_told():
    text = "RESOURCE_EXHAUSTED: Error writing \"/a\":\nFailed [os_error_code='28'] [source='b.cc']"
    assert one_line(ValueError(text)) == "No space left on device"
    assert one_line(ValueError("a\n b")) == "a b"


def test_what_orbax_leaves_unasked_is_not_said_twice():
    said = []
    for library in ("orbax", "mine"):
        try:
            exec(compile("raise OSError(28, 'full')", f"/lib/{library}/write.py", "exec"))
        except OSError as error:
            about = (type(error), error, error.__traceback__)
            said.append(logging.LogRecord("asyncio", 40, "", 0, "lost", None, about))
    assert [not_of_orbax(record) for record in said] == [False, True]


def test_metrics_that_cannot_be_written_for_a_while_are_not_lost(whole, tmp_path, monkeypatch):
    append, calls = TextLog.append, []

    def failing(self, text):
        calls.append(text)
        if len(calls) in (2, 3):
            self._pending += text.encode()
            raise OSError(28, "No space left on device")
        append(self, text)

    monkeypatch.setattr(TextLog, "append", failing)
    with pytest.warns(RuntimeWarning) as warned:
        run(small(), out=tmp_path / "run", progress=False, checkpoint_every=1)
    assert {str(w.message) for w in warned} == {
        "metrics.csv: cannot be written: No space left on device",
        "checkpoint: not saved, since metrics.csv could not be written",
    }
    written = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert written == (whole[0] / "metrics.csv").read_bytes()


@pytest.mark.parametrize("name", ["every", "minutes"])
def test_options_are_checked(name):
    with pytest.raises(ConfigError, match=f"checkpoint_{name}: -1 is invalid"):
        run(small(), progress=False, **{f"checkpoint_{name}": -1})


def command(*args, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "ppg_jax", "train", *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,
    )  # fmt: skip


def wait_for_rows(folder, rows, process):
    file = folder / "metrics.csv"
    while not file.exists() or len(file.read_bytes().splitlines()) < rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """The file of a run of many segments that takes half a minute."""
    file = tmp_path_factory.mktemp("long") / "long.yaml"
    config = small(total_timesteps=4 * 8 * 40_000, seeds=1, arch="shared", e_aux=0)
    file.write_text(yaml.safe_dump(config.to_dict()))
    return file


def test_a_signal_finishes_the_segment_and_saves(long_run, tmp_path):
    """SIGTERM; others ask for the same (``test_which_signals_ask_for_a_stop``)."""
    folder = tmp_path / "run"
    process = command(long_run, "--out", folder)
    wait_for_rows(folder, 2, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"resume with: ppg-jax train --resume {folder}" in out
    summary = json.loads((folder / "summary.json").read_text())
    assert not summary["finished"]
    assert list((folder / "checkpoints" / "phases").glob("phase_*"))


def test_a_signal_while_programs_compile_stops_at_once(long_run, tmp_path):
    folder = tmp_path / "run"
    process = command(long_run, "--out", folder, "--no-cache", env=os.environ | {"XLA_FLAGS": ""})
    while "compiling" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert time.monotonic() - began < 2.5
    assert "Traceback" not in err
    assert f"resume with: ppg-jax train --resume {folder}" in out + err
    assert not (folder / "metrics.csv").exists()
    assert (folder / "config.yaml").exists()


def test_nohup_is_respected(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            stop.wait_for_segments()
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_which_signals_ask_for_a_stop(name):
    number = getattr(signal, name)
    before = signal.signal(number, lambda *_: None)  # otherwise it might end the tests
    try:
        with StopRequest() as stop:
            stop.wait_for_segments()
            signal.raise_signal(number)
            assert stop.requested
    finally:
        signal.signal(number, before)


def test_a_stop_says_how_long_it_takes():
    said = []
    with StopRequest(said.append) as stop:
        stop.wait_for_segments()
        for seconds in (100.0, 103.1, 106.2):
            stop.passed(seconds)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert said == ["stopping after this segment, in about 3 s; press Ctrl-C again to stop at once"]
    with StopRequest(said.append), pytest.raises(StoppedError):
        signal.raise_signal(signal.SIGTERM)
    assert len(said) == 1


def test_a_second_ctrl_c_stops_at_once(long_run, tmp_path):
    folder = tmp_path / "run"
    # A single segment of minutes: nothing but the second signal can end it in time.
    text = long_run.read_text().replace("n_pi: 2", "n_pi: 400000")
    text = text.replace(f"total_timesteps: {4 * 8 * 40_000}", f"total_timesteps: {4 * 8 * 400_000}")
    path = tmp_path / "one.yaml"
    path.write_text(text)
    # Both programs are in the cache as soon as they are compiled, and then it runs.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    process = command(path, "--out", folder, env=os.environ | cache)
    while len(list((tmp_path / "cache").glob("*alone*-cache"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    while (line := process.stdout.readline()) and "stopping after this segment" not in line:
        pass
    assert line
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "error: stopped" in err


@pytest.mark.bits
def test_segments_do_not_depend_on_their_number(monkeypatch):
    """What checkpoints every so many phases change is where the host looks, not the numbers."""
    monkeypatch.setattr(segments, "SEGMENTS", 1)  # else both were segments of one phase
    config = small(total_timesteps=4 * 8 * 12)
    keys = jax.random.split(jax.random.key(0), 2)
    layout = lay_out(config, 2)
    found = []
    for most in (None, 2):
        parts = [
            s.metrics["value_loss"]
            for s in train_segments(
                config, layout, config.hparams, keys, shared=True, pace=Pace(most_phases=most)
            )
        ]
        assert len(parts) == (3 if most else 1)
        found.append(np.concatenate(parts, 1))
    np.testing.assert_array_equal(*found)


def test_nothing_half_written_is_left(whole):
    assert not list(whole[0].glob("*.tmp"))
