"""What is shown while a run is under way: in 80 columns, in a notebook, and who was lost."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ppg_jax.config.config import Config
from ppg_jax.execution.segments import Segment
from ppg_jax.runs.progress import Bar, Cell, Lines, Snapshot, Watch, make_display

CONFIG = Config(total_timesteps=8192 * 320)  # ten phases
RETURNS = np.array([419.43, 137.9, np.nan])


def half(**changes):
    fields = {"iterations": 160, "phases": 5, "env_steps": 160 * 3 * 8192, "speed": 3 * 8192.0}
    return Snapshot(**fields | {"returns": RETURNS, "bad": 0} | changes)


def test_the_bar_fits_on_80_columns(tmp_path):
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=80, force_terminal=True, color_system=None)
        bar = make_display(console, CONFIG)
        assert isinstance(bar, Bar)
        bar.update(half(bad=2))
        console.print(bar)
    text = (tmp_path / "out").read_text()
    assert "phase 5/10" in text
    assert "3.93M steps 24.6k/s return 278.7 ± 140.8 0:02:40 left 2 of 3 NaN" in text


@pytest.mark.parametrize(
    ("steps", "short"),
    [(0, "0"), (999, "999"), (1000, "1.00k"), (999_700, "1000k"), (2.5e9, "2.50G")],
)
def test_numbers_are_short(tmp_path, steps, short):
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=100, force_terminal=True, color_system=None)
        bar = Bar(console, CONFIG)
        bar.update(half(env_steps=steps))
        console.print(bar)
    assert f" {short} steps " in (tmp_path / "out").read_text()


def test_a_notebook_shows_one_bar_that_changes(monkeypatch):
    shown, changed = [], []

    def display(content, raw, display_id):
        assert raw
        assert display_id
        shown.append(content)
        return SimpleNamespace(update=lambda content, raw: changed.append(content))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    cell = make_display(Console(force_jupyter=True), CONFIG)
    assert isinstance(cell, Cell)
    with cell:
        cell.update(half())
        cell.update(half(iterations=161))  # too soon to be shown
        cell.update(half(iterations=320, phases=10))
    assert len(shown) == len(changed) == 1
    assert "0:02:40 left" in shown[0]["text/plain"]
    assert '<progress value="160" max="320">' in shown[0]["text/html"]
    assert '<progress value="320" max="320">' in changed[0]["text/html"]


def segment(first, iterations, lost, rows=3):
    """Metrics of some trainings, lost ones by row and iteration."""
    loss = np.zeros((rows, iterations))
    for row, at in lost:
        loss[row, at:] = np.nan
    names = ("policy_loss", "value_loss", "clone_kl", "aux_value_loss", "aux_phase_value_loss")
    steps = np.tile(8192 * np.arange(first + 1, first + iterations + 1), (rows, 1))
    metrics = dict.fromkeys(names, loss) | {"env_steps": steps, "num_episodes": np.ones_like(steps)}
    metrics["episode_return"] = np.ones(steps.shape)
    return Segment(metrics, (first + iterations) // 32, True, [], 0.0, 10.0)


def test_a_lost_training_is_named_once_and_stays_marked(tmp_path):
    with (tmp_path / "out").open("w") as file:
        display = Lines(Console(file=file, width=200), CONFIG, every=0.0)
        watch = Watch(CONFIG, 3, display, lambda row: f"seed {row}")
        watch.update(segment(0, 64, []))
        watch.update(segment(64, 64, [(1, 5)]))
        watch.update(segment(128, 64, [(1, 0), (2, 63)]))
        watch.update(segment(192, 64, []))  # as where an infinite loss came and went
    text = (tmp_path / "out").read_text()
    assert text.count("warning: seed 1: the loss is NaN or infinite from iteration 69 on") == 1
    assert text.count("warning: seed 2: the loss is NaN or infinite from iteration 191 on") == 1
    assert "seed 0" not in text
    assert text.splitlines()[-1].endswith("2 of 3 NaN")
    assert "NaN" not in text.splitlines()[0]


def test_many_lost_trainings_are_counted(tmp_path):
    with (tmp_path / "out").open("w") as file:
        display = Lines(Console(file=file, width=200), CONFIG)
        watch = Watch(CONFIG, 20, display, lambda row: f"seed {row}")
        watch.update(segment(0, 64, [(row, 0) for row in range(20)], rows=20))
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line.split(":")[1] for line in lines[:8]] == [f" seed {row}" for row in range(8)]
    assert lines[8] == "warning: the same for 12 more"
    assert lines[9].endswith("20 of 20 NaN")
