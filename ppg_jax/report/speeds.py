"""The result of ``bench``: speed, compile time and memory for several numbers of seeds."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ppg_jax.config import Config
from ppg_jax.report.groups import algorithm_name
from ppg_jax.report.tables import table_html

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("seeds", "layout", "compile s", "env steps/s", "slowest to fastest", "compiled",
           "device peak")  # fmt: skip
WIDTHS = (6, 20, 10, 13, 24, 11, 12)


@dataclasses.dataclass(frozen=True)
class BenchRecord:
    """What was measured with a number of seeds. Without a measurement, ``problem`` says why.

    Attributes:
      seeds: number of seeds.
      layout: how they ran, in words.
      strategy: ``vmap``, ``map`` or ``chunk``.
      devices: number of JAX devices that shared the seeds.
      workers: number of calls that ran at the same time, on CPU.
      chunk_size: number of seeds that ran together on a device.
      devices_per_seed: number of devices that shared the environments of a seed.
      aux_storage: how the auxiliary phase's observations were kept.
      compile_seconds: seconds to trace and compile all programs.
      run_seconds: seconds of a phase of all seeds, timed several times.
      env_steps: environment steps of all seeds in a phase.
      compiled_bytes: bytes of each device that training takes, as the compiled programs say. On CPU
        the device is the machine's main memory. None: they do not say.
      device_peak_bytes: most bytes in use on a device, as it reports; None: it does not report
        them, as a CPU, or the process had needed more before.
      problem: why there is no measurement; empty: there is one.
    """

    seeds: int
    layout: str = ""
    strategy: str = ""
    devices: int = 0
    workers: int = 0
    chunk_size: int = 0
    devices_per_seed: int = 0
    aux_storage: str = ""
    compile_seconds: float | None = None
    run_seconds: tuple[float, ...] = ()
    env_steps: int = 0
    compiled_bytes: int | None = None
    device_peak_bytes: int | None = None
    problem: str = ""

    @property
    def env_steps_per_second(self) -> float | None:
        """Environment steps of all seeds in a second: the median."""
        speeds = self._speeds()
        middle = len(speeds) // 2
        return (speeds[middle] + speeds[-1 - middle]) / 2 if speeds else None

    @property
    def slowest(self) -> float | None:
        """The lowest number of environment steps in a second."""
        return min(self._speeds(), default=None)

    @property
    def fastest(self) -> float | None:
        """The highest number of environment steps in a second."""
        return max(self._speeds(), default=None)

    def _speeds(self) -> list[float]:
        return sorted(self.env_steps / seconds for seconds in self.run_seconds)

    def to_dict(self) -> dict[str, Any]:
        """All of it by name, ready for JSON."""
        speeds = {
            name: getattr(self, name) and round(getattr(self, name), 1)
            for name in ("env_steps_per_second", "slowest", "fastest")
        }
        return dataclasses.asdict(self) | speeds

    def cells(self) -> dict[str, str]:
        """Texts by the names of ``COLUMNS``; for a problem only the first two."""
        if self.problem:
            return {"seeds": f"{self.seeds}", "layout": self.problem}
        texts = (
            f"{self.seeds}",
            self.layout,
            f"{self.compile_seconds:.1f}",
            f"{self.env_steps_per_second:,.0f}",
            f"{self.slowest:,.0f} to {self.fastest:,.0f}",
            _size(self.compiled_bytes),
            _size(self.device_peak_bytes),
        )
        return dict(zip(COLUMNS, texts, strict=True))

    def line(self) -> str:
        """A line of a table, below ``head_line``."""
        return _line(tuple(self.cells().values()))


def head_line() -> str:
    """The first line of the table of ``BenchRecord.line``."""
    return _line(COLUMNS)


def _line(cells: tuple[str, ...]) -> str:
    padded = [
        cell.ljust(width) if name == "layout" else cell.rjust(width)
        for name, cell, width in zip(COLUMNS, cells, WIDTHS, strict=False)
    ]
    return "  ".join(padded).rstrip()


def _size(count: int | None) -> str:
    if not count:
        return "-"
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


@dataclasses.dataclass(frozen=True, repr=False)
class BenchResult:
    """Speed, compile time and memory of a configuration for several numbers of seeds.

    Attributes:
      config: resolved configuration.
      records: one for each number of seeds, in the order in which they were measured.
      finished: False if it was stopped before the last one.
      problems: files that could not be written, one line each.
    """

    config: Config
    records: tuple[BenchRecord, ...]
    finished: bool = True
    problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[BenchRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def to_dataframe(self) -> "pd.DataFrame":
        """The records as a table, one row for each number of seeds."""
        import pandas as pd

        return pd.DataFrame([record.to_dict() for record in self.records])

    @property
    def title(self) -> str:
        """What was measured, in a line."""
        steps = self.config.n_pi * self.config.steps_per_iteration
        what = f"{algorithm_name(self.config)} on {self.config.env_name}"
        return f"{what}, a phase of {steps:,} steps of each seed" + (
            "" if self.finished else ", stopped"
        )

    def __repr__(self) -> str:
        lines = [f"<Bench: {self.title}>", head_line(), *(r.line() for r in self.records)]
        return "\n".join([*lines, *self.problems])

    def _repr_html_(self) -> str:
        blank = dict.fromkeys(COLUMNS, "")
        return table_html(self.title, [blank | r.cells() for r in self.records], self.problems)
