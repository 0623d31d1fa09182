"""Results as the table of ``README.md``."""

from collections.abc import Iterable, Mapping
from typing import Any

_HEAD = (
    "program", "target", "seeds", "compile s", "peak MiB", "must hold",
    "launches: rollout step", "policy minibatch", "aux minibatch", "per env step",
)  # fmt: skip


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown, one line for each row."""
    lines = [_HEAD, ["---"] * len(_HEAD), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    units = [row.get(name) for name in ("rollout_step", "policy_minibatch", "aux_minibatch")]
    launches = [_number(unit["launches"]) if unit else "" for unit in units]
    peak = _number(row["peak_mib"]) if "peak_mib" in row else ""
    if row.get("fits") is False:
        peak += " (too large)"
    seconds = row.get("compile_seconds")
    return [
        " ".join([f"`{row['program']}`", *_changes(row.get("changes") or {})]),
        row["target"],
        f"{row['seeds']:,}",
        _number(seconds) if seconds else row.get("error", ""),
        peak,
        _number(row["must_hold_mib"]) if "must_hold_mib" in row else "",
        *launches,
        f"{row['launches_per_env_step']:.3g}" if "launches_per_env_step" in row else "",
    ]


def _changes(changes: Mapping[str, Any], path: str = "") -> list[str]:
    """Changed fields as ``--set`` takes them."""
    cells: list[str] = []
    for name, value in changes.items():
        if isinstance(value, Mapping):
            cells += _changes(value, f"{path}{name}.")
        else:
            cells.append(f"`{path}{name}={value}`")
    return cells


def _number(x: float) -> str:
    """Whole from 100 on, else with one decimal."""
    return f"{x:,.0f}" if x >= 100 or x == int(x) else f"{x:.1f}"
