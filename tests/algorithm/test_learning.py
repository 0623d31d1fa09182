"""The default configuration learns what it promises."""

import pytest

from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution import backend
from ppg_jax.runs.run import run

pytestmark = pytest.mark.slow


def test_cartpole_within_half_a_million_steps(monkeypatch):
    monkeypatch.setattr(backend, "LLVM_LEVEL", "1")  # it runs for longer than it compiles
    config = load_config("cartpole")
    assert config.total_timesteps <= 500_000
    assert run(config, progress=False).final_returns.mean() >= 475
