"""The records that travel between the layers. Axes: T steps, B environments, N iterations."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ppg_jax.functional import RunningStats

Metrics = dict[str, jax.Array]
"""Named numbers, one an iteration: ``[iterations]``, with seeds ``[S, iterations]``."""
MetricArrays = dict[str, np.ndarray]
"""``Metrics`` on the host."""


@dataclasses.dataclass(frozen=True)
class ObservationSpec:
    """What the networks must know of an environment's observations.

    Attributes:
      shape: of one observation.
      dtype: in which they are stored.
      scale: they are divided by this before an encoder reads them (255 for byte images).
      categories: for each component of an observation of whole numbers, which are names rather than
        amounts, how many there are: it is read one-hot. None: the numbers are amounts.
    """

    shape: tuple[int, ...]
    dtype: Any
    scale: float = 1.0
    categories: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """What the networks must know of an environment's actions.

    Attributes:
      kind: ``discrete``, ``multi_discrete`` or ``continuous``.
      sizes: number of choices of each discrete component; for continuous actions the number of
        dimensions, flattened.
    """

    kind: str
    sizes: tuple[int, ...]


class Recalled(struct.PyTreeNode):
    """What networks are told of the step before (the inputs of RL^2), leaves ``[..., B]``.

    What a configuration does not ask for is None. At the first step of an episode there is no step
    before: no action (-1, or zeros where actions are continuous) and no reward.

    Attributes:
      actions: as the policy gave them, ``[..., B, *event]``.
      rewards: raw, float32.
      done: the observation begins an episode, also one of several that make up a task; bool.
    """

    actions: Any = None
    rewards: Any = None
    done: Any = None


def no_step(action: ActionSpec, recall: tuple[str, ...], shape: tuple[int, ...]) -> Recalled | None:
    """What is recalled where no step came before.

    Args:
      action: the policy's actions.
      recall: some of ``action``, ``reward``, ``done``.
      shape: of the leaves, ``[..., B]``.
    """
    if not recall:
        return None
    event = () if action.kind == "discrete" else (len(action.sizes),)
    if action.kind == "continuous":
        actions = jnp.zeros((*shape, *action.sizes), jnp.float32)
    else:
        actions = jnp.full((*shape, *event), -1, jnp.int32)
    return Recalled(
        actions=actions if "action" in recall else None,
        rewards=jnp.zeros(shape, jnp.float32) if "reward" in recall else None,
        done=jnp.ones(shape, jnp.bool_) if "done" in recall else None,
    )


class Inputs(struct.PyTreeNode):
    """All that networks see of a step, leaves ``[..., B, ...]``.

    Attributes:
      obs: observations, in storage dtype.
      starts: the observation begins an episode, so memories start anew; bool ``[..., B]``.
      recalled: of the step before, or None.
    """

    obs: chex.Array
    starts: chex.Array
    recalled: Recalled | None = None


class EpisodeStats(struct.PyTreeNode):
    """Sums over the episodes that ended; scalars.

    Attributes:
      count: how many episodes ended.
      return_sum: their raw, undiscounted returns, summed.
      length_sum: their lengths in steps, summed.
    """

    count: chex.Array
    return_sum: chex.Array
    length_sum: chex.Array


class EnvsState(struct.PyTreeNode):
    """B environments between two steps.

    Attributes:
      env: the environments' own states, leaves ``[B, ...]``.
      obs: what the policy sees next, ``[B, ...]``.
      starts: ``obs`` begins an episode, bool ``[B]``.
      returns: raw return of the running episode, ``[B]``.
      lengths: steps of the running episode, int32 ``[B]``.
      recalled: of the step before, or None where no network is told.
    """

    env: Any
    obs: chex.Array
    starts: chex.Array
    returns: chex.Array
    lengths: chex.Array
    recalled: Recalled | None = None

    @property
    def inputs(self) -> Inputs:
        """What the networks see now, ``[B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class Rollout(struct.PyTreeNode):
    """What the behaviour policy met, time first: ``[T, B, ...]`` unless said otherwise.

    Attributes:
      obs: observations the actions answered, in storage dtype; after ``Agent.store`` as it left
        them.
      starts: the observation begins an episode, bool.
      memory: the networks' memories before the first step, leaves ``[B, ...]``.
      actions: as sampled, before any clipping.
      log_probs: of the actions under the policy that took them.
      rewards: raw.
      terminated: a terminal state was reached, bool.
      truncated: a time limit cut the episode, bool.
      final_obs: real successor of each step: at the end of an episode its last observation.
      recalled: what the networks were told beside ``obs``, or None.
      final_recalled: likewise beside ``final_obs``.
    """

    obs: chex.Array
    starts: chex.Array
    memory: Any
    actions: chex.Array
    log_probs: chex.Array
    rewards: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    final_obs: chex.Array
    recalled: Recalled | None = None
    final_recalled: Recalled | None = None

    @property
    def inputs(self) -> Inputs:
        """What the networks saw, ``[T, B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class Batch(struct.PyTreeNode):
    """What the policy phase learns from, ``[T, B, ...]``; ``memory`` has leaves ``[B, ...]``."""

    obs: chex.Array
    starts: chex.Array
    memory: Any
    actions: chex.Array
    old_log_probs: chex.Array
    old_values: chex.Array
    advantages: chex.Array
    value_targets: chex.Array
    recalled: Recalled | None = None

    @property
    def inputs(self) -> Inputs:
        """What the networks see, ``[T, B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class AuxBuffer(struct.PyTreeNode):
    """What the auxiliary phase learns from: N rollouts, ``[N, T, B, ...]``.

    ``memory`` has leaves ``[N, B, ...]``: the behaviour networks' memories before each rollout.
    """

    obs: chex.Array
    starts: chex.Array
    memory: Any
    value_targets: chex.Array
    recalled: Recalled | None = None

    @classmethod
    def of(cls, batch: Batch) -> "AuxBuffer":
        """What of an iteration's batch is kept for the auxiliary phase."""
        targets = batch.value_targets
        return cls(batch.obs, batch.starts, batch.memory, targets, batch.recalled)

    @property
    def inputs(self) -> Inputs:
        """What the networks see, leading axes as those of ``starts``."""
        return Inputs(self.obs, self.starts, self.recalled)


class RewardScaler(struct.PyTreeNode):
    """Reward normalisation between two rollouts.

    Attributes:
      stats: of the discounted reward sums, pooled over environments, scalar.
      sums: the sums after the last step, ``[B]``.
    """

    stats: RunningStats
    sums: chex.Array


class NetworkState(struct.PyTreeNode):
    """All that networks compute with.

    Attributes:
      params: of all networks, by the networks' names.
      obs_stats: frozen statistics that observations are standardised by, or None.
      obs_order: the order in which the components of stored observations are kept; only
        ``networks`` reads it. None: their own.
    """

    params: Any
    obs_stats: RunningStats | None = None
    obs_order: Any = None


class TrainState(struct.PyTreeNode):
    """Everything a run carries between two phases; what a checkpoint must hold.

    Attributes:
      params: parameters of all networks.
      opt_states: an optimizer state by name: ``policy`` (and ``value`` where ``e_pi != e_v``),
        ``aux`` where there is an auxiliary phase.
      envs: the environments.
      memory: the networks' memories, leaves ``[B, ...]``.
      reward_scaler: None where rewards are not normalised.
      obs_stats: the statistics the networks read with, frozen since the last phase began; None
        where observations are not normalised.
      seen_obs_stats: likewise of all observations so far; the next phase begins with them.
      key: random key, not yet used.
      iteration: iterations done, int32 scalar.
      beta_scale: what ``beta_clone`` is multiplied by, scalar; None where it is not adapted.
      obs_order: as in ``NetworkState``; only within a phase, and None between two.
    """

    params: Any
    opt_states: dict[str, Any]
    envs: EnvsState
    memory: Any
    reward_scaler: RewardScaler | None
    obs_stats: RunningStats | None
    seen_obs_stats: RunningStats | None
    key: chex.PRNGKey
    iteration: chex.Array
    beta_scale: chex.Array | None = None

    obs_order: Any = None

    @property
    def network(self) -> NetworkState:
        """What the networks compute with now."""
        return NetworkState(self.params, self.obs_stats, self.obs_order)
