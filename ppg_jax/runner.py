"""A run from the host: compile, train in segments, show, log and save."""

import dataclasses
import json
import platform
import warnings
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.console import Console

from ppg_jax.backend import lay_out
from ppg_jax.checkpoint import save_parameters
from ppg_jax.config import Config, ConfigError
from ppg_jax.logging import CsvLogger
from ppg_jax.parallel import Layout
from ppg_jax.progress import Display, make_display
from ppg_jax.report import (
    MetricArrays,
    final_returns,
    first_bad_iteration,
    mean_return,
    plot_learning_curve,
)
from ppg_jax.segments import train_rows
from ppg_jax.train import build
from ppg_jax.types import TrainState


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
      config: resolved: nothing in it depends on the machine or the environment any more.
      metrics: by name, each ``[S, iterations]``.
      state: final states, leaves ``[S, ...]``.
      compile_seconds: tracing and compiling, all programs.
      run_seconds: running them.
      first_bad_iteration: for each seed where its loss first was NaN or infinite, or None.
    """

    config: Config
    metrics: MetricArrays
    state: TrainState
    compile_seconds: float
    run_seconds: float
    first_bad_iteration: list[int | None]

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return of the last tenth of the run for each seed, ``[S]``."""
        return final_returns(self.metrics)

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps of all seeds over the seconds that the programs ran."""
        return float(self.metrics["env_steps"][:, -1].sum()) / self.run_seconds

    def plot(self) -> Figure:
        """The learning curve: mean return with a 95% bootstrap interval over seeds."""
        return plot_learning_curve(self.config, self.metrics)


def run(
    config: Config,
    seeds: int | None = None,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Result:
    """Trains every seed of a configuration; the same numbers as ``make_train`` gives.

    Seed i starts from ``jax.random.split(jax.random.key(config.seed), seeds)[i]``, which does
    not depend on how many seeds there are.

    Args:
      config: what to train.
      seeds: how many, instead of ``config.seeds``.
      out: folder to write to; it must be new or empty.
      progress: show a progress bar (lines, where there is no terminal).
      console: where to show it; default standard output.

    Returns:
      Metrics, final states and timings.

    Raises:
      ConfigError: something in the configuration, or ``out``, will not do.
    """
    if seeds is not None:
        config = config.replace(seeds=seeds)
    layout = lay_out(config, config.seeds)
    config = resolve(config, layout)
    folder = _new_folder(Path(out), config) if out is not None else None
    shown = (console or Console()) if progress else None
    with make_display(shown, config.num_iterations) as display:
        result = _train(config, layout, folder, display)
    if folder is not None:
        _write_results(folder, result)
    _warn_of_bad_seeds(result)
    return result


def resolve(config: Config, layout: Layout) -> Config:
    """The configuration with every ``auto`` and default replaced by what it means here.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    _, agent = build(config)
    return config.replace(
        network=agent.network,
        strategy=layout.strategy,
        devices=layout.devices,
        chunk_size=layout.chunk_size if layout.strategy == "chunk" else None,
    )


def _train(config: Config, layout: Layout, folder: Path | None, display: Display) -> Result:
    logger = CsvLogger(folder / "metrics.csv") if folder else None
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    display.note(_headline(config, layout))
    done = 0

    def report(part: MetricArrays, seconds: float) -> None:
        nonlocal done
        if logger:
            logger.write(part, done)
        done += part["env_steps"].shape[1]
        steps = config.seeds * done * config.steps_per_iteration
        display.update(done, steps / seconds, mean_return(part))

    trained = train_rows(config, layout, config.hparams, keys, shared=True, report=report)
    display.note(f"compiled in {trained.compile_seconds:.1f} s, ran in {trained.run_seconds:.1f} s")
    bad = first_bad_iteration(trained.metrics, config)
    return Result(**vars(trained), config=config, first_bad_iteration=bad)


def _headline(config: Config, layout: Layout) -> str:
    algorithm = "PPG" if config.e_aux else "PPO"
    device = jax.devices()[0]
    seeds = f"{config.seeds} seed" + ("s" if config.seeds > 1 else "")
    return (
        f"{algorithm} {config.arch} on {config.env_name}: {seeds} by {layout} x "
        f"{config.num_iterations} iterations of {config.steps_per_iteration:,} steps; compiling "
        f"for {device.device_kind}"
    )


def _warn_of_bad_seeds(result: Result) -> None:
    for seed, iteration in enumerate(result.first_bad_iteration):
        if iteration is not None:
            warnings.warn(
                f"seed {seed}: the loss is NaN or infinite from iteration {iteration} on; the "
                "other seeds are not affected",
                RuntimeWarning,
                stacklevel=3,
            )


def _new_folder(folder: Path, config: Config) -> Path:
    """Makes the run's folder, never one that already holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"out: {folder} already holds something; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {folder} cannot be made: {error.strerror}") from None
    header = "# Feed this file back to ppg-jax train to repeat the run.\n"
    if not isinstance(config.env, str):
        header = (
            "# The environment was an object: load_config(this file, env=...) takes it again.\n"
        )
    text = yaml.safe_dump(config.to_dict(), sort_keys=False)
    (folder / "config.yaml").write_text(header + text)
    return folder


def _write_results(folder: Path, result: Result) -> None:
    _config, returns = result.config, result.final_returns
    device = jax.devices()[0]
    packages = ("ppg-jax", "jax", "jaxlib", "flax", "optax", "gymnax")
    summary = {
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps": int(result.metrics["env_steps"][:, -1].sum()),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
        "final_episode_return": [float(x) if np.isfinite(x) else None for x in returns],
        "first_bad_iteration": result.first_bad_iteration,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    result.plot().savefig(folder / "learning_curve.png", dpi=150)
    save_parameters(folder, result.state)
