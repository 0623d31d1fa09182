"""Configurations in YAML files: those that ship with the package and those of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ppg_jax.config.config import Config, config_from_dict
from ppg_jax.config.fields import ConfigError, did_you_mean, nested
from ppg_jax.config.plain_files import read_plain

LARGEST_FILE = 1 << 24
"""Largest size of a file, in bytes."""
MOST_NODES = 10_000
"""Limit of the values that all aliases of a file expand to."""
NOT_YAML = "not valid YAML"
"""Begin of the message for a text that is not YAML."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML with two more checks.

    A key may not be repeated: its first value would be lost silently. The expansion of aliases and
    merge keys is limited: a few lines of aliases to aliases can expand to more values than fit
    into memory.
    """

    def compose_document(self) -> Any:
        node: Any = super().compose_document()
        written = self.get_mark().index  # a text has at most as many values as characters
        _expanded_size(node, MOST_NODES + written, {}, [])
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Checked before construction, because that merges other mappings into this one.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(f"{key.value}: is given twice; keep one")
                seen.add(key.value)
        return node


def _expanded_size(node: yaml.Node, most: int, known: dict[int, int], inside: list[int]) -> int:
    """Number of values in a node after its aliases are expanded.

    Raises:
      ConfigError: there are too many, or the node contains itself.
    """
    if id(node) in inside:
        raise ConfigError("an alias refers to a value that contains it; write out the value")
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
            raise ConfigError(f"its aliases expand to more than {MOST_NODES:,} values; use fewer")
        known[id(node)] = size
    return known[id(node)]


def read_value(text: str | bytes) -> Any:
    """Parses YAML text with plain values only, no repeated keys and limited aliases.

    Raises:
      ConfigError: the text is not valid. The message does not name the file.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except ConfigError:
        raise
    except Exception as error:  # a !!tag with an unsuitable value can raise anything
        where = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{NOT_YAML}: {where}") from None


def configs_folder() -> Path:
    """Folder of the shipped configurations: inside the wheel, or beside the sources."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def available_configs() -> list[str]:
    """Names of the shipped configurations, for ``load_config``."""
    folder = configs_folder()
    files = folder.rglob("*.yaml")
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in files)


def find_config(name: str | Path) -> Path:
    """The file of a configuration.

    Args:
      name: name of a shipped configuration, or path of a YAML file.

    Raises:
      ConfigError: there is no such configuration.
    """
    own = Path(name)
    if own.suffix in (".yaml", ".yml") and own.is_file():
        return own
    if str(name) in available_configs():
        return configs_folder() / f"{name}.yaml"
    names = available_configs()
    raise ConfigError(
        f"config: {str(name)!r} is neither a shipped configuration nor a .yaml file; "
        f"{did_you_mean(str(name), names)}ppg-jax list shows the names"
    )


def read_config(name: str | Path) -> dict[str, Any]:
    """The fields that the file of a configuration sets, without defaults and unchecked.

    Raises:
      ConfigError: there is no such file, or it is not a YAML mapping.
    """
    return read_mapping(find_config(name))


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file, with plain values only and no repeated keys.

    Raises:
      ConfigError: the file cannot be read, or is not a valid mapping.
    """
    try:
        fields = read_value(read_plain(path, LARGEST_FILE).decode("utf-8"))
    except ConfigError as error:
        start = f"config: {path} is" if str(error).startswith(NOT_YAML) else f"{path}:"
        raise ConfigError(f"{start} {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"config: {path} cannot be read: {reason}") from None
    if fields is None:
        fields = {}
    if not isinstance(fields, Mapping):
        raise ConfigError(f"config: {path} is a {type(fields).__name__}; it should be a mapping")
    return dict(fields)


def load_config(name: str | Path, **changes: Any) -> Config:
    """Loads a configuration by name (``minatar/breakout``) or path.

    Args:
      name: name of a shipped configuration, or path of a ``.yaml`` file.
      **changes: fields that replace the file's values. Sections are merged field by field, as in
        ``hparams={"gamma": 0.9}``.

    Raises:
      ConfigError: there is no such configuration, or one of its values is invalid.
    """
    return config_from_dict(merge(read_config(name), changes))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` updated with ``changes``. Sections are merged field by field."""
    merged = nested(base)
    for name, value in nested(changes).items():
        old = merged.get(name)
        merged[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
