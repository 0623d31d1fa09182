"""How large a traced program is."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def number_of_operations(jaxpr: Any) -> int:
    """Operations of a traced program (``jax.make_jaxpr``), those of inner functions included.

    The body of a loop counts once. The time to compile grows with this number.
    """
    inside = ClosedJaxpr, Jaxpr

    def count(eqn: Any) -> int:
        found = [x for value in eqn.params.values() for x in _parts(value) if isinstance(x, inside)]
        return sum(map(number_of_operations, found)) or 1

    return sum(map(count, jaxpr.eqns))


def _parts(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, tuple | list) else [value]
