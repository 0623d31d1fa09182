"""Tests run on CPU, and every warning is an error (pyproject.toml)."""

import os

# Must stand before JAX starts. Cheap compilation: these programs are tiny and run once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
