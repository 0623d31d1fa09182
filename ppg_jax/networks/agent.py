"""The agent: the networks of an architecture, and the gradients between their parts."""

import dataclasses
import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.backend import PLAIN, Backend
from ppg_jax.config import Config, ConfigError, NetworkConfig
from ppg_jax.functional import ALONE, Pool, unpack_all
from ppg_jax.kernels import (
    MIN_COMPONENTS,
    LiveComponents,
    SortedObservations,
    none_live,
    sort_components,
    sorted_by,
)
from ppg_jax.networks import reading
from ppg_jax.networks.architecture import ARCHITECTURES, Architecture
from ppg_jax.networks.memory import MEMORIES, last_state
from ppg_jax.networks.network import (
    AUX_VALUE,
    POLICY,
    POLICY_NET,
    VALUE,
    VALUE_NET,
    Network,
    Policy,
    make_policy,
    previous_step,
)
from ppg_jax.networks.own_module import is_own
from ppg_jax.networks.resolve import resolve_network, resolve_value_network
from ppg_jax.networks.trunks import Trunks, Unroll
from ppg_jax.types import (
    ActionSpec,
    Inputs,
    NetworkState,
    ObservationSpec,
    legal_actions,
    no_step,
)


class AgentOutput(struct.PyTreeNode):
    """Outputs of the networks for observations ``[T, B, ...]``; those not asked for are None.

    Attributes:
      policy: ``Distribution`` over actions, batch axes ``[T, B]``.
      values: of the value function, ``[T, B]``.
      aux_values: of the policy network's auxiliary value head, ``[T, B]``.
      states: memories of the networks that ran, after each step, leaves ``[T, B, ...]``.
    """

    policy: Any
    values: Any
    aux_values: Any
    states: dict[str, Any]

    def last_memory(self, memory: dict[str, Any]) -> dict[str, Any]:
        """Memories ``[B, ...]`` after the last step, unchanged for networks that did not run."""
        return memory | {name: last_state(states) for name, states in self.states.items()}


@dataclasses.dataclass(frozen=True)
class Agent:
    """The networks of an architecture as pure functions of their parameters.

    Parameters are ``{"policy_net": ..., "value_net": ...}``. The second exists only where the value
    function has its own network. Everything is time-major: inputs ``[T, B, ...]``, memories before
    the first step ``[B, ...]``.
    """

    arch: str
    network: NetworkConfig
    observation: ObservationSpec
    action: ActionSpec
    has_aux_head: bool
    state_std: bool = False
    backend: Backend = PLAIN

    @property
    def architecture(self) -> Architecture:
        """The architecture's networks, and where gradients stop."""
        return ARCHITECTURES[self.arch]

    @functools.cached_property
    def _networks(self) -> dict[str, Network]:
        own_value = self.architecture.value_net
        heads = (POLICY,) + (() if own_value else (VALUE,))
        heads += (AUX_VALUE,) if self.has_aux_head else ()
        policy = Policy(self.action, self.state_std, self.backend.narrow_heads)
        networks = {POLICY_NET: Network(self.network, self.observation, policy, heads)}
        if own_value:
            network, spec = self.reads(VALUE_NET)
            networks[VALUE_NET] = Network(network, spec, policy, (VALUE,))
        return networks

    @functools.cached_property
    def _trunks(self) -> Trunks:
        return Trunks(self._networks, self.action, self.backend.joins_networks)

    def reads(self, name: str) -> tuple[NetworkConfig, ObservationSpec]:
        """The resolved configuration of a network, and what it reads."""
        value = self.observation.value
        if name == POLICY_NET or value is None:
            return self.network, self.observation
        return self._value_network, value

    @functools.cached_property
    def _value_network(self) -> NetworkConfig:
        """The value network's configuration, if it has observations of its own."""
        value = self.observation.value
        assert value is not None
        return resolve_value_network(self.network, value, self.backend)

    def init(self, key: chex.PRNGKey) -> dict[str, Any]:
        """Fresh parameters of all networks."""
        beside = previous_step(self.action, no_step(self.action, self.network.recall or (), (1, 1)))
        starts, memory = jnp.ones((1, 1), jnp.bool_), self.initial_memory(1)
        keys = jax.random.split(key, len(self._networks))
        return {
            name: network.init(k, self._blank(name), beside, starts, memory[name])["params"]
            for k, (name, network) in zip(keys, self._networks.items(), strict=True)
        }

    def _blank(self, name: str) -> chex.Array:
        """An observation of zeros as a network's encoder reads it, ``[1, 1, ...]``."""
        network, spec = self.reads(name)
        obs = jnp.zeros((1, 1, *spec.shape), spec.dtype)
        return jnp.zeros_like(reading.read(network, spec, obs, None))

    def initial_memory(self, num_envs: int) -> dict[str, Any]:
        """Memories of all networks before any observation, leaves ``[num_envs, ...]``."""
        memory = MEMORIES[self.network.memory]
        return {
            name: memory(self.reads(name)[0]).initial_state(num_envs) for name in self._networks
        }

    def initial_stats(self) -> Any:
        """Statistics of observations before any data."""
        return reading.initial_stats(self.observation)

    def update_stats(self, stats: Any, obs: Any, pool: Pool = ALONE) -> Any:
        """Statistics that include stored observations ``[..., *shape]`` of a pool's groups too."""
        return reading.update_stats(self.observation, stats, obs, pool)

    def unroll(
        self, network: NetworkState, inputs: Inputs, memory: dict[str, Any], how: Unroll
    ) -> AgentOutput:
        """Runs the networks that the wanted heads need, each once, over a sequence.

        Args:
          network: parameters, and how observations are read.
          inputs: what the networks see, ``[T, B, ...]``; observations raw or as ``store`` leaves
            them.
          memory: of all networks before the first step, leaves ``[B, ...]``.
          how: the wanted heads, and the limits for gradients.

        Returns:
          The wanted outputs of ``T - how.burn_in`` steps, and states of the networks that ran.
        """
        inputs = inputs.replace(obs=unpack_all(inputs.obs))
        if not isinstance(inputs.obs, SortedObservations):
            # Raw: in its own order, whatever the order of stored observations is.
            network = network.replace(obs_order=None)
        legal = legal_actions(self.action, inputs.obs)
        outputs: dict[str, Any] = {}
        running = {
            name: heads
            for name, one in self._networks.items()
            if (heads := tuple(head for head in one.heads if head in how.heads))
        }
        legal = legal if legal is None else legal[how.burn_in :]
        summaries, states = self._trunks.run(network, inputs, memory, list(running), how)
        for name, heads in running.items():
            variables = {"params": network.params[name]}
            apply = functools.partial(self._networks[name].apply, variables, method="decide")
            given: Any = apply(summaries[name], heads, legal, how.detach_value)
            outputs |= given
        return AgentOutput(outputs.get(POLICY), outputs.get(VALUE), outputs.get(AUX_VALUE), states)

    def turns(self, heads: tuple[str, ...]) -> list[tuple[list[str], tuple[str, ...]]]:
        """Groups of networks that learn one group after the other, each with its heads.

        Mostly there is one group. On accelerators, networks that cannot run as one learn in turn,
        so that the activations of only one need memory.
        """
        names = list(self._networks)
        own = {
            name: tuple(h for h in heads if h in one.heads) for name, one in self._networks.items()
        }
        together = not self.backend.learns_in_turn or self._trunks.are_alike(names)
        if together or not all(own.values()):
            return [(names, heads)]
        return [([name], own[name]) for name in names]

    def initial_order(self, obs_stats: Any) -> LiveComponents | None:
        """The order of components when a phase begins; None if observations are not sorted.

        Sorting is a gain on CPU, for long binary observations that an MLP reads directly. There the
        products of the first layer are most of the work.
        """
        components = math.prod(self.observation.shape)
        pays = (
            self.backend.skip_zeros
            and self.network.encoder == "mlp"
            and self.observation.dtype == jnp.bool_
            and not (self.observation.packed or self.observation.value or self.action.masked)
            and components >= MIN_COMPONENTS
            and obs_stats is None
        )
        return none_live(components) if pays else None

    def store(self, network: NetworkState, obs: chex.Array) -> tuple[Any, Any]:
        """Brings a rollout's observations into the form in which they are stored.

        Args:
          network: its ``obs_order`` is the order of all observations stored in this phase so far.
          obs: raw observations ``[T, B, ...]``.

        Returns:
          The new order, for ``NetworkState``, and the observations: sorted, or unchanged if the
          order is None. ``unroll`` reads both forms.
        """
        if network.obs_order is None:
            return None, obs
        order, components = sort_components(network.obs_order, obs.reshape(*obs.shape[:2], -1))
        return order, SortedObservations(components)

    def restore(self, network: NetworkState, obs: chex.Array) -> Any:
        """Raw observations ``[T, M, ...]`` that were stored in this phase, in their stored form."""
        if network.obs_order is None:
            return obs
        components = obs.reshape(*obs.shape[:2], -1)
        return SortedObservations(sorted_by(network.obs_order, components))

    def cast(self, network: NetworkState) -> NetworkState:
        """The encoders' parameters in the dtype in which they compute, as loops should read them.

        Inside a loop they would be cast again at every step. The numbers are the same. Not for
        gradients, which need the parameters in float32.
        """
        dtype = jnp.dtype(self.network.compute_dtype)
        if dtype == jnp.float32 or is_own(self.network.encoder):
            return network
        params = {
            name: net | {"encoder": jax.tree.map(lambda x: x.astype(dtype), net["encoder"])}
            for name, net in network.params.items()
        }
        return network.replace(params=params)

    def step(
        self,
        network: NetworkState,
        inputs: Inputs,
        memory: dict[str, Any],
        heads: tuple[str, ...],
    ) -> AgentOutput:
        """``unroll`` for a single step: inputs ``[B, ...]``, outputs and states ``[B, ...]``."""
        inputs = jax.tree.map(lambda x: x[None], inputs)
        out = self.unroll(network, inputs, memory, Unroll(heads))
        now: AgentOutput = jax.tree.map(lambda x: x[0], out)
        return now

    def noise(self, key: chex.PRNGKey, num_envs: int) -> Any:
        """The random part of B environments' actions, for ``Distribution.choose``."""
        out = jax.ShapeDtypeStruct((num_envs, sum(self.action.sizes)), jnp.float32)
        return jax.eval_shape(lambda x: make_policy(self.action, x, x), out).noise(key)

    def shared_part(self, tree: dict[str, Any]) -> dict[str, Any]:
        """The part of a parameter-like tree that policy and auxiliary value head share."""
        return {k: v for k, v in tree[POLICY_NET].items() if k in ("encoder", "memory")}

    def with_shared_part(self, tree: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
        """The tree with its shared part replaced."""
        return tree | {POLICY_NET: tree[POLICY_NET] | part}

    def split_value_part(self, tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Splits a parameter-like tree into the policy's and the value function's part.

        The second is the value network, or the value head if the encoder is shared.
        """
        if self.architecture.value_net:
            return {POLICY_NET: tree[POLICY_NET]}, {VALUE_NET: tree[VALUE_NET]}
        rest = {k: v for k, v in tree[POLICY_NET].items() if k != VALUE}
        return {POLICY_NET: rest}, {POLICY_NET: {VALUE: tree[POLICY_NET][VALUE]}}


def make_agent(
    config: Config,
    observation: ObservationSpec,
    action: ActionSpec,
    backend: Backend = PLAIN,
) -> Agent:
    """The agent of a configuration, for an environment's observations and actions.

    Raises:
      ConfigError: the networks do not fit the observations, or the distribution the actions.
    """
    if config.policy_distribution != "gaussian" and action.kind != "continuous":
        raise ConfigError(
            f"policy_distribution: {config.policy_distribution} is for continuous actions; "
            f"{config.env_name} has {action.kind} ones; leave it out"
        )
    return Agent(
        arch=config.arch,
        network=resolve_network(config.network, observation, backend),
        observation=observation,
        action=action,
        has_aux_head=config.e_aux > 0,
        state_std=config.policy_distribution.endswith("state_std"),
        backend=backend,
    )
