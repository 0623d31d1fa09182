"""Loggers of metrics during training: CSV, JSON lines, TensorBoard, Weights & Biases."""

import csv
import io
import json
import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ppg_jax.algorithm import metric_names
from ppg_jax.config import Config, ConfigError, did_you_mean, read_plain
from ppg_jax.runs.files import TextLog
from ppg_jax.types import MetricArrays

FIRST_COLUMNS = (
    "seed",
    "iteration",
    "env_steps",
    "episode_return",
    "episode_length",
    "num_episodes",
)
LONGEST_ROW = 4096
"""Largest size of a row of ``metrics.csv``, in bytes; a normal row has a few hundred."""


class Logger(Protocol):
    """Interface that ``ppg_jax.run`` calls between segments.

    If a logger raises, it is no longer used and the run continues.
    """

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Logs the metrics of a segment.

        Args:
          metrics: metrics by name, each ``[S, iterations]``; every call has the same names.
          first_iteration: index of the segment's first iteration in the run, from 0.
        """

    def close(self) -> None:
        """Ends logging. It is called once, at the end of the run."""


class MetricsFileError(ConfigError):
    """``metrics.csv`` cannot be read, or does not contain the metrics of the run."""


class CsvLogger:
    """Writes a CSV file with one row for each iteration and seed, segment by segment.

    Args:
      path: path of the file.
      before: metrics of the run before it was resumed, ``[S, iterations]``, or None.
    """

    def __init__(self, path: Path, before: MetricArrays | None = None) -> None:
        self._parts = [before] if before else []
        self._file = TextLog(path, lambda: _csv(_joined(self._parts), 0, head=True))

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Appends the rows of a segment."""
        self._parts.append(metrics)
        self._file.append(_csv(metrics, first_iteration, head=False))

    def sync(self) -> None:
        """Makes sure that the whole file is on disk."""
        self._file.sync()

    def close(self) -> None:
        """Does nothing: the file is closed after each segment."""


def _joined(parts: list[MetricArrays]) -> MetricArrays:
    return {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}


def _csv(metrics: MetricArrays, first_iteration: int, *, head: bool) -> str:
    columns = [*FIRST_COLUMNS, *sorted(set(metrics) - set(FIRST_COLUMNS))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if head:
        writer.writerow(columns)
    seeds, iterations = metrics["env_steps"].shape
    for i in range(iterations):
        for seed in range(seeds):
            # str gives the shortest text that is read back as the same number.
            values = (str(metrics[name][seed, i]) for name in columns[2:])
            writer.writerow([seed, first_iteration + i, *values])
    return text.getvalue()


def read_metrics(path: Path, config: Config, iterations: int | None = None) -> MetricArrays:
    """Reads the file of a ``CsvLogger``, with exactly the numbers that were logged.

    Args:
      path: path of the file.
      config: configuration of the run.
      iterations: number of iterations to read; None: all that are complete for every seed.

    Returns:
      Metrics by name, each ``[S, iterations]``.

    Raises:
      MetricsFileError: the file cannot be read, has too few iterations, or lacks a column.
    """
    seeds = config.seeds
    try:
        content = read_plain(path, LONGEST_ROW * (2 + seeds * config.num_iterations))
    except OSError as error:
        raise MetricsFileError(f"DIR: {path} cannot be read: {error.strerror}") from None
    lines = content.splitlines(keepends=True)
    whole = [line for line in lines[1:] if line.endswith(b"\n")]
    found = len(whole) // seeds
    iterations = found if iterations is None else iterations
    needed = max(1, iterations)
    if not lines or found < needed:
        raise MetricsFileError(f"DIR: {path} has {found} iterations; at least {needed} are needed")
    try:
        metrics = _parse(lines[0], whole[: iterations * seeds], seeds)
    except (ValueError, IndexError, OverflowError) as error:
        raise MetricsFileError(
            f"DIR: {path} does not contain the metrics of {seeds} seeds: {error}"
        ) from None
    missing = [name for name in metric_names(config) if name not in metrics]
    if missing:
        raise MetricsFileError(
            f"DIR: {path} has no column {missing[0]}; every file of this run has it"
        )
    return metrics


def _parse(head: bytes, lines: list[bytes], seeds: int) -> MetricArrays:
    """Metrics, each ``[S, iterations]``, from the lines of a file."""
    names = head.decode().strip().split(",")
    rows = [line.decode().rstrip("\n").split(",") for line in lines]
    if names[:2] != ["seed", "iteration"] or len(set(names)) < len(names):
        raise ValueError("its first columns are not seed and iteration, or two are the same")
    for number, row in enumerate(rows):
        if row[:2] != [str(number % seeds), str(number // seeds)] or len(row) != len(names):
            raise ValueError(f"row {number} has a wrong seed or iteration, or is incomplete")
    metrics = {}
    for column, name in enumerate(names[2:], start=2):
        texts = [row[column] for row in rows]
        whole_numbers = all(text.lstrip("-").isdigit() for text in texts)
        whole = np.int64 if names[column] == "env_steps" else np.int32
        flat = np.array(texts, whole if whole_numbers else np.float32)
        metrics[name] = np.ascontiguousarray(flat.reshape(-1, seeds).T)
    return dict(sorted(metrics.items()))  # in the order in which training returns them


class JsonLinesLogger:
    """Writes one JSON object for each iteration and seed. NaN and infinity become null.

    Args:
      path: path of the file.
      before: metrics of the run before it was resumed, ``[S, iterations]``, or None.
    """

    def __init__(self, path: Path, before: MetricArrays | None = None) -> None:
        self._parts = [before] if before else []
        self._file = TextLog(path, lambda: _json_lines(_joined(self._parts), 0))

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Appends the rows of a segment."""
        self._parts.append(metrics)
        self._file.append(_json_lines(metrics, first_iteration))

    def close(self) -> None:
        """Does nothing: the file is closed after each segment."""


def _json_lines(metrics: MetricArrays, first_iteration: int) -> str:
    seeds, iterations = metrics["env_steps"].shape
    rows = []
    for i in range(iterations):
        for seed in range(seeds):
            values = {name: _json_number(x[seed, i]) for name, x in metrics.items()}
            rows.append(json.dumps({"seed": seed, "iteration": first_iteration + i} | values))
    return "".join(row + "\n" for row in rows)


def _json_number(x: np.generic) -> float | int | None:
    value = x.item()
    return value if math.isfinite(value) else None


def scalars_by_step(metrics: MetricArrays) -> list[tuple[int, dict[str, float]]]:
    """Scalars for TensorBoard and Weights & Biases, without NaN and infinity.

    ``NAME`` is the mean of a metric over the seeds where it is finite, and ``NAME/seed_I`` is its
    value for seed I. ``lost_seeds`` is the number of seeds with a NaN or infinite loss.

    Returns:
      For each iteration, the environment steps of one seed so far and the scalars by name.
    """
    steps = metrics["env_steps"][0]
    lost = ~np.isfinite(metrics["policy_loss"] + metrics["value_loss"])
    rows: list[tuple[int, dict[str, float]]] = []
    for i, step in enumerate(steps):
        row = {"lost_seeds": float(lost[:, i].sum())}
        for name, x in metrics.items():
            finite = {f"seed_{seed}": float(v) for seed, v in enumerate(x[:, i]) if np.isfinite(v)}
            if finite and name != "env_steps":
                row[name] = float(np.mean(list(finite.values())))
                row |= {f"{name}/{seed}": v for seed, v in finite.items()}
        rows.append((int(step), row))
    return rows


class TensorBoardLogger:
    """Writes event files to ``tensorboard`` in the run folder, with scalars over env steps."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Logs the metrics of a segment."""
        for step, row in scalars_by_step(metrics):
            for name, value in row.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WandbLogger:
    """Logs to Weights & Biases, with its files in the run folder. ``WANDB_MODE`` applies."""

    def __init__(self, folder: Path, config: Config) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = wandb.init(
            project="ppg_jax", name=folder.name, dir=str(folder), config=config.to_dict(),
            reinit="create_new",  # the settings of a sweep log side by side
        )  # fmt: skip

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Logs the metrics of a segment."""
        for step, row in scalars_by_step(metrics):
            self._run.log(row | {"env_steps": step})

    def close(self) -> None:
        """Ends the run of Weights & Biases."""
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, Config, MetricArrays | None], Any]] = {
    "jsonl": lambda folder, _, before: JsonLinesLogger(folder / "metrics.jsonl", before),
    "tensorboard": lambda folder, _, before: TensorBoardLogger(
        folder, int(before["env_steps"][0, -1]) if before else 0
    ),
    "wandb": lambda folder, config, _: WandbLogger(folder, config),
}
"""Functions that make a logger from the run folder, the configuration and the metrics so far."""
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Optional packages that loggers need."""


def check_logger(name: str, has_folder: bool) -> None:
    """Checks that a logger can be made.

    Raises:
      ConfigError: the name is unknown, the logger's package is not installed, or the run has no
        folder.
    """
    if name not in LOGGERS:
        raise ConfigError(
            f"log: {name!r} is unknown; {did_you_mean(name, list(LOGGERS))}"
            f"names are {', '.join(LOGGERS)}"
        )
    if not has_folder:
        raise ConfigError(f"log: {name} writes into the run folder; name one with out")
    package = PACKAGES.get(name)
    if package and find_spec(package) is None:
        raise ConfigError(f"log: {name} needs {package}; pip install 'ppg-jax[{name}]'")


def make_logger(name: str, folder: Path, config: Config, before: MetricArrays | None) -> Logger:
    """Makes a logger. ``check_logger`` must have accepted its name."""
    return LOGGERS[name](folder, config, before)
