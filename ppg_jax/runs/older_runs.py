"""What configurations of older packages left unsaid, so that their runs play as they did."""

from typing import Any

import numpy as np

from ppg_jax.config import ConfigError, config_from_dict
from ppg_jax.envs import make_env


def complete(fields: dict[str, Any]) -> dict[str, Any]:
    """A run's fields with those that came after it, as they were then.

    Actions were clipped, never scaled. Observations were divided by 255 wherever their space went
    from 0 to that. The channels of a picture were always its last axis.

    Args:
      fields: of ``config.yaml`` in a run's folder.
    """
    before = dict(fields)
    if "scale_actions" not in before:
        before["scale_actions"] = False
    network = before.get("network")
    if isinstance(network, dict) and "image_layout" not in network:
        before["network"] = network | {"image_layout": "channels_last"}
    if "observation_scale" not in before:
        before["observation_scale"] = _old_scale(before)
    return before


def _old_scale(fields: dict[str, Any]) -> float | None:
    """What observations were divided by; None where there is nothing to divide."""
    try:
        config = config_from_dict(fields)
        env = make_env(config.env, config.env_params, config.env_kwargs)
    except ConfigError:  # said where the environment is made
        return None
    if env.observation.categories is not None:
        return None
    raw, params = env.unwrapped
    space = raw.observation_space(params)
    low, high = (np.asarray(getattr(space, name, np.inf)) for name in ("low", "high"))
    return 255.0 if low.size and low.min() >= 0 and high.max() == 255 else 1.0
