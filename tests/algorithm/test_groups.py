"""Groups of environments that learn together, on one device or spread over several."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import ppg_jax
from ppg_jax.algorithm import build, by_environment, init
from ppg_jax.algorithm.groups import Groups
from ppg_jax.algorithm.rollout import collect, make_batch
from ppg_jax.functional import ALONE, Pool, explained_variance, init_stats, update_stats
from ppg_jax.functional import normalize_advantages as normalize

SMALL = {
    "env": "CartPole-v1", "num_envs": 8, "num_steps": 8, "num_minibatches": 2, "n_pi": 2,
    "e_aux": 1, "num_aux_minibatches": 2, "total_timesteps": 2 * 8 * 8,
    "network": {"hidden_sizes": [8]}, "env_groups": 4,
}  # fmt: skip
KINDS = {
    "memory": {
        "env": "Pendulum-v1",
        "e_v": 2,
        "normalize_observations": True,
        "normalize_advantages": "minibatch",
        "network": {"memory": "gru", "memory_size": 4, "hidden_sizes": [8]},
    },
    "breakout": {
        "env": "Breakout-MinAtar",
        "observation_dtype": "bool",
        "aux_storage": "packed",
        "arch": "shared",
        "gradient_conflict": "project",
        "minibatch_by": "sample",
    },
    "replay": {"aux_storage": "replay", "adapt_beta_clone": True, "normalize_observations": True},
    "ppo": {"e_aux": 0, "arch": "separate"},
}


def config_of(kind, **changes):
    return ppg_jax.Config(**SMALL | KINDS[kind] | changes)


def pooled(fn, *args):
    """``fn(*args, pool)`` for groups along the first axis of the arguments."""
    pool = Pool(("group",), len(args[0]))
    return jax.vmap(lambda *x: fn(*x, pool), axis_name="group")(*args)


def test_moments_of_groups_are_those_of_all_samples():
    x, y = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 6, 5)).astype(np.float32)
    for axis in (None, 0, (0, 1)):
        mean, var = pooled(lambda x, pool, axis=axis: pool.moments(x, axis), x)
        over = (0, 1, 2) if axis is None else (0, 1) if axis == 0 else (0, 1, 2)
        want = x.mean(over), x.var(over)
        for group in range(4):
            np.testing.assert_allclose(mean[group], want[0], rtol=1e-5)
            np.testing.assert_allclose(var[group], want[1], rtol=1e-5)
    np.testing.assert_allclose(pooled(normalize, x), normalize(x), rtol=1e-4, atol=1e-5)
    explained = pooled(explained_variance, x, y)
    np.testing.assert_allclose(explained, jnp.full(4, explained_variance(x, y)), rtol=1e-5)
    found = pooled(functools.partial(update_stats, init_stats((5,))), x)
    want = update_stats(init_stats((5,)), x)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[2], found), want, rtol=1e-5)


def test_one_group_exchanges_nothing():
    x = jnp.arange(6.0)
    assert ALONE.mean(x) is ALONE.sum(x) is ALONE.max(x) is x


def test_means_are_exchanged_as_one_vector():
    tree = {"a": jnp.ones((2, 3)), "b": jnp.arange(2.0), "c": jnp.ones((2, 2, 2))}

    mapped = jax.vmap(Pool(("group",), 2).mean, axis_name="group")
    chex.assert_trees_all_close(
        mapped(tree), jax.tree.map(lambda x: jnp.broadcast_to(x.mean(0), x.shape), tree)
    )


def spread(config, devices):
    """A run whose groups are spread over devices: its state and metrics."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("env",))
    shapes = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    split = by_environment(shapes, own=PartitionSpec("env"), same=PartitionSpec())

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=PartitionSpec(), out_specs=(split, PartitionSpec()),
        check_vma=False,
    )  # fmt: skip
    def train(key):
        return ppg_jax.make_train(config, env_axis="env")(key)

    return jax.jit(train)(jax.random.key(1))


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.long] * (k != "memory")) for k in KINDS]
)
def test_devices_change_nothing_but_rounding(kind):
    config = config_of(kind, hparams={"adam_eps": 1e-3})
    state, metrics = jax.jit(ppg_jax.make_train(config))(jax.random.key(1))
    assert all(np.isfinite(x[-1]) for name, x in metrics.items() if "episode_" not in name)
    assert metrics["env_steps"].tolist() == [64, 128]  # of all groups
    there, measured = spread(config, 2)
    chex.assert_trees_all_close(there.params, state.params, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(there.envs.returns, state.envs.returns, rtol=1e-4, atol=1e-4)
    assert measured.keys() == metrics.keys()
    for name, x in metrics.items():
        np.testing.assert_allclose(measured[name], x, rtol=1e-2, atol=1e-4, err_msg=name)


def test_a_group_is_a_part_of_the_environments():
    """By hand: each group acts with its own key, and learns from all."""
    config = config_of("replay", normalize_advantages="batch", env_groups=2)
    ppg, state = build(config), jax.jit(init, static_argnums=0)(config, jax.random.key(0))
    groups = Groups.of(ppg, None)
    keys = groups.keys(state.key)
    assert [key.tolist() for key in jax.random.key_data(keys)] == [
        jax.random.key_data(jax.random.fold_in(state.key, group)).tolist() for group in (0, 1)
    ]
    own = groups.split(state.envs)
    assert own.obs.shape == (2, 4, 4)
    np.testing.assert_array_equal(own.obs[1], state.envs.obs[4:])
    np.testing.assert_array_equal(groups.join(own).obs, state.envs.obs)

    def advantages(ppg, envs, key):
        part = state.replace(
            envs=envs, reward_scaler=state.reward_scaler.replace(sums=jnp.zeros(4)), obs_order=None
        )
        after, rollout, _ = collect(ppg, part, key)
        return rollout.rewards, make_batch(ppg, config.hparams, after, rollout)[1].advantages

    act = groups.map(functools.partial(advantages, groups.ppg), (0, 0), (0, 0))
    rewards, found = act(own, keys)
    assert rewards.shape == (2, 8, 4)
    np.testing.assert_allclose(found.mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.std(), 1.0, rtol=1e-4)
    assert abs(float(found[0].mean())) > 1e-4  # not normalised within each group


def test_one_group_is_the_usual_training():
    config = config_of("replay", env_groups=1)
    usual = config.replace(env_groups=None)
    trained = [jax.make_jaxpr(ppg_jax.make_train(c))(jax.random.key(0)) for c in (config, usual)]
    assert str(trained[0]) == str(trained[1])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"env_groups": 3}, "env_groups: 3 does not divide num_envs 8"),
        ({"env_groups": None, "devices_per_seed": 3}, "devices_per_seed: 3 does not divide"),
        ({"env_groups": 3, "devices_per_seed": 2}, "env_groups: 3 cannot be shared"),
        ({"env_groups": 8}, "env_groups: 8 groups cannot share the num_minibatches 2"),
        ({"num_aux_minibatches": 16, "num_minibatches": 1}, "num_aux_minibatches 16 of n_pi x num"),
        ({"env_groups": 0}, "env_groups: 0 is invalid"),
        ({"devices_per_seed": 4, "devices": 6}, "devices: 6 is invalid; it should be a multiple"),
    ],
)
def test_sizes_that_cannot_be_shared_are_named(changes, named):
    with pytest.raises(ppg_jax.ConfigError) as error:
        config_of("replay", **changes)
    assert named in str(error.value)
    assert "\n" not in str(error.value)
