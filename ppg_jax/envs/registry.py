"""Finds the suite of an environment's id: built-in, registered, or of an installed package."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from ppg_jax.config import ConfigError, did_you_mean
from ppg_jax.envs.suite import Suite, quiet_import
from ppg_jax.envs.suites import SUITES

ENTRY_POINTS = "ppg_jax.suites"
"""Group of entry points by which other packages bring suites."""

_registered = {suite.name: suite for suite in SUITES}


def register_suite(suite: Suite) -> None:
    """Adds a suite, so that ``env: name/Id`` finds its environments.

    Raises:
      ConfigError: there is another suite of this name.
    """
    if _registered.get(suite.name, suite) != suite:
        raise ConfigError(f"suite: {suite.name!r} is taken; choose another name")
    _registered[suite.name] = suite


def suites() -> dict[str, Suite]:
    """All suites by name: built-in, registered, and entry points of installed packages."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name not in _registered:
            register_suite(point.load())
    return dict(_registered)


def find_suite(name: str) -> Suite:
    """The suite of a name, if it is installed.

    Raises:
      ConfigError: there is no such suite, or its library is not installed.
    """
    known = suites()
    if name not in known:
        raise ConfigError(
            f"env: there is no suite {name!r}; {did_you_mean(name, known)}known are "
            f"{', '.join(sorted(known))}"
        )
    suite = known[name]
    if not suite.installed:
        raise ConfigError(f"env: the suite {name} is not installed; pip install '{suite.install}'")
    return suite


def suite_ids(name: str) -> list[str]:
    """Ids of a suite's environments, without the name of the suite.

    Raises:
      ConfigError: there is no such suite, or its library is not installed.
    """
    suite = find_suite(name)
    with quiet_import():
        return suite.ids()


def make_of_suite(env: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> Any:
    """The environment of an id ``suite/Id``.

    Raises:
      ConfigError: the suite, the id or a name is unknown, or the suite is not installed.
    """
    name, _, env_id = env.partition("/")
    suite = find_suite(name)
    with quiet_import():
        known, refused = suite.ids(), suite.refused()
        if env_id in refused:
            raise ConfigError(f"env: {env} is not supported, because {refused[env_id]}")
        if env_id not in known:
            raise ConfigError(
                f"env: {env!r} is unknown; {did_you_mean(env_id, known)}ppg-jax list {name} shows "
                "all"
            )
        return suite.make(env_id, env_params, env_kwargs)
