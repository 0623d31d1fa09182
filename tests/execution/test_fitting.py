"""What runs together is what fits, by the memory of compiled programs; none is compiled twice."""

import collections
import dataclasses
import itertools
import math
import types

import jax
import jax.numpy as jnp
import pytest

import ppg_jax
from ppg_jax.backend import CPU, GPU
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.execution import fitting, layout, memory, segments
from ppg_jax.execution.dispatch import run_batches
from ppg_jax.execution.fitting import (
    Plan,
    Training,
    first_that_fits,
    needed_bytes,
    plan_training,
    replica_bytes,
    skipping,
)
from ppg_jax.execution.layout import Layout, possible_layouts
from ppg_jax.execution.segments import Pace
from ppg_jax.runs.session import resolve
from tests import probes

ACCELERATOR = dataclasses.replace(GPU, compiler_options=CPU.compiler_options)  # compiles sooner
TINY = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 1, "n_pi": 2, "total_timesteps": 128,
    "arch": "shared", "e_aux": 0, "network": {"hidden_sizes": (3,)},
}  # fmt: skip
CONFIG = Config(**TINY)
FULL, PACKED, REPLAY = (CONFIG.replace(num_levels=n) for n in (1, 2, 3))
"""Stand for one configuration that keeps its data in three ways."""
MIB = 1 << 20


@pytest.fixture
def accelerator(monkeypatch):
    """The CPU is taken for an accelerator. Returns a function that sets its memory."""
    monkeypatch.setattr(layout, "this_backend", lambda: ACCELERATOR)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    return lambda limit: monkeypatch.setattr(fitting, "free_bytes", lambda _: limit)


@pytest.fixture
def compiled():
    """Number of compilations so far, by the name of the function."""
    counts = collections.Counter()

    def count(event, _, fun_name="", **rest):
        if event.endswith("backend_compile_duration"):
            counts[fun_name] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    yield counts
    jax.monitoring.unregister_event_duration_listener(count)


def table(sizes):
    """``needed`` by MiB of a replica for each configuration, and what it was asked."""
    asked = []

    def needed(config, layout):
        asked.append((config, layout.chunk_size))
        return sizes[config] * layout.chunk_size * MIB

    return needed, asked


def layouts(replicas=16):
    return possible_layouts(CONFIG.replace(devices=1), replicas, backend=GPU)


@pytest.mark.parametrize(
    ("limit", "size", "tries"),
    [(160 * MIB, 16, 1), (160 * MIB - 1, 8, 2), (50 * MIB, 4, 3), (10 * MIB, 1, 5)],
)
def test_half_as_many_until_they_fit(limit, size, tries):
    needed, asked = table({CONFIG: 10})
    plan = first_that_fits([CONFIG], layouts(), needed, limit)
    assert plan == Plan(CONFIG, layouts()[tries - 1])
    assert plan.layout.chunk_size == size
    assert [n for _, n in asked] == [16, 8, 4, 2, 1][:tries]


@pytest.mark.parametrize(
    ("need", "words"), [(10, r"need 10\.0 MiB"), (math.inf, "need more memory than a device has")]
)
def test_nothing_fits(need, words):
    needed, _ = table({CONFIG: need})
    text = rf"^memory: 16 replicas by chunk of 1 {words}; 9\.0 MiB can be used; use fewer num_envs"
    with pytest.raises(ConfigError, match=text) as error:
        first_that_fits([CONFIG], layouts(), needed, 9 * MIB)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("limit", "config", "size", "tries"),
    [
        (160, FULL, 16, 1),  # all fit as they are
        (100, PACKED, 16, 3),  # all fit when packed: 16 and 8 of full, 16 of packed
        (50, REPLAY, 16, 6),
        (20, REPLAY, 8, 9),  # 2 of full fit, so packed is not tried with 2 or fewer
        (10, REPLAY, 4, 12),
        (4, REPLAY, 1, 15),
    ],
)
def test_the_first_storage_with_which_most_fit(limit, config, size, tries):
    needed, asked = table({FULL: 10, PACKED: 6, REPLAY: 2.5})
    plan = first_that_fits([FULL, PACKED, REPLAY], layouts(), needed, limit * MIB)
    assert (plan.config, plan.layout.chunk_size) == (config, size)
    assert len(asked) == len(set(asked)) == tries


def test_the_earlier_storage_if_as_many_fit():
    needed, _ = table({FULL: 10, PACKED: 9, REPLAY: 8})
    plan = first_that_fits([FULL, PACKED, REPLAY], layouts(), needed, 100 * MIB)
    assert (plan.config, plan.layout.chunk_size) == (FULL, 8)


def test_what_cannot_fit_by_its_shapes_is_not_compiled():
    config = CONFIG.replace(e_aux=1, num_aux_minibatches=1)
    state, stored = replica_bytes(config, GPU)
    assert replica_bytes(CONFIG, GPU)[1] == 0
    # The phase's observations, episode starts and value targets.
    assert stored == 2 * 8 * 4 * (4 * 4 + 1 + 4)
    all_states = 16 * state
    for limit, first in ((all_states + 16 * stored, 16), (all_states + 16 * stored - 1, 8)):
        needed, asked = table({config: 0})
        first_that_fits([config], layouts(), skipping(needed, limit), limit)
        assert [n for _, n in asked] == [first]


def test_states_that_wait_count():
    stats = types.SimpleNamespace(
        argument_size_in_bytes=100, output_size_in_bytes=110, alias_size_in_bytes=90,
        temp_size_in_bytes=1000, generated_code_size_in_bytes=5,
    )  # fmt: skip
    program = types.SimpleNamespace(memory_analysis=lambda: stats)
    assert memory.used_bytes(program, Layout("vmap", 1, 4, 4)) == 1125
    assert memory.used_bytes(program, Layout("chunk", 1, 4, 11)) == 3 * 120 + 1005
    silent = types.SimpleNamespace(memory_analysis=lambda: None)
    assert memory.used_bytes(silent, Layout("vmap", 1, 4, 4)) == 0


def test_what_a_device_has_left(monkeypatch):
    def devices(*stats):
        found = [types.SimpleNamespace(memory_stats=lambda s=s: s) for s in stats]
        monkeypatch.setattr(jax, "local_devices", lambda: found)

    devices({"bytes_limit": 1000, "bytes_in_use": 100}, {"bytes_limit": 700}, None)
    assert memory.free_bytes(Layout("vmap", 1, 1, 1)) == 855
    assert memory.free_bytes(Layout("vmap", 2, 1, 2)) == 665
    assert memory.free_bytes(Layout("vmap", 3, 1, 3)) is None


def test_a_device_that_reports_nothing_gets_all(accelerator, monkeypatch):
    accelerator(None)
    monkeypatch.setattr(fitting, "needed_bytes", None)  # nothing is compiled
    assert plan_training(CONFIG, Training(16)).layout == Layout(
        "vmap", 1, 16, 16, backend=ACCELERATOR
    )


@pytest.mark.parametrize(
    "changes", [{"strategy": "vmap"}, {"strategy": "map"}, {"chunk_size": 8}, {"seeds": 1}]
)
def test_nothing_is_compiled_where_nothing_is_left_to_choose(changes, accelerator, monkeypatch):
    accelerator(1)
    monkeypatch.setattr(fitting, "needed_bytes", None)
    config = CONFIG.replace(**{"seeds": 16, **changes})
    plan_training(config, Training(config.seeds))


class Refused:
    """A program that does not compile."""

    out_info = ({}, {})

    def __init__(self, message):
        self.message = message

    def lower(self, *_):
        return self

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


FULL_DEVICE = "RESOURCE_EXHAUSTED: Ran out of memory. Used 17.20G of 15.75G hbm.\n\nTotal: 17G"


def test_what_the_compiler_refuses_does_not_fit(monkeypatch):
    def ask(message):
        largest = Refused(message), {}, {}
        monkeypatch.setattr(fitting, "largest_program", lambda *_, **__: largest)
        return needed_bytes(CONFIG, layouts()[0], Training(16))

    assert ask(FULL_DEVICE) == math.inf
    with pytest.raises(jax.errors.JaxRuntimeError, match="no"):
        ask("INTERNAL: no")


@pytest.mark.parametrize("when", ["compile", "run"])
def test_too_little_memory_is_one_line(when):
    program, layout = Refused(FULL_DEVICE), layouts()[0]
    actions = {
        "compile": lambda: segments.compile_all([program], layout, {}, {}),
        "run": lambda: run_batches(lambda *_: program.compile(), [None], [None], layout),
    }
    with pytest.raises(
        ConfigError,
        match=r"^memory: 16 replicas by vmap do not fit \(RESOURCE_EXHAUSTED: Ran out of memory\. "
        r"Used 17\.20G of 15\.75G hbm\.\); use strategy auto or a smaller chunk_size, [^\n]*$",
    ):
        actions[when]()


def test_one_replica_is_not_told_to_run_fewer_together():
    error = memory.too_large(Layout("map", 1, 1, 3, workers=1), FULL_DEVICE)
    assert "chunk_size" not in str(error)


def test_a_cpu_is_asked_by_shapes(monkeypatch):
    """Nothing is compiled: the first storage whose data fill at most half of the memory."""
    sizes = {FULL: 40, PACKED: 10, REPLAY: 6}
    monkeypatch.setattr(fitting, "storages", lambda _: tuple(sizes))
    monkeypatch.setattr(fitting, "needed_bytes", None)
    monkeypatch.setattr(fitting, "replica_bytes", lambda config, _: (0, sizes[config]))
    monkeypatch.setattr(layout, "_cores", lambda: 2)
    for memory_bytes, chosen in (
        (None, FULL),
        (160, FULL),
        (159, PACKED),
        (39, REPLAY),
        (9, REPLAY),
    ):
        monkeypatch.setattr(fitting, "machine_bytes", lambda n=memory_bytes: n)
        plan = plan_training(CONFIG, Training(8))
        assert (plan.config, str(plan.layout)) == (chosen, "map, 2 at a time")


def test_storages_that_do_not_suit_the_environment_are_left_out(monkeypatch):
    def build(config, _):
        if config is PACKED:
            raise ConfigError("aux_storage: no")

    monkeypatch.setattr(fitting, "build", build)
    needed, asked = table({FULL: 10, REPLAY: 1})
    plan = first_that_fits([FULL, PACKED, REPLAY], layouts(), needed, 16 * MIB)
    assert (plan.config, plan.layout.chunk_size) == (REPLAY, 16)
    assert len(asked) == 6
    with pytest.raises(ConfigError, match="no"):
        first_that_fits([PACKED, FULL], layouts(), needed, 16 * MIB)


@pytest.mark.parametrize(("devices", "shared"), list(itertools.product([1, 2], [True, False])))
def test_what_was_tried_is_not_compiled_again(devices, shared, monkeypatch, compiled):
    """On several devices and with hyperparameters for each replica too."""

    def init(config, key, *, backend, env_axis):
        return {"key": key, "x": jax.random.uniform(key, (100,))}

    def train_phases(config, hparams, state, n, *, backend, env_axis):
        return {**state, "x": state["x"] * hparams.gamma}, {
            "env_steps": jnp.arange(config.n_pi * n)
        }

    monkeypatch.setattr(segments, "init", init)
    monkeypatch.setattr(segments, "train_phases", train_phases)
    config = CONFIG.replace(num_steps=2, total_timesteps=16, env="Acrobot-v1")  # of no other test
    found = Layout("chunk", devices, 2, 8, backend=ACCELERATOR)
    size = needed_bytes(config, found, Training(8, shared=shared))
    waiting = (found.num_batches - 1) * 2 * 400
    assert waiting + 2 * 400 <= size < 3 * (waiting + 2 * 400)
    names = "jit(<lambda>)", "jit(on_all_devices)"
    before = [compiled[name] for name in names]
    hparams = jax.tree.map(lambda x: x if shared else jnp.full(8, x), config.hparams)
    keys = jax.random.split(jax.random.key(0), 8)
    pace = Pace(spent=1000.0)
    *_, last = segments.train_segments(config, found, hparams, keys, shared=shared, pace=pace)
    assert last.compile_seconds > 1000
    after = [compiled[name] for name in names]
    assert sum(after) - sum(before) == 1, compiled  # the program of the first states
    assert sum(after) >= 2


def test_a_run_takes_the_largest_chunk_that_fits(accelerator, compiled, capsys):
    """By programs that are compiled for real, once each."""
    config = resolve(CONFIG.replace(env=probes.ConstantReward(), seeds=4, aux_storage="full"))
    all_four = possible_layouts(config, 4, backend=ACCELERATOR)[0]
    size = needed_bytes(config, all_four, Training(4))
    state, stored = replica_bytes(config, ACCELERATOR)
    assert 4 * (state + stored) < size
    accelerator(size)
    assert plan_training(config, Training(4)).layout == all_four
    assert compiled["jit(<lambda>)"] == 1
    accelerator(size - 1)
    result = ppg_jax.run(config, cache=False)
    assert (result.config.strategy, result.config.chunk_size) == ("chunk", 2)
    assert compiled["jit(<lambda>)"] == 3  # four together, two together, and their first states
    assert result.compile_seconds > 0.1
    shown = capsys.readouterr().out
    assert "compiling 2 together" in shown
    assert "4 seeds by chunk of 2" in shown
