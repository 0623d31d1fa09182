"""What JAX is told at the start, seen in fresh processes: devices and the compilation cache."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ppg_jax import execution
from ppg_jax.cli.main import main
from ppg_jax.execution.compilation_cache import kept_programs, use_compilation_cache

TINY = [
    "--num-envs", "2", "--num-steps", "4", "--num-minibatches", "1", "--n-pi", "1",
    "--arch", "shared", "--e-aux", "0", "--total-timesteps", "8", "--network.hidden-sizes", "4",
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


def test_once_jax_runs_devices_stay():
    started = COUNT.replace("print", "jax.numpy.ones(3) + 1; print")
    assert python("-c", started)[0] == "1"


def compiled(folder):
    """Programs in a cache."""
    return {path for path in folder.rglob("*-cache") if path.is_file()}


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
import os, sys, jax, ppg_jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.split("/")[-1]))
files = lambda: sum(len(names) for *_, names in os.walk(os.environ["XDG_CACHE_HOME"]))
before = files()
config = ppg_jax.load_config(sys.argv[1])
ppg_jax.run(config.replace(num_steps=2, total_timesteps=4), progress=False, cache=False)
print(jax.local_device_count() == len(os.sched_getaffinity(0)))
print(jax.config.jax_compilation_cache_dir, files() - before, events.count("cache_hits"))
ppg_jax.run(config, progress=False)
print(files() - before, events.count("cache_hits") > 0)
ppg_jax.run(config.replace(num_steps=3, total_timesteps=6), progress=False)
jax.jit(lambda x: x * 3 + 1)(jax.numpy.ones(5))  # the caller's own
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.long
def test_runs_keep_compiled_programs_and_make_cores_devices(tmp_path, monkeypatch):
    """The command line's are found by another process, whose own are kept too: those of its runs.

    One process answers all this, because each has to import and compile first.
    """
    # JAX keeps what took a second to compile, which changes with what else the machine does.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    out = tmp_path / "run"
    python("-m", "ppg_jax", "train", *TINY, "--out", out, XDG_CACHE_HOME=tmp_path / "cache")
    ours = tmp_path / "cache" / "ppg_jax"
    first = compiled(ours)
    assert any("alone" in path.name for path in first)
    told = python("-c", RUNS, out / "config.yaml", XDG_CACHE_HOME=tmp_path / "cache")
    # Cores are devices for later runs, which may want them, and for the cache, which tells their
    # number apart. Without the cache nothing is written or read; with it all is found.
    assert told == ["True", "None", "0", "0", "0", "True", "None"]
    added = compiled(ours) - first
    assert any("alone" in path.name for path in added)
    assert not any("lambda" in path.name for path in compiled(ours))


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
