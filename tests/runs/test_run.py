"""Runs from the host: the same numbers, files, bad seeds, refusal to overwrite."""

import csv
import json
import math

import jax
import numpy as np
import pytest
import yaml
from rich.console import Console

from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.config.yaml_files import load_config
from ppg_jax.execution.evaluation import evaluate_seeds
from ppg_jax.execution.layout import lay_out
from ppg_jax.runs.checkpoints.parameters import load_parameters
from ppg_jax.runs.run import run
from tests import probes


def small(**changes):
    fields = {
        "env": "CartPole-v1", "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 2,
        "num_aux_minibatches": 2, "e_aux": 2, "total_timesteps": 64 * 5, "seeds": 2,
        "network": {"hidden_sizes": (8,)}, "normalize_observations": True, "devices": 2,
    }  # fmt: skip
    return Config(**(fields | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    console = Console(file=(folder.parent / "log").open("w"), width=200)
    result = run(small(), out=folder, console=console)
    console.file.close()
    return folder, result


@pytest.mark.bits
def test_the_same_numbers_as_the_pure_function(finished):
    _, result = finished
    keys = jax.random.split(jax.random.key(0), 2)
    _, metrics = jax.jit(lambda ks: jax.lax.map(make_train(small()), ks))(keys)
    assert result.metrics.keys() == metrics.keys()
    for name, x in metrics.items():
        np.testing.assert_array_equal(result.metrics[name], x, name)
    assert result.metrics["episode_return"].shape == (2, 5)


def test_a_seed_has_the_bits_that_it_has_alone(finished):
    """As long as one program trains any number of them."""
    _, two = finished
    one = run(small(seeds=1), progress=False)
    for a, b in zip(jax.tree.leaves(two.state), jax.tree.leaves(one.state), strict=True):
        a, b = (jax.random.key_data(x) if x.dtype == two.state.key.dtype else x for x in (a, b))
        np.testing.assert_array_equal(a[:1], b)
    for name, x in one.metrics.items():
        np.testing.assert_array_equal(two.metrics[name][:1], x, name)


@pytest.fixture(scope="module")
def vmapped():
    return run(small(strategy="vmap", devices=1), progress=False)


def test_devices_share_the_seeds(vmapped):
    """Two of four seeds are on the first device, as both of two are."""
    on_one = vmapped
    on_two = run(small(strategy="vmap", devices=2, seeds=4), progress=False)
    for a, b in zip(
        jax.tree.leaves(on_one.state.params), jax.tree.leaves(on_two.state.params), strict=True
    ):
        np.testing.assert_allclose(a, b[:2], atol=3e-3)  # rounding, and a few of Adam's steps
    for name in ("episode_return", "value_loss"):
        first = on_two.metrics[name][:2]
        np.testing.assert_allclose(first, on_one.metrics[name], rtol=1e-3, err_msg=name)
    assert on_two.metrics["episode_return"].shape == (4, 5)
    assert len(set(on_two.metrics["value_loss"][:, 0].tolist())) == 4


def test_what_it_says(finished):
    log = (finished[0].parent / "log").read_text()
    assert "2 seeds by map, 2 at a time x 5 iterations of 64 steps" in log
    assert "compiling for" in log
    assert "iteration 5/5" in log
    assert "steps/s" in log


def test_metrics_file(finished):
    folder, result = finished
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["seed", "iteration", "env_steps", "episode_return"]
    assert len(rows) == 10
    for row in rows:
        seed, iteration = int(row["seed"]), int(row["iteration"])
        for name, x in result.metrics.items():
            np.testing.assert_array_equal(np.float32(row[name]), np.float32(x[seed, iteration]))


def test_summary_and_config(finished):
    folder, result = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["env_steps"] == 2 * 5 * 64
    assert summary["compile_seconds"] > 0
    speed = summary["env_steps"] / summary["run_seconds"]
    assert math.isclose(summary["env_steps_per_second"], speed, rel_tol=0.05)
    np.testing.assert_allclose(summary["final_episode_return"], result.final_returns)
    assert {"jax", "jaxlib", "flax", "gymnax", "ppg-jax", "python"} <= set(summary["versions"])
    assert summary["device"]["platform"] == jax.default_backend()
    assert load_config(folder / "config.yaml") == result.config
    assert "auto" not in yaml.safe_load((folder / "config.yaml").read_text()).values()
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_parameters_come_back_and_play(finished):
    folder, result = finished
    config = load_config(folder / "config.yaml")
    params, stats = load_parameters(folder, config)
    for mine, theirs in zip(
        jax.tree.leaves((params, stats)),
        jax.tree.leaves((result.state.params, result.state.obs_stats)),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    played = evaluate_seeds(config, lay_out(config, 2), params, stats, 0, 5)
    returns = played.returns.sum(-1)
    assert returns.shape == (2, 5)
    assert played.ended.all()
    np.testing.assert_array_equal(returns, played.lengths)  # CartPole pays 1 a step


def test_feeding_the_config_back_repeats_the_run(finished):
    folder, result = finished
    again = run(load_config(folder / "config.yaml"), progress=False)
    for name, x in result.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], x, name)


def test_an_existing_folder_is_left_alone(finished):
    folder, _ = finished
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"out: .* is not empty"):
        run(small(), out=folder, progress=False)
    assert (folder / "metrics.csv").read_bytes() == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="out: "):
        run(small(), out=tmp_path / "file" / "run", progress=False)


class NeverInfinite(probes.Probe):
    """Observations in [0, 1], reward 1."""

    def first_obs(self, key):
        return jax.random.uniform(key, (1,))


class SometimesInfinite(NeverInfinite):
    """Pays infinity in episodes whose first observation is among the rarest."""

    def reward(self, state, action):
        return jax.numpy.where(state.obs[0] > 0.997, jax.numpy.inf, 1.0)


@pytest.mark.bits
def test_a_bad_seed_is_reported_and_the_others_are_not_disturbed():
    config = small(
        env=SometimesInfinite(), seeds=4, normalize_rewards=False, n_pi=1, arch="shared", e_aux=0,
        normalize_observations=False, strategy="vmap",
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match=r"seed .*NaN or infinite from iteration"):
        result = run(config, progress=False)
    bad = result.first_bad_iteration
    assert any(b is not None for b in bad)
    good = [seed for seed, b in enumerate(bad) if b is None]
    assert good
    for seed, iteration in enumerate(bad):
        finite = np.isfinite(result.metrics["policy_loss"][seed])
        assert finite.all() if iteration is None else not finite[iteration:].any()
    # The same keys in other company, none of which meets the infinity, learn the same.
    clean = run(config.replace(env=NeverInfinite()), progress=False)
    for seed in good:
        for name, x in clean.metrics.items():
            np.testing.assert_array_equal(result.metrics[name][seed], x[seed], name)


def test_vmap_and_map_learn_alike(finished, vmapped):
    (_, by_map), by_vmap = finished, vmapped
    assert by_map.config.strategy == "map"
    assert by_vmap.config.strategy == "vmap"
    # The value network: the policy's first gradients are next to nothing, and Adam makes whole
    # steps of their rounding.
    values = [jax.tree.leaves(r.state.params["value_net"]) for r in (by_map, by_vmap)]
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    np.testing.assert_allclose(
        by_map.metrics["value_loss"], by_vmap.metrics["value_loss"], rtol=1e-2
    )


def test_an_environment_object_is_noted_in_the_file(tmp_path):
    env = probes.ActionMustMatch()
    config = small(env=env, seeds=1, arch="shared", e_aux=0, total_timesteps=64 * 4)
    run(config, out=tmp_path / "run", progress=False)
    path = tmp_path / "run" / "config.yaml"
    assert "was an object" in path.read_text().splitlines()[0]
    assert load_config(path, env=env).env is env
