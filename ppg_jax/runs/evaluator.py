"""Evaluation during training: new episodes between two segments."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.config import Config, ConfigError, read_plain, with_environment
from ppg_jax.execution import (
    ALONE,
    Layout,
    Processes,
    Segment,
    evaluation_program,
    gather,
    run_batches,
    shard,
)
from ppg_jax.runs.files import TextLog

LARGEST_TEXT = 1 << 28
"""Largest size of ``evaluation.csv`` that is read, in bytes."""
EVALUATION = "evaluation.csv"
COLUMNS = (
    "phase", "env_steps", "seed", "policy", "where", "mean_return", "mean_length", "unfinished"
)  # fmt: skip

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """When, and in which environments, a run is evaluated.

    Attributes:
      every: number of phases between two evaluations; None: never.
      episodes: number of episodes E of each seed, policy and environment.
      environments: changes of the training environment (``with_environment``), by name. Each gives
        one more environment to play.
      settings: number of settings H of a sweep, whose seeds are the H x S seeds of the run. Equal
        seeds of different settings play with the same random keys.
    """

    every: int | None = None
    episodes: int = 32
    environments: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    settings: int = 1

    def __post_init__(self) -> None:
        for name, value in (("evaluate_every", self.every), ("eval_episodes", self.episodes)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}: {value!r} is invalid; it should be at least 1")

    def evaluator(
        self,
        config: Config,
        layout: Layout,
        folder: Path | None,
        done: int,
        processes: Processes = ALONE,
    ) -> "Evaluator | None":
        """Evaluator of a run with ``done`` finished phases, or None if it is never evaluated."""
        if self.every is None:
            return None
        return Evaluator(config, layout, self, folder, done, processes)


class Evaluator:
    """Plays E new episodes with the policy of every seed, once stochastic and once greedy.

    It plays the training environment and those of ``options.environments``. If training uses a
    fixed set of levels, all levels are played too: the difference is the generalisation gap. Every
    phase has its own random keys, which training does not use.

    Args:
      config: configuration of the run.
      layout: layout of its seeds.
      options: when to evaluate, number of episodes, and further environments.
      folder: run folder, in which ``evaluation.csv`` is written; None: no file.
      done: number of finished phases; rows of later phases are dropped from the file.
      processes: the processes of the run. Each one plays its seeds; the first one has the rows.
    """

    def __init__(
        self,
        config: Config,
        layout: Layout,
        options: EvaluationOptions,
        folder: Path | None,
        done: int,
        processes: Processes = ALONE,
    ) -> None:
        assert options.every is not None
        self._config, self._layout, self.every = config, layout, options.every
        self._processes = processes
        environments = {"training": config}
        if config.num_levels is not None:
            environments["all levels"] = with_environment(config, {"num_levels": None})
        for name, changes in options.environments.items():
            environments[name] = with_environment(config, dict(changes))
        self._programs = {
            (policy, name): evaluation_program(
                changed, layout, options.episodes, policy == "greedy"
            )
            for policy, (name, changed) in itertools.product(
                ("stochastic", "greedy"), environments.items()
            )
        }
        self._compiled: dict[tuple[str, str], Any] = {}
        self._last, self._settings = done, options.settings
        path = folder / EVALUATION if folder else None
        self.rows = read_rows(path, done) if path else []
        self._file = TextLog(path, self._whole_file) if path else None

    def _whole_file(self) -> str:
        return ",".join(COLUMNS) + "\n" + _csv(self.rows)

    def take(self, segment: Segment) -> None:
        """Evaluates the policies after a segment, if an evaluation is due.

        Raises:
          OSError: ``evaluation.csv`` cannot be written.
        """
        # Due at multiples of ``every``, not ``every`` phases after the last evaluation. So a run
        # that is stopped and resumed is evaluated after the same phases as one that is not.
        due = segment.phases // self.every > self._last // self.every
        self._last = segment.phases
        if not (due and segment.at_phase_end):
            return
        played = self._processes.in_all(lambda: self._play(segment))
        played = dict(self._processes.to_first(played))
        if not self._processes.first:
            return
        new_rows = []
        for policy, where in self._programs:
            returns, lengths, ended = (
                played[f"{policy} {where} {what}"] for what in ("returns", "lengths", "ended")
            )
            for seed in range(self._config.seeds):
                row = (
                    segment.phases,
                    int(segment.metrics["env_steps"][seed, -1]),
                    seed,
                    policy,
                    where,
                    float(returns[seed].mean()),
                    float(lengths[seed].mean()),
                    int((~ended[seed]).sum()),
                )
                new_rows.append(dict(zip(COLUMNS, row, strict=True)))
        self.rows += new_rows
        if self._file:
            self._file.append(_csv(new_rows))

    def _play(self, segment: Segment) -> dict[str, np.ndarray]:
        """Plays the episodes of the seeds of this process; arrays ``[seeds here, E]``."""
        key = jax.random.fold_in(jax.random.key(self._config.seed), segment.phases)
        own = jax.random.split(key, self._config.seeds // self._settings)
        rows = self._processes.rows(self._config.seeds)
        keys = jax.numpy.tile(own, self._settings)[rows.start : rows.stop]
        batches = [
            (state.params, state.obs_stats, batch_keys)
            for state, batch_keys in zip(segment.states, shard(keys, self._layout), strict=True)
        ]
        found = {}
        for policy, where in self._programs:
            program = self._program(policy, where, batches[0])
            played = run_batches(program, [None] * len(batches), batches, self._layout)
            arrays = map(np.asarray, gather(played, self._layout))
            for what, x in zip(("returns", "lengths", "ended"), arrays, strict=True):
                found[f"{policy} {where} {what}"] = x
        return found

    def _program(self, policy: str, where: str, batch: Any) -> Any:
        """The program of a policy and an environment, compiled at its first use."""
        key = policy, where
        if key not in self._compiled:
            self._compiled[key] = self._programs[key].lower(None, batch).compile()
        return self._compiled[key]


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_rows(path: Path, phases: int) -> list[Row]:
    """Rows of ``evaluation.csv`` up to a phase. There are none if the file does not exist.

    Raises:
      ConfigError: the file exists but cannot be read.
    """
    if not phases or not path.exists():
        return []
    try:
        text = read_plain(path, LARGEST_TEXT).decode()
        whole = text[: text.rfind("\n") + 1]  # an incomplete last line is dropped
        rows = [_row(fields) for fields in list(csv.reader(io.StringIO(whole)))[1:]]
    except OSError as error:
        reason = error.strerror
    except (ValueError, csv.Error) as error:
        reason = str(error)
    else:
        return [row for row in rows if row["phase"] <= phases]
    raise ConfigError(
        f"DIR: {path} cannot be read: {reason}; repair it, or move it out of the folder"
    )


def _row(fields: list[str]) -> Row:
    kinds = (int, int, int, str, str, float, float, int)
    values = [kind(text) for kind, text in zip(kinds, fields, strict=True)]
    return dict(zip(COLUMNS, values, strict=True))
