"""Trunks: encoder and memory of each network, without heads. Several run in few operations."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.kernels import SortedObservations, joined_products, live_product
from ppg_jax.networks import reading
from ppg_jax.networks.encoders import flat
from ppg_jax.networks.memory import unroll_memory
from ppg_jax.networks.network import POLICY_NET, VALUE_NET, Network, previous_step
from ppg_jax.types import ActionSpec, Inputs, NetworkState


@dataclasses.dataclass(frozen=True)
class Unroll:
    """How networks are unrolled over a sequence.

    Attributes:
      heads: wanted heads, some of ``POLICY``, ``VALUE``, ``AUX_VALUE``.
      detach_value: whether the value head's gradient stops before a shared encoder.
      burn_in: number of first steps that only update memories; they have no outputs.
      bptt_steps: length of backpropagation through memories (``unroll_memory``).
    """

    heads: tuple[str, ...]
    detach_value: bool = False
    burn_in: int = 0
    bptt_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Trunks:
    """The trunks of an agent's networks.

    Attributes:
      networks: the networks by name.
      action: spec of the actions, which networks may read (``Recalled``).
      join: whether networks with the same layers run as one (``Backend.joins_networks``).
    """

    networks: Mapping[str, Network]
    action: ActionSpec
    join: bool

    def run(
        self,
        network: NetworkState,
        inputs: Inputs,
        memory: dict[str, Any],
        names: list[str],
        how: Unroll,
    ) -> tuple[dict[str, chex.Array], dict[str, Any]]:
        """Runs some trunks over a sequence.

        Args:
          network: parameters, and how observations are read.
          inputs: what the networks see, ``[T, B, ...]``; observations raw or sorted.
          memory: of all networks before the first step, leaves ``[B, ...]``.
          names: of the networks that run.
          how: limits for gradients, and the burn-in.

        Returns:
          By name: what the heads read, ``[T - burn_in, B, F]``, and the states of the memories
          after every step, leaves ``[T, B, ...]``.
        """
        beside = previous_step(self.action, inputs.recalled)
        seen = self._seen(network, inputs.obs, names)

        def one(name: str, params: Any, state: Any, product: dict[str, chex.Array]) -> Any:
            apply = functools.partial(self.networks[name].apply, {"params": params})
            remember: Any = functools.partial(apply, method="remember")
            features = apply(seen[name], beside, product, method="encode")
            before = features, inputs.starts, state
            return unroll_memory(remember, *before, burn_in=how.burn_in, bptt_steps=how.bptt_steps)

        if self.are_alike(names):
            params, states = (_stacked(tree, names) for tree in (_bodies(network.params), memory))
            # Their layers are the same, so it does not matter which of them is applied.
            together = jax.vmap(lambda p, s: one(names[0], p, s, {}))(params, states)
            made = {n: jax.tree.map(lambda x, i=i: x[i], together) for i, n in enumerate(names)}
        else:
            products = self._first_products(network, seen, beside)
            made = {n: one(n, network.params[n], memory[n], products[n]) for n in names}
        return {n: made[n][0] for n in names}, {n: made[n][1] for n in names}

    def are_alike(self, names: list[str]) -> bool:
        """Whether networks are to run as one, vmapped over their parameters.

        That halves the number of operations, if they have the same layers and read the same. Not
        with convolutions: these would become grouped convolutions, which are slow.
        """
        mlp = self.networks[POLICY_NET].config.encoder == "mlp"
        return self.join and mlp and len(names) > 1 and self._read_the_same()

    def _read_the_same(self) -> bool:
        return self.networks[POLICY_NET].observation.value is None

    def _seen(self, network: NetworkState, obs: Any, names: list[str]) -> dict[str, chex.Array]:
        """What the encoders of some networks read; the same array where they read the same."""
        if isinstance(obs, SortedObservations):
            return dict.fromkeys(names, obs.components)

        def see(name: str) -> chex.Array:
            module, value = self.networks[name], name == VALUE_NET
            part, stats = (reading.part_of(x, value) for x in (obs, network.obs_stats))
            return reading.read(module.config, module.observation, part, stats)

        if self._read_the_same():
            return dict.fromkeys(names, see(names[0]))
        return {name: see(name) for name in names}

    def _first_products(
        self, network: NetworkState, seen: dict[str, chex.Array], beside: chex.Array | None
    ) -> dict[str, dict[str, chex.Array]]:
        """For each network's encoder the product of its first layer, if it is computed here.

        If two MLPs read the same observations, their first layers are one matrix product. They are
        mostly the largest layers. If the components are sorted, the product skips zeros.
        """
        order, names = network.obs_order, list(seen)
        config, x = self.networks[POLICY_NET].config, seen[names[0]]
        joined = len(names) > 1 and self._read_the_same()
        if config.encoder != "mlp" or (not joined and order is None):
            return {name: {} for name in names}
        dtype = config.compute_dtype
        x = x.reshape(math.prod(x.shape[:2]), -1)
        if beside is not None:
            beside = beside.reshape(len(x), -1).astype(dtype)

        def multiply(kernel: chex.Array) -> chex.Array:
            kernel = kernel.astype(dtype)
            if order is None:
                return flat(x.astype(dtype), beside) @ kernel
            product = live_product(order, x, kernel[: x.shape[1]])
            return product if beside is None else product + beside @ kernel[x.shape[1] :]

        kernels = [network.params[name]["encoder"]["dense_0"]["kernel"] for name in names]
        products = joined_products(multiply, kernels)
        return {
            name: {"first_product": product} for name, product in zip(names, products, strict=True)
        }


def _bodies(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of encoders and memories, by the name of the network."""
    parts = ("encoder", "memory")
    return {name: {k: net[k] for k in parts if k in net} for name, net in params.items()}


def _stacked(trees: dict[str, Any], names: list[str]) -> Any:
    """The trees of some networks as one, leaves ``[networks, ...]``."""
    return jax.tree.map(lambda *x: jnp.stack(x), *(trees[name] for name in names))
