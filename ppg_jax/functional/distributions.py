"""Action distributions as pytrees: sampling, log-probability, entropy and exact KL.

Every class has the same methods. ``[...]`` stands for the batch axes. A distribution is a
pytree of its parameters, so it can be stored, indexed and stacked like any array.
"""

import dataclasses
import math
from typing import Any, Protocol, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np

_LOG_2PI = math.log(2.0 * math.pi)


class Distribution(Protocol):
    """The methods that the algorithm calls on a policy's output."""

    def noise(self, key: chex.PRNGKey) -> Any:
        """The random part of a sample. It depends on the shapes and dtypes only."""

    def choose(self, noise: Any) -> chex.Array:
        """The action for given noise, ``[..., *event]``."""

    def sample(self, key: chex.PRNGKey) -> chex.Array:
        """One action for each batch entry, ``[..., *event]``."""
        return self.choose(self.noise(key))

    def mode(self) -> chex.Array:
        """The most probable action, ``[..., *event]``."""

    def as_stored(self) -> Self:
        """The same distribution in the form that costs least when it is used many times."""
        return self

    def log_prob(self, actions: chex.Array) -> chex.Array:
        """Log-probability (density) of actions ``[..., *event]``, summed to ``[...]``."""

    def entropy(self) -> chex.Array:
        """Entropy in nats, ``[...]``."""

    def kl(self, other: Self) -> chex.Array:
        """Exact ``KL(self || other)`` in nats, ``[...]``."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical(Distribution):
    """One choice among A actions.

    Attributes:
      logits: log-probabilities, up to a constant for each batch entry, ``[..., A]``.
      normalized: whether that constant is 0.
    """

    logits: chex.Array
    normalized: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def log_probs(self) -> chex.Array:
        """Normalised log-probabilities, ``[..., A]``."""
        return self.logits if self.normalized else jax.nn.log_softmax(self.logits)

    def as_stored(self) -> "Categorical":
        """The same distribution, normalised once for all later uses."""
        return Categorical(self.log_probs, normalized=True)

    @classmethod
    def from_logits(cls, logits: chex.Array, legal: chex.Array | None = None) -> "Categorical":
        """From unnormalised logits ``[..., A]``; computed in float32.

        Illegal actions (bool ``legal [..., A]`` is false) have probability 0: they are never
        chosen, and entropy and KL are those of the legal ones. If none is legal, all are.
        """
        logits = logits.astype(jnp.float32)
        if legal is not None:
            legal = legal | ~legal.any(-1, keepdims=True)
            logits = jnp.where(legal, logits, -jnp.inf)
        return cls(logits)

    def noise(self, key: chex.PRNGKey) -> chex.Array:
        return jax.random.gumbel(key, self.logits.shape, self.logits.dtype)

    def choose(self, noise: chex.Array) -> chex.Array:
        # Normalising would not change which is largest, and costs an operation in the rollout.
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def mode(self) -> chex.Array:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, actions: chex.Array) -> chex.Array:
        chosen = jax.nn.one_hot(actions, self.logits.shape[-1], dtype=jnp.bool_)
        # A sum over a mask: gathers are slow inside loops on CPU, and A is small.
        return jnp.where(chosen, self.log_probs, 0.0).sum(-1)

    def entropy(self) -> chex.Array:
        log_probs = self.log_probs
        return -_expectation(log_probs, log_probs)

    def kl(self, other: "Categorical") -> chex.Array:
        log_probs = self.log_probs
        return _expectation(log_probs, log_probs - other.log_probs)


def _expectation(log_probs: chex.Array, x: chex.Array) -> chex.Array:
    """``sum p x`` over the last axis; impossible outcomes count as 0."""
    possible = log_probs > -jnp.inf
    return jnp.where(possible, jnp.exp(log_probs) * jnp.where(possible, x, 0.0), 0.0).sum(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiCategorical(Distribution):
    """Several independent choices at once; actions are ``[..., K]``.

    Attributes:
      parts: a ``Categorical`` for each of the K choices.
    """

    parts: tuple[Categorical, ...]

    @classmethod
    def from_logits(
        cls, logits: chex.Array, sizes: tuple[int, ...], legal: chex.Array | None = None
    ) -> "MultiCategorical":
        """From concatenated logits ``[..., sum(sizes)]``, and a mask of the same shape."""
        bounds = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        pieces = jnp.split(logits, bounds, axis=-1)
        masks: list[Any] = [None] * len(sizes)
        if legal is not None:
            masks = jnp.split(legal, bounds, axis=-1)
        parts = zip(pieces, masks, strict=True)
        return cls(tuple(Categorical.from_logits(piece, mask) for piece, mask in parts))

    def as_stored(self) -> "MultiCategorical":
        return MultiCategorical(tuple(part.as_stored() for part in self.parts))

    def noise(self, key: chex.PRNGKey) -> tuple[chex.Array, ...]:
        keys = jax.random.split(key, len(self.parts))
        return tuple(part.noise(k) for part, k in zip(self.parts, keys, strict=True))

    def choose(self, noise: tuple[chex.Array, ...]) -> chex.Array:
        pairs = zip(self.parts, noise, strict=True)
        return jnp.stack([part.choose(of_it) for part, of_it in pairs], axis=-1)

    def mode(self) -> chex.Array:
        return jnp.stack([part.mode() for part in self.parts], axis=-1)

    def log_prob(self, actions: chex.Array) -> chex.Array:
        terms = [part.log_prob(actions[..., i]) for i, part in enumerate(self.parts)]
        return jnp.stack(terms).sum(0)

    def entropy(self) -> chex.Array:
        return jnp.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: "MultiCategorical") -> chex.Array:
        pairs = zip(self.parts, other.parts, strict=True)
        return jnp.stack([mine.kl(theirs) for mine, theirs in pairs]).sum(0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiagGaussian(Distribution):
    """Independent normal distributions; actions are ``[..., A]``.

    Attributes:
      mean: ``[..., A]``.
      log_std: ``[..., A]``.
    """

    mean: chex.Array
    log_std: chex.Array

    def noise(self, key: chex.PRNGKey) -> chex.Array:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def choose(self, noise: chex.Array) -> chex.Array:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> chex.Array:
        return self.mean

    def log_prob(self, actions: chex.Array) -> chex.Array:
        z = (actions - self.mean) * jnp.exp(-self.log_std)
        return (-0.5 * jnp.square(z) - self.log_std - 0.5 * _LOG_2PI).sum(-1)

    def entropy(self) -> chex.Array:
        return (self.log_std + 0.5 * (1.0 + _LOG_2PI)).sum(-1)

    def kl(self, other: "DiagGaussian") -> chex.Array:
        gap = self.log_std - other.log_std
        shift = jnp.square((self.mean - other.mean) * jnp.exp(-other.log_std))
        return (0.5 * (jnp.exp(2.0 * gap) + shift - 1.0) - gap).sum(-1)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
"""Points and weights of Gauss-Hermite quadrature for a standard normal."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TanhGaussian(DiagGaussian):
    """Normal distributions passed through tanh, for actions between -1 and 1.

    Actions are handed around as they are before tanh, ``u [..., A]``: the environment's adapter
    applies tanh. So ``tanh`` never has to be inverted, and log-probabilities are exact.

    The log-probability is the density of ``tanh(u)``. The KL is that of the normals, exactly,
    because tanh is invertible. The entropy has no closed form; quadrature with 32 points gives it
    with an error below 1e-5 nats for standard deviations up to 1, 1e-3 up to 2, and 0.03 up to 5.
    ``mode`` is the median, tanh of the mean: the density may be higher close to -1 and 1.
    """

    def log_prob(self, actions: chex.Array) -> chex.Array:
        return super().log_prob(actions) - _log_slope(actions).sum(-1)

    def entropy(self) -> chex.Array:
        nodes = jnp.asarray(_NODES, self.mean.dtype)
        weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), self.mean.dtype)
        u = self.mean[..., None] + jnp.exp(self.log_std)[..., None] * nodes
        return super().entropy() + (_log_slope(u) * weights).sum((-2, -1))

    def kl(self, other: "DiagGaussian") -> chex.Array:
        return super().kl(other)


def _log_slope(u: chex.Array) -> chex.Array:
    """``log(1 - tanh(u)^2)``, without overflow for large ``u``."""
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
