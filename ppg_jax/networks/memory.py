"""Memories between encoder and heads. To add one, write a class and name it in MEMORIES."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.config import NetworkConfig
from ppg_jax.networks.layers import ACTIVATIONS
from ppg_jax.networks.recurrence import at_start, gru_cell, linear_recurrence, lstm_cell, recur

State = Any

Bias = tuple[float, ...]
"""For each gate the factor (1, 0 or -1) of its bias: the logarithm of a time constant."""
_LSTM_BIAS: Bias = (-1.0, 1.0, 0.0, 0.0)  # input, forget, candidate, output
_GRU_BIAS: Bias = (0.0, 1.0, 0.0)  # reset, keep, candidate


class NoMemory(nn.Module):
    """No memory: the policy sees the current observation only.

    Every memory has these two methods. ``initial_state`` must not depend on parameters, and is all
    zeros. ``__call__`` unrolls a whole sequence, of length 1 while acting. It resets the state to
    the initial one where ``starts`` is true: there an observation begins an episode.

    Attributes:
      config: resolved configuration, with the memory's sizes.
    """

    config: NetworkConfig

    @nn.nowrap
    def initial_state(self, num_envs: int) -> State:
        """State before any observation, leaves ``[num_envs, ...]``."""
        del num_envs
        return ()

    def __call__(
        self, features: chex.Array, starts: chex.Array, state: State
    ) -> tuple[chex.Array, State]:
        """``features [T, B, F]``, ``starts [T, B]``, ``state`` leaves ``[B, ...]``.

        Returns:
          Summaries ``[T, B, F']`` and the states after every step, leaves ``[T, B, ...]``.
        """
        del starts
        return features, state


class _Gated(nn.Module):
    """Common parts of the gated memories."""

    config: NetworkConfig

    @property
    def size(self) -> int:
        """Number of units of the state."""
        assert self.config.memory_size is not None  # resolved
        return self.config.memory_size

    @nn.nowrap
    def initial_state(self, num_envs: int) -> State:
        """Hidden state."""
        return {"hidden": jnp.zeros((num_envs, self.size))}

    def _gates(self, features: chex.Array, bias: Bias, gates: int) -> tuple[chex.Array, chex.Array]:
        """The features' part of every gate ``[T, B, gates * size]``, and the recurrent weights.

        The features' part is one matrix product over the whole sequence. Only the recurrent
        product runs step by step.
        """
        signs = jnp.repeat(jnp.array(bias, jnp.float32), self.size)

        def bias_init(key: chex.PRNGKey, *_: Any) -> chex.Array:
            return signs * jnp.tile(self._log_time_constants(key), gates)

        def recurrent_init(key: chex.PRNGKey) -> chex.Array:
            keys = jax.random.split(key, gates)
            blocks = [nn.initializers.orthogonal()(k, (self.size, self.size)) for k in keys]
            return jnp.concatenate(blocks, axis=1)

        drive = nn.Dense(gates * self.size, bias_init=bias_init, name="input")(features)
        return drive, self.param("recurrent", recurrent_init)

    def _log_time_constants(self, key: chex.PRNGKey) -> chex.Array:
        """Biases with which gates forget over 1 to ``memory_horizon`` steps, ``[size]``.

        The time constants are uniformly random (Tallec & Ollivier 2018, arXiv:1804.11188). So
        gradients reach that far back from the first update on. Gates with usual biases forget
        within a few steps.
        """
        horizon = self.config.memory_horizon
        assert horizon is not None  # resolved
        return jnp.log(jax.random.uniform(key, (self.size,), minval=1.0, maxval=float(horizon)))


class Lstm(_Gated):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735)."""

    @nn.nowrap
    def initial_state(self, num_envs: int) -> State:
        """Cell and hidden state."""
        zeros = jnp.zeros((num_envs, self.size))
        return {"cell": zeros, "hidden": zeros}

    @nn.compact
    def __call__(
        self, features: chex.Array, starts: chex.Array, state: State
    ) -> tuple[chex.Array, State]:
        drive, kernel = self._gates(features, _LSTM_BIAS, 4)
        states = recur(lstm_cell, kernel, drive, starts, state)
        return states["hidden"], states


class Gru(_Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078)."""

    @nn.compact
    def __call__(
        self, features: chex.Array, starts: chex.Array, state: State
    ) -> tuple[chex.Array, State]:
        drive, kernel = self._gates(features, _GRU_BIAS, 3)
        states = recur(gru_cell, kernel, drive, starts, state)
        return states["hidden"], states


class MinGru(_Gated):
    """A gated unit whose gates see the features only (Feng et al. 2024, arXiv:2410.01201).

    ``h_t = z_t h_{t-1} + sqrt(1 - z_t^2) c_t`` is linear in the state. So a whole sequence is one
    associative scan, with as many steps as the logarithm of its length. The square root is RG-LRU's
    weight (De et al. 2024, arXiv:2402.19427). It replaces ``1 - z_t``, with which a state that is
    kept for a hundred steps would take in only a hundredth of each input. A dense layer then reads
    state and features together.
    """

    @nn.compact
    def __call__(
        self, features: chex.Array, starts: chex.Array, state: State
    ) -> tuple[chex.Array, State]:
        def bias_init(key: chex.PRNGKey, *_: Any) -> chex.Array:
            return self._log_time_constants(key)

        logit = nn.Dense(self.size, bias_init=bias_init, name="keep")(features)
        candidate = jnp.tanh(nn.Dense(self.size, name="candidate")(features))
        keep = jax.nn.sigmoid(logit)
        # 1 - z^2 = (1 - z)(1 + z); log(1 - z) keeps its gradient where 1 - z rounds to 0.
        weight = jnp.exp(0.5 * jax.nn.log_sigmoid(-logit)) * jnp.sqrt(1.0 + keep)
        keep = jnp.where(starts[..., None], 0.0, keep)
        hidden = linear_recurrence(keep, weight * candidate, state["hidden"])
        out = nn.Dense(self.size, kernel_init=nn.initializers.orthogonal(2**0.5), name="out")
        summary = out(jnp.concatenate([hidden, features], axis=-1))
        summary = ACTIVATIONS[self.config.activation](summary)
        return summary, {"hidden": hidden}


class History(_Gated):
    """At every step an LSTM summarises the last ``history_length`` steps, starting from zero.

    This is Pearl's history summary (Zhu et al. 2023, arXiv:2312.03814). A summary does not depend
    on anything before its window. The window holds encoded steps. By default these include the
    previous action (``network.recall``).
    """

    @nn.nowrap
    def initial_state(self, num_envs: int) -> State:
        """The window without the current step: features and episode starts, the oldest first."""
        length, widths = self.config.history_length, self.config.hidden_sizes
        assert length is not None  # both resolved
        assert widths is not None
        return {
            "features": jnp.zeros((num_envs, length - 1, widths[-1])),
            "starts": jnp.zeros((num_envs, length - 1), jnp.bool_),
        }

    @nn.compact
    def __call__(
        self, features: chex.Array, starts: chex.Array, state: State
    ) -> tuple[chex.Array, State]:
        length, (num_steps, num_envs) = self.config.history_length, starts.shape
        assert length is not None
        seen = {"features": features, "starts": starts}
        seen = jax.tree.map(
            lambda old, x: jnp.concatenate([jnp.moveaxis(old, 1, 0), x]), state, seen
        )
        drive, kernel = self._gates(seen["features"], _LSTM_BIAS, 4)

        def step(carry: State, age: chex.Array) -> tuple[State, None]:
            # The same position in the windows of all steps at once.
            now = jax.lax.dynamic_slice_in_dim(drive, age, num_steps)
            start = jax.lax.dynamic_slice_in_dim(seen["starts"], age, num_steps)
            carry = at_start(start, carry)
            return lstm_cell(now, carry["hidden"] @ kernel, carry), None

        zeros = jnp.zeros((num_steps, num_envs, self.size))
        last, _ = jax.lax.scan(step, {"cell": zeros, "hidden": zeros}, jnp.arange(length))
        window = jnp.arange(num_steps)[:, None] + jnp.arange(1, length)[None]
        return last["hidden"], jax.tree.map(lambda x: jnp.moveaxis(x[window], 1, 2), seen)


MEMORIES: dict[str, type[nn.Module]] = {
    "none": NoMemory,
    "lstm": Lstm,
    "gru": Gru,
    "mingru": MinGru,
    "history": History,
}


def unroll_memory(
    remember: Callable[..., tuple[chex.Array, State]],
    features: chex.Array,
    starts: chex.Array,
    state: State,
    *,
    burn_in: int = 0,
    bptt_steps: int | None = None,
) -> tuple[chex.Array, State]:
    """Unrolls a memory over a sequence, with limits for the gradients.

    Args:
      remember: a memory's ``__call__``.
      features: ``[T, B, F]``.
      starts: ``[T, B]``.
      state: before the sequence, leaves ``[B, ...]``.
      burn_in: number of first steps that only update the state. They get no gradient and are not
        returned (Kapturowski et al. 2019, R2D2).
      bptt_steps: length of the segments to which backpropagation through time is cut; divides
        ``T - burn_in``. None: the whole sequence.

    Returns:
      Summaries and states of the ``T - burn_in`` steps after the burn-in.
    """
    if not jax.tree.leaves(state):
        return remember(features[burn_in:], starts[burn_in:], state)
    if burn_in:
        _, states = remember(features[:burn_in], starts[:burn_in], state)
        state = jax.lax.stop_gradient(last_state(states))
        features, starts = features[burn_in:], starts[burn_in:]
    num_steps = starts.shape[0]
    if bptt_steps is None or bptt_steps >= num_steps:
        return remember(features, starts, state)

    def segment(state: State, part: tuple[chex.Array, chex.Array]) -> tuple[State, Any]:
        summaries, states = remember(*part, jax.lax.stop_gradient(state))
        return last_state(states), (summaries, states)

    def cut(x: chex.Array) -> chex.Array:
        return x.reshape(num_steps // bptt_steps, bptt_steps, *x.shape[1:])

    _, parts = jax.lax.scan(segment, state, (cut(features), cut(starts)))
    whole: tuple[chex.Array, State]
    whole = jax.tree.map(lambda x: x.reshape(num_steps, *x.shape[2:]), parts)
    return whole


def last_state(states: State) -> State:
    """The last of the states after every step: ``[T, B, ...] -> [B, ...]``."""
    return jax.tree.map(lambda x: x[-1], states)
