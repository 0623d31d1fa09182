"""What ``gpu.py`` measures: the parts, the most valuable first, and how each gets its row."""

import dataclasses
import hashlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import throughput
from against_rejax import CASES, COMMON, our_config
from common import one_phase, peak_mib
from learning import summarize

from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.report.statistics import iqm_interval
from ppg_jax.runs.run import run

BREAKOUT = "minatar/breakout"
CNN = "breakout_cnn"
CONFIGS: dict[str, str | Path] = {
    BREAKOUT: BREAKOUT,
    CNN: Path(__file__).parent / "breakout_cnn.yaml",
}
PPO_SIZES: dict[str, dict[str, Any]] = {
    "64x128": CASES["breakout"] | {"iterations": 2},
    "2048x10": {
        "env": "Breakout-MinAtar", "num_envs": 2048, "num_steps": 10, "num_minibatches": 32,
        "iterations": 2,
    },
}  # fmt: skip
"""Environments times steps, as PureJaxRL has them for MinAtar and for Brax."""
SMALL: dict[str, Any] = {
    "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2, "arch": "shared", "e_aux": 0,
}  # fmt: skip
"""Runs and compiles soon."""
KNOWN = {
    "device": "two shared CPU cores", "seeds": 8, "mean": 47.5, "interval_95": [33.8, 63.0],
    "run_seconds": 486, "env_steps_per_second": 49_630,
}  # fmt: skip
"""The same training as README.md has it: seeds, return and seconds of all seeds together."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
      name: its words go from the kind to the detail; ``--parts`` takes the first of them.
      measure: gives its row; takes the seconds after which it is killed.
      limit: these seconds.
    """

    name: str
    measure: Callable[[float], dict[str, Any]]
    limit: float


def speed_part(name: str, strategy: str, seeds: int, **changes: Any) -> Part:
    """PPG by a strategy."""

    def measure(_: float) -> dict[str, Any]:
        how = {"strategy": strategy, "seeds": seeds, "devices": 1}
        return speed(load_config(CONFIGS[name], **how, **changes))

    return Part(f"throughput {name} {strategy} {seeds}", measure, 90 if seeds < 1024 else 130)


def ppo_part(size: str, seeds: int, **changes: Any) -> Part:
    """PPO of one of PureJaxRL's sizes, vmapped over seeds."""

    def measure(_: float) -> dict[str, Any]:
        config = our_config(COMMON | PPO_SIZES[size] | {"seeds": seeds}, "ppo")
        return speed(config.replace(strategy="vmap", devices=1, **changes))

    return Part(f"ppo {size} vmap {seeds}", measure, 90)


def speed(config: Config) -> dict[str, Any]:
    """Speed and memory of a phase of two iterations; a slow one is repeated less often."""
    return throughput.measure(one_phase(config, 2), 5, most_seconds=20)


def training_part(
    name: str,
    measure: Callable[[Config, float], dict[str, Any]],
    limit: float,
    **changes: Any,
) -> Part:
    """A run of Breakout."""
    return Part(name, lambda s: measure(load_config(BREAKOUT, devices=1, **changes), s), limit)


def learning(config: Config, limit: float) -> dict[str, Any]:
    """Returns of a run, beside those that are known. Shortly before the limit the run ends."""
    seconds = 0.85 * limit
    alarm = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()
    try:
        result = run(config, progress=False)
    finally:
        alarm.cancel()
    middle, low, high = iqm_interval([result.final_returns])
    row = summarize(config.env_name, result) | {
        "iqm": round(middle, 3),
        "iqm_interval_95": [round(low, 3), round(high, 3)],
        "peak_mib": peak_mib(),
        "known_on_cpu": KNOWN,
    }
    cut_off = {"failed": f"not at its end after {seconds:.0f} s"}
    return row if result.finished else row | cut_off


def repetition(config: Config, _: float) -> dict[str, Any]:
    """A short run, and a hash of all of its metrics."""
    result = run(config, progress=False)
    digest = hashlib.sha256()
    for name in sorted(result.metrics):
        digest.update(name.encode() + np.ascontiguousarray(result.metrics[name]).tobytes())
    return {
        "seeds": config.seeds,
        "strategy": result.config.strategy,
        "run_seconds": round(result.run_seconds, 2),
        "bits": digest.hexdigest()[:16],
    }


def parts(small: bool) -> list[Part]:
    """All parts, the most valuable first; in small, some of every kind."""
    return small_parts() if small else [
        *(speed_part(BREAKOUT, "vmap", seeds) for seeds in (64, 1)),
        training_part(f"learning {BREAKOUT} 128", learning, 420, seeds=128),
        *(speed_part(BREAKOUT, "vmap", seeds) for seeds in (1024, 256, 16)),
        *(ppo_part("64x128", seeds) for seeds in (64, 1, 256)),
        *repetitions(5, seeds=8, total_timesteps=8 * 8192, n_pi=4, num_aux_minibatches=16),
        *(speed_part(CNN, "vmap", seeds) for seeds in (64, 1, 1024)),
        *other_strategies(BREAKOUT),
        *(speed_part(CNN, "vmap", seeds) for seeds in (256, 16)),
        *(ppo_part("2048x10", seeds) for seeds in (64, 1, 256)),
        *other_strategies(CNN),
    ]  # fmt: skip


def other_strategies(name: str) -> list[Part]:
    """What ``vmap`` of as many seeds is compared with."""
    return [
        speed_part(name, "map", 16),
        speed_part(name, "chunk", 1024, chunk_size=128),
        speed_part(name, "chunk", 256, chunk_size=64),
    ]


def repetitions(runs: int, **changes: Any) -> list[Part]:
    """The same short run several times."""
    names = [f"repetition {BREAKOUT} {i + 1}" for i in range(runs)]
    return [training_part(name, repetition, 75, **changes) for name in names]


def small_parts() -> list[Part]:
    """The same in tiny."""
    few = [
        speed_part(BREAKOUT, "vmap", 2, **SMALL),
        speed_part(BREAKOUT, "map", 2, **SMALL),
        speed_part(CNN, "chunk", 2, chunk_size=1, **SMALL),
        ppo_part("64x128", 2, **SMALL),
        training_part(
            f"learning {BREAKOUT} 2", learning, 0, seeds=2, total_timesteps=2_560, **SMALL
        ),
        *repetitions(2, seeds=2, total_timesteps=256, **SMALL),
    ]
    return [dataclasses.replace(part, limit=120) for part in few]
