"""Numbers that the compiler must not fold into a program."""

from typing import Any

import chex
import jax
import jax.numpy as jnp


def hide_from_compiler(tree: Any, key: chex.PRNGKey) -> Any:
    """Float32 scalars that the compiler cannot fold into the program as constants.

    Folding changes rounding. Without this function a hyperparameter that is built into a program
    would give other bits than the same value as an argument of it. An optimization barrier does
    not prevent folding on jaxlib 0.11. This does: two squares never add up to 3 modulo 4, also when
    they overflow, but no compiler knows that.

    Args:
      tree: of numbers.
      key: any random key that is an argument of the program.
    """
    words = jax.random.key_data(key).reshape(-1)
    always = (words[0] * words[0] + words[-1] * words[-1]) % 4 != 3
    return jax.tree.map(lambda x: jnp.where(always, jnp.float32(x), jnp.nan), tree)
