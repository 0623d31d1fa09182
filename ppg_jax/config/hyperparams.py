"""``Hyperparams``: the numbers of a configuration that JAX may trace."""

from typing import Annotated

from flax import struct
from pydantic import Field

from ppg_jax.config.fields import STRICT, Real


@struct.dataclass
class Hyperparams:
    """Numbers that may be traced: one compiled program works for all their values.

    A pytree of scalars. To vmap over some of them, let ``vmap`` broadcast the others:
    ``jax.vmap(lambda b: config.hparams.replace(beta_clone=b))(jnp.array([0.5, 1.0]))``. Ranges are
    checked only when a ``Config`` is made with them.
    """

    __pydantic_config__ = STRICT

    learning_rate: Annotated[
        Real, Field(ge=0, description="Adam's learning rate in the policy phase.")
    ] = 5e-4
    aux_learning_rate: Annotated[
        Real, Field(ge=0, description="Adam's learning rate in the auxiliary phase.")
    ] = 5e-4
    gamma: Annotated[Real, Field(ge=0, le=1, description="Discount factor per step.")] = 0.999
    gae_lambda: Annotated[
        Real, Field(ge=0, le=1, description="Lambda of generalised advantage estimation.")
    ] = 0.95
    clip_eps: Annotated[
        Real, Field(ge=0, description="Clip range of the policy ratio; 0: no clipping.")
    ] = 0.2
    kl_penalty: Annotated[
        Real,
        Field(
            ge=0,
            description="Weight of the KL penalty, 0.5 mean (log ratio)^2; 1 with clip_eps 0 is "
            "the paper's PPG-KL.",
        ),
    ] = 0.0
    entropy_coef: Annotated[Real, Field(ge=0, description="Weight of the entropy bonus.")] = 0.01
    value_coef: Annotated[
        Real, Field(ge=0, description="Weight of the value loss in the policy phase.")
    ] = 0.5
    value_clip_eps: Annotated[
        Real, Field(ge=0, description="Clip range of the value loss; 0: no clipping.")
    ] = 0.0
    beta_clone: Annotated[
        Real, Field(ge=0, description="Weight of KL(old || new policy) in the auxiliary phase.")
    ] = 1.0
    clone_kl_target: Annotated[
        Real, Field(gt=0, description="Target KL of adapt_beta_clone, in nats.")
    ] = 0.01
    max_grad_norm: Annotated[
        Real, Field(ge=0, description="Limit of the global gradient norm; 0: no clipping.")
    ] = 0.0
    reward_norm_gamma: Annotated[
        Real,
        Field(ge=0, le=1, description="Discount factor of the sums that normalise the rewards."),
    ] = 0.99
    adam_eps: Annotated[Real, Field(gt=0, description="Adam's epsilon, for all optimizers.")] = 1e-8
