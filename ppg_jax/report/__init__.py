"""Statistics, learning curves and tables from the metrics of runs.

The functions take arrays and return numbers, figures and text. Nothing here may read or write a
file, know a run folder, or train.
"""

from ppg_jax.report.curves import (
    Chart,
    markdown_table,
    normalized,
    plot_curves,
    plot_learning_curve,
    plot_profile,
    probability_of_improvement,
    shared_envs,
)
from ppg_jax.report.groups import Group, Run, algorithm_name, group_runs
from ppg_jax.report.speeds import BenchRecord, BenchResult, head_line
from ppg_jax.report.statistics import (
    crafter_score,
    final_returns,
    first_bad_iteration,
    iqm,
    iqm_interval,
    mean_interval,
    to_dataframe,
)
from ppg_jax.report.tables import run_line, seed_rows, table_html
from ppg_jax.report.values import exact, in_words, short

__all__ = [
    "BenchRecord",
    "BenchResult",
    "Chart",
    "Group",
    "Run",
    "algorithm_name",
    "crafter_score",
    "exact",
    "final_returns",
    "first_bad_iteration",
    "group_runs",
    "head_line",
    "in_words",
    "iqm",
    "iqm_interval",
    "markdown_table",
    "mean_interval",
    "normalized",
    "plot_curves",
    "plot_learning_curve",
    "plot_profile",
    "probability_of_improvement",
    "run_line",
    "seed_rows",
    "shared_envs",
    "short",
    "table_html",
    "to_dataframe",
]
