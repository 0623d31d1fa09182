"""Comparison of runs: learning curves, profiles and tables, with intervals over seeds.

Statistics follow Agarwal et al. 2021 (arXiv:2108.13264): interquartile means (IQM) and stratified
bootstrap intervals.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from ppg_jax.config import Config, ConfigError
from ppg_jax.report.groups import Group, algorithm_name
from ppg_jax.report.groups import group_runs as group_runs
from ppg_jax.report.statistics import iqm, iqm_interval
from ppg_jax.types import MetricArrays

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Colours that people with colour blindness can distinguish (Okabe and Ito)."""

LEGEND_ROW, FEW_ROWS = 0.21, 2
"""Height of a row of a legend in inches, and number of rows for which a figure has room."""


class Chart(Figure):
    """A figure that a notebook displays even if pyplot is not set up there."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=110)
        return picture.getvalue()


def shared_envs(groups: Sequence[Group]) -> list[str]:
    """Environments that occur in every group, in which the groups can be compared."""
    return sorted(set.intersection(*(set(group.envs()) for group in groups)))


def normalized(groups: Sequence[Group]) -> dict[str, dict[str, np.ndarray]]:
    """Final returns by group and shared environment.

    If there are several environments, the returns of each are scaled: 0 is the worst seed of all
    groups in that environment, 1 the best.
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
    """Probability that a run of one group beats a run of another in the same environment.

    Ties count half, as in the Mann-Whitney statistic divided by its maximum. All environments have
    the same weight.

    Args:
      better: final returns of the first group, by environment.
      worse: final returns of the second group, by environment.
      resamples: number of resamples of the stratified bootstrap, whose seed is fixed.

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

    def probability(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        above = x[..., :, None] > y[..., None, :]
        equal = x[..., :, None] == y[..., None, :]
        return (above + 0.5 * equal).mean((-2, -1))

    def draw(x: np.ndarray) -> np.ndarray:
        return rng.choice(x, (resamples, x.size))

    middle = float(np.mean([probability(x, y) for x, y in pairs]))
    drawn = np.mean([probability(draw(x), draw(y)) for x, y in pairs], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return middle, float(low), float(high)


def markdown_table(groups: Sequence[Group]) -> str:
    """Final IQM and its 95% interval for every group and environment, as Markdown, best first."""
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
    """Draws one legend of all groups below the panels, because a panel may lack some groups."""
    lines = [
        Line2D([], [], color=color, linewidth=1.8, label=group.name)
        for group, color in zip(groups, COLORS * len(groups), strict=False)
    ]
    letters = 14 * figure.get_figwidth()  # about the number that fits into a line
    columns = int(letters // (8 + max(len(group.name) for group in groups)))
    columns = min(max(columns, 1), len(groups))
    rows = -(-len(groups) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows - FEW_ROWS))
    figure.legend(
        handles=lines, loc="outside lower center", frameon=False, fontsize=9, ncols=columns
    )


def _seeds(groups: Sequence[Group], envs: Sequence[str]) -> str:
    """The number of seeds of each group in an environment, as text."""
    counts = sorted({len(g.scores(env)) for g in groups for env in envs if env in g.envs()})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} seed" + "s" * (counts != [1]) + " each" * (len(groups) > 1)


def _draw_group(axes: Axes, group: Group, env: str, color: str, per_seed: bool) -> None:
    steps, returns = group.curves(env)
    rows = np.array([iqm_interval([returns[:, i]], resamples=500) for i in range(len(steps))])
    if per_seed:
        axes.plot(steps, returns.T, color="0.6", alpha=0.5, linewidth=0.6, zorder=1)
    axes.fill_between(
        steps, rows[:, 1], rows[:, 2], color=color, alpha=0.3, linewidth=0.5, zorder=2
    )
    axes.plot(steps, rows[:, 0], color=color, linewidth=1.8, zorder=3)


def _middles(returns: np.ndarray) -> np.ndarray:
    """IQM over the seeds of ``[seeds, P]``; NaN where no seed has a return."""
    known = [x[np.isfinite(x)] for x in returns.T]
    return np.array([iqm(x) if x.size else np.nan for x in known])


def plot_curves(
    groups: Sequence[Group], *, per_seed: bool = False, behind: Sequence[Group] = ()
) -> Figure:
    """Plots the IQM of the return over env steps, with 95% intervals and a panel per environment.

    Args:
      groups: groups to compare; if there are none, the figure is empty.
      per_seed: whether to also draw each seed as a thin line.
      behind: further groups, in the same environments, each a thin grey line without a name.
    """
    if not groups:
        return Chart(figsize=(5.2, 3.6))
    envs = sorted({env for group in groups for env in group.envs()})
    columns = min(3, len(envs))
    rows = -(-len(envs) // columns)
    figure = Chart(figsize=(5.2 * columns, 3.6 * rows), layout="constrained")
    for number, env in enumerate(envs):
        axes = figure.add_subplot(rows, columns, number + 1)
        for group in behind:
            if env in group.envs():
                steps, returns = group.curves(env)
                axes.plot(steps, _middles(returns), color="0.7", linewidth=0.8, zorder=1)
        for group, color in zip(groups, COLORS * len(groups), strict=False):
            if env in group.envs():
                _draw_group(axes, group, env, color, per_seed)
        alone = f"{env}, {groups[0].name}, {_seeds(groups, [env])}"
        axes.set_title(env if len(groups) > 1 else alone)
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylabel("episode return (IQM)")
        _tidy(axes)
    if len(groups) > 1:
        more = f"; {len(behind)} more in grey" if behind else ""
        figure.suptitle(f"learning curves, {_seeds(groups, envs)}{more}", fontsize=11)
        _legend(figure, groups)
    return figure


def plot_profile(groups: Sequence[Group]) -> Figure:
    """Plots the performance profile: the share of runs whose final return is above a value.

    Args:
      groups: groups to compare, in the environments that all of them have.

    Raises:
      ConfigError: the groups have no environment in common.
    """
    if not shared_envs(groups):
        raise ConfigError("groups: they have no environment in common; choose others for a profile")
    figure = Chart(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    scores_of = normalized(groups)
    many = len(next(iter(scores_of.values()))) > 1
    everything = np.concatenate([x for s in scores_of.values() for x in s.values()])
    known = everything[np.isfinite(everything)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    margin = 0.02 * (high - low)  # shows that every curve begins at 1 and ends at 0
    values = np.linspace(low - margin, high + margin, 400)
    rng = np.random.default_rng(0)
    for group, color in zip(groups, COLORS * len(groups), strict=False):
        scores = scores_of[group.label].values()
        runs = [x[np.isfinite(x)] for x in scores if np.isfinite(x).any()]
        if runs:
            drawn = np.concatenate([rng.choice(x, (500, x.size)) for x in runs], axis=1)
            bands = np.quantile((drawn[:, :, None] > values).mean(1), [0.025, 0.975], axis=0)
            axes.fill_between(values, *bands, color=color, alpha=0.2, linewidth=0)
            share = (np.concatenate(runs)[:, None] > values).mean(0)
            axes.plot(values, share, color=color, linewidth=1.8)
    envs = shared_envs(groups)
    where = ", ".join(envs) if len(envs) < 3 else f"{len(envs)} environments"
    axes.set_title(f"{where}, {_seeds(groups, envs)}", fontsize=11)
    axes.set_xlabel("final return" + (", 0 to 1 in each environment" if many else ""))
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    _tidy(axes)
    _legend(figure, groups)
    return figure


def plot_learning_curve(config: Config, metrics: MetricArrays) -> Figure:
    """Plots the return of one run: IQM with its 95% interval over seeds, and each seed."""

    @dataclasses.dataclass
    class One:
        config: Config
        metrics: MetricArrays

    return plot_curves([Group(algorithm_name(config), (One(config, metrics),))], per_seed=True)
