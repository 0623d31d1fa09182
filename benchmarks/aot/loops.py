"""The loops of a compiled program, and what one iteration of each launches.

A GPU launches what XLA lists as thunks: kernels, copies, library calls. For a TPU and a CPU there
is no such list; there every operation counts that is not free.
"""

import dataclasses
import re
from collections.abc import Iterator

from aot.hlo import Hlo, Instruction

_FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier",
    "partition-id",
}  # fmt: skip
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding", "SliceDoneHint")
"""Custom calls of the TPU compiler that run nothing."""
_GROUPS = ("kAsyncStart", "kDynamicSliceFusion", "kSequential", "kCommandBuffer")
"""Thunks that only hold others."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """What is launched.

    Attributes:
      name: of its instruction, as far as it is known.
      kind: kind of thunk, or the instruction's operation.
      instruction: where it is from; None if unknown.
      buffered: whether a command buffer (CUDA graph) launches it together with others.
    """

    name: str
    kind: str
    instruction: Instruction | None
    buffered: bool = False


@dataclasses.dataclass
class Loop:
    """A loop, or the program itself.

    Attributes:
      instruction: the ``while``; None for the program.
      trips: iterations; None if they are not known when compiling.
      launches: of one iteration, without those of inner loops.
      inner: loops that one iteration runs.
    """

    instruction: Instruction | None
    trips: int | None
    launches: list[Launch] = dataclasses.field(default_factory=list)
    inner: list["Loop"] = dataclasses.field(default_factory=list)

    def everything(self, times: int = 1) -> Iterator[tuple[Launch, int]]:
        """Launches of one iteration with inner loops, and how often each; unknown loops count once.

        Args:
          times: how often the iteration itself is.
        """
        for launch in self.launches:
            yield launch, times
        for loop in self.inner:
            yield from loop.everything(times * (loop.trips or 1))

    def walk(self, times: int = 1) -> Iterator[tuple["Loop", int]]:
        """All loops inside, outermost first, and how often each is begun."""
        for loop in self.inner:
            yield loop, times
            yield from loop.walk(times * (loop.trips or 1))


def from_hlo(hlo: Hlo) -> Loop:
    """The program's loops by its instructions."""
    whole = Loop(None, 1)
    _fill(hlo, hlo.entry, whole)
    return whole


def _fill(hlo: Hlo, computation: str | None, loop: Loop) -> None:
    for one in hlo.computations[computation or ""]:
        if one.op == "while":
            loop.inner.append(Loop(one, hlo.trips(one)))
            _fill(hlo, one.called("body"), loop.inner[-1])
        elif one.op == "call":
            _fill(hlo, one.called("to_apply"), loop)
        elif not _is_free(one):
            loop.launches.append(Launch(one.name, one.op, one))
        if one.op == "conditional":  # every branch counts: an upper bound
            for branch in one.branches:
                _fill(hlo, branch, loop)


def _is_free(one: Instruction) -> bool:
    free_call = one.op == "custom-call" and any(x in one.rest for x in _FREE_CALLS)
    return one.op in _FREE or one.op.endswith("-done") or free_call


def from_thunks(hlo: Hlo, sequence: str, metadata: str) -> Loop:
    """The program's loops by XLA's own list of what it launches.

    Args:
      hlo: the program.
      sequence: the dump ``thunk_sequence_after_thunk_passes``, which knows command buffers.
      metadata: the dump ``thunk_metadata``, which has the instructions' names.
    """
    pairs = re.findall(r'profile_annotation: "(.*?)"\s+thunk_id: (\d+)', metadata)
    names = {int(number): name for name, number in pairs}
    whole = Loop(None, 1)
    _hang(hlo, _nodes(sequence, names), whole, buffered=False)
    return whole


@dataclasses.dataclass
class _Thunk:
    """A line of the list: where it stands, what it is, and what it holds."""

    indent: int
    kind: str
    name: str
    body: list["_Thunk"] = dataclasses.field(default_factory=list)
    condition: list["_Thunk"] = dataclasses.field(default_factory=list)
    in_condition: bool = False


def _nodes(sequence: str, names: dict[int, str]) -> list[_Thunk]:
    """The list as a tree: what stands further in belongs to what is above it."""
    top = _Thunk(-1, "", "")
    above = [top]
    for line in sequence.splitlines():
        if line.strip() == "condition:":
            above[-1].in_condition = True
            continue
        indent = len(line) - len(line.lstrip())
        while len(above) > 1 and above[-1].indent >= indent:
            above.pop()
        if line.strip() == "body:":
            above[-1].in_condition = False
        elif found := re.match(r" *(\d+): (k\w+)", line):
            holder = above[-1]
            thunk = _Thunk(indent, found[2], names.get(int(found[1])) or holder.name)
            (holder.condition if holder.in_condition else holder.body).append(thunk)
            above.append(thunk)
    return top.body


def _hang(hlo: Hlo, thunks: list[_Thunk], loop: Loop, buffered: bool) -> None:
    """Adds thunks to a loop."""
    for thunk in thunks:
        instruction = hlo.instructions.get(thunk.name)
        if thunk.kind == "kWhile":
            if instruction is None or instruction.op != "while":
                raise SystemExit(f"a loop of the GPU's program is unknown: {thunk.name!r}")
            trips = hlo.trips(instruction)
            loop.inner.append(Loop(instruction, trips))
            # The host repeats a loop of known length; else the condition runs on the device.
            parts = thunk.body if trips else thunk.condition + thunk.body
            _hang(hlo, parts, loop.inner[-1], buffered)
        elif thunk.kind in _GROUPS:
            _hang(hlo, thunk.body, loop, buffered or thunk.kind == "kCommandBuffer")
        elif thunk.kind != "kAsyncDone":
            loop.launches.append(Launch(thunk.name, thunk.kind, instruction, buffered))
            _hang(hlo, thunk.body, loop, buffered)
