"""The part of a training state that another run can start with."""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct

from ppg_jax.functional import RunningStats
from ppg_jax.types import TrainState


class Learned(struct.PyTreeNode):
    """What a run has learned, without its environments, random key and counters.

    Attributes:
      params: parameters of all networks.
      opt_states: optimizer states by name, or None.
      obs_stats: statistics that the networks standardise observations by, or None.
      seen_obs_stats: statistics of all observations so far, or None.
      reward_stats: statistics of the discounted reward sums, or None.
    """

    params: Any
    opt_states: dict[str, Any] | None = None
    obs_stats: RunningStats | None = None
    seen_obs_stats: RunningStats | None = None
    reward_stats: RunningStats | None = None


def learned_by(state: TrainState) -> Learned:
    """What there is of it in a training state."""
    scaler = state.reward_scaler
    return Learned(
        params=state.params,
        opt_states=state.opt_states,
        obs_stats=state.obs_stats,
        seen_obs_stats=state.seen_obs_stats,
        reward_stats=None if scaler is None else scaler.stats,
    )


def with_learned(
    state: TrainState,
    learned: Learned,
    place: Callable[[Any, Any], Any] = lambda _, new: new,
) -> TrainState:
    """A training state with what another run has learned; what is None stays as it is.

    Args:
      state: a training state before the first step.
      learned: trees like those of ``state``, with the same shapes.
      place: ``(old leaf, new leaf) -> leaf``, for example to put it on the old one's devices.
    """

    def put(old: Any, new: Any) -> Any:
        return old if new is None else jax.tree.map(place, old, new)

    scaler = state.reward_scaler
    if scaler is not None:
        scaler = scaler.replace(stats=put(scaler.stats, learned.reward_stats))
    return state.replace(
        params=put(state.params, learned.params),
        opt_states=put(state.opt_states, learned.opt_states),
        obs_stats=put(state.obs_stats, learned.obs_stats),
        seen_obs_stats=put(state.seen_obs_stats, learned.seen_obs_stats),
        reward_scaler=scaler,
    )
