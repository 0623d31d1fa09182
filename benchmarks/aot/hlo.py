"""The text of a compiled program (HLO), and the Python that its instructions are from."""

import dataclasses
import functools
import re
from typing import NamedTuple

_TABLES = {
    "FileNames": r'(\d+) "(?P<name>.*)"',
    "FunctionNames": r'(\d+) "(?P<name>.*)"',
    "FileLocations": r"(\d+) \{file_name_id=(?P<file>\d+) function_name_id=(?P<function>\d+) .*",
    "StackFrames": r"(\d+) \{file_location_id=(?P<at>\d+)(?: parent_frame_id=(?P<parent>\d+))?.*",
}


class Frame(NamedTuple):
    """A call: in which file, and in which function (its name alone)."""

    file: str
    function: str


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: ``%name = shape op(operands), rest``."""

    name: str
    op: str
    shape: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool = False

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute names, such as ``body``."""
        found = re.search(attribute + r"=%([\w.\-]+)", self.rest)
        return found and found[1]

    @property
    def branches(self) -> list[str]:
        """The computations of a conditional."""
        listed = re.search(r"branch_computations=\{(.*?)\}", self.rest)
        text = listed[1] if listed else self.rest
        names = r"%([\w.\-]+)" if listed else r"(?:true|false)_computation=%([\w.\-]+)"
        return re.findall(names, text)

    @property
    def number(self) -> int | None:
        """The argument of a constant or parameter, or the index of an element; None of others."""
        written = re.match(r"(?:constant|parameter)\((-?\d+)\)", self.rest)
        if self.op == "get-tuple-element":
            written = re.search(r"[ ,]index=(\d+)", self.rest)
        return int(written[1]) if written else None

    @property
    def op_name(self) -> str:
        """JAX's own name of the operation, with its transformations."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


class Hlo:
    """A module.

    Attributes:
      computations: by name, their instructions in order.
      entry: the name of the one that runs.
      instructions: all, by name.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        self._tables: dict[str, dict[int, dict[str, str]]] = {name: {} for name in _TABLES}
        table, inside = "", None
        for line in text.splitlines():
            if line in _TABLES:
                table = line
            elif header := re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{\s*$", line):
                table, inside = "", self.computations.setdefault(header[2], [])
                self.entry = header[2] if header[1] else self.entry
            elif table and (row := re.match(_TABLES[table], line)):
                self._tables[table][int(row[1])] = row.groupdict()
            elif inside is not None and (parsed := _instruction(line)):
                inside.append(parsed)
        if not self.entry:
            raise SystemExit("this is not the text of a compiled program: it has no ENTRY")
        self.instructions = {x.name: x for body in self.computations.values() for x in body}

    def trips(self, loop: Instruction) -> int | None:
        """How often a ``while`` runs; None if that is not known when compiling.

        XLA's compiler for TPUs does not say it: there it is read from ``counter < constant``, for
        a counter from 0 by steps of 1, as JAX makes them.
        """
        said = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
        if said:
            return int(said[1])
        condition = self.computations[loop.called("condition") or ""]
        root = next(one for one in condition if one.is_root)
        counts = root.op == "compare" and "direction=LT" in root.rest
        end = self.instructions[root.operands[-1]] if counts else root
        return end.number if end.op == "constant" else None

    def stack(self, instruction: Instruction | None) -> tuple[Frame, ...]:
        """The calls that led to it, outermost first; () if unknown."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest if instruction else "")
        return self._stack(int(found[1])) if found else ()

    @functools.cache  # noqa: B019, modules live as long as the process
    def _stack(self, number: int) -> tuple[Frame, ...]:
        frame = self._tables["StackFrames"].get(number)
        if frame is None:
            return ()
        at = self._tables["FileLocations"][int(frame["at"])]
        file = self._tables["FileNames"][int(at["file"])]["name"]
        function = self._tables["FunctionNames"][int(at["function"])]["name"]
        parent = int(frame["parent"] or 0) - self._shift
        return (*self._stack(parent), Frame(file, function.split(".")[-1]))

    @functools.cached_property
    def _shift(self) -> int:
        """What XLA adds to the numbers of parents: no frame can be its own."""
        frames = self._tables["StackFrames"].items()
        return int(any(frame["parent"] == str(number) for number, frame in frames))


def _instruction(line: str) -> Instruction | None:
    """None for what is none, such as the end of a computation."""
    found = re.match(r"\s+(ROOT )?%([\w.\-]+) = (.*)$", line)
    if not found:
        return None
    root, name, text = found[1], found[2], found[3]
    cut = _closing(text) + 1 if text.startswith("(") else text.index(" ")  # a tuple's shape
    shape, text = text[:cut], text[cut:].lstrip()
    op, _, arguments = text.partition("(")
    end = _closing("(" + arguments)
    operands = re.findall(r"%([\w.\-]+)", arguments[:end])
    return Instruction(name, op, shape, tuple(operands), text, root is not None)


def _closing(text: str) -> int:
    """Where the bracket that opens the text is closed."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    return len(text)
