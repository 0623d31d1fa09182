"""Configurations in YAML files: those that come with the package, and a user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ppg_jax.config import Config, ConfigError, config_from_dict
from ppg_jax.fields import did_you_mean


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without two kinds of surprise.

    No key may stand twice: the first would be lost without a word. Nothing refers to another place:
    a few lines of aliases to aliases can stand for more than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor
            raise ConfigError(f"*{name}: an alias will not do; write the value itself")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [getattr(key, "value", None) for key, _ in node.value]
        for name in names:
            if isinstance(name, str) and names.count(name) > 1:
                raise ConfigError(f"{name}: stands twice; keep one")
        return super().construct_mapping(node, deep)


def configs_folder() -> Path:
    """Where the package's own configurations are: inside the wheel, or beside the sources."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


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
        f"{did_you_mean(str(name), names)}names are {', '.join(names)}"
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
        fields = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} cannot be read: {error}") from None
    except Exception as error:  # a !!tag before what it does not fit can raise anything
        where = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"config: {path} is no YAML: {where}") from None
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
      ConfigError: there is no such configuration, or a value in it will not do.
    """
    return config_from_dict(merge(read_config(name), changes))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, sections merged field by field."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
