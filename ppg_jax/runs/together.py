"""A run of several processes: what they agree on, what they join, and what is said at the end."""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppg_jax.config import Config, ConfigError, flatten
from ppg_jax.execution import (
    ALONE,
    Plan,
    Processes,
    ProcessGoneError,
    Segment,
    Training,
    plan_training,
    processes_here,
    share_seeds,
)
from ppg_jax.runs.checkpoints import VERSION, Checkpoints, one_line
from ppg_jax.runs.folder import CONFIG
from ppg_jax.runs.warm_start import Taken

SHARED_SECONDS = 20.0
"""Seconds in which a file system must show a new file to all processes."""


@contextlib.contextmanager
def together(folder: Path | None) -> Iterator[Processes]:
    """The processes that train a run together. If one fails inside the context, all end.

    Args:
      folder: run folder, or None.

    Yields:
      The processes that ``ppg_jax.distributed`` has joined.

    Raises:
      ProcessGoneError: another process is gone. The message says how to go on.
    """
    processes = processes_here()
    if processes.link is None:
        yield processes
        return
    link = processes.link
    link.last_words = lambda error: _show(_with_advice(error, folder))
    try:
        yield processes
    except ProcessGoneError as error:
        raise ProcessGoneError(_with_advice(error, folder), failed=True) from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            processes.fail(f"process {processes.index} was stopped")
        else:
            processes.fail(f"{one_line_of(error)} (process {processes.index})")
        raise
    finally:
        link.last_words = _show_plain


def one_line_of(error: BaseException) -> str:
    """The message of an error for the other processes."""
    return str(error) if isinstance(error, ConfigError) else one_line(error)


def _show_plain(error: ProcessGoneError) -> None:
    _show(str(error))


def _show(text: str) -> None:
    """Writes a last line, below what a progress bar may have left."""
    with contextlib.suppress(OSError, ValueError):
        bar = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        os.write(2, f"{bar}error: {text}\n".encode())


def _with_advice(error: ProcessGoneError, folder: Path | None) -> str:
    if error.failed or folder is None:
        return str(error)
    resume = f"resume with: ppg-jax train --resume {folder} --distributed"
    phases = Checkpoints(folder).phases()
    if not phases:
        return f"{error}; there is no checkpoint yet; {resume}"
    return f"{error}; the run is saved up to phase {phases[-1]}; {resume}"


def check_alone(what: str) -> None:
    """Checks that this process has joined no others.

    Args:
      what: what is done, for the message.

    Raises:
      ConfigError: it has.
    """
    if processes_here().count > 1:
        raise ConfigError(f"distributed: {what} runs in one process; start it without the others")


def check_same(
    command: str, config: Config, others: Mapping[str, Any], processes: Processes
) -> None:
    """Checks that all processes were started with the same options.

    Args:
      command: what is done, ``run`` or ``resume``.
      config: configuration to train.
      others: further options that must be the same, as JSON takes them. One with the name of a
        field is compared instead of the field.
      processes: the processes of the run.

    Raises:
      ConfigError: an option differs from that of the first process.
    """
    if processes is ALONE:
        return
    about = {"command": command, "versions": f"{VERSION}, jax {jax.__version__}"}
    mine = json.loads(json.dumps(about | flatten(config.to_dict()) | dict(others), default=str))
    found = processes.all(mine)
    for index, fields in enumerate(found):
        for name in sorted(fields.keys() | found[0].keys()):
            here, there = fields.get(name), found[0].get(name)
            if here != there:
                raise ConfigError(
                    f"{name}: {here!r} in process {index}, but {there!r} in process 0; start all "
                    "processes with the same options"
                )


def check_taken(taken: Taken | None, processes: Processes) -> None:
    """Checks that all processes take the same from another run.

    Raises:
      ConfigError: this one takes something else than the first one.
    """
    digest = None if taken is None else taken.record["digest"]
    if digest != processes.from_first(digest) and taken is not None:
        raise ConfigError(
            f"init_from: {taken.record['init_from']} is another run here than in process 0; name "
            "one on a file system that all processes share"
        )


def note_all(lines: Sequence[str], note: Callable[[str], None], processes: Processes) -> None:
    """Shows lines of all processes; those of others with the number of the process."""
    for index, found in enumerate(processes.all(list(lines))):
        for line in found:
            note(f"process {index}: {line}" if index else line)


def check_shared(folder: Path, processes: Processes) -> None:
    """Checks that all processes see the folder that the first one has created.

    Raises:
      ConfigError: this one does not.
    """
    processes.wait()
    end = time.monotonic() + SHARED_SECONDS
    while not (folder / CONFIG).is_file():
        if time.monotonic() > end:
            raise ConfigError(
                f"out: {folder} is another folder here than in process 0; name one on a file "
                "system that all processes share"
            )
        time.sleep(0.2)


def plan_together(
    config: Config, training: Training, processes: Processes, note: Callable[[str], None]
) -> Plan:
    """``plan_training`` for the rows of this process, with the same results as in the others.

    The number of devices and the memory may differ between processes. What changes numbers, or how
    states look, is therefore decided once for all.

    Args:
      config: configuration to train.
      training: what else the programs depend on; ``replicas`` are those of all processes.
      processes: the processes of the run.
      note: as in ``plan_training``.

    Raises:
      ConfigError: as ``plan_training`` and ``Processes.rows``.
    """
    if processes is ALONE:
        return plan_training(config, training, note)
    parts = processes.parts(training.replicas)
    config = _shared_alike(config, max(map(len, parts)), processes, note)
    here = dataclasses.replace(training, replicas=len(parts[processes.index]))
    plan = plan_training(config, here, note)
    order = ("full", "packed", "replay")
    storages = [s for s in processes.all(plan.config.aux_storage) if s in order]
    thrifty = max(storages, key=order.index, default=plan.config.aux_storage)
    if thrifty == plan.config.aux_storage:
        return plan
    again = plan_training(config.replace(aux_storage=thrifty), here, note)
    return dataclasses.replace(again, seconds=again.seconds + plan.seconds)


def _shared_alike(
    config: Config, replicas: int, processes: Processes, note: Callable[[str], None]
) -> Config:
    """``share_seeds`` with the same numbers in all processes: those of the fewest devices."""
    own = share_seeds(config, replicas).devices_per_seed
    found: list[int] = processes.all(own)
    each = min(found)
    if each < max(found):
        note(f"devices_per_seed {each}, because not all processes have as many devices")
    # What has fewer devices than ``config.yaml`` says is a divisor of the groups, in all processes.
    devices = config.devices and config.devices // each * each
    return config.replace(
        devices=devices, devices_per_seed=each, env_groups=config.env_groups or each
    )


def whole(segment: Segment, processes: Processes) -> Segment:
    """The segment, with the metrics of the rows of all processes."""
    return dataclasses.replace(segment, metrics=dict(processes.joined(segment.metrics)))


def whole_policy(state: Any, processes: Processes) -> Any:
    """The state with parameters and observation statistics of all rows, in the first process."""
    if processes is ALONE:
        return state
    policy = {"params": state.params, "obs_stats": state.obs_stats}
    leaves, shape = jax.tree.flatten(policy)
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
    found = processes.to_first(arrays)
    joined = jax.tree.unflatten(shape, [found[name] for name in arrays])
    return state.replace(**joined)


def moved(before: list[range], processes: Processes, seeds: int) -> str | None:
    """A line that says which seeds another process trains now; None if there are none.

    Args:
      before: rows of each process when the checkpoint was saved.
      processes: the processes now.
      seeds: number of seeds.
    """
    now = processes.parts(seeds)
    if before == now:
        return None
    owners = [{row: i for i, part in enumerate(parts) for row in part} for parts in (before, now)]
    others = [row for row in range(seeds) if owners[0].get(row) != owners[1][row]]
    count = f"{len(before)} process" + ("es" if len(before) > 1 else "")
    return f"the run had {count}, now {len(now)}: {_named(others)} moved"


def _named(rows: list[int]) -> str:
    """Rows as text: ``seed 3``, ``seeds 2 to 7``, ``seeds 1, 3 to 4``."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and spans[-1][1] == row - 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    text = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
    return f"seed{'s' if len(rows) > 1 else ''} {text}" if rows else "no seed"
