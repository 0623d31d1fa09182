"""Tests run on CPU, and every warning is an error (pyproject.toml)."""

import os

# Must stand before JAX starts. The programs are tiny and run once, so LLVM need not try hard.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
