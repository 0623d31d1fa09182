"""The configuration of a run: its fields, their ranges, and checks of how they fit together.

This folder contains ``Config`` and its parts, reads YAML files, and reports each invalid value in
one line. It never trains and never creates a JAX array.
"""

from ppg_jax.config.checks import check_config, check_hparams
from ppg_jax.config.config import Config, config_from_dict
from ppg_jax.config.environment import with_environment
from ppg_jax.config.fields import (
    OBJECT,
    ConfigError,
    FrozenMapping,
    all_field_names,
    check_whole,
    did_you_mean,
    flatten,
    nearest,
    to_number,
)
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.config.identity import same_environment
from ppg_jax.config.importing import import_object, reason
from ppg_jax.config.network import NetworkConfig
from ppg_jax.config.plain_files import NO_WAITING, as_path, plain_size, read_plain
from ppg_jax.config.yaml_files import (
    available_configs,
    load_config,
    merge,
    read_config,
    read_mapping,
    read_value,
)

__all__ = [
    "NO_WAITING",
    "OBJECT",
    "Config",
    "ConfigError",
    "FrozenMapping",
    "Hyperparams",
    "NetworkConfig",
    "all_field_names",
    "as_path",
    "available_configs",
    "check_config",
    "check_hparams",
    "check_whole",
    "config_from_dict",
    "did_you_mean",
    "flatten",
    "import_object",
    "load_config",
    "merge",
    "nearest",
    "plain_size",
    "read_config",
    "read_mapping",
    "read_plain",
    "read_value",
    "reason",
    "same_environment",
    "to_number",
    "with_environment",
]
