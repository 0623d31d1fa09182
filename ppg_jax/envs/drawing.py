"""Animations of episodes, drawn by gymnax's visualiser."""

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
    """Checks that an environment can be drawn.

    Raises:
      ConfigError: gymnax cannot draw it, or it needs pygame (classic control) and that is missing.
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
      env: a ``GymnaxEnv``, or a wrapper around one.
      states: states of the environment, one per frame.
      returns: return so far, one per frame.
      file: path of the ``.gif`` file to write.

    Raises:
      ConfigError: the environment cannot be drawn.
    """
    raw, params = env.unwrapped
    check_drawable(getattr(raw, "name", type(raw).__name__))
    from gymnax.visualize import Visualizer

    Visualizer(raw, params, list(states), list(returns)).animate(file)
