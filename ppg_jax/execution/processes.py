"""Which rows (replicas) the processes of a run train, and what they tell each other.

Every process trains its own rows by its own devices, as if it were alone. Between two segments they
exchange metrics and decisions. A row's numbers do not depend on the process that trains it.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ppg_jax.config import ConfigError
from ppg_jax.execution.link import Link

Arrays = Mapping[str, np.ndarray]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes that train the rows of a run together.

    Every method that exchanges something must be called by all processes, in the same order. It
    raises ``ProcessGoneError`` if one of them is gone.

    Attributes:
      count: number of processes.
      index: index of this process. The first one, 0, shows the progress and writes the tables.
      link: connections to the others; None: there are no others.
    """

    count: int = 1
    index: int = 0
    link: Link | None = None

    @property
    def first(self) -> bool:
        """Whether this is the first process."""
        return self.index == 0

    def parts(self, rows: int) -> list[range]:
        """The rows of each process. The numbers of rows differ by one at most.

        Raises:
          ConfigError: there are fewer rows than processes.
        """
        if rows < self.count:
            raise ConfigError(
                f"seeds: {rows} is invalid with {self.count} processes; each one needs a seed: use "
                "more seeds, or fewer processes"
            )
        ends = [rows * i // self.count for i in range(self.count + 1)]
        return [range(a, b) for a, b in itertools.pairwise(ends)]

    def rows(self, rows: int) -> range:
        """The rows of this process.

        Raises:
          ConfigError: there are fewer rows than processes.
        """
        return self.parts(rows)[self.index]

    def gather(self, value: bytes, channel: str = "main") -> list[bytes]:
        """The values of all processes, in the first one; in the others the own value only."""
        if self.link is None:
            return [value]
        if not self.first:
            self.link.send(0, channel, value)
            return [value]
        return [value] + [self.link.receive(i, channel) for i in range(1, self.count)]

    def from_first(self, value: Any) -> Any:
        """The value of the first process, which is sent as JSON."""
        if self.link is None:
            return value
        if not self.first:
            return json.loads(self.link.receive(0, "main"))
        for i in range(1, self.count):
            self.link.send(i, "main", json.dumps(value).encode())
        return value

    def all(self, value: Any) -> list[Any]:
        """The values of all processes, which are sent as JSON."""
        found = [json.loads(x) for x in self.gather(json.dumps(value).encode())]
        return list(self.from_first(found))

    def to_first(self, arrays: Arrays) -> Arrays:
        """Arrays of the rows of all processes, joined, in the first; in the others their own.

        Args:
          arrays: arrays by name, each ``[rows of this process, ...]``.
        """
        if self.link is None:
            return arrays
        parts = [from_bytes(part) for part in self.gather(to_bytes(arrays))]
        return {name: np.concatenate([part[name] for part in parts]) for name in arrays}

    def joined(self, arrays: Arrays) -> Arrays:
        """Arrays of the rows of all processes, joined, in every process.

        Args:
          arrays: arrays by name, each ``[rows of this process, ...]``.
        """
        whole = self.to_first(arrays)
        if self.link is None:
            return whole
        if not self.first:
            return from_bytes(self.link.receive(0, "main"))
        for i in range(1, self.count):
            self.link.send(i, "main", to_bytes(whole))
        return whole

    def in_all(self, work: Callable[[], Result]) -> Result:
        """Does the work in all processes. If it fails in one, it fails in all.

        Raises:
          Exception: the work failed here.
          OSError: it failed in another process.
        """
        if self.link is None:
            return work()
        failed: Exception | None = None
        try:
            done = work()
        except Exception as error:
            failed = error
        problems = self.all(None if failed is None else f"{failed} (process {self.index})")
        if failed is not None:
            raise failed
        for problem in problems:
            if problem is not None:
                raise OSError(problem)
        return done

    def wait(self) -> None:
        """Waits until all processes are here."""
        self.all(None)

    def fail(self, reason: str) -> None:
        """Ends the other processes, because this one cannot go on."""
        if self.link is not None:
            self.link.fail(reason)


ALONE = Processes()
"""The one process of a usual run."""


def to_bytes(arrays: Arrays) -> bytes:
    """Arrays by name as bytes, which ``from_bytes`` turns into the same arrays."""
    about = [[name, str(x.dtype), list(x.shape)] for name, x in arrays.items()]
    head = json.dumps(about).encode()
    data = [np.ascontiguousarray(x).tobytes() for x in arrays.values()]
    return b"".join([len(head).to_bytes(8, "big"), head, *data])


def from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """Inverse of ``to_bytes``."""
    start = 8 + int.from_bytes(data[:8], "big")
    about: Sequence[Any] = json.loads(data[8:start])
    arrays = {}
    for name, dtype, shape in about:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, kind, size, start).reshape(shape)
        start += size * kind.itemsize
    return arrays
