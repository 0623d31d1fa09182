"""Compiles one program for one target, and prints what became of it as JSON.

python -m aot.worker SPEC    # SPEC is JSON: program, changes, target, vmapped, loops
"""

import json
import os
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aot.counts import counts
from aot.hlo import Hlo
from aot.loops import from_hlo, from_thunks
from aot.programs import Program, program
from aot.targets import TARGETS, Target, devices, variables

_USED = r"Used ([\d.]+)([KMG]?) of ([\d.]+)([KMG]?)"
_TEMPORARIES = r"temporaries \(([\d.]+)([KMG]?)\) exceeds available HBM \(([\d.]+)([KMG]?)\)"
"""How the compiler for TPUs says that a program is too large: sizes and units of both."""


def compile_for(name: str, made: Program, vmapped: int) -> tuple[Any, dict[str, float]]:
    """The compiled program, and seconds.

    Args:
      name: of the target.
      made: what to compile.
      vmapped: seeds; with one, nothing is vmapped.
    """
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    def train(key: Any) -> Any:  # the dump is found by this name
        return whole(key)

    where = devices(name, made.devices)
    mesh = where and Mesh(np.array(where), ("env",))
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(
        (vmapped,) if vmapped > 1 else (),
        key.dtype,
        sharding=mesh and NamedSharding(mesh, PartitionSpec()),
    )
    began = time.perf_counter()
    whole = jax.vmap(made.train) if vmapped > 1 else made.train
    if made.spec is not None:
        lie = {"in_specs": PartitionSpec(), "out_specs": made.spec(vmapped > 1)}
        whole = jax.shard_map(whole, mesh=mesh, check_vma=False, **lie)
    lowered = jax.jit(train).lower(key)
    traced = time.perf_counter()
    quick = {"xla_backend_optimization_level": "0"}  # LLVM's, which changes no count
    compiled = lowered.compile(None if where else quick)
    seconds = {
        "trace_seconds": round(traced - began, 1),
        "compile_seconds": round(time.perf_counter() - traced, 1),
    }
    return compiled, seconds


def memory(compiled: Any, target: Target, must_hold: int | None) -> dict[str, Any]:
    """What it takes, what it must hold, and whether the device has it."""
    used = compiled.memory_analysis()
    peak = used.peak_memory_in_bytes
    row = {
        "fits": target.memory is None or peak <= target.memory,
        "peak_mib": _mib(peak),
        "temporaries_mib": _mib(used.temp_size_in_bytes),
        "arguments_mib": _mib(used.argument_size_in_bytes),
        "outputs_mib": _mib(used.output_size_in_bytes),
    }
    if must_hold:
        row |= {"must_hold_mib": _mib(must_hold), "over_must_hold": round(peak / must_hold, 2)}
    return row


def too_large(error: Exception, must_hold: int | None) -> dict[str, Any]:
    """The same of a program that the compiler refuses, by what it says.

    Raises:
      Exception: the error, if it is another one.
    """
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        raise error
    sizes = re.search(_USED, text) or re.search(_TEMPORARIES, text)
    row: dict[str, Any] = {"fits": False, "error": text.splitlines()[0][:200]}
    if sizes:
        peak = _bytes(sizes[1], sizes[2])
        row |= {"peak_mib": _mib(peak), "device_mib": _mib(_bytes(sizes[3], sizes[4]))}
        if must_hold:
            row |= {"must_hold_mib": _mib(must_hold), "over_must_hold": round(peak / must_hold, 2)}
    return row


def _bytes(number: str, unit: str) -> float:
    return float(number) * 1024 ** " KMG".index(unit or " ")


def _mib(size: float) -> float:
    return round(size / 2**20, 2)


def dumped(folder: Path, *names: str) -> str:
    """The first of some lists that XLA has written.

    Raises:
      SystemExit: there is none, or it is there more than once.
    """
    for name in names:
        found = list(folder.glob(f"*.{name}.txt"))
        if len(found) == 1:
            return found[0].read_text()
        if found:
            raise SystemExit(f"XLA wrote {len(found)} files {name}.txt where one was expected")
    raise SystemExit(f"XLA wrote no file {names[-1]}.txt: it may name what it dumps otherwise now")


def measure(spec: dict[str, Any], dump: Path) -> dict[str, Any]:
    """Compiles and counts."""
    target, vmapped = TARGETS[spec["target"]], spec["vmapped"]
    made = program(spec["program"], spec["changes"], target.platform)
    must_hold = made.must_hold and made.must_hold * vmapped
    began = time.perf_counter()
    try:
        compiled, seconds = compile_for(spec["target"], made, vmapped)
    except Exception as error:
        refused = too_large(error, must_hold)
        return {"compile_seconds": round(time.perf_counter() - began, 1), **refused}
    hlo = Hlo(compiled.as_text())
    if target.platform == "gpu":
        # The first knows command buffers. Where there are none, only the second is written.
        sequence = dumped(dump, "thunk_sequence_after_thunk_passes", "thunk_sequence")
        loops = from_thunks(hlo, sequence, dumped(dump, "thunk_metadata"))
    else:
        loops = from_hlo(hlo)
    steps = made.env_steps * vmapped
    counted = counts(hlo, loops, made.units, steps, loops=spec["loops"])
    return {**seconds, **memory(compiled, target, must_hold), **counted}


def main(spec: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as dump:
        os.environ.update(variables(TARGETS[spec["target"]], Path(dump)))
        try:
            measured = measure(spec, Path(dump))
        except ValueError as error:
            if type(error).__name__ == "ConfigError":  # its message says enough
                raise SystemExit(str(error)) from None
            raise
        print(json.dumps({"jax": version("jax"), **measured}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
