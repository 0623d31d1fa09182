"""Programs for accelerators are read rightly. Compiling for them needs what is not here."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
DATA = Path(__file__).parent / "data" / "accelerators"

HLO, THUNKS, METADATA = (
    (DATA / f"{name}.txt").read_text() for name in ("hlo", "thunks", "metadata")
)
"""A small program written by hand, and what XLA would say that a GPU launches of it."""


@pytest.fixture
def benchmarks(monkeypatch):
    """Their folder, to import from."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in [path.stem for path in FOLDER.glob("*.py")]:
        sys.modules.pop(name, None)


def counted(from_thunks, units):
    from aot import counts, hlo, loops

    module = hlo.Hlo(HLO)
    if from_thunks:
        program = loops.from_thunks(module, THUNKS, METADATA)
    else:
        program = loops.from_hlo(module)
    units = {name: counts.Unit((function,), n) for name, (function, n) in units.items()}
    return counts.counts(module, program, units, env_steps=10)


UNITS = {"rollout_step": ("collect", 4), "policy_minibatch": ("policy_phase", 6)}


def test_operations_are_counted(benchmarks):
    """In a program whose loops do not all say how long they are, as on TPUs."""
    found = counted(from_thunks=False, units=UNITS)
    # Two iterations of six operations, two of one, six of two, and one of two; and ``begin``.
    assert found["launches_per_run"] == 2 * 6 + 2 * 1 + 6 * 2 + 2 + 1
    assert found["launches_per_env_step"] == 2.9
    assert found["loops_of_unknown_length"] == 1
    assert found["collectives"] == 1
    step = found["rollout_step"]
    assert step["units_per_iteration"] == 2  # the scan of four steps is unrolled
    assert step["launches"] == 3
    purposes = {"network": 0.5, "environment": 0.5, "stores": 0.5, "copies": 0.5, "other": 1}
    assert step["by_purpose"] == purposes
    assert found["policy_minibatch"]["by_purpose"] == {"backward": 1, "exchanges": 1}
    assert [row["loop"] for row in found["loops"]] == [
        "collect",
        "collect",
        "policy_phase",
        "unknown",
    ]


def test_launches_of_a_gpu_are_counted(benchmarks):
    found = counted(from_thunks=True, units=UNITS)
    # The condition of the loop of unknown length runs on the device.
    assert found["launches_per_run"] == 1 + 2 * 3 + 6 * 1 + 2 + 1
    assert found["share_in_command_buffers"] == round((1 + 2 * 2) / 16, 3)
    step = found["rollout_step"]
    assert step["launches"] == 1.5
    assert step["share_in_command_buffers"] == round(2 / 3, 3)
    assert step["by_purpose"] == {"environment": 0.5, "network": 0.5, "stores": 0.5}


def test_a_loop_that_is_missing_is_an_error(benchmarks):
    with pytest.raises(
        SystemExit, match=r"aux_minibatch: .* no loop of known length in aux_epochs"
    ):
        counted(from_thunks=False, units=UNITS | {"aux_minibatch": ("aux_epochs", 6)})


def test_what_is_left_over_of_a_scan_counts_too(benchmarks):
    """Two loops under the same loop: their steps are counted together. Drawing is no step."""
    found = counted(from_thunks=False, units={"any": ("iterations", 16)})
    assert found["any"]["launches"] == (2 * 6 + 6 * 2) / 16


def test_casts_of_what_never_changes(benchmarks):
    """``weights`` go through the loop as they are and are cast in a fusion; nothing else does."""
    assert counted(from_thunks=False, units=UNITS)["casts_to_hoist"] == {"collect": 1}


def test_the_calls_of_an_instruction(benchmarks):
    from aot import hlo

    module = hlo.Hlo(HLO)
    stack = module.stack(module.instructions["narrow"])
    assert [frame.function for frame in stack] == ["iterations", "collect", "__call__"]
    not_shifted = (
        HLO.replace("id=1 parent_frame_id=1}", "id=1}")
        .replace("id=2 parent_frame_id=2}", "id=2 parent_frame_id=1}")
        .replace("id=3 parent_frame_id=3}", "id=3 parent_frame_id=2}")
        .replace("id=6 parent_frame_id=6}", "id=6 parent_frame_id=5}")
    )
    module = hlo.Hlo(not_shifted)
    stack = module.stack(module.instructions["moving_narrow"])
    assert [frame.function for frame in stack] == ["iterations", "collect", "take_step"]


@pytest.mark.parametrize(
    "said",
    [
        "Ran out of memory in memory space hbm. Used 17.20G of 15.75G hbm.",
        "Ran out of memory on HBM, the total memory required for HLO temporaries (17.20G) exceeds "
        "available HBM (15.75G). HLO module: jit_train.",
    ],
)
def test_a_program_that_the_compiler_refuses(benchmarks, said):
    from aot import worker

    row = worker.too_large(RuntimeError(f"RESOURCE_EXHAUSTED: {said}"), 2**30)
    assert row["fits"] is False
    assert (row["peak_mib"], row["device_mib"]) == (17.2 * 1024, 15.75 * 1024)
    assert row["over_must_hold"] == 17.2
    with pytest.raises(RuntimeError, match="another"):
        worker.too_large(RuntimeError("another"), None)


def test_what_fits(benchmarks):
    from aot import targets, worker

    def used(peak):
        fields = ("peak_memory", "temp_size", "argument_size", "output_size")
        return SimpleNamespace(
            memory_analysis=lambda: SimpleNamespace(**{f"{x}_in_bytes": peak for x in fields})
        )

    h100 = targets.TARGETS["h100"]
    assert worker.memory(used(2**36), h100, 2**35) == {
        "fits": True, "peak_mib": 2**16, "temporaries_mib": 2**16, "arguments_mib": 2**16,
        "outputs_mib": 2**16, "must_hold_mib": 2**15, "over_must_hold": 2.0,
    }  # fmt: skip
    assert worker.memory(used(2**37), h100, None)["fits"] is False


def test_lists_that_xla_writes(benchmarks, tmp_path):
    from aot import worker

    def read():
        return worker.dumped(tmp_path, "thunks_after", "thunks")

    with pytest.raises(SystemExit, match=r"XLA wrote no file thunks\.txt"):
        read()
    (tmp_path / "module_1.train.thunks.txt").write_text("before")
    assert read() == "before"
    (tmp_path / "module_1.train.thunks_after.txt").write_text("after")
    assert read() == "after"
    (tmp_path / "module_2.train.thunks_after.txt").write_text("of another program")
    with pytest.raises(SystemExit, match="XLA wrote 2 files"):
        read()


@pytest.fixture
def driver(benchmarks, capsys):
    """The script, in this process."""
    import accelerators

    def run(*args):
        code = accelerators.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def test_rows(driver, monkeypatch, tmp_path):
    """Every configuration for every target and number of seeds; what is done is kept."""
    import accelerators

    specs = []

    def fake(python, spec, limit):
        specs.append((python, spec))
        if len(specs) == 4:
            raise SystemExit("the compiler is gone")
        return {"launches_per_run": len(specs)}

    monkeypatch.setattr(accelerators, "worker", fake)
    out = tmp_path / "out.json"
    code, report, err = driver(
        "a", "b.yaml", "--targets", "h100", "v5e", "--seeds", 1, 128, "--strategy", "chunk",
        "--chunk-size", 16, "--set", "network.compute_dtype=bfloat16", "n_pi=2",
        "--python-cuda", "/c/python", "--python-tpu", "/t/python", "--brief", "--out", out,
    )  # fmt: skip
    assert code == 1
    assert "error: the compiler is gone" in err
    assert report == json.loads(out.read_text())
    assert report["complete"] is False
    rows = [(x["program"], x["seeds"], x["seeds_in_program"]) for x in report["results"]]
    assert rows == [("a", 1, 1), ("a", 128, 16), ("b", 1, 1)]
    python, spec = specs[1]
    assert python == Path("/c/python")
    changes = {"network": {"compute_dtype": "bfloat16"}, "n_pi": 2}
    assert spec == {
        "program": "a", "target": "h100", "vmapped": 16, "changes": changes, "loops": False
    }  # fmt: skip


def test_how_many_seeds_a_program_has(benchmarks):
    import accelerators

    counts = [accelerators.vmapped(how, 128, 16) for how in ("vmap", "map", "chunk")]
    assert counts == [128, 1, 16]
    assert accelerators.vmapped("chunk", 8, 16) == 8


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "name a configuration, or give --rejax"),
        (["cartpole", "--strategy", "chunk"], "--strategy chunk needs --chunk-size"),
        (["cartpole", "--targets", "h200"], "invalid choice: 'h200'"),
    ],
)
def test_bad_arguments(driver, capsys, args, said):
    with pytest.raises(SystemExit):
        driver(*args)
    assert said in capsys.readouterr().err


def test_rejax_stands_beside_ours(driver, monkeypatch):
    import accelerators

    def fake(python, spec, limit):
        return {"python": str(python), "worker_changes": spec["changes"]}

    monkeypatch.setattr(accelerators, "worker", fake)
    monkeypatch.setattr(accelerators, "make_venv", lambda _, package, rejax: (package, rejax))
    code, report, _ = driver("--rejax", "--targets", "v5e", "--seeds", 1, "--set", "n_pi=2")
    assert code == 0
    rows = {row["program"]: row for row in report["results"]}
    ours, theirs = rows["ppo-like-rejax/breakout"], rows["rejax/breakout"]
    assert (ours["python"], theirs["python"]) == ("('tpu', False)", "('tpu', True)")
    assert ours["worker_changes"] == theirs["worker_changes"] == {}


def test_a_worker_that_fails_says_why(benchmarks):
    import accelerators

    spec = {"program": "nowhere", "changes": {}, "target": "cpu", "vmapped": 1, "loops": False}
    with pytest.raises(SystemExit, match="nowhere for cpu, 1 seeds: config: 'nowhere'"):
        accelerators.worker(Path(sys.executable), spec, 60)
    began = time.monotonic()
    assert accelerators.worker(Path(sys.executable), spec, 0.1) == {
        "error": "not compiled within 0 s"
    }
    assert time.monotonic() - began < 10


def test_no_recent_python(benchmarks, monkeypatch):
    from aot import venvs

    monkeypatch.setattr(venvs, "_version", lambda _: (3, 11))
    with pytest.raises(SystemExit, match=r"^no Python 3.12 or newer on the PATH"):
        venvs.recent_python()


def test_an_environment_is_made_once(benchmarks, monkeypatch, tmp_path):
    from aot import venvs

    calls = []

    def call(command):
        calls.append(" ".join(command))
        (tmp_path / "tpu").mkdir(exist_ok=True)
        if "fail" in calls:
            raise SystemExit("no network")

    monkeypatch.setattr(venvs, "_call", call)
    monkeypatch.setattr(venvs, "recent_python", lambda: "python3.12")
    calls.append("fail")
    with pytest.raises(SystemExit, match="no network"):
        venvs.make_venv(tmp_path, "tpu", rejax=False)
    calls.clear()
    for _ in range(2):  # what was not finished is made again, what was is not
        python = venvs.make_venv(tmp_path, "tpu", rejax=False)
    assert python == tmp_path / "tpu" / "bin" / "python"
    made, installed = calls
    assert made == f"python3.12 -m venv {tmp_path / 'tpu'}"
    assert installed.endswith(f"jax[tpu]=={venvs.JAX} -e {venvs.PROJECT}")


@pytest.mark.slow
def test_it_compiles_for_this_machine(driver, tmp_path):
    """The loops of our own training are found by their names."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{num_envs: 4, num_steps: 8, num_minibatches: 2, n_pi: 2, e_pi: 2, e_v: 2, e_aux: 0, "
        "arch: shared, total_timesteps: 128, network: {hidden_sizes: [4]}}"
    )
    code, report, err = driver(path, "--targets", "cpu", "--seeds", 2)
    assert code == 0, err
    (row,) = report["results"]
    assert (row["program"], row["seeds_in_program"], row["fits"]) == ("tiny", 2, True)
    begun = {x["loop"]: x["begun"] * x["trips"] for x in row["loops"] if x["trips"]}
    assert (begun["_scan_steps"], begun["descend"]) == (4 * 8, 4 * 2 * 2)
    for name in ("rollout_step", "policy_minibatch"):
        assert row[name]["launches"] == sum(row[name]["by_purpose"].values()) > 0
        assert row[name]["units_per_iteration"] == 1
    assert {"environment", "network", "stores"} <= set(row["rollout_step"]["by_purpose"])
    assert {"backward", "optimizer", "norms"} <= set(row["policy_minibatch"]["by_purpose"])
    assert row["loops_of_unknown_length"] == 1  # successor_values
    assert row["collectives"] == 0
    assert row["must_hold_mib"] > 0


def test_a_table(benchmarks, capsys, tmp_path):
    import accelerators

    unit = {"launches": 21}
    rows = [
        {"program": "a", "target": "h100", "seeds": 1024, "compile_seconds": 30.26, "fits": True,
         "peak_mib": 1234.5, "must_hold_mib": 7.25, "rollout_step": unit,
         "policy_minibatch": {"launches": 56.5}, "launches_per_env_step": 0.02681},
        {"program": "a", "target": "v5e", "seeds": 128, "compile_seconds": 9.0, "fits": False,
         "peak_mib": 2048.0, "changes": {"n_pi": 2, "a": {"b": 1}}},
    ]  # fmt: skip
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"results": rows}))
    assert accelerators.main(["--table", str(path)]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first == "| `a` | h100 | 1,024 | 30.3 | 1,234 | 7.2 | 21 | 56.5 |  | 0.0268 |"
    assert second == "| `a` `n_pi=2` `a.b=1` | v5e | 128 | 9 | 2,048 (too large) |  |  |  |  |  |"
