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
    (row,) = report["results"]
    # 2 x 8 x 4 observations of four floats; a minibatch of 4 sequences of 8, in each network two
    # hidden layers of 8... counted once as the layer's and once as the activation's input.
    assert row["needed"]["observations_of_a_phase"] == 2 * 8 * 4 * 4 * 4
    assert row["needed"]["activations_of_a_minibatch"] > 2 * 4 * 8 * 8 * 4
    assert row["ratio"] == pytest.approx(
        sum(row["held"].values()) / sum(row["needed"].values()), abs=1e-3
    )


def test_learning(tiny):
    done, report = script("learning.py", tiny, tiny, "--seeds", 2)
    assert done.returncode == 0, done.stderr
    first, second = report["results"]["runs"]
    assert first["final_returns"] == second["final_returns"]
    assert report["results"]["first_minus_second"]["mean"] == 0.0


def test_a_bad_configuration_is_one_line():
    done, _ = script("throughput.py", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: config: 'nowhere'")


def test_compile_time(tiny):
    done, report = script("compile_time.py", tiny, "--repeats", 1, "--seeds", 1, 3)
    assert done.returncode == 0, done.stderr
    one, three = report["results"]
    assert (one["seeds"], one["layout"], one["over_fewest"]) == (1, "map", 1.0)
    assert (three["seeds"], three["layout"]) == (3, "map on 2 devices")
    assert all(row["compile_seconds"] > 0 for row in report["results"])


def test_seeds(tiny):
    few = ["--seeds", 1, 3, "--repeats", 2, "--strategies", "vmap"]
    done, report = script("seeds.py", tiny, *few)
    assert done.returncode == 0, done.stderr
    found = {(row["seeds"], row["strategy"]): row for row in report["results"]}
    assert set(found) == {(1, "auto"), (3, "auto"), (3, "vmap"), (3, "vmap on 2 devices")}
    assert found[3, "auto"]["layout"] == "map on 2 devices"
    assert "over_vmap" not in found[3, "vmap"]
    assert found[3, "auto"]["over_vmap"] > 0
    assert all(row["env_steps_per_second"] > 0 for row in found.values())


def test_conv():
    small = ["--num-envs", 8, "--n-pi", 1, "--num-steps", 4, "--seeds", 1, "--repeats", 1]
    done, report = script("conv.py", *small)
    assert done.returncode == 0, done.stderr
    assert [row["conv"] for row in report["results"]] == ["patches", "lax", "flax nn.Conv"]
    assert report["results"][-1]["over_flax"] == 1.0


def test_limit(tiny):
    done, report = script("limit.py", tiny, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    (row,) = report["results"]
    # 4 x 8 samples, one epoch, policy and value network: 4 -> 8 -> 2 or 1 and back, where the
    # backward pass has two products a layer but none into the observations.
    forward = 2 * 32 * ((4 * 8 + 8 * 2) + (4 * 8 + 8))
    backward = 2 * forward - 2 * 32 * 2 * 4 * 8
    assert row["policy_phase"]["gflop"] == pytest.approx((forward + backward) / 1e9)


def test_hang_counts_what_does_not_come_back(tiny):
    args = ["--strategies", "auto", "--repeats", 1, "--seeds", 2, "--timesteps", 128]
    done, report = script("hang.py", tiny, *args)
    assert done.returncode == 0, done.stderr
    assert (report["results"][0]["runs"], report["results"][0]["hung"]) == (1, 0)
    done, _ = script("hang.py", tiny, *args, "--limit", 0.1)
    assert done.returncode == 1
    assert json.loads(done.stdout)["results"][0]["hung"] == 1
