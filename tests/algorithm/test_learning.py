"""The default configuration learns what it promises."""

import dataclasses

import pytest

from ppg_jax import backend
from ppg_jax.config.yaml_files import load_config
from ppg_jax.runs.run import run

pytestmark = pytest.mark.slow


def test_cartpole_within_half_a_million_steps(monkeypatch):
    # It runs for longer than it compiles.
    level = (("xla_backend_optimization_level", "1"),)
    as_shipped = dataclasses.replace(backend.CPU, compiler_options=level)
    monkeypatch.setitem(backend._BY_PLATFORM, "cpu", as_shipped)
    config = load_config("cartpole")
    assert config.total_timesteps <= 500_000
    assert run(config, progress=False).final_returns.mean() >= 475
