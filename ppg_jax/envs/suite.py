"""What the file of an environment library (a suite) has to provide.

A suite's file has a ``SuiteEnvironment`` and a ``Suite`` that makes it. ``envs.adapter`` does the
rest: it converts spaces and observations, counts steps, and keeps the dtypes of states. Libraries
that step many environments at once have a ``SuiteBatch`` instead.
"""

import dataclasses
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import chex
import numpy as np

from ppg_jax.config import ConfigError, FrozenMapping, did_you_mean

TIME_LIMIT = "max_steps_in_episode"
"""Name in ``env_params`` of the time limit, for every suite."""
NO_LIMIT = 2**31 - 1
"""Time limit that stands for no limit: the largest number of steps in 32 bits."""


class SuiteStep(NamedTuple):
    """One step of a suite's environment.

    Attributes:
      obs: real successor observation, also at the end of an episode.
      state: state after the step, a pytree of arrays.
      reward: scalar.
      terminated: whether a terminal state was reached, bool scalar. A time limit does not count.
      truncated: whether the suite itself cut the episode, bool scalar.
    """

    obs: Any
    state: Any
    reward: Any
    terminated: Any
    truncated: Any = False


class BatchStep(NamedTuple):
    """One step of B environments that are stepped together. Leaves have a leading axis ``[B]``.

    Attributes:
      obs: real successor observations, also at the end of an episode.
      state: state after the step, a pytree of arrays.
      reward: rewards.
      terminated: whether a terminal state was reached, bool. A time limit does not count.
      truncated: whether the episode was cut, bool.
      next_obs: what the policy sees next: ``obs``, or the first observation of a new episode.
    """

    obs: Any
    state: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: Any


class SuiteSpaces:
    """Spaces and names, of a ``SuiteEnvironment`` or a ``SuiteBatch``.

    Attributes:
      name: name for display.
      observation_space: space of the observations (see ``envs.spaces``), without the action mask.
      action_space: space of the actions.
      max_episode_steps: time limit in steps; None: no limit.
      mask_key: entry of the observations, which are then a dict, that holds the legal actions: bool
        ``[n]`` if discrete, ``[K, n]`` or ``[sum of sizes]`` if multi-discrete. None: no mask.
      default_key: entry that the policy reads if the configuration names none; None: everything.
    """

    name: str
    observation_space: Any
    action_space: Any
    max_episode_steps: int | None = None
    mask_key: str | None = None
    default_key: str | None = None

    def check_drawable(self) -> None:
        """Checks that ``frame`` works.

        Raises:
          ConfigError: the environment cannot be drawn.
        """
        if type(self).frame is SuiteSpaces.frame:
            raise ConfigError(f"env: {self.name} cannot be drawn; its suite has no pictures of it")

    def frame(self, state: Any) -> np.ndarray:
        """A picture of a state, uint8 ``[height, width, 3]``. It runs outside of JAX programs.

        Batches get an observation in its stored form instead.
        """
        raise NotImplementedError


class SuiteEnvironment(SuiteSpaces):
    """One environment of a suite, as pure functions without auto-reset. Subclass it.

    Attributes:
      counts_steps: whether the adapter counts the steps and truncates at the limit. False: ``step``
        says itself when the limit was reached.
      task_fields: names of the state fields that define the task, for ``reset_task``.
    """

    counts_steps: bool = True
    task_fields: tuple[str, ...] = ()

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        raise NotImplementedError

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. If the episode ended, nothing is reset."""
        raise NotImplementedError

    def observe(self, key: chex.PRNGKey, state: Any) -> Any:
        """The observation of a state, if the task is part of it; None: as after the reset."""
        return None

    def measures(self, state: Any) -> Mapping[str, Any]:
        """What an episode has reached so far, as named scalars; evaluation reads them at its end.

        Args:
          state: state of one episode, the last one before a reset.

        Returns:
          A scalar for each name, always the same names: bool for what is reached or not, otherwise
          a number. By default there are none.
        """
        return {}


class SuiteBatch(SuiteSpaces):
    """B environments of a suite that are stepped together, by JAX operations. Subclass it.

    It is for libraries that step many environments at once, and begin new episodes themselves.
    ``OutsideBatch`` is for libraries that are not written in JAX.

    Attributes:
      outside: whether the environments live outside of the program. Then a state cannot be vmapped,
        stepped twice or saved.
    """

    outside: bool = False

    def reset(self, key: chex.PRNGKey, num_envs: int) -> tuple[Any, Any]:
        """Begins B episodes and returns ``(obs, state)``; ``obs`` has leaves ``[B, ...]``."""
        raise NotImplementedError

    def step(self, state: Any, actions: Any) -> BatchStep:
        """Takes one step in each environment, and begins a new episode where one ended."""
        raise NotImplementedError

    def close(self, state: Any) -> None:
        """Frees what the environments of a state hold. The state cannot be stepped any more."""

    def with_levels(self, num_levels: int, first_level: int) -> "SuiteBatch":
        """The same environments, restricted to some levels.

        Raises:
          ConfigError: the suite has no levels.
        """
        raise ConfigError(f"num_levels: {num_levels} is invalid; {self.name} has no levels")


@dataclasses.dataclass(frozen=True)
class Suite:
    """An environment library, whose environments are called ``name/Id``.

    Attributes:
      name: what stands before the slash.
      package: module that must be importable.
      make: ``make(id, env_params, env_kwargs)``, a ``SuiteEnvironment`` or ``SuiteBatch``.
      ids: ``ids() -> list of ids``, all that ``make`` knows; it gets no other.
      install: argument of ``pip install`` that brings the library.
      refused: ``refused() -> {id: why}``, ids of the library that do not work here.
    """

    name: str
    package: str
    make: Callable[[str, Mapping[str, Any], Mapping[str, Any]], Any]
    ids: Callable[[], list[str]]
    install: str
    refused: Callable[[], Mapping[str, str]] = dict

    @property
    def installed(self) -> bool:
        """Whether the library is installed. It is not imported."""
        try:
            return importlib.util.find_spec(self.package) is not None
        except (ImportError, ValueError):
            return False


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps away the warnings that a library gives when it is imported or makes an environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_names(section: str, given: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    """Checks the names in ``env_params`` or ``env_kwargs``.

    Args:
      section: ``env_params`` or ``env_kwargs``.
      given: what the configuration says.
      known: valid names.
      name: name of the environment, for the message.

    Raises:
      ConfigError: a name is unknown.
    """
    known = sorted(known)
    for key in given:
        if key not in known:
            rest = f"use {', '.join(known)}" if known else "there are none"
            raise ConfigError(
                f"{section}.{key}: unknown to {name}; {did_you_mean(key, known)}{rest}"
            )


def take_time_limit(env_params: Mapping[str, Any], usual: int | None) -> tuple[int | None, Any]:
    """The time limit of a configuration, and its other ``env_params``.

    Args:
      env_params: parameters of the configuration.
      usual: limit of the suite; None: no limit.

    Returns:
      The limit in steps (None: no limit), and the parameters without it.

    Raises:
      ConfigError: the limit is not a number of steps.
    """
    rest = FrozenMapping({name: x for name, x in env_params.items() if name != TIME_LIMIT})
    value = env_params.get(TIME_LIMIT, usual)
    if value in (None, "none", "None", "null"):
        return None, rest
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
    if not whole or value != int(value):
        raise ConfigError(
            f"env_params.{TIME_LIMIT}: {value!r} is invalid; it should be a whole number of at "
            "least 1, or none"
        )
    return (None if value >= NO_LIMIT else int(value)), rest
