"""Fields that configurations of older versions lack, so that old runs still play as they did."""

from typing import Any

import numpy as np

from ppg_jax.config import ConfigError, config_from_dict
from ppg_jax.envs import make_env


def add_missing_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Adds fields that are newer than a run, with the values that old versions used.

    Actions were clipped and never scaled. Observations were divided by 255 if their space ranged
    from 0 to 255. The last axis of an image was always the channels.

    Args:
      fields: fields of ``config.yaml`` in a run folder.

    Returns:
      All fields; the argument is not changed.
    """
    fields = dict(fields)
    if "scale_actions" not in fields:
        fields["scale_actions"] = False
    network = fields.get("network")
    if isinstance(network, dict) and "image_layout" not in network:
        fields["network"] = network | {"image_layout": "channels_last"}
    if "observation_scale" not in fields:
        fields["observation_scale"] = _old_scale(fields)
    return fields


def _old_scale(fields: dict[str, Any]) -> float | None:
    """Divisor of the observations; None for categories, which are not divided."""
    try:
        config = config_from_dict(fields)
        env = make_env(config.env, config.env_params, config.env_kwargs)
    except ConfigError:  # raised again when the environment is made
        return None
    if env.observation.categories is not None:
        return None
    space = env.unwrapped.observation_space
    low, high = (np.asarray(getattr(space, name, np.inf)) for name in ("low", "high"))
    return 255.0 if low.size and low.min() >= 0 and high.max() == 255 else 1.0
