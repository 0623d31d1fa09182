"""A finished or stopped run, read back from its folder and ready to use."""

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chex
import jax
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.algorithm import build
from ppg_jax.config import Config, ConfigError, as_path, check_whole, read_plain, with_environment
from ppg_jax.envs import animate, check_drawable
from ppg_jax.execution import (
    LONGEST_LIMIT,
    MOST_EPISODES,
    MOST_STEPS,
    Step,
    act,
    check_seed,
    evaluate_seeds,
    export_policy,
    initial_memory,
    lay_out,
    recording_program,
    to_env,
)
from ppg_jax.report import (
    final_returns,
    first_bad_iteration,
    plot_learning_curve,
    run_line,
    seed_rows,
    table_html,
    to_dataframe,
)
from ppg_jax.runs.checkpoints import LARGEST_TEXT, load_parameters
from ppg_jax.runs.files import write_whole
from ppg_jax.runs.folder import METRICS, folder_config
from ppg_jax.runs.loggers import read_metrics
from ppg_jax.types import MetricArrays

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
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
        with jax.ensure_compile_time_eval():  # somebody may be tracing
            return load_parameters(self.directory, self.config)

    def __repr__(self) -> str:
        try:
            returns = self.final_returns
        except ConfigError:
            returns = np.full(self.config.seeds, np.nan)
        return run_line("Saved run", self.config, returns, str(self.directory))

    def _repr_html_(self) -> str:
        try:
            rows = seed_rows(self.final_returns, self.first_bad_iteration)
        except ConfigError as error:
            return table_html(repr(self), [], [str(error)])
        return table_html(repr(self), rows)

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
        obs: Any,
        key: chex.PRNGKey,
        *,
        memory: Any = None,
        starts: chex.Array | None = None,
        previous: Mapping[str, chex.Array] | None = None,
        seed: int = 0,
        greedy: bool = False,
        raw: bool = False,
    ) -> Any:
        """What a seed's policy does, as the environment takes it. It can be traced.

        A network with a memory is called with the memory it left at the step before::

            memory = saved.initial_memory(num_envs)
            actions, memory = saved.policy(obs, key, memory=memory, starts=starts)

        A network that is told its own last action (``config.network.recall``) knows it as it came
        out of the network: take ``raw`` ones, hand ``saved.to_env(raw)`` to the environment and the
        raw ones back as ``previous``.

        Args:
          obs: ``[B, ...]`` as the environment gives them, or one without the axis (then nothing
            else has it either).
          key: for the choice.
          memory: before this step, ``[B, ...]``; None: the first step of an episode.
          starts: where an episode begins, so that memory starts anew, bool ``[B]``; None: nowhere.
          previous: of the step before what the network sees (``config.network.recall``): ``action``
            raw, ``reward`` raw, ``done``. None: there was none.
          seed: whose.
          greedy: take the most probable action instead of a sample.
          raw: actions as the network gives them: whole numbers from 0 on, unclipped and unscaled
            floats, flat.

        Returns:
          Actions ``[B, ...]``, or one: of the structure, shapes, dtypes and bounds of the action
          space; with the memory after the step, if one was given.

        Raises:
          ConfigError: there is no such seed, or what is given has another shape.
        """
        return act(
            self.config,
            self._of(seed),
            obs,
            key,
            Step(memory=memory, starts=starts, previous=previous, greedy=greedy, raw=raw),
        )

    def to_env(self, actions: chex.Array) -> Any:
        """Raw actions of ``policy`` as the environment takes them, with or without the batch axis.

        Raises:
          ConfigError: they have another shape.
        """
        return to_env(self.config, actions)

    def initial_memory(self, num_envs: int | None = None) -> Any:
        """Memories before any observation, leaves ``[num_envs, ...]``; None: without the axis.

        Raises:
          ConfigError: there are no so many environments.
        """
        if num_envs is not None:
            check_whole("num_envs", num_envs, 1)
        return initial_memory(self.config, num_envs)

    def export(
        self,
        path: str | Path,
        *,
        seed: int = 0,
        greedy: bool = False,
        raw: bool = False,
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    ) -> Path:
        """Writes a seed's policy as a program that needs JAX only, for any number of environments.

        It is read and called so, with a batch of observations as the environment gives them::

            program = jax.export.deserialize(bytearray(Path("policy.jax").read_bytes()))
            actions = program.call(obs, jax.random.key_data(key))

        The second argument is what is random (``key_data`` of a key), also where ``greedy`` makes
        no use of it. A network with a memory, or that is told of the step before, is called with
        three more: the memory (``saved.initial_memory(num_envs)``, or that of the step before),
        ``starts`` and ``previous`` (a dict of what ``config.network.recall`` names; {} if nothing),
        all as in ``policy``, and gives actions and memory.

        Args:
          path: to write; what was there is replaced.
          seed: whose.
          greedy: take the most probable action instead of a sample.
          raw: actions as the network gives them.
          platforms: where it is to run.

        Returns:
          The path.

        Raises:
          ConfigError: there is no such seed or platform, or the file cannot be written.
        """
        file = as_path("path", path)
        program = export_policy(
            self.config, self._of(seed), platforms, Step(greedy=greedy, raw=raw)
        )
        try:
            write_whole(file, bytes(program))
        except OSError as error:
            raise ConfigError(f"path: {file} cannot be written: {error.strerror}") from None
        return file

    def evaluate(
        self,
        episodes: int = 128,
        *,
        greedy: bool = False,
        seed: int = 0,
        max_steps: int | None = None,
        **changes: Any,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Plays fresh episodes with the policy of every seed.

        Args:
          episodes: E, of each seed, side by side.
          greedy: take the most probable action instead of a sample.
          seed: of the episodes' randomness.
          max_steps: where episodes that do not end are cut; default the environment's own time
            limit if that is at most 100,000, otherwise 10,000.
          **changes: of the environment: ``env_params``, ``env_kwargs``, ``num_levels``,
            ``first_level``, ``hide_components``, ``drop_observations``, ``episodes_per_task``.

        Returns:
          Raw returns, lengths and whether each episode ended, each ``[S, E]``. Where a task has
          several episodes, one of these is the whole task.

        Raises:
          ConfigError: a change is none of these, or is invalid.
        """
        returns, lengths, ended = self.evaluate_tasks(
            episodes, greedy=greedy, seed=seed, max_steps=max_steps, **changes
        )
        return returns.sum(-1), lengths, ended

    def evaluate_tasks(
        self,
        tasks: int = 128,
        *,
        greedy: bool = False,
        seed: int = 0,
        max_steps: int | None = None,
        **changes: Any,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``evaluate`` with the returns of a task's episodes apart, ``[S, E, episodes_per_task]``.

        Returns that grow from episode to episode are learning within the task.
        """
        check_whole("episodes", tasks, 1, MOST_EPISODES)
        check_whole("seed", seed, 0, 2**32 - 1)
        if max_steps is not None:
            check_whole("max_steps", max_steps, 1, MOST_STEPS)
        params, stats = self.parameters
        config = with_environment(self.config, changes)
        # The run may have had other devices than this machine.
        layout = lay_out(config.replace(devices=None), config.seeds)
        return evaluate_seeds(
            config, layout, params, stats, seed, tasks, greedy=greedy, max_steps=max_steps
        )

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
          ConfigError: gymnax cannot draw the environment, or the file cannot be written.
        """
        check_whole("max_steps", max_steps, 1, LONGEST_LIMIT)
        check_whole("episode", episode, 0, 2**32 - 1)
        path = as_path("file", file)
        if path.suffix != ".gif":
            raise ConfigError(f"file: {str(path)!r} is invalid; its name should end in .gif")
        if not path.parent.is_dir():
            raise ConfigError(f"file: {path.parent} is no folder; make it first")
        env = build(self.config).env
        check_drawable(env.name)
        play = recording_program(self.config, greedy, max_steps)
        states, rewards, ended = play(*self._of(seed), jax.random.key(episode))
        ended = np.asarray(ended)
        length = int(ended.argmax()) + 1 if ended.any() else max_steps
        returns = np.cumsum(np.asarray(rewards)[:length])
        frames = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(length)]
        # To a file: pygame is to look for no screen, and no sound card, which it misses aloud.
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

    def plot(self) -> Figure:
        """The learning curve."""
        return plot_learning_curve(self.config, self.metrics)

    def to_dataframe(self) -> "pd.DataFrame":
        """The metrics as a table, one row for each seed and iteration."""
        return to_dataframe(self.metrics)

    def _of(self, seed: int) -> tuple[Any, Any]:
        number = check_seed(self.config, seed)
        return jax.tree.map(lambda x: x[number], self.parameters)


def load_run(directory: str | Path, env: Any = None) -> SavedRun:
    """A run from its folder: finished, stopped or killed.

    Its parameters are read at once, so that ``policy`` can be traced, and goes on working whatever
    becomes of the folder.

    Args:
      directory: of the run.
      env: the environment, where it was an object.

    Raises:
      ConfigError: there is no run, or neither its parameters nor its metrics can be read.
    """
    run = open_run(directory, env)
    try:
        _ = run.parameters
    except ConfigError:
        _ = run.metrics  # with neither there is no run; what is missing is said when asked for
    return run


def open_run(directory: str | Path, env: Any = None) -> SavedRun:
    """``load_run`` without the parameters, which are read when they are first asked for."""
    folder = as_path("DIR", directory)
    return SavedRun(folder, folder_config(folder, env))
