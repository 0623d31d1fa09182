"""When two configurations play in the very same environment."""

from typing import Any

from ppg_jax.config.config import Config


def same_environment(config: Config) -> tuple[Any, ...]:
    """Equal for two configurations only if what they say of the environment is alike to a program.

    An environment object is known by which one it is, and by which values it holds: those may be
    set anew. Numbers are known by how they are written: 1, 1.0 and True are equal, but not to a
    program.
    """
    written = repr((sorted(config.env_params.items()), sorted(config.env_kwargs.items())))
    if isinstance(config.env, str):
        return (written,)
    held = getattr(config.env, "__dict__", {})
    parts = ((name, Itself(value)) for name, value in held.items())
    return (written, Itself(config.env), *parts)


class Itself:
    """Equal to what holds the very same object, whatever that calls equal."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
