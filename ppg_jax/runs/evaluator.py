"""Evaluation while a run is under way: fresh episodes between segments."""

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
    Layout,
    Segment,
    evaluation_program,
    gather,
    run_batches,
    shard,
)
from ppg_jax.runs.files import TextLog

LARGEST_TEXT = 1 << 28
"""Bytes of ``evaluation.csv`` that are read."""
FILE = "evaluation.csv"
COLUMNS = (
    "phase", "env_steps", "seed", "policy", "where", "mean_return", "mean_length", "unfinished"
)  # fmt: skip

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluating:
    """When and where a run is evaluated.

    Attributes:
      every: phases between two evaluations; None: never.
      episodes: E, of each seed, policy and place.
      elsewhere: changes of the environment (``with_environment``) by what they are called.
    """

    every: int | None = None
    episodes: int = 32
    elsewhere: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("evaluate_every", self.every), ("eval_episodes", self.episodes)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name}: {value!r} is invalid; it should be at least 1")

    def evaluator(
        self, config: Config, layout: Layout, folder: Path | None, done: int
    ) -> "Evaluator | None":
        """What plays in a run that has so many phases behind it, if anything does."""
        if self.every is None:
            return None
        return Evaluator(config, layout, self.every, self, folder, done)


class Evaluator:
    """Plays E fresh episodes with every seed's policy, as it chooses and greedily.

    It plays where training does, and wherever else it is told to. Where training has a fixed set
    of levels, all levels are played too: the difference is the generalisation gap. Every phase
    has its own random keys, which no training uses.

    Args:
      config: of the run.
      layout: how its seeds run.
      every: phases between two evaluations.
      plan: the rest of what was asked for.
      folder: of the run, or None; rows go to ``evaluation.csv``.
      done: phases that the run has behind it; rows of later ones are dropped from the file.
    """

    def __init__(
        self,
        config: Config,
        layout: Layout,
        every: int,
        plan: Evaluating,
        folder: Path | None,
        done: int,
    ) -> None:
        self._config, self._layout, self.every = config, layout, every
        places = {"training": config}
        if config.num_levels is not None:
            places["all levels"] = with_environment(config, {"num_levels": None})
        places |= {name: with_environment(config, dict(x)) for name, x in plan.elsewhere.items()}
        self._programs = {
            (policy, name): evaluation_program(place, layout, plan.episodes, policy == "greedy")
            for policy, (name, place) in itertools.product(("stochastic", "greedy"), places.items())
        }
        self._compiled: dict[tuple[str, str], Any] = {}
        self._last = done
        path = folder / FILE if folder else None
        self.rows = read_rows(path, done) if path else []
        self._file = TextLog(path, self._everything) if path else None

    def _everything(self) -> str:
        return ",".join(COLUMNS) + "\n" + _csv(self.rows)

    def take(self, segment: Segment) -> None:
        """Evaluates after a segment, if it is time.

        Raises:
          OSError: the file cannot be written.
        """
        # At multiples, not so many phases after the last: a run that is stopped often is evaluated
        # where one that is not would be.
        due = segment.phases // self.every > self._last // self.every
        self._last = segment.phases
        if not (due and segment.at_phase_end):
            return
        key = jax.random.fold_in(jax.random.key(self._config.seed), segment.phases)
        keys = shard(jax.random.split(key, self._config.seeds), self._layout)
        turns = [
            (state.params, state.obs_stats, some)
            for state, some in zip(segment.states, keys, strict=True)
        ]
        fresh = []
        for policy, where in self._programs:
            program = self._program(policy, where, turns[0])
            played = run_batches(program, [None] * len(turns), turns, self._layout)
            returns, lengths, ended = map(np.asarray, gather(played, self._layout))
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
                fresh.append(dict(zip(COLUMNS, row, strict=True)))
        self.rows += fresh
        if self._file:
            self._file.append(_csv(fresh))

    def _program(self, policy: str, where: str, turn: Any) -> Any:
        """Compiled when it is first needed."""
        which = policy, where
        if which not in self._compiled:
            self._compiled[which] = self._programs[which].lower(None, turn).compile()
        return self._compiled[which]


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_rows(path: Path, phases: int) -> list[Row]:
    """The rows of a file up to a phase.

    Raises:
      ConfigError: it is there, and cannot be read.
    """
    if not phases or not path.exists():
        return []
    try:
        text = read_plain(path, LARGEST_TEXT).decode()
        whole = text[: text.rfind("\n") + 1]  # a torn last line is no row
        rows = [_row(fields) for fields in list(csv.reader(io.StringIO(whole)))[1:]]
    except OSError as error:
        reason = error.strerror
    except (ValueError, csv.Error) as error:
        reason = str(error)
    else:
        return [row for row in rows if row["phase"] <= phases]
    raise ConfigError(f"DIR: {path} cannot be read: {reason}; put it right, or move it away")


def _row(fields: list[str]) -> Row:
    kinds = (int, int, int, str, str, float, float, int)
    values = [kind(text) for kind, text in zip(kinds, fields, strict=True)]
    return dict(zip(COLUMNS, values, strict=True))
