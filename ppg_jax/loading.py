"""A finished or stopped run, read back from its folder and ready to use."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chex
import jax
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.checkpoint import load_parameters
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs.drawing import animate, check_drawable
from ppg_jax.evaluation import evaluate_seeds, record_episode
from ppg_jax.evaluator import with_environment
from ppg_jax.folder import METRICS, folder_config
from ppg_jax.logging import read_metrics
from ppg_jax.networks import POLICY
from ppg_jax.report import plot_learning_curve
from ppg_jax.summary import MetricArrays, final_returns, first_bad_iteration, to_dataframe
from ppg_jax.train import build

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A run's folder.

    Attributes:
      directory: of the run.
      config: resolved.
      metrics: by name, each ``[S, iterations]``; of a stopped run up to there.
    """

    directory: Path
    config: Config
    metrics: MetricArrays

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """``summary.json``; empty where the run was killed.

        Raises:
          ConfigError: it is damaged.
        """
        file = self.directory / "summary.json"
        try:
            return json.loads(file.read_text()) if file.is_file() else {}
        except ValueError as error:
            raise ConfigError(f"DIR: {file} is no JSON: {error}") from None

    @functools.cached_property
    def parameters(self) -> tuple[Any, Any]:
        """Parameters and observation statistics (or None) of all seeds, leaves ``[S, ...]``.

        Raises:
          ConfigError: nothing was saved, or it is damaged.
        """
        return load_parameters(self.directory, self.config)

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of the last tenth for each seed, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def first_bad_iteration(self) -> list[int | None]:
        """For each seed where its loss first was NaN or infinite, or None."""
        return first_bad_iteration(self.metrics, self.config)

    def policy(
        self, obs: chex.Array, key: chex.PRNGKey, *, seed: int = 0, greedy: bool = False
    ) -> chex.Array:
        """What a seed's policy does.

        Args:
          obs: ``[B, ...]`` as the environment gives them, or one without the axis.
          key: for the choice.
          seed: whose.
          greedy: take the most probable action instead of a sample.

        Returns:
          Actions ``[B, ...]``, or one.

        Raises:
          ConfigError: there is no such seed, or observations have another shape.
        """
        _, agent = build(self.config)
        shape = agent.observation.shape
        obs = jax.numpy.asarray(obs).astype(agent.observation.dtype)
        single = obs.shape == shape
        if not single and obs.shape[1:] != shape:
            raise ConfigError(
                f"obs: shape {obs.shape} will not do; it should be {shape}, or that with a "
                "leading axis"
            )
        actions = _act(self.config, greedy)(*self._of(seed), obs[None] if single else obs, key)
        return actions[0] if single else actions

    def evaluate(
        self,
        episodes: int = 128,
        *,
        greedy: bool = False,
        seed: int = 0,
        **changes: Any,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Plays fresh episodes with the policy of every seed.

        Args:
          episodes: E, of each seed, side by side.
          greedy: take the most probable action instead of a sample.
          seed: of the episodes' randomness.
          **changes: of the environment: ``env_params``, ``env_kwargs``, ``num_levels``,
            ``first_level``.

        Returns:
          Raw returns, lengths and whether each episode ended, each ``[S, E]``.

        Raises:
          ConfigError: a change is none of these, or will not do.
        """
        params, stats = self.parameters
        config = with_environment(self.config, changes)
        return evaluate_seeds(config, params, stats, seed, episodes, greedy=greedy)

    def render(
        self,
        file: str | Path,
        *,
        seed: int = 0,
        episode: int = 0,
        greedy: bool = False,
        max_steps: int = 500,
    ) -> float:
        """Writes an episode as a GIF.

        Args:
          file: to write.
          seed: whose policy.
          episode: which; each number is another.
          greedy: take the most probable action instead of a sample.
          max_steps: frames at most.

        Returns:
          The episode's return, up to where the pictures end.

        Raises:
          ConfigError: gymnax cannot draw the environment.
        """
        env, _ = build(self.config)
        check_drawable(env.name)
        play = jax.jit(
            lambda p, s, k: record_episode(self.config, p, s, k, greedy=greedy, max_steps=max_steps)
        )
        states, rewards, ended = play(*self._of(seed), jax.random.key(episode))
        ended = np.asarray(ended)
        length = int(ended.argmax()) + 1 if ended.any() else max_steps
        returns = np.cumsum(np.asarray(rewards)[:length])
        frames = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(length)]
        # To a file: pygame is to look for no screen, and no sound card, which it misses aloud.
        for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
            os.environ.setdefault(driver, "dummy")
        animate(env, frames, returns.tolist(), str(file))
        return float(returns[-1])

    def plot(self) -> Figure:
        """The learning curve."""
        return plot_learning_curve(self.config, self.metrics)

    def to_dataframe(self) -> "pd.DataFrame":
        """The metrics as a table, one row for each seed and iteration."""
        return to_dataframe(self.metrics)

    def _of(self, seed: int) -> tuple[Any, Any]:
        if not 0 <= seed < self.config.seeds:
            raise ConfigError(
                f"seed: {seed} will not do; the run has seeds 0 to {self.config.seeds - 1}"
            )
        return jax.tree.map(lambda x: x[seed], self.parameters)


@functools.lru_cache(maxsize=16)
def _act(config: Config, greedy: bool) -> Callable[..., chex.Array]:
    _, agent = build(config)

    @jax.jit
    def act(params: Any, stats: Any, obs: chex.Array, key: chex.PRNGKey) -> chex.Array:
        starts = jax.numpy.ones(obs.shape[0], bool)
        memory = agent.initial_memory(obs.shape[0])
        policy = agent.step(params, stats, obs, starts, memory, (POLICY,)).policy
        return policy.mode() if greedy else policy.sample(key)

    return act


def load_run(directory: str | Path, env: Any = None) -> SavedRun:
    """A run from its folder: finished, stopped or killed.

    Args:
      directory: of the run.
      env: the environment, where it was an object.

    Raises:
      ConfigError: there is no run, or its metrics cannot be read.
    """
    folder = Path(directory)
    config = folder_config(folder, env)
    metrics, _ = read_metrics(folder / METRICS, config.seeds)
    return SavedRun(folder, config, metrics)
