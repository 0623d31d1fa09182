"""``bench``: how fast a configuration trains here, for several numbers of seeds."""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
from rich.console import Console
from rich.progress import Progress, TextColumn

from ppg_jax.config import Config, ConfigError, check_config
from ppg_jax.execution import Speed, TooLargeError, measure_speed, no_kept_programs
from ppg_jax.report import BenchRecord, BenchResult, head_line
from ppg_jax.runs.checkpoints import one_line
from ppg_jax.runs.files import write_new, write_whole
from ppg_jax.runs.folder import CONFIG, machine_facts
from ppg_jax.runs.interrupts import StopRequest
from ppg_jax.runs.progress import never_raises
from ppg_jax.runs.session import resolve


def bench(
    config: Config,
    seeds: Sequence[int] | None = None,
    *,
    repeats: int = 5,
    out: str | Path | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> BenchResult:
    """Measures throughput, compile time and memory of training, for several numbers of seeds.

    The seeds of each number train for a phase together, as ``run`` would train them: with the same
    strategy, devices and programs. A first phase is not timed. Programs are compiled anew, without
    a cache folder. A number of seeds that does not fit into memory gets a record that says so.

    Ctrl-C and SIGTERM stop at once, and what was measured is returned.

    Args:
      config: configuration to train. ``total_timesteps`` does not matter.
      seeds: numbers of seeds, each at least 1; default: ``config.seeds``.
      repeats: number of timings of a phase, at least 1.
      out: new JSON file. It is written after each number of seeds.
      progress: whether to show each record when it is measured.
      console: console for the progress; default: standard output.

    Returns:
      A record for each number of seeds.

    Raises:
      ConfigError: the configuration or an argument is invalid, or ``out`` exists.
    """
    check_config(config)
    counts = [config.seeds] if seeds is None else list(seeds)
    _check_counts("seeds", counts or [0])
    _check_counts("repeats", [repeats])
    file = None if out is None else _new_file(Path(out))
    result = BenchResult(resolve(config), ())
    with _View((console or Console()) if progress else None) as view:
        view.line(f"{result.title}, {repeats} times; {jax.devices()[0].device_kind}")
        view.line(head_line())
        with contextlib.ExitStack() as stack:
            stack.enter_context(no_kept_programs())
            stack.enter_context(StopRequest())  # the first signal raises
            try:
                for count in counts:
                    result = _with_next(result, count, repeats, view)
                    result = file.write(result) if file else result
            except KeyboardInterrupt:
                result = dataclasses.replace(result, finished=False)
        if file and not result.finished:
            result = file.write(result)
        if result.records:
            view.line(_memory_note())
    return result


def bench_json(result: BenchResult) -> str:
    """A result with the machine beside it, as JSON."""
    facts = {
        "finished": result.finished,
        "config": result.config.to_dict(),
        "memory": _memory_note(),
        "results": [record.to_dict() for record in result.records],
    }
    return json.dumps(machine_facts() | facts, indent=2) + "\n"


def _with_next(result: BenchResult, count: int, repeats: int, view: "_View") -> BenchResult:
    """The result with the record of a further number of seeds."""

    def note(text: str) -> None:
        view.note(f"{count} seed{'s' * (count > 1)}: {text}")

    try:
        speed = measure_speed(result.config.replace(seeds=count), repeats, note=note)
        record = _record(count, speed)
    except TooLargeError as error:
        record = BenchRecord(count, problem=str(error))
    view.line(record.line())
    return dataclasses.replace(result, records=(*result.records, record))


def _record(seeds: int, speed: Speed) -> BenchRecord:
    layout = speed.plan.layout
    return BenchRecord(
        seeds=seeds,
        layout=str(layout),
        strategy=layout.strategy,
        devices=layout.devices,
        workers=layout.workers,
        chunk_size=layout.chunk_size,
        devices_per_seed=layout.devices_per_seed,
        aux_storage=speed.plan.config.aux_storage,
        compile_seconds=round(speed.compile_seconds, 3),
        run_seconds=tuple(round(seconds, 6) for seconds in speed.run_seconds),
        env_steps=speed.steps,
        compiled_bytes=speed.compiled_bytes or None,
        device_peak_bytes=speed.device_peak_bytes,
    )


def _memory_note() -> str:
    """What the numbers of bytes are."""
    place = "memory of each device"
    peak = "the most in use on a device, as it reports"
    if jax.devices()[0].platform == "cpu":
        place, peak = "main memory", "a CPU reports none"
    return (
        f"compiled: what the compiled programs take by XLA's account ({place}); device peak: {peak}"
    )


def _check_counts(name: str, counts: Sequence[Any]) -> None:
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ConfigError(
                f"{name}: {count!r} is invalid; it should be a whole number, at least 1"
            )


@dataclasses.dataclass
class _File:
    """The JSON file of a result, which did not exist before."""

    path: Path
    begun: bool = False

    def write(self, result: BenchResult) -> BenchResult:
        """Writes it. If that fails, the result that is returned says so."""
        try:
            (write_whole if self.begun else write_new)(self.path, bench_json(result))
        except OSError as error:
            line = f"out: {self.path} cannot be written: {one_line(error)}"
            return dataclasses.replace(result, problems=(line,))
        self.begun = True
        return dataclasses.replace(result, problems=())


def _new_file(path: Path) -> _File:
    """The file, after the checks that need no result.

    Raises:
      ConfigError: it exists, or its folder does not, or its folder is that of a run.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"out: {path} exists already; name a new file")
    if not path.parent.is_dir():
        raise ConfigError(f"out: the folder {path.parent} does not exist; make it first")
    if (path.parent / CONFIG).exists():
        raise ConfigError(f"out: {path.parent} is the folder of a run; name a file elsewhere")
    return _File(path)


class _View:
    """Shows lines, and on a terminal what is going on now. It never raises.

    Attributes:
      broken: whether an error occurred, after which nothing is shown.
    """

    def __init__(self, console: Console | None) -> None:
        self._console, self.broken = console, console is None
        self._live: Progress | None = None
        moves = console is not None and console.is_terminal and not console.is_dumb_terminal
        if moves and console is not None and not console.is_jupyter:
            column = TextColumn("{task.description}", "dim")
            self._live = Progress(column, console=console, auto_refresh=False, transient=True)
            self._task = self._live.add_task("")

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @never_raises
    def _begin(self) -> None:
        if self._live:
            self._live.start()

    @never_raises
    def _end(self) -> None:
        if self._live:
            self._live.stop()

    @never_raises
    def note(self, text: str) -> None:
        """What is going on, until the next line."""
        if self._live:
            self._live.update(self._task, description=text)
            self._live.refresh()

    @never_raises
    def line(self, text: str) -> None:
        """A line that stays."""
        assert self._console is not None
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
