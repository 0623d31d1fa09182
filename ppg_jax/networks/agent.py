"""The agent: which networks an architecture has, and which gradients cross between their parts."""

import dataclasses
import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from ppg_jax.config import Config, NetworkConfig
from ppg_jax.functional import RunningStats, standardize
from ppg_jax.kernels import (
    MIN_COMPONENTS,
    LiveComponents,
    joined_products,
    live_product,
    none_live,
    sort_components,
)
from ppg_jax.networks.encoders import flat, picture_shape, resolve_network
from ppg_jax.networks.memory import MEMORIES, last_state, unroll_memory
from ppg_jax.networks.network import AUX_VALUE, POLICY, VALUE, Branch, make_policy, previous_step
from ppg_jax.types import ActionSpec, Inputs, ObservationSpec, no_step


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
      states: memories of the networks that ran, after every step, leaves ``[T, B, ...]``.
    """

    policy: Any
    values: Any
    aux_values: Any
    states: dict[str, Any]

    def last_memory(self, memory: dict[str, Any]) -> dict[str, Any]:
        """Memories ``[B, ...]`` after the last step; of networks that did not run, as given."""
        return memory | {name: last_state(states) for name, states in self.states.items()}


@dataclasses.dataclass(frozen=True)
class Agent:
    """The networks of an architecture as pure functions of their parameters.

    Parameters are ``{"policy_net": ..., "value_net": ...}``, the second only where the value
    function has a network of its own. Everything is time-major: inputs ``[T, B, ...]``, memories
    ``[B, ...]`` as they are before the first step.
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
        beside = previous_step(self.action, no_step(self.action, self.network.recall or (), (1, 1)))
        starts, memory = jnp.ones((1, 1), jnp.bool_), self.initial_memory(1)
        keys = jax.random.split(key, len(self._branches))
        return {
            name: branch.init(k, x, beside, starts, memory[name])["params"]
            for k, (name, branch) in zip(keys, self._branches.items(), strict=True)
        }

    def initial_memory(self, num_envs: int) -> dict[str, Any]:
        """Memories of all networks before any observation, leaves ``[num_envs, ...]``."""
        memory = MEMORIES[self.network.memory](self.network)
        return {name: memory.initial_state(num_envs) for name in self._branches}

    def _input_shape(self) -> tuple[int, ...]:
        categories = self.observation.categories
        if categories is not None:
            return (sum(categories),)
        return picture_shape(self.network, self.observation)

    def _read(self, obs: chex.Array, obs_stats: RunningStats | None) -> chex.Array:
        """Stored observations as the encoders take them: float32, scaled or standardised."""
        categories = self.observation.categories
        if categories is not None:
            return _one_hot(obs, categories, self.observation.shape)
        if obs_stats is not None:
            x = standardize(obs_stats, obs)
        else:
            x = obs.astype(jnp.float32)
            x = x if self.observation.scale == 1.0 else x * (1.0 / self.observation.scale)
        turned = picture_shape(self.network, self.observation) != self.observation.shape
        return jnp.moveaxis(x, -3, -1) if turned else x

    def unroll(
        self,
        params: dict[str, Any],
        obs_stats: RunningStats | None,
        inputs: Inputs,
        memory: dict[str, Any],
        wanted: tuple[str, ...],
        *,
        detach_value: bool = False,
        burn_in: int = 0,
        bptt_steps: int | None = None,
        live: LiveComponents | None = None,
    ) -> AgentOutput:
        """Runs the networks that ``wanted`` heads need, each once, over a sequence.

        Args:
          params: of all networks.
          obs_stats: frozen statistics of observations, or None.
          inputs: what they see, ``[T, B, ...]``.
          memory: of all networks before the first step, leaves ``[B, ...]``.
          wanted: some of ``POLICY``, ``VALUE``, ``AUX_VALUE``.
          detach_value: the value head sees a stopped gradient, where it shares an encoder.
          burn_in: steps that only bring memories up to date; left out of the outputs.
          bptt_steps: how far gradients go back through memories (``unroll_memory``).
          live: the order that observations are in, of ``sort_observations``; None: their own.

        Returns:
          The wanted outputs of ``T - burn_in`` steps, and states of the networks that ran.
        """
        x = inputs.obs if live is not None else self._read(inputs.obs, obs_stats)
        beside = previous_step(self.action, inputs.recalled)
        outputs: dict[str, Any] = {}
        states: dict[str, Any] = {}
        running = {
            name: heads
            for name, branch in self._branches.items()
            if (heads := tuple(head for head in branch.heads if head in wanted))
        }
        products = self._first_products(params, x, beside, list(running), live)
        for name, heads in running.items():
            apply = functools.partial(self._branches[name].apply, {"params": params[name]})
            remember: Any = functools.partial(apply, method="remember")
            summaries, states[name] = unroll_memory(
                remember,
                apply(x, beside, products[name], method="encode"),
                inputs.starts,
                memory[name],
                burn_in=burn_in,
                bptt_steps=bptt_steps,
            )
            given: Any = apply(summaries, heads, detach_value, method="decide")
            outputs |= given
        return AgentOutput(outputs.get(POLICY), outputs.get(VALUE), outputs.get(AUX_VALUE), states)

    def _first_products(
        self,
        params: dict[str, Any],
        x: chex.Array,
        beside: chex.Array | None,
        names: list[str],
        live: LiveComponents | None,
    ) -> dict[str, dict[str, chex.Array]]:
        """For each network what its encoder need not compute itself.

        Two MLPs read the same observations: their first layers, mostly the largest, are one
        matrix product. What observations never set is left out of it, where that is known.
        """
        if self.network.encoder != "mlp" or (len(names) < 2 and live is None):
            return {name: {} for name in names}
        dtype = self.network.compute_dtype
        x = x.reshape(math.prod(x.shape[:2]), -1)
        if beside is not None:
            beside = beside.reshape(len(x), -1).astype(dtype)

        def multiply(kernel: chex.Array) -> chex.Array:
            kernel = kernel.astype(dtype)
            if live is None:
                return flat(x.astype(dtype), beside) @ kernel
            product = live_product(live, x, kernel[: x.shape[1]])
            return product if beside is None else product + beside @ kernel[x.shape[1] :]

        kernels = [params[name]["encoder"]["dense_0"]["kernel"] for name in names]
        products = joined_products(multiply, kernels)
        return {
            name: {"first_product": product} for name, product in zip(names, products, strict=True)
        }

    def unsorted(self, obs_stats: RunningStats | None) -> LiveComponents | None:
        """The order of observations before any was sorted; None where sorting does not pay.

        It pays on CPU for long binary observations that an MLP reads as they are: the products of
        its first layer are most of the work.
        """
        components = math.prod(self.observation.shape)
        pays = (
            jax.default_backend() == "cpu"
            and self.network.encoder == "mlp"
            and self.observation.dtype == jnp.bool_
            and components >= MIN_COMPONENTS
            and obs_stats is None
        )
        return none_live(components) if pays else None

    def sort_observations(
        self, live: LiveComponents | None, obs: chex.Array
    ) -> tuple[LiveComponents | None, chex.Array]:
        """Stored observations ``[T, B, ...]``, sorted ``[T, B, F]`` for ``unroll``.

        Args:
          live: what was set in all that were sorted before; None (of ``unsorted``): they stay as
            they are.
          obs: in their own order.

        Returns:
          The order that these are in, and with them all before, and the observations in it.
        """
        if live is None:
            return None, obs
        return sort_components(live, obs.reshape(*obs.shape[:2], -1))

    def step(
        self,
        params: dict[str, Any],
        obs_stats: RunningStats | None,
        inputs: Inputs,
        memory: dict[str, Any],
        wanted: tuple[str, ...],
    ) -> AgentOutput:
        """``unroll`` for a single step: inputs ``[B, ...]``, outputs and states ``[B, ...]``."""
        inputs = jax.tree.map(lambda x: x[None], inputs)
        out = self.unroll(params, obs_stats, inputs, memory, wanted)
        return jax.tree.map(lambda x: x[0], out)

    def noise(self, key: chex.PRNGKey, num_envs: int) -> Any:
        """What is random about the actions in B environments, for ``Distribution.choose``."""
        out = jax.ShapeDtypeStruct((num_envs, sum(self.action.sizes)), jnp.float32)
        return jax.eval_shape(lambda x: make_policy(self.action, x, x[0]), out).noise(key)

    def shared_part(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Of a tree shaped like the parameters, what policy and auxiliary value head both read."""
        return {k: v for k, v in tree["policy_net"].items() if k in ("encoder", "memory")}

    def with_shared_part(self, tree: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
        """The tree with another shared part."""
        return tree | {"policy_net": tree["policy_net"] | part}

    def split_value_part(self, tree: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parts a tree shaped like the parameters into the policy's and the value function's.

        The second holds the value network, or the value head where an encoder is shared.
        """
        if self.architecture.value_net:
            return {"policy_net": tree["policy_net"]}, {"value_net": tree["value_net"]}
        rest = {k: v for k, v in tree["policy_net"].items() if k != VALUE}
        return {"policy_net": rest}, {"policy_net": {VALUE: tree["policy_net"][VALUE]}}


def _one_hot(obs: chex.Array, categories: tuple[int, ...], shape: tuple[int, ...]) -> chex.Array:
    """Whole numbers ``[..., *shape]`` as a row for each observation, ``[..., sum(categories)]``."""
    if not shape:
        return jax.nn.one_hot(obs, categories[0])
    flat = obs.reshape(*obs.shape[: obs.ndim - len(shape)], -1)
    columns = [jax.nn.one_hot(flat[..., i], n) for i, n in enumerate(categories)]
    return jnp.concatenate(columns, axis=-1)


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
