"""Files that describe a sweep or a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppg_jax.config import ConfigError, did_you_mean, read_mapping


@dataclass(frozen=True)
class Spec:
    """What a file may contain.

    Attributes:
      what: what it describes, in a word.
      needed: a key that must be there, and what its value should be.
      keys: all keys.
      kinds: type of the values of some keys, and what they should be in words.
    """

    what: str
    needed: tuple[str, str]
    keys: Sequence[str]
    kinds: Mapping[str, tuple[type, str]]

    def read(self, path: Path) -> dict[str, Any]:
        """Reads a file. A configuration that stands beside it is named by its whole path.

        Returns:
          The values by key, without those that are null.

        Raises:
          ConfigError: the file cannot be read, or a key is unknown, missing or of the wrong type.
        """
        if not path.is_file():
            raise ConfigError(
                f"spec: {path} does not exist; name a .yaml file that describes the {self.what}"
            )
        spec = {name: value for name, value in read_mapping(path).items() if value is not None}
        for name in spec:
            if name not in self.keys:
                hint = did_you_mean(str(name), self.keys)
                raise ConfigError(
                    f"{path}: {name}: is unknown; {hint}keys are {', '.join(self.keys)}"
                )
        key, words = self.needed
        if key not in spec:
            raise ConfigError(f"{path}: {key}: is missing; it should be {words}")
        for name, (kind, words) in self.kinds.items():
            if name in spec and not isinstance(spec[name], kind):
                raise ConfigError(
                    f"{path}: {name}: {spec[name]!r} is invalid; it should be {words}"
                )
        beside = path.parent / spec.get("config", "cartpole")
        if beside.suffix == ".yaml" and beside.is_file():
            spec["config"] = str(beside)
        return spec
