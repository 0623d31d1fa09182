"""``ppg-jax bench``: options in, a table or JSON out, and the exit code."""

import json

import pytest

from ppg_jax.cli.main import main
from ppg_jax.execution import Plan, Speed, TooLargeError
from ppg_jax.execution.layout import Layout
from ppg_jax.runs import benchmark

TINY = [
    "--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--n-pi", "2",
    "--num-aux-minibatches", "2", "--network.hidden-sizes", "8",
]  # fmt: skip


@pytest.fixture
def configs(monkeypatch):
    """The configurations that are measured, without measuring them."""
    seen = []

    def measure(config, repeats, *, note):
        seen.append(config)
        if config.seeds == 13:
            raise TooLargeError("memory: too much")
        if config.seeds == 99:
            raise KeyboardInterrupt
        layout = Layout("map", 1, 1, config.seeds)
        return Speed(Plan(config, layout), 2.0, (0.5,) * repeats, 64, 2**20, 2**20, 2**21)

    monkeypatch.setattr(benchmark, "measure_speed", measure)
    return seen


def test_a_table_and_a_file(configs, tmp_path, capsys):
    out = tmp_path / "bench.json"
    given = ["--seeds", "1", "8", "--strategy", "vmap", "--env-params.max-steps-in-episode", "9"]
    assert main(["bench", "cartpole", *given, *TINY, "--repeats", "2", "--out", str(out)]) == 0
    assert [config.seeds for config in configs] == [1, 8]
    assert {config.strategy for config in configs} == {"vmap"}
    assert configs[0].num_envs == 4
    assert configs[0].env_params["max_steps_in_episode"] == 9
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[:2] == ["seeds", "layout"]
    assert [line.split()[0] for line in shown[2:4]] == ["1", "8"]
    assert "2.0 MiB" in shown[2]
    assert shown[-1] == f"written to {out}"
    assert [row["run_seconds"] for row in json.loads(out.read_text())["results"]] == [
        [0.5, 0.5]
    ] * 2
    assert main(["bench", "cartpole", *TINY, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: out: ")
    assert error.count("\n") == 1


def test_json_is_all_that_is_printed(configs, capsys):
    assert main(["bench", "cartpole", "--json", *TINY]) == 0
    shown = capsys.readouterr()
    assert [row["seeds"] for row in json.loads(shown.out)["results"]] == [1]
    assert "env steps/s" in shown.err
    assert main(["bench", "cartpole", "--quiet", *TINY]) == 0
    assert capsys.readouterr() == ("", "")


def test_exit_codes(configs, tmp_path, capsys):
    assert main(["bench", "cartpole", "--seeds", "13", "2", *TINY]) == 0
    assert main(["bench", "cartpole", "--seeds", "13", *TINY]) == 1
    out = tmp_path / "b.json"
    assert main(["bench", "--seeds", "3", "99", "4", "--json", "--out", str(out), *TINY]) == 130
    shown = capsys.readouterr()
    assert shown.err.endswith("error: stopped\n")
    kept = json.loads(out.read_text())
    assert not kept["finished"]
    assert [row["seeds"] for row in kept["results"]] == [3]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds", "x"], ["seeds", "'x' is invalid; it should be a whole number"]),
        (["--seeds", "0"], ["seeds: 0 is invalid"]),
        (["--repeats", "0"], ["repeats: 0 is invalid"]),
        (["--repeat", "3"], ["--repeat:", "--repeats"]),
        (["--num-envs", "9"], ["num_minibatches"]),
        (["nowhere"], ["config: 'nowhere'"]),
        (["--env", "CartPol-v1"], ["env: 'CartPol-v1'"]),
    ],
)
def test_mistakes_are_one_line(configs, argv, words, capsys):
    assert main(["bench", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not configs


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "minatar/breakout", "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("--seeds INT [INT ...]", "--out FILE.json", "--num-envs INT", "Breakout-MinAtar"):
        assert words in shown
    assert main(["--help"]) == 0
    assert "bench [CONFIG]" in capsys.readouterr().out
