"""Phasic Policy Gradient in JAX: whole training runs and sweeps as one compiled program.

This file lists the public names and imports each one at its first use. It holds no other code.
"""

import importlib
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppg_jax.algorithm import (
        env_steps,
        init,
        make_train,
        restart_envs,
        train_phases,
        train_tail,
    )
    from ppg_jax.backend import Backend, backend_for
    from ppg_jax.config import Config, ConfigError, Hyperparams, NetworkConfig, load_config
    from ppg_jax.execution import distributed, evaluate, use_all_cores
    from ppg_jax.report import BenchResult
    from ppg_jax.runs import Result, RunSoFar, SavedRun, bench, load_run, resume, run
    from ppg_jax.sweeps import SweepResult, TuneResult, resume_sweep, resume_tune, sweep, tune
    from ppg_jax.types import Metrics, TrainState

__version__ = "0.1.0"

_jaxlib = version("jaxlib")
if _jaxlib.startswith("0.10."):
    warnings.warn(
        f"jaxlib {_jaxlib} deadlocks at random on CPU in vmapped training programs; install a "
        "version that this package's dependencies allow, or use strategy auto, which does not vmap "
        "on CPU",
        stacklevel=2,
    )

# The folder of each public name. It is imported when the name is first used: the environments and
# matplotlib take seconds to import, and ppg-jax --help needs neither.
_HOMES = {
    "Backend": "backend",
    "BenchResult": "report",
    "Config": "config",
    "ConfigError": "config",
    "Hyperparams": "config",
    "Metrics": "types",
    "NetworkConfig": "config",
    "Result": "runs",
    "RunSoFar": "runs",
    "SavedRun": "runs",
    "SweepResult": "sweeps",
    "TrainState": "types",
    "TuneResult": "sweeps",
    "backend_for": "backend",
    "bench": "runs",
    "distributed": "execution",
    "env_steps": "algorithm",
    "evaluate": "execution",
    "init": "algorithm",
    "load_config": "config",
    "load_run": "runs",
    "make_train": "algorithm",
    "resume": "runs",
    "resume_sweep": "sweeps",
    "resume_tune": "sweeps",
    "run": "runs",
    "sweep": "sweeps",
    "restart_envs": "algorithm",
    "train_phases": "algorithm",
    "train_tail": "algorithm",
    "tune": "sweeps",
    "use_all_cores": "execution",
}

__all__ = [
    "Backend",
    "BenchResult",
    "Config",
    "ConfigError",
    "Hyperparams",
    "Metrics",
    "NetworkConfig",
    "Result",
    "RunSoFar",
    "SavedRun",
    "SweepResult",
    "TrainState",
    "TuneResult",
    "backend_for",
    "bench",
    "distributed",
    "env_steps",
    "evaluate",
    "init",
    "load_config",
    "load_run",
    "make_train",
    "restart_envs",
    "resume",
    "resume_sweep",
    "resume_tune",
    "run",
    "sweep",
    "train_phases",
    "train_tail",
    "tune",
    "use_all_cores",
]


_MODULES = ("envs", "logging", "report")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
