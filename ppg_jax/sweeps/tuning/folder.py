"""The folder of a search: its description, the journal of its trials, and its results."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ppg_jax.config import ConfigError, config_from_dict, read_mapping
from ppg_jax.report import exact
from ppg_jax.runs import one_line, write_figure, write_summary, write_whole
from ppg_jax.sweeps.report import sweep_table
from ppg_jax.sweeps.rows import csv_text
from ppg_jax.sweeps.tuning.result import TuneResult
from ppg_jax.sweeps.tuning.search import Search
from ppg_jax.sweeps.tuning.space import spec_of

TUNE = "tune.yaml"
CONFIG, SPACE, ENVIRONMENTS = "config", "space", "environments"


@dataclasses.dataclass(frozen=True)
class Report:
    """How the winner is reported.

    Attributes:
      seeds: number of fresh seeds.
      baseline: whether the search's own configuration is trained on them too.
    """

    seeds: int = 10
    baseline: bool = True


def spec_text(search: Search, report: Report) -> str:
    """The contents of ``tune.yaml``."""
    fields = {
        f.name: getattr(search, f.name)
        for f in dataclasses.fields(search)
        if f.name not in (CONFIG, SPACE, ENVIRONMENTS)
    }
    spec = {
        CONFIG: "config.yaml",
        SPACE: spec_of(search.space),
        ENVIRONMENTS: {env: list(bounds) for env, bounds in search.environments.items()},
        **fields,
        "report_seeds": report.seeds,
        "baseline": report.baseline,
    }
    header = "# Feed this file back to ppg-jax tune to repeat the search.\n"
    return header + yaml.safe_dump(spec, sort_keys=False)


def stored_search(directory: Path) -> tuple[Search, Report]:
    """The search in a folder.

    Raises:
      ConfigError: there is none, or its description is damaged.
    """
    file = directory / TUNE
    if not file.is_file():
        raise ConfigError(f"DIR: {directory} contains no search: it has no {TUNE}")
    spec = read_mapping(file)
    config = config_from_dict(read_mapping(directory / "config.yaml"))
    try:
        report = Report(int(spec.pop("report_seeds")), bool(spec.pop("baseline")))
        known = {f.name for f in dataclasses.fields(Search)}
        bounds = {env: tuple(pair) for env, pair in (spec.pop(ENVIRONMENTS) or {}).items()}
        rest = {name: value for name, value in spec.items() if name in known - {CONFIG}}
        return Search(config, environments=bounds, **rest), report
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: is damaged: {one_line(error)}") from None


def write_trials(directory: Path, result: TuneResult) -> list[str]:
    """Writes what is known of the trials so far: table, importances, figures, the best values.

    Returns:
      Files that could not be written, one line each.
    """
    rows = [{name: exact(value) for name, value in row.items()} for row in result.ranked()]
    best = yaml.safe_dump(result.best.to_dict(), sort_keys=False)
    summary = {
        "trials": len(result.trials),
        "finished": result.finished,
        "env_steps": result.env_steps,
        "best_values": result.best_values,
        "importances": result.importances,
        "report": result.compared(),
    }
    shares = [{"field": name, "importance": x} for name, x in result.importances.items()]

    def draw(name: str, plot: Callable[[], Any]) -> Callable[[], object]:
        return lambda: write_figure(directory / f"{name}.png", plot(), dpi=200)

    files: dict[str, Callable[[], object]] = {
        "trials.csv": lambda: write_whole(directory / "trials.csv", csv_text(rows)),
        "trials.md": lambda: write_whole(directory / "trials.md", tune_text(result)),
        "winner.yaml": lambda: write_whole(directory / "winner.yaml", best),
        "importances.csv": lambda: write_whole(directory / "importances.csv", csv_text(shares)),
        "importances.png": draw("importances", result.plot_importances),
        "parallel_coordinates.png": draw("parallel_coordinates", result.plot),
        "summary.json": lambda: write_summary(directory, summary),
    }
    if not shares:
        del files["importances.csv"], files["importances.png"]
    problems = []
    for name, write in files.items():
        try:
            write()
        except Exception as error:  # each library raises its own error for a full disk
            problems.append(f"{name}: failed: {one_line(error)}")
    return problems


def tune_text(result: TuneResult, most: int = 20) -> str:
    """The comparison on fresh seeds, the best trials and the importances, in Markdown."""
    tables = [result.compared(), result.ranked()[:most]]
    tables.append([{"field": n, "importance": x} for n, x in result.importances.items()])
    return "\n".join(sweep_table(rows) for rows in tables if rows)
