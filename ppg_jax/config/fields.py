"""Types of field values: how they are parsed, and how an invalid value is reported."""

import dataclasses
import difflib
import functools
import numbers
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from ppg_jax.config.other_names import OTHER_NAMES


class ConfigError(ValueError):
    """An invalid setting. The message is one line: field, value, remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # names and values may contain line breaks


class FrozenMapping(dict[str, Any]):
    """A mapping that can be hashed, so that a ``Config`` can be a static argument of ``jit``."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def to_count(value: Any) -> Any:
    """Parses a whole number: 128, "128", 1e6, "1e6" and "1_000_000" work; a bool does not."""
    if isinstance(value, bool):
        raise ValueError("it should be a whole number")
    value = to_number(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def to_number(value: Any) -> Any:
    """Text as a number if it is one ("1e6" is text in YAML); every other value unchanged."""
    for parse in (int, float) if isinstance(value, str) else ():
        try:
            return parse(value)
        except ValueError:
            continue
    return value


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it should be a number")
    return value


def yaml_off(value: Any) -> Any:
    return "off" if value is False else value  # YAML 1.1 reads a bare off as false


def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sorts names and removes repetitions, so that equal settings compare as equal."""
    return tuple(sorted(set(names)))


def _freeze(value: Any) -> Any:
    if value is None:
        return FrozenMapping()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise ValueError("it should be a mapping of names to values")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"the key {name!r} should be a name")
    return FrozenMapping({name: _freeze_entry(name, entry) for name, entry in value.items()})


def _freeze_entry(name: str, entry: Any) -> Any:
    """A number, a text, or nested tuples of these. Arrays become nested tuples."""
    if isinstance(entry, list | tuple):
        return tuple(_freeze_entry(name, part) for part in entry)
    if isinstance(entry, str | bool | int | float | None):
        return to_number(entry)
    try:
        return _freeze_entry(name, entry.tolist())
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{name} is {entry!r}, but it should be a plain number") from None


def env_reference(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        return value
    # Look at the class: a gymnax wrapper forwards these names to the environment inside it, so
    # training would bypass the wrapper.
    methods = [getattr(type(value), name, None) for name in ("step_env", "reset_env")]
    if all(map(callable, methods)) or hasattr(type(value), "mask_key"):
        return value  # all environments and batches of suites have a ``mask_key``
    raise ValueError(
        "it should be the id of an environment (ppg-jax list shows them), a SuiteEnvironment or "
        "SuiteBatch, or a gymnax environment with its own step_env and reset_env, not a wrapper or "
        "a class"
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None.

    The part after the last dot counts more than the section before it.
    """
    known = list(known)
    tails: dict[str, str] = {}
    for full in known:
        tails.setdefault(full.rpartition(".")[2], full)
    tail = name.rpartition(".")[2].lower().replace("-", "_")
    other = OTHER_NAMES.get(tail, "")
    for found in (other, other.rpartition(".")[2]):
        if found in known:
            return found
    if tail in tails:
        return tails[tail]
    near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
    near = near or [tails[t] for t in difflib.get_close_matches(tail, list(tails), 1, cutoff=0.5)]
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The text ``did you mean X? `` for the nearest known name, or an empty text."""
    found = nearest(name, known)
    return f"did you mean {found}? " if found else ""


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Checks a whole number that was passed to a function.

    Args:
      name: name of the argument, for the message.
      value: the argument. Numpy integers are valid, bools and floats are not.
      least: smallest valid value.
      most: largest valid value; None: no limit.

    Raises:
      ConfigError: the value is not a whole number, or is out of range.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return int(value)
    limit = f"at least {least}" if most is None else f"from {least} to {most}"
    raise ConfigError(f"{name}: {value!r} is invalid; it should be a whole number, {limit}")


OBJECT = "<object "
"""Prefix of the name of an environment or encoder that was an object: a file stores no objects."""

SECTIONS = ("network", "hparams", "env_params", "env_kwargs")
"""Fields that contain other fields."""

Count = Annotated[int, BeforeValidator(to_count)]
Real = Annotated[float, BeforeValidator(_not_bool)]
Sizes = Annotated[tuple[Annotated[Count, Field(ge=1)], ...], Field(min_length=1)]
Settings = Annotated[Any, BeforeValidator(_freeze)]

STRICT = pydantic.ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    arbitrary_types_allowed=True,
    revalidate_instances="always",
)


def one_line(error: pydantic.ValidationError, kind: type) -> str:
    """The errors that pydantic found, as one line."""
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"] if part not in ("function-before",)]
        where = ".".join(path)
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            lines[where] = f"{where}: unknown field{_meant(where, kind)}"
            continue
        reason = _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
        problem = f"{where}: {item['input']!r} is invalid; {_decapitalize(reason)}"
        lines.setdefault(where, problem if where else reason)
    # For a list with an invalid entry, pydantic also reports that the list is too short.
    inner = {where.rpartition(".")[0] for where in lines if where.rpartition(".")[2].isdigit()}
    return "; ".join(line for where, line in lines.items() if where not in inner)


_WORDS = {
    "int_parsing": "it should be a whole number",
    "int_type": "it should be a whole number",
    "int_from_float": "it should be a whole number",
    "float_parsing": "it should be a number",
    "float_type": "it should be a number",
    "bool_parsing": "it should be true or false",
    "bool_type": "it should be true or false",
    "tuple_type": "it should be a list",
    "too_short": "it should contain at least one value",
    "dataclass_type": "it should be a mapping of names to values",
}
"""Messages for pydantic's error types, for users who do not write Python."""


def _decapitalize(text: str) -> str:
    text = text.replace("Input should", "it should")
    return text[:1].lower() + text[1:]


def _meant(where: str, kind: type) -> str:
    """A hint that names the field that was probably meant by an unknown name."""
    found = nearest(where, all_field_names(kind))
    return f"; did you mean {found}?" if found else "; ppg-jax train --help shows all"


def all_field_names(kind: type, prefix: str = "") -> list[str]:
    """Names of all fields of a configuration class; fields in sections have dotted names."""
    names = []
    for f in dataclasses.fields(kind):
        default = f.default.default if isinstance(f.default, FieldInfo) else f.default
        section = type(default) if dataclasses.is_dataclass(default) else None
        nested = all_field_names(section, f"{prefix}{f.name}.") if section else []
        names += nested or [prefix + f.name]
    return names


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Moves fields with dotted names (``network.memory``) into their sections.

    Raises:
      ConfigError: a field is given both by its dotted name and inside its section.
    """
    plain = {name: value for name, value in fields.items() if not _is_dotted(name)}
    for name, value in fields.items():
        if _is_dotted(name):
            head, _, tail = name.partition(".")
            section = plain.get(head)
            section = {} if section is None else section
            if dataclasses.is_dataclass(section) and not isinstance(section, type):
                section = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
                section.pop(tail, None)
            if not isinstance(section, Mapping):
                raise ConfigError(f"{head}: {section!r} is invalid; it should be a mapping")
            if tail in section:
                raise ConfigError(
                    f"{name}: is given twice, by this name and inside {head}; keep one"
                )
            plain[head] = {**section, tail: value}
    return plain


def _is_dotted(name: Any) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in SECTIONS and "." in name


def with_clear_errors(cls: type) -> None:
    """Makes the constructor of a class raise ``ConfigError`` instead of pydantic's error."""
    build = cls.__init__  # type: ignore[misc]

    def construct(self: Any, *args: Any, **fields: Any) -> None:
        try:
            build(self, *args, **nested(fields))
        except pydantic.ValidationError as error:
            raise ConfigError(one_line(error, cls)) from None

    cls.__init__ = functools.wraps(build)(construct)  # type: ignore[misc]


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as a flat mapping from dotted names to values."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat
