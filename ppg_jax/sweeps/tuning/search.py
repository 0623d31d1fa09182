"""The search itself: generations of a population, trained rung by rung."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ppg_jax.config import Config, ConfigError, check_whole
from ppg_jax.sweeps.settings import Setting, with_values
from ppg_jax.sweeps.tuning.objectives import check_objective, normalized_score, score
from ppg_jax.sweeps.tuning.population import Member, Watcher, steps_until, train_part
from ppg_jax.sweeps.tuning.space import values_of
from ppg_jax.sweeps.tuning.study import (
    PASSED,
    PRUNERS,
    SAMPLERS,
    SCORES,
    SHARE,
    STEPS,
    Study,
    Trial,
)

ONLY = "score"
"""Stands for the environment of the configuration, if no others are named."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
      config: configuration of the search; its seeds choose the winner.
      space: range of each searched field.
      environments: lowest and highest score of each environment, by its id; empty: only that of the
        configuration, with raw scores.
      budget: environment steps of all trials together.
      population: trials of a generation, which are trained together.
      rungs: number of parts of a run. After each but the last, some trials end.
      reduction: of so many trials one goes on; each rung is so many times as long as the last.
      objective: ``final_return`` or ``area``.
      sampler: ``tpe`` or ``random``.
      pruner: ``halving``, ``median`` or ``none``.
      sampler_seed: seed of the sampler.
    """

    config: Config
    space: Mapping[str, Any]
    environments: Mapping[str, tuple[float, float]]
    budget: int
    population: int = 16
    rungs: int = 3
    reduction: int = 3
    objective: str = "final_return"
    sampler: str = "tpe"
    pruner: str = "halving"
    sampler_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("budget", 1), ("population", 1), ("rungs", 1), ("reduction", 2)):
            check_whole(name, getattr(self, name), least)
        check_whole("sampler_seed", self.sampler_seed, 0, 2**32 - 1)
        check_objective(self.objective)
        for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} is invalid; it should be {' or '.join(known)}"
                )
        for env, bounds in self.environments.items():
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise ConfigError(
                    f"environments: {env}: {bounds!r} is invalid; it should be the scores of a "
                    "random policy and of the best known one"
                )
        if self.budget < self.one_generation:
            raise ConfigError(
                f"budget: {self.budget} is invalid; a generation takes {self.one_generation:,} "
                "steps; use more, or a smaller population, fewer seeds or total_timesteps"
            )

    @property
    def shares(self) -> list[float]:
        """Share of the whole run at the end of each rung."""
        last = 1 if self.pruner == "none" else self.rungs
        return [float(self.reduction) ** (k + 1 - last) for k in range(last)]

    @property
    def one_generation(self) -> int:
        """About how many environment steps a generation takes.

        The pruner may let more trials go on. The budget holds nevertheless: the worst trials of the
        last generation end where it would be exceeded.
        """
        shares, config = [0.0, *self.shares], self.config
        left = [max(1, self.population // self.reduction**k) for k in range(len(self.shares))]
        parts = (n * (b - a) for n, a, b in zip(left, shares, shares[1:], strict=False))
        each = config.total_timesteps * config.seeds * max(1, len(self.environments))
        return int(sum(parts) * each)


def generations(search: Search, study: Study, watch: Watcher) -> Iterator[int]:
    """Trains generations until the budget is used up; yields the number of each after its end.

    Raises:
      StoppedError: the user ended the search. The trials of the generation that was trained are
        trained again when it is resumed.
    """
    while True:
        used = sum(trial.env_steps for trial in study.trials())
        if used + search.one_generation > search.budget:
            return
        number, trials = study.generation(search.population)
        watch.display.note(
            f"generation {number + 1}: {len(trials)} trials; {used:,} of {search.budget:,} "
            "steps are used"
        )
        _train_generation(search, study, trials, watch)
        yield number


def _train_generation(search: Search, study: Study, trials: Sequence[Any], watch: Watcher) -> None:
    by_number = {trial.number: trial for trial in trials}
    alive = {trial.number: _members(search, trial) for trial in trials}
    left = search.budget - sum(trial.env_steps for trial in study.trials())
    for rung, share in enumerate(search.shares):
        last = rung == len(search.shares) - 1
        for number in _too_many(search, alive, share, left):
            alive.pop(number)
            study.tell(by_number[number], None)
        members = [member for own in alive.values() for member in own.values()]
        before = sum(member.env_steps for member in members)
        _renumber(members)
        train_part(search.config, members, share, watch)
        left -= sum(member.env_steps for member in members) - before
        for number, own in alive.items():
            _report(search, study, by_number[number], own, rung)
        # Asked after all have reported, so that the order does not matter.
        ended = [number for number in alive if last or study.ends(by_number[number], rung)]
        if len(ended) == len(alive) and not last:
            ended.remove(_best_first(search, alive)[0])
        for number in ended:
            own = alive.pop(number)
            study.tell(by_number[number], _score(search, own)[0] if last else None)
        for number in alive:
            by_number[number].set_user_attr(PASSED, rung)


def _too_many(
    search: Search, alive: Mapping[int, Mapping[str, Member]], share: float, left: int
) -> list[int]:
    """The worst trials, so many that the others can be trained to ``share`` with ``left`` steps."""
    best_first = _best_first(search, alive)
    for place, number in enumerate(best_first):
        left -= sum(steps_until(member, share) for member in alive[number].values())
        if left < 0:
            return best_first[place:]
    return []


def _members(search: Search, trial: Any) -> dict[str, Member]:
    """The members of a trial, one for each environment.

    Raises:
      ConfigError: its values do not fit the configuration.
    """
    values = values_of(trial.params)
    members = {}
    for env in search.environments or (ONLY,):
        named = values if env == ONLY else values | {"env": env}
        try:
            members[env] = Member(Setting(0, named, with_values(search.config, named)))
        except ConfigError as error:
            raise ConfigError(f"trial {trial.number} ({values}): {error}") from None
    return members


def _renumber(members: Sequence[Member]) -> None:
    for number, member in enumerate(members):
        member.setting = dataclasses.replace(member.setting, number=number)


def _score(search: Search, own: Mapping[str, Member]) -> tuple[float, dict[str, float]]:
    """The score of a trial, and that in each environment."""
    each = {env: score(search.objective, m.setting.config, m.metrics) for env, m in own.items()}
    if search.environments:
        return normalized_score(each, search.environments), each
    return each[ONLY], each


def _report(search: Search, study: Study, trial: Any, own: Mapping[str, Member], rung: int) -> None:
    total, each = _score(search, own)
    study.report(trial, total, search.reduction**rung)
    trial.set_user_attr(SHARE, search.shares[rung])
    trial.set_user_attr(SCORES, each)
    trial.set_user_attr(STEPS, sum(member.env_steps for member in own.values()))


def _best_first(search: Search, alive: Mapping[int, Mapping[str, Member]]) -> list[int]:
    """The trials by their score so far; those without one are last, and equal ones in order."""
    if not all(member.metrics for own in alive.values() for member in own.values()):
        return sorted(alive)
    scores = {number: _score(search, own)[0] for number, own in alive.items()}
    return sorted(alive, key=lambda n: (math.inf if math.isnan(scores[n]) else -scores[n], n))


def winner(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the highest score.

    Raises:
      ConfigError: all have diverged.
    """
    finished = [trial for trial in trials if trial.finished]
    if not finished:
        raise ConfigError("tune: no trial reached the end without NaN; use smaller ranges")
    return max(finished, key=lambda trial: trial.score)
