"""A new run that begins with what another run has learned."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

from ppg_jax.algorithm import Learned, init, learned_by
from ppg_jax.config import (
    OBJECT,
    Config,
    ConfigError,
    as_path,
    check_whole,
    flatten,
    read_mapping,
)
from ppg_jax.runs.checkpoints import Checkpoints, digest_of, load_parameters
from ppg_jax.runs.folder import WARM_START, folder_config

_MEANING = (
    "env", "env_kwargs", "observation_key", "value_observation_key", "observation_scale",
    "normalize_observations", "scale_actions", "policy_distribution", "network.encoder",
    "network.encoder_kwargs", "network.image_layout", "network.activation", "network.memory",
    "network.history_length", "network.recall",
)  # fmt: skip
"""Fields that change what parameters mean, even where shapes are equal."""
_SHAPES = (
    "env", "env_kwargs", "arch", "observation_key", "value_observation_key", "policy_distribution",
    "network",
)  # fmt: skip
"""Fields and sections that decide which parameters there are."""


@dataclass(frozen=True)
class WarmStartOptions:
    """Where a run takes its first parameters from.

    Attributes:
      init_from: run folder.
      init_from_seed: seed of that run for all seeds; None: seed for seed.
      init_optimizer: whether the states of the optimizers are taken too.
      init_statistics: whether the statistics of rewards and observations are taken too.
    """

    init_from: Path
    init_from_seed: int | None = None
    init_optimizer: bool = False
    init_statistics: bool = True

    @classmethod
    def of(
        cls, init_from: Any, init_from_seed: Any, init_optimizer: Any, init_statistics: Any
    ) -> "WarmStartOptions | None":
        """The options as users give them; None: the run starts with random parameters.

        Raises:
          ConfigError: a value is invalid.
        """
        flags = {"init_optimizer": init_optimizer, "init_statistics": init_statistics}
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name}: {value!r} is invalid; it should be true or false")
        if init_from is None:
            given = {"init_from_seed": init_from_seed, "init_optimizer": init_optimizer or None}
            for name, value in given.items():
                if value is not None:
                    raise ConfigError(f"{name}: {value!r} has no effect without init_from")
            return None
        if init_from_seed is not None:
            check_whole("init_from_seed", init_from_seed, 0)
        return cls(as_path("init_from", init_from), init_from_seed, **flags)


@dataclass(frozen=True)
class Taken:
    """What a run takes from another one.

    Attributes:
      learned: leaves ``[S, ...]`` for the seeds of the new run.
      record: where it comes from, and a digest, as plain values.
      notes: messages for the user, one line each.
    """

    learned: Learned
    record: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The record as the contents of a file."""
        header = "# The run began with what another run had learned.\n"
        return header + yaml.safe_dump(self.record, sort_keys=False)


def take(options: WarmStartOptions, config: Config) -> Taken:
    """Takes from another run what a new run begins with. No file is changed.

    Args:
      options: where it comes from.
      config: configuration of the new run, with networks as ``build`` resolves them.

    Raises:
      ConfigError: there is no such run, or it does not fit the new one.
    """
    with _named() as notes:
        there = _its_config(options.init_from, config)
        _check_seeds(options, there, config)
        found = _found(options, there, config, notes)
    _check_shapes(found, options.init_from, there, config)
    if differing := _differences(there, config, _MEANING):
        notes.append(f"warning: parameters may mean something else: {differing}")
    seed, seeds = options.init_from_seed, config.seeds
    if seed is not None:
        found = jax.tree.map(lambda x: x[seed : seed + 1], found)
    names = _names(found)
    record = {
        "init_from": str(options.init_from.absolute()),
        "init_from_seed": seed,
        "init_optimizer": options.init_optimizer,
        "init_statistics": options.init_statistics,
        "taken": names,
        "digest": digest_of(found),
    }
    which = "seed for seed" if seed is None else f"seed {seed} for all"
    notes.insert(0, f"starting from {options.init_from}, {which}: {', '.join(names)}")
    learned = jax.tree.map(lambda x: np.broadcast_to(x, (seeds, *x.shape[1:])), found)
    return Taken(learned, record, tuple(notes))


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of the warm start of a run; None: it began with random parameters.

    Raises:
      ConfigError: the file is damaged.
    """
    file = folder / WARM_START
    return read_mapping(file) if file.is_file() else None


def take_again(folder: Path, config: Config) -> Taken | None:
    """Repeats the warm start of a run that was killed before its first checkpoint.

    Args:
      folder: folder of the run.
      config: its configuration.

    Returns:
      The same as at its start; None: it began with random parameters.

    Raises:
      ConfigError: the other run is gone, or has changed since.
    """
    record = read_record(folder)
    if record is None:
        return None
    try:
        options = WarmStartOptions.of(
            *(record.get(name) for name in WarmStartOptions.__dataclass_fields__)
        )
        if options is None:
            raise ConfigError(f"{folder / WARM_START} does not name a run")
        taken = take(options, config)
        if taken.record["digest"] != record.get("digest"):
            raise ConfigError(f"init_from: {options.init_from} has changed since")
    except ConfigError as error:
        raise ConfigError(
            f"DIR: {folder} has no checkpoint yet, and its warm start cannot be repeated: "
            f"{error}; start a new run"
        ) from None
    return taken


@contextlib.contextmanager
def _named() -> Iterator[list[str]]:
    """Errors about the other run's folder name ``init_from``; its warnings become notes."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield notes
        except ConfigError as error:
            text = str(error)
            own = text.startswith("init_")
            text = text if own else f"init_from: {text.removeprefix('DIR: ')}"
            raise ConfigError(text) from None
    notes.extend(f"warning: {warning.message}" for warning in caught)


def _its_config(folder: Path, config: Config) -> Config:
    """The configuration of the other run. Objects, which files cannot store, are the new run's."""
    there = folder_config(folder)
    if str(there.env).startswith(OBJECT) and not isinstance(config.env, str):
        there = there.replace(env=config.env)
    encoder = config.network.encoder
    if str(there.network.encoder).startswith(OBJECT) and not isinstance(encoder, str):
        there = there.replace(network=replace(there.network, encoder=encoder))
    return there


def _check_seeds(options: WarmStartOptions, there: Config, config: Config) -> None:
    if options.init_from_seed is not None:
        check_whole("init_from_seed", options.init_from_seed, 0, there.seeds - 1)
    elif there.seeds != config.seeds:
        raise ConfigError(
            f"init_from: {options.init_from} has seeds {there.seeds}, and this run {config.seeds}; "
            f"give them equal numbers, or init_from_seed (0 to {there.seeds - 1}): one for all"
        )


def _found(options: WarmStartOptions, there: Config, config: Config, notes: list[str]) -> Learned:
    """What the other run has of what is wanted, leaves ``[its seeds, ...]``."""
    if there.arch != config.arch:
        raise ConfigError(
            f"init_from: arch is {there.arch} in {options.init_from}, and {config.arch} in this "
            "run; a warm start needs the same"
        )
    with_rewards = options.init_statistics and there.normalize_rewards and config.normalize_rewards
    saved, problem = None, ""
    if options.init_optimizer or with_rewards:
        saved, problem = _newest_state(options.init_from, there)
    if options.init_optimizer:
        if saved is None:
            raise ConfigError(
                f"init_optimizer: {options.init_from} keeps no usable checkpoint, only parameters"
                f"{problem}; leave it out, then the optimizers begin anew"
            )
        found = saved.replace(opt_states=_optimizers(options, saved.opt_states or {}, config))
    else:
        params, stats = load_parameters(options.init_from, there)
        rewards = None if saved is None else saved.reward_stats
        found = Learned(params, None, stats, stats, rewards)
    if with_rewards and saved is None:
        notes.append(
            f"warning: statistics of rewards begin anew: {options.init_from} keeps no usable "
            f"checkpoint, only parameters{problem}"
        )
    with_obs = (
        options.init_statistics and there.normalize_observations and config.normalize_observations
    )
    if not with_rewards:
        found = found.replace(reward_stats=None)
    if not with_obs:
        found = found.replace(obs_stats=None, seen_obs_stats=None)
    return jax.tree.map(np.asarray, found)


def _newest_state(folder: Path, there: Config) -> tuple[Learned | None, str]:
    """What the newest usable checkpoint has; or None, and why there is none."""
    saved, skipped = Checkpoints(folder).newest(there)
    if saved is None:
        return None, f" ({skipped[0]})" if skipped else ""
    return learned_by(saved.state), ""


def _optimizers(
    options: WarmStartOptions, there: Mapping[str, Any], config: Config
) -> dict[str, Any]:
    """States of the optimizers that the new run has."""
    needed = _shapes(config).opt_states or {}
    for name in needed:
        if name not in there:
            why = "e_pi and e_v differ" if name == "value" else "it has an auxiliary phase"
            raise ConfigError(
                f"init_optimizer: {options.init_from} has no state of the optimizer {name}, which "
                f"this run has because {why}; leave it out, then the optimizers begin anew"
            )
    return {name: there[name] for name in needed}


def _shapes(config: Config) -> Learned:
    """Shapes of what a run learns, of one seed."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return learned_by(jax.eval_shape(lambda key: init(config, key), key))


_KINDS = {
    "params": "parameter",
    "opt_states": "optimizer state",
    "obs_stats": "statistics of observations",
    "reward_stats": "statistics of rewards",
}
"""Names of the parts for messages. ``seen_obs_stats`` goes with ``obs_stats``."""


def _names(learned: Learned) -> list[str]:
    """Names of the parts that are not None."""
    plural = {"parameter": "parameters", "optimizer state": "optimizer states"}
    kinds = [kind for part, kind in _KINDS.items() if getattr(learned, part) is not None]
    return [plural.get(kind, kind) for kind in kinds]


def _check_shapes(found: Learned, folder: Path, there: Config, config: Config) -> None:
    """Checks that everything has the shape that the new run needs.

    Raises:
      ConfigError: it has not; the message names it, with both shapes.
    """
    needed = _shapes(config)
    for part, kind in _KINDS.items():
        if getattr(found, part) is None:
            continue
        mine = _described(getattr(needed, part), 0)
        other = _described(getattr(found, part), 1)
        for name in [*mine, *(name for name in other if name not in mine)]:
            if mine.get(name) != other.get(name):
                differing = _differences(there, config, _SHAPES)
                raise ConfigError(
                    f"init_from: {kind} {name} is {other.get(name, 'missing')} in {folder}, and "
                    f"{mine.get(name, 'missing')} in this run" + (differing and f" ({differing})")
                )


def _described(tree: Any, axes: int) -> dict[str, str]:
    """Dtype and shape of every leaf, by its name, without the first axes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape[axes:])}"
        for path, x in leaves
    }


def _differences(there: Config, here: Config, names: tuple[str, ...]) -> str:
    """Fields that differ, with both values, as text."""
    old, new = flatten(there.to_dict()), flatten(here.to_dict())
    shown = [
        f"{name} {old.get(name)} there and {new.get(name)} here"
        for name in sorted({*old, *new})
        if (name in names or name.partition(".")[0] in names) and old.get(name) != new.get(name)
    ]
    return ", ".join(shown)
