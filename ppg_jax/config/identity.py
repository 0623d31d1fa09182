"""Comparing the environments of two configurations."""

from typing import Any

from ppg_jax.config.config import Config


def same_environment(config: Config) -> tuple[Any, ...]:
    """A key that is equal for two configurations only if their environments give the same program.

    Environment objects are compared by identity, and so are the values of their attributes, since
    attributes may be set again. Numbers are compared as text: 1, 1.0 and True are equal in Python,
    but give different programs.
    """
    written = repr((sorted(config.env_params.items()), sorted(config.env_kwargs.items())))
    if isinstance(config.env, str):
        return (written,)
    attributes = getattr(config.env, "__dict__", {})
    parts = ((name, _SameObject(value)) for name, value in attributes.items())
    return (written, _SameObject(config.env), *parts)


class _SameObject:
    """Compares an object by identity, whatever its own ``__eq__`` does."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameObject) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
