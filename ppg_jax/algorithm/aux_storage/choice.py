"""The storage of a configuration, and how exact a replay of its environments is."""

from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.aux_storage.packing import Packing
from ppg_jax.algorithm.aux_storage.replayed import Replayed, largest_difference, replay, widened
from ppg_jax.algorithm.aux_storage.stored import Stored
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import AnyEnvironment, Batch, Parallel, play_randomly
from ppg_jax.networks import Agent
from ppg_jax.types import AuxBuffer, Metrics, Rollout, TrainState
from ppg_jax.types import Batch as Data


class AuxStorage(Protocol):
    """How the data of the auxiliary phase is kept. The buffer's leaves are ``[N, ...]``.

    Attributes:
      keeps_states: whether rollouts must bring ``Rollout.before_last``.
    """

    @property
    def keeps_states(self) -> bool:
        """See above."""

    def blank(self, state: TrainState) -> Any:
        """The buffer before the first rollout of a phase."""

    def keep(self, buffer: Any, slot: chex.Array, rollout: Rollout, batch: Data) -> Any:
        """The buffer with an iteration's data in a slot, written in place."""

    def sequences(self, state: TrainState, buffer: Any, index: chex.Array) -> AuxBuffer:
        """Some (iteration, environment) sequences, ``[T, M, ...]``.

        Args:
          state: after the last iteration of the phase.
          buffer: of N rollouts.
          index: ``iteration * B + environment``, int32 ``[M]``.
        """

    def newest(self, state: TrainState, buffer: Any) -> AuxBuffer:
        """The newest rollout, ``[T, B, ...]``."""

    def measured(self, state: TrainState, buffer: Any) -> Metrics:
        """Metrics of a phase, scalars; mostly none."""


def make_storage(config: Config, envs: Batch | None, agent: Agent, packing: Packing) -> AuxStorage:
    """The storage of ``config.aux_storage``; ``auto`` is ``full``. ``envs``: for a replay."""
    if config.aux_storage != "replay":
        return Stored(config, agent, packing)
    assert isinstance(envs, Parallel)
    return Replayed(config, agent, envs, packing)


def check_replays(env: AnyEnvironment, envs: Batch) -> None:
    """Checks that environments can be stepped again from their states.

    Raises:
      ConfigError: they are stepped together, or live outside of the program.
    """
    if not isinstance(envs, Parallel):
        raise ConfigError(
            f"aux_storage: replay cannot be used with {env.name}, whose environments are stepped "
            "together and cannot be stepped again one by one; use full or packed"
        )


def difference_of_replay(config: Config, envs: Parallel) -> float:
    """How far observations are from those of a replay in a program of another shape.

    A rollout with random actions is played again, as many sequences at a time as an auxiliary
    minibatch has.

    Returns:
      The largest absolute difference; 0 if replay is exact.
    """
    num_envs, num_steps = config.num_envs, config.num_steps
    some = max(1, min(num_envs - 1, config.n_pi * num_envs // config.num_aux_minibatches))

    def again(played: Any) -> chex.Array:
        index = widened(jnp.arange(some))
        first = jax.tree.map(lambda x: x[index], played.before)
        # The step before the first observation is not taken, so any key and action will do.
        keys, actions = (jnp.concatenate([x[:1], x[:-1]]) for x in (played.keys, played.actions))

        def draw(key: chex.PRNGKey) -> Any:
            return envs.draw_some(jnp.broadcast_to(key, index.shape), num_envs, index)

        at_once = jnp.ones(index.shape, jnp.bool_)
        drawn = jax.vmap(draw)(keys)
        shown = replay(envs, first, at_once, actions[:, index], drawn)
        return largest_difference(jax.tree.map(lambda x: x[:, index], played.obs), shown.obs)

    with jax.ensure_compile_time_eval():
        play = jax.jit(lambda key: play_randomly(envs, key, num_envs, num_steps))
        return float(jax.jit(again)(play(jax.random.key(0))))
