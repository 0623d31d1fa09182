"""The options of a run that are no part of its configuration: files, evaluations, where it ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ppg_jax.algorithm import build
from ppg_jax.config import Config, with_environment
from ppg_jax.execution import Pace
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.loggers import Logger, check_logger
from ppg_jax.runs.recorder import CheckpointOptions
from ppg_jax.runs.stopping import StopOptions


@dataclass(frozen=True)
class RunOptions:
    """The options that ``run`` and ``resume`` share.

    Attributes:
      log: loggers besides ``metrics.csv``, as objects or names.
      checkpoints: when checkpoints are saved.
      evaluation: when, and in which environments, the run is evaluated.
      stop: when it should end before its last iteration.
    """

    log: Sequence[str | Logger]
    checkpoints: CheckpointOptions
    evaluation: EvaluationOptions
    stop: StopOptions

    def pace(self, saves: bool) -> Pace:
        """Lengths of the segments, so that checkpoints, evaluations and stops are not late.

        Args:
          saves: whether checkpoints are saved.
        """
        return Pace(
            most_phases=self.checkpoints.every if saves else None,
            stop_every=self.evaluation.every,
            segments=self.stop.segments,
        )

    @property
    def shared(self) -> dict[str, Any]:
        """Options that must be the same in all processes, because segments depend on them."""
        return {
            "checkpoint_every": self.checkpoints.every,
            "evaluate_every": self.evaluation.every,
            "eval_episodes": self.evaluation.episodes,
            "evaluate_on": {name: dict(x) for name, x in self.evaluation.environments.items()},
            "stop_at_return": self.stop.at_return,
            "stop_after": self.stop.seconds,
        }

    def check(self, config: Config, has_folder: bool) -> None:
        """Checks the options before any file is written.

        Raises:
          ConfigError: a logger or a change of the environment is invalid.
        """
        for logger in self.log:
            if isinstance(logger, str):
                check_logger(logger, has_folder)
        for changes in self.evaluation.environments.values():
            build(with_environment(config, dict(changes)))
