"""A run read back from its folder: what it holds, how it plays, how it looks."""

import shutil

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax import Config, ConfigError, load_run, run
from ppg_jax.cli.main import main
from tests import probes


def small(**changes):
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "num_aux_minibatches": 2,
        "total_timesteps": 4 * 8 * 8, "seeds": 2, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


SHORT = {"short": {"env_params": {"max_steps_in_episode": 6}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    config = small(env_params={"max_steps_in_episode": 30}, num_levels=3)
    return folder, run(
        config, out=folder, progress=False, evaluate_every=2, eval_episodes=4,
        evaluate_on=SHORT, checkpoint_every=1, log=["jsonl"],
    )  # fmt: skip


def test_it_is_the_run(trained):
    folder, result = trained
    loaded = load_run(folder)
    assert loaded.config == result.config
    assert set(loaded.metrics) == set(result.metrics)
    for name, x in result.metrics.items():
        np.testing.assert_array_equal(loaded.metrics[name], x, name)
    assert loaded.summary["finished"]
    np.testing.assert_array_equal(loaded.final_returns, result.final_returns)
    params, _ = loaded.parameters
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(result.state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tables(trained):
    _, result = trained
    table = result.to_dataframe()
    assert list(table.columns[:2]) == ["seed", "iteration"]
    assert len(table) == 2 * 8
    row = table[(table.seed == 1) & (table.iteration == 5)].iloc[0]
    assert row.value_loss == result.metrics["value_loss"][1, 5]


def test_its_policy_acts(trained):
    loaded = load_run(trained[0])
    obs = np.array([[0.0, 0.1, 0.02, -0.1], [1.0, 0.0, 0.1, 0.0]], np.float32)
    actions = loaded.policy(obs, jax.random.key(0), seed=1)
    assert actions.shape == (2,)
    assert set(np.asarray(actions).tolist()) <= {0, 1}
    greedy = [loaded.policy(o, jax.random.key(i), seed=1, greedy=True) for i, o in enumerate(obs)]
    again = loaded.policy(obs, jax.random.key(9), seed=1, greedy=True)
    np.testing.assert_array_equal(again, greedy)
    with pytest.raises(ConfigError, match="seed: 2 is invalid; the run has seeds 0 to 1"):
        loaded.policy(obs, jax.random.key(0), seed=2)
    with pytest.raises(ConfigError, match=r"obs: shape \(3,\)"):
        loaded.policy(obs[0, :3], jax.random.key(0))


def test_it_is_evaluated_elsewhere(trained):
    loaded = load_run(trained[0])
    _, lengths, ended = loaded.evaluate(16, env_params={"max_steps_in_episode": 7})
    assert lengths.shape == (2, 16)
    assert ended.all()
    assert lengths.max() <= 7
    own = loaded.evaluate(16)[0]
    np.testing.assert_array_equal(own, loaded.evaluate(16)[0])
    assert not np.array_equal(own, loaded.evaluate(16, num_levels=None)[0])
    with pytest.raises(ConfigError, match="gamma: cannot be changed here"):
        loaded.evaluate(1, gamma=1)


def test_a_killed_run_plays_from_its_checkpoint(trained, tmp_path):
    folder, result = trained
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    shutil.rmtree(killed / "checkpoints" / "final")
    (killed / "summary.json").unlink()
    loaded = load_run(killed)
    assert loaded.summary == {}
    params, _ = loaded.parameters
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(result.state.params), strict=True):
        np.testing.assert_array_equal(a, b)
    (killed / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match=r"summary.json is not JSON"):
        _ = load_run(killed).summary
    shutil.rmtree(killed / "checkpoints")
    with pytest.raises(ConfigError, match="contains no complete parameters"):
        _ = load_run(killed).parameters


def test_evaluations_during_training(trained):
    folder, result = trained
    rows = result.evaluations
    # Phases 2 and 4, two policies, three places, two seeds.
    assert len(rows) == 2 * 2 * 3 * 2
    assert {row["phase"] for row in rows} == {2, 4}
    assert {row["where"] for row in rows} == {"training", "all levels", "short"}
    assert all(row["mean_return"] <= 6 for row in rows if row["where"] == "short")
    assert {row["env_steps"] for row in rows} == {128, 256}
    assert all(1 <= row["mean_return"] <= 30 for row in rows)
    lines = (folder / "evaluation.csv").read_text().splitlines()
    assert len(lines) == 1 + len(rows)
    assert lines[0].startswith("phase,env_steps,seed,policy,where,mean_return")


def test_evaluations_go_on_too(trained, tmp_path):
    folder, result = trained
    stopped = tmp_path / "run"
    shutil.copytree(folder, stopped)
    phases = stopped / "checkpoints" / "phases"
    assert (phases / "phase_3").is_dir()
    shutil.rmtree(phases / "phase_4")
    again = ppg_jax.resume(
        stopped, progress=False, evaluate_every=1, eval_episodes=4, evaluate_on=SHORT, log=["jsonl"]
    )
    assert again.evaluations == result.evaluations
    for name in ("metrics.csv", "metrics.jsonl", "evaluation.csv"):
        assert (stopped / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_gif(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    folder, _ = trained
    total = load_run(folder).render(tmp_path / "a.gif", max_steps=4, greedy=True)
    assert total == 4.0
    from PIL import Image

    with Image.open(tmp_path / "a.gif") as image:
        assert image.format == "GIF"
        assert image.n_frames > 1


def test_what_cannot_be_drawn_is_said(tmp_path, capsys):
    env = probes.ActionMustMatch()
    run(small(env=env, seeds=1), out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="env: gymnax cannot draw ActionMustMatch; it can draw"):
        load_run(tmp_path / "run", env=env).render(tmp_path / "b.gif")
    assert main(["render", str(tmp_path / "run"), "--file", "a.mp4"]) == 2
    assert "should end in .gif" in capsys.readouterr().err


def test_commands(trained, tmp_path, capsys):
    folder, _ = trained
    assert main(["eval", str(folder), "--episodes", "3", "--num-levels", "none"]) == 0
    assert "num_levels None" in capsys.readouterr().out
    assert (
        main(["eval", str(folder), "--env-params.max-steps-in-episode", "5", "--episodes", "3"])
        == 0
    )
    assert "5.0" in capsys.readouterr().out
    assert main(["eval", str(folder), "--env-params.nothing", "5"]) == 2
    assert "env_params.nothing" in capsys.readouterr().err
    assert main(["eval", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
