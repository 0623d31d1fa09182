"""``ppg_jax.tune``: a search within a budget, and its winner on fresh seeds."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ppg_jax.config import Config, ConfigError, as_path, check_config, check_whole
from ppg_jax.execution import kept_programs
from ppg_jax.runs import (
    Result,
    StoppedError,
    StopRequest,
    check_alone,
    check_new,
    folder_lock,
    make_display,
    new_folder,
    resume,
    run,
    write_whole,
)
from ppg_jax.sweeps.settings import with_values
from ppg_jax.sweeps.tuning.folder import TUNE, Report, spec_text, stored_search, write_trials
from ppg_jax.sweeps.tuning.population import Watcher
from ppg_jax.sweeps.tuning.result import TuneResult
from ppg_jax.sweeps.tuning.search import Search, generations, winner
from ppg_jax.sweeps.tuning.space import distributions
from ppg_jax.sweeps.tuning.study import Study, make_pruner


def tune(
    config: Config,
    space: Mapping[str, Any],
    budget: int,
    *,
    seeds: int | None = None,
    environments: Mapping[str, tuple[float, float]] | None = None,
    population: int = 16,
    rungs: int = 3,
    reduction: int = 3,
    objective: str = "final_return",
    sampler: str = "tpe",
    pruner: str = "halving",
    sampler_seed: int = 0,
    report_seeds: int = 10,
    baseline: bool = True,
    out: str | Path | None = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
) -> TuneResult:
    """Searches values of fields by Optuna, and trains the best ones on fresh seeds.

    A whole population of settings is asked for at a time. Those that differ only in hyperparameters
    are trained as one program. At the end of each rung (part of the run) the pruner ends some; the
    others go on from their states, and have the bits of a run that was never interrupted.

    The first Ctrl-C or SIGTERM ends the search after the current segment. With ``out``,
    ``resume_tune`` continues; it trains the generation that was interrupted again.

    Args:
      config: configuration to train; its seeds are those of the search.
      space: range of each searched field, by its name as in ``sweep``: ``{"log": [low, high]}``,
        ``{"uniform": [low, high]}``, ``{"int": [low, high]}``, ``{"choice": [...]}`` or a list.
      budget: environment steps of all trials, seeds and environments together. The report is not
        counted.
      seeds: number of seeds of each trial, instead of ``config.seeds``.
      environments: for a search over several environments, the scores of a random policy and of
        the best known one, by environment id. A trial's score is then the mean of its normalised
        scores.
      population: number of trials of a generation.
      rungs: number of parts of a run; 1 is no pruning.
      reduction: each rung is so many times as long as the one before, and by ``halving`` one trial
        in so many goes on.
      objective: ``final_return``, the IQM over seeds of the last tenth of the run, or ``area``,
        that of the mean over all iterations.
      sampler: ``tpe`` or ``random``.
      pruner: ``halving``, ``median`` or ``none``.
      sampler_seed: seed of the sampler.
      report_seeds: number of seeds on which the winner is trained in the end. Their random keys are
        those of ``config.seed + 1``: none of them has chosen the winner.
      baseline: whether ``config`` itself is trained on the same fresh seeds, to compare.
      out: folder to write to; it must be new or empty.
      progress: whether to show progress.
      console: console for the progress; default: standard output.
      cache: as in ``run``.

    Raises:
      ConfigError: a name, a range or an option is invalid, Optuna is missing, or no trial reached
        the end.
    """
    check_config(config)
    check_alone("a search")
    if seeds is not None:
        config = config.replace(seeds=seeds)
    search = Search(
        config, dict(space), dict(environments or {}), budget, population, rungs, reduction,
        objective, sampler, pruner, sampler_seed,
    )  # fmt: skip
    report = Report(check_whole("report_seeds", report_seeds, 1), baseline)
    distributions(space)  # before anything is written
    folder = as_path("out", out) if out is not None else None
    if folder is not None:
        check_new(folder)
        with new_folder(folder, config, {TUNE: spec_text(search, report)}):
            return _tune(search, report, folder, _shown(progress, console), cache)
    return _tune(search, report, None, _shown(progress, console), cache)


def resume_tune(
    directory: str | Path,
    *,
    budget: int | None = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
) -> TuneResult:
    """Resumes a search that was stopped or killed, or gives it a larger budget.

    On the same device it asks for the same trials, and gives the same result, as a search that was
    never interrupted.

    Args:
      directory: folder of the search.
      budget: new budget of all trials together, if it is to be larger.
      progress: as in ``tune``.
      console: as in ``tune``.
      cache: as in ``tune``.

    Raises:
      ConfigError: there is no search, or the budget is smaller than before.
    """
    check_alone("a search")
    folder = as_path("DIR", directory)
    search, report = stored_search(folder)
    if budget is not None and budget < search.budget:
        raise ConfigError(
            f"budget: {budget} is invalid; it should be at least {search.budget}, the search's own"
        )
    with folder_lock(folder):
        if budget is not None and budget > search.budget:
            if (folder / "winner").exists():
                raise ConfigError(
                    f"budget: {budget} is invalid; {folder} has its report already; search in a "
                    "new folder"
                )
            search = dataclasses.replace(search, budget=budget)
            write_whole(folder / TUNE, spec_text(search, report))
        return _tune(search, report, folder, _shown(progress, console), cache)


def _shown(progress: bool, console: Console | None) -> Console | None:
    return (console or Console()) if progress else None


def _tune(
    search: Search, report: Report, folder: Path | None, console: Console | None, cache: bool
) -> TuneResult:
    pruner = make_pruner(search.pruner, search.reduction)
    study = Study(folder, distributions(search.space), search.sampler, search.sampler_seed, pruner)
    stopped = False
    with kept_programs(cache), contextlib.ExitStack() as stack:
        display = stack.enter_context(make_display(console, search.config))
        stop = stack.enter_context(StopRequest(display.note))
        try:
            for _ in generations(search, study, Watcher(display, stop)):
                if folder is not None and any(t.finished for t in study.trials()):
                    write_trials(folder, _result(search, study, finished=False))
                if stop.requested:
                    raise StoppedError
        except StoppedError:
            stopped = True
    if stopped and not any(t.finished for t in study.trials()):
        raise StoppedError
    result = _result(search, study, finished=False)
    if not stopped:
        result = _reported(result, report, folder, console, cache)
    if folder is not None:
        result = dataclasses.replace(result, problems=tuple(write_trials(folder, result)))
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=3)
    return result


def _result(search: Search, study: Study, finished: bool) -> TuneResult:
    trials = study.trials()
    best = winner(trials)
    return TuneResult(
        config=search.config,
        best=with_values(search.config, best.values),
        best_values=best.values,
        trials=tuple(trials),
        importances=study.importances(),
        env_steps=sum(trial.env_steps for trial in trials),
        objective=search.objective,
        finished=finished,
    )


def _reported(
    result: TuneResult, report: Report, folder: Path | None, console: Console | None, cache: bool
) -> TuneResult:
    """The result with the winner, and what it is compared with, on fresh seeds."""
    runs: dict[str, dict[str, Result]] = {"winner": {}, "baseline": {}}
    for name, env, config in _reports(result, report):
        fresh = config.replace(seed=(config.seed + 1) % 2**32, seeds=report.seeds)
        place = None if folder is None else folder / name / env.replace("/", "-")
        shown: dict[str, Any] = {"progress": console is not None, "console": console}
        if place is not None and (place / "config.yaml").is_file():
            runs[name][env] = resume(place, cache=cache, **shown)
        else:
            runs[name][env] = run(fresh, out=place, cache=cache, **shown)
        if not runs[name][env].finished:  # the user ended it
            break
    finished = all(run.finished for each in runs.values() for run in each.values())
    return dataclasses.replace(
        result, report=runs["winner"], baseline=runs["baseline"], finished=finished
    )


def _reports(result: TuneResult, report: Report) -> Iterator[tuple[str, str, Config]]:
    """What is trained for the report: name, environment and configuration."""
    scores = next(trial.scores for trial in result.trials if trial.finished)
    for env in scores:
        for name, config in (("winner", result.best), ("baseline", result.config)):
            if name == "baseline" and not report.baseline:
                continue
            own = config if env == "score" else config.replace(env=env)
            yield name, own.env_name, own
