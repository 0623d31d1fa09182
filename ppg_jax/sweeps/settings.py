"""The settings of a sweep: names and values in, one checked configuration for each setting out."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ppg_jax.config import (
    Config,
    ConfigError,
    Hyperparams,
    NetworkConfig,
    all_field_names,
    check_whole,
    did_you_mean,
)
from ppg_jax.report import in_words
from ppg_jax.sweeps.draws import drawn_rows

SECTIONS = {
    "hparams": [field.name for field in dataclasses.fields(Hyperparams)],
    "network": [field.name for field in dataclasses.fields(NetworkConfig)],
}
"""Fields of a section. Their names are unique, so a sweep names them without the section."""
MAPPINGS = ("env_params", "env_kwargs")
"""Fields whose entries may be swept one by one, as in ``env_params.length``."""

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a sweep.

    Attributes:
      number: its number, from 0.
      values: plain values of the swept fields, by name, as the configuration holds them.
      config: configuration with these values.
    """

    number: int
    values: dict[str, Any]
    config: Config

    def __str__(self) -> str:
        return in_words(self.values)


def make_settings(
    values: Values, *, zipped: bool = False, draws: int | None = None, draw_seed: int = 0
) -> list[dict[str, Any]]:
    """The values of each setting: a grid, the rows of a table, or random draws. Not yet checked.

    Args:
      values: for each field a list of values or, with ``draws``, a range.
      zipped: whether the lists are the columns of a table. Otherwise every combination is a
        setting, and the last name varies fastest.
      draws: number of settings to draw at random; None: lists only.
      draw_seed: seed of the draws.

    Raises:
      ConfigError: there are no values, a name is unknown, or columns differ in length.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"values: {values!r} is invalid; it should map names to lists")
    columns: dict[str, Any] = {}
    for given, column in values.items():
        name = field_name(given)
        if name in columns:
            raise ConfigError(f"{given}: is given twice, with and without its section; remove one")
        columns[name] = column
    if draws is not None:
        if zipped:
            raise ConfigError("draws: is invalid for a table (zipped); leave one of the two out")
        check_whole("draws", draws, 1)
        return drawn_rows(columns, draws, check_whole("draw_seed", draw_seed, 0, 2**32 - 1))
    columns = {name: _column(name, column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if zipped and len(set(lengths.values())) > 1:
        raise ConfigError(
            f"values: zipped lists should be equally long; their lengths are {lengths}"
        )
    combined = zip(*columns.values(), strict=True) if zipped else itertools.product(
        *columns.values()
    )  # fmt: skip
    return [dict(zip(columns, row, strict=True)) for row in combined]


def checked_settings(
    config: Config, rows: Sequence[Mapping[str, Any]], first: int = 0
) -> list[Setting]:
    """The settings of rows of values, each checked by ``Config``.

    Args:
      config: configuration whose fields hold where a row gives no value.
      rows: values by name, one row for each setting.
      first: number of the first setting.

    Raises:
      ConfigError: a value is invalid; the message names the setting.
    """
    settings = []
    for number, row in enumerate(rows, first):
        try:
            made = with_values(config, row)
        except ConfigError as error:
            raise ConfigError(f"setting {number} ({in_words(row)}): {error}") from None
        settings.append(Setting(number, {name: value_of(made, name) for name in row}, made))
    return settings


def field_name(name: Any) -> str:
    """The name of a field as sweeps write it: without ``hparams.`` and ``network.``.

    Raises:
      ConfigError: there is no such field, or it cannot be swept.
    """
    section, _, tail = str(name).rpartition(".")
    if section in MAPPINGS and tail:
        return str(name)
    known = [tail for names in SECTIONS.values() for tail in names]
    if tail in SECTIONS.get(section, known if not section else []):
        return tail
    if name in SECTIONS:
        raise ConfigError(f"{name}: is a section; name a field of it, as {name}.{known[0]}")
    if name == "seeds":
        raise ConfigError("seeds: all settings have the same number; give it beside values")
    fields = [full for full in all_field_names(Config) if full != "seeds"]
    if name in fields:
        return str(name)
    hint = did_you_mean(str(name), [full.rpartition(".")[2] for full in fields])
    raise ConfigError(f"{name}: is not a field; {hint or 'ppg-jax sweep --help shows all'}")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with the values of a setting, after the usual checks.

    Raises:
      ConfigError: a value is invalid.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        section, tail = _place(name)
        if not section:
            changes[tail] = value
            continue
        if section not in changes:
            changes[section] = _entries(getattr(config, section))
        changes[section] = {**changes[section], tail: value}
    return config.replace(**changes)


def value_of(config: Config, name: str) -> Any:
    """The value of a swept field in a configuration, with lists for tuples."""
    section, tail = _place(name)
    value = _entries(getattr(config, section)).get(tail) if section else getattr(config, tail)
    return _plain(value)


def is_hyperparameter(name: str) -> bool:
    """Whether a field may be traced, so that its values share a program."""
    return name in SECTIONS["hparams"]


def _place(name: str) -> tuple[str, str]:
    """The section of a field (empty: none) and its name there."""
    section, _, tail = name.rpartition(".")
    if section:
        return section, tail
    return next((s for s, names in SECTIONS.items() if tail in names), ""), tail


def _entries(section: Any) -> dict[str, Any]:
    if isinstance(section, Mapping):
        return dict(section)
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _column(name: str, column: Any) -> list[Any]:
    if isinstance(column, Mapping):
        raise ConfigError(f"{name}: {dict(column)!r} is a range; say with draws how many to draw")
    listed = column.tolist() if hasattr(column, "tolist") else column
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
        raise ConfigError(f"{name}: {column!r} is invalid; it should be a list of values")
    return list(listed)
