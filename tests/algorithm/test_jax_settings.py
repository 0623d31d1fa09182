"""JAX's own switches for finding mistakes find mistakes, and stop no healthy run.

Its rules of promotion are in ``test_x64.py``.
"""

import jax
import numpy as np
import pytest

from ppg_jax import Config, run
from ppg_jax.cli.main import main

pytestmark = pytest.mark.slow


def small(**changes):
    fields = {
        "env": "tests.probes:ActionMustMatch",
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 4, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


def test_a_healthy_run_passes_where_nan_is_looked_for():
    config = small(env="CartPole-v1", normalize_observations=True)
    with jax.debug_nans(True):
        found = run(config, progress=False)
    want = run(config, progress=False)
    for name, x in want.metrics.items():  # what was not measured is NaN again, and all the same
        np.testing.assert_array_equal(found.metrics[name], x, name)
    assert np.isnan(found.metrics["clone_kl"]).any()


def test_a_real_nan_is_found(capsys, monkeypatch):
    argv = ["train", "cartpole", "--hparams.learning-rate", "1e30", "--num-envs", "4"]
    argv += ["--num-steps", "8", "--n-pi", "2", "--total-timesteps", "256", "--quiet"]
    with jax.debug_nans(True):
        assert main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: a program produced nan")
    assert error.count("\n") == 1
