"""A seed's environments in groups: on one device, or spread over several.

Every group runs the whole algorithm on its own environments. It has random keys of its own, so it
draws minibatches of its own. What it learns from is averaged over all groups: gradients, moments of
advantages, statistics of rewards and observations, metrics (``functional.Pool``). So parameters and
optimizer states are the same in all groups.

The number of groups decides which numbers come out. How many devices share the groups does not
matter, but for rounding.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.ppg import PPG
from ppg_jax.functional import Pool
from ppg_jax.types import RewardScaler, TrainState

_GROUP = "group"
"""Name of the mapped axis of the groups on one device."""


def by_environment(state: TrainState, own: Any, same: Any) -> TrainState:
    """Says for every field of a state whether it belongs to single environments.

    Args:
      state: a training state; only its structure matters.
      own: what stands for a field whose leaves are ``[B, ...]``.
      same: what stands for a field that all environments share.
    """
    fields = {field.name: same for field in dataclasses.fields(state)}
    scaler = None if state.reward_scaler is None else RewardScaler(stats=same, sums=own)
    return TrainState(**fields | {"envs": own, "memory": own, "reward_scaler": scaler})


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of one seed that are on this device.

    Attributes:
      ppg: of a single group.
      here: number of groups on this device.
      first: number of the first one of them, int32 scalar.
    """

    ppg: PPG
    here: int
    first: chex.Array

    @classmethod
    def of(cls, ppg: PPG, env_axis: str | None) -> "Groups":
        """The groups of a seed.

        Args:
          ppg: of the whole seed.
          env_axis: name of the mesh axis over which its groups are spread; None: all are here.
        """
        config, count = ppg.config, ppg.config.groups
        devices = 1 if env_axis is None else jax.lax.axis_size(env_axis)
        here = count // devices
        steps = config.num_iterations * config.steps_per_iteration // count
        alone = {"env_groups": None, "devices_per_seed": None, "total_timesteps": steps}
        own = config.replace(num_envs=config.num_envs // count, **alone)
        axes = (_GROUP,) if env_axis is None else (env_axis, _GROUP)
        place = jnp.int32(0) if env_axis is None else jax.lax.axis_index(env_axis)
        return cls(dataclasses.replace(ppg, config=own, pool=Pool(axes, count)), here, place * here)

    def keys(self, key: chex.PRNGKey) -> chex.PRNGKey:
        """A random key for each group, ``[groups]``."""
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        return fold(key, self.first + jnp.arange(self.here))

    def map(self, fn: Callable[..., Any], in_axes: Any, out_axes: Any) -> Callable[..., Any]:
        """``fn`` for all groups at once; axis None stands for what all groups share."""
        return jax.vmap(fn, in_axes, out_axes, axis_name=_GROUP)

    def split(self, tree: Any) -> Any:
        """Environments ``[B, ...]`` as ``[groups, B / groups, ...]``."""
        return jax.tree.map(lambda x: x.reshape(self.here, -1, *x.shape[1:]), tree)

    def join(self, tree: Any) -> Any:
        """The inverse of ``split``."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def in_groups(
    ppg: PPG,
    fn: Callable[[PPG, TrainState], tuple[TrainState, Any]],
    state: TrainState,
    env_axis: str | None,
) -> tuple[TrainState, Any]:
    """Calls ``fn`` for each group of environments, with the state of that group.

    Args:
      ppg: of the whole seed.
      fn: function of a group's ``PPG`` and state. It returns the state after it, and metrics that
        are the same in all groups.
      state: of the environments on this device.
      env_axis: name of the mesh axis over which the groups are spread; None: all are here.

    Returns:
      The state of the environments on this device, and the metrics.
    """
    if ppg.config.groups == 1:
        return fn(ppg, state)
    groups = Groups.of(ppg, env_axis)
    axes = by_environment(state, own=0, same=None).replace(key=0)
    own = state.replace(key=groups.keys(state.key), **_environments(state, groups.split))
    one = groups.map(lambda state: fn(groups.ppg, state), (axes,), (axes, None))
    after, metrics = one(own)
    return after.replace(key=state.key, **_environments(after, groups.join)), metrics


def _environments(state: TrainState, fn: Callable[[Any], Any]) -> dict[str, Any]:
    """The fields of a state that hold what belongs to single environments, changed by ``fn``."""
    scaler = state.reward_scaler
    if scaler is not None:
        scaler = scaler.replace(sums=fn(scaler.sums))
    return {"envs": fn(state.envs), "memory": fn(state.memory), "reward_scaler": scaler}
