"""The results of a sweep as figures: final returns over the fields, and learning curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppg_jax.config import Config
from ppg_jax.report import (
    Chart,
    Group,
    algorithm_name,
    final_returns,
    in_words,
    iqm_interval,
    plot_curves,
    short,
)
from ppg_jax.runs import Result

MOST_COLOURS = 7
"""Number of settings whose learning curves are drawn in colour; the eighth colour is a grey."""
MOST_NAMED = 12
"""Largest number of values of a field that are named on a heat map's axis."""

Columns = dict[str, list[Any]]
"""The different values of each field, in order."""


def plot_sweep(
    settings: Sequence[Mapping[str, Any]],
    returns: np.ndarray,
    bad: Sequence[Sequence[int | None]],
    config: Config | None = None,
) -> Figure:
    """A heat map for a full grid of two fields, otherwise a plot for each field.

    Numbers are drawn as a line with its interval. Other values, such as names, are drawn side by
    side. If there are different settings with one value, their seeds are pooled.

    Args:
      settings: the H settings.
      returns: final returns, ``[H, S]``.
      bad: first iteration with a NaN or infinite loss, or None, ``[H][S]``; such seeds are marked.
      config: configuration of the sweep, for the title.
    """
    names = list(settings[0])
    values = {name: _different([setting[name] for setting in settings]) for name in names}
    sizes = [len(column) for column in values.values()]
    full = len(settings) == math.prod(sizes)
    lost = [sum(mark is not None for mark in marks) for marks in bad]
    is_grid = len(names) == 2 and full and min(sizes) > 1 and max(sizes) <= MOST_NAMED
    draw = _heat_map if is_grid else _panels
    figure = draw(settings, returns, lost, values)
    seeds = f"{returns.shape[1]} seed" + "s" * (returns.shape[1] > 1) + " a setting"
    figure.suptitle(", ".join([*_title(config, names), seeds]), fontsize=11)
    return figure


def _title(config: Config | None, names: Sequence[str]) -> list[str]:
    """The algorithm and the environment, unless they are swept."""
    if config is None:
        return []
    algorithm = "" if {"arch", "e_aux"} & set(names) else algorithm_name(config)
    env = "" if "env" in names else config.env_name
    return [" on ".join(filter(None, [algorithm, env]))] if algorithm or env else []


def _different(column: Sequence[Any]) -> list[Any]:
    """The different values: numbers sorted, all others in order of appearance."""
    found = list({short(value): value for value in column}.values())
    return sorted(found) if all(map(_is_number, found)) else found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _heat_map(
    settings: Sequence[Mapping[str, Any]], returns: np.ndarray, lost: list[int], values: Columns
) -> Figure:
    names = list(values)
    rows, columns = values.values()
    places = [(rows.index(s[names[0]]), columns.index(s[names[1]])) for s in settings]
    middles = [iqm_interval([scores])[0] for scores in returns]
    grid = np.full((len(rows), len(columns)), np.nan)
    grid[tuple(zip(*places, strict=True))] = middles
    figure = Chart(figsize=(1.8 + 1.1 * len(columns), 1.3 + 0.65 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    known = grid[np.isfinite(grid)]
    half = (known.min() + known.max()) / 2 if known.size else 0.0
    for (i, j), x, count in zip(places, middles, lost, strict=True):
        text = f"{x:.1f}" if np.isfinite(x) else "no episode"
        text += f"\n{count} of {returns.shape[1]} NaN" if count else ""
        color = "white" if x < half else "black"
        axes.text(j, i, text, ha="center", va="center", color=color, linespacing=1.4)
    axes.set_xticks(range(len(columns)), [short(v) for v in columns])
    axes.set_yticks(range(len(rows)), [short(v) for v in rows])
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    figure.colorbar(image, label="final return (IQM)")
    return figure


def _panels(
    settings: Sequence[Mapping[str, Any]], returns: np.ndarray, lost: list[int], values: Columns
) -> Figure:
    columns = min(4, len(values))
    rows = -(-len(values) // columns)
    figure = Chart(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    first = None
    for number, (name, column) in enumerate(values.items()):
        # All plots share one scale, so that a field with little effect looks flat.
        axes = figure.add_subplot(rows, columns, number + 1, sharey=first)
        first = first or axes
        here = [
            [i for i, setting in enumerate(settings) if short(setting[name]) == short(value)]
            for value in column
        ]
        intervals = np.array([iqm_interval([returns[i] for i in each]) for each in here])
        marked = [any(lost[i] for i in each) for each in here]
        _draw_field(axes, column, intervals, marked)
        axes.set_xlabel(name)
        if number % columns == 0:
            axes.set_ylabel("final return (IQM)")
        axes.tick_params(labelleft=number % columns == 0)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_field(
    axes: Axes, column: Sequence[Any], intervals: np.ndarray, marked: Sequence[bool]
) -> None:
    """Final returns over the values of one field; ``intervals`` are ``[values, 3]``."""
    middle, low, high = intervals.T
    numbers = all(map(_is_number, column))
    xs = np.array(column if numbers else range(len(column)), float)
    if numbers:
        axes.fill_between(xs, low, high, color="#0072b2", alpha=0.2, linewidth=0)
        axes.plot(xs, middle, color="#0072b2", marker="o")
        if xs[0] > 0 and xs[-1] / xs[0] >= 10:
            axes.set_xscale("log")
    else:
        spans = np.array([middle - low, high - middle])
        axes.errorbar(xs, middle, yerr=spans, color="#0072b2", marker="o", linestyle="none",
                      capsize=4)  # fmt: skip
        tilted = max(len(short(value)) for value in column) * len(column) > 40
        axes.set_xticks(xs, [short(value) for value in column], rotation=30 if tilted else 0)
        axes.set_xlim(-0.5, len(column) - 0.5)
    if any(marked):
        where = np.array(marked)
        axes.plot(xs[where], middle[where], "x", color="#d55e00", markersize=11,
                  label="some seeds NaN")  # fmt: skip
        axes.legend(frameon=False)


def plot_setting_curves(
    settings: Sequence[Mapping[str, Any]],
    runs: Sequence[Result | None],
    rows: Sequence[Mapping[str, Any]],
) -> Figure:
    """A learning curve for each setting, with a panel for each environment.

    The best settings of each environment are drawn in colour, with their 95% intervals over seeds.
    If there are more, the others are thin grey lines.

    Args:
      settings: the H settings.
      runs: their results; None: not trained.
      rows: the ranked settings, as from ``ranked``.
    """
    envs = {run.config.env_name for run in runs if run}
    most = max(1, MOST_COLOURS // max(1, len(envs)))
    best: dict[str, list[Group]] = {env: [] for env in sorted(envs)}
    others: list[Group] = []
    for row in rows:
        number = row["setting"]
        run = runs[number]
        if run is None or not np.isfinite(final_returns(run.metrics, 1.0)).any():
            continue
        group = Group(f"{number}: {in_words(settings[number])}", (run,))
        found = best[run.config.env_name]
        (found if len(found) < most else others).append(group)
    return plot_curves([group for groups in best.values() for group in groups], behind=others)
