"""The accelerators that can be compiled for."""

import dataclasses
from pathlib import Path
from typing import Any

_GIB = 1 << 30
DESCRIPTIONS = Path(__file__).parent.parent / "targets"
"""GPUs, as XLA wants them described."""


@dataclasses.dataclass(frozen=True)
class Target:
    """An accelerator, or the CPU that compiles.

    Attributes:
      platform: ``gpu``, ``tpu`` or ``cpu``: what the package is told.
      memory: of a device, in bytes; None if it does not matter.
      topology: the smallest slice of TPUs.
      package: the extra of JAX that has the compiler.
    """

    platform: str
    memory: int | None = None
    topology: str = ""

    @property
    def package(self) -> str:
        return {"gpu": "cuda12", "tpu": "tpu"}[self.platform]


TARGETS = {
    "h100": Target("gpu", 84_942_979_072),
    "a100": Target("gpu", 85_899_345_920),
    "v5e": Target("tpu", int(15.75 * _GIB), "v5e:2x2"),
    "v5p": Target("tpu", int(95.74 * _GIB), "v5p:2x2x1"),
    "v6e": Target("tpu", int(31.25 * _GIB), "v6e:2x2"),
    "cpu": Target("cpu"),
}
"""Memory is what the compiler lets a program have."""


def variables(target: Target, dump: Path) -> dict[str, str]:
    """The environment in which JAX compiles for it, without opening a device.

    Args:
      target: for what.
      dump: a folder for XLA's list of what a GPU launches.
    """
    chosen = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    if target.platform == "tpu":
        chosen |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    if target.platform == "gpu":
        chosen["XLA_FLAGS"] = (
            f"--xla_gpu_autotune_level=0 --xla_dump_to={dump} --xla_dump_hlo_as_text "
            "--xla_dump_hlo_module_re=.*train.*"
        )
    return chosen


def devices(name: str, count: int) -> list[Any] | None:
    """Devices of a target to compile for; None for the CPU.

    Raises:
      SystemExit: the smallest slice of these TPUs has fewer.
    """
    from jax.experimental import topologies

    target = TARGETS[name]
    if target.platform == "cpu":
        if count > 1:
            raise SystemExit("devices_per_seed: compile for a GPU or TPU, not for the CPU")
        return None
    if target.platform == "tpu":
        described = topologies.get_topology_desc(platform="tpu", topology_name=target.topology)
    else:
        text = (DESCRIPTIONS / f"{name}.txtpb").read_text()
        described = topologies.get_topology_desc(
            platform="cuda", target_config=text, topology=f"1x1x{count}"
        )
    if len(described.devices) < count:
        raise SystemExit(f"{name}: {count} devices are more than {target.topology} has")
    return list(described.devices[:count])
