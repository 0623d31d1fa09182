"""A sweep that is stopped or killed goes on as if nothing had happened, and can be extended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import yaml

import ppg_jax
from ppg_jax import Config, ConfigError
from ppg_jax.cli.main import main
from ppg_jax.runs.interrupts import StoppedError
from ppg_jax.runs.progress import Watch
from ppg_jax.sweeps import loop
from ppg_jax.sweeps.training import load_group

CONFIG = Config(
    env="CartPole-v1", num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2,
    total_timesteps=4 * 8 * 7, seeds=2, e_aux=1, network={"hidden_sizes": (8,)},
)  # fmt: skip
VALUES = {"e_pi": [1, 2], "gamma": [0.5, 0.9]}
SAVING = {"progress": False, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed sweep of two groups, each with three phases and an iteration more."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    return folder, ppg_jax.sweep(CONFIG, VALUES, out=folder, **SAVING)


@pytest.fixture
def copy(whole, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(whole[0], folder)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """Numbers of the groups that are trained."""
    numbers = []
    train_group = loop.train_group

    def counted(group, *rest):
        numbers.append(group.number)
        return train_group(group, *rest)

    monkeypatch.setattr(loop, "train_group", counted)
    return numbers


def kill_in(group, phase, metrics):
    """Makes the folder of a finished group that of one that was killed: ``metrics`` bytes stay."""
    for place in (group / "checkpoints" / "phases").iterdir():
        if int(place.name.removeprefix("phase_")) > phase:
            shutil.rmtree(place)
    shutil.rmtree(group / "checkpoints" / "final")
    (group / "summary.json").unlink()
    text = (group / "metrics.csv").read_bytes()
    (group / "metrics.csv").write_bytes(text[:metrics])


def assert_same(folder, result, whole):
    """All that was trained is the same, in the result and in the files."""
    for number, run in enumerate(whole[1].runs):
        for name, x in run.metrics.items():
            np.testing.assert_array_equal(result.runs[number].metrics[name], x)
            assert result.runs[number].metrics[name].dtype == x.dtype
        parameters = ppg_jax.load_run(folder, setting=number).parameters[0]
        for a, b, c in zip(
            *map(jax.tree.leaves, (result.runs[number].state.params, run.state.params, parameters)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(c, b)
    names = ["metrics.csv", "settings.csv", "sweep.yaml", "config.yaml"]
    names += [f"groups/00{i}/{name}" for i in (0, 1) for name in ("metrics.csv", "group.yaml")]
    for name in names:
        assert (folder / name).read_bytes() == (whole[0] / name).read_bytes(), name
    assert json.loads((folder / "summary.json").read_text())["finished"]
    assert result.finished


def test_killed_in_the_second_group(whole, copy, trained):
    kill_in(copy / "groups" / "001", 2, -3)
    for name in ("settings.csv", "sweep.png", "summary.json"):
        (copy / name).unlink()
    (copy / "metrics.csv").write_bytes((copy / "metrics.csv").read_bytes()[:-700])
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == [1]
    assert_same(copy, result, whole)


def test_killed_in_the_first_group(whole, copy, trained):
    kill_in(copy / "groups" / "000", 1, 4_000)
    shutil.rmtree(copy / "groups" / "001")
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == [0, 1]
    assert_same(copy, result, whole)


def test_killed_before_the_first_checkpoint(whole, copy, trained):
    kill_in(copy / "groups" / "000", 0, 0)
    (copy / "groups" / "001" / "group.yaml").unlink()  # its folder was made, and no more
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == [0, 1]
    assert_same(copy, result, whole)


def test_killed_before_the_last_parameters_were_saved(whole, copy, trained):
    """The parameters of an earlier stop are still there."""
    summary = copy / "groups" / "001" / "summary.json"
    summary.write_text(summary.read_text().replace('"finished": true', '"finished": false'))
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == [1]
    assert_same(copy, result, whole)


def test_parameters_that_are_damaged_are_made_again(whole, copy, trained):
    for file in (copy / "groups" / "000" / "checkpoints" / "final").glob("**/d/*"):
        file.write_bytes(file.read_bytes()[:-20])
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == [0]
    assert_same(copy, result, whole)


def test_a_finished_sweep_is_only_loaded(whole, copy, trained):
    result = ppg_jax.resume_sweep(copy, **SAVING)
    assert trained == []
    assert_same(copy, result, whole)
    assert result.setting(0).state.obs_stats is None
    assert result.setting(0).state.envs is None  # an earlier process had it
    assert result.run_seconds == pytest.approx(whole[1].run_seconds, abs=0.01)


@pytest.mark.long
def test_more_settings(whole, copy, trained):
    more = {"e_pi": [2, 3], "gamma": [0.9], "n_pi": [2, 1]}
    result = ppg_jax.resume_sweep(copy, more, **SAVING)
    assert trained == [2, 3, 4]
    assert result.settings == [
        {"e_pi": 1, "gamma": 0.5, "n_pi": 2}, {"e_pi": 1, "gamma": 0.9, "n_pi": 2},
        {"e_pi": 2, "gamma": 0.5, "n_pi": 2}, {"e_pi": 2, "gamma": 0.9, "n_pi": 2},
        {"e_pi": 2, "gamma": 0.9, "n_pi": 1}, {"e_pi": 3, "gamma": 0.9, "n_pi": 2},
        {"e_pi": 3, "gamma": 0.9, "n_pi": 1},
    ]  # fmt: skip
    for number in range(4):
        np.testing.assert_array_equal(
            result.runs[number].metrics["value_loss"], whole[1].runs[number].metrics["value_loss"]
        )
    trained.clear()
    again = ppg_jax.resume_sweep(copy, more, **SAVING)
    assert trained == []
    assert again.settings == result.settings
    alone = ppg_jax.run(again.setting(6).config, progress=False)
    np.testing.assert_array_equal(
        alone.metrics["value_loss"], again.setting(6).metrics["value_loss"]
    )


def test_a_signal_stops_it_and_it_goes_on(whole, tmp_path, monkeypatch, capsys):
    update = Watch.update
    folder = tmp_path / "sweep"
    seen = []

    def stop_soon(watch, segment):
        update(watch, segment)
        seen.append(segment.phases)
        if len(seen) == 6:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "update", stop_soon)
        stopped = ppg_jax.sweep(CONFIG, VALUES, out=folder, **SAVING)
    assert not stopped.finished
    assert stopped.runs[0].finished
    assert stopped.metrics["value_loss"].shape == (4, 2, 7)
    assert stopped.runs[2].metrics["value_loss"].shape == (2, 4)
    assert np.isnan(stopped.metrics["value_loss"][2, 0]).tolist() == [False] * 4 + [True] * 3
    assert main(["sweep", "--resume", str(folder), "--quiet", "--no-cache"]) == 0
    assert "| rank | setting | e_pi | gamma | iqm |" in capsys.readouterr().out
    assert_same(folder, ppg_jax.resume_sweep(folder, progress=False), whole)


def test_stopped_before_the_second_group(tmp_path, monkeypatch, capsys):
    def stop_at_the_end(watch, segment):
        if not segment.at_phase_end:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Watch, "update", stop_at_the_end)
    stopped = ppg_jax.sweep(CONFIG, VALUES, out=tmp_path / "sweep", **SAVING)
    assert [run and run.finished for run in stopped.runs] == [True, True, None, None]
    assert not stopped.finished
    assert np.isnan(stopped.final_returns[2:]).all()
    assert [row["setting"] for row in stopped.ranked()][2:] == [2, 3]
    with pytest.raises(ConfigError, match="setting: 2 is not trained yet"):
        stopped.setting(2)
    with pytest.raises(ConfigError, match="those that were trained are 0 to 1"):
        ppg_jax.load_run(tmp_path / "sweep", setting=2)


def test_stopped_before_training(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise StoppedError

    monkeypatch.setattr(loop, "train_group", stop)
    spec, out = tmp_path / "spec.yaml", tmp_path / "out"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG.to_dict()))
    spec.write_text(yaml.safe_dump({"config": "config.yaml", "values": VALUES}))
    assert main(["sweep", str(spec), "--out", str(out), "--no-cache"]) == 130
    assert f"resume with: ppg-jax sweep --resume {out}" in capsys.readouterr().err


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("config.yaml", "num_envs: 4", "num_envs: 8", "groups/000: num_envs (4 to 8); change it"),
        ("config.yaml", "gae_lambda: 0.95", "gae_lambda: 0.5", "hparams.gae_lambda (0.95 to 0.5)"),
        ("config.yaml", "seeds: 2", "seeds: 3", "seeds (2 to 3)"),
        ("sweep.yaml", "- 0.9", "- 0.8", "gamma of setting 1 (0.9 to 0.8); change it back"),
        ("sweep.yaml", "e_pi:", "e_po:", "e_po: is not a field"),
        ("groups/001/group.yaml", "number: 3", "number: 9", "settings that sweep.yaml lacks"),
        ("groups/001/group.yaml", "settings:", "setting:", "does not describe a group"),
    ],
)
def test_files_that_do_not_fit_together(copy, trained, file, old, new, words):
    edit(copy / file, old, new)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as error:
        ppg_jax.resume_sweep(copy, **SAVING)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    assert trained == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_timesteps": 1_000}, "total_timesteps: 1000 is invalid; it should stay 224"),
        ({"hparams": {"gamma": 0.3}}, "hparams.gamma (0.999 to 0.3)"),
        ({"seeds": 3}, "seeds (2 to 3)"),
        ({"values": {"gamma": [3]}}, "setting 4 (gamma 3): hparams.gamma: 3"),
    ],
)
def test_changes_that_a_sweep_refuses(copy, changes, words):
    with pytest.raises(ConfigError) as error:
        ppg_jax.resume_sweep(copy, **SAVING, **changes)
    assert words in str(error.value)


@pytest.mark.long
def test_another_strategy_is_a_small_change(whole, copy, trained):
    shutil.rmtree(copy / "groups" / "001")
    result = ppg_jax.resume_sweep(copy, strategy="vmap", devices=1, **SAVING)
    assert trained == [1]
    assert result.setting(2).config.strategy == "vmap"
    np.testing.assert_allclose(
        result.runs[3].metrics["value_loss"], whole[1].runs[3].metrics["value_loss"], rtol=1e-3
    )


def test_where_there_is_no_sweep(tmp_path, whole):
    with pytest.raises(ConfigError, match=r"contains no sweep: it has no sweep.yaml$"):
        ppg_jax.resume_sweep(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="a run is resumed by ppg-jax train --resume"):
        ppg_jax.resume_sweep(tmp_path)
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "sweep.yaml").write_text("")
    with pytest.raises(ConfigError, match="nothing is trained in it; start a new sweep"):
        ppg_jax.resume_sweep(tmp_path)


def test_a_group_is_not_loaded_by_halves(whole, copy):
    """Each file is needed: without it the group is trained again from its newest checkpoint."""
    (group, _) = loaded_groups(copy)
    assert load_group(group, copy) is not None
    for name in ("summary.json", "metrics.csv", "checkpoints/final"):
        place = copy / "groups" / "000" / name
        aside = place.with_name("aside")
        place.rename(aside)
        assert load_group(group, copy) is None, name
        aside.rename(place)


def loaded_groups(folder):
    from ppg_jax.runs.sweep_folder import saved_groups
    from ppg_jax.sweeps.folder import stored_config, stored_settings
    from ppg_jax.sweeps.groups import begun_group

    config = stored_config(folder)
    settings = stored_settings(folder, config)
    return [begun_group(group, config, settings, {}) for group in saved_groups(folder)]


@pytest.mark.long
def test_a_process_that_is_killed(tmp_path):
    """Twice by SIGKILL, while it trains the first group and the second."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG.replace(seeds=1).to_dict()))
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"config": "config.yaml", "values": VALUES}))
    folders = tmp_path / "alone", tmp_path / "killed"
    steps = ["--total-timesteps", str(4 * 8 * 2_001), "--checkpoint-every", "20", "--quiet"]

    def start(*args):
        return subprocess.Popen(
            [sys.executable, "-m", "ppg_jax", "sweep", *map(str, args)], env=os.environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    process = start(spec, "--out", folders[0], *steps)
    assert process.wait() == 0, process.stderr.read()
    process = start(spec, "--out", folders[1], *steps)
    for group in ("000", "001"):
        phases = folders[1] / "groups" / group / "checkpoints" / "phases"
        while not list(phases.glob("phase_*0")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folders[1] / "groups" / group / "summary.json").exists()
        process = start("--resume", folders[1], "--checkpoint-every", "20", "--quiet")
    assert process.wait() == 0, process.stderr.read()
    for name in ("metrics.csv", "settings.csv"):
        assert (folders[1] / name).read_bytes() == (folders[0] / name).read_bytes()
    for number in range(4):
        found = [ppg_jax.load_run(folder, setting=number).parameters[0] for folder in folders]
        for a, b in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_array_equal(a, b)
