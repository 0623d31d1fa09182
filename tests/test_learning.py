"""The default configuration learns what it promises."""

from ppg_jax import parallel
from ppg_jax.files import load_config
from ppg_jax.runner import run


def test_cartpole_within_half_a_million_steps(monkeypatch):
    monkeypatch.setattr(parallel, "LLVM_LEVEL", "1")  # it runs for longer than it compiles
    config = load_config("cartpole", seeds=2)
    assert config.total_timesteps <= 500_000
    assert run(config, progress=False).final_returns.mean() >= 475
