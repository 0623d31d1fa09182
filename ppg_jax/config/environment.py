"""Changing the environment's settings in a configuration."""

from typing import Any

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError

ENV_FIELDS = (
    "env_params", "env_kwargs", "num_levels", "first_level", "hide_components",
    "drop_observations", "episodes_per_task",
)  # fmt: skip


def with_environment(config: Config, changes: dict[str, Any]) -> Config:
    """A copy of the configuration with other settings of the same environment.

    Args:
      config: configuration to start from.
      changes: new values by field name. Mappings are merged into the old ones.

    Raises:
      ConfigError: a name is not a setting of the environment, or a value is invalid.
    """
    for name in changes:
        if name not in ENV_FIELDS:
            raise ConfigError(f"{name}: cannot be changed here; use one of {', '.join(ENV_FIELDS)}")
    if changes.get("num_levels", 0) is None:  # without levels, first_level must be 0
        changes = {"first_level": 0} | changes
    merged = {
        name: dict(getattr(config, name)) | value if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return config.replace(**merged)
