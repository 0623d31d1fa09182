"""What is stored beside the arrays of a checkpoint, and checked when it is read."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pydantic

from ppg_jax.runs.checkpoints import parts as in_parts

FORMAT = 1
"""Version of the file format. It is raised when checkpoints of older versions become unusable."""

VERSION = version("ppg-jax")


class DamagedError(Exception):
    """A checkpoint that a run cannot resume from.

    Attributes:
      config: fields of the configuration stored in it, or None.
    """

    def __init__(self, reason: str, config: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.config = config


class Metadata(pydantic.BaseModel):
    """The JSON metadata stored with a state. It is validated strictly when it is read.

    Attributes:
      format: version of the file format.
      ppg_jax: version of the package that wrote the checkpoint.
      arrays: name, dtype and shape of every packed array.
      run_seconds: time for running programs so far.
      compile_seconds: time for compiling so far.
      config: fields of the configuration; None: an older version stored none.
      episode_return: mean over the seeds, by which the best checkpoint is chosen; None: no episode
        ended.
      parts: rows and digests, if several processes wrote a part each.
      digest: SHA-256 of the arrays and of the other metadata.
    """

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    format: int
    ppg_jax: str
    arrays: list[tuple[str, str, list[pydantic.NonNegativeInt]]]
    run_seconds: pydantic.NonNegativeFloat
    compile_seconds: pydantic.NonNegativeFloat
    config: dict[str, Any] | None = None
    episode_return: float | None = None
    parts: list[in_parts.Part] | None = None
    digest: str


def digest(packed: np.ndarray, about: Mapping[str, Any]) -> str:
    """Digest of a checkpoint and its metadata, which detects damage."""
    described = json.dumps(about, sort_keys=True).encode()
    return hashlib.sha256(packed.tobytes() + described).hexdigest()


def difference(found: list[Any], wanted: list[Any]) -> str:
    """Message about the first difference between two lists of arrays."""
    shapes = {name: f"{dtype}{shape}" for name, dtype, shape in found}
    for name, dtype, shape in wanted:
        if shapes.get(name) != f"{dtype}{shape}":
            stored = shapes.get(name, "missing")
            return f"{name} is {stored}, but should be {dtype}{shape} for this configuration"
    return "it contains arrays that this configuration does not have"


def check_version(raw: Any) -> None:
    about = raw if isinstance(raw, dict) else {}
    made = about.get("format"), about.get("ppg_jax")
    known = ((FORMAT, VERSION), (in_parts.FORMAT, VERSION))
    if isinstance(made[0], int) and isinstance(made[1], str) and made not in known:
        raise DamagedError(
            f"it was written by ppg_jax {made[1][:40]} (format {made[0]}); this is {VERSION} "
            f"(format {FORMAT}); resume it with the version that wrote it"
        )
