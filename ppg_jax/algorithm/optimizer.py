"""Adam whose learning rate and gradient limit may be traced, over a tree or over one vector."""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ppg_jax.algorithm.ppg import PPG
from ppg_jax.config import Hyperparams
from ppg_jax.kernels import FlatTree, Parts, global_norm

EXACT = 2**24
"""Largest number up to which float32 has every whole number."""


def init_optimizer(params: Any) -> optax.OptState:
    """Adam's state before the first step."""
    return optax.scale_by_adam().init(params)


def scheduled(rate: chex.Numeric, schedule: str, done: chex.Array, total: int) -> chex.Array:
    """A learning rate ``done / total`` of the way through the run.

    Args:
      rate: at the start, scalar.
      schedule: ``constant``, or ``linear`` towards 0. The last iteration or phase still has a
        positive rate.
      done: number of iterations or phases before this one, scalar.
      total: number of iterations or phases of the whole run.
    """
    if schedule == "constant":
        return jnp.asarray(rate, jnp.float32)
    if total > EXACT:  # 1 - done / total would be 0 before the end
        return rate * (jnp.maximum(0, total - done) / total)
    return rate * jnp.maximum(0.0, 1.0 - done / total)


def _shrink(hparams: Hyperparams, norm: chex.Array) -> chex.Array:
    """Factor that brings a gradient below its limit; a limit of 0 is none."""
    limit = jnp.where(hparams.max_grad_norm > 0, hparams.max_grad_norm, jnp.inf)
    return jnp.minimum(1.0, limit / (norm + 1e-12))


@dataclasses.dataclass(frozen=True)
class TreeAdam:
    """Clips the gradient's global norm and takes Adam steps (arXiv:1412.6980), leaf by leaf.

    Between two steps a loop carries what ``begin`` returns.

    Attributes:
      hparams: scalars: the gradient's limit and Adam's epsilon.
      rate: learning rate, scalar.
      parts: parts of the gradient whose norms are wanted.
      split_norms: how norms are summed (``kernels.global_norm``).
    """

    hparams: Hyperparams
    rate: chex.Numeric
    parts: Parts
    split_norms: bool = False

    def begin(self, params: Any, opt_state: optax.OptState) -> Any:
        """What a loop over steps carries."""
        return params, opt_state

    def params(self, carry: Any) -> Any:
        """The parameters."""
        return carry[0]

    def end(self, carry: Any) -> tuple[Any, optax.OptState]:
        """Parameters and the optimizer's state, as they were given to ``begin``."""
        params, opt_state = carry
        return params, opt_state

    def step(self, carry: Any, grads: Any) -> tuple[Any, dict[str, chex.Array]]:
        """One step.

        Args:
          carry: of ``begin`` or of the step before.
          grads: gradient, a tree like the parameters.

        Returns:
          The new carry, and the norms of the parts before clipping, by name.
        """
        params, opt_state = carry
        norms = {k: global_norm(x, split=self.split_norms) for k, x in self.parts(grads).items()}
        shrink = _shrink(self.hparams, global_norm(grads, split=self.split_norms))
        grads = jax.tree.map(lambda g: g * shrink, grads)
        adam = optax.scale_by_adam(eps=self.hparams.adam_eps)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            directions, opt_state = adam.update(grads, opt_state)
        params = jax.tree.map(lambda p, d: p - self.rate * d, params, directions)
        return (params, opt_state), norms


B1, B2 = 0.9, 0.999
"""Adam's decay rates."""


class FlatCarry(NamedTuple):
    """What a loop with ``FlatAdam`` carries: parameters and averages as vectors of ``FlatTree``."""

    params: chex.Array
    mu: chex.Array
    nu: chex.Array
    count: chex.Array


@dataclasses.dataclass(frozen=True)
class FlatAdam:
    """``TreeAdam`` over one vector of all parameters, for accelerators; the same to rounding.

    There each operation is a launch. Over a tree, Adam and the norms have one or more for each
    leaf.

    Attributes:
      hparams: scalars, as in ``TreeAdam``.
      rate: learning rate, scalar.
      flat: how parameters become a vector; its parts are those whose norms are wanted.
    """

    hparams: Hyperparams
    rate: chex.Numeric
    flat: FlatTree

    def begin(self, params: Any, opt_state: Any) -> FlatCarry:
        """As ``TreeAdam.begin``."""
        params, mu, nu = map(self.flat.join, (params, opt_state.mu, opt_state.nu))
        return FlatCarry(params, mu, nu, opt_state.count)

    def params(self, carry: FlatCarry) -> Any:
        """The parameters."""
        return self.flat.split(carry.params)

    def end(self, carry: FlatCarry) -> tuple[Any, optax.OptState]:
        """As ``TreeAdam.end``."""
        params, mu, nu = map(self.flat.split, carry[:3])
        return params, optax.ScaleByAdamState(count=carry.count, mu=mu, nu=nu)

    def step(self, carry: FlatCarry, grads: Any) -> tuple[FlatCarry, dict[str, chex.Array]]:
        """As ``TreeAdam.step``."""
        params, mu, nu, count = carry
        gradient = self.flat.join(grads)
        norm, norms = self.flat.norms(gradient)
        gradient = gradient * _shrink(self.hparams, norm)
        count = optax.safe_increment(count)
        mu = mu + (1.0 - B1) * (gradient - mu)
        nu = nu + (1.0 - B2) * (jnp.square(gradient) - nu)
        # Adam's corrections of both averages, as factors of the rate and of epsilon.
        steps = count.astype(jnp.float32)
        later = jnp.sqrt(1.0 - B2**steps)
        rate, eps = self.rate * later / (1.0 - B1**steps), self.hparams.adam_eps * later
        params = params - rate * mu / (jnp.sqrt(nu) + eps)
        return FlatCarry(params, mu, nu, count), norms


def make_adam(
    ppg: PPG, hparams: Hyperparams, rate: chex.Numeric, params: Any, parts: Parts
) -> TreeAdam | FlatAdam:
    """The optimizer of a loop over minibatches, in the form that suits the backend.

    Args:
      ppg: its backend decides.
      hparams: scalars.
      rate: learning rate, scalar.
      params: parameters; only shapes and dtypes are read.
      parts: parts of the gradient whose norms are wanted, by name.
    """
    floats = all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    if ppg.backend.flat_updates and floats:
        return FlatAdam(hparams, rate, FlatTree.of(params, parts))
    return TreeAdam(hparams, rate, parts, ppg.backend.split_norms)
