"""Objects that a configuration names by their import path, ``package.module:Class``."""

import importlib
from typing import Any

from ppg_jax.config.fields import ConfigError


def import_object(field: str, place: str) -> Any:
    """The object at an import path.

    Args:
      field: name of the field, for messages.
      place: ``package.module:Class``.

    Raises:
      ConfigError: there is no such object.
    """
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        raise ConfigError(f"{field}: {place!r} cannot be imported: {reason(error)}") from None
    return found


def reason(error: BaseException, length: int = 300) -> str:
    """The type and the message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:length]
