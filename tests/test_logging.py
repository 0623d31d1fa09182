"""Loggers: what they write, and that none of them can end a run."""

import csv
import json
import struct

import numpy as np
import pytest

from ppg_jax import Config, ConfigError, run
from ppg_jax.logging import (
    LOGGERS,
    PACKAGES,
    CsvLogger,
    JsonLinesLogger,
    read_metrics,
    scalars_by_step,
)


def small(**changes):
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 6, "seeds": 2, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


def metrics(iterations, first=0):
    steps = np.tile(np.arange(first + 1, first + iterations + 1, dtype=np.int32), (2, 1))
    values = np.float32(np.arange(2 * iterations).reshape(2, iterations)) / 3
    values[0, 0] = np.nan
    names = ("episode_return", "episode_length", "loss", "policy_loss", "value_loss")
    return {"env_steps": steps, "num_episodes": steps} | dict.fromkeys(names, values)


def test_csv_reads_back_number_for_number(tmp_path):
    logger = CsvLogger(tmp_path / "m.csv")
    parts = [metrics(3), metrics(2, 3)]
    logger.write(parts[0], 0)
    logger.write(parts[1], 3)
    found, size = read_metrics(tmp_path / "m.csv", 2)
    assert size == (tmp_path / "m.csv").stat().st_size
    for name in parts[0]:
        want = np.concatenate([p[name] for p in parts], 1)
        np.testing.assert_array_equal(found[name], want)
        assert found[name].dtype == want.dtype
    first, size = read_metrics(tmp_path / "m.csv", 2, 3)
    CsvLogger(tmp_path / "m.csv", size).write(parts[1], 3)
    assert first["loss"].shape == (2, 3)
    again, _ = read_metrics(tmp_path / "m.csv", 2)
    np.testing.assert_array_equal(again["loss"], found["loss"])


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "seed,iteration,env_steps\n1,0,5\n0,0,5\n", "\xff\xfe,1\nx\n"],
)
def test_other_files_are_no_metrics(tmp_path, text):
    (tmp_path / "m.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="m.csv"):
        read_metrics(tmp_path / "m.csv", 2, 1)


def test_json_lines(tmp_path):
    logger = JsonLinesLogger(tmp_path / "m.jsonl")
    logger.write(metrics(2), 0)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [(r["seed"], r["iteration"]) for r in rows] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert rows[0]["loss"] is None
    assert rows[3]["loss"] == 1.0
    again = JsonLinesLogger(tmp_path / "m.jsonl", 1)
    again.write(metrics(1, 1), 1)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [(r["seed"], r["iteration"]) for r in rows] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_scalars_leave_out_what_is_not_finite():
    (first, one), (second, two) = scalars_by_step(metrics(2))
    assert (first, second) == (1, 2)
    assert one["loss"] == pytest.approx(2 / 3)  # seed 1 alone
    assert "loss/seed_0" not in one
    assert two["loss"] == pytest.approx((1 / 3 + 1) / 2)
    assert "env_steps" not in one
    assert (one["lost_seeds"], two["lost_seeds"]) == (1, 0)


def tensorboard_scalars(file):
    """Tags, steps and values of an event file (TFRecord framing)."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        data = data[16 + length :]
    return found


def test_tensorboard(tmp_path):
    result = run(small(), out=tmp_path / "run", progress=False, log=["tensorboard"])
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    found = {(tag, step): value for tag, step, value in tensorboard_scalars(file)}
    assert ("value_loss/seed_1", 96) in found
    want = result.metrics["value_loss"][:, 2]
    assert found["value_loss", 96] == pytest.approx(want.mean(), rel=1e-6)
    assert found["value_loss/seed_1", 96] == pytest.approx(want[1], rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # its own
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run(small(), out=tmp_path / "run", progress=False, log=["wandb"])
    assert not result.problems
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"value_loss/seed_1" in file.read_bytes()


class Broken:
    def __init__(self, fail_at):
        self.calls, self.fail_at = 0, fail_at

    def write(self, metrics, first_iteration):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("the network\nis gone")

    def close(self):
        if self.fail_at == 0:
            raise RuntimeError("cannot close")


def test_a_logger_that_fails_is_left_out_and_said(tmp_path):
    broken, stubborn, whole = Broken(2), Broken(0), Broken(None)
    with pytest.warns(RuntimeWarning) as warned:
        result = run(small(), out=tmp_path / "run", progress=False, log=[broken, stubborn, whole])
    assert {str(w.message) for w in warned} == set(result.problems) == {
        "Broken: failed and is not used any more: the network is gone",
        "Broken: cannot close",
    }  # fmt: skip
    assert (broken.calls, whole.calls) == (2, 3)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 6


def test_bad_names(tmp_path):
    with pytest.raises(ConfigError, match="log: 'tensorbord' is unknown; did you mean tensorboard"):
        run(small(), out=tmp_path / "run", progress=False, log=["tensorbord"])
    with pytest.raises(ConfigError, match="log: jsonl writes into the run's folder; name one"):
        run(small(), progress=False, log=["jsonl"])


def test_a_logger_that_cannot_begin_is_left_out_too(tmp_path, monkeypatch):
    def refuse(folder, config, first):
        raise OSError("the server does not answer")

    monkeypatch.setitem(LOGGERS, "wandb", refuse)
    with pytest.warns(RuntimeWarning, match="wandb: failed and is not used: the server does not"):
        result = run(small(), out=tmp_path / "run", progress=False, log=["wandb"])
    assert result.finished


def test_a_missing_package_is_found_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(PACKAGES, "tensorboard", "no_such_package")
    with pytest.raises(ConfigError, match=r"no_such_package; pip install 'ppg-jax\[tensorboard\]'"):
        run(small(), out=tmp_path / "run", progress=False, log=["tensorboard"])
    assert not (tmp_path / "run").exists()
