"""Memories between encoder and heads. A new one is a class here and a name in MEMORIES."""

from typing import Any

import chex
import flax.linen as nn

from ppg_jax.config import NetworkConfig


class NoMemory(nn.Module):
    """Passes features on: the policy sees the current observation only.

    Every memory has these two methods. ``initial_state`` may not depend on parameters;
    ``__call__`` unrolls a whole sequence, of length 1 while acting, and starts anew from the
    initial state where ``starts`` says that an observation begins an episode.

    Attributes:
      config: resolved; a memory finds its sizes there.
    """

    config: NetworkConfig

    @nn.nowrap
    def initial_state(self, num_envs: int) -> Any:
        """State before any observation, leaves ``[num_envs, ...]``."""
        del num_envs
        return ()

    def __call__(self, features: chex.Array, starts: chex.Array, state: Any):
        """``features [T, B, F]``, ``starts [T, B]``, ``state`` leaves ``[B, ...]``.

        Returns:
          Summaries ``[T, B, F']`` and the state after the last step.
        """
        del starts
        return features, state


MEMORIES: dict[str, type[nn.Module]] = {"none": NoMemory}
