"""``NetworkConfig``: the structure of the networks."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from ppg_jax.config.fields import (
    OBJECT,
    STRICT,
    Count,
    FrozenMapping,
    Real,
    Settings,
    Sizes,
    did_you_mean,
    in_order,
    with_clear_errors,
)

ENCODERS = ("auto", "mlp", "cnn", "impala", "nature", "grid", "map")
"""Names of the built-in encoders."""


def encoder_reference(value: Any) -> Any:
    """Checks an encoder: a built-in name, an import path, or anything that is not a text."""
    if isinstance(value, str):
        if value in ENCODERS or ":" in value or value.startswith(OBJECT):
            return value
        known = ", ".join(ENCODERS)
        raise ValueError(
            f"{did_you_mean(value, ENCODERS)}it should be {known}, or package.module:Class"
        )
    if value is None or isinstance(value, bool | int | float | list | tuple | dict):
        raise ValueError(f"it should be {', '.join(ENCODERS)}, or a flax module")
    return value


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class NetworkConfig:
    """The structure of the networks. All networks of an ``arch`` have the same structure."""

    encoder: Annotated[Any, BeforeValidator(encoder_reference)] = Field(
        "auto",
        description="Type of the encoder: mlp, cnn, impala, nature (convolutions with strides, for "
        "larger images), grid (embeds the category numbers of a grid, then convolutions) or map "
        "(convolutions over the map among the parts of an observation); or your own flax module, "
        "as package.module:Class or (from Python) as an object; auto: cnn for images, grid for "
        "grids of categories, otherwise mlp.",
    )
    encoder_kwargs: Settings = Field(
        FrozenMapping(), description="Arguments of your own encoder's constructor, by name."
    )
    embedding_size: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Length of the vector that the grid encoder learns for each category; default "
        "16.",
    )
    hidden_sizes: Sizes | None = Field(
        None,
        description="Widths of the layers of the mlp, or of the layers after the convolutions; "
        "default: mlp 64 64, cnn and grid 128, impala and map 256, nature 512.",
    )
    image_layout: Literal["auto", "channels_last", "channels_first"] = Field(
        "auto",
        description="Position of the channel axis of an image. auto: first if the first axis is "
        "shorter than both others, the last axis is longer than 4, and (except for byte images) "
        "the first axis has length 1, 3 or 4; otherwise last.",
    )
    channels: Sizes | None = Field(
        None,
        description="Filters of each 3x3 layer (cnn, default 16; grid, default 16 32; map, default "
        "32 32), of each layer of nature (at most three, default 32 64 64), or of each stack "
        "(impala, default 16 32 32).",
    )
    activation: Literal["relu", "tanh", "gelu", "silu", "elu"] = Field(
        "relu", description="Activation between layers (impala always uses relu)."
    )
    memory: Literal["none", "lstm", "gru", "mingru", "history"] = Field(
        "none",
        description="Memory between the encoder and the heads. none: feed-forward; mingru: linear "
        "in its state, trained with a parallel scan; history: an lstm over the last "
        "history_length steps only.",
    )
    memory_size: Annotated[Count, Field(ge=1)] | None = Field(
        None, description="Units of the memory; default: the width of the encoder's last layer."
    )
    memory_horizon: Annotated[Count, Field(ge=2)] | None = Field(
        None,
        description="Longest time scale of the memory at initialisation, in steps: the gates of "
        "its units begin with time scales spread evenly from 1 to this; default 32. Choose it as "
        "long as the task must remember.",
    )
    history_length: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Steps that the history memory reads, including the current one; default 8.",
    )
    recall: (
        Annotated[tuple[Literal["action", "reward", "done"], ...], AfterValidator(in_order)] | None
    ) = Field(
        None,
        description="Values of the previous step that the networks read besides the observation "
        "(all three: RL^2); default: none, or the action if memory is history.",
    )
    init: Literal["auto", "orthogonal", "normed"] = Field(
        "auto",
        description="Initial weights. normed: the input weights of each unit are scaled to a fixed "
        "norm, as in the paper's code; auto: normed for impala, otherwise orthogonal.",
    )
    policy_head_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="Initial scale of the policy head; default 0.01, with init normed 0.1."
    )
    value_head_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None, description="Initial scale of the value heads; default 1, with init normed 0.1."
    )
    conv: Literal["auto", "lax", "patches"] = Field(
        "auto",
        description="How convolutions are computed, with the same parameters and results. lax: by "
        "XLA's convolution; patches: as a matrix product of image patches; auto: patches on CPU, "
        "otherwise lax.",
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Dtype in which encoders compute. Parameters, heads, log-probabilities, losses "
        "and statistics are always float32.",
    )


with_clear_errors(NetworkConfig)
