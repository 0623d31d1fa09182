"""Groups of settings that differ only in hyperparameters: one program trains each."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.config import Config, ConfigError, Hyperparams, flatten, same_environment
from ppg_jax.report import exact
from ppg_jax.runs import LAYOUT_FIELDS, SavedGroup, resolve, seed_keys
from ppg_jax.sweeps.settings import Setting, is_hyperparameter

CHOSEN = (*LAYOUT_FIELDS, "aux_storage", "env_groups")
"""Fields that are chosen when a group is trained."""


@dataclasses.dataclass(frozen=True)
class Group:
    """H settings with S seeds each, trained by one program.

    Attributes:
      number: number of the group, which names its folder.
      settings: the settings, in the order of the replicas.
      config: resolved configuration, with S seeds and the sweep's own hyperparameters.
      begun: whether its folder exists.
    """

    number: int
    settings: tuple[Setting, ...]
    config: Config
    begun: bool = False

    @property
    def replicas(self) -> Config:
        """The configuration of the group as a run, with H x S seeds."""
        return self.config.replace(seeds=len(self.settings) * self.config.seeds)

    @property
    def hparams(self) -> Hyperparams:
        """Hyperparameters of the replicas, leaves ``[H x S]``."""
        each = [setting.config.hparams for setting in self.settings]
        return jax.tree.map(lambda *x: jnp.repeat(jnp.float32(x), self.config.seeds), *each)

    @property
    def keys(self) -> chex.PRNGKey:
        """Random keys of the replicas, ``[H x S]``: every setting has those of the run alone."""
        return jnp.tile(seed_keys(self.config), len(self.settings))

    def config_of(self, setting: Setting) -> Config:
        """The resolved configuration of a setting."""
        return self.config.replace(hparams=setting.config.hparams)

    def name_of(self, replica: int) -> str:
        """A replica in words."""
        setting = self.settings[replica // self.config.seeds]
        return f"setting {setting.number} ({setting}), seed {replica % self.config.seeds}"

    def in_words(self) -> str:
        """What the settings have in common: the values of the fields that shape the program."""
        values = self.settings[0].values.items()
        return ", ".join(f"{name} {exact(v)}" for name, v in values if not is_hyperparameter(name))

    def stored(self, directory: Path) -> SavedGroup:
        """The group in the folder of its sweep."""
        settings = {setting.number: setting.values for setting in self.settings}
        return SavedGroup(group_folder(directory, self.number), self.config, settings)


def group_folder(directory: Path, number: int) -> Path:
    """Folder of a group."""
    return directory / "groups" / f"{number:03}"


def make_groups(config: Config, settings: Sequence[Setting], first: int = 0) -> list[Group]:
    """Groups of settings that share all fields but the hyperparameters, in order of appearance.

    Args:
      config: configuration of the sweep.
      settings: settings to group.
      first: number of the first group.

    Raises:
      ConfigError: the environment or the networks of a setting cannot be made.
    """
    alike: dict[Any, list[Setting]] = {}
    for setting in settings:
        static = setting.config.replace(hparams=config.hparams)
        alike.setdefault((static, same_environment(static)), []).append(setting)
    groups = []
    for number, ((static, _), members) in enumerate(alike.items(), first):
        try:
            groups.append(Group(number, tuple(members), resolve(static)))
        except ConfigError as error:
            one = members[0]
            raise ConfigError(f"setting {one.number} ({one}): {error}") from None
    return groups


def begun_group(
    saved: SavedGroup, config: Config, settings: Sequence[Setting], changes: dict[str, Any]
) -> Group:
    """The group of a folder, with the settings of its sweep.

    Args:
      saved: the group as it is stored.
      config: configuration of the sweep.
      settings: all settings of the sweep.
      changes: changes of how its replicas run.

    Raises:
      ConfigError: its settings or its configuration differ from those of the sweep.
    """
    try:
        own = tuple(settings[number] for number in saved.settings)
    except IndexError:
        raise ConfigError(f"DIR: {saved.folder} has settings that sweep.yaml lacks") from None
    for setting, values in zip(own, saved.settings.values(), strict=True):
        for name, value in values.items():
            now = setting.values.get(name)
            if now != value:
                raise ConfigError(
                    f"DIR: sweep.yaml differs from {saved.folder}: {name} of setting "
                    f"{setting.number} ({exact(value)} to {exact(now)}); change it back"
                )
    _check_same(saved, own[0].config.replace(hparams=config.hparams))
    return Group(int(saved.folder.name), own, saved.config.replace(**changes), begun=True)


def _check_same(saved: SavedGroup, wanted: Config) -> None:
    """Checks that ``config.yaml`` was not changed after a group was trained.

    Args:
      saved: the group as it is stored.
      wanted: its configuration as it would be now, not resolved.
    """
    old, new = flatten(saved.config.to_dict()), flatten(wanted.to_dict())
    for name, value in new.items():
        if name not in CHOSEN and value not in (None, "auto") and old.get(name) != value:
            raise ConfigError(
                f"DIR: config.yaml differs from {saved.folder}: {name} ({old.get(name)!r} to "
                f"{value!r}); change it back, or start a new sweep"
            )
