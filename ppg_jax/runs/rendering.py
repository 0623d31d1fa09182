"""An episode of a trained policy, as a GIF."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import animate
from ppg_jax.execution import recording_program
from ppg_jax.runs.files import write_whole


@dataclasses.dataclass(frozen=True)
class Episode:
    """Which episode is played.

    Attributes:
      number: number of the episode; each number gives a different one.
      greedy: whether the policy takes the most probable action instead of a sample.
      max_steps: maximum number of steps, one frame each.
    """

    number: int
    greedy: bool
    max_steps: int


def write_episode(config: Config, acting: tuple[Any, Any], path: Path, episode: Episode) -> float:
    """Plays an episode and writes it as a GIF.

    Args:
      config: configuration of the run.
      acting: parameters and observation statistics (or None) of one seed.
      path: GIF file to write.
      episode: which episode.

    Returns:
      The return of the episode up to the last frame.

    Raises:
      ConfigError: the environment cannot be drawn, or the file cannot be written.
    """
    if path.suffix != ".gif":
        raise ConfigError(f"file: {str(path)!r} is invalid; its name should end in .gif")
    if not path.parent.is_dir():
        raise ConfigError(f"file: {path.parent} is not a folder; create it first")
    env = build(config).env
    env.unwrapped.check_drawable()
    play = recording_program(config, episode.greedy, episode.max_steps)
    states, rewards, ended = play(*acting, jax.random.key(episode.number))
    ended = np.asarray(ended)
    length = int(ended.argmax()) + 1 if ended.any() else episode.max_steps
    returns = np.cumsum(np.asarray(rewards)[:length])
    frames = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(length)]
    # The GIF is written to a file, so pygame needs no screen. It also needs no sound card, and
    # would print errors if there is none.
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(driver, "dummy")
    with tempfile.TemporaryDirectory() as place:
        drawn = Path(place) / "episode.gif"
        animate(env, frames, returns.tolist(), str(drawn))
        try:
            write_whole(path, drawn.read_bytes())
        except OSError as error:
            raise ConfigError(f"file: {path} cannot be written: {error.strerror}") from None
    return float(returns[-1])
