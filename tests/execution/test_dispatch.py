"""Replicas in every layout: the same results, in order, on the devices that were asked for."""

import importlib
import itertools
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax.backend import GPU
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.execution import layout
from ppg_jax.execution.dispatch import gather, over_replicas, repeat, run_batches, shard
from ppg_jax.execution.layout import Layout, choose_layout, lay_out, possible_layouts


def layout_for(replicas, cores=3, **changes):
    return choose_layout(Config(seeds=replicas, **changes), replicas, cores)


def on_mesh(strategy, devices, replicas):
    """Replicas by a mesh, as on accelerators."""
    devices = min(devices, replicas)
    share = -(-replicas // devices)
    size = {"map": 1, "vmap": share, "chunk": min(2, share)}[strategy]
    return Layout(strategy, devices, size, replicas)


def replica(factor, x):
    """Something with a product, a loop and two outputs."""
    total, steps = jax.lax.scan(lambda c, _: (0.5 * c + x @ x, c), factor, None, length=3)
    return {"total": total, "steps": steps}


def mapped(fn, layout, first, replicas, *, shared, **options):
    """``fn`` of every replica, as a run maps it."""
    firsts = repeat(first, layout) if shared else shard(first, layout)
    batches = shard(replicas, layout)
    program = jax.jit(over_replicas(fn, layout, shared=shared), **options)
    compiled = program.lower(firsts[0], batches[0]).compile()
    return run_batches(compiled, firsts, batches, layout)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("strategy", "devices", "replicas"),
    list(itertools.product(["vmap", "map", "chunk"], [1, 2], [1, 2, 5, 7])),
)
def test_every_layout_gives_the_same(strategy, devices, replicas, shared):
    layout = on_mesh(strategy, devices, replicas)
    x = jax.random.normal(jax.random.key(0), (replicas, 4))
    factor = jnp.float32(2) if shared else jnp.arange(replicas, dtype=jnp.float32)
    out = gather(mapped(replica, layout, factor, x, shared=shared), layout)
    expected = [replica(factor if shared else factor[i], x[i]) for i in range(replicas)]
    for name, found in out.items():
        assert found.shape[0] == replicas
        assert len(found.devices()) == 1
        np.testing.assert_allclose(found, [e[name] for e in expected], rtol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("strategy", ["vmap", "map", "chunk"])
@pytest.mark.parametrize("devices", [1, 2])
def test_rows_may_be_written_over(strategy, devices, shared):
    """Random keys too; each by its own, whatever was written before it."""
    layout = on_mesh(strategy, devices, 7)
    keys = jax.random.split(jax.random.key(0), 7)
    replicas = {"key": keys, "x": jnp.arange(7, dtype=jnp.float32)}
    first = jnp.float32(2) if shared else jnp.arange(7, dtype=jnp.float32)

    def grow(first, replica):
        new = {"key": jax.random.fold_in(replica["key"], 1), "x": first * replica["x"] + 1}
        return new, {"was": replica["x"]}

    expected_keys = jax.random.key_data(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys))
    expected_x = np.asarray(first) * np.arange(7) + 1
    done = mapped(grow, layout, first, replicas, shared=shared, donate_argnums=1)
    out, rest = gather(done, layout)
    np.testing.assert_array_equal(rest["was"], np.arange(7))
    np.testing.assert_array_equal(out["x"], expected_x)
    np.testing.assert_array_equal(jax.random.key_data(out["key"]), expected_keys)


def test_turns_run_at_a_time_in_threads_of_their_own():
    """As many as there are workers, each batch once, in their places."""
    together = threading.Barrier(2, timeout=20)

    def program(first, batch):
        together.wait()  # alone, it would wait in vain
        return first * batch

    layout = Layout("map", 1, 1, 6, workers=2)
    assert run_batches(program, [10] * 6, list(range(6)), layout) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(("workers", "failing"), [(1, 3), (2, 0), (2, 1)])
def test_what_a_turn_raises_ends_the_others_soon(workers, failing):
    """At once, though another thread's batch goes on; and batches not begun are left out."""
    begun, go_on = [], threading.Event()

    def program(_, batch):
        begun.append(batch)
        if batch == failing:
            raise ValueError(f"batch {batch}")
        assert workers == 1 or go_on.wait(20)

    before = threading.active_count()
    with pytest.raises(ValueError, match=rf"^batch {failing}$"):
        run_batches(program, [None] * 50, range(50), Layout("map", 1, 1, 50, workers))
    go_on.set()
    wait_until(lambda: threading.active_count() <= before)
    assert len(begun) <= failing + 2


def wait_until(true):
    """Until it is, or 20 seconds are over."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_waits_for_the_program_after_ctrl_c(workers):
    begun, go_on = [], threading.Event()

    def program(_, batch):
        begun.append(batch)
        assert go_on.wait(20)

    def interrupt():
        wait_until(lambda: len(begun) == workers)
        time.sleep(0.5)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batches(program, [None] * 50, range(50), Layout("map", 1, 1, 50, workers))
    assert time.monotonic() - began < 15
    go_on.set()
    wait_until(lambda: threading.active_count() <= before)
    assert len(begun) == workers


def test_rows_lie_on_their_devices():
    layout = on_mesh("map", 2, 5)
    out, *_ = mapped(replica, layout, jnp.float32(1), jnp.ones((5, 4)), shared=True)
    assert out["total"].sharding.spec == jax.sharding.PartitionSpec("seed")
    shards = {shard.device: shard.data.shape for shard in out["total"].addressable_shards}
    assert shards == dict.fromkeys(jax.devices()[:2], (1,))


@pytest.mark.parametrize(
    ("replicas", "changes", "expected"),
    [
        (1, {}, Layout("map", 1, 1, 1, 1)),
        (2, {}, Layout("map", 1, 1, 2, 2)),
        (8, {}, Layout("map", 1, 1, 8, 3)),
        (8, {"devices": 1}, Layout("map", 1, 1, 8, 1)),
        (8, {"devices": 2}, Layout("map", 1, 1, 8, 2)),
        (8, {"chunk_size": 4}, Layout("map", 1, 1, 8, 3)),
        (8, {"strategy": "vmap"}, Layout("vmap", 2, 4, 8)),
        (8, {"strategy": "vmap", "devices": 1}, Layout("vmap", 1, 8, 8)),
        (7, {"strategy": "vmap"}, Layout("vmap", 2, 4, 7)),
        (10, {"strategy": "chunk", "chunk_size": 4}, Layout("chunk", 1, 4, 10, 3)),
        # A core's 10 in chunks of at most 6 need two: 5 and 5 rather than 6 and 4.
        (30, {"strategy": "chunk", "chunk_size": 6}, Layout("chunk", 1, 5, 30, 3)),
        (3, {"strategy": "chunk", "chunk_size": 100}, Layout("chunk", 1, 1, 3, 3)),
        (4, {"strategy": "chunk", "chunk_size": 100}, Layout("chunk", 1, 2, 4, 2)),
        (10, {"strategy": "chunk", "devices": 2, "chunk_size": 4}, Layout("chunk", 1, 3, 10, 2)),
    ],
)
def test_choice_on_a_cpu_with_three_cores_and_two_devices(replicas, changes, expected, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    assert layout_for(replicas, **changes) == expected


def test_threads_do_not_depend_on_when_jax_began(monkeypatch):
    """Once JAX has computed, cores become devices no more; they work all the same."""
    monkeypatch.setattr(layout, "use_all_cores", lambda: 1)
    monkeypatch.setattr(layout, "_cores", lambda: 4)
    assert lay_out(Config(seeds=8), 8) == Layout("map", 1, 1, 8, 4)
    assert lay_out(Config(seeds=8, devices=3), 8) == Layout("map", 1, 1, 8, 3)


@pytest.mark.parametrize(
    ("replicas", "devices", "expected"),
    [
        (1, 1, Layout("vmap", 1, 1, 1, backend=GPU)),
        (128, 1, Layout("vmap", 1, 128, 128, backend=GPU)),
        (129, 1, Layout("chunk", 1, 65, 129, backend=GPU)),
        (1024, 8, Layout("vmap", 8, 128, 1024, backend=GPU)),
        (9, 8, Layout("vmap", 5, 2, 9, backend=GPU)),  # three devices fewer take no longer
        (3, 8, Layout("vmap", 3, 1, 3, backend=GPU)),
    ],
)
def test_choice_on_an_accelerator(replicas, devices, expected, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    assert choose_layout(Config(seeds=replicas), replicas, backend=GPU) == expected


@pytest.mark.parametrize(
    ("replicas", "changes", "expected"),
    [
        (16, {}, ["vmap", *(f"chunk of {n}" for n in (8, 4, 2, 1))]),
        (300, {}, [f"chunk of {n}" for n in (100, 50, 25, 13, 7, 4, 2, 1)]),
        (5, {"strategy": "chunk"}, [f"chunk of {n}" for n in (5, 3, 2, 1)]),
        (1, {}, ["vmap"]),
        (16, {"chunk_size": 7}, ["chunk of 6"]),
        (300, {"strategy": "vmap"}, ["vmap"]),
        (16, {"strategy": "map"}, ["map"]),
    ],
)
def test_layouts_to_try_on_an_accelerator(replicas, changes, expected, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    found = possible_layouts(Config(seeds=replicas, **changes), replicas, backend=GPU)
    assert [str(layout) for layout in found] == expected
    assert {layout.backend for layout in found} == {GPU}


@pytest.mark.parametrize(
    ("layout", "batches"),
    [
        (Layout("map", 1, 1, 3), [[0], [1], [2]]),
        (Layout("map", 2, 1, 5), [[0, 1], [2, 3], [4, 0]]),
        (Layout("vmap", 2, 2, 3), [[0, 1, 2, 0]]),
        (Layout("chunk", 1, 3, 7), [[0, 1, 2], [3, 4, 5], [6, 0, 0]]),
        (Layout("chunk", 2, 3, 10), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 0, 0]]),
    ],
)
def test_rows_are_dealt_out_and_collected(layout, batches):
    replicas = jnp.arange(layout.replicas)
    assert [batch.tolist() for batch in shard(replicas, layout)] == batches
    assert gather(shard(replicas, layout), layout).tolist() == replicas.tolist()


def test_layouts_are_shown():
    assert str(Layout("map", 1, 1, 3)) == "map"
    assert str(Layout("map", 1, 1, 3, workers=2)) == "map, 2 at a time"
    assert str(Layout("vmap", 2, 4, 7)) == "vmap on 2 devices"
    assert str(Layout("chunk", 2, 3, 10)) == "chunk of 3 on 2 devices"


@pytest.mark.parametrize(
    ("strategy", "what"), [("vmap", r"JAX has 2 devices \(CPU"), ("auto", r"\d+ can be used")]
)
def test_more_devices_than_there_are(strategy, what):
    with pytest.raises(
        ConfigError, match=rf"^devices: 999 is invalid; {what}.*; use fewer, or null"
    ):
        lay_out(Config(devices=999, seeds=2000, strategy=strategy), 2000)


def test_auto_never_vmaps_on_cpu():
    """Where jaxlib 0.10 deadlocks; ``vmap`` has to be asked for."""
    for replicas in (1, 2, 3, 8, 64, 129, 5000):
        for chunk_size in (None, 4):
            assert layout_for(replicas, chunk_size=chunk_size).strategy == "map"


@pytest.mark.parametrize("release", ["0.10.0", "0.10.2"])
def test_jaxlib_that_deadlocks_is_named_at_import(release, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: release)
    with pytest.warns(UserWarning, match=rf"jaxlib {release} deadlocks"):
        importlib.reload(ppg_jax)


@pytest.mark.parametrize("release", ["0.9.2", "0.11.2"])
def test_other_releases_are_not(release, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: release)
    importlib.reload(ppg_jax)
