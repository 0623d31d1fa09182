"""Trains many settings of the hyperparameters, each with many seeds, by programs compiled once."""

import contextlib
import dataclasses
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.console import Console

from ppg_jax.config import (
    Config,
    ConfigError,
    Hyperparams,
    all_field_names,
    check_config,
    did_you_mean,
)
from ppg_jax.execution import (
    Layout,
    Pace,
    Segment,
    Training,
    gather,
    kept_programs,
    plan_training,
    processes_here,
    train_segments,
)
from ppg_jax.report import (
    algorithm_name,
    final_returns,
    first_bad_iteration,
    run_line,
    table_html,
    to_dataframe,
)
from ppg_jax.runs import (
    METRICS,
    SWEEP,
    StopRequest,
    Watch,
    check_new,
    laid_out,
    make_display,
    new_folder,
    one_line,
    resolve,
    write_figure,
    write_summary,
    write_whole,
)
from ppg_jax.sweeps.report import plot_sweep, ranked, sweep_table
from ppg_jax.types import MetricArrays, TrainState

if TYPE_CHECKING:
    import pandas as pd

HYPERPARAMETERS = [field.name for field in dataclasses.fields(Hyperparams)]


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResult:
    """The result of a sweep over H settings and S seeds.

    Attributes:
      config: resolved configuration; its hyperparameters apply where a setting gives no value.
      settings: the H settings, each with values by name.
      metrics: metrics by name, each ``[H, S, iterations]``.
      state: final training states, leaves ``[H, S, ...]``.
      compile_seconds: time for tracing and compiling all programs.
      run_seconds: time for running them.
      first_bad_iteration: first iteration with a NaN or infinite loss, or None, ``[H][S]``.
      finished: False if the sweep was stopped before its last iteration.
      problems: files that could not be written, one line each.
    """

    config: Config
    settings: list[dict[str, float]]
    metrics: MetricArrays
    state: TrainState
    compile_seconds: float
    run_seconds: float
    first_bad_iteration: list[list[int | None]]
    finished: bool = True
    problems: tuple[str, ...] = ()

    @property
    def final_returns(self) -> np.ndarray:
        """Mean return over the last tenth of the run, ``[H, S]``."""
        flat = {name: x.reshape(-1, x.shape[-1]) for name, x in self.metrics.items()}
        return final_returns(flat).reshape(len(self.settings), -1)

    def ranked(self) -> list[dict[str, float]]:
        """The settings, best first: rank, values, final IQM with 95% interval, NaN seeds."""
        return ranked(self.settings, self.final_returns, self.first_bad_iteration)

    def plot(self) -> Figure:
        """A heat map for a grid of two hyperparameters, otherwise a line plot for each one."""
        title = f"{algorithm_name(self.config)} on {self.config.env_name}"
        return plot_sweep(self.settings, self.final_returns, self.first_bad_iteration, title)

    def __repr__(self) -> str:
        done = f"{len(self.settings)} settings, " + ("finished" if self.finished else "stopped")
        return run_line("Sweep", self.config, self.final_returns, done, *self.problems)

    def _repr_html_(self) -> str:
        return table_html(repr(self), self.ranked(), self.problems)

    def to_dataframe(self) -> "pd.DataFrame":
        """A table of settings and metrics, one row for each setting, seed and iteration."""
        import pandas as pd

        tables = []
        for number, setting in enumerate(self.settings):
            table = to_dataframe({name: x[number] for name, x in self.metrics.items()})
            for place, (name, value) in enumerate({"setting": number, **setting}.items()):
                table.insert(place, name, value)
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    @property
    def env_steps_per_second(self) -> float:
        """Environment steps of all replicas, divided by the time for running the programs."""
        return float(self.metrics["env_steps"][..., -1].sum()) / self.run_seconds


def sweep(
    config: Config,
    values: Mapping[str, Sequence[float]],
    seeds: int | None = None,
    *,
    zipped: bool = False,
    out: str | Path | None = None,
    progress: bool = True,
    console: Console | None = None,
    cache: bool = True,
) -> SweepResult:
    """Trains every setting of some hyperparameters with every seed, by programs compiled once.

    Every setting starts from the same seeds, those of ``ppg_jax.run``. So settings differ only in
    their hyperparameters.

    The first Ctrl-C or SIGTERM ends the sweep after the current segment (about a hundredth of the
    sweep), and the results so far are returned. A sweep keeps no checkpoints and cannot be resumed.

    Args:
      config: configuration to train.
      values: values of each hyperparameter, by its name in ``config.hparams``.
      seeds: number of seeds, instead of ``config.seeds``.
      zipped: whether the lists are the columns of a table of settings, of equal length. Otherwise
        every combination is a setting, and the last name varies fastest.
      out: folder to write to; it must be new or empty.
      progress: whether to show a progress bar, or lines if there is no terminal.
      console: console for the progress; default: standard output.
      cache: as in ``run``.

    Returns:
      The settings, and their metrics ``[H, S, iterations]`` in the same order.

    Raises:
      ConfigError: a name, a value, the configuration or ``out`` is invalid.
    """
    check_config(config)
    if processes_here().count > 1:
        raise ConfigError("distributed: a sweep runs in one process; start it without the others")
    if seeds is not None:
        config = config.replace(seeds=seeds)
    settings = make_settings(values, zipped=zipped)
    hparams = [_with_setting(config, setting) for setting in settings]
    settings = [
        {name: float(getattr(h, name)) for name in setting}  # YAML reads "1e-3" as text
        for setting, h in zip(settings, hparams, strict=True)
    ]
    replicas = len(settings) * config.seeds
    config = resolve(config)
    per_replica = jax.tree.map(lambda *x: jnp.repeat(jnp.float32(x), config.seeds), *hparams)
    keys = jnp.tile(jax.random.split(jax.random.key(config.seed), config.seeds), len(settings))
    folder = Path(out) if out is not None else None
    shown = (console or Console()) if progress else None
    parts: list[MetricArrays] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_programs(cache))
        if folder is not None:
            check_new(folder)
        display = make_display(shown, config)
        training = Training(replicas, shared=False)
        plan = laid_out(plan_training(config, training, display.note))
        config, layout = plan.config, plan.layout
        if folder is not None:
            stack.enter_context(_new_folder(folder, config, settings))
        stack.enter_context(display)
        display.note(
            f"{config.env_name}: {len(settings)} settings x {config.seeds} seeds by {layout}; "
            "compiling"
        )
        watch = Watch(config, replicas, display, lambda i: _replica_name(settings, config.seeds, i))
        stop = stack.enter_context(StopRequest(display.note))
        pace = Pace(compiled=stop.wait_for_segments, spent=plan.seconds)
        for segment in train_segments(config, layout, per_replica, keys, shared=False, pace=pace):
            parts.append(segment.metrics)
            watch.update(segment)
            stop.passed(segment.run_seconds)
            if stop.requested:
                break
        result = _result(config, settings, parts, segment, layout)
        if folder is not None:
            result = dataclasses.replace(result, problems=_write_results(folder, result))
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return result


def _result(
    config: Config,
    settings: list[dict[str, float]],
    parts: Sequence[MetricArrays],
    segment: Segment,
    layout: Layout,
) -> SweepResult:
    """The result of a sweep, from the metrics of all segments and the last segment."""
    metrics = {name: np.concatenate([p[name] for p in parts], 1) for name in parts[0]}
    bad = first_bad_iteration(metrics, config)
    shape = (len(settings), config.seeds)

    def unflatten(x: Any) -> Any:
        return x.reshape(*shape, *x.shape[1:])

    return SweepResult(
        config=config,
        settings=settings,
        metrics={name: unflatten(x) for name, x in metrics.items()},
        state=jax.tree.map(unflatten, gather(segment.states, layout)),
        compile_seconds=segment.compile_seconds,
        run_seconds=segment.run_seconds,
        first_bad_iteration=[bad[i : i + shape[1]] for i in range(0, len(bad), shape[1])],
        finished=metrics["env_steps"].shape[1] == config.num_iterations,
    )


def _new_folder(
    folder: Path, config: Config, settings: Sequence[Mapping[str, float]]
) -> AbstractContextManager[None]:
    """Creates the folder with a file that describes the sweep, so that it can be repeated."""
    columns = {name: [setting[name] for setting in settings] for name in settings[0]}
    spec = {"config": "config.yaml", "values": columns, "zipped": True}
    header = "# Feed this file back to ppg-jax sweep to repeat the sweep.\n"
    text = header + yaml.safe_dump(spec, sort_keys=False)
    return new_folder(folder, config, {SWEEP: text})


def _replica_name(settings: Sequence[Mapping[str, float]], seeds: int, replica: int) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in settings[replica // seeds].items())
    return f"{values}, seed {replica % seeds}"


def _write_results(folder: Path, result: SweepResult) -> tuple[str, ...]:
    """Writes the metrics, the ranked settings as CSV and Markdown, a figure and a summary.

    Returns:
      Files that could not be written, one line each.
    """
    import pandas as pd

    rows = result.ranked()
    summary = {
        "settings": len(result.settings),
        "seeds": result.config.seeds,
        "finished": result.finished,
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
    }

    def table(name: str, frame: "pd.DataFrame") -> None:
        write_whole(folder / name, frame.to_csv(index=False))

    files: dict[str, Callable[[], object]] = {
        METRICS: lambda: table(METRICS, result.to_dataframe()),
        "settings.csv": lambda: table("settings.csv", pd.DataFrame(rows)),
        "settings.md": lambda: write_whole(folder / "settings.md", sweep_table(rows)),
        "sweep.png": lambda: write_figure(folder / "sweep.png", result.plot(), dpi=200),
        "sweep.svg": lambda: write_figure(folder / "sweep.svg", result.plot(), dpi=200),
        "summary.json": lambda: write_summary(folder, summary),
    }
    problems = []
    for name, write in files.items():
        try:
            write()
        except Exception as error:  # each library raises its own error for a full disk
            problems.append(f"{name}: failed: {one_line(error)}")
    return tuple(problems)


def make_settings(
    values: Mapping[str, Sequence[float]], *, zipped: bool = False
) -> list[dict[str, float]]:
    """The settings of a sweep: every combination of the values, or the rows of a table.

    Raises:
      ConfigError: there are no values, a name is unknown, or columns differ in length.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"values: {values!r} is invalid; it should map names to lists")
    columns: dict[str, list[Any]] = {}
    for given, column in values.items():
        name = _name(given)
        if name in columns:
            raise ConfigError(f"{given}: is given twice, with and without hparams.; remove one")
        columns[name] = _column(name, column)
    lengths = {name: len(column) for name, column in columns.items()}
    if zipped and len(set(lengths.values())) > 1:
        raise ConfigError(
            f"values: zipped lists should be equally long; their lengths are {lengths}"
        )
    combined = zip(*columns.values(), strict=True) if zipped else itertools.product(
        *columns.values()
    )  # fmt: skip
    return [dict(zip(columns, row, strict=True)) for row in combined]


def _name(name: Any) -> str:
    short = str(name).removeprefix("hparams.")
    if short in HYPERPARAMETERS:
        return short
    fields = all_field_names(Config)
    if short in (*fields, "network", "hparams"):
        raise ConfigError(
            f"{short}: shapes the program, so a sweep cannot change it; call run for each value"
        )
    hint = did_you_mean(short, HYPERPARAMETERS) or did_you_mean(short, fields)
    names = f"the names are {', '.join(HYPERPARAMETERS)}"
    raise ConfigError(f"{short}: is not a hyperparameter; {hint.strip() or names}")


def _column(name: str, column: Any) -> list[Any]:
    listed = column.tolist() if hasattr(column, "tolist") else column
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
        raise ConfigError(f"{name}: {column!r} is invalid; it should be a list of numbers")
    return list(listed)


def _with_setting(config: Config, setting: Mapping[str, Any]) -> Hyperparams:
    """Hyperparameters of the configuration with the values of a setting, after the usual checks."""
    fields = dataclasses.asdict(config.hparams) | dict(setting)
    return config.replace(hparams=fields).hparams
