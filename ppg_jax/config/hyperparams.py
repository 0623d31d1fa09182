"""The numbers that may be traced."""

from typing import Annotated

from flax import struct
from pydantic import Field

from ppg_jax.config.fields import STRICT, Real


@struct.dataclass
class Hyperparams:
    """The numbers that may be traced: one compiled program serves every value of them.

    A pytree of scalars. To map over some of them, let ``vmap`` spread the others:
    ``jax.vmap(lambda b: config.hparams.replace(beta_clone=b))(jnp.array([0.5, 1.0]))``. Ranges are
    checked where a ``Config`` is made of it.
    """

    __pydantic_config__ = STRICT

    learning_rate: Annotated[
        Real, Field(ge=0, description="Adam step size of the policy phase.")
    ] = 5e-4
    aux_learning_rate: Annotated[
        Real, Field(ge=0, description="Adam step size of the auxiliary phase.")
    ] = 5e-4
    gamma: Annotated[Real, Field(ge=0, le=1, description="Discount per step.")] = 0.999
    gae_lambda: Annotated[
        Real, Field(ge=0, le=1, description="Lambda of generalised advantage estimation.")
    ] = 0.95
    clip_eps: Annotated[
        Real, Field(ge=0, description="Range of the clipped surrogate; 0: no clip.")
    ] = 0.2
    kl_penalty: Annotated[
        Real,
        Field(ge=0, description="Weight of 0.5 mean (log ratio)^2; 1 with clip_eps 0: PPG-KL."),
    ] = 0.0
    entropy_coef: Annotated[Real, Field(ge=0, description="Weight of the entropy bonus.")] = 0.01
    value_coef: Annotated[
        Real, Field(ge=0, description="Weight of the value loss in the policy phase.")
    ] = 0.5
    value_clip_eps: Annotated[
        Real, Field(ge=0, description="Range of the clipped value loss; 0: no clip.")
    ] = 0.0
    beta_clone: Annotated[
        Real, Field(ge=0, description="Weight of KL(old || new policy) in the auxiliary phase.")
    ] = 1.0
    clone_kl_target: Annotated[
        Real, Field(gt=0, description="KL that adapt_beta_clone aims at, in nats.")
    ] = 0.01
    max_grad_norm: Annotated[
        Real, Field(ge=0, description="Global gradient norm is cut to this; 0: not cut.")
    ] = 0.0
    reward_norm_gamma: Annotated[
        Real, Field(ge=0, le=1, description="Discount of the sums that scale the rewards.")
    ] = 0.99
    adam_eps: Annotated[Real, Field(gt=0, description="Adam's epsilon, both optimizers.")] = 1e-8
