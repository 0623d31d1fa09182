"""Random settings: values drawn from ranges, the same for the same seed."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ppg_jax.config import ConfigError, to_number

DIGITS = 4
"""Significant digits of a drawn float. More would make the tables hard to read."""
TRIES = 1_000
"""Number of draws in a row that may repeat earlier settings."""

Draw = Callable[[np.random.Generator], Any]


def drawn_rows(columns: Mapping[str, Any], draws: int, seed: int) -> list[dict[str, Any]]:
    """Different settings, drawn at random.

    Every field has random numbers of its own. So the first settings stay the same if more are
    drawn, and the values of a field if other fields are added.

    Args:
      columns: for each field a range, ``{log: [low, high]}``, ``{uniform: [low, high]}``,
        ``{int: [low, high]}`` (both ends included) or ``{choice: [...]}``; a list is a choice.
      draws: number of settings.
      seed: seed of the draws.

    Raises:
      ConfigError: a range is invalid, or has too few different values.
    """
    streams = {name: _stream(name, spec, seed) for name, spec in columns.items()}
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    repeats = 0
    while len(rows) < draws:
        row = {name: next(stream) for name, stream in streams.items()}
        repeats = repeats + 1 if repr(row) in seen else 0
        if repeats > TRIES:
            raise ConfigError(
                f"draws: {draws} is invalid; the ranges give about {len(rows)} different settings"
            )
        if not repeats:
            seen.add(repr(row))
            rows.append(row)
    return rows


def _stream(name: str, spec: Any, seed: int) -> Iterator[Any]:
    draw = _drawing(name, spec)
    random = np.random.default_rng([seed, *name.encode()])
    return iter(lambda: draw(random), object())


def range_of(name: str, spec: Any) -> tuple[str, Any]:
    """The kind of a range, and its two ends; or ``choice`` and a list.

    Raises:
      ConfigError: the range is invalid.
    """
    if isinstance(spec, Mapping):
        kind, given = next(iter(spec.items())) if len(spec) == 1 else ("", spec)
    else:
        kind, given = "choice", spec
    given = given.tolist() if hasattr(given, "tolist") else given
    if kind == "choice" and isinstance(given, Sequence) and not isinstance(given, str) and given:
        return kind, list(given)
    if kind not in ("log", "uniform", "int"):
        raise ConfigError(
            f"{name}: {spec!r} is invalid; it should be a list, {{choice: [...]}}, "
            "{log: [low, high]}, {uniform: [low, high]} or {int: [low, high]}"
        )
    return kind, _bounds(name, kind, given)


def _drawing(name: str, spec: Any) -> Draw:
    """The function that draws one value of a field.

    Raises:
      ConfigError: the range is invalid.
    """
    kind, given = range_of(name, spec)
    if kind == "choice":
        return lambda random: given[int(random.integers(len(given)))]
    low, high = given
    if kind == "int":
        return lambda random: int(random.integers(low, high, endpoint=True))
    if kind == "uniform":
        return lambda random: _rounded(random.uniform(low, high), low, high)
    ends = math.log(low), math.log(high)
    return lambda random: _rounded(math.exp(random.uniform(*ends)), low, high)


def _bounds(name: str, kind: str, given: Any) -> tuple[Any, Any]:
    """The two ends of a range.

    Raises:
      ConfigError: they are no numbers in ascending order, or do not suit the kind.
    """
    pair = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2
    low, high = map(to_number, given) if pair else (math.nan, math.nan)
    if kind == "int":  # 1e3 is a whole number too
        low, high = (int(x) if isinstance(x, float) and x.is_integer() else x for x in (low, high))
    kinds = int if kind == "int" else int | float
    valid = all(isinstance(x, kinds) and not isinstance(x, bool) for x in (low, high))
    if not valid or not low < high or not math.isfinite(high - low) or (kind == "log" and low <= 0):
        what = {"int": "whole numbers", "log": "numbers above 0"}.get(kind, "numbers")
        raise ConfigError(
            f"{name}: {{{kind}: {given!r}}} is invalid; it should have two {what}, low and high"
        )
    return low, high


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), float(low)), float(high))
