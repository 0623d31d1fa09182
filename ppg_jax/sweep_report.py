"""What a sweep came to: a ranked table, and a picture of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.report import Chart
from ppg_jax.summary import iqm, iqm_interval


def ranked(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    bad: Sequence[Sequence[int | None]],
) -> list[dict[str, float]]:
    """Rows, best first: rank, the setting, final IQM with interval, seeds that went wrong.

    Args:
      settings: H of them.
      returns: final returns, ``[H, S]``.
      bad: ``[H][S]``, where a loss first was not finite, or None.
    """
    rows = []
    for setting, scores, marks in zip(settings, returns, bad, strict=True):
        middle, low, high = iqm_interval([scores])
        lost = sum(mark is not None for mark in marks)
        rows.append({**setting, "iqm": middle, "low": low, "high": high, "bad_seeds": lost})
    rows.sort(key=lambda row: -np.nan_to_num(row["iqm"], nan=-np.inf))
    return [{"rank": i + 1, **row} for i, row in enumerate(rows)]


def sweep_table(rows: Sequence[Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(f"{row[name]:g}" for name in names) + " |")
    return "\n".join(lines) + "\n"


def plot_sweep(settings: Sequence[Mapping[str, float]], returns: np.ndarray) -> Figure:
    """A heat map for a full grid of two names, otherwise a line for each name.

    Args:
      settings: H of them.
      returns: final returns, ``[H, S]``.
    """
    names = list(settings[0])
    values = {name: sorted({setting[name] for setting in settings}) for name in names}
    full = len(settings) == np.prod([len(v) for v in values.values()])
    if len(names) == 2 and full and min(map(len, values.values())) > 1:
        return _heat_map(settings, returns, names, values)
    return _lines(settings, returns, names, values)


def _heat_map(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    names: list[str],
    values: dict[str, list[float]],
) -> Figure:
    rows, columns = (values[name] for name in names)
    grid = np.full((len(rows), len(columns)), np.nan)
    for setting, scores in zip(settings, returns, strict=True):
        place = rows.index(setting[names[0]]), columns.index(setting[names[1]])
        grid[place] = iqm(scores[np.isfinite(scores)]) if np.isfinite(scores).any() else np.nan
    figure = Chart(figsize=(1.5 + 1.1 * len(columns), 1.5 + 0.7 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (i, j), x in np.ndenumerate(grid):
        color = "white" if x < middle else "black"
        axes.text(j, i, f"{x:.1f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    axes.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    figure.colorbar(image, label="final return (IQM)")
    return figure


def _lines(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    names: list[str],
    values: dict[str, list[float]],
) -> Figure:
    figure = Chart(figsize=(4.2 * len(names), 3.4), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        rows = []
        for value in values[name]:
            chosen = [r for s, r in zip(settings, returns, strict=True) if s[name] == value]
            rows.append(iqm_interval(chosen))
        middle, low, high = np.array(rows).T
        axes.fill_between(values[name], low, high, color="#0072b2", alpha=0.2, linewidth=0)
        axes.plot(values[name], middle, color="#0072b2", marker="o")
        positive = values[name][0] > 0
        if positive and values[name][-1] / values[name][0] >= 10:
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.set_ylabel("final return (IQM)")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
