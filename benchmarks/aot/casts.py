"""Casts that a loop repeats though it never changes what is cast."""

from aot.hlo import Hlo, Instruction

_PAIR = {"f32", "bf16"}
_CHANGING = {"parameter", "rng", "rng-bit-generator", "infeed", "recv", "while", "conditional"}
"""What gives another value each time, or may."""


def casts_to_hoist(hlo: Hlo, loop: Instruction) -> int:
    """Conversions between f32 and bf16 in a loop's body whose operand is the same every time.

    Also those inside fusions, which cost no launch of their own. Inner loops are not looked into.
    """
    body = loop.called("body")
    return _casts(hlo, body, set(), _unchanged(hlo, body)) if body else 0


def _unchanged(hlo: Hlo, body: str) -> set[int]:
    """Elements of the carry that the body hands on as they came."""
    known = {one.name: one for one in hlo.computations[body]}
    root = next(one for one in hlo.computations[body] if one.is_root)
    ins = [_element(known[name]) if name in known else None for name in root.operands]
    return {place for place, element in enumerate(ins) if element == place}


def _element(one: Instruction) -> int | None:
    """Which element of a tuple it reads; None if it does something else."""
    return one.number if one.op == "get-tuple-element" else None


def _casts(hlo: Hlo, computation: str, same: set[int], elements: set[int]) -> int:
    """Counts in one computation.

    Args:
      hlo: the program.
      computation: a loop's body, or what it calls.
      same: parameters that never change.
      elements: elements of the first parameter, if that is a loop's carry, that never change.
    """
    fixed: set[str] = set()
    first = (one for one in hlo.computations[computation] if one.op == "parameter")
    carry = next((one.name for one in first if one.number == 0), "")
    count = 0
    for one in hlo.computations[computation]:
        inputs = [name in fixed for name in one.operands]
        if one.op == "parameter":
            unchanged = one.number in same
        elif one.op == "get-tuple-element" and one.operands[0] == carry:
            unchanged = _element(one) in elements
        else:
            unchanged = one.op not in _CHANGING and bool(inputs) and all(inputs)
        if one.op in ("fusion", "call"):
            inner = one.called("calls") or one.called("to_apply") or ""
            count += _casts(hlo, inner, {n for n, x in enumerate(inputs) if x}, set())
        elif one.op == "convert" and unchanged:
            source = hlo.instructions[one.operands[0]].shape
            count += {source.split("[")[0], one.shape.split("[")[0]} == _PAIR
        if unchanged:
            fixed.add(one.name)
    return count
