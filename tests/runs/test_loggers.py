"""Loggers: what they write, and that none of them can end a run."""

import csv
import json
import struct

import jax
import numpy as np
import pytest

from ppg_jax import Config, ConfigError, make_train, run
from ppg_jax.algorithm.metrics import metric_names
from ppg_jax.runs.loggers import (
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


NAMES = sorted(metric_names(small()) - {"env_steps", "num_episodes"})


def metrics(iterations, first=0):
    steps = np.tile(np.arange(first + 1, first + iterations + 1, dtype=np.int32), (2, 1))
    values = np.float32(np.arange(2 * iterations).reshape(2, iterations)) / 3
    values[0, 0] = np.nan
    return {"env_steps": steps.astype(np.int64), "num_episodes": steps} | dict.fromkeys(
        [*NAMES, "loss"], values
    )


def test_csv_reads_back_number_for_number(tmp_path):
    logger = CsvLogger(tmp_path / "m.csv")
    parts = [metrics(3), metrics(2, 3)]
    logger.write(parts[0], 0)
    logger.write(parts[1], 3)
    found = read_metrics(tmp_path / "m.csv", small())
    for name in parts[0]:
        want = np.concatenate([p[name] for p in parts], 1)
        np.testing.assert_array_equal(found[name], want)
        assert found[name].dtype == want.dtype
    text = (tmp_path / "m.csv").read_bytes()
    first = read_metrics(tmp_path / "m.csv", small(), 3)
    assert first["loss"].shape == (2, 3)
    CsvLogger(tmp_path / "m.csv", first).write(parts[1], 3)
    assert (tmp_path / "m.csv").read_bytes() == text


@pytest.mark.parametrize("how", ["gone", "cut", "a link"])
@pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])
def test_a_file_that_is_not_there_any_more_is_written_anew(tmp_path, kind, how):
    file, other = tmp_path / "m", tmp_path / "other"
    parts = [metrics(3), metrics(2, 3), metrics(1, 5)]
    untouched = kind(tmp_path / "untouched")
    logger = kind(file)
    for part, first in zip(parts, (0, 3, 5), strict=True):
        untouched.write(part, first)
        logger.write(part, first)
        if first == 3 and how == "gone":
            file.unlink()
        elif first == 3 and how == "cut":
            file.write_bytes(file.read_bytes()[:40])
        elif first == 3:
            other.write_bytes(file.read_bytes() + b"more")
            file.unlink()
            file.symlink_to(other)
    assert file.read_bytes() == (tmp_path / "untouched").read_bytes()
    assert not file.is_symlink()
    if how == "a link":
        assert other.read_bytes().endswith(b"more")


@pytest.mark.parametrize(
    "text",
    [
        "", "a,b\n1,2\n", "seed,iteration,env_steps\n1,0,5\n0,0,5\n", "\xff\xfe,1\nx\n",
        "seed,iteration,env_steps\n0,0,99999999999\n1,0,99999999999\n",
        "seed,iteration,env_steps,env_steps\n0,0,5,5\n1,0,5,5\n", "seed,iteration\n",
        "seed,iteration,env_steps\n0,0,5,6\n1,0\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("iterations", [1, None])
def test_other_files_are_no_metrics(tmp_path, text, iterations):
    (tmp_path / "m.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="m.csv"):
        read_metrics(tmp_path / "m.csv", small(), iterations)


@pytest.mark.parametrize("name", [*NAMES, "env_steps"])
def test_a_column_that_is_missing_is_named(tmp_path, name):
    CsvLogger(tmp_path / "m.csv").write(metrics(2), 0)
    text = (tmp_path / "m.csv").read_text()
    (tmp_path / "m.csv").write_text(text.replace(f",{name}", f",{name}x", 1))
    with pytest.raises(ConfigError, match=f"m.csv has no column {name}; "):
        read_metrics(tmp_path / "m.csv", small())


def test_what_a_run_measures_is_known_beforehand():
    for changes in ({}, {"e_aux": 0}, {"arch": "shared", "gradient_conflict": "measure"},
                    {"adapt_beta_clone": True, "e_v": 2}):  # fmt: skip
        config = small(**changes)
        key = jax.random.key(0)
        _, found = jax.eval_shape(make_train(config), key)
        assert metric_names(config) == set(found)


def test_json_lines(tmp_path):
    logger = JsonLinesLogger(tmp_path / "m.jsonl")
    logger.write(metrics(2), 0)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [(r["seed"], r["iteration"]) for r in rows] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert rows[0]["loss"] is None
    assert rows[3]["loss"] == 1.0
    again = JsonLinesLogger(tmp_path / "m.jsonl", metrics(1))
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
        "Broken: failed and is no longer used: the network is gone",
        "Broken: cannot close",
    }  # fmt: skip
    assert (broken.calls, whole.calls) == (2, 3)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 6


def test_bad_names(tmp_path):
    with pytest.raises(ConfigError, match="log: 'tensorbord' is unknown; did you mean tensorboard"):
        run(small(), out=tmp_path / "run", progress=False, log=["tensorbord"])
    with pytest.raises(ConfigError, match="log: jsonl writes into the run folder; name one"):
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
