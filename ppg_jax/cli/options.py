"""Options of the command line, made from the dataclasses of the configuration."""

import contextlib
import dataclasses
import io
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import pydantic
import tyro

from ppg_jax.config import (
    Config,
    ConfigError,
    Hyperparams,
    NetworkConfig,
    all_field_names,
    nearest,
    read_value,
)

NO_CACHE = "Do not use the user's cache folder for compiled programs; compile them again."
SETTING = "Setting of a sweep, by its number; default: the one with the highest final return."
SECTIONS = {"network": NetworkConfig, "hparams": Hyperparams}
FREE_MAPPINGS = ("env_params", "env_kwargs")


def parse(command: type, argv: list[str], prog: str) -> Any:
    """Parses arguments into a dataclass. The message of an error is one line.

    Raises:
      ConfigError: unknown options, or too many or too few values.
      SystemExit: ``--help`` was printed.
    """
    _check_option_names(command, argv)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(command, args=argv, prog=prog)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ConfigError(
            f"{_problem(shown.getvalue())}; {prog} --help shows all options"
        ) from None


def _problem(shown: str) -> str:
    """Tyro's message, a box of several lines, as one line."""
    words = re.sub(r"[^!-~]|-{3,}", " ", shown).partition("For full helptext")[0]
    text = " ".join(words.split())
    value = re.search(r"Missing value for argument '([^']+)'", text)
    if value:
        return f"{value[1]}: it needs a value"
    unknown = re.search(r"Unrecognized options: (.*)", text)
    if unknown:
        return f"arguments: {unknown[1]} is invalid here"
    bad = re.search(r"Error parsing (\S+): (.*?)(?: Argument helptext.*)?$", text)
    if bad:
        kind = "a whole number" if "int()" in bad[2] else "a number" if "float" in bad[2] else ""
        given = re.search(r"'([^']*)'$|: '([^']*)'", bad[2])
        what = repr(next(x for x in given.groups() if x is not None)) if given else "the value"
        return (
            f"{bad[1]}: {what} is invalid; it should be {kind}" if kind else f"{bad[1]}: {bad[2]}"
        )
    missing = re.findall(r"(?<![\w-])(--[a-z-]+|[A-Z]{3,}) (?:[A-Z]+ )?[^()]*\(required\)", text)
    if missing:
        return f"arguments: {' and '.join(missing)} missing"
    return f"arguments: {text or 'they are invalid'}"


def _check_option_names(command: type, argv: list[str]) -> None:
    known = ["--" + name for name in _option_names(command)] + ["--help"]
    for arg in argv:
        name = arg.partition("=")[0].replace("_", "-")
        if arg.startswith("--") and name not in known:
            names = {k.removeprefix("--").replace("-", "_"): k for k in known}
            found = nearest(name.removeprefix("--").replace("-", "_"), names)
            hint = f"did you mean {names[found]}?" if found else "--help shows all options"
            raise ConfigError(f"{arg}: unknown option; {hint}")


def _option_names(command: type) -> list[str]:
    names = []
    for field in dataclasses.fields(command):
        if field.name == "fields":  # the configuration's fields have no prefix
            names += [n for n in all_field_names(Config) if n not in FREE_MAPPINGS]
        else:
            names.append(field.name)
    return [name.replace("_", "-") for name in names]


def config_options(base: Mapping[str, Any], without: Collection[str] = ()) -> type:
    """A dataclass with an option for every field. The values of ``base`` are the defaults.

    Fields whose names are in ``without`` are left out: a command has its own options for them.

    Every option is text, because the configuration checks every value itself, whether it comes from
    a file, from Python or from the command line.
    """
    return _options(Config, base, (*FREE_MAPPINGS, *without))


def command_with_fields(
    title: str,
    positional: tuple[str, str, str, str],
    own: list[tuple[str, Any, Any, str, str]],
    base: Mapping[str, Any],
) -> type:
    """A command that takes a name, its own options and every field of the configuration.

    Args:
      title: name of the command's class.
      positional: name, placeholder of the value in the help, help text and default of the argument.
      own: name, type, default, placeholder (empty for flags) and help text of each option.
      base: defaults of the fields.
    """
    name, metavar, text, default = positional
    info = tyro.conf.arg(metavar=metavar, help=text)
    entries: list[Any] = [(name, Annotated[tyro.conf.Positional[str], info], default)]
    for option, kind, value, metavar, text in own:
        flag = (tyro.conf.FlagCreatePairsOff,) if kind is bool else ()
        info = tyro.conf.arg(metavar=metavar, help=text) if metavar else tyro.conf.arg(help=text)
        entries.append((option, Annotated[(kind, *flag, info)], value))
    options = config_options(base, [option[0] for option in own])
    fields: Any = Annotated[options, tyro.conf.arg(name="")]
    entries.append(("fields", fields, dataclasses.field(default_factory=options)))
    return dataclasses.make_dataclass(title, entries)


def _options(kind: type, base: Mapping[str, Any], without: Collection[str] = ()) -> type:
    hints = typing.get_type_hints(kind, include_extras=True)
    entries: list[Any] = []
    for field in dataclasses.fields(kind):
        if field.name in without:
            continue
        if field.name in SECTIONS:
            section = base.get(field.name)
            nested = _options(SECTIONS[field.name], section if isinstance(section, dict) else {})
            entries.append((field.name, nested, dataclasses.field(default_factory=nested)))
            continue
        default = base.get(field.name, _default_of(field))
        hint = hints[field.name]
        info = tyro.conf.arg(metavar=_metavar(hint), help=_help_of(field, hint))
        if "tuple" in str(hint):
            values = tuple(map(str, default)) if isinstance(default, list | tuple) else ()
            entries.append((field.name, Annotated[tuple[str, ...], info], values))
        else:
            entries.append((field.name, Annotated[str, info], _as_text(default)))
    return dataclasses.make_dataclass(f"{kind.__name__}Options", entries)


def _default_of(field: Any) -> Any:
    default = field.default
    return default.default if isinstance(default, pydantic.fields.FieldInfo) else default


def _as_text(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metavar(hint: Any) -> str:
    """How a value is written: choices, INT, FLOAT, BOOL or TEXT."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "{" + ",".join(map(str, typing.get_args(hint))) + "}"
    if origin in (Annotated, tuple):
        return _metavar(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return _metavar(next(a for a in typing.get_args(hint) if a is not type(None)))
    return {int: "INT", float: "FLOAT", bool: "BOOL"}.get(hint, "TEXT")


def _help_of(field: Any, hint: Any) -> str:
    """Description and range of a field, from its default or its type annotation."""
    infos = [field.default, *getattr(hint, "__metadata__", ())]
    infos = [i for i in infos if isinstance(i, pydantic.fields.FieldInfo)]
    text = next((i.description for i in infos if i.description), "")
    limits = [_limit(m) for i in infos for m in i.metadata]
    limits += [_limit(m) for m in getattr(hint, "__metadata__", ())]
    shown = ", ".join(dict.fromkeys(x for x in limits if x))
    return f"{text} [{shown}]" if shown else text


def _limit(bound: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return " ".join(
        f"{sign} {getattr(bound, name)}" for name, sign in signs.items() if hasattr(bound, name)
    )


def changed_fields(given: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    """Fields whose text differs from the default, as a nested mapping."""
    return _changes(Config, given, config_options(base)())


def _changes(kind: type, given: Any, defaults: Any) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if not hasattr(given, field.name):  # it is no option of this command
            continue
        value, default = getattr(given, field.name), getattr(defaults, field.name)
        if field.name in SECTIONS:
            nested = _changes(SECTIONS[field.name], value, default)
            changes |= {field.name: nested} if nested else {}
        elif value != default:
            is_none = _default_of(field) is None and value in ("none", "null", ("none",), ("null",))
            changes[field.name] = None if is_none else value
    return changes


def take_free_mappings(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Removes ``--env-params.NAME VALUE`` and ``--env-kwargs.NAME VALUE`` from the arguments.

    The names depend on the environment, so the parser cannot know them. The values are read as
    YAML.

    Returns:
      The other arguments, and the values by section and name.

    Raises:
      ConfigError: an option has no name or no value, or its value is not YAML.
    """
    rest: list[str] = []
    found: dict[str, Any] = {}
    words = iter(argv)
    for word in words:
        option, _, value = word.partition("=")
        section, _, name = option.removeprefix("--").replace("-", "_").partition(".")
        if not word.startswith("--") or section not in FREE_MAPPINGS:
            rest.append(word)
            continue
        text = value or next(words, None)
        if not name or text is None:
            raise ConfigError(f"{option}: write it as {option.partition('.')[0]}.NAME VALUE")
        try:
            found.setdefault(section, {})[name] = read_value(text)
        except ConfigError as error:
            raise ConfigError(f"{option}: {text[:60]!r} is invalid: {error}") from None
    return rest, found
