"""One network: an encoder, a memory and heads. It may also read the previous step."""

import functools
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.config import NetworkConfig
from ppg_jax.functional import (
    Categorical,
    DiagGaussian,
    Distribution,
    MultiCategorical,
    TanhGaussian,
)
from ppg_jax.networks.encoders import make_encoder
from ppg_jax.networks.layers import Dense, make_initializer
from ppg_jax.networks.memory import MEMORIES
from ppg_jax.types import ActionSpec, ObservationSpec, Recalled

POLICY, VALUE, AUX_VALUE = "policy_head", "value_head", "aux_value_head"
"""Names of heads."""
POLICY_NET, VALUE_NET = "policy_net", "value_net"
"""Names of networks."""


def make_policy(
    action: ActionSpec,
    out: chex.Array,
    log_std: chex.Array | None = None,
    legal: chex.Array | None = None,
) -> Distribution:
    """The distribution over actions for network outputs ``[..., sum(sizes)]``.

    Args:
      action: the action space.
      out: logits, or means of continuous actions, float32.
      log_std: as ``out``, for continuous actions only.
      legal: which discrete actions are legal, bool as ``out``; None: all.
    """
    if action.kind == "discrete":
        return Categorical.from_logits(out, legal)
    if action.kind == "multi_discrete":
        return MultiCategorical.from_logits(out, action.sizes, legal)
    assert log_std is not None
    return (TanhGaussian if action.squashed else DiagGaussian)(out, log_std)


LOG_STD_RANGE = -20.0, 2.0
"""Limits of a log standard deviation that the network computes, so that it cannot overflow."""


class Policy(NamedTuple):
    """How a policy's actions are distributed.

    Attributes:
      action: the action space.
      state_std: whether the network computes the standard deviations; otherwise they are
        parameters.
      narrow: whether narrow layers are multiplied column by column (``Backend.narrow_heads``).
    """

    action: ActionSpec
    state_std: bool
    narrow: bool = False


class PolicyHead(nn.Module):
    """Features ``[..., F]`` to a distribution over actions, in float32."""

    policy: Policy
    kernel_init: Any

    @nn.compact
    def __call__(self, features: chex.Array, legal: chex.Array | None = None) -> Distribution:
        action, state_std, narrow = self.policy
        width = sum(action.sizes)
        dense = functools.partial(Dense, width, self.kernel_init, narrow=narrow)
        out = dense(name="dense")(features).astype(jnp.float32)
        if action.kind != "continuous":
            return make_policy(action, out, legal=legal)
        if state_std:
            log_std = dense(name="log_std")(features).astype(jnp.float32)
            return make_policy(action, out, jnp.clip(log_std, *LOG_STD_RANGE))
        log_std = self.param("log_std", nn.initializers.zeros_init(), out.shape[-1:])
        return make_policy(action, out, jnp.broadcast_to(log_std, out.shape))


class ValueHead(nn.Module):
    """Features ``[..., F]`` to values ``[...]``, in float32."""

    kernel_init: Any

    @nn.compact
    def __call__(self, features: chex.Array) -> chex.Array:
        out = Dense(1, self.kernel_init, name="dense")(features)
        return out.squeeze(-1).astype(jnp.float32)


class Network(nn.Module):
    """Encoder, memory and some heads, applied in this order."""

    config: NetworkConfig
    observation: ObservationSpec
    policy: Policy
    heads: tuple[str, ...]

    def setup(self) -> None:
        """Attributes give the parameters their names."""
        self.encoder = make_encoder(self.config, self.observation)
        self.memory = MEMORIES[self.config.memory](self.config)
        for name in self.heads:
            setattr(self, name, self._head(name))

    def encode(
        self, x: chex.Array, beside: chex.Array | None, given: dict[str, chex.Array]
    ) -> chex.Array:
        """Features ``[T, B, F]`` of observations and of the previous step ``beside [T, B, E]``."""
        lead = x.shape[:2]
        x = x.reshape(-1, *x.shape[2:])
        if not jnp.issubdtype(x.dtype, jnp.integer):  # category numbers for a user's module stay
            x = x.astype(self.config.compute_dtype)
        if beside is not None:
            beside = beside.reshape(-1, beside.shape[-1])
        return self.encoder(x, beside, **given).astype(jnp.float32).reshape(*lead, -1)

    def remember(
        self, features: chex.Array, starts: chex.Array, state: Any
    ) -> tuple[chex.Array, Any]:
        """Summaries ``[T, B, F']`` and the memory's states after every step."""
        summaries, states = self.memory(features, starts, state)
        return summaries, states

    def decide(
        self,
        summaries: chex.Array,
        wanted: tuple[str, ...],
        legal: chex.Array | None,
        detach_value: bool,
    ) -> dict[str, Any]:
        """Outputs of the wanted heads for the memory's summaries ``[T, B, F]``.

        ``legal``: which actions are legal, bool ``[T, B, sum(sizes)]``; None: all.
        """
        cut = jax.lax.stop_gradient(summaries) if detach_value else summaries
        given: dict[str, tuple[Any, ...]] = {VALUE: (cut,), POLICY: (summaries, legal)}
        return {name: getattr(self, name)(*given.get(name, (summaries,))) for name in wanted}

    def __call__(
        self, x: chex.Array, beside: chex.Array | None, starts: chex.Array, state: Any
    ) -> dict[str, Any]:
        """All parts once, to create their parameters."""
        summaries, _ = self.remember(self.encode(x, beside, {}), starts, state)
        return self.decide(summaries, self.heads, None, False)

    def _head(self, name: str) -> nn.Module:
        normed, c = self.config.init == "normed", self.config
        if name == POLICY:
            init = make_initializer(c.init, c.policy_head_scale or (0.1 if normed else 0.01))
            return PolicyHead(self.policy, init)
        init = make_initializer(c.init, c.value_head_scale or (0.1 if normed else 1.0))
        return ValueHead(init)


def previous_step(action: ActionSpec, recalled: Recalled | None) -> chex.Array | None:
    """The previous step as numbers ``[..., E]``; None if networks do not read it."""
    if recalled is None:
        return None
    parts = []
    if recalled.actions is not None:
        parts.append(_action_numbers(action, recalled.actions))
    if recalled.rewards is not None:
        parts.append(recalled.rewards[..., None])
    if recalled.done is not None:
        parts.append(recalled.done[..., None].astype(jnp.float32))
    return jnp.concatenate(parts, axis=-1)


def _action_numbers(spec: ActionSpec, actions: chex.Array) -> chex.Array:
    """Continuous actions as they act, discrete ones one-hot. Action -1 (none) becomes zeros."""
    if spec.kind == "continuous":
        return jnp.tanh(actions) if spec.squashed else actions
    if spec.kind == "discrete":
        return jax.nn.one_hot(actions, spec.sizes[0])
    columns = [jax.nn.one_hot(actions[..., i], n) for i, n in enumerate(spec.sizes)]
    return jnp.concatenate(columns, axis=-1)
