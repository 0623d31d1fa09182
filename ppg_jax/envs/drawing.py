"""Pictures of episodes, by gymnax's own visualiser."""

from collections.abc import Sequence
from typing import Any

from ppg_jax.config import ConfigError

DRAWABLE = (
    "Acrobot-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "Catch-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "Pong-misc",
)
"""Names of the environments that gymnax can draw."""


def check_drawable(name: str) -> None:
    """Says so where an environment has no picture.

    Raises:
      ConfigError: gymnax cannot draw it, or pygame, which draws classic control, is missing.
    """
    if name not in DRAWABLE:
        raise ConfigError(f"env: gymnax cannot draw {name}; it can draw {', '.join(DRAWABLE)}")
    if name in DRAWABLE[:5]:
        try:
            import pygame  # noqa: F401
        except ImportError:
            raise ConfigError(
                f"env: drawing {name} needs pygame; pip install 'ppg-jax[render]'"
            ) from None


def animate(env: Any, states: Sequence[Any], returns: Sequence[float], file: str) -> None:
    """Writes an episode as a GIF.

    Args:
      env: ``GymnaxEnv``, or one around it.
      states: of the environment, one for each frame.
      returns: the return so far at each of them.
      file: to write, ``.gif``.

    Raises:
      ConfigError: it cannot be drawn.
    """
    raw, params = env.unwrapped
    check_drawable(getattr(raw, "name", type(raw).__name__))
    from gymnax.visualize import Visualizer

    Visualizer(raw, params, list(states), list(returns)).animate(file)
