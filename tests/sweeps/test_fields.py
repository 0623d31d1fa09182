"""Sweeps over fields that shape the program: results, files, and the policies of the settings."""

import csv
import json

import jax
import numpy as np
import pytest

import ppg_jax
from ppg_jax import ConfigError
from ppg_jax.cli.main import main
from ppg_jax.runs.sweep_folder import saved_groups
from tests.sweeps.test_sweep import CONFIG

TABLE = {
    "arch": ["dual", "dual", "shared"], "gamma": [0.5, 0.9, 0.9],
    "total_timesteps": [128, 128, 96], "e_aux": [1, 1, 0],
}  # fmt: skip


class Notes:
    """A logger of one's own."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, number, config):
        self.rows, self.gamma = [], config.hparams.gamma
        self.made[number] = self

    def write(self, metrics, first_iteration):
        self.rows.append((first_iteration, metrics["env_steps"].shape))

    def close(self):
        self.rows.append("closed")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "sweep"
    result = ppg_jax.sweep(
        CONFIG, TABLE, seeds=2, zipped=True, out=out, progress=False, log=["jsonl", Notes],
        evaluate_every=1, eval_episodes=2, checkpoint_every=1,
    )  # fmt: skip
    return out, result


def test_every_setting_is_the_run_of_its_own(swept):
    result = swept[1]
    assert result.finished
    assert not result.problems
    for number in (1, 2):
        setting = result.setting(number)
        alone = ppg_jax.run(setting.config, progress=False, evaluate_every=1, eval_episodes=2)
        for name, x in alone.metrics.items():
            np.testing.assert_array_equal(setting.metrics[name], x)
        assert setting.config == alone.config
        assert setting.first_bad_iteration == alone.first_bad_iteration
        assert setting.evaluations == alone.evaluations
        for a, b in zip(*map(jax.tree.leaves, (setting.state.params, alone.state.params)),
                        strict=True):  # fmt: skip
            np.testing.assert_array_equal(a, b)


def test_settings_of_other_lengths(swept):
    result = swept[1]
    steps = result.metrics["env_steps"]
    np.testing.assert_array_equal(steps[:2], np.broadcast_to([32, 64, 96, 128], (2, 2, 4)))
    np.testing.assert_array_equal(steps[2], [[32, 64, 96, np.nan]] * 2)
    assert steps.dtype == np.float64
    assert np.isnan(result.metrics["clone_kl"][2]).all()  # PPO has none
    assert result.metrics["value_loss"].dtype == np.float32
    assert result.setting(2).metrics["value_loss"].shape == (2, 3)
    assert result.final_returns.shape == (3, 2)
    assert len(result.to_dataframe()) == 2 * 2 * 4 + 2 * 3
    with pytest.raises(ConfigError, match="states have different shapes"):
        _ = result.state
    with pytest.raises(ConfigError, match="setting: 3 is invalid"):
        result.setting(3)


def test_the_folder(swept):
    out, result = swept
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 4 + 2 * 3
    assert list(rows[0])[:8] == [
        "setting", "arch", "gamma", "total_timesteps", "e_aux", "seed", "iteration", "env_steps"
    ]  # fmt: skip
    last = rows[-1]
    assert (last["setting"], last["arch"], last["seed"], last["iteration"]) == (
        "2",
        "shared",
        "1",
        "2",
    )
    assert np.float32(last["value_loss"]) == result.setting(2).metrics["value_loss"][1, 2]
    assert last["clone_kl"] == ""
    assert {p.name for p in out.iterdir()} == {
        ".lock", "config.yaml", "sweep.yaml", "metrics.csv", "settings.csv", "settings.md",
        "groups", "summary.json", "sweep.png", "sweep.svg", "learning_curves.png",
        "learning_curves.svg", "logs", "evaluation.csv",
    }  # fmt: skip
    assert json.loads((out / "summary.json").read_text())["trained"] == 3
    with (out / "evaluation.csv").open() as file:
        played = list(csv.DictReader(file))
    assert [row["setting"] for row in played].count("2") == 2 * 2 * len(
        {row["phase"] for row in played if row["setting"] == "2"}
    )
    lines = (out / "logs" / "setting_1" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 4
    assert {json.loads(line)["seed"] for line in lines} == {0, 1}
    assert Notes.made[1].gamma == 0.9
    assert Notes.made[1].rows[0] == (0, (2, 2))
    assert Notes.made[2].rows[-1] == "closed"


def test_policies_of_all_settings(swept):
    out, result = swept
    for number in range(3):
        saved = ppg_jax.load_run(out, setting=number)
        assert saved.setting == number
        assert saved.config == result.setting(number).config
        assert saved.values == result.settings[number]
        state = result.setting(number).state
        for a, b in zip(*map(jax.tree.leaves, (saved.parameters[0], state.params)), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(
            saved.metrics["value_loss"], result.setting(number).metrics["value_loss"]
        )
    best = result.ranked()[0]["setting"]
    saved = ppg_jax.load_run(out)
    assert saved.setting == best == ppg_jax.load_run(out, setting="best").setting
    assert saved.evaluate(3)[0].shape == (2, 3)
    assert repr(saved).startswith("<Saved setting: PP")
    assert f"setting {best} of" in repr(saved)


def test_commands_take_a_setting(swept, tmp_path, capsys):
    out, result = swept
    best = result.ranked()[0]["setting"]
    argv = ["--no-cache"]
    assert main(["eval", str(out), "--episodes=2", *argv]) == 0
    assert f"setting {best}, the best: arch " in capsys.readouterr().out
    gif = tmp_path / "x.gif"
    argv += ["--file", str(gif), "--max-steps=2"]
    assert main(["render", str(out), "--setting=2", *argv]) == 0
    assert "setting 2: arch shared, gamma 0.9" in capsys.readouterr().out
    assert gif.read_bytes().startswith(b"GIF")
    assert main(["plot", str(out), "--by", "arch", "--out", str(tmp_path / "plot")]) == 0
    assert "| arch shared | CartPole-v1 | 2 |" in capsys.readouterr().out
    for which, words in (
        ("3", "setting: 3 is invalid; those that were trained are 0 to 2"),
        ("x", "setting: 'x' is invalid; it should be a number or best"),
    ):
        assert main(["eval", str(out), "--setting", which]) == 2
        assert words in capsys.readouterr().err


def test_a_run_has_no_settings(tmp_path):
    (tmp_path / "config.yaml").write_text("env: CartPole-v1\n")
    with pytest.raises(ConfigError, match="contains no sweep; leave the setting out"):
        ppg_jax.load_run(tmp_path, setting=0)


def test_the_best_of_several_environments_is_unclear(swept, tmp_path, monkeypatch):
    groups = saved_groups(swept[0])
    other = type(groups[1])(groups[1].folder, groups[1].config.replace(env="Acrobot-v1"),
                            groups[1].settings)  # fmt: skip
    monkeypatch.setattr("ppg_jax.runs.loading.saved_groups", lambda *_: [groups[0], other])
    with pytest.raises(ConfigError, match="best is unclear .*: . in CartPole-v1, 2"):
        ppg_jax.load_run(swept[0])


def test_an_environment_object_is_not_written(tmp_path):
    from tests import probes

    env = probes.ActionMustMatch()
    with pytest.raises(ConfigError, match="setting 1: env is an object, which no file can hold"):
        ppg_jax.sweep(CONFIG, {"env": ["CartPole-v1", env]}, out=tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_a_field_with_the_name_of_a_metric(tmp_path):
    out = tmp_path / "sweep"
    config = CONFIG.replace(adapt_beta_clone=True, total_timesteps=64)
    swept = ppg_jax.sweep(config, {"beta_clone": [1.0, 2.0]}, out=out, progress=False)
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting_beta_clone"] for row in rows] == ["1.0", "2.0"] * 2
    assert rows[2]["beta_clone"] != ""
    assert list(swept.to_dataframe())[:3] == ["setting", "setting_beta_clone", "seed"]
