"""The command line as a person meets it: in a process of its own, and in this one."""

import json
import subprocess
import sys

import pytest

from ppg_jax.cli.main import main
from ppg_jax.config.yaml_files import available_configs

TINY = [
    "--num-envs", "4", "--num-steps", "16", "--num-minibatches", "2", "--n-pi", "2",
    "--num-aux-minibatches", "2", "--total-timesteps", "256", "--network.hidden-sizes", "8",
]  # fmt: skip


def test_train_then_eval(tmp_path, capsys):
    out = tmp_path / "run"
    changes = ["--hparams.learning-rate", "1e-3", "--env-params.max-steps-in-episode", "9"]
    code = main(["train", "cartpole", "--seeds", "2", "--out", str(out), *TINY, *changes])
    shown = capsys.readouterr().out
    assert code == 0
    assert "compiling for" in shown
    assert "final return" in shown
    config = (out / "config.yaml").read_text()
    assert "learning_rate: 0.001" in config
    assert "max_steps_in_episode: 9" in config
    assert len(json.loads((out / "summary.json").read_text())["final_episode_return"]) == 2

    assert main(["eval", str(out), "--episodes", "6", "--greedy"]) == 0
    shown = capsys.readouterr().out
    assert "greedy" in shown
    assert "95% interval" in shown
    assert "9.00" in shown  # every episode reaches its limit

    assert main(["train", str(out / "config.yaml"), "--out", str(tmp_path / "two"), "--quiet"]) == 0
    first, second = ((folder / "metrics.csv").read_bytes() for folder in (out, tmp_path / "two"))
    assert first == second

    for file in (out / "checkpoints" / "final").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert main(["eval", str(out)]) == 0
    said = capsys.readouterr().err
    assert "cannot be read" in said
    assert "the checkpoint of phase 2 is used instead" in said
    for file in (out / "checkpoints" / "phases").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert main(["eval", str(out)]) == 2
    error = capsys.readouterr().err
    assert "cannot be read" in error
    assert error.count("\n") == 1

    assert main(["train", "--out", str(out), *TINY]) == 2
    assert "is not empty" in capsys.readouterr().err


PPO = [*TINY, "--arch", "shared", "--e-aux", "0"]


def test_train_from_another_run_and_stop(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", *PPO, "--out", str(first), "--stop-at-return", "-100", "--quiet"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "stopped after iteration 2 of 4: the mean return " in shown
    assert "has reached stop_at_return -100; resume with: ppg-jax train --resume" in shown
    assert main(["train", "--resume", str(first), "--stop-after", "1h"]) == 0
    assert json.loads((first / "summary.json").read_text())["finished"]

    warm = ["--init-from", str(first), "--init-from-seed", "0", "--init-optimizer"]
    none = ["--no-init-statistics"]
    assert main(["train", *PPO, "--out", str(second), "--seeds", "2", *warm, *none]) == 0
    record = json.loads((second / "summary.json").read_text())["warm_start"]
    assert record["taken"] == ["parameters", "optimizer states"]
    assert record["init_from_seed"] == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(second), *warm]) == 2
    assert "init_from: " in capsys.readouterr().err


def test_devices_that_are_asked_for_must_be_there(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *PPO, "--out", str(out), "--quiet"]) == 0
    file = out / "config.yaml"
    file.write_text(file.read_text().replace("devices: null", "devices: 4096"))
    capsys.readouterr()
    assert main(["train", "--resume", str(out), "--devices", "4096"]) == 2
    assert "devices: 4096 is invalid" in capsys.readouterr().err
    assert main(["train", "--resume", str(out)]) == 0
    assert "instead of 4096" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], ["'trian'", "train"]),
        (["train", "--num-env", "3"], ["--num-env:", "--num-envs"]),
        (["train", "--learning-rate", "3"], ["--learning-rate:", "--hparams.learning-rate"]),
        (["train", "cartpol"], ["'cartpol'", "cartpole"]),
        (["train", "--env", "CartPol-v1"], ["env: 'CartPol-v1'", "CartPole-v1"]),
        (["train", "--num-envs", "x"], ["num_envs: 'x'"]),
        (["train", "--num-envs"], ["--num-envs"]),
        (["train", "--num-envs", "9"], ["num_minibatches: 4", "num_envs 9"]),
        (["train", "--hparams.gamma", "2"], ["hparams.gamma: '2'"]),
        (["train", "--arch", "separate"], ["e_aux: 6", "separate"]),
        (["train", "--network.encoder", "cnn"], ["network.encoder: cnn", "mlp"]),
        (["train", "--observation-dtype", "bool"], ["observation_dtype: bool"]),
        (["train", "--env-params.gravty", "1"], ["env_params.gravty", "gravity"]),
        (["train", "--env-params.gravity"], ["--env-params.gravity"]),
        (["train", "cartpole", "acrobot"], ["acrobot"]),
        (["train", "--stop-after", "soon"], ["stop_after: 'soon'", "10m"]),
        (["train", "--stop-at-return", "high"], ["stop_at_return: 'high'", "a number"]),
        (["train", "--init-from", "nowhere"], ["init_from: nowhere", "config.yaml"]),
        (["train", "--init-from-seed", "1"], ["init_from_seed: 1", "without init_from"]),
        (["eval", "nowhere"], ["DIR: nowhere"]),
        (["eval"], ["DIR"]),
        (["list", "--all"], ["--all"]),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(argv, words, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_a_process_of_its_own_gives_no_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "ppg_jax", "train", "--hparams.gama", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: --hparams.gama: unknown option; did you mean --hparams.gamma?\n"


def test_help_shows_the_chosen_configurations_values(capsys):
    for argv in (["--help"], ["list", "--help"]):
        with pytest.raises(SystemExit) if argv[0] == "list" else _nothing():
            main(argv)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["train", "minatar/breakout", "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Breakout-MinAtar" in shown
    assert "--hparams.beta-clone FLOAT" in shown


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_list(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in [*available_configs(), "CartPole-v1", "Breakout-MinAtar", "FrozenLake-misc"]:
        assert name in shown
