"""The benchmark scripts run and say what they promise. No figure is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def script(name, *args):
    done = subprocess.run(
        [sys.executable, FOLDER / name, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads(done.stdout) if done.returncode == 0 else None


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{num_envs: 4, num_steps: 8, num_minibatches: 2, n_pi: 2, num_aux_minibatches: 2, "
        "total_timesteps: 128, network: {hidden_sizes: [8]}}"
    )
    return path


def test_throughput(tiny, tmp_path):
    out = tmp_path / "out.json"
    done, report = script("throughput.py", tiny, "--seeds", 1, 2, "--repeats", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == report
    assert [row["seeds"] for row in report["results"]] == [1, 2]
    for row in report["results"]:
        assert row["compile_seconds"] > 0
        assert row["env_steps_per_run"] == row["seeds"] * 2 * 4 * 8
        assert len(row["run_seconds"]) == 2
        assert row["env_steps_per_second"] > 0


def test_memory(tiny):
    done, report = script("memory.py", tiny)
    assert done.returncode == 0, done.stderr
    # 2 x 8 x 4 observations of four floats; a minibatch of 4 sequences of 8, in each network two
    # hidden layers of 8... counted once as the layer's and once as the activation's input.
    assert report["needed"]["observations_of_a_phase"] == 2 * 8 * 4 * 4 * 4
    assert report["needed"]["activations_of_a_minibatch"] > 2 * 4 * 8 * 8 * 4
    assert report["ratio"] == pytest.approx(
        sum(report["held"].values()) / sum(report["needed"].values()), abs=1e-3
    )


def test_learning(tiny):
    done, report = script("learning.py", tiny, tiny, "--seeds", 2)
    assert done.returncode == 0, done.stderr
    first, second = report["results"]
    assert first["final_returns"] == second["final_returns"]
    assert report["first_minus_second"]["mean"] == 0.0


def test_a_bad_configuration_is_one_line():
    done, _ = script("throughput.py", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: config: 'nowhere'")


def test_compile_time(tiny):
    done, report = script("compile_time.py", tiny, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    assert [row["how"] for row in report["results"]] == ["default", "runner"]
    assert all(row["compile_seconds"] > 0 for row in report["results"])
