"""Tests run on CPU, and every warning is an error (pyproject.toml)."""

import dataclasses
import gc
import os
import pathlib

# Must stand before JAX starts. The programs are tiny and run once, so LLVM need not try at all.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time is compiling; what has not changed since the last run is not compiled again.
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Two devices wherever the tests run, so that spreading over devices is tested on one core too.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")

from ppg_jax import backend  # noqa: E402

# Tracing makes many objects and few cycles; looking for those after every 700 takes time.
gc.freeze()
gc.set_threshold(50_000, 20, 20)
# Programs of the host as those that tests compile: the bits are compared.
backend.CPU = dataclasses.replace(
    backend.CPU, compiler_options=(("xla_backend_optimization_level", "0"),)
)
backend._BY_PLATFORM["cpu"] = backend.CPU
