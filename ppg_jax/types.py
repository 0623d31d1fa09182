"""Records that the layers pass to each other. Axes: T steps, B environments, N iterations."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ppg_jax.functional import RunningStats, unpack_bits

Metrics = dict[str, jax.Array]
"""Metrics by name, one value per iteration: ``[iterations]``; for S seeds ``[S, iterations]``."""
MetricArrays = dict[str, np.ndarray]
"""``Metrics`` as numpy arrays on the host."""


@dataclasses.dataclass(frozen=True)
class ObservationSpec:
    """What the networks need to know about an environment's observations.

    Attributes:
      shape: shape of a single observation.
      dtype: dtype in which observations are stored.
      scale: divisor that is applied to observations before the encoder (255 for byte images).
      categories: number of categories of each component, if the components are category numbers.
        The encoder reads these one-hot. None: the components are amounts.
      parts: shapes of the parts that were joined to one vector, in order; (): a single array.
      flags: runs of components: whether they are flags or one-hot categories, so always 0 or 1, and
        how many. (): unknown, unless the dtype is bool.
      packed: whether observations are stored with flags as bits (``functional.PackedColumns``).
      value: what the value network reads instead; None: the same.
    """

    shape: tuple[int, ...]
    dtype: Any
    scale: float = 1.0
    categories: tuple[int, ...] | None = None
    parts: tuple[tuple[int, ...], ...] = ()
    flags: tuple[tuple[bool, int], ...] = ()
    packed: bool = False
    value: "ObservationSpec | None" = None


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """What the networks need to know about an environment's actions.

    Attributes:
      kind: kind of action: ``discrete``, ``multi_discrete`` or ``continuous``.
      sizes: number of choices of each discrete component. For continuous actions, the number of
        dimensions of the flattened action.
      masked: whether each observation says which discrete actions are legal.
      squashed: whether continuous actions pass through tanh on their way to the environment.
    """

    kind: str
    sizes: tuple[int, ...]
    masked: bool = False
    squashed: bool = False


class Observation(struct.PyTreeNode):
    """An observation with more than what every network reads.

    Observations are plain arrays (or ``PackedColumns``) where an environment has neither.

    Attributes:
      policy: what the policy network reads, as an array or ``PackedColumns``.
      value: what the value network reads instead; None: the same.
      legal: which actions are legal, as bits: uint8 ``[..., ceil(sum(sizes) / 8)]``; None: all.
    """

    policy: Any
    value: Any = None
    legal: chex.Array | None = None


def legal_actions(action: ActionSpec, obs: Any) -> chex.Array | None:
    """Which actions are legal, bool ``[..., sum(sizes)]``; None if observations have no mask."""
    return unpack_bits(obs.legal, sum(action.sizes)) if action.masked else None


class Recalled(struct.PyTreeNode):
    """The previous step, as an input of the networks (as in RL^2), leaves ``[..., B]``.

    A field that the configuration does not ask for is None. The first step of an episode has no
    previous step. There the action is -1 (zeros if actions are continuous) and the reward is 0.

    Attributes:
      actions: actions as the policy gave them, ``[..., B, *event]``.
      rewards: raw rewards, float32.
      done: True where the observation begins an episode, also an episode within a task; bool.
    """

    actions: Any = None
    rewards: Any = None
    done: Any = None


def no_step(action: ActionSpec, recall: tuple[str, ...], shape: tuple[int, ...]) -> Recalled | None:
    """``Recalled`` for the first step of an episode, which has no previous step.

    Args:
      action: spec of the policy's actions.
      recall: names of the fields to fill: some of ``action``, ``reward``, ``done``.
      shape: leading shape of the leaves, ``[..., B]``.

    Returns:
      The record, or None if ``recall`` is empty.
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
    """All inputs of the networks at a step, leaves ``[..., B, ...]``.

    Attributes:
      obs: observations as they are stored: an array, ``PackedColumns`` or ``Observation``.
      starts: True where the observation begins an episode, so memories are reset; bool
        ``[..., B]``.
      recalled: previous step, or None.
    """

    obs: chex.Array
    starts: chex.Array
    recalled: Recalled | None = None


class EpisodeStats(struct.PyTreeNode):
    """Sums over the episodes that ended; scalars.

    Attributes:
      count: number of episodes that ended.
      return_sum: sum of their raw, undiscounted returns.
      length_sum: sum of their lengths in steps.
    """

    count: chex.Array
    return_sum: chex.Array
    length_sum: chex.Array


class EnvsState(struct.PyTreeNode):
    """B environments between two steps.

    Attributes:
      env: states of the environments themselves, leaves ``[B, ...]``.
      obs: observations that the policy sees next, ``[B, ...]``.
      starts: True where ``obs`` begins an episode, bool ``[B]``.
      returns: raw return of the running episode so far, ``[B]``.
      lengths: steps of the running episode so far, int32 ``[B]``.
      recalled: previous step, or None if no network reads it.
    """

    env: Any
    obs: chex.Array
    starts: chex.Array
    returns: chex.Array
    lengths: chex.Array
    recalled: Recalled | None = None

    @property
    def inputs(self) -> Inputs:
        """Inputs of the networks for the next action, ``[B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class Rollout(struct.PyTreeNode):
    """The steps of one rollout, time first: ``[T, B, ...]`` unless said otherwise.

    Attributes:
      obs: observations for which the actions were chosen, in storage dtype. After
        ``Agent.store`` they have the form that it returns.
      starts: True where the observation begins an episode, bool.
      memory: memories of the networks before the first step, leaves ``[B, ...]``.
      actions: actions as sampled, before any clipping.
      log_probs: log-probabilities of the actions under the policy that sampled them.
      rewards: raw rewards.
      terminated: True where a terminal state was reached, bool.
      truncated: True where a time limit cut the episode, bool.
      final_obs: real successor of each step. At the end of an episode this is its last
        observation, not the first one of the next episode.
      recalled: previous step that the networks read with ``obs``, or None.
      final_recalled: previous step that the networks read with ``final_obs``, or None.
      lost: number of observations that packing would change, int32 ``[T]``; None if none is packed.
      before_last: states of the environments before the last step, leaves ``[B, ...]``; None if
        the auxiliary buffer does not need them.
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
    lost: chex.Array | None = None
    before_last: Any = None

    @property
    def inputs(self) -> Inputs:
        """Inputs of the networks during the rollout, ``[T, B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class Batch(struct.PyTreeNode):
    """Training data of a policy iteration, ``[T, B, ...]``; ``memory`` has leaves ``[B, ...]``."""

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
        """Inputs of the networks, ``[T, B, ...]``."""
        return Inputs(self.obs, self.starts, self.recalled)


class AuxBuffer(struct.PyTreeNode):
    """Training data of the auxiliary phase: N rollouts, ``[N, T, B, ...]``.

    ``memory`` has leaves ``[N, B, ...]``: the memories of the networks before each rollout.
    """

    obs: chex.Array
    starts: chex.Array
    memory: Any
    value_targets: chex.Array
    recalled: Recalled | None = None

    @classmethod
    def of(cls, batch: Batch) -> "AuxBuffer":
        """The part of an iteration's batch that the auxiliary phase needs."""
        targets = batch.value_targets
        return cls(batch.obs, batch.starts, batch.memory, targets, batch.recalled)

    @property
    def inputs(self) -> Inputs:
        """Inputs of the networks, with the leading axes of ``starts``."""
        return Inputs(self.obs, self.starts, self.recalled)


class RewardScaler(struct.PyTreeNode):
    """State of the reward normalisation between two rollouts.

    Attributes:
      stats: running statistics of the discounted reward sums, pooled over environments, scalar.
      sums: discounted reward sums after the last step, ``[B]``.
    """

    stats: RunningStats
    sums: chex.Array


class NetworkState(struct.PyTreeNode):
    """Everything that the networks compute with, besides their inputs.

    Attributes:
      params: parameters of all networks, by the name of the network.
      obs_stats: frozen statistics that standardise the observations, or None.
      obs_order: order in which the components of stored observations are kept. Only
        ``networks`` reads it. None: the environment's own order.
    """

    params: Any
    obs_stats: RunningStats | None = None
    obs_order: Any = None


class TrainState(struct.PyTreeNode):
    """The complete state of a run between two phases. A checkpoint must contain all of it.

    Attributes:
      params: parameters of all networks.
      opt_states: optimizer states by name: ``policy``, ``value`` if ``e_pi != e_v``, and ``aux``
        if there is an auxiliary phase.
      envs: state of the environments.
      memory: memories of the networks, leaves ``[B, ...]``.
      reward_scaler: state of the reward normalisation; None if rewards are not normalised.
      obs_stats: statistics that the networks standardise observations by, frozen since the last
        phase began; None if observations are not normalised.
      seen_obs_stats: statistics of all observations so far; the next phase begins with them.
        None if observations are not normalised.
      key: random key that is not used yet.
      iteration: number of iterations done, int32 scalar.
      beta_scale: factor of ``beta_clone``, scalar; None if it is not adapted.
      obs_order: order as in ``NetworkState``. It is set only within a phase, None between phases.
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
        """Parameters, statistics and order that the networks use now."""
        return NetworkState(self.params, self.obs_stats, self.obs_order)
