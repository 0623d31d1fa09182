"""Animations of episodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

FRAME_MILLISECONDS = 60
"""How long a picture of an animation is shown."""


def animate(env: Any, states: Sequence[Any], returns: Sequence[float], file: str) -> None:
    """Writes an episode as a GIF.

    Args:
      env: an ``Environment``.
      states: states of the suite's environment, one per frame.
      returns: return so far, one per frame.
      file: path of the ``.gif`` file to write.

    Raises:
      ConfigError: the environment cannot be drawn.
    """
    raw = env.unwrapped
    raw.check_drawable()
    if hasattr(raw, "animate"):  # the suite writes GIFs itself
        raw.animate(states, returns, file)
        return
    from PIL import Image

    pictures = [Image.fromarray(np.asarray(raw.frame(state), np.uint8)) for state in states]
    pictures[0].save(
        file,
        save_all=True,
        append_images=pictures[1:],
        duration=FRAME_MILLISECONDS,
        loop=0,
    )
