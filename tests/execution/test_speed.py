"""The timing of a phase: programs made anew, and when it is enough."""

import itertools

import jax
import numpy as np
import pytest

from ppg_jax.config import Config
from ppg_jax.execution import layout as layouts
from ppg_jax.execution import speed
from ppg_jax.execution.memory import peak_bytes
from ppg_jax.execution.program_cache import kept, own_programs
from ppg_jax.execution.segments import Start, train_segments

CONFIG = Config(
    num_envs=4, num_steps=8, n_pi=2, num_minibatches=2, arch="shared", e_aux=0,
    network={"hidden_sizes": (8,)}, total_timesteps=3 * 64,
)  # fmt: skip
MAP = layouts.Layout("map", 1, 1, 2)


def test_a_phase_is_timed_and_trains_on():
    """It is what a run does: after two phases the states are those of a run."""
    with own_programs():
        timer = speed.PhaseTimer(CONFIG, MAP)
    assert timer.steps == 2 * 64
    timer.start()
    assert timer() > 0
    keys = jax.random.split(jax.random.key(0), 2)
    two = CONFIG.replace(total_timesteps=2 * 64)
    *_, last = train_segments(two, MAP, two.hparams, keys, shared=True)
    for ours, theirs in zip(timer._states, last.states, strict=True):
        for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    timer.close()
    assert not isinstance(last, Start)


def test_own_programs_are_not_shared():
    made = itertools.count()
    find = kept(lambda config, layout: next(made))
    assert [find(CONFIG, MAP), find(CONFIG, MAP)] == [0, 0]
    for number in (1, 2):
        with own_programs():
            assert [find(CONFIG, MAP), find(CONFIG, MAP)] == [number] * 2
    assert find(CONFIG, MAP) == 0


class Timer:
    """Stands for ``PhaseTimer``: a phase takes two seconds."""

    start_seconds, trace_seconds, compile_seconds = 1.0, 2.0, 4.0
    compiled_bytes, compiled_peak_bytes = 100, 50

    def __init__(self, config, layout):
        self.layout, self.steps = layout, 64
        self.done = []

    def start(self):
        self.done.append("start")

    def __call__(self):
        return 2.0

    def close(self):
        self.done.append("close")


@pytest.mark.parametrize(("most", "times"), [(float("inf"), 7), (9.0, 5), (1.0, 3)])
def test_how_often(monkeypatch, most, times):
    monkeypatch.setattr(speed, "PhaseTimer", Timer)
    notes = []
    found = speed.measure_speed(CONFIG, 7, most_seconds=most, note=notes.append)
    assert found.run_seconds == (2.0,) * times
    assert found.steps_per_second == 32.0
    assert found.compile_seconds == 7.0
    assert found.plan.config.num_phases == 1
    assert notes[-1] == f"timing {times} of 7"
    assert found.device_peak_bytes is None


@pytest.mark.parametrize(("peaks", "told"), [((5, 9), 9), ((9, 9), None), ((None, None), None)])
def test_the_device_s_peak_counts_if_it_rose(monkeypatch, peaks, told):
    left = list(peaks)
    monkeypatch.setattr(speed, "PhaseTimer", Timer)
    monkeypatch.setattr(speed, "peak_bytes", lambda _: left.pop(0))
    assert speed.measure_speed(CONFIG, 1).device_peak_bytes == told


def test_peaks_of_devices(monkeypatch):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    found = [Device({"peak_bytes_in_use": n}) for n in (3, 7, 9)] + [Device(None)]
    monkeypatch.setattr(jax, "local_devices", lambda: found)
    assert peak_bytes(layouts.Layout("vmap", 2, 1, 2)) == 7
    assert peak_bytes(layouts.Layout("vmap", 4, 1, 4)) is None
