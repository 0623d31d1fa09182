"""The kinds of values that fields hold, how they are read, and how a bad one is reported."""

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
    """A setting that cannot work. The message is one line: field, value, remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # a name or a value may hold line breaks


class FrozenMapping(dict[str, Any]):
    """A mapping that can be hashed, so that a ``Config`` can be a static argument of ``jit``."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def to_count(value: Any) -> Any:
    """Whole numbers as people write them: 128, "128", 1e6, "1e6", "1_000_000"; never a bool."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    value = to_number(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def to_number(value: Any) -> Any:
    """Text that is a number as that number ("1e6" too, which YAML takes for text); else as is."""
    for parse in (int, float) if isinstance(value, str) else ():
        try:
            return parse(value)
        except ValueError:
            continue
    return value


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def yaml_off(value: Any) -> Any:
    return "off" if value is False else value  # YAML 1.1 reads a bare off as false


def in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without repetition, sorted: what is the same should look the same."""
    return tuple(sorted(set(names)))


def _freeze(value: Any) -> Any:
    if value is None:
        return FrozenMapping()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise ValueError("must be a mapping of names to values")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"has the key {name!r}; keys must be names")
    return FrozenMapping({name: _freeze_entry(name, entry) for name, entry in value.items()})


def _freeze_entry(name: str, entry: Any) -> Any:
    """A number, text, or nested tuples of them; arrays of parameters become such."""
    if isinstance(entry, list | tuple):
        return tuple(_freeze_entry(name, part) for part in entry)
    if isinstance(entry, str | bool | int | float | None):
        return to_number(entry)
    try:
        return _freeze_entry(name, entry.tolist())
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise ValueError(f"has {name}={entry!r}; values must be plain numbers") from None


def env_reference(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        return value
    # Asked of its class: gymnax's wrappers pass these names on to what they wrap, unwrapped.
    methods = [getattr(type(value), name, None) for name in ("step_env", "reset_env")]
    if all(map(callable, methods)):
        return value
    raise ValueError(
        "must be the id of an environment (ppg-jax list shows them) or a gymnax environment with "
        "step_env and reset_env of its own, not a wrapper or a class"
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any: sections count less than the rest."""
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
    """``did you mean X? `` for the known name that is nearest, or nothing."""
    found = nearest(name, known)
    return f"did you mean {found}? " if found else ""


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number that a function was given, checked as the command line checks its options.

    Args:
      name: of the argument, for the message.
      value: what was given; a numpy integer will do, a bool or a float will not.
      least: smallest that will do.
      most: largest, if there is one.

    Raises:
      ConfigError: it is another kind of thing, or outside.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return int(value)
    limit = f"at least {least}" if most is None else f"from {least} to {most}"
    raise ConfigError(f"{name}: {value!r} is invalid; it should be a whole number, {limit}")


SECTIONS = ("network", "hparams", "env_params", "env_kwargs")
"""Fields that hold fields."""

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
    """What pydantic found, as one line a person can act on."""
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
    # Of a list with a bad entry pydantic also says that nothing is left of it.
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
    "too_short": "it should hold at least one value",
    "dataclass_type": "it should be a mapping of names to values",
}
"""What pydantic says by kind of mistake, for people who write no Python."""


def _decapitalize(text: str) -> str:
    text = text.replace("Input should", "it should")
    return text[:1].lower() + text[1:]


def _meant(where: str, kind: type) -> str:
    """Points from an unknown field to the one that was probably meant."""
    found = nearest(where, all_field_names(kind))
    return f"; did you mean {found}?" if found else "; ppg-jax train --help shows all"


def all_field_names(kind: type, prefix: str = "") -> list[str]:
    """Names of every field of a configuration class, sections with dots."""
    names = []
    for f in dataclasses.fields(kind):
        default = f.default.default if isinstance(f.default, FieldInfo) else f.default
        section = type(default) if dataclasses.is_dataclass(default) else None
        nested = all_field_names(section, f"{prefix}{f.name}.") if section else []
        names += nested or [prefix + f.name]
    return names


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with dotted names (``network.memory``) put into their sections.

    Raises:
      ConfigError: one stands there with a dot and inside its section too.
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
                raise ConfigError(f"{name}: stands twice, with its section and inside it; keep one")
            plain[head] = {**section, tail: value}
    return plain


def _is_dotted(name: Any) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in SECTIONS and "." in name


def with_clear_errors(cls: type) -> None:
    """Makes a class's constructor raise ``ConfigError`` instead of pydantic's report."""
    build = cls.__init__  # type: ignore[misc]

    def construct(self: Any, *args: Any, **fields: Any) -> None:
        try:
            build(self, *args, **nested(fields))
        except pydantic.ValidationError as error:
            raise ConfigError(one_line(error, cls)) from None

    cls.__init__ = functools.wraps(build)(construct)  # type: ignore[misc]


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat
