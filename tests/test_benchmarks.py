"""The benchmark scripts run and say what they promise. No figure is judged here."""

import importlib
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(capsys, monkeypatch):
    """Runs a script's main in this process: most of a fresh one's time would be imports."""
    monkeypatch.syspath_prepend(FOLDER)

    def run(name, *args):
        main = importlib.import_module(name.removesuffix(".py")).main
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            raise AssertionError(stop) from None
        out, err = capsys.readouterr()
        done = SimpleNamespace(returncode=code, stdout=out, stderr=err)
        return done, json.loads(out) if code == 0 else None

    yield run
    for name in [path.stem for path in FOLDER.glob("*.py")]:
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{num_envs: 4, num_steps: 8, num_minibatches: 2, n_pi: 2, num_aux_minibatches: 2, "
        "total_timesteps: 128, network: {hidden_sizes: [8]}}"
    )
    return path


@pytest.fixture
def ppo(tiny):
    """The same without what compiles for long, where the algorithm does not matter."""
    path = tiny.with_name("ppo.yaml")
    path.write_text(tiny.read_text().replace("{", "{arch: shared, e_aux: 0, ", 1))
    return path


class Traced:
    """Stands for ``common.Phases``: a phase that is traced, not run (test_throughput runs it).

    The first one takes 0.25 s, the second 0.5 s and so on.
    """

    trace_seconds, compile_seconds, memory_mib = 0.5, 2.0, 8.0
    made = 0

    def __init__(self, config, layout, *, donate=True):
        import jax

        from ppg_jax.algorithm.train import init, train_phases

        Traced.made += 1
        self.seconds = 0.25 * Traced.made
        self.config, self.layout, self.donate = config, layout, donate
        self.steps = layout.replicas * config.n_pi * config.steps_per_iteration
        jax.eval_shape(
            lambda key: train_phases(config, config.hparams, init(config, key), 1),
            jax.random.key(0),
        )

    def __call__(self):
        return self.seconds


@pytest.fixture
def traced(script, monkeypatch):
    import common

    monkeypatch.setattr(common, "Phases", Traced)
    monkeypatch.setattr(Traced, "made", 0)
    return script


def test_throughput(script, ppo, tmp_path):
    out = tmp_path / "out.json"
    done, report = script("throughput.py", ppo, "--seeds", 1, 2, "--repeats", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == report
    assert [row["seeds"] for row in report["results"]] == [1, 2]
    for row in report["results"]:
        assert row["compile_seconds"] > 0
        assert row["env_steps_per_run"] == row["seeds"] * 2 * 4 * 8
        assert len(row["run_seconds"]) == 2
        assert row["env_steps_per_second"] > 0


def test_memory(script, tiny):
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


def test_learning(script, ppo):
    done, report = script("learning.py", ppo, ppo, "--seeds", 2)
    assert done.returncode == 0, done.stderr
    first, second = report["results"]["runs"]
    assert first["final_returns"] == second["final_returns"]
    assert report["results"]["first_minus_second"]["mean"] == 0.0


def test_what_is_compared_takes_turns_in_an_order_that_changes(script):
    import common

    calls = []
    seconds = common.in_turn({n: lambda n=n: calls.append(n) or n for n in range(6)}, 4)
    assert seconds == {n: [n] * 4 for n in range(6)}
    rounds = [calls[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(r) == list(range(6)) for r in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_a_bad_configuration_is_one_line(script):
    done, _ = script("throughput.py", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: config: 'nowhere'")


@pytest.mark.long
def test_compile_time(script, ppo):
    done, report = script("compile_time.py", ppo, "--repeats", 1, "--seeds", 3)
    assert done.returncode == 0, done.stderr
    (row,) = report["results"]
    assert (row["seeds"], row["layout"], row["over_fewest"]) == (3, "map, 2 at a time", 1.0)
    assert row["seconds"] > 0


def test_seeds(traced, tiny):
    few = ["--seeds", 3, "--repeats", 2, "--strategies", "vmap"]
    done, report = traced("seeds.py", tiny, *few)
    assert done.returncode == 0, done.stderr
    found = {(row["seeds"], row["strategy"]): row for row in report["results"]}
    assert set(found) == {(3, "auto"), (3, "vmap"), (3, "vmap on 2 devices")}
    assert found[3, "auto"]["layout"] == "map, 2 at a time"
    assert "over_vmap" not in found[3, "vmap"]
    assert found[3, "auto"]["over_vmap"] != 1.0
    assert all(row["env_steps_per_second"] > 0 for row in found.values())


def test_conv(traced):
    small = ["--num-envs", 8, "--n-pi", 1, "--num-steps", 4, "--seeds", 1, "--repeats", 1]
    done, report = traced("conv.py", *small)
    assert done.returncode == 0, done.stderr
    assert [row["conv"] for row in report["results"]] == ["patches", "lax", "flax nn.Conv"]
    assert [row["over_flax"] for row in report["results"]] == [3.0, 1.5, 1.0]


def test_limit(script, tiny):
    done, report = script("limit.py", tiny, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    (row,) = report["results"]
    # 4 x 8 samples, one epoch, policy and value network: 4 -> 8 -> 2 or 1 and back, where the
    # backward pass has two products a layer but none into the observations. A head of two columns
    # has outer products there, which do not count.
    forward = 2 * 32 * ((4 * 8 + 8 * 2) + (4 * 8 + 8))
    backward = 2 * forward - 2 * 32 * 2 * 4 * 8 - 2 * 32 * 8 * 2
    assert row["policy_phase"]["gflop"] == pytest.approx((forward + backward) / 1e9)


def test_limit_counts_the_width_that_runs(script):
    import jax
    import limit

    from ppg_jax.config.yaml_files import load_config

    small = {"num_envs": 4, "num_steps": 4, "num_minibatches": 1, "num_aux_minibatches": 1}
    config = load_config("minatar/breakout", n_pi=1, e_aux=1, **small)
    parts, found = limit.training_parts(config)
    least = 150  # 3/8 of 400 components: four steps of a game set fewer
    assert found.count < least
    fn, args = parts["policy_phase"]
    jax.jit(fn).lower(*args)  # as they are traced before: every width
    counted = limit.products_that_run(fn, args, found)
    first = {(left, right) for left, right, _ in counted if 128 in (left[-1], right[-1])}
    assert first == {((16, least), (least, 128)), ((least, 16), (16, 128))}


@pytest.mark.long
def test_hang_counts_what_does_not_come_back(script, ppo):
    args = ["--strategies", "auto", "--repeats", 1, "--seeds", 2, "--timesteps", 128]
    done, report = script("hang.py", ppo, *args)
    assert done.returncode == 0, done.stderr
    assert (report["results"][0]["runs"], report["results"][0]["hung"]) == (1, 0)
    done, _ = script("hang.py", ppo, *args, "--limit", 0.1)
    assert done.returncode == 1
    assert json.loads(done.stdout)["results"][0]["hung"] == 1


def test_levers(traced, tiny):
    done, report = traced("levers.py", tiny, "--repeats", 1, "--levers", "resets")
    assert done.returncode == 0, done.stderr
    assert [row["lever"] for row in report["results"]] == ["as it is", "resets only where needed"]
    assert [row["gain"] for row in report["results"]] == [1.0, 2.0]


def test_storage(traced, tiny):
    done, report = traced("storage.py", tiny, "--repeats", 1, "--storages", "full", "replay")
    assert done.returncode == 0, done.stderr
    full, replay = report["results"]
    assert [full["speed"], replay["speed"]] == [1.0, 0.5]
    assert full["env_steps_per_second"] == 2 * replay["env_steps_per_second"] == 64 * 4
    assert replay["buffer_bytes"] < full["buffer_bytes"]
    assert replay["replay_difference"] < 1e-3


def test_every_lever_can_be_undone(script, tiny):
    """Each is traced: what it replaces is still called so."""
    import jax
    import levers

    from ppg_jax.backend import CPU
    from ppg_jax.config.yaml_files import load_config

    config = load_config(tiny, env="Breakout-MinAtar", observation_dtype="bool")
    for name, undo in levers.LEVERS.items():
        undone = undo(config)
        for module, attribute, value in undone.changes:
            assert getattr(module, attribute) is not value, name
        for field, value in undone.backend.items():
            assert getattr(CPU, field) != value, name
        train = levers.train.make_train(undone.config, backend=replace(CPU, **undone.backend))
        with levers.changed(undone.changes):
            jax.eval_shape(train, jax.random.key(0))


def test_overhead(script, ppo):
    done, report = script("overhead.py", ppo, "--timesteps", 128, "--repeats", 1)
    assert done.returncode == 0, done.stderr
    assert report["results"]["command_line_over_bare"] > 0


@pytest.mark.long
def test_faults(script, monkeypatch):
    """Killed once while starting: it begins anew, and comes to the same."""
    import faults

    options = faults.config_options  # PPO compiles sooner
    monkeypatch.setattr(
        faults, "config_options", lambda n: [*options(n), "--arch", "shared", "--e-aux", "0"]
    )
    args = ["--kills", 1, "--phases", 3, "--shortest", 1, "--longest", 1]
    done, report = script("faults.py", *args)
    assert done.returncode == 0, done.stderr
    assert report["results"]["kills"] == 1
    assert report["results"]["different"] == []


@pytest.mark.long
def test_processes(script):
    """One of two is killed once; the run goes on in one, and comes to the same."""
    args = ["--kills", 1, "--phases", 30, "--seeds", 2, "--longest", 1]
    done, report = script("processes.py", *args)
    assert done.returncode == 0, done.stderr
    results = report["results"]
    assert len(results["kills"]) == 1
    assert results["kills"][0]["exit_codes_of_others"] == [3]
    assert results["different_undisturbed"] == results["different_after_kills"] == []


def test_the_comparison_with_rejax_is_of_the_same_training(script):
    import against_rejax

    for case in against_rejax.CASES.values():
        spec = against_rejax.COMMON | case | {"seeds": 1, "iterations": 4}
        ppo, ppg = (against_rejax.our_config(spec, name) for name in ("ppo", "ppg"))
        assert (ppo.e_pi, ppo.num_minibatches, ppo.arch) == (4, case["num_minibatches"], "separate")
        assert (ppg.n_pi, ppg.e_pi, ppg.e_v, ppg.e_aux, ppg.arch) == (16, 1, 1, 6, "dual")
        assert ppo.steps_per_iteration == ppg.steps_per_iteration == case["num_envs"] * 128


@pytest.mark.long
def test_memories(script, tiny):
    done, report = script(
        "memories.py", tiny, "--memories", "gru", "--seeds", 2, "--ppo", "--total-timesteps", 64
    )
    assert done.returncode == 0, done.stderr
    ppg, ppo, gap = report["results"]
    assert (ppg["memory"], ppg["algorithm"], ppo["algorithm"]) == ("gru", "ppg", "ppo")
    assert len(ppg["final_returns"]) == 2
    assert ppg["env_steps_per_seed"] == ppo["env_steps_per_seed"] == 64
    low, high = gap["ppg_minus_ppo"]["interval_95"]
    assert low <= gap["ppg_minus_ppo"]["mean"] <= high


@pytest.mark.long
def test_tasks(script, tmp_path):
    path = tmp_path / "bandit.yaml"
    path.write_text(
        "{env: BernoulliBandit-misc, env_params: {max_steps_in_episode: 2.0}, num_envs: 4, "
        "num_steps: 8, num_minibatches: 2, n_pi: 2, e_aux: 0, total_timesteps: 64, "
        "episodes_per_task: 3, network: {hidden_sizes: [8], memory: gru, recall: [reward]}}"
    )
    done, report = script("tasks.py", path, "--seeds", 2, "--tasks", 4)
    assert done.returncode == 0, done.stderr
    with_inputs, without = report["results"]
    assert (with_inputs["recall"], without["recall"]) == (["reward"], [])
    assert len(with_inputs["return_by_episode"]) == 3
    assert all(0 <= x <= 2 for x in with_inputs["return_by_episode"])


def test_versions(script, tiny, monkeypatch, tmp_path):
    """What a checkout's process does is tried alone: three of them compile for long."""
    import versions

    class Alike(versions.Checkout):
        def __init__(self, place, *args):
            self.seconds = self.compile_seconds = 1.0 if place == versions.HERE else 1.5

        def __call__(self):
            return self.seconds

        def close(self):
            pass

    monkeypatch.setattr(versions, "Checkout", Alike)
    done, report = script("versions.py", tmp_path, "--configs", tiny, "--repeats", 2)
    assert done.returncode == 0, done.stderr
    (row,) = report["results"]
    assert (row["speed"], row["same"], row["compile"]) == (1.5, 1.0, pytest.approx(2 / 3, abs=1e-3))


def test_a_checkout_trains_in_a_process_of_its_own(script, ppo):
    import versions

    from ppg_jax.config.yaml_files import load_config

    config = load_config(ppo)
    checkout = versions.Checkout(versions.HERE, json.dumps(config.to_dict()), 1)
    try:
        assert checkout.compile_seconds > 0
        assert 0 < checkout() < 5
    finally:
        checkout.close()


def test_memory_speed(traced):
    sizes = ["--num-steps", 8, "--samples", 64, "--repeats", 2]
    done, report = traced("memory_speed.py", "--memories", "none", "gru", *sizes)
    assert done.returncode == 0, done.stderr
    none, gru = report["results"]
    assert (none["memory"], none["num_steps"], gru["memory"]) == ("none", 8, "gru")
    assert none["over_shortest"] == gru["over_shortest"] == none["over_none"] == 1.0
    assert gru["over_none"] == 0.5
    assert all(row["env_steps_per_second"] > 0 for row in report["results"])


@pytest.mark.long
def test_suites(script, tmp_path):
    pytest.importorskip("pgx")
    path = tmp_path / "game.yaml"
    path.write_text(
        "{env: pgx/2048, num_envs: 4, num_steps: 8, num_minibatches: 2, n_pi: 2, e_aux: 0, "
        "arch: shared, total_timesteps: 64, network: {encoder: mlp, hidden_sizes: [8]}}"
    )
    few = ["--num-envs", 4, "--steps", 4, "--repeats", 1, "--episodes", 2]
    done, report = script("suites.py", path, *few)
    assert done.returncode == 0, done.stderr
    loops, training, random = report["results"]
    assert loops["rollout_steps_per_second"] > 0
    assert loops["own_loop_steps_per_second"] > 0
    assert training["training_steps_per_second"] > 0
    assert 100 < random["random_return"] < 5000


def test_masks_can_be_dropped(script):
    """By a suite that the script registers; both variants train on the same observations."""
    pytest.importorskip("jumanji")
    import masks

    from ppg_jax.config import FrozenMapping
    from ppg_jax.envs.adapter import Adapter, Conversion

    made = [
        Adapter(kind("Snake-v1", FrozenMapping(), FrozenMapping()), Conversion())
        for kind in (masks.jumanji.Jumanji, masks.Unmasked)
    ]
    assert [env.action.masked for env in made] == [True, False]
    assert made[0].observation == made[1].observation


def cut_off(script, monkeypatch, tmp_path, stop):
    """A script of two rows, stopped by something while it measures the second."""
    import throughput

    def measure(config, repeats):
        if config.seeds == 1:
            stop()
        return {"seeds": config.seeds}

    monkeypatch.setattr(throughput, "measure", measure)
    out = tmp_path / "out.json"
    done, _ = script("throughput.py", "cartpole", "--seeds", 2, 1, "--out", out)
    kept = json.loads(out.read_text())
    assert kept["complete"] is False
    assert kept["results"] == [{"config": "cartpole", "seeds": 2}]
    assert json.loads(done.stdout) == kept
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    return done


def failing():
    raise ValueError("a later case")


@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGINT), 130, "interrupted"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "terminated"),
        (failing, 1, "ValueError: a later case"),
        (lambda: sys.exit("a worker failed"), 1, "error: a worker failed"),
    ],
)
def test_what_is_measured_is_kept(script, monkeypatch, tmp_path, stop, code, said):
    done = cut_off(script, monkeypatch, tmp_path, stop)
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == '{"config": "cartpole", "seeds": 2}'
    assert said in done.stderr


def test_it_is_written_at_every_step(script, monkeypatch, tmp_path):
    """So that it is there after SIGKILL."""
    import common
    import report

    out = tmp_path / "out.json"
    report.REPORT.begin(out)
    calls = []

    def timer():
        calls.append(json.loads(out.read_text()) if out.exists() else None)
        return 0.5

    common.in_turn({("a", 1): timer}, 3)
    assert calls[0] is None
    assert calls[2] == {"complete": False, "results": [], "seconds": {"a 1": [0.5, 0.5]}}
    report.REPORT.add({"row": 1})
    assert json.loads(out.read_text()) == {"complete": False, "results": [{"row": 1}]}


def test_a_run_that_was_interrupted_ends_the_script(script):
    import report

    assert report.whole(SimpleNamespace(finished=True)).finished
    with pytest.raises(KeyboardInterrupt):
        report.whole(SimpleNamespace(finished=False))


@pytest.mark.long
def test_attacks(script, monkeypatch):
    from attacks import victim

    for name, value in {"arch": "shared", "e_aux": 0}.items():  # compiles sooner
        monkeypatch.setitem(victim.FIELDS, name, value)
    done, report = script("attack.py", "--only", "damage", "hostile", "--few", 1)
    assert done.returncode == 0, done.stderr
    assert report["results"]["damage"] == {"cases": 1, "held": 1, "failed": {}}
    assert "2 of 2 cases hold" in done.stderr


@pytest.fixture
def gpu(script, monkeypatch, tmp_path):
    """``gpu.py`` whose parts take no time; each is counted, and what ``fails`` names fails."""
    import subprocess

    import gpu

    told = {"platform": "gpu", "device": "Nvidia X-1", "versions": {"jax": "0.9.2"}, "small": False}
    made = SimpleNamespace(told=told, ran=[], fails={}, out=tmp_path / "out.json", module=gpu)

    def process(script, *options, timeout):
        name = options[options.index("--part") + 1]
        if name == gpu.DEVICE:
            return dict(made.told)
        made.ran.append(name)
        failure = made.fails.get(name, {"bits": "a"})
        if isinstance(failure, BaseException):
            raise failure
        return dict(failure)

    monkeypatch.setattr(gpu, "fresh_process", process)
    made.slow = subprocess.TimeoutExpired("gpu.py", 1)

    def run(*args):
        made.ran.clear()
        done, report = script("gpu.py", "--out", made.out, *args)
        return done, report

    made.run = run
    return made


@pytest.mark.long
def test_gpu_parts_run(script, tmp_path):
    """In processes of their own, as they are."""
    out = tmp_path / "out.json"
    only = ["--small", "--patience", 3, "--parts", "repetition"]
    done, report = script("gpu.py", "--out", out, "--minutes", 60, *only)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == report
    assert report["failed"] == []
    assert len(report["results"]) == 2
    assert report["repetition"] == {"runs": 2, "hung": 0, "different_results": 1}
    assert (report["platform"], report["complete"]) == ("cpu", False)


@pytest.mark.long
def test_a_gpu_part_alone(script, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    name = "learning minatar/breakout 2"
    done, row = script("gpu.py", "--small", "--patience", 9, "--part", name)
    assert done.returncode == 0, done.stderr
    assert row["env_steps_per_second"] > 0
    assert row["peak_mib"] is None  # a CPU does not tell
    assert row["env_steps_per_seed"] == 2560
    assert len(row["curve_mean_return"]) == 20
    assert row["iqm_interval_95"][0] <= row["iqm"] <= row["iqm_interval_95"][1]
    assert row["known_on_cpu"]["mean"] == 47.5


def test_learning_on_a_gpu_ends_before_it_is_killed(script, monkeypatch):
    import gpu_parts
    import numpy as np
    import report

    def stopped(config, progress):
        with pytest.raises(KeyboardInterrupt), report.terminable():
            time.sleep(60)
        return SimpleNamespace(finished=False, final_returns=np.array([1.0, 2.0]))

    monkeypatch.setattr(gpu_parts, "run", stopped)
    monkeypatch.setattr(gpu_parts, "summarize", lambda name, result: {"mean": 1.5})
    (part,) = (part for part in gpu_parts.parts(True) if part.name.startswith("learning"))
    row = part.measure(2.0)
    assert (row["mean"], row["failed"]) == (1.5, "not at its end after 2 s")


def test_every_gpu_part_has_a_valid_configuration(script, monkeypatch):
    import gpu_parts

    seen = []
    monkeypatch.setattr(gpu_parts.throughput, "measure", lambda c, *_, **__: seen.append(c))
    monkeypatch.setattr(gpu_parts, "learning", lambda c, _: seen.append(c))
    monkeypatch.setattr(gpu_parts, "repetition", lambda c, _: seen.append(c))
    every = gpu_parts.parts(False)
    assert len({part.name for part in every}) == len(every)
    for part in every:
        part.measure(1.0)
        words = part.name.split()
        assert seen[-1].devices == 1
        if words[0] != "repetition":
            assert seen[-1].seeds == int(words[-1])
        if words[0] in ("throughput", "ppo"):
            assert seen[-1].strategy == words[-2]
            assert seen[-1].num_phases == 1
    breakout = {"throughput minatar/breakout vmap " + n for n in ("1", "16", "64", "256", "1024")}
    assert breakout <= {part.name for part in every}
    (trained,) = (c for c in seen if c.seeds == 128)
    assert trained.total_timesteps == 3_014_656


def test_gpu_goes_on_where_it_stopped(gpu):
    done, report = gpu.run("--minutes", 2)  # too short for learning and for 1,024 seeds
    names = [part.name for part in gpu.module.parts(False)]
    left = [n for n in names if n.startswith("learning") or n.endswith("1024")]
    assert gpu.ran == [n for n in names if n not in left]
    assert not report["complete"]
    assert f"{len(left)} parts are left; they need --minutes 7.5 or more" in done.stderr
    assert "Nvidia X-1 (gpu)" in done.stderr
    _, report = gpu.run()
    assert gpu.ran == left
    assert report["complete"]
    assert sorted(row["part"] for row in report["results"]) == sorted(names)
    gpu.run()
    assert gpu.ran == []


def test_gpu_with_no_time_says_so(gpu):
    done, report = gpu.run("--minutes", 0)
    assert (gpu.ran, report["results"]) == ([], [])
    assert "The same command goes on, with --out" in done.stderr


def test_gpu_keeps_what_failed_and_tries_it_only_when_told(gpu):
    names = [part.name for part in gpu.module.parts(False) if part.name.startswith("repetition")]
    gpu.fails = {
        names[0]: gpu.slow,
        names[1]: SystemExit("Traceback\n  in f\nOSError: gone\n"),
        names[2]: {"failed": "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"},
        names[3]: {"bits": "b"},
    }
    _, report = gpu.run("--parts", "repetition")
    assert [(row["part"], row["failed"]) for row in report["failed"]] == [
        (names[0], "killed after 75 s: it hangs or is slow"),
        (names[1], "OSError: gone"),
        (names[2], "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"),
    ]
    assert report["repetition"] == {"runs": 5, "hung": 1, "different_results": 2}
    gpu.run("--parts", "repetition")
    assert gpu.ran == []
    gpu.fails = {}
    _, again = gpu.run("--parts", "repetition", "--again")
    assert gpu.ran == names[:3]
    assert again["failed"] == report["failed"]
    assert again["results"][:2] == report["results"]
    assert again["repetition"] == {"runs": 8, "hung": 1, "different_results": 2}
    gpu.run("--parts", "repetition", "--again")
    assert gpu.ran == []


def test_gpu_does_not_mix_devices_or_versions(gpu):
    gpu.run("--parts", "repetition")
    before = gpu.out.read_bytes()
    for field, value in {"device": "Nvidia Y-2", "versions": {"jax": "0.11.2"}}.items():
        kept, gpu.told[field] = gpu.told[field], value
        done, _ = gpu.run()
        gpu.told[field] = kept
        assert (done.returncode, gpu.ran) == (1, [])
        assert f"{field} is {kept} there and {value} here; use another --out" in done.stderr
        assert gpu.out.read_bytes() == before
    for text in (before[:50], b"[]", b'{"results": []}'):
        gpu.out.write_bytes(text)
        done, _ = gpu.run()
        assert done.returncode == 1
        assert "use another --out" in done.stderr.splitlines()[-1]
        assert gpu.out.read_bytes() == text


def test_gpu_stopped_in_a_part_keeps_those_before(gpu):
    names = [part.name for part in gpu.module.parts(False)]
    gpu.fails = {names[1]: KeyboardInterrupt()}
    done, _ = gpu.run()
    assert done.returncode == 130
    kept = json.loads(gpu.out.read_text())
    assert [row["part"] for row in kept["results"]] == names[:1]
    assert kept["failed"] == []


def test_gpu_names_its_file_after_the_device(gpu):
    import datetime

    told = {"device": "NVIDIA H100 80GB HBM3", "small": False}
    name = f"nvidia-h100-80gb-hbm3-{datetime.date.today()}.json"
    assert gpu.module.default_out(told).name == name


def test_gpu_refuses_a_part_that_is_not_there(gpu):
    done, _ = gpu.run("--parts", "throughput minatar/breakout vmap 6")
    assert done.returncode == 1
    assert "is no part" in done.stderr
    assert not gpu.out.exists()


def test_an_error_in_a_gpu_part_is_one_line(script):
    import gpu

    def fail(_):
        raise MemoryError("Out of memory\nwhile trying to allocate")

    assert gpu.here(gpu.Part("x", fail, 1), 1) == {"failed": "MemoryError: Out of memory"}
