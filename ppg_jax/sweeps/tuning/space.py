"""What is searched: a range for each field, as a distribution of Optuna."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ppg_jax.config import ConfigError
from ppg_jax.sweeps.draws import range_of
from ppg_jax.sweeps.settings import field_name
from ppg_jax.sweeps.tuning.optional import import_optuna

PLAIN = str | int | float | bool | None
"""Choices that Optuna stores as they are. All others are stored as JSON."""


def distributions(space: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's distribution of each field.

    Args:
      space: for each field a range as in ``sweep``: ``{log: [low, high]}``,
        ``{uniform: [low, high]}``, ``{int: [low, high]}``, ``{choice: [...]}``, or a list.

    Raises:
      ConfigError: a name or a range is invalid.
    """
    if not isinstance(space, Mapping) or not space:
        raise ConfigError(f"space: {space!r} is invalid; it should map names of fields to ranges")
    found: dict[str, Any] = {}
    for given, spec in space.items():
        name = field_name(given)
        if name in found:
            raise ConfigError(f"{given}: is given twice, with and without its section; remove one")
        found[name] = _distribution(name, spec)
    return found


def _distribution(name: str, spec: Any) -> Any:
    optuna = import_optuna()
    kind, given = range_of(name, spec)
    if kind == "choice":
        return optuna.distributions.CategoricalDistribution([_stored(x) for x in given])
    low, high = given
    if kind == "int":
        return optuna.distributions.IntDistribution(low, high)
    return optuna.distributions.FloatDistribution(low, high, log=kind == "log")


def _stored(value: Any) -> Any:
    return value if isinstance(value, PLAIN) else f"json:{json.dumps(value)}"


def values_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a trial as a configuration takes them."""
    return {name: _read(value) for name, value in params.items()}


def _read(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("json:"):
        return json.loads(value.removeprefix("json:"))
    return value


def spec_of(space: Mapping[str, Any]) -> dict[str, Any]:
    """The space as plain values for a file."""
    return {str(name): _plain(spec) for name, spec in space.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return [_plain(entry) for entry in value] if listed else value
