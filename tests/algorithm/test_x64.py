"""JAX's stricter rules of promotion, and its 64 bits: everything traces, and gives the same."""

import contextlib

import jax
import numpy as np
import pytest

from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.execution.evaluation import evaluate, record_episode
from tests import probes

pytestmark = pytest.mark.slow

SMALL = {
    "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
    "total_timesteps": 128, "network": {"hidden_sizes": (8,)},
}  # fmt: skip


def memory(name, *recall):
    return {"network": {"hidden_sizes": (8,), "memory": name, "recall": recall}}


def images(encoder, **network):
    network = {"hidden_sizes": (8,), "encoder": encoder, "channels": (4,)} | network
    return {"env": probes.BytePicture(), "network": network}


MOST = {
    "normalize_observations": True, "adapt_beta_clone": True, "gradient_conflict": "measure",
    "normalize_advantages": "minibatch", "lr_schedule": "linear", "aux_lr_schedule": "linear",
}  # fmt: skip
KINDS = {
    "dual": MOST,
    "shared": {"arch": "shared", "e_aux": 0, "gradient_conflict": "project",
               "minibatch_by": "sample"},
    "separate": {"arch": "separate", "e_aux": 0, "num_levels": 3, "drop_observations": 0.1,
                 "hparams": {"max_grad_norm": 0.5, "value_clip_eps": 0.2, "kl_penalty": 1.0}},
    "single": {"arch": "single", "minibatch_by": "sample", "gradient_conflict": "measure"},
    "detach": {"arch": "detach", "e_pi": 2, "gradient_conflict": "balance", "num_levels": 3,
               "adapt_beta_clone": True, "episodes_per_task": 2, "hide_components": (0,)},
    "lstm": {**memory("lstm", "action", "reward", "done"), "burn_in": 2, "bptt_steps": 2,
             "normalize_observations": True},
    "gru": {**memory("gru", "action", "reward"), "env": probes.HitTheTarget(), "bptt_steps": 4},
    "mingru": {**memory("mingru", "action"), "env": probes.TwoDials(), "drop_observations": 0.5},
    "history": {**memory("history"), "env": probes.TwoDialsTuple()},
    "images": {**images("cnn"), "normalize_observations": True},
    "images by lax": images("cnn", conv="lax"),
    "impala": images("impala", channels=(2,), compute_dtype="bfloat16"),
}  # fmt: skip


@contextlib.contextmanager
def strictest():
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.enable_x64(True),
    ):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_everything_traces_by_the_strictest_rules(kind):
    """In 32 bits all the same. What mixes no types with 64 bits mixes none without either."""
    config = Config(**{"env": probes.Medley()} | SMALL | KINDS[kind])

    def everything(key):
        # Mapped over seeds: rules of batching may promote too.
        trained = jax.vmap(make_train(config))(jax.random.split(key, 2))
        state, metrics = jax.tree.map(lambda x: x[0], trained)
        acting = state.params, state.obs_stats
        played = evaluate(config, *acting, key, 2), record_episode(config, *acting, key)
        return state.replace(key=()), metrics, played

    key = jax.random.key(0)
    with strictest():
        shapes = jax.eval_shape(everything, key)
    assert not {"float64", "int64", "uint64"} & {str(x.dtype) for x in jax.tree.leaves(shapes)}


def test_the_same_numbers():
    config = Config(env=probes.Medley(), **SMALL | MOST)
    usual = jax.jit(make_train(config))(jax.random.key(0))[1]
    with strictest():
        rates = jax.vmap(lambda r: config.hparams.replace(learning_rate=r))
        hparams = rates(np.array([config.hparams.learning_rate]))  # float64
        strict = jax.jit(jax.vmap(make_train(config), (None, 0)))(jax.random.key(0), hparams)[1]
    for name in usual:
        np.testing.assert_allclose(strict[name][0], usual[name], 1e-4, 1e-6, err_msg=name)


def test_the_caller_s_rules_hold_for_the_environment():
    """It is tried when it is made."""

    class Careless(probes.ConstantReward):
        def reward(self, state, action):
            return action + state.obs[0]

    with jax.numpy_dtype_promotion("strict"), pytest.raises(ConfigError, match="TypePromotion"):
        make_train(Config(env=Careless(), **SMALL))
    make_train(Config(env=Careless(), **SMALL))
