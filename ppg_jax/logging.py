"""What a logger of one's own must offer: ppg_jax.run(config, log=[MyLogger()])."""

from ppg_jax.runs.loggers import Logger

__all__ = ["Logger"]
