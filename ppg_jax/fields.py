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


class ConfigError(ValueError):
    """A setting that cannot work. The message is one line: field, value, remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # a name or a value may hold line breaks


class FrozenMapping(dict):
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean X? `` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.4)
    return f"did you mean {near[0]}? " if near else ""


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
    raise ConfigError(f"{name}: {value!r} will not do; it should be a whole number, {limit}")


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
    lines = []
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"] if part not in ("function-before",)]
        where = ".".join(path)
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            lines.append(f"{where}: unknown field{_nearest(path, kind)}")
            continue
        reason = item["msg"].removeprefix("Value error, ")
        if not where:
            lines.append(reason)
            continue
        lines.append(f"{where}: {item['input']!r} will not do; {_decapitalize(reason)}")
    return "; ".join(dict.fromkeys(lines))


def _decapitalize(text: str) -> str:
    text = text.replace("Input should", "it should")
    return text[:1].lower() + text[1:]


def _nearest(path: list[str], kind: type) -> str:
    """Points from an unknown field to the one that was probably meant."""
    names = all_field_names(kind)
    inside = [n for n in names if n.rpartition(".")[0] == ".".join(path[:-1])]
    name = ".".join(path)
    match = difflib.get_close_matches(name, inside, 1) or difflib.get_close_matches(name, names, 1)
    tails = {n.rpartition(".")[2]: n for n in names}
    if not match:
        match = [tails[t] for t in difflib.get_close_matches(path[-1], list(tails), 1)]
    return f"; did you mean {match[0]}?" if match else f"; known are {', '.join(inside or names)}"


def all_field_names(kind: type, prefix: str = "") -> list[str]:
    """Names of every field of a configuration class, sections with dots."""
    names = []
    for f in dataclasses.fields(kind):
        default = f.default.default if isinstance(f.default, FieldInfo) else f.default
        section = type(default) if dataclasses.is_dataclass(default) else None
        nested = all_field_names(section, f"{prefix}{f.name}.") if section else []
        names += nested or [prefix + f.name]
    return names


def with_clear_errors(cls: type) -> None:
    """Makes a class's constructor raise ``ConfigError`` instead of pydantic's report."""
    build = cls.__init__  # type: ignore[misc]

    def construct(self: Any, *args: Any, **fields: Any) -> None:
        try:
            build(self, *args, **fields)
        except pydantic.ValidationError as error:
            raise ConfigError(one_line(error, cls)) from None

    cls.__init__ = functools.wraps(build)(construct)  # type: ignore[misc]
