"""The record of a search: Optuna's study, with what each trial took and how it ended."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.sweeps.tuning.optional import import_optuna
from ppg_jax.sweeps.tuning.space import values_of

JOURNAL = "trials.journal"
STEPS, GENERATION, SHARE, SCORES = "env_steps", "generation", "share", "scores"
PASSED = "passed"
"""Names of what is kept with a trial: environment steps, number of its generation, share of the run
that was trained, scores by environment, last rung after which it went on."""
SAMPLERS, PRUNERS = ("tpe", "random"), ("halving", "median", "none")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
      number: its number.
      values: values of the searched fields, by name.
      score: objective after ``share`` of the run; NaN if it diverged.
      share: share of the run that was trained.
      finished: whether it was trained to the end.
      env_steps: environment steps of all its seeds and environments.
      scores: objective in each environment.
    """

    number: int
    values: dict[str, Any]
    score: float
    share: float
    finished: bool
    env_steps: int
    scores: dict[str, float]


class Study:
    """A search that is kept in a file, or only in memory.

    Args:
      folder: folder of the journal; None: in memory.
      distributions: Optuna's distribution of each searched field.
      sampler: ``tpe`` or ``random``.
      seed: seed of the sampler.
      pruner: an Optuna pruner.
    """

    def __init__(
        self, folder: Path | None, distributions: Mapping[str, Any], sampler: str, seed: int,
        pruner: Any,
    ) -> None:  # fmt: skip
        optuna = import_optuna()
        storage = None
        if folder is not None:
            backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
            storage = optuna.storages.JournalStorage(backend)
        self._distributions, self._sampler, self._seed = dict(distributions), sampler, seed
        try:
            self.optuna = optuna.create_study(
                storage=storage, study_name="ppg-jax", direction="maximize", load_if_exists=True,
                pruner=pruner,
            )  # fmt: skip
        except (ValueError, KeyError) as error:
            raise ConfigError(f"DIR: {folder}/{JOURNAL} is damaged: {error}") from None

    def generation(self, size: int) -> tuple[int, list[Any]]:
        """The next generation: its number, and its trials that have not ended.

        If a process was killed while it trained a generation, that is the next one.

        The random numbers of the sampler depend on the generation and on the place in it only. So a
        search that was interrupted asks for the same trials as one that was not.
        """
        optuna = import_optuna()
        running = optuna.trial.TrialState.RUNNING
        known = self.optuna.get_trials(deepcopy=False)
        last = max((t.user_attrs.get(GENERATION, 0) for t in known), default=-1)
        interrupted = any(t.state == running for t in known)
        number = last if interrupted else last + 1
        of_it = [t for t in known if t.state == running or t.user_attrs[GENERATION] == number]
        trials = [optuna.trial.Trial(self.optuna, t._trial_id) for t in of_it if t.state == running]
        for place in range(len(of_it), size):
            self.optuna.sampler = self._make_sampler(number, place, size)
            trials.append(self.optuna.ask(self._distributions))
        for trial in trials:
            trial.set_user_attr(GENERATION, number)
        return number, trials

    def _make_sampler(self, generation: int, place: int, size: int) -> Any:
        samplers = import_optuna().samplers
        seed = int(np.random.default_rng([self._seed, generation, place]).integers(2**32))
        if self._sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(
            seed=seed, n_startup_trials=size, constant_liar=True, multivariate=True
        )

    def report(self, trial: Any, score: float, step: int) -> None:
        """Tells the pruner the score after a rung; one that it knows already is the same."""
        known = self.optuna.get_trials(deepcopy=False)[trial.number].intermediate_values
        if step not in known:
            trial.report(score, step)

    def ends(self, trial: Any, rung: int) -> bool:
        """Whether the pruner ends a trial after a rung, all trials of which have been reported."""
        if trial.user_attrs.get(PASSED, -1) >= rung:  # before the search was interrupted
            return False
        return bool(trial.should_prune())

    def tell(self, trial: Any, score: float | None) -> None:
        """Ends a trial: with its score after the whole run, or None if it was stopped before."""
        state = import_optuna().trial.TrialState
        if score is None or math.isnan(score):
            self.optuna.tell(trial, state=state.PRUNED)
        else:
            self.optuna.tell(trial, score)

    def trials(self) -> list[Trial]:
        """All trials that have ended."""
        optuna = import_optuna()
        ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return [_trial(t) for t in self.optuna.get_trials(deepcopy=False) if t.state in ended]

    def importances(self) -> dict[str, float]:
        """Share of each field in how much scores vary (PED-ANOVA), the largest first.

        Empty if there are too few finished trials, or all scores are equal.
        """
        optuna = import_optuna()
        finished = [t for t in self.trials() if t.finished]
        if (
            len(finished) < 4
            or len({t.score for t in finished}) < 2
            or len(self._distributions) < 2
        ):
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            return dict(optuna.importance.get_param_importances(self.optuna, evaluator=evaluator))
        except (ValueError, RuntimeError):  # some fields had one value only
            return {}


def _trial(frozen: Any) -> Trial:
    attrs = frozen.user_attrs
    finished = frozen.state.name == "COMPLETE"
    last = frozen.last_step
    score = frozen.value if finished else frozen.intermediate_values.get(last, math.nan)
    return Trial(
        number=frozen.number,
        values=values_of(frozen.params),
        score=float(score),
        share=float(attrs.get(SHARE, 0.0)),
        finished=finished,
        env_steps=int(attrs.get(STEPS, 0)),
        scores=dict(attrs.get(SCORES, {})),
    )


def make_pruner(name: str, reduction: int) -> Any:
    """A pruner of Optuna.

    Args:
      name: ``halving`` (successive halving, arXiv:1810.05934), ``median`` or ``none``.
      reduction: halving lets one in so many go on.

    Raises:
      ConfigError: there is none of this name.
    """
    pruners = import_optuna().pruners
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=reduction)
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=1)
    if name == "none":
        return pruners.NopPruner()
    raise ConfigError(f"pruner: {name!r} is invalid; it should be {', '.join(PRUNERS)}")
