"""The results of a sweep as a ranked table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppg_jax.report import iqm_interval, short


def ranked(
    settings: Sequence[Mapping[str, Any]],
    returns: np.ndarray,
    bad: Sequence[Sequence[int | None]],
) -> list[dict[str, Any]]:
    """The settings as table rows, the best one first.

    Equal returns share a rank, and the next ranks are left out. Settings without a return come
    last. If the environment is swept, the settings of each environment are ranked among themselves.

    Args:
      settings: the H settings.
      returns: final returns, ``[H, S]``.
      bad: first iteration with a NaN or infinite loss, or None, ``[H][S]``.

    Returns:
      Rows with the rank, the number of the setting, its values, the final IQM with its interval,
      and the number of seeds with a NaN or infinite loss.
    """
    rows = []
    for number, (setting, scores, marks) in enumerate(zip(settings, returns, bad, strict=True)):
        middle, low, high = iqm_interval([scores])
        lost = sum(mark is not None for mark in marks)
        result = {"iqm": middle, "low": low, "high": high, "bad_seeds": lost}
        rows.append({"setting": number, **setting, **result})
    envs = [str(setting.get("env", "")) for setting in settings]
    order = {env: place for place, env in enumerate(dict.fromkeys(envs))}
    scores = [float(np.nan_to_num(row["iqm"], nan=-np.inf)) for row in rows]
    ranks = [
        1 + sum(other > score for other, where in zip(scores, envs, strict=True) if where == env)
        for score, env in zip(scores, envs, strict=True)
    ]
    found = [{"rank": rank, **row} for rank, row in zip(ranks, rows, strict=True)]
    return sorted(found, key=lambda row: (order[envs[row["setting"]]], row["rank"]))


def sweep_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        lines.append("| " + " | ".join(short(row[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"
