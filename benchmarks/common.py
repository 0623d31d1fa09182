"""What the benchmarks share: options, timing in turn, the machine beside the figures."""

import argparse
import contextlib
import json
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from report import REPORT, finished, say

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.program_cache import own_programs
from ppg_jax.execution.speed import PhaseTimer


class Phases(PhaseTimer):
    """One phase for every row of a layout, compiled; each call runs it and gives the seconds."""

    def __init__(self, config: Config, layout: Layout, *, donate: bool = True) -> None:
        with own_programs():  # of functions that a script has changed
            super().__init__(config, layout, donate=donate)
        self.memory_mib = self.compiled_bytes / 2**20
        say(f"{config.env_name} by {layout}: compiled in {self.compile_seconds:.1f} s")
        self.start()


def peak_mib() -> float | None:
    """Most memory of the first device that this process has used so far; None: it does not tell.

    It counts what was in use, not what JAX reserved. What XLA tries while it compiles counts too.
    """
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if peak is None else round(peak / 2**20, 1)


@contextlib.contextmanager
def changed(changes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Attributes of modules changed for a while."""
    kept = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def in_turn(timers: Mapping[Any, Callable[[], float]], repeats: int) -> dict[Any, list[float]]:
    """Seconds of every timer, ``repeats`` rounds of all: what else the machine does hits all.

    Every round has an order of its own, or one would always follow the same other.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in timers}
    order, shuffle = list(timers), random.Random(0).shuffle
    for _ in range(repeats):
        shuffle(order)
        for name in order:
            seconds[name].append(timers[name]())
            REPORT.timed(name, seconds[name][-1])
    return seconds


def ratio(ours: list[float], theirs: list[float]) -> float:
    """How many times as fast ours is: median over rounds of the quotient within a round."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def one_phase(config: Config, n_pi: int | None = None) -> Config:
    """The same with a run of one phase: that is what is timed, however long its own run is.

    Args:
      config: to be shortened.
      n_pi: iterations of the phase instead of its own; auxiliary minibatches stay as large.
    """
    if n_pi is not None and n_pi < config.n_pi:
        fewer = max(1, config.num_aux_minibatches * n_pi // config.n_pi)
        steps = n_pi * config.steps_per_iteration
        config = config.replace(n_pi=n_pi, num_aux_minibatches=fewer, total_timesteps=steps)
    return config.replace(total_timesteps=config.n_pi * config.steps_per_iteration)


def fresh_process(script: str, *args: Any, timeout: float | None = None) -> Any:
    """The JSON that a script prints in a process of its own."""
    command = [sys.executable, script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode:
        raise SystemExit(done.stderr or f"{script} ended with {done.returncode}")
    return json.loads(done.stdout)


def environment() -> dict[str, Any]:
    """Device and versions, to stand beside every figure."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ppg-jax", "jax", "jaxlib", "flax")},
    }


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all scripts have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here, not only to the screen")
    return parser


def finish(args: argparse.Namespace, measure: Callable[[], Any]) -> int:
    """Measures, prints the report as JSON and keeps it where ``--out`` says; an exit code.

    What stops the script, be it a signal, leaves what was measured before, not ``complete``.
    """
    return finished(args.out, measure, environment, ConfigError)
