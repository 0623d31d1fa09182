"""A finished or stopped run, read back from its folder and ready to use."""

import contextlib
import dataclasses
import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.backend import lay_out
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs.drawing import animate, check_drawable
from ppg_jax.evaluation import evaluate_seeds, record_episode
from ppg_jax.evaluator import with_environment
from ppg_jax.folder import METRICS, folder_config
from ppg_jax.logging import read_metrics
from ppg_jax.networks import POLICY, Agent
from ppg_jax.parameters import load_parameters
from ppg_jax.plain_files import read_plain
from ppg_jax.report import plot_learning_curve
from ppg_jax.storage import LARGEST_TEXT
from ppg_jax.summary import MetricArrays, final_returns, first_bad_iteration, to_dataframe
from ppg_jax.train import build
from ppg_jax.types import Inputs, Recalled, no_step

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A run's folder.

    Attributes:
      directory: of the run.
      config: resolved.
    """

    directory: Path
    config: Config

    @functools.cached_property
    def metrics(self) -> MetricArrays:
        """By name, each ``[S, iterations]``; of a stopped run up to there.

        Raises:
          ConfigError: ``metrics.csv`` is missing or damaged.
        """
        return read_metrics(self.directory / METRICS, self.config)

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """``summary.json``; empty where the run was killed.

        Raises:
          ConfigError: it is damaged.
        """
        file = self.directory / "summary.json"
        try:
            found = json.loads(read_plain(file, LARGEST_TEXT)) if file.exists() else {}
        except OSError as error:
            raise ConfigError(f"DIR: {file} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"DIR: {file} is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise ConfigError(f"DIR: {file} holds a {type(found).__name__}, not a mapping")
        return found

    @functools.cached_property
    def parameters(self) -> tuple[Any, Any]:
        """Parameters and observation statistics (or None) of all seeds, leaves ``[S, ...]``.

        Raises:
          ConfigError: nothing was saved, or it is damaged.
        """
        found = load_parameters(self.directory, self.config)
        if found.note:
            warnings.warn(found.note, RuntimeWarning, stacklevel=2)
        return found.params, found.obs_stats

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of the last tenth for each seed, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def first_bad_iteration(self) -> list[int | None]:
        """For each seed where its loss first was NaN or infinite, or None."""
        return first_bad_iteration(self.metrics, self.config)

    def policy(
        self,
        obs: chex.Array,
        key: chex.PRNGKey,
        *,
        memory: Any = None,
        starts: chex.Array | None = None,
        previous: Mapping[str, chex.Array] | None = None,
        seed: int = 0,
        greedy: bool = False,
    ) -> Any:
        """What a seed's policy does.

        A network with a memory is called with the memory it left at the step before::

            memory = saved.initial_memory(num_envs)
            actions, memory = saved.policy(obs, key, memory=memory, starts=starts)

        Args:
          obs: ``[B, ...]`` as the environment gives them, or one without the axis (then nothing
            else has it either).
          key: for the choice.
          memory: before this step, ``[B, ...]``; None: the first step of an episode.
          starts: where an episode begins, so that memory starts anew, bool ``[B]``; None: nowhere.
          previous: of the step before what the network sees (``config.network.recall``): ``action``
            as it was given, ``reward`` raw, ``done``. None: there was none.
          seed: whose.
          greedy: take the most probable action instead of a sample.

        Returns:
          Actions ``[B, ...]``, or one; with the memory after the step, if one was given.

        Raises:
          ConfigError: there is no such seed, or what is given has another shape.
        """
        _, agent = build(self.config)
        shape = agent.observation.shape
        obs = jnp.asarray(obs).astype(agent.observation.dtype)
        single = obs.shape == shape
        if not single and obs.shape[1:] != shape:
            raise ConfigError(
                f"obs: shape {obs.shape} will not do; it should be {shape}, or that with a "
                "leading axis"
            )
        lead = () if single else obs.shape[:1]
        begins = memory is None if starts is None else starts
        inputs = Inputs(
            obs=obs,
            starts=jnp.broadcast_to(jnp.asarray(begins, jnp.bool_), lead),
            recalled=_recalled(agent, previous, lead),
        )
        num_envs = None if single else obs.shape[0]
        before = self.initial_memory(num_envs) if memory is None else memory
        if single:
            inputs, before = jax.tree.map(lambda x: x[None], (inputs, before))
        played = _act(self.config, greedy)(*self._of(seed), inputs, before, key)
        actions, after = jax.tree.map(lambda x: x[0], played) if single else played
        return actions if memory is None else (actions, after)

    def initial_memory(self, num_envs: int | None = None) -> Any:
        """Memories before any observation, leaves ``[num_envs, ...]``; None: without the axis."""
        _, agent = build(self.config)
        memory = agent.initial_memory(num_envs or 1)
        return memory if num_envs else jax.tree.map(lambda x: x[0], memory)

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
            ``first_level``, ``hide_components``, ``drop_observations``, ``episodes_per_task``.

        Returns:
          Raw returns, lengths and whether each episode ended, each ``[S, E]``. Where a task has
          several episodes, one of these is the whole task.

        Raises:
          ConfigError: a change is none of these, or will not do.
        """
        returns, lengths, ended = self.evaluate_tasks(episodes, greedy=greedy, seed=seed, **changes)
        return returns.sum(-1), lengths, ended

    def evaluate_tasks(
        self, tasks: int = 128, *, greedy: bool = False, seed: int = 0, **changes: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``evaluate`` with the returns of a task's episodes apart, ``[S, E, episodes_per_task]``.

        Returns that grow from episode to episode are learning within the task.
        """
        params, stats = self.parameters
        config = with_environment(self.config, changes)
        # The run may have had other devices than this machine.
        layout = lay_out(config.replace(devices=None), config.seeds)
        return evaluate_seeds(config, layout, params, stats, seed, tasks, greedy=greedy)

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
def _act(config: Config, greedy: bool) -> Callable[..., Any]:
    _, agent = build(config)

    @jax.jit
    def act(params: Any, stats: Any, inputs: Inputs, memory: Any, key: chex.PRNGKey) -> Any:
        out = agent.step(params, stats, inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(key)
        return actions, memory | out.states

    return act


def _recalled(
    agent: Agent, previous: Mapping[str, chex.Array] | None, lead: tuple[int, ...]
) -> Recalled | None:
    """The step before as the networks see it; what they do not see is ignored.

    Raises:
      ConfigError: something that they see is missing, or has another shape.
    """
    blank = no_step(agent.action, agent.network.recall or (), lead)
    if blank is None or previous is None:
        return blank
    fields = {"action": "actions", "reward": "rewards", "done": "done"}
    given = {}
    for name in agent.network.recall or ():
        if name not in previous:
            raise ConfigError(f"previous: {name} is missing; this network sees it")
        like = getattr(blank, fields[name])
        value = jnp.asarray(previous[name]).astype(like.dtype)
        if value.shape != like.shape:
            raise ConfigError(
                f"previous: {name} has shape {value.shape}; it should be {like.shape}"
            )
        given[fields[name]] = value
    return Recalled(**given)


def load_run(directory: str | Path, env: Any = None) -> SavedRun:
    """A run from its folder: finished, stopped or killed.

    Its parameters are read at once, so that ``policy`` can be traced, and goes on working whatever
    becomes of the folder.

    Args:
      directory: of the run.
      env: the environment, where it was an object.

    Raises:
      ConfigError: there is no run.
    """
    run = open_run(directory, env)
    with contextlib.suppress(ConfigError):  # raised again where they are asked for
        _ = run.parameters
    return run


def open_run(directory: str | Path, env: Any = None) -> SavedRun:
    """``load_run`` without the parameters, which are read when they are first asked for."""
    folder = Path(directory)
    return SavedRun(folder, folder_config(folder, env))
