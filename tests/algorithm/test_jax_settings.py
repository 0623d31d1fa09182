"""JAX's own switches for finding mistakes find mistakes, and stop no healthy run."""

import jax
import numpy as np
import pytest

from ppg_jax import Config, evaluate, make_train, run
from ppg_jax.algorithm.initial_state import init
from ppg_jax.cli.main import main
from ppg_jax.execution.evaluation import record_episode

pytestmark = pytest.mark.slow


def small(**changes):
    fields = {
        "env": "tests.probes:ActionMustMatch",
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 5, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


KINDS = {
    "ppg": {},
    "ppo": {"e_aux": 0, "arch": "shared", "gradient_conflict": "project"},
    "separate": {"e_aux": 0, "arch": "separate"},
    "detach": {"arch": "detach", "gradient_conflict": "balance", "adapt_beta_clone": True},
    "samples": {"arch": "single", "minibatch_by": "sample", "normalize_advantages": "minibatch",
                "gradient_conflict": "measure", "lr_schedule": "linear"},
    "lstm": {"normalize_observations": True, "burn_in": 2, "network": {
        "memory": "lstm", "hidden_sizes": (8,), "recall": ["action", "reward", "done"]}},
    "gru": {"bptt_steps": 4, "network": {"memory": "gru", "hidden_sizes": (8,)}},
    "mingru": {"network": {"memory": "mingru", "hidden_sizes": (8,)}},
    "history": {"network": {"memory": "history", "hidden_sizes": (8,)}},
    "continuous": {"env": "tests.probes:HitTheTarget", "e_pi": 2},
    "multi-discrete": {"env": "tests.probes:TwoDials"},
    "images": {"env": "tests.probes:BytePicture", "normalize_observations": True,
               "network": {"encoder": "cnn", "hidden_sizes": (8,)}},
    "impala": {"env": "tests.probes:BytePicture", "network": {
        "encoder": "impala", "channels": [2, 2], "hidden_sizes": (8,),
        "compute_dtype": "bfloat16"}},
    "limits": {"hparams": {"max_grad_norm": 0.5, "value_clip_eps": 0.2, "kl_penalty": 1.0}},
    "partial": {"num_levels": 3, "drop_observations": 0.1, "hide_components": (0,)},
    "tasks": {"episodes_per_task": 2},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_promoted_unseen(kind):
    config = small(**KINDS[kind])

    def play(key):
        state = init(config, key)
        args = config, state.params, state.obs_stats, key
        return evaluate(*args, 3), record_episode(*args, max_steps=3)

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(jax.vmap(make_train(config)), jax.random.split(jax.random.key(0), 2))
        jax.eval_shape(play, jax.random.key(0))


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
