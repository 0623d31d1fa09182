"""A finished or stopped run, loaded from its folder: metrics, policy, evaluation, export."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chex
import jax
import numpy as np
from matplotlib.figure import Figure

from ppg_jax.config import Config, ConfigError, as_path, check_whole, read_plain, with_environment
from ppg_jax.execution import (
    LONGEST_LIMIT,
    MOST_EPISODES,
    MOST_STEPS,
    Played,
    Step,
    act,
    check_seed,
    evaluate_seeds,
    export_policy,
    initial_memory,
    lay_out,
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
from ppg_jax.runs.folder import METRICS
from ppg_jax.runs.loggers import read_metrics
from ppg_jax.runs.rendering import Episode, write_episode
from ppg_jax.types import MetricArrays

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, repr=False)
class SavedRun:
    """A run of S seeds, loaded from its folder. Files are read when they are first needed.

    Attributes:
      directory: run folder.
      config: resolved configuration.
    """

    directory: Path
    config: Config

    @functools.cached_property
    def metrics(self) -> MetricArrays:
        """Metrics by name, each ``[S, iterations]``; those of a stopped run end where it stopped.

        Raises:
          ConfigError: ``metrics.csv`` is missing or damaged.
        """
        return read_metrics(self.directory / METRICS, self.config)

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Contents of ``summary.json``; empty if the run was killed.

        Raises:
          ConfigError: the file is damaged.
        """
        file = self.directory / "summary.json"
        try:
            found = json.loads(read_plain(file, LARGEST_TEXT)) if file.exists() else {}
        except OSError as error:
            raise ConfigError(f"DIR: {file} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"DIR: {file} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise ConfigError(f"DIR: {file} contains a {type(found).__name__}, not a mapping")
        return found

    @functools.cached_property
    def parameters(self) -> tuple[Any, Any]:
        """Parameters and observation statistics (or None) of all seeds, leaves ``[S, ...]``.

        Raises:
          ConfigError: no parameters were saved, or they are damaged.
        """
        with jax.ensure_compile_time_eval():  # the caller may be tracing
            return load_parameters(self.directory, self.config)

    def __repr__(self) -> str:
        return run_line("Saved run", self.config, self._returns_or_nan(), str(self.directory))

    def _returns_or_nan(self) -> np.ndarray:
        try:
            return self.final_returns
        except ConfigError:
            return np.full(self.config.seeds, np.nan)

    def _repr_html_(self) -> str:
        try:
            rows = seed_rows(self.final_returns, self.first_bad_iteration)
        except ConfigError as error:
            return table_html(repr(self), [], [str(error)])
        return table_html(repr(self), rows)

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of each seed over the last tenth of the run, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def first_bad_iteration(self) -> list[int | None]:
        """First iteration of each seed with a NaN or infinite loss, or None."""
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
        """Actions of a seed's policy, in the form that the environment takes. It can be traced.

        A network with a memory is called with the memory after the previous step::

            memory = saved.initial_memory(num_envs)
            actions, memory = saved.policy(obs, key, memory=memory, starts=starts)

        A network that sees its own last action (``config.network.recall``) needs that action as the
        network gave it. So ask for ``raw`` actions, pass ``saved.to_env(actions)`` to the
        environment, and pass the raw actions as ``previous`` at the next step.

        Args:
          obs: observations ``[B, ...]`` as the environment gives them, or a single observation
            without the batch axis; then no other argument has the axis either.
          key: random key for sampling the actions.
          memory: memory before this step, ``[B, ...]``; None: the first step of an episode.
          starts: whether an episode begins at this step, which resets the memory, bool ``[B]``;
            None: no episode begins.
          previous: values of the previous step that the network sees (``config.network.recall``):
            raw ``action``, raw ``reward``, ``done``; None: there is no previous step.
          seed: number of the seed.
          greedy: take the most probable action instead of a sample.
          raw: return actions as the network gives them: integers from 0 on, or floats that are
            neither clipped nor scaled; both flat.

        Returns:
          Actions ``[B, ...]``, or a single action, with the structure, shapes, dtypes and bounds of
          the action space. If ``memory`` was given, also the memory after the step.

        Raises:
          ConfigError: there is no such seed, or an argument has a wrong shape.
        """
        return act(
            self.config,
            self._parameters_of(seed),
            obs,
            key,
            Step(memory=memory, starts=starts, previous=previous, greedy=greedy, raw=raw),
        )

    def to_env(self, actions: chex.Array) -> Any:
        """Converts raw actions of ``policy`` for the environment, with or without the batch axis.

        Raises:
          ConfigError: the actions have a wrong shape.
        """
        return to_env(self.config, actions)

    def initial_memory(self, num_envs: int | None = None) -> Any:
        """Memory before the first observation, leaves ``[num_envs, ...]``; None: without the axis.

        Raises:
          ConfigError: ``num_envs`` is invalid.
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
        """Writes a seed's policy as a program that needs only JAX, for any number of environments.

        Load it and call it with a batch of observations, as the environment gives them::

            program = jax.export.deserialize(bytearray(Path("policy.jax").read_bytes()))
            actions = program.call(obs, jax.random.key_data(key))

        The second argument is the ``key_data`` of a random key. A ``greedy`` program takes it too,
        but does not use it. A network with a memory, or one that sees values of the previous step,
        takes three more arguments and returns actions and memory. The arguments are as in
        ``policy``: the memory (``saved.initial_memory(num_envs)``, or that after the previous
        step), ``starts``, and ``previous`` (a dict with the names in ``config.network.recall``; {}
        if there are none).

        Args:
          path: file to write; an existing file is replaced.
          seed: number of the seed.
          greedy: take the most probable action instead of a sample.
          raw: return actions as the network gives them.
          platforms: platforms that the program can run on.

        Returns:
          The path.

        Raises:
          ConfigError: there is no such seed or platform, or the file cannot be written.
        """
        file = as_path("path", path)
        program = export_policy(
            self.config, self._parameters_of(seed), platforms, Step(greedy=greedy, raw=raw)
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
        """Plays new episodes with the policy of every seed.

        Args:
          episodes: number of episodes E of each seed, played in parallel.
          greedy: take the most probable action instead of a sample.
          seed: random seed of the episodes.
          max_steps: step at which an episode is cut off; default: the environment's own time limit
            if it is at most 100,000, otherwise 10,000.
          **changes: changes of the environment: ``env_params``, ``env_kwargs``, ``num_levels``,
            ``first_level``, ``hide_components``, ``drop_observations``, ``episodes_per_task``.

        Returns:
          Raw returns, lengths and whether each episode ended, each ``[S, E]``. If a task has
          several episodes, each entry is for a whole task.

        Raises:
          ConfigError: a change is unknown or invalid.
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
        """Like ``evaluate``, but with a return for each episode, ``[S, E, episodes_per_task]``.

        If the returns grow from episode to episode, the policy learns within the task.
        """
        played = self.play(tasks, greedy=greedy, seed=seed, max_steps=max_steps, **changes)
        return played.returns, played.lengths, played.ended

    def play(
        self,
        tasks: int = 128,
        *,
        greedy: bool = False,
        seed: int = 0,
        max_steps: int | None = None,
        **changes: Any,
    ) -> Played:
        """Plays the episodes of ``evaluate`` and returns all that is known of them, by name.

        Craftax measures its achievements; most environments measure nothing. A measure is read from
        the last state of an episode, before the reset. An episode that is cut off counts with the
        state it had reached by then, and a task of several episodes with its last one.

        The arguments are those of ``evaluate``.

        Returns:
          ``returns``, ``lengths`` and ``ended`` as from ``evaluate_tasks``; and ``measures``, an
          array ``[S, E]`` for each name: bool for what is reached or not, otherwise float32.

        Raises:
          ConfigError: an argument is invalid.
        """
        check_whole("episodes", tasks, 1, MOST_EPISODES)
        check_whole("seed", seed, 0, 2**32 - 1)
        if max_steps is not None:
            check_whole("max_steps", max_steps, 1, MOST_STEPS)
        params, stats = self.parameters
        config = with_environment(self.config, changes)
        # The run may have used other devices than this machine has.
        alone = config.replace(devices=None, devices_per_seed=None)
        layout = lay_out(alone, config.seeds)
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
          file: GIF file to write.
          seed: number of the seed whose policy plays.
          episode: number of the episode; each number gives a different one.
          greedy: take the most probable action instead of a sample.
          max_steps: maximum number of frames.

        Returns:
          The return of the episode up to the last frame.

        Raises:
          ConfigError: gymnax cannot draw the environment, or the file cannot be written.
        """
        check_whole("max_steps", max_steps, 1, LONGEST_LIMIT)
        check_whole("episode", episode, 0, 2**32 - 1)
        which = Episode(episode, greedy, max_steps)
        path, acting = as_path("file", file), self._parameters_of(seed)
        return write_episode(self.config, acting, path, which)

    def plot(self) -> Figure:
        """The learning curve: mean return with a 95% bootstrap interval over seeds."""
        return plot_learning_curve(self.config, self.metrics)

    def to_dataframe(self) -> "pd.DataFrame":
        """The metrics as a table, one row for each seed and iteration."""
        return to_dataframe(self.metrics)

    def _parameters_of(self, seed: int) -> tuple[Any, Any]:
        number = check_seed(self.config, seed)
        return jax.tree.map(lambda x: x[number], self.parameters)
