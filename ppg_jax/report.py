"""Runs beside each other: learning curves, profiles and tables, with intervals over seeds.

Figures follow Agarwal et al. 2021 (arXiv:2108.13264): interquartile means, stratified bootstrap.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from ppg_jax.config import Config, ConfigError
from ppg_jax.fields import did_you_mean
from ppg_jax.summary import (
    MetricArrays,
    final_returns,
    first_bad_iteration,
    iqm_interval,
    smooth_returns,
)

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Told apart by people who see colours differently (Okabe and Ito)."""
POINTS = 60
FEW = 3
"""Fields that a group's name may list."""
ALIKE = ("seed", "seeds", "strategy", "chunk_size", "devices", "env", "total_timesteps")
"""Fields by which runs are not told apart of themselves."""


class Chart(Figure):
    """A figure that a notebook shows of itself, whether or not pyplot was set up there."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=110)
        return picture.getvalue()


class Run(Protocol):
    """What is compared: ``ppg_jax.Result``, ``ppg_jax.load_run(...)``."""

    @property
    def config(self) -> Config: ...

    @property
    def metrics(self) -> MetricArrays: ...


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that count as one thing.

    Attributes:
      label: for people.
      runs: of one or more environments.
    """

    label: str
    runs: tuple[Run, ...]

    def envs(self) -> list[str]:
        """Environments in the group."""
        return sorted({run.config.env_name for run in self.runs})

    @property
    def name(self) -> str:
        """The label, with a mark if seeds of it were lost to NaN or infinite losses."""
        marks = [x for r in self.runs for x in first_bad_iteration(r.metrics, r.config)]
        lost = sum(mark is not None for mark in marks)
        return f"{self.label} ({lost} of {len(marks)} seeds NaN)" if lost else self.label

    def scores(self, env: str) -> np.ndarray:
        """Final returns in an environment, all runs' seeds; NaN where no episode ended."""
        found = [final_returns(r.metrics) for r in self.runs if r.config.env_name == env]
        return np.concatenate(found) if found else np.empty(0)

    def curves(self, env: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns over env steps in an environment: ``[P]`` and ``[seeds, P]``."""
        found = [smooth_returns(r.metrics, POINTS) for r in self.runs if r.config.env_name == env]
        grid = np.linspace(
            min(steps[0] for steps, _ in found), max(steps[-1] for steps, _ in found), POINTS
        )
        rows = [_on_grid(grid, steps, row) for steps, rows in found for row in rows]
        return grid, np.array(rows)


def _on_grid(grid: np.ndarray, steps: np.ndarray, row: np.ndarray) -> np.ndarray:
    known = np.isfinite(row)
    if not known.any():
        return np.full(grid.shape, np.nan)
    return np.interp(grid, steps[known], row[known], left=np.nan, right=np.nan)


def group_runs(runs: Sequence[Run], by: Sequence[str] | None = None) -> list[Group]:
    """Sorts runs into groups.

    Args:
      runs: to be sorted.
      by: fields of the configuration, ``hparams.gamma`` and the like; those that have the same
        values are a group. None: all fields in which any two runs differ, but for the
        environment, the seeds and where they ran; if these are many, the groups are called after
        their algorithms where that tells them apart.

    Raises:
      ConfigError: there is no such field.
    """
    flat = [flatten(run.config.to_dict()) for run in runs]
    known = list(dict.fromkeys(name for fields in flat for name in fields))
    for name in by or ():
        if name not in known:
            raise ConfigError(f"by: {name!r} is no field; {did_you_mean(name, known)}")
    chosen = list(by) if by is not None else [
        name
        for name in known
        if name.split(".")[0] not in ALIKE and len({repr(f.get(name)) for f in flat}) > 1
    ]  # fmt: skip
    groups: dict[str, list[Run]] = {}
    for run, fields in zip(runs, flat, strict=True):
        label = ", ".join(f"{name.split('.')[-1]} {_short(fields.get(name))}" for name in chosen)
        groups.setdefault(label or _algorithm(run.config), []).append(run)
    names = _algorithms(groups) if by is None and len(chosen) > FEW else list(groups)
    return [
        Group(label, tuple(members)) for label, members in zip(names, groups.values(), strict=True)
    ]


def _algorithms(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """Names of the groups' algorithms if no two share one, otherwise the groups' own names."""
    found = [{_algorithm(run.config) for run in members} for members in groups.values()]
    everything = [name for names in found for name in names]
    return everything if len(set(everything)) == len(everything) == len(found) else list(groups)


def flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        nested = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _algorithm(config: Config) -> str:
    return f"{'PPG' if config.e_aux else 'PPO'} {config.arch}"


def shared_envs(groups: Sequence[Group]) -> list[str]:
    """Environments that every group has: what groups can be compared in."""
    return sorted(set.intersection(*(set(group.envs()) for group in groups)))


def normalized(groups: Sequence[Group]) -> dict[str, dict[str, np.ndarray]]:
    """Final returns by group and shared environment; scaled to 0..1 where these are several.

    The scale of an environment is from the worst to the best seed of all groups.
    """
    envs = shared_envs(groups)
    found = {group.label: {env: group.scores(env) for env in envs} for group in groups}
    if len(envs) < 2:
        return found
    for env in envs:
        everything = np.concatenate([found[label][env] for label in found])
        if not np.isfinite(everything).any():
            continue
        low, high = np.nanmin(everything), np.nanmax(everything)
        for label in found:
            found[label][env] = (found[label][env] - low) / max(high - low, 1e-12)
    return found


def probability_of_improvement(
    better: Mapping[str, np.ndarray], worse: Mapping[str, np.ndarray], resamples: int = 2_000
) -> tuple[float, float, float]:
    """How likely a run of one group beats a run of another, in the same environment.

    Ties count half (the Mann-Whitney statistic over its maximum), environments alike.

    Args:
      better: final returns of one group by environment.
      worse: of the other.
      resamples: of the stratified bootstrap, with a fixed seed.

    Returns:
      ``(probability, low, high)`` with a 95% interval.
    """
    pairs = [
        (x[np.isfinite(x)], y[np.isfinite(y)])
        for x, y in ((better[env], worse[env]) for env in better if env in worse)
    ]
    pairs = [(x, y) for x, y in pairs if x.size and y.size]
    if not pairs:
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(0)

    def chance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        above = x[..., :, None] > y[..., None, :]
        equal = x[..., :, None] == y[..., None, :]
        return (above + 0.5 * equal).mean((-2, -1))

    def draw(x: np.ndarray) -> np.ndarray:
        return rng.choice(x, (resamples, x.size))

    middle = float(np.mean([chance(x, y) for x, y in pairs]))
    drawn = np.mean([chance(draw(x), draw(y)) for x, y in pairs], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return middle, float(low), float(high)


def markdown_table(groups: Sequence[Group]) -> str:
    """Final IQM with its 95% interval for every group and environment, best first."""
    head = "| group | environment | seeds | final return (IQM) | 95% interval |"
    lines = [head, "|---|---|---|---|---|"]
    rows = []
    for group in groups:
        for env in group.envs():
            scores = group.scores(env)
            rows.append((env, group.name, np.isfinite(scores).sum(), *iqm_interval([scores])))
    for env, label, count, middle, low, high in sorted(rows, key=lambda r: (r[0], -r[3])):
        interval = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else "-"
        lines.append(f"| {label} | {env} | {count} | {middle:.2f} | {interval} |")
    scores_of = normalized(groups)
    envs = shared_envs(groups)
    if len(groups) > 1 and len(envs) > 1:
        head = f"| group | {len(envs)} environments, 0 to 1 (IQM) | 95% interval |"
        lines += ["", head, "|---|---|---|"]
        for group in groups:
            middle, low, high = iqm_interval(list(scores_of[group.label].values()))
            lines.append(f"| {group.name} | {middle:.3f} | {low:.3f} to {high:.3f} |")
    if len(groups) == 2 and envs:
        first, second = groups
        middle, low, high = probability_of_improvement(
            scores_of[first.label], scores_of[second.label]
        )
        lines += [
            "",
            f"A run of *{first.name}* beats one of *{second.name}* with probability "
            f"{middle:.2f} (95% interval {low:.2f} to {high:.2f}).",
        ]
    return "\n".join(lines) + "\n"


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, groups: Sequence[Group]) -> None:
    """All groups below the panels, where they cover nothing: not every panel has all of them."""
    lines = [
        Line2D([], [], color=color, linewidth=1.8, label=group.name)
        for group, color in zip(groups, COLORS * len(groups), strict=False)
    ]
    letters = 14 * figure.get_figwidth()  # about as many as fit into a line
    columns = int(letters // (8 + max(len(group.name) for group in groups)))
    figure.legend(
        handles=lines, loc="outside lower center", frameon=False, fontsize=9,
        ncols=min(max(columns, 1), len(groups)),
    )  # fmt: skip


def _draw_group(axes: Axes, group: Group, env: str, color: str, per_seed: bool) -> None:
    steps, returns = group.curves(env)
    rows = np.array([iqm_interval([returns[:, i]], resamples=500) for i in range(len(steps))])
    if per_seed:
        axes.plot(steps, returns.T, color=color, alpha=0.3, linewidth=0.7)
    axes.fill_between(steps, rows[:, 1], rows[:, 2], color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, rows[:, 0], color=color, linewidth=1.8, label=group.name)


def plot_curves(groups: Sequence[Group], *, per_seed: bool = False) -> Figure:
    """Interquartile mean return over env steps with its 95% interval, a panel an environment.

    Args:
      groups: to be compared.
      per_seed: every seed as a thin line too.
    """
    envs = sorted({env for group in groups for env in group.envs()})
    columns = min(3, len(envs))
    rows = -(-len(envs) // columns)
    figure = Chart(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    for number, env in enumerate(envs):
        axes = figure.add_subplot(rows, columns, number + 1)
        for group, color in zip(groups, COLORS * len(groups), strict=False):
            if env in group.envs():
                _draw_group(axes, group, env, color, per_seed)
        axes.set_title(env)
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylabel("episode return (IQM)")
        _tidy(axes)
    if len(groups) > 1:
        _legend(figure, groups)
    return figure


def plot_profile(groups: Sequence[Group]) -> Figure:
    """Performance profile: the share of runs whose final return is above a value.

    Args:
      groups: to be compared, in the environments that all of them have.

    Raises:
      ConfigError: there is none.
    """
    if not shared_envs(groups):
        raise ConfigError("groups: no environment is in all of them, so there is no profile")
    figure = Chart(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    scores_of = normalized(groups)
    many = len(next(iter(scores_of.values()))) > 1
    everything = np.concatenate([x for s in scores_of.values() for x in s.values()])
    known = everything[np.isfinite(everything)]
    values = np.linspace(known.min(), known.max(), 200) if known.size else np.zeros(200)
    rng = np.random.default_rng(0)
    for group, color in zip(groups, COLORS * len(groups), strict=False):
        scores = scores_of[group.label].values()
        runs = [x[np.isfinite(x)] for x in scores if np.isfinite(x).any()]
        if not runs:  # it has a name in the legend all the same
            axes.plot([], [], color=color, linewidth=1.8, label=group.name)
            continue
        drawn = np.concatenate([rng.choice(x, (500, x.size)) for x in runs], axis=1)
        bands = (drawn[:, :, None] > values).mean(1)
        low, high = np.quantile(bands, [0.025, 0.975], axis=0)
        axes.fill_between(values, low, high, color=color, alpha=0.2, linewidth=0)
        share = (np.concatenate(runs)[:, None] > values).mean(0)
        axes.plot(values, share, color=color, linewidth=1.8, label=group.name)
    axes.set_xlabel("final return" + (", 0 to 1 in each environment" if many else ""))
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    _tidy(axes)
    _legend(figure, groups)
    return figure


def plot_learning_curve(config: Config, metrics: MetricArrays) -> Figure:
    """One run: interquartile mean with its 95% interval over seeds, and each seed."""

    @dataclasses.dataclass
    class One:
        config: Config
        metrics: MetricArrays

    group = Group(_algorithm(config), (One(config, metrics),))
    figure = plot_curves([group], per_seed=True)
    seeds = f"{len(metrics['env_steps'])} seed" + "s" * (len(metrics["env_steps"]) > 1)
    figure.axes[0].set_title(f"{config.env_name}, {group.name}, {seeds}")
    return figure
