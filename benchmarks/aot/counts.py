"""What a compiled program launches: in each loop, for one step of a rollout, in the whole run."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aot.casts import casts_to_hoist
from aot.hlo import Hlo
from aot.loops import Launch, Loop
from aot.purposes import PURPOSES, purpose

_COLLECTIVES = re.compile(
    "(all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute"
    "|collective-broadcast)(-start)?$"
)
_RANDOM = re.compile("threefry|random|_uniform|_gumbel|_shuffle")
"""In the names of operations that draw numbers, which may be loops themselves."""


class Unit(NamedTuple):
    """What a loop repeats.

    Attributes:
      functions: names of the Python functions that scan, as far as there are several.
      per_scan: how many a whole scan has; a loop may do several in one iteration.
      within: name of a function that calls the one that scans; empty: any.
    """

    functions: tuple[str, ...]
    per_scan: int
    within: str = ""


class _Found(NamedTuple):
    """A loop of a unit: it itself, the loop around it, and how often it is begun."""

    loop: Loop
    around: Loop
    begun: int


def counts(
    hlo: Hlo, program: Loop, units: Mapping[str, Unit], env_steps: int, *, loops: bool = True
) -> dict[str, Any]:
    """Everything that is counted.

    Args:
      hlo: the compiled program.
      program: its loops.
      units: by the name that they have in the result; all of them must be there.
      env_steps: of the whole run, of all seeds in the program.
      loops: whether to list all loops too.

    Raises:
      SystemExit: a unit's loop is not found.
    """
    everything = list(program.everything())
    total = sum(times for _, times in everything)
    whiles = [loop for loop, _ in program.walk()]
    per_loop = {"loops": [_row(hlo, loop, begun) for loop, begun in program.walk()]}
    casts: Counter[str] = Counter()
    for loop in whiles:
        casts[_function(hlo, loop)] += casts_to_hoist(hlo, loop.instruction)  # type: ignore[arg-type]
    return {
        "launches_per_run": total,
        "launches_per_env_step": float(f"{total / env_steps:.4g}"),
        "share_in_command_buffers": _share_buffered(everything),
        **{name: _per_unit(hlo, program, name, unit) for name, unit in units.items()},
        "loops_of_unknown_length": sum(loop.trips is None for loop in whiles),
        "collectives": sum(bool(_COLLECTIVES.match(x.op)) for x in hlo.instructions.values()),
        "casts_to_hoist": {name: n for name, n in casts.items() if n},
        **(per_loop if loops else {}),
    }


def _row(hlo: Hlo, loop: Loop, begun: int) -> dict[str, Any]:
    """One loop: launches of an iteration, without inner loops."""
    return {
        "loop": _function(hlo, loop),
        "begun": begun,
        "trips": loop.trips,
        **_by_purpose(hlo, [(launch, 1) for launch in loop.launches], 1),
    }


def _per_unit(hlo: Hlo, program: Loop, name: str, unit: Unit) -> dict[str, Any]:
    """Launches of one unit, inner loops included.

    A loop may do several units in an iteration: then as many as make up the whole scan. What is
    left over may have a loop of its own, with the same loop around it; both are counted together.
    """
    groups = defaultdict(list)
    for found in _loops_of(hlo, program, unit):
        if found.loop.trips:
            groups[id(found.around)].append(found)
    if not groups:
        wanted = " or ".join(unit.functions)
        raise SystemExit(f"{name}: the compiled program has no loop of known length in {wanted}()")
    main = max(groups.values(), key=lambda group: sum(x.begun * (x.loop.trips or 0) for x in group))
    trips = sum(x.loop.trips or 0 for x in main)
    each = max(1, round(unit.per_scan / trips)) if len(main) == 1 else unit.per_scan / trips
    launched = [pair for x in main for pair in x.loop.everything(x.loop.trips or 0)]
    return {"units_per_iteration": each, **_by_purpose(hlo, launched, trips * each)}


def _loops_of(hlo: Hlo, program: Loop, unit: Unit) -> list[_Found]:
    """Those that a unit's function runs itself, or at least those that run below it."""
    for depth in (1, None):
        if found := list(_search(hlo, program, unit, depth)):
            return found
    return []


def _search(
    hlo: Hlo, around: Loop, unit: Unit, depth: int | None, begun: int = 1
) -> Iterator[_Found]:
    """Loops with the unit's function among the last ``depth`` calls (None: all) to them."""
    for loop in around.inner:
        stack = hlo.stack(loop.instruction)
        called = {frame.function for frame in (stack[-depth:] if depth else stack)}
        inside = not unit.within or unit.within in {frame.function for frame in stack}
        draws = loop.instruction and _RANDOM.search(loop.instruction.op_name)
        if inside and called.intersection(unit.functions) and not draws:
            yield _Found(loop, around, begun)
        else:
            yield from _search(hlo, loop, unit, depth, begun * (loop.trips or 1))


def _by_purpose(hlo: Hlo, launched: list[tuple[Launch, int]], among: float) -> dict[str, Any]:
    """Launches in all and by purpose, divided; purposes without any are left out."""
    totals = Counter(dict.fromkeys(PURPOSES, 0))
    for launch, times in launched:
        totals[purpose(hlo, launch)] += times
    by_purpose = {name: _short(n / among) for name, n in totals.items() if n}
    return {
        "launches": _short(sum(totals.values()) / among),
        "share_in_command_buffers": _share_buffered(launched),
        "by_purpose": by_purpose,
    }


def _share_buffered(launched: list[tuple[Launch, int]]) -> float:
    inside = sum(times for launch, times in launched if launch.buffered)
    return round(inside / max(1, sum(times for _, times in launched)), 3)


def _short(number: float) -> float:
    return int(number) if number == int(number) else round(number, 2)


def _function(hlo: Hlo, loop: Loop) -> str:
    stack = hlo.stack(loop.instruction)
    return stack[-1].function if stack else "unknown"
