"""A run that begins with what another run has learned."""

import dataclasses
import json
import shutil

import gymnax
import jax
import numpy as np
import pytest
import yaml
from rich.console import Console

from ppg_jax import ConfigError, resume, run
from ppg_jax.config.config import Config
from ppg_jax.execution import starts
from ppg_jax.runs import session
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.warm_start import WarmStartOptions, take


def small(**changes):
    """Two phases of two iterations, of PPO, which compiles sooner."""
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "seeds": 2, "e_aux": 0,
        "arch": "shared", "total_timesteps": 4 * 8 * 4, "normalize_observations": True,
        "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run with a checkpoint of its end."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, run(small(), out=folder, progress=False, checkpoint_every=1)


@pytest.fixture
def beginning(monkeypatch):
    """The states of warm runs before and after they took something, as copies on the host."""
    seen = []

    def warmed(states, start, layout):
        fresh = [jax.tree.map(plain, state) for state in states]
        states = starts.warmed(states, start, layout)
        seen.append((fresh, [jax.tree.map(plain, state) for state in states]))
        return states

    monkeypatch.setattr("ppg_jax.execution.segments.warmed", warmed)
    return seen


def plain(x):
    is_key = jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.array(jax.random.key_data(x) if is_key else x)


def assert_same(tree, other):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(plain(a), plain(b))


def at(tree, seed):
    """One replica of a tree of a run, which on CPU is a batch of its own."""
    return jax.tree.map(lambda x: np.asarray(x)[seed : seed + 1], tree)


def test_what_is_taken_and_what_begins_anew(first, beginning):
    folder, result = first
    run(small(seed=7, hparams={"learning_rate": 1e-4}), init_from=folder, progress=False)
    ((fresh, warm),) = beginning
    state = result.state
    assert len(warm) == 2
    for seed, (before, after) in enumerate(zip(fresh, warm, strict=True)):
        assert_same(after.params, at(state.params, seed))
        assert_same(after.reward_scaler.stats, at(state.reward_scaler.stats, seed))
        assert_same(after.obs_stats, at(state.obs_stats, seed))
        assert_same(after.seen_obs_stats, at(state.obs_stats, seed))
        for name in ("envs", "key", "iteration", "opt_states", "memory"):
            assert_same(getattr(after, name), getattr(before, name))
        assert_same(after.reward_scaler.sums, before.reward_scaler.sums)
        assert (after.iteration, np.asarray(state.iteration)[seed]) == (0, 4)


def test_optimizers_and_one_seed_for_all(first, beginning):
    folder, result = first
    config = small(seed=7, seeds=3)
    run(config, init_from=folder, init_from_seed=1, init_optimizer=True, progress=False)
    ((_, warm),) = beginning
    assert len(warm) == 3
    for found in warm:
        assert_same(found.params, at(result.state.params, 1))
        assert_same(found.opt_states, at(result.state.opt_states, 1))
        assert_same(found.seen_obs_stats, at(result.state.seen_obs_stats, 1))


def test_without_statistics(first, beginning):
    run(small(seed=7), init_from=first[0], init_statistics=False, progress=False)
    (((before, _), (after, _)),) = beginning
    assert_same(after.reward_scaler, before.reward_scaler)
    assert_same(after.obs_stats, before.obs_stats)
    assert_same(after.params, at(first[1].state.params, 0))


@pytest.mark.parametrize(
    ("spread", "replicas"),
    [
        ({"seeds": 3, "strategy": "vmap"}, 4),  # the fourth is padding
        ({"seeds": 1, "devices_per_seed": 2}, 1),
    ],
)
def test_devices_that_share_seeds_or_environments(first, beginning, spread, replicas):
    config = small(devices=2, **spread)
    result = run(config, init_from=first[0], init_from_seed=0, progress=False)
    ((_, (after,)),) = beginning
    for found, wanted in zip(
        jax.tree.leaves(after.params), jax.tree.leaves(first[1].state.params), strict=True
    ):
        assert len(found) == replicas
        for replica in found:
            np.testing.assert_array_equal(replica, np.asarray(wanted)[0])
    assert result.finished


def test_where_it_came_from(first, tmp_path):
    folder = tmp_path / "new"
    log = (tmp_path / "log").open("w")
    run(small(), init_from=first[0], out=folder, console=Console(file=log, width=200))
    log.close()
    record = yaml.safe_load((folder / "warm_start.yaml").read_text())
    assert record["init_from"] == str(first[0])
    assert record["taken"] == ["parameters", "statistics of observations", "statistics of rewards"]
    assert json.loads((folder / "summary.json").read_text())["warm_start"] == record
    assert "with the options in warm_start.yaml" in (folder / "config.yaml").read_text()
    line = f"starting from {first[0]}, seed for seed: parameters, statistics of observations"
    assert line in (tmp_path / "log").read_text()


@pytest.fixture
def killed(first, tmp_path):
    """A warm run, the one it began with, and the same killed before its first checkpoint."""
    source, folder = tmp_path / "source", tmp_path / "new"
    shutil.copytree(first[0], source)
    result = run(small(seed=3), init_from=source, out=folder, progress=False)
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    for name in ("checkpoints", "metrics.csv", "summary.json"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return source, folder, whole, result


def test_without_a_checkpoint_it_begins_as_before(killed):
    _, folder, whole, result = killed
    again = resume(folder, progress=False)
    assert_same(again.state, result.state)
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert (folder / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()


def test_with_a_checkpoint_the_other_run_is_not_read(killed):
    source, _, whole, result = killed
    shutil.rmtree(source)
    longer = resume(whole, progress=False, total_timesteps=4 * 8 * 6)
    np.testing.assert_array_equal(longer.metrics["env_steps"][:, :4], result.metrics["env_steps"])
    assert "warm_start" in json.loads((whole / "summary.json").read_text())


@pytest.mark.parametrize("what", ["gone", "changed", "damaged"])
def test_without_a_checkpoint_the_other_run_must_be_as_it_was(killed, what):
    source, folder, *_ = killed
    words = "has changed since"
    if what == "gone":
        shutil.rmtree(source)
        words = "is not a run folder"
    elif what == "changed":
        resume(source, progress=False, total_timesteps=4 * 8 * 6)
    else:
        (folder / "warm_start.yaml").write_text("init_from: 3\ninit_optimizer: false\n")
        words = "init_statistics: None is invalid"
    with pytest.raises(ConfigError, match="has no checkpoint yet, and its warm start cannot be"):
        resume(folder, progress=False)
    with pytest.raises(ConfigError, match=words):
        resume(folder, progress=False)
    assert not (folder / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"seeds": 3}, {}, r"init_from: .* has seeds 2, and this run 3; .*_seed \(0 to 1\)"),
        ({}, {"init_from_seed": 2}, "init_from_seed: 2 is invalid; .* from 0 to 1"),
        ({}, {"init_from_seed": "x"}, "init_from_seed: 'x' is invalid"),
        ({}, {"init_from": 3}, "init_from: 3 is invalid; it should be a path"),
        ({}, {"init_from": "nowhere"}, "init_from: nowhere is not a run folder"),
        ({}, {"init_from": None, "init_from_seed": 0}, "init_from_seed: 0 has no effect without"),
        ({}, {"init_from": None, "init_optimizer": True}, "init_optimizer: True has no effect"),
        ({}, {"init_statistics": 2}, "init_statistics: 2 is invalid; it should be true or false"),
        ({"arch": "separate"}, {}, r"init_from: arch is shared in .*, and separate in this run"),
        (
            {"network": {"hidden_sizes": (9,)}}, {},
            r"init_from: parameter \S+ is float32\[\d.*\] in .*, and float32\[.*\] in this run "
            r"\(network.hidden_sizes \[8\] there and \[9\] here\)",
        ),
        (
            {"env": "Acrobot-v1"}, {},
            r"float32\[4, 8\] in .*, and float32\[6, 8\] in this run \(env CartPole-v1 there",
        ),
        (
            {"network": {"hidden_sizes": (8, 8)}}, {},
            r"dense_1.bias is missing in .*, and float32\[8\] in this run",
        ),
        (
            {"e_v": 2}, {"init_optimizer": True},
            "init_optimizer: .* has no state of the optimizer value, which this run has because",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(first, tmp_path, changes, options, words):
    given = {"init_from": first[0]} | options
    with pytest.raises(ConfigError, match=words):
        run(small(**changes), out=tmp_path / "new", progress=False, **given)
    assert not (tmp_path / "new" / "config.yaml").exists()


def test_only_parameters_are_left(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first[0], source)
    shutil.rmtree(source / "checkpoints" / "phases")
    with pytest.raises(ConfigError, match="init_optimizer: .* keeps no usable checkpoint, only"):
        run(small(), init_from=source, init_optimizer=True, progress=False)
    log = (tmp_path / "log").open("w")
    run(small(), init_from=source, console=Console(file=log, width=200))
    log.close()
    assert "warning: statistics of rewards begin anew" in (tmp_path / "log").read_text()


def test_a_run_that_was_killed_gives_its_newest_checkpoint(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first[0], source)
    shutil.rmtree(source / "checkpoints" / "final")
    shutil.rmtree(source / "checkpoints" / "phases" / "phase_2")
    saved, _ = Checkpoints(source).newest(first[1].config)
    assert saved.phases == 1
    assert_same(take(WarmStartOptions(source), first[1].config).learned.params, saved.state.params)


def test_what_is_damaged_is_told(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first[0], source)
    (source / "checkpoints" / "final" / "digest.json").write_text('{"digest": "0"}')
    notes = take(WarmStartOptions(source), first[1].config).notes
    assert "do not match the stored digest; the checkpoint of phase 2 is used" in notes[1]


def test_other_meanings_are_told(first):
    network = dataclasses.replace(first[1].config.network, activation="tanh")
    config = first[1].config.replace(network=network, normalize_observations=False)
    taken = take(WarmStartOptions(first[0]), config)
    assert taken.learned.obs_stats is None
    assert taken.notes[1] == (
        "warning: parameters may mean something else: network.activation relu there and tanh here, "
        "normalize_observations True there and False here"
    )


def test_an_environment_that_was_an_object_is_the_new_runs(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first[0], source)
    file = source / "config.yaml"
    file.write_text(file.read_text().replace("env: CartPole-v1", "env: <object CartPole-v1>"))
    env, _ = gymnax.make("CartPole-v1")
    taken = take(WarmStartOptions(source), first[1].config.replace(env=env))
    assert_same(taken.learned.params, first[1].state.params)
    with pytest.raises(ConfigError, match="env: this run's environment was an object"):
        take(WarmStartOptions(source), first[1].config)


def test_a_cold_start_takes_nothing():
    keys = session.first_start(small(), None, None)
    assert_same(keys, jax.random.split(jax.random.key(0), 2))
