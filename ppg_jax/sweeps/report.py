"""The results of a sweep as a ranked table and a figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ppg_jax.report import Chart, iqm_interval


def ranked(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    bad: Sequence[Sequence[int | None]],
) -> list[dict[str, float]]:
    """The settings as table rows, the best one first.

    Args:
      settings: the H settings.
      returns: final returns, ``[H, S]``.
      bad: first iteration with a NaN or infinite loss, or None, ``[H][S]``.

    Returns:
      Rows with the rank, the setting, the final IQM with its interval, and the number of seeds with
      a NaN or infinite loss.
    """
    rows = []
    for setting, scores, marks in zip(settings, returns, bad, strict=True):
        middle, low, high = iqm_interval([scores])
        lost = sum(mark is not None for mark in marks)
        rows.append({**setting, "iqm": middle, "low": low, "high": high, "bad_seeds": lost})
    scores = [float(np.nan_to_num(row["iqm"], nan=-np.inf)) for row in rows]
    ranks = [
        1 + sum(other > score for other in scores) for score in scores
    ]  # equal scores share a rank
    ranked = [{"rank": rank, **row} for rank, row in zip(ranks, rows, strict=True)]
    return sorted(ranked, key=lambda row: row["rank"])


def sweep_table(rows: Sequence[Mapping[str, float]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(f"{row[name]:g}" for name in names) + " |")
    return "\n".join(lines) + "\n"


def plot_sweep(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    bad: Sequence[Sequence[int | None]],
    title: str = "",
) -> Figure:
    """A heat map for a full grid of two hyperparameters, otherwise a line plot for each one.

    Args:
      settings: the H settings.
      returns: final returns, ``[H, S]``.
      bad: first iteration with a NaN or infinite loss, or None, ``[H][S]``; such seeds are marked.
      title: title of the figure; the number of seeds is added.
    """
    names = list(settings[0])
    values = {name: sorted({setting[name] for setting in settings}) for name in names}
    full = len(settings) == np.prod([len(v) for v in values.values()])
    lost = [sum(mark is not None for mark in marks) for marks in bad]
    is_grid = len(names) == 2 and full and min(map(len, values.values())) > 1
    draw = _heat_map if is_grid else _lines
    figure = draw(settings, returns, lost, names, values)
    seeds = f"{returns.shape[1]} seed" + "s" * (returns.shape[1] > 1)
    figure.suptitle(f"{title}, {seeds} a setting" if title else f"{seeds} a setting", fontsize=11)
    return figure


def _heat_map(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    lost: list[int],
    names: list[str],
    values: dict[str, list[float]],
) -> Figure:
    rows, columns = (values[name] for name in names)
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
    axes.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    axes.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    figure.colorbar(image, label="final return (IQM)")
    return figure


def _lines(
    settings: Sequence[Mapping[str, float]],
    returns: np.ndarray,
    lost: list[int],
    names: list[str],
    values: dict[str, list[float]],
) -> Figure:
    figure = Chart(figsize=(4.2 * len(names), 3.6), layout="constrained")
    first = None
    for number, name in enumerate(names):
        # All plots share one scale, so that a hyperparameter with little effect looks flat.
        axes = figure.add_subplot(1, len(names), number + 1, sharey=first)
        first = first or axes
        rows, marked = [], []
        for value in values[name]:
            here = [i for i, setting in enumerate(settings) if setting[name] == value]
            rows.append(iqm_interval([returns[i] for i in here]))
            marked.append(any(lost[i] for i in here))
        middle, low, high = np.array(rows).T
        axes.fill_between(values[name], low, high, color="#0072b2", alpha=0.2, linewidth=0)
        axes.plot(values[name], middle, color="#0072b2", marker="o")
        if any(marked):
            xs, ys = np.array(values[name])[marked], middle[marked]
            axes.plot(xs, ys, "x", color="#d55e00", markersize=11, label="some seeds NaN")
            axes.legend(frameon=False)
        positive = values[name][0] > 0
        if positive and values[name][-1] / values[name][0] >= 10:
            axes.set_xscale("log")
        axes.set_xlabel(name)
        if axes is first:
            axes.set_ylabel("final return (IQM)")
        axes.tick_params(labelleft=axes is first)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
