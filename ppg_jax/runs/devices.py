"""Resuming where there are fewer devices than before: those that are there are used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ppg_jax.backend import this_backend
from ppg_jax.config import Config, config_from_dict, merge
from ppg_jax.execution import devices_here, use_all_cores


@dataclass(frozen=True)
class Fewer:
    """What changes because there are fewer devices.

    Attributes:
      changes: fields with their new values.
      notes: messages for the user, one line each.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fewer_devices(before: Config, given: Mapping[str, Any]) -> Fewer:
    """Lowers what a run's ``config.yaml`` says of devices to what there is.

    Only fields that are not given now are lowered: what a user asks for is refused if there is not
    enough of it. The number of groups of environments stays, so results change by rounding at most.
    On accelerators the strategy is chosen again, because each device now holds more seeds.

    Args:
      before: configuration of the run so far.
      given: fields that are given now.

    Raises:
      ConfigError: a given field is invalid.
    """
    use_all_cores()
    free = {name: None for name in ("devices", "devices_per_seed") if name not in given}
    wanted = config_from_dict(merge(before.to_dict() | {"env": before.env} | free, given))
    most = wanted.devices  # if it is given
    changes: dict[str, Any] = {}
    if "devices_per_seed" in free and before.devices_per_seed is not None:
        here = devices_here(wanted.replace(devices=None, devices_per_seed=before.devices_per_seed))
        each = min(before.devices_per_seed, most or here, here)
        # The groups decide which numbers come out, so only their divisors are possible.
        changes["devices_per_seed"] = max(d for d in range(1, each + 1) if before.groups % d == 0)
    if "devices" in free and before.devices is not None:
        per_seed = changes.get("devices_per_seed", wanted.devices_per_seed)
        here = devices_here(wanted.replace(devices=None, devices_per_seed=per_seed))
        whole = min(before.devices, here) // (per_seed or 1) * (per_seed or 1)
        changes["devices"] = whole or None
    changes = {name: value for name, value in changes.items() if getattr(before, name) != value}
    if not changes:
        return Fewer()
    note = ", ".join(f"{name} {value} instead of {getattr(before, name)}"
                     for name, value in changes.items())  # fmt: skip
    if not this_backend().threads and not {"strategy", "chunk_size"} & set(given):
        changes |= {"strategy": "auto", "chunk_size": None}
    return Fewer(changes, (f"there are fewer devices than before: {note}",))
