"""The configuration with another setting of the same environment."""

from typing import Any

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError

ENV_FIELDS = (
    "env_params", "env_kwargs", "num_levels", "first_level", "hide_components",
    "drop_observations", "episodes_per_task",
)  # fmt: skip


def with_environment(config: Config, changes: dict[str, Any]) -> Config:
    """The configuration with another setting of the same environment; mappings are merged.

    Raises:
      ConfigError: a change is not one of the environment's fields, or is invalid.
    """
    for name in changes:
        if name not in ENV_FIELDS:
            raise ConfigError(f"{name}: cannot be changed here; {', '.join(ENV_FIELDS)} may change")
    if changes.get("num_levels", 0) is None:  # all levels have no first one
        changes = {"first_level": 0} | changes
    merged = {
        name: dict(getattr(config, name)) | value if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return config.replace(**merged)
