"""Pictures of a search."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ppg_jax.report import exact
from ppg_jax.sweeps.tuning.study import Trial


def plot_importances(importances: Mapping[str, float]) -> Figure:
    """A bar for each searched field: its share in how much the scores vary."""
    names = list(importances)[::-1]
    figure = Figure(figsize=(6, 1 + 0.4 * max(1, len(names))), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [importances[name] for name in names], color="#4477aa")
    axes.set_xlabel("importance (PED-ANOVA)" if names else "too few finished trials")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_parallel(trials: Sequence[Trial]) -> Figure:
    """Parallel coordinates: an axis for each field, a line for each finished trial.

    A field whose values are numbers, all above 0 and over more than a factor of 20, has a
    logarithmic axis. Values that are no numbers stand in the order of their names.
    """
    finished = sorted((t for t in trials if t.finished), key=lambda t: t.score)
    names = list(finished[0].values) if finished else []
    figure = Figure(figsize=(2 + 1.6 * max(1, len(names)), 4), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    if not finished:
        axes.set_xticks([])
        return figure
    places = {name: _places([t.values[name] for t in finished]) for name in names}
    scores = [t.score for t in finished]
    colour = ScalarMappable(Normalize(min(scores), max(scores)), "viridis")
    colours = colour.to_rgba(np.array(scores))
    for number, own in enumerate(colours):
        line = [places[name][0][number] for name in names]
        axes.plot(range(len(names)), line, color=own, lw=1.5, alpha=0.8)
    for x, name in enumerate(names):
        axes.axvline(x, color="#888888", lw=0.8)
        for place, label in places[name][1]:
            axes.annotate(label, (x, place), xytext=(3, 0), textcoords="offset points", fontsize=8)
    axes.set_xticks(range(len(names)), names)
    figure.colorbar(colour, ax=axes, label="score")
    return figure


def _places(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values stand on an axis from 0 to 1, and labels of some places."""
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    if not numbers or len(set(values)) == 1:
        known = sorted({exact(x) for x in values}) if not numbers else [exact(values[0])]
        where = {name: (i + 0.5) / len(known) for i, name in enumerate(known)}
        return [where[exact(x)] for x in values], [(y, name) for name, y in where.items()]
    low, high = float(min(values)), float(max(values))
    log = low > 0 and high / low > 20
    ends = (math.log(low), math.log(high)) if log else (low, high)
    inside = [math.log(x) if log else float(x) for x in values]
    places = [(x - ends[0]) / (ends[1] - ends[0]) for x in inside]
    ticks = np.linspace(*ends, 4)
    return places, [(i / 3, f"{math.exp(x) if log else x:.3g}") for i, x in enumerate(ticks)]
