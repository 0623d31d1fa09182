"""``metrics.csv`` of a sweep, written while it runs, and the loggers of its settings."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppg_jax.config import Config
from ppg_jax.report import exact
from ppg_jax.runs import FIRST_COLUMNS, Logger, TextLog, make_logger, one_line
from ppg_jax.sweeps.groups import Group
from ppg_jax.types import MetricArrays

LogFactory = Callable[[int, Config], Logger]
"""A function of a setting's number and configuration that makes its logger."""
Part = tuple[Group, MetricArrays, int]
"""A group, metrics ``[replicas, iterations]``, and the index of their first iteration."""


def column_names(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Columns for the swept fields. A name that a metric has too gets ``setting_`` before it."""
    taken = {*taken, "setting", "seed", "iteration"}
    return [f"setting_{name}" if name in taken else name for name in names]


class MetricRows:
    """The metrics of all settings in one CSV file, to which every segment appends its rows.

    At the end the rows of the groups follow each other, each ordered by iteration, setting and
    seed. So the file does not depend on how often the sweep was stopped. If it cannot be written,
    that is tried again with the next rows.

    Args:
      path: path of the file.
      names: names of the swept fields.

    Attributes:
      problem: why the file could not be written at the last attempt; empty if it was.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, list(names)
        self._parts: list[Part] = []
        self._metrics: set[str] = set()
        self._file = TextLog(path, self._whole)
        self.problem = ""

    def begin(self, group: Group, metrics: Iterable[str], before: MetricArrays | None) -> Logger:
        """The logger of a group.

        Args:
          group: group whose rows follow.
          metrics: names of its metrics.
          before: metrics of the group that exist already, ``[replicas, iterations]``, or None.
        """
        self._metrics |= {*metrics}
        if before is not None:
            self._parts.append((group, before, 0))
        self._file = TextLog(self._path, self._whole)  # it may have more columns now
        return _GroupRows(self, group)

    def add(self, part: Part) -> None:
        """Appends the rows of a segment."""
        self._parts.append(part)
        self._append(self._text(part))

    def finish(self) -> None:
        """Writes what is not written yet, and brings the groups into their order."""
        numbers = [group.number for group, _, _ in self._parts]
        if numbers != sorted(numbers):  # one was trained again
            self._file = TextLog(self._path, self._whole)
        if self._parts:
            self._append("")

    def _append(self, text: str) -> None:
        try:
            self._file.append(text)
            self.problem = ""
        except OSError as error:
            self.problem = f"metrics.csv: failed: {one_line(error)}"

    @property
    def _columns(self) -> list[str]:
        first = [name for name in FIRST_COLUMNS[2:] if name in self._metrics]
        return [*first, *sorted(self._metrics - set(FIRST_COLUMNS))]

    def _whole(self) -> str:
        columns = self._columns
        in_order = sorted(self._parts, key=lambda part: part[0].number)  # it is stable
        head = ["setting", *column_names(self._names, columns), "seed", "iteration", *columns]
        return ",".join(head) + "\n" + "".join(map(self._text, in_order))

    def _text(self, part: Part) -> str:
        group, metrics, first_iteration = part
        seeds, columns = group.config.seeds, self._columns
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for i in range(metrics["env_steps"].shape[1]):
            for place, setting in enumerate(group.settings):
                start = [str(setting.number), *map(exact, setting.values.values())]
                for seed in range(seeds):
                    replica = place * seeds + seed
                    # str gives the shortest text that is read back as the same number.
                    row = [str(metrics[n][replica, i]) if n in metrics else "" for n in columns]
                    writer.writerow([*start, seed, first_iteration + i, *row])
        return text.getvalue()


class _GroupRows:
    """The rows of one group."""

    def __init__(self, rows: MetricRows, group: Group) -> None:
        self._rows, self._group = rows, group

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        self._rows.add((self._group, metrics, first_iteration))

    def close(self) -> None:
        pass


class SettingLoggers:
    """A logger of its own for every setting of a group.

    Args:
      group: the group.
      log: name of a logger, or a function of a setting's number and configuration that makes one.
      directory: folder of the sweep, whose ``logs/setting_N`` a named logger writes to; or None.
      before: metrics of the group before it was resumed, ``[replicas, iterations]``, or None.
    """

    def __init__(
        self,
        group: Group,
        log: str | LogFactory,
        directory: Path | None,
        before: MetricArrays | None,
    ) -> None:
        self._seeds = group.config.seeds
        self._loggers = []
        for place, setting in enumerate(group.settings):
            config = group.config_of(setting)
            if isinstance(log, str):
                assert directory is not None  # the options were checked
                folder = directory / "logs" / f"setting_{setting.number}"
                folder.mkdir(parents=True, exist_ok=True)
                own = self._part(before, place) if before is not None else None
                self._loggers.append(make_logger(log, folder, config, own))
            else:
                self._loggers.append(log(setting.number, config))

    def _part(self, metrics: MetricArrays, place: int) -> MetricArrays:
        first = place * self._seeds
        return {name: x[first : first + self._seeds] for name, x in metrics.items()}

    def write(self, metrics: MetricArrays, first_iteration: int) -> None:
        """Logs the metrics of a segment, each ``[replicas, iterations]``."""
        for place, logger in enumerate(self._loggers):
            logger.write(self._part(metrics, place), first_iteration)

    def close(self) -> None:
        """Ends logging."""
        for logger in self._loggers:
            logger.close()


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with equal names as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
