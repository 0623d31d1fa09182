"""Display of runs and sweeps in a notebook: a line of text and a small table."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppg_jax.config import Config
from ppg_jax.report.groups import algorithm_name
from ppg_jax.report.statistics import mean_interval

MOST_ROWS = 16
"""Largest number of rows of a table."""


def run_line(kind: str, config: Config, returns: np.ndarray, *notes: str) -> str:
    """One line about a run: algorithm, environment, number of seeds and final return."""
    parts = [
        f"{algorithm_name(config)} on {config.env_name}",
        f"{config.seeds} seed" + "s" * (config.seeds > 1),
        f"final return {interval(returns)}",
        *filter(None, notes),
    ]
    return f"<{kind}: {', '.join(parts)}>"


def interval(returns: np.ndarray) -> str:
    """Mean and 95% bootstrap interval, as text."""
    if not np.isfinite(returns).any():
        return "unknown: no episode ended"
    mean, low, high = mean_interval(returns)
    return f"{mean:.2f}" + (f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else "")


def seed_rows(returns: np.ndarray, bad: Sequence[int | None]) -> list[dict[str, str]]:
    """A row for each seed: its final return, and the first iteration with a NaN loss, if any."""
    return [
        {
            "seed": str(seed),
            "final return": f"{value:.2f}",
            "loss": "finite" if at is None else f"NaN from iteration {at}",
        }
        for seed, (value, at) in enumerate(zip(returns, bad, strict=True))
    ]


def table_html(title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> str:
    """At most ``MOST_ROWS`` rows as an HTML table. All text is escaped."""
    cells = [list(rows[0])] if rows else []
    cells += [[_short(value) for value in row.values()] for row in rows[:MOST_ROWS]]
    lines = [f"<b>{html.escape(title.strip('<>'))}</b>", "<table>"]
    for number, row in enumerate(cells):
        kind = "th" if number == 0 else "td"
        line = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row)
        lines.append(f"<tr>{line}</tr>")
    lines.append("</table>")
    more = [f"{len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
    lines += [f"<div>{html.escape(note)}</div>" for note in (*more, *notes)]
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
