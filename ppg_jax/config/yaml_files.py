"""Configurations in YAML files: those that come with the package, and a user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ppg_jax.config.config import Config, config_from_dict
from ppg_jax.config.fields import ConfigError, did_you_mean, nested
from ppg_jax.config.plain_files import read_plain

LARGEST_FILE = 1 << 24
"""Bytes of a file that is read."""
MOST_NODES = 10_000
"""Values that aliases may stand for, all in all."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without two kinds of surprise.

    No key may stand twice: the first would be lost without a word. Aliases and merge keys are
    followed only so far: a few lines of aliases to aliases can stand for more than any memory
    holds.
    """

    def compose_document(self) -> Any:
        node: Any = super().compose_document()
        written = self.get_mark().index  # no more values than letters
        _expanded_size(node, MOST_NODES + written, {}, [])
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Here, since constructing a mapping merges others into it.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(f"{key.value}: stands twice; keep one")
                seen.add(key.value)
        return node


def _expanded_size(node: yaml.Node, most: int, known: dict[int, int], inside: list[int]) -> int:
    """How many values a node stands for, with its aliases written out.

    Raises:
      ConfigError: too many, or it stands inside itself.
    """
    if id(node) in inside:
        raise ConfigError("an alias stands for something that it is part of; write the value")
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        inside.append(id(node))
        size = 1
        for part in parts:
            size += _expanded_size(part, most, known, inside)
        inside.pop()
        if size > most:
            raise ConfigError(f"its aliases stand for more than {MOST_NODES:,} values")
        known[id(node)] = size
    return known[id(node)]


def read_value(text: str | bytes) -> Any:
    """A text as YAML: plain values only, no key twice, bounded aliases.

    Raises:
      ConfigError: it is something else; the line does not say where it stands.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except ConfigError:
        raise
    except Exception as error:  # a !!tag before what it does not fit can raise anything
        where = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"no YAML: {where}") from None


def configs_folder() -> Path:
    """Where the package's own configurations are: inside the wheel, or beside the sources."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def available_configs() -> list[str]:
    """Names that ``load_config`` takes."""
    folder = configs_folder()
    files = folder.rglob("*.yaml")
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in files)


def find_config(name: str | Path) -> Path:
    """The file of a configuration, by its name or its own path.

    Raises:
      ConfigError: there is none.
    """
    own = Path(name)
    if own.suffix in (".yaml", ".yml") and own.is_file():
        return own
    if str(name) in available_configs():
        return configs_folder() / f"{name}.yaml"
    names = available_configs()
    raise ConfigError(
        f"config: {str(name)!r} is neither a name nor a .yaml file; "
        f"{did_you_mean(str(name), names)}ppg-jax list shows the names"
    )


def read_config(name: str | Path) -> dict[str, Any]:
    """The fields that a configuration's file sets, as they stand there.

    Raises:
      ConfigError: there is no such file, or it is no YAML mapping.
    """
    return read_mapping(find_config(name))


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping: plain values only, no key twice.

    Raises:
      ConfigError: it cannot be read, or is something else.
    """
    try:
        fields = read_value(read_plain(path, LARGEST_FILE).decode("utf-8"))
    except ConfigError as error:
        bad = str(error).removeprefix("no YAML")
        kind = f"config: {path} is no YAML{bad}" if bad != str(error) else f"{path}: {error}"
        raise ConfigError(kind) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"config: {path} cannot be read: {reason}") from None
    if fields is None:
        fields = {}
    if not isinstance(fields, Mapping):
        raise ConfigError(f"config: {path} holds a {type(fields).__name__}, not a mapping")
    return dict(fields)


def load_config(name: str | Path, **changes: Any) -> Config:
    """A configuration by name (``minatar/breakout``) or path.

    Args:
      name: of a configuration that comes with the package, or the path of a ``.yaml`` file.
      **changes: fields to set instead of the file's; sections (``hparams={"gamma": 0.9}``) field
        by field.

    Raises:
      ConfigError: there is no such configuration, or a value in it is invalid.
    """
    return config_from_dict(merge(read_config(name), changes))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, sections merged field by field."""
    merged = nested(base)
    for name, value in nested(changes).items():
        old = merged.get(name)
        merged[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
