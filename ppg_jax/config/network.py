"""The shape of the networks."""

from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, Field

from ppg_jax.config.fields import STRICT, Count, Real, Sizes, in_order, with_clear_errors


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class NetworkConfig:
    """The shape of the networks. Every network of an ``arch`` is built alike."""

    encoder: Literal["auto", "mlp", "cnn", "impala"] = Field(
        "auto",
        description="auto: cnn for pictures, otherwise mlp.",
    )
    hidden_sizes: Sizes | None = Field(
        None,
        description="Widths of the mlp's layers, or of the layers after the convolutions; default "
        "mlp 64 64, cnn 128, impala 256.",
    )
    image_layout: Literal["auto", "channels_last", "channels_first"] = Field(
        "auto",
        description="Where the channels of a picture are: [height, width, channels], or channels "
        "first; auto: first where the first axis is shorter than both others and, unless these are "
        "bytes, 1, 3 or 4, and the last is longer than 4.",
    )
    channels: Sizes | None = Field(
        None,
        description="cnn: filters of each 3x3 layer, default 16; impala: of each stack, default "
        "16 32 32.",
    )
    activation: Literal["relu", "tanh", "gelu", "silu", "elu"] = Field(
        "relu", description="Activation between layers (impala is always relu)."
    )
    memory: Literal["none", "lstm", "gru", "mingru", "history"] = Field(
        "none",
        description="History summary between encoder and heads. none: feed-forward; mingru: linear "
        "in its state, trained by a parallel scan; history: an lstm over the last steps only.",
    )
    memory_size: Annotated[Count, Field(ge=1)] | None = Field(
        None, description="Units of the memory; default as wide as the encoder's last layer."
    )
    memory_horizon: Annotated[Count, Field(ge=2)] | None = Field(
        None,
        description="Fresh gates forget over 1 to so many steps, evenly spread; default 32. Choose "
        "it as long as what is to be remembered.",
    )
    history_length: Annotated[Count, Field(ge=1)] | None = Field(
        None, description="Steps that a history summarises, the current one included; default 8."
    )
    recall: (
        Annotated[tuple[Literal["action", "reward", "done"], ...], AfterValidator(in_order)] | None
    ) = Field(
        None,
        description="What is seen of the step before beside the observation (all three: RL^2); "
        "default nothing, with a history the action.",
    )
    init: Literal["auto", "orthogonal", "normed"] = Field(
        "auto",
        description="Initial weights. normed: each unit's fan-in row scaled to a fixed norm, as in "
        "the paper's code; auto: normed for impala, otherwise orthogonal.",
    )
    policy_head_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="Initial scale of the policy head; default 0.01, normed 0.1."
    )
    value_head_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="Initial scale of the value heads; default 1, normed 0.1."
    )
    conv: Literal["auto", "lax", "patches"] = Field(
        "auto",
        description="How a convolution is computed, same parameters and numbers: lax, or patches "
        "and a matrix product; auto: patches on CPU.",
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="What encoders compute in. Parameters, heads, log-probabilities, losses and "
        "statistics are float32 either way.",
    )


with_clear_errors(NetworkConfig)
