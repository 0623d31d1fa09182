"""Functions that are traced once, to look at their program before it is used."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun


class Traced(NamedTuple):
    """A traced function.

    Attributes:
      call: the function itself, for arguments of the same shapes. It is not traced again.
      result: shapes and dtypes of its result.
      operations: number of its operations (``number_of_operations``).
    """

    call: Callable[..., Any]
    result: Any
    operations: int


def trace(fn: Callable[..., Any], *args: Any) -> Traced:
    """Traces a function for arguments of these shapes."""
    program, result = jax.make_jaxpr(fn, return_shape=True)(*args)
    run, structure = jaxpr_as_fun(program), jax.tree.structure(result)

    def call(*args: Any) -> Any:
        return jax.tree.unflatten(structure, run(*jax.tree.leaves(args)))

    return Traced(call, result, number_of_operations(program))


def number_of_operations(program: Any) -> int:
    """Operations of a traced program (``jax.make_jaxpr``), those of inner functions included.

    The body of a loop counts once. The time to compile grows with this number.
    """
    inside = ClosedJaxpr, Jaxpr

    def count(eqn: Any) -> int:
        found = [x for value in eqn.params.values() for x in _parts(value) if isinstance(x, inside)]
        return sum(map(number_of_operations, found)) or 1

    return sum(map(count, program.eqns))


def _parts(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, tuple | list) else [value]
