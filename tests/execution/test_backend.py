"""What JAX is told at the start, seen in fresh processes: devices and the compilation cache."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ppg_jax import execution
from ppg_jax.cli.main import main
from ppg_jax.execution.backend import kept_programs, use_compilation_cache

TINY = [
    "--num-envs", "2", "--num-steps", "4", "--num-minibatches", "1", "--n-pi", "1",
    "--num-aux-minibatches", "1", "--total-timesteps", "8", "--network.hidden-sizes", "4",
    "--quiet",
]  # fmt: skip


def python(*args, **env):
    """A process without the devices that the tests have."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    if "XDG_CACHE_HOME" in env:
        kept.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, *map(str, args)],
        env=kept | {k: str(v) for k, v in env.items()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


COUNT = "import os, jax, ppg_jax; print(ppg_jax.use_all_cores(), len(os.sched_getaffinity(0)))"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts cores its own way")
def test_every_core_is_a_device():
    devices, cores = python("-c", COUNT)
    assert devices == cores


@pytest.mark.parametrize(
    "by_hand",
    [
        {"JAX_NUM_CPU_DEVICES": "3"},
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"},
    ],
)
def test_a_number_of_devices_set_by_hand_stays(by_hand):
    assert python("-c", COUNT, **by_hand)[0] == "3"


def test_run_makes_cores_devices_by_itself():
    """For later runs, which may want them, and for the cache, which tells their number apart."""
    tiny = "num_envs=1, num_minibatches=1, num_steps=2, total_timesteps=2, n_pi=1, e_aux=0"
    code = f"""
import os, jax, ppg_jax
ppg_jax.run(ppg_jax.load_config('cartpole', {tiny}), progress=False)
print(jax.local_device_count(), len(os.sched_getaffinity(0)))
"""
    assert len(set(python("-c", code))) == 1


def test_once_jax_runs_devices_stay():
    started = COUNT.replace("print", "jax.numpy.ones(3) + 1; print")
    assert python("-c", started)[0] == "1"


def compiled(folder):
    """Programs in a cache."""
    return {path for path in folder.rglob("*-cache") if path.is_file()}


def test_the_command_line_keeps_compiled_programs(tmp_path, monkeypatch):
    # JAX keeps what took a second to compile, which changes with what else the machine does.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    out = iter(tmp_path / f"run{i}" for i in range(9))
    train, ours = ["-m", "ppg_jax", "train", *TINY, "--out"], tmp_path / "ppg_jax"
    python(*train, next(out), XDG_CACHE_HOME=tmp_path)
    first = compiled(ours)
    assert first
    python(*train, next(out), XDG_CACHE_HOME=tmp_path)
    assert compiled(ours) == first


@pytest.mark.parametrize(("flags", "used"), [([], True), (["--no-cache"], False)])
def test_the_cache_can_be_left_out(monkeypatch, flags, used):
    calls = []
    monkeypatch.setattr(execution, "use_compilation_cache", lambda: calls.append(True))
    assert main(["train", "cartpole", "--env", "Nowhere-v0", *flags]) == 2
    assert bool(calls) == used


def test_a_cache_folder_set_by_hand_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    by_hand = Path(jax.config.jax_compilation_cache_dir)  # of the tests themselves
    assert use_compilation_cache() == by_hand
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    by_hand = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert use_compilation_cache() is None
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", by_hand)


RUNS = """
import os, jax, ppg_jax
options = dict(num_envs=2, num_steps=4, num_minibatches=1, n_pi=1, num_aux_minibatches=1, e_aux=1,
               total_timesteps=8, network={"hidden_sizes": (4,)})
ppg_jax.run(ppg_jax.Config(**options), progress=False, cache=CACHE)
folder = jax.config.jax_compilation_cache_dir
jax.jit(lambda x: x * 3 + 1)(jax.numpy.ones(5))  # the caller's own
print(repr(folder))
"""


def test_a_run_from_python_keeps_compiled_programs(tmp_path, monkeypatch):
    """Its own, and not what its caller compiles; another process finds them."""
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    told = python("-c", RUNS.replace("CACHE", "False"), XDG_CACHE_HOME=tmp_path)
    assert (told, compiled(tmp_path)) == (["None"], set())
    told = python("-c", RUNS.replace("CACHE", "True"), XDG_CACHE_HOME=tmp_path)
    first = compiled(tmp_path / "ppg_jax")
    assert told == ["None"]
    assert any("alone" in path.name for path in first)
    assert not any("lambda" in path.name for path in first)
    python("-c", RUNS.replace("CACHE", "True"), XDG_CACHE_HOME=tmp_path)
    assert compiled(tmp_path / "ppg_jax") == first


def test_the_cache_is_on_while_somebody_needs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    by_hand = jax.config.jax_compilation_cache_dir
    with kept_programs(True):
        assert jax.config.jax_compilation_cache_dir == by_hand
    assert not list(tmp_path.iterdir())
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with kept_programs(True), kept_programs(False):
            with kept_programs(True):
                assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
            assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", by_hand)
