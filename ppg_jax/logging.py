"""Where metrics go while a run is under way: CSV, JSON lines, TensorBoard, Weights & Biases."""

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

from ppg_jax.config import Config, ConfigError
from ppg_jax.fields import did_you_mean
from ppg_jax.summary import MetricArrays

FIRST_COLUMNS = (
    "seed",
    "iteration",
    "env_steps",
    "episode_return",
    "episode_length",
    "num_episodes",
)


class Logger(Protocol):
    """What ``ppg_jax.run`` calls between segments. If it raises, the run goes on without it."""

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Takes a segment.

        Args:
          metrics: ``[S, iterations]`` each, with the same names at every call.
          first_iteration: number of the segment's first iteration in the run, from 0.
        """

    def close(self) -> None:
        """The run is over."""


class TextLog:
    """A text file that grows by whole pieces.

    What could not be written is tried again with the next piece, from where the last whole one
    ended: a disk that was full for a while leaves no gap and no torn line.

    Args:
      path: of the file.
      size: bytes of it that stay; 0: it must not exist yet.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._path, self._size, self._pending = path, size, b""

    @property
    def empty(self) -> bool:
        return not self._size and not self._pending

    def append(self, text: str) -> None:
        """Adds a piece.

        Raises:
          OSError: it cannot be written now.
        """
        self._pending += text.encode()
        with self._path.open("r+b" if self._size else "wb") as file:
            file.seek(self._size)
            file.write(self._pending)
            file.truncate()
        self._size += len(self._pending)
        self._pending = b""


class CsvLogger:
    """One row for each iteration and seed, appended segment by segment.

    Args:
      path: of the file.
      size: bytes of it that stay (``read_metrics`` tells); 0: it is begun anew.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._file = TextLog(path, size)

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Appends a segment."""
        columns = [*FIRST_COLUMNS, *sorted(set(metrics) - set(FIRST_COLUMNS))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._file.empty:
            writer.writerow(columns)
        seeds, iterations = metrics["env_steps"].shape
        for i in range(iterations):
            for seed in range(seeds):
                # str gives the fewest digits that read back as the same number.
                values = (str(metrics[name][seed, i]) for name in columns[2:])
                writer.writerow([seed, first_iteration + i, *values])
        self._file.append(text.getvalue())

    def close(self) -> None:
        """Nothing is open between segments."""


def read_metrics(path: Path, seeds: int, iterations: int | None = None) -> tuple[MetricArrays, int]:
    """What ``CsvLogger`` wrote, number for number.

    Args:
      path: of the file.
      seeds: of the run.
      iterations: the first ones; None: as many as all seeds have.

    Returns:
      Metrics ``[S, iterations]``, and the bytes that hold them.

    Raises:
      ConfigError: it cannot be read, or does not hold that many.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"DIR: {path} cannot be read: {error.strerror}") from None
    whole = [line for line in lines[1:] if line.endswith(b"\n")]
    there = len(whole) // seeds
    iterations = there if iterations is None else iterations
    if not lines or there < iterations:
        raise ConfigError(f"DIR: {path} holds {there} iterations, not the first {iterations}")
    try:
        metrics = _parse(lines[0], whole[: iterations * seeds], seeds)
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"DIR: {path} is not the metrics of a run of {seeds} seeds: {error}"
        ) from None
    kept = lines[: 1 + iterations * seeds] if iterations else []
    return metrics, sum(map(len, kept))


def _parse(head: bytes, lines: list[bytes], seeds: int) -> MetricArrays:
    """Metrics ``[S, iterations]`` from the lines of a file."""
    names = head.decode().strip().split(",")
    rows = [line.decode().rstrip("\n").split(",") for line in lines]
    if names[:2] != ["seed", "iteration"]:
        raise ValueError("its first columns are not seed and iteration")
    for number, row in enumerate(rows):
        if row[:2] != [str(number % seeds), str(number // seeds)]:
            raise ValueError(f"row {number} is of another seed or iteration")
    metrics = {}
    for column, name in enumerate(names[2:], start=2):
        texts = [row[column] for row in rows]
        whole_numbers = all(text.lstrip("-").isdigit() for text in texts)
        flat = np.array(texts, np.int32 if whole_numbers else np.float32)
        metrics[name] = np.ascontiguousarray(flat.reshape(-1, seeds).T)
    return metrics


class JsonLinesLogger:
    """One JSON object for each iteration and seed; NaN and infinity are null.

    Args:
      path: of the file.
      first_iteration: the file's objects from this one on are dropped.
    """

    def __init__(self, path: Path, first_iteration: int = 0) -> None:
        size = 0
        if first_iteration and path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n") or json.loads(line)["iteration"] >= first_iteration:
                    break
                size += len(line)
        self._file = TextLog(path, size)

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Appends a segment."""
        seeds, iterations = metrics["env_steps"].shape
        rows = []
        for i in range(iterations):
            for seed in range(seeds):
                values = {name: _json_number(x[seed, i]) for name, x in metrics.items()}
                rows.append(json.dumps({"seed": seed, "iteration": first_iteration + i} | values))
        self._file.append("".join(row + "\n" for row in rows))

    def close(self) -> None:
        """Nothing is open between segments."""


def _json_number(x: np.generic) -> float | int | None:
    value = x.item()
    return value if math.isfinite(value) else None


def scalars_by_step(metrics: MetricArrays) -> list[tuple[int, dict[str, float]]]:
    """For viewers that plot scalars: per iteration the env steps of a seed, and finite values.

    ``NAME`` is the mean over the seeds where it is finite, ``NAME/seed_I`` is seed I's;
    ``lost_seeds`` counts those whose loss is NaN or infinite.
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
    """Event files in ``tensorboard`` of the run's folder, scalars over env steps."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Adds a segment."""
        for step, row in scalars_by_step(metrics):
            for name, value in row.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases with its files in the run's folder; ``WANDB_MODE`` as usual."""

    def __init__(self, folder: Path, config: Config) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = wandb.init(
            project="ppg_jax", name=folder.name, dir=str(folder), config=config.to_dict()
        )

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Adds a segment."""
        for step, row in scalars_by_step(metrics):
            self._run.log(row | {"env_steps": step})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, Config, int], Any]] = {
    "jsonl": lambda folder, _, first: JsonLinesLogger(folder / "metrics.jsonl", first),
    "tensorboard": lambda folder, config, first: TensorBoardLogger(
        folder, first * config.steps_per_iteration
    ),
    "wandb": lambda folder, config, _: WandbLogger(folder, config),
}
"""Loggers by name: made for a run's folder, its configuration and its first iteration."""
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""What those need that is not always installed."""


def check_logger(name: str, has_folder: bool) -> None:
    """Whether there is such a logger.

    Raises:
      ConfigError: the name is unknown, its package is missing, or it would have no folder to
        write to.
    """
    if name not in LOGGERS:
        raise ConfigError(
            f"log: {name!r} is unknown; {did_you_mean(name, list(LOGGERS))}"
            f"names are {', '.join(LOGGERS)}"
        )
    if not has_folder:
        raise ConfigError(f"log: {name} writes into the run's folder; name one with out")
    package = PACKAGES.get(name)
    if package and find_spec(package) is None:
        raise ConfigError(f"log: {name} needs {package}; pip install 'ppg-jax[{name}]'")


def make_logger(name: str, folder: Path, config: Config, first_iteration: int) -> Logger:
    """A logger by name, checked before."""
    return LOGGERS[name](folder, config, first_iteration)
