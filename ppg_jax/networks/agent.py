"""The agent: which networks an architecture has, and which gradients cross between their parts."""

import dataclasses
import functools
import math
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.config import Config, NetworkConfig
from ppg_jax.distributions import Categorical, DiagGaussian, Distribution, MultiCategorical
from ppg_jax.networks.encoders import ENCODERS, resolve_network
from ppg_jax.networks.layers import joined_products, make_initializer
from ppg_jax.networks.memory import MEMORIES
from ppg_jax.running_stats import RunningStats, standardize
from ppg_jax.types import ActionSpec, ObservationSpec

POLICY, VALUE, AUX_VALUE = "policy_head", "value_head", "aux_value_head"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of the table of architectures.

    Attributes:
      value_net: the value function has a network of its own.
      detach_policy_phase: the value head sees a stopped gradient in the policy phase.
      detach_aux_phase: likewise in the auxiliary phase.
    """

    value_net: bool
    detach_policy_phase: bool = False
    detach_aux_phase: bool = False


ARCHITECTURES = {
    "dual": Architecture(value_net=True),
    "separate": Architecture(value_net=True),
    "detach": Architecture(value_net=False, detach_policy_phase=True, detach_aux_phase=True),
    "single": Architecture(value_net=False, detach_policy_phase=True),
    "shared": Architecture(value_net=False),
}


class AgentOutput(struct.PyTreeNode):
    """What the networks say of observations ``[T, B, ...]``; what was not asked for is None.

    Attributes:
      policy: ``Distribution`` over actions, batch axes ``[T, B]``.
      values: of the value function, ``[T, B]``.
      aux_values: of the policy network's auxiliary value head, ``[T, B]``.
      memory: the networks' memories after the last step, leaves ``[B, ...]``.
    """

    policy: Any
    values: Any
    aux_values: Any
    memory: dict[str, Any]


class PolicyHead(nn.Module):
    """Features ``[..., F]`` to a distribution over the actions of a space, in float32."""

    action: ActionSpec
    kernel_init: Any

    @nn.compact
    def __call__(self, features: chex.Array) -> Distribution:
        out = nn.Dense(sum(self.action.sizes), kernel_init=self.kernel_init, name="dense")(features)
        out = out.astype(jnp.float32)
        if self.action.kind == "discrete":
            return Categorical.from_logits(out)
        if self.action.kind == "multi_discrete":
            return MultiCategorical.from_logits(out, self.action.sizes)
        log_std = self.param("log_std", nn.initializers.zeros_init(), out.shape[-1:])
        return DiagGaussian(out, jnp.broadcast_to(log_std, out.shape))


class ValueHead(nn.Module):
    """Features ``[..., F]`` to values ``[...]``, in float32."""

    kernel_init: Any

    @nn.compact
    def __call__(self, features: chex.Array) -> chex.Array:
        out = nn.Dense(1, kernel_init=self.kernel_init, name="dense")(features)
        return out.squeeze(-1).astype(jnp.float32)


class Branch(nn.Module):
    """One network: encoder, memory and some heads."""

    config: NetworkConfig
    action: ActionSpec
    heads: tuple[str, ...]

    @nn.compact
    def __call__(
        self,
        x: chex.Array,
        starts: chex.Array,
        state: Any,
        wanted: tuple[str, ...],
        detach_value: bool,
        given: dict[str, chex.Array],
    ) -> tuple[dict[str, Any], Any]:
        lead = x.shape[:2]
        encode = ENCODERS[self.config.encoder](self.config, name="encoder")
        x = x.reshape(-1, *x.shape[2:]).astype(self.config.compute_dtype)
        features = encode(x, **given).astype(jnp.float32)
        memory = MEMORIES[self.config.memory](self.config, name="memory")
        features, state = memory(features.reshape(*lead, -1), starts, state)
        outputs = {}
        for head in wanted:
            cut = detach_value and head == VALUE
            outputs[head] = self._head(head)(jax.lax.stop_gradient(features) if cut else features)
        return outputs, state

    def _head(self, name: str) -> nn.Module:
        normed, c = self.config.init == "normed", self.config
        if name == POLICY:
            init = make_initializer(c.init, c.policy_head_scale or (0.1 if normed else 0.01))
            return PolicyHead(self.action, init, name=name)
        init = make_initializer(c.init, c.value_head_scale or (0.1 if normed else 1.0))
        return ValueHead(init, name=name)


@dataclasses.dataclass(frozen=True)
class Agent:
    """The networks of an architecture as pure functions of their parameters.

    Parameters are ``{"policy_net": ..., "value_net": ...}``, the second only where the value
    function has a network of its own. Everything is time-major: observations ``[T, B, ...]``,
    episode starts ``[T, B]``, memories ``[B, ...]`` as they are before the first step.
    """

    arch: str
    network: NetworkConfig
    observation: ObservationSpec
    action: ActionSpec
    has_aux_head: bool

    @property
    def architecture(self) -> Architecture:
        """Which networks there are and where gradients stop."""
        return ARCHITECTURES[self.arch]

    @functools.cached_property
    def _branches(self) -> dict[str, Branch]:
        own_value = self.architecture.value_net
        heads = (POLICY,) + (() if own_value else (VALUE,))
        heads += (AUX_VALUE,) if self.has_aux_head else ()
        branches = {"policy_net": Branch(self.network, self.action, heads)}
        if own_value:
            branches["value_net"] = Branch(self.network, self.action, (VALUE,))
        return branches

    def init(self, key: chex.PRNGKey) -> dict[str, Any]:
        """Fresh parameters of all networks."""
        x = jnp.zeros((1, 1, *self._input_shape()), jnp.float32)
        starts, memory = jnp.ones((1, 1), jnp.bool_), self.initial_memory(1)
        keys = jax.random.split(key, len(self._branches))
        return {
            name: branch.init(k, x, starts, memory[name], branch.heads, False, {})["params"]
            for k, (name, branch) in zip(keys, self._branches.items(), strict=True)
        }

    def initial_memory(self, num_envs: int) -> dict[str, Any]:
        """Memories of all networks before any observation, leaves ``[num_envs, ...]``."""
        memory = MEMORIES[self.network.memory](self.network)
        return {name: memory.initial_state(num_envs) for name in self._branches}

    def _input_shape(self) -> tuple[int, ...]:
        categories = self.observation.num_categories
        return self.observation.shape if categories is None else (categories,)

    def _read(self, obs: chex.Array, obs_stats: RunningStats | None) -> chex.Array:
        """Stored observations as the encoders take them: float32, scaled or standardised."""
        if self.observation.num_categories is not None:
            return jax.nn.one_hot(obs, self.observation.num_categories)
        if obs_stats is not None:
            return standardize(obs_stats, obs)
        x = obs.astype(jnp.float32)
        return x if self.observation.scale == 1.0 else x * (1.0 / self.observation.scale)

    def unroll(
        self,
        params: dict[str, Any],
        obs_stats: RunningStats | None,
        obs: chex.Array,
        starts: chex.Array,
        memory: dict[str, Any],
        wanted: tuple[str, ...],
        *,
        detach_value: bool = False,
    ) -> AgentOutput:
        """Runs the networks that ``wanted`` heads need, each once, over a sequence.

        Args:
          params: of all networks.
          obs_stats: frozen statistics of observations, or None.
          obs: ``[T, B, ...]`` as stored.
          starts: observation begins an episode, ``[T, B]``.
          memory: of all networks before the first step, leaves ``[B, ...]``.
          wanted: some of ``POLICY``, ``VALUE``, ``AUX_VALUE``.
          detach_value: the value head sees a stopped gradient, where it shares an encoder.

        Returns:
          The wanted outputs; memories of networks that did not run are returned as they came.
        """
        x = self._read(obs, obs_stats)
        outputs: dict[str, Any] = {}
        memory = dict(memory)
        running = {
            name: heads
            for name, branch in self._branches.items()
            if (heads := tuple(head for head in branch.heads if head in wanted))
        }
        products = self._first_products(params, x, list(running))
        for name, heads in running.items():
            given, memory[name] = self._branches[name].apply(
                {"params": params[name]}, x, starts, memory[name], heads, detach_value,
                products[name],
            )  # fmt: skip
            outputs |= given
        return AgentOutput(outputs.get(POLICY), outputs.get(VALUE), outputs.get(AUX_VALUE), memory)

    def _first_products(
        self, params: dict[str, Any], x: chex.Array, names: list[str]
    ) -> dict[str, dict[str, chex.Array]]:
        """For each network what its encoder need not compute itself.

        Two MLPs read the same observations: their first layers, mostly the largest, are one
        matrix product.
        """
        if len(names) < 2 or self.network.encoder != "mlp":
            return {name: {} for name in names}
        x = x.reshape(math.prod(x.shape[:2]), -1).astype(self.network.compute_dtype)
        kernels = [params[name]["encoder"]["dense_0"]["kernel"] for name in names]
        products = joined_products(x, kernels)
        return {
            name: {"first_product": product} for name, product in zip(names, products, strict=True)
        }

    def step(
        self,
        params: dict[str, Any],
        obs_stats: RunningStats | None,
        obs: chex.Array,
        starts: chex.Array,
        memory: dict[str, Any],
        wanted: tuple[str, ...],
    ) -> AgentOutput:
        """``unroll`` for a single step: observations ``[B, ...]``, outputs ``[B, ...]``."""
        out = self.unroll(params, obs_stats, obs[None], starts[None], memory, wanted)
        first = functools.partial(jax.tree.map, lambda x: x[0])
        return out.replace(
            policy=first(out.policy), values=first(out.values), aux_values=first(out.aux_values)
        )

    def split_value_part(self, tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parts a tree shaped like the parameters into the policy's and the value function's.

        The second holds the value network, or the value head where an encoder is shared.
        """
        if self.architecture.value_net:
            return {"policy_net": tree["policy_net"]}, {"value_net": tree["value_net"]}
        rest = {k: v for k, v in tree["policy_net"].items() if k != VALUE}
        return {"policy_net": rest}, {"policy_net": {VALUE: tree["policy_net"][VALUE]}}


def make_agent(config: Config, observation: ObservationSpec, action: ActionSpec) -> Agent:
    """The agent a configuration asks for in an environment.

    Raises:
      ConfigError: the networks do not fit the observations.
    """
    return Agent(
        arch=config.arch,
        network=resolve_network(config.network, observation),
        observation=observation,
        action=action,
        has_aux_head=config.e_aux > 0,
    )
