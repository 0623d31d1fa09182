"""The auxiliary buffer without observations: environments are stepped again where they are read."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.algorithm.aux_storage.packing import Packing
from ppg_jax.algorithm.aux_storage.stored import put
from ppg_jax.algorithm.keys import env_keys, iteration_keys
from ppg_jax.algorithm.minibatch import first_sequences
from ppg_jax.config import Config
from ppg_jax.envs import Parallel, Randomness, choose, take_step
from ppg_jax.functional import unpack_all
from ppg_jax.networks import Agent
from ppg_jax.types import AuxBuffer, Batch, EnvsState, Metrics, Rollout, TrainState

LANES = 4
"""What is played again is a multiple of so many environments. On CPU fewer would be computed one by
one and not by vector instructions, which round sines and the like in another way."""


class ReplayBuffer(struct.PyTreeNode):
    """What N rollouts can be played again from.

    A rollout's first observation is what the last step before it gave. So the states are those
    before that step. Only the phase's first rollout has its first observation beside its states.

    Attributes:
      states: states of the environments before the last step of the rollout before, leaves
        ``[N, B, ...]``. In the first slot: before the first step of the phase.
      next_states: those of the next slot, leaves ``[B, ...]``.
      first_obs: observations before the first step of the phase, ``[B, ...]``.
      starts: True where a rollout's first observation begins an episode, bool ``[N, B]``.
      recalled: what the networks read with these, leaves ``[N, B, ...]``, or None.
      memory: memories of the networks before each rollout, leaves ``[N, B, ...]``.
      actions: ``[N, T, B, ...]``; discrete ones in the smallest dtype that holds them.
      value_targets: ``[N, T, B]``.
      sample: observations of some environments in the newest rollout, ``[T, K, ...]``, as stored.
    """

    states: Any
    next_states: Any
    first_obs: Any
    starts: chex.Array
    recalled: Any
    memory: Any
    actions: chex.Array
    value_targets: chex.Array
    sample: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Replayed:
    """Keeps states and actions, and steps the environments of a minibatch again.

    Attributes:
      config: sizes.
      agent: brings observations into their stored form.
      envs: the environments.
      packing: packs observations of rollouts.
    """

    config: Config
    agent: Agent
    envs: Parallel
    packing: Packing

    keeps_states = True

    @property
    def _sampled(self) -> int:
        """Environments of the newest rollout whose observations are compared: a minibatch."""
        c = self.config
        return min(c.num_envs, c.n_pi * c.num_envs // c.num_aux_minibatches)

    def blank(self, state: TrainState) -> ReplayBuffer:
        """A buffer before the first rollout of a phase."""
        c, envs = self.config, state.envs

        def repeated(n: int, tree: Any) -> Any:  # random keys too, of which there are no zeros
            return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (n, *x.shape)), tree)

        def rollout_obs(network: Any, obs: Any) -> Any:
            _, stored = self.agent.store(network, repeated(c.num_steps, obs))
            return self.packing.pack(stored)

        obs = jax.eval_shape(rollout_obs, state.network, envs.obs)
        some = (c.num_steps, self._sampled)
        action, steps = self.envs.action, (c.n_pi, c.num_steps, c.num_envs)
        several = action.sizes if action.kind == "continuous" else (len(action.sizes),)
        event = () if action.kind == "discrete" else several
        return ReplayBuffer(
            states=repeated(c.n_pi, envs.env),
            next_states=envs.env,
            first_obs=envs.obs,
            starts=jnp.zeros((c.n_pi, c.num_envs), jnp.bool_),
            recalled=repeated(c.n_pi, envs.recalled),
            memory=repeated(c.n_pi, state.memory),
            actions=jnp.zeros((*steps, *event), self._action_dtype),
            value_targets=jnp.zeros(steps, jnp.float32),
            sample=jax.tree.map(lambda x: jnp.zeros((*some, *x.shape[2:]), x.dtype), obs),
        )

    @property
    def _action_dtype(self) -> Any:
        if self.envs.action.kind == "continuous":
            return jnp.float32
        most = max(self.envs.action.sizes)
        return jnp.uint8 if most <= 2**8 else jnp.uint16 if most <= 2**16 else jnp.int32

    def keep(
        self, buffer: ReplayBuffer, slot: chex.Array, rollout: Rollout, batch: Batch
    ) -> ReplayBuffer:
        """The buffer with an iteration's batch in a slot, written in place."""
        first = jax.tree.map(lambda x: x[0], (batch.starts, batch.recalled))
        actions = batch.actions.astype(self._action_dtype)
        new = (buffer.next_states, *first, batch.memory, actions, batch.value_targets)
        old = (buffer.states, buffer.starts, buffer.recalled, buffer.memory, buffer.actions)
        put_in = put((*old, buffer.value_targets), slot, new)
        states, starts, recalled, memory, actions, value_targets = put_in
        return buffer.replace(
            states=states,
            next_states=rollout.before_last,
            starts=starts,
            recalled=recalled,
            memory=memory,
            actions=actions,
            value_targets=value_targets,
            sample=jax.tree.map(lambda x: x[:, : self._sampled], batch.obs),
        )

    def sequences(self, state: TrainState, buffer: ReplayBuffer, index: chex.Array) -> AuxBuffer:
        """Some (iteration, environment) sequences, played again: ``[T, M, ...]``.

        Args:
          state: after the last iteration of the phase.
          buffer: of N rollouts.
          index: ``iteration * B + environment``, int32 ``[M]``.
        """
        wide = widened(index)
        part = self._played_again(state, buffer, wide)
        return part if len(wide) == len(index) else first_sequences(part, len(index))

    def _played_again(
        self, state: TrainState, buffer: ReplayBuffer, index: chex.Array
    ) -> AuxBuffer:
        slot, env = index // self.config.num_envs, index % self.config.num_envs
        states, starts, recalled, memory = jax.tree.map(
            lambda x: x[slot, env],
            (buffer.states, buffer.starts, buffer.recalled, buffer.memory),
        )
        begin = EnvsState(
            env=states,
            obs=jax.tree.map(lambda x: x[env], buffer.first_obs),
            starts=starts,
            returns=jnp.zeros(index.shape, jnp.float32),
            lengths=jnp.zeros(index.shape, jnp.int32),
            recalled=recalled,
        )
        actions = self._actions(buffer, slot, env)
        played = replay(self.envs, begin, slot == 0, actions, self._randomness(state, slot, env))
        obs = self.agent.restore(state.network, played.obs)
        targets = jnp.moveaxis(buffer.value_targets[slot, :, env], 1, 0)
        return AuxBuffer(obs, played.starts, memory, targets, played.recalled)

    def _actions(self, buffer: ReplayBuffer, slot: chex.Array, env: chex.Array) -> chex.Array:
        """Actions that led to each observation, ``[T, M, ...]``; the first one of the step before.

        In the first slot there is no step before. What stands there is not used.
        """
        steps = jnp.arange(-1, self.config.num_steps - 1)[:, None]
        before = jnp.where(steps < 0, jnp.maximum(slot - 1, 0), slot)
        actions = buffer.actions[before, steps, env]
        return actions if self.envs.action.kind == "continuous" else actions.astype(jnp.int32)

    def _randomness(self, state: TrainState, slot: chex.Array, env: chex.Array) -> Randomness:
        """The randomness of the steps that ``_actions`` took, leaves ``[T, M, ...]``."""
        c = self.config

        def keys(iteration: chex.Array) -> chex.PRNGKey:
            rollout_key, *_ = iteration_keys(state.key, iteration)
            return env_keys(rollout_key, c.num_steps)

        first = state.iteration - c.n_pi
        by_slot = jax.vmap(keys)(first - 1 + jnp.arange(c.n_pi + 1))  # from the rollout before on
        steps = jnp.arange(-1, c.num_steps - 1)[:, None]
        own = by_slot[jnp.where(steps < 0, slot, slot + 1), steps]
        return jax.vmap(lambda k: self.envs.draw_some(k, c.num_envs, env))(own)

    def newest(self, state: TrainState, buffer: ReplayBuffer) -> AuxBuffer:
        """The newest rollout, played again: ``[T, B, ...]``."""
        c = self.config
        return self.sequences(state, buffer, (c.n_pi - 1) * c.num_envs + jnp.arange(c.num_envs))

    def measured(self, state: TrainState, buffer: ReplayBuffer) -> Metrics:
        """How far what is played again is from what was seen first."""
        c = self.config
        index = (c.n_pi - 1) * c.num_envs + jnp.arange(self._sampled)
        again = self.sequences(state, buffer, index)
        return {
            "replay_difference": largest_difference(*map(unpack_all, (buffer.sample, again.obs)))
        }


def widened(index: chex.Array) -> chex.Array:
    """Indices ``[M]``, with the first one repeated up to a multiple of ``LANES``."""
    more = -len(index) % LANES
    return jnp.concatenate([index, jnp.broadcast_to(index[:1], (more,))]) if more else index


def replay(
    envs: Parallel, begin: EnvsState, at_once: chex.Array, actions: chex.Array, drawn: Randomness
) -> EnvsState:
    """What M environments show before each of T steps.

    Args:
      envs: the environments.
      begin: states before the step that leads to the first observation; ``starts`` and ``recalled``
        of the first observation itself.
      at_once: True where the states and ``obs`` are those of the first observation, bool ``[M]``.
      actions: actions that led to each observation, ``[T, M, ...]``.
      drawn: randomness of the steps that led to each observation, leaves ``[T, M, ...]``.

    Returns:
      The environments at each observation, leaves ``[T, M, ...]``; only ``obs``, ``starts`` and
      ``recalled``.
    """

    def step(now: EnvsState, given: tuple[Any, ...]) -> tuple[EnvsState, EnvsState]:
        first, randomness, actions = given
        after, _ = take_step(envs, randomness, now, actions)
        env, obs = choose(first & at_once, (now.env, now.obs), (after.env, after.obs))
        known = now.starts, now.recalled
        starts, recalled = choose(
            jnp.broadcast_to(first, at_once.shape), known, (after.starts, after.recalled)
        )
        after = after.replace(env=env, obs=obs, starts=starts, recalled=recalled)
        return after, after.replace(env=(), returns=(), lengths=())

    first = jnp.arange(len(actions)) == 0
    _, shown = jax.lax.scan(step, begin, (first, drawn, actions))
    return shown


def largest_difference(a: Any, b: Any) -> chex.Array:
    """The largest absolute difference between two trees of numbers, float32; NaN equals NaN."""

    def leaf(a: chex.Array, b: chex.Array) -> chex.Array:
        x, y = a.astype(jnp.float32), b.astype(jnp.float32)
        same = (x == y) | (jnp.isnan(x) & jnp.isnan(y))
        return jnp.where(same, 0.0, jnp.abs(x - y)).max()

    return jnp.stack(jax.tree.leaves(jax.tree.map(leaf, a, b))).max()
