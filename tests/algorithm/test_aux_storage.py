"""Storages of the auxiliary phase's data: the same run from packed and from replayed buffers."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import ppg_jax
from ppg_jax import algorithm
from ppg_jax.algorithm import init, metric_names, replay_difference
from ppg_jax.algorithm.aux_storage.packing import Packing, _columns
from ppg_jax.algorithm.aux_storage.replayed import largest_difference
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train
from ppg_jax.backend import backend_for, this_backend
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.functional import Columns, one_of_split, unpack_all
from ppg_jax.kernels import SortedObservations
from ppg_jax.runs import session
from ppg_jax.types import Observation, ObservationSpec
from tests.envs.test_outside import Numbers
from tests.probes import Probe

CASES = {
    # An MLP, whose observations are sorted on a CPU.
    "breakout": {
        "env": "Breakout-MinAtar", "observation_dtype": "bool",
        "network": {"encoder": "mlp", "hidden_sizes": (8,)},
    },
    # Every wrapper, a memory, and everything that is recalled.
    "cartpole": {
        "num_levels": 3, "episodes_per_task": 2, "hide_components": (1,), "drop_observations": 0.2,
        "network": {"hidden_sizes": (8,), "memory": "gru", "memory_size": 8,
                    "recall": ("action", "reward", "done")},
        "env_params": {"max_steps_in_episode": 3},
    },
    "breakout on gpu": {
        "env": "Breakout-MinAtar", "arch": "single",
        "network": {"encoder": "mlp", "hidden_sizes": (8,)},
    },
    "pendulum": {"env": "Pendulum-v1"},
}  # fmt: skip
"""What is trained, by name."""


def small(**changes):
    fields = {
        "num_envs": 4, "num_steps": 4, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "e_aux": 1, "total_timesteps": 2 * 16, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**(fields | changes))


@functools.cache
def run(case, storage):
    """The configuration, the last state and the metrics of one phase."""
    config = small(**CASES[case], aux_storage=storage)
    backend = backend_for("gpu") if "gpu" in case else this_backend()
    return config, *jax.jit(make_train(config, backend=backend))(jax.random.key(0))


def leaves(tree):
    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return [plain(x) for x in jax.tree.leaves(tree)]


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "storage"),
    [
        ("breakout", "packed"),
        ("breakout", "replay"),
        pytest.param("cartpole", "replay", marks=pytest.mark.long),
        pytest.param("breakout on gpu", "packed", marks=pytest.mark.long),
    ],
)
def test_the_run_is_that_of_full(case, storage):
    _, state, metrics = run(case, "full")
    config, found, measured = run(case, storage)
    for x, y in zip(leaves(state), leaves(found), strict=True):
        np.testing.assert_array_equal(x, y)
    for name, x in metrics.items():
        np.testing.assert_array_equal(x, measured[name], err_msg=name)
    own = {"packed": "aux_storage_lost", "replay": "replay_difference"}[storage]
    assert set(measured) == metric_names(config) == {*metrics, own}
    np.testing.assert_array_equal(measured[own][-1], 0)


@pytest.mark.slow
def test_physics_replays_and_says_how_well():
    _, _, metrics = run("pendulum", "replay")
    assert np.isnan(metrics["replay_difference"][0])
    assert 0 <= metrics["replay_difference"][1] < 1e-3


@pytest.mark.bits
@pytest.mark.parametrize("case", ["breakout", "cartpole"])
def test_games_replay_exactly(case):
    assert replay_difference(small(**CASES[case])) == 0


def test_the_difference_of_a_replay():
    a, b = jnp.array([[1.0, jnp.nan]]), jnp.array([[0.5, jnp.nan]])
    assert largest_difference(a, b) == 0.5
    assert np.isnan(largest_difference(a, jnp.ones((1, 2))))


def test_an_environment_is_played_once_for_all_configurations_of_a_run(monkeypatch):
    calls = []
    monkeypatch.setattr(
        algorithm.ppg, "find_packing", lambda *_: calls.append("packing") or Packing()
    )
    monkeypatch.setattr(
        algorithm.ppg, "difference_of_replay", lambda *_: calls.append("replay") or 0.5
    )
    config = small(env=RareHalf(), aux_storage="packed")
    several = [config, config.replace(seeds=3, strategy="map"), config.replace(network={})]
    for one in several:
        build(one)
        assert replay_difference(one) == 0.5
    assert sorted(calls) == ["packing", "replay"]
    build(config.replace(hide_components=(0,)))
    assert sorted(calls) == ["packing", "packing", "replay"]


@pytest.mark.parametrize("storage", ["packed", "replay"])
def test_the_buffer_is_smaller(storage):
    def size(storage):
        sizes = {"n_pi": 16, "num_aux_minibatches": 16, "num_steps": 64, "total_timesteps": 4096}
        config = small(**CASES["breakout"], **sizes, aux_storage=storage)
        buffer = jax.eval_shape(
            lambda k: build(config).storage.blank(init(config, k)), jax.random.key(0)
        )
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(buffer))

    assert size(storage) < size("full") / 4


VALUES = {
    "bool": [False, True],
    "uint8": [0, 1, 2, 255],
    "int32": [0, 1, -1],
    "float32": [0.0, 1.0, -0.0, np.nan, 2.0, 0.5, np.inf],
    "bfloat16": [0.0, 1.0, -0.0, 0.5],
}


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("binary", [(1, 0, 1, 1, 0, 1), (1, 1, 1, 1, 1, 1), (0, 0, 0, 1, 0, 0)])
def test_packing_loses_nothing_unseen(dtype, binary):
    columns = Columns((2, 3), dtype, tuple(map(bool, binary)))
    values = jnp.array(VALUES[dtype], dtype)
    x = values[jax.random.randint(jax.random.key(0), (64, 5, 2, 3), 0, len(values))]
    x = x.at[0].set(jnp.asarray(1, dtype))
    back = columns.unpack(columns.pack(x))
    assert (back.shape, back.dtype) == (x.shape, x.dtype)
    same = np.asarray(back).view(np.uint8) == np.asarray(x).view(np.uint8)
    same = same.reshape(64, 5, -1).all(-1)
    np.testing.assert_array_equal(columns.lost(x), ~same)
    assert same[0].all()
    assert same.all() == (dtype == "bool")


def test_every_form_of_observations_is_packed():
    bits, halves = Columns((4,), "bool", (True,) * 4), Columns((2,), "float32", (True, False))
    packing = Packing(bits, halves)
    flags, numbers = jnp.array([[True, False, True, True]]), jnp.array([[1.0, 0.5]])
    for obs in (flags, SortedObservations(flags), Observation(flags, numbers, flags)):
        packed = packing.pack(obs)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, unpack_all(packed), obs))
        again = jax.tree.leaves(packing.pack(packed))
        assert all(x is y for x, y in zip(again, jax.tree.leaves(packed), strict=True))
    assert packing.lost(Observation(flags, numbers)).sum() == 0
    assert packing.lost(Observation(flags, numbers - 0.5), Observation(flags, numbers)).sum() == 1


def found(spec, *played):
    columns = _columns(spec, jnp.array(played, spec.dtype))
    return None if columns is None else [int(x) for x in columns.binary]


def test_observations_are_flattened_for_a_tpu():
    """Those of a rollout, in all storages; what the networks read is the same."""
    for storage, obs_bytes in (
        ("full", 4 * 4 * 400),
        ("packed", 4 * 4 * 50),
        ("replay", 4 * 4 * 400),
    ):
        config = small(**CASES["breakout"], aux_storage=storage)
        tpu = build(config, backend_for("tpu"))
        state = jax.eval_shape(lambda c=config: init(c, jax.random.key(0)))
        ran = jax.eval_shape(lambda s, p=tpu: algorithm.rollout.collect(p, s, s.key)[1], state)
        assert all(leaf.ndim == 3 for leaf in jax.tree.leaves((ran.obs, ran.final_obs)))
        assert (
            sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(ran.obs)) == obs_bytes
        )
    jax.eval_shape(make_train(config, backend=backend_for("tpu")), jax.random.key(0))
    config = small(**CASES["breakout"])
    state = jax.jit(init, static_argnums=0)(config, jax.random.key(0))
    seen = []
    for backend in (backend_for("tpu"), backend_for("gpu")):
        ppg = build(config, backend)
        rollout = jax.jit(lambda s, p=ppg: algorithm.rollout.collect(p, s, s.key)[1])(state)
        seen.append(unpack_all((rollout.obs, rollout.final_obs)))
    assert np.any(seen[0][0])
    jax.tree.map(np.testing.assert_array_equal, *seen)


def test_what_has_one_axis_stays_as_it_is():
    packing = build(small(**CASES["cartpole"]), backend_for("tpu")).packing
    assert packing == Packing()


def test_a_flat_part_beside_packed_ones_loses_nothing():
    spec = ObservationSpec((2, 3), jnp.float32)
    packing = Packing(value=Columns((3,), "float32", (True, False, True)))
    both = packing.flattened(replace(spec, value=ObservationSpec((3,), jnp.float32)))
    obs = Observation(jnp.ones((5, 2, 3)) / 3, value=jnp.eye(5, 3))
    jax.tree.map(np.testing.assert_array_equal, unpack_all(both.pack(obs)), obs)
    assert both.active
    assert not Packing().flattened(spec).active
    np.testing.assert_array_equal(both.lost(obs), np.zeros(5))


def test_columns_are_found():
    plain = ObservationSpec((4,), jnp.float32)
    # Both 0 and 1 and nothing else; the last one may well become a fraction too.
    assert found(plain, [0, 1, 0.5, 0], [1, 0, 0, 0]) == [1, 1, 0, 0]
    # All that changes is binary, so what never changed is taken for binary.
    assert found(plain, [0, 1, 1, 0], [1, 0, 1, 0]) == [1, 1, 1, 1]
    assert found(plain, [0.5, 2, 0, 0], [1, 0, 0, 0]) is None
    assert found(plain, [-0.0, 1, 2, 2], [1, 0, 2, 2]) == [0, 1, 0, 0]
    parts = ObservationSpec((4,), jnp.float32, parts=((2,), (2,)))
    assert found(parts, [0, 0, 1, 5], [1, 0, 0, 5]) == [1, 1, 1, 0]
    flags = ObservationSpec((3,), jnp.float32, parts=((1,), (2,)), flags=((True, 1), (False, 2)))
    assert found(flags, [0, 2, 2]) == [1, 0, 0]
    assert found(ObservationSpec((3,), jnp.bool_), [0, 0, 0]) == [1, 1, 1]
    assert found(ObservationSpec((), jnp.int32, categories=(2,)), 0, 1) == [1]


def test_without_binary_components_packed_is_full():
    assert not build(small(aux_storage="packed")).packing.active


class RareHalf(Probe):
    """A component that is 0 or 1 until the player has done 1 several times in a row."""

    length = 400

    def observation_space(self, params):
        return spaces.Box(0, 1, (2,), jnp.float32)

    def first_obs(self, key):
        return jnp.zeros(2)

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        late = state.time > 300
        obs = jnp.stack([jnp.where(late, 0.5, state.time % 2), action]).astype(jnp.float32)
        return obs, state.replace(obs=obs), reward, done, info


def test_a_run_that_would_lose_something_stops(tmp_path):
    config = small(
        env=RareHalf(), aux_storage="packed", arch="shared", e_aux=0, num_steps=80, n_pi=1,
        total_timesteps=320 * 5,
    )  # fmt: skip
    assert build(config).packing.policy.binary == (True, True)
    with pytest.raises(ConfigError, match="^aux_storage: packed would lose") as caught:
        ppg_jax.run(config, out=tmp_path / "run", checkpoint_every=1)
    assert "\n" not in str(caught.value)
    saved = [int(x.name[6:]) for x in (tmp_path / "run/checkpoints/phases").iterdir()]
    assert max(saved, default=0) <= 3


def test_a_run_says_what_to_expect(monkeypatch):
    notes = []
    display = SimpleNamespace(note=notes.append)
    for difference in (0.0, 0.25):
        monkeypatch.setattr(session, "replay_difference", lambda _, found=difference: found)
        session.note_storage(small(aux_storage="replay"), display)
    session.note_storage(small(aux_storage="packed"), display)
    session.note_storage(small(), display)
    inexact, unpacked = notes
    assert "by up to 0.25" in inexact
    assert "packs nothing" in unpacked


def test_what_cannot_be_replayed_is_refused():
    with pytest.raises(ConfigError, match="^aux_storage: replay cannot be used"):
        build(small(env=Numbers(), aux_storage="replay"))
    with pytest.raises(ConfigError, match="^aux_storage: replay has no effect"):
        small(arch="shared", e_aux=0, aux_storage="replay")


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", None])
@pytest.mark.parametrize("partitionable", [True, False])
def test_single_keys_of_a_split(impl, partitionable):
    with jax.threefry_partitionable(partitionable):
        key = jax.random.PRNGKey(3) if impl is None else jax.random.key(3, impl=impl)
        want = jax.random.split(key, (2, 5)).reshape(10, *key.shape)
        keys = jnp.stack([key] * 10) if impl is None else jnp.broadcast_to(key, (10,))
        found = jax.vmap(lambda k, i: one_of_split(k, 10, i))(keys, jnp.arange(10))
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(want))
