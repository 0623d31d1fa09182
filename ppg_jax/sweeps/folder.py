"""The folder of a sweep: its description, and its results as tables and figures.

``config.yaml`` and ``sweep.yaml`` describe the sweep, each group has a folder in ``groups``. All
other files are made from those of the groups.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ppg_jax.config import OBJECT, Config, ConfigError, config_from_dict, read_mapping
from ppg_jax.report import exact
from ppg_jax.runs import EVALUATION, SWEEP, one_line, write_figure, write_summary, write_whole
from ppg_jax.sweeps.report import sweep_table
from ppg_jax.sweeps.result import SweepResult
from ppg_jax.sweeps.rows import csv_text
from ppg_jax.sweeps.settings import Setting, checked_settings, make_settings


def spec_text(settings: Sequence[Setting], drawn: str = "") -> str:
    """The contents of ``sweep.yaml``: a table of all settings, which repeats the sweep.

    Args:
      settings: all settings; they have the same names.
      drawn: how they were drawn, for a comment.
    """
    columns = {name: [s.values[name] for s in settings] for name in settings[0].values}
    spec = {"config": "config.yaml", "values": columns, "zipped": True}
    header = "# Feed this file back to ppg-jax sweep to repeat the sweep.\n"
    if drawn:
        header += f"# Drawn at random: {' '.join(drawn.split())}\n"
    return header + yaml.safe_dump(spec, sort_keys=False)


def check_storable(settings: Sequence[Setting]) -> None:
    """Checks that a file can hold the values of all settings.

    Raises:
      ConfigError: a value is an object.
    """
    for setting in settings:
        for name, value in setting.values.items():
            try:
                yaml.safe_dump(value)
            except yaml.YAMLError:
                raise ConfigError(
                    f"setting {setting.number}: {name} is an object, which no file can hold; sweep "
                    "without a folder, or name its class as package.module:Class"
                ) from None


def stored_config(directory: Path, env: Any = None) -> Config:
    """The configuration of the sweep in a folder.

    Args:
      directory: folder of the sweep.
      env: environment, if the sweep's environment was an object.

    Raises:
      ConfigError: the folder contains no sweep, or its configuration is invalid.
    """
    file = directory / "config.yaml"
    if not (directory / SWEEP).is_file():
        run = "; a run is resumed by ppg-jax train --resume" if file.is_file() else ""
        raise ConfigError(f"DIR: {directory} contains no sweep: it has no {SWEEP}{run}")
    if not file.is_file():
        raise ConfigError(
            f"DIR: {directory} has no config.yaml: nothing is trained in it; start a new sweep"
        )
    fields = read_mapping(file)
    if env is not None and str(fields.get("env")).startswith(OBJECT):
        fields["env"] = env
    try:
        return config_from_dict(fields)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def stored_settings(directory: Path, config: Config) -> list[Setting]:
    """The settings of the sweep in a folder.

    Raises:
      ConfigError: ``sweep.yaml`` is damaged, or a value is invalid.
    """
    file = directory / SWEEP
    try:
        spec = read_mapping(file)
        rows = make_settings(spec.get("values", {}), zipped=spec.get("zipped") is True)
        return checked_settings(config, rows)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(file) in message else f"{file}: {message}") from None


def write_tables(directory: Path, result: SweepResult) -> list[str]:
    """Writes the ranked settings, the evaluations and a summary.

    Returns:
      Files that could not be written, one line each.
    """
    rows = result.ranked()
    summary = {
        "settings": len(result.settings),
        "trained": sum(run is not None and run.finished for run in result.runs),
        "seeds": result.config.seeds,
        "finished": result.finished,
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
    }
    as_text = [{name: exact(value) for name, value in row.items()} for row in rows]
    files: dict[str, Callable[[], object]] = {
        "settings.csv": lambda: write_whole(directory / "settings.csv", csv_text(as_text)),
        "settings.md": lambda: write_whole(directory / "settings.md", sweep_table(rows)),
        "summary.json": lambda: write_summary(directory, summary),
    }
    if played := _evaluations(result):
        files[EVALUATION] = lambda: write_whole(directory / EVALUATION, csv_text(played))
    return _written(files)


def write_figures(directory: Path, result: SweepResult) -> list[str]:
    """Writes the final returns and the learning curves, as PNG and SVG.

    Returns:
      Files that could not be written, one line each.
    """

    def draw(name: str, plot: Callable[[], Any]) -> None:
        figure = plot()
        for kind in ("png", "svg"):
            write_figure(directory / f"{name}.{kind}", figure, dpi=200)

    return _written(
        {
            "sweep.png": lambda: draw("sweep", result.plot),
            "learning_curves.png": lambda: draw("learning_curves", result.plot_curves),
        }
    )


def _evaluations(result: SweepResult) -> list[Mapping[str, Any]]:
    """Rows of all evaluations, with the number of their setting."""
    return [
        {"setting": number, **row}
        for number, run in enumerate(result.runs)
        for row in (run.evaluations if run else ())
    ]


def _written(files: Mapping[str, Callable[[], object]]) -> list[str]:
    problems = []
    for name, write in files.items():
        try:
            write()
        except Exception as error:  # each library raises its own error for a full disk
            problems.append(f"{name}: failed: {one_line(error)}")
    return problems
