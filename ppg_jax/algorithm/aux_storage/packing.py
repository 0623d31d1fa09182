"""Observations with what is always 0 or 1 as single bits (``aux_storage: packed``)."""

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.envs import AnyEnvironment, Batch, BatchEnvironment, play_randomly
from ppg_jax.functional import Columns, PackedColumns, as_bits
from ppg_jax.kernels import SortedObservations
from ppg_jax.types import Observation, ObservationSpec

PLAY_ENVS, PLAY_STEPS, PLAY_NUMBERS = 16, 256, 2**24
"""Environments and steps of the random play in which columns are found, and how many numbers all
observations together may have; with large ones fewer environments play."""


@dataclasses.dataclass(frozen=True)
class Packing:
    """How stored observations are packed. A part without columns stays as it is.

    Attributes:
      policy: columns of what the policy network reads.
      value: columns of what the value network reads instead.
    """

    policy: Columns | None = None
    value: Columns | None = None

    @property
    def active(self) -> bool:
        """Whether anything is packed as bits."""
        return any(columns is not None and columns.count for columns in (self.policy, self.value))

    def flattened(self, spec: ObservationSpec) -> "Packing":
        """Also observations of several axes that are not packed have one axis.

        A TPU pads the last axes of an array to 8 times 128 or more, which is most of the memory of
        small ones.
        """
        value = None if spec.value is None else _flattened(self.value, spec.value)
        return Packing(_flattened(self.policy, spec), value)

    def pack(self, obs: Any) -> Any:
        """Packs observations ``[..., *shape]``, sorted ones too. Packed ones stay as they are."""
        if isinstance(obs, Observation):
            value = obs.value if obs.value is None else _packed(self.value, obs.value)
            return obs.replace(policy=_packed(self.policy, obs.policy), value=value)
        if isinstance(obs, SortedObservations):
            flat = self.policy and dataclasses.replace(
                self.policy, shape=(len(self.policy.binary),)
            )
            return SortedObservations(_packed(flat, obs.components))
        return _packed(self.policy, obs)

    def lost(self, *observations: Any) -> chex.Array | None:
        """Of how many observations packing would change something, int32 ``[B]``.

        Args:
          observations: leaves ``[B, ...]``.

        Returns:
          The numbers; None if nothing is packed.
        """
        if not self.active:
            return None
        total: Any = 0
        for obs in observations:
            whole = obs if isinstance(obs, Observation) else Observation(obs)
            parts = ((self.policy, whole.policy), (self.value, whole.value))
            lost = [columns.lost(x) for columns, x in parts if columns and columns.count]
            total = total + jnp.stack(lost).any(0).astype(jnp.int32)
        counts: chex.Array = total
        return counts


UNPACKED = Packing()
"""Observations stay as they are."""


def _packed(columns: Columns | None, x: Any) -> Any:
    return x if columns is None or isinstance(x, PackedColumns) else columns.pack(x)


def _flattened(columns: Columns | None, spec: ObservationSpec) -> Columns | None:
    if columns is not None or spec.packed or len(spec.shape) < 2:
        return columns
    return Columns.flat(spec.shape, spec.dtype)


def find_packing(env: AnyEnvironment, envs: Batch) -> Packing:
    """Finds the columns of an environment's observations that are always 0 or 1.

    Flags and one-hot categories are so by their type. If most of an observation is neither, the
    environment is played with random actions. There a column counts if it was both 0 and 1 and
    nothing else. A column that never changed counts if all others of its part are flags or count.
    Training checks every observation, because random play may not show everything.

    Args:
      env: the environment.
      envs: many of them (``as_batch``).

    Returns:
      What to pack. Nothing if observations are packed already (``observation_dtype: mixed``).
    """
    spec, played = env.observation, None
    specs = [s for s in (spec, spec.value) if s is not None]
    outside = isinstance(env, BatchEnvironment)  # perhaps, and then it is not played here
    if not outside and not all(map(_known_are_enough, specs)):
        size = sum(math.prod(s.shape) for s in specs)
        num_envs = max(1, min(PLAY_ENVS, PLAY_NUMBERS // (PLAY_STEPS * size)))
        # It may be called inside a trace, whose tracers must not stay in the cache of ``build``.
        with jax.ensure_compile_time_eval():
            program = jax.jit(lambda key: play_randomly(envs, key, num_envs, PLAY_STEPS).obs)
            played = program(jax.random.key(0))
    seen = played if isinstance(played, Observation) else Observation(played)
    value = None if spec.value is None else _columns(spec.value, seen.value)
    return Packing(_columns(spec, seen.policy), value)


def _columns(spec: ObservationSpec, played: chex.Array | None) -> Columns | None:
    if spec.packed:
        return None
    binary = _known(spec)
    if played is not None and not _known_are_enough(spec):
        binary = _found(spec, np.asarray(as_bits(played)).reshape(-1, binary.size), binary)
    if not binary.any():
        return None
    return Columns(spec.shape, jnp.dtype(spec.dtype).name, tuple(binary.tolist()))


def _known(spec: ObservationSpec) -> np.ndarray[Any, Any]:
    """Columns that are binary by their type, bool ``[F]``."""
    runs = spec.flags or ((spec.dtype == jnp.bool_, math.prod(spec.shape)),)
    which, sizes = zip(*runs, strict=True)
    known: np.ndarray[Any, Any] = np.repeat(which, sizes)
    return known


def _known_are_enough(spec: ObservationSpec) -> bool:
    """Whether packing the other columns too would gain less than half of what remains."""
    if spec.packed:
        return True
    binary = _known(spec)
    others = (~binary).sum() * jnp.dtype(spec.dtype).itemsize
    return bool(others <= binary.sum() / 8)


def _found(
    spec: ObservationSpec, bits: np.ndarray[Any, Any], known: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Columns that are binary in what was played, bool ``[F]``.

    Args:
      spec: what the observations are.
      bits: what was seen, as unsigned integers ``[samples, F]``.
      known: columns that are binary by their type, bool ``[F]``.
    """
    one = np.asarray(as_bits(jnp.ones((), spec.dtype)))
    zeros, ones = (bits == 0), (bits == one)
    only = (zeros | ones).all(0)
    varies = only & zeros.any(0) & ones.any(0)
    found: np.ndarray[Any, Any] = known | varies
    first = 0
    for n in [math.prod(part) for part in spec.parts] or [bits.shape[1]]:
        part = slice(first, first + n)
        if (only[part]).all() and found[part].any():
            found[part] = True
        first += n
    return found
