"""Values of fields as text, for tables, labels and files."""

import json
from collections.abc import Mapping
from typing import Any


def in_words(values: Mapping[str, Any]) -> str:
    """Values of a setting as text, such as ``learning_rate 0.001, arch dual``."""
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def short(value: Any) -> str:
    """A value for tables and labels."""
    return f"{value:g}" if isinstance(value, float) else exact(value)


def exact(value: Any) -> str:
    """A value for files, as the command line and YAML read it back."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list | dict) else str(value)
