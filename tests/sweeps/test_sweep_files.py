"""``ppg-jax sweep``: a file in, a folder with ranked settings and pictures out."""

import csv

import numpy as np
import pytest

from ppg_jax.cli import sweep as command
from ppg_jax.cli.main import main
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import read_config
from ppg_jax.sweeps.figures import plot_sweep
from ppg_jax.sweeps.report import ranked, sweep_table
from ppg_jax.sweeps.settings import make_settings

SPEC = """
config: cartpole
seeds: 2
changes: {num_envs: 4, num_steps: 8, num_minibatches: 2, n_pi: 2, num_aux_minibatches: 2,
          total_timesteps: 256, network: {hidden_sizes: [8]}}
values: {learning_rate: [1e-3, 1e-2], beta_clone: [0.5, 1, 2]}
"""


def test_a_grid_from_a_file(tmp_path, capsys):
    spec, out = tmp_path / "spec.yaml", tmp_path / "out"
    spec.write_text(SPEC)
    assert main(["sweep", str(spec), "--out", str(out), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "| rank | setting | learning_rate | beta_clone | iqm |" in shown
    with (out / "settings.csv").open() as file:
        rows = list(csv.DictReader(file))
    returns = [float(row["iqm"]) for row in rows]
    assert returns == sorted(returns, reverse=True)
    assert [int(row["rank"]) for row in rows] == [1 + returns.index(x) for x in returns]
    with (out / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    assert len(metrics) == 6 * 2 * 8
    assert {(row["setting"], row["learning_rate"], row["beta_clone"]) for row in metrics} >= {
        ("0", "0.001", "0.5"), ("5", "0.01", "2.0"),
    }  # fmt: skip
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "sweep.svg").read_bytes()
    assert {"config.yaml", "settings.md", "summary.json"} <= {p.name for p in out.iterdir()}
    again = command.SPEC.read(out / "sweep.yaml")
    assert read_config(again["config"])["seeds"] == 2
    assert make_settings(again["values"], zipped=again["zipped"]) == [
        {"learning_rate": a, "beta_clone": b} for a in (1e-3, 1e-2) for b in (0.5, 1.0, 2.0)
    ]
    assert main(["train", "--resume", str(out)]) == 2
    assert "contains a sweep, not a run; resume it with ppg-jax sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "values: is missing"),
        ("{valeus: {gamma: [1]}}", "valeus: is unknown; did you mean values"),
        ("{values: {gama: [0.9]}}", "gama: is not a field; did you mean gamma?"),
        ("{values: {n_envs: [8]}}", "n_envs: is not a field; did you mean num_envs?"),
        ("{values: {qqq: [8]}}", "qqq: is not a field; ppg-jax sweep --help shows all"),
        ("{values: {network.memory: [lst]}}", "setting 0 (memory lst): network.memory: 'lst'"),
        ("{values: {gamma: {log: [1, 2]}}}", "gamma: {'log': [1, 2]} is a range"),
        ("{values: {gamma: {log: [2, 1]}}, draws: 3}", "it should have two numbers above 0"),
        ("{values: {gamma: [0.9]}, zipped: 3}", "zipped: 3 is invalid"),
        ("{values: {gamma: [0.9]}, config: nowhere}", "config: 'nowhere'"),
        ("{values: {gamma: [7]}}", "hparams.gamma: 7"),
        ("{values: 3}", "values: 3 is invalid"),
        ("[1]", "list"),
    ],
)
def test_bad_files(tmp_path, capsys, text, words):
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert main(["sweep", str(tmp_path / "none.yaml"), "--out", "x"]) == 2


def settings():
    return [{"a": a, "b": b} for a in (1.0, 2.0) for b in (0.1, 1.0, 10.0)]


def test_ranking():
    returns = np.array([[1.0, 3.0], [5.0, np.nan], [np.nan, np.nan]])
    rows = ranked(settings()[:3], returns, [[None, None], [None, 3], [0, 0]])
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["b"] for row in rows] == [1.0, 0.1, 10.0]
    assert [row["iqm"] for row in rows[:2]] == [5.0, 2.0]
    assert [row["bad_seeds"] for row in rows] == [1, 0, 2]
    assert "| 1 | 1 | 1 | 1 | 5 |" in sweep_table(rows)


FINE = [[None, None]] * 6


def test_two_names_are_a_heat_map():
    figure = plot_sweep(settings(), np.arange(12.0).reshape(6, 2), FINE)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("b", "a")
    assert [text.get_text() for text in axes.texts][:2] == ["0.5", "2.5"]


def test_lost_seeds_are_marked():
    returns = np.arange(12.0).reshape(6, 2)
    returns[2] = np.nan
    bad = [[None, None], [None, 7], [0, 0], *FINE[3:]]
    texts = [text.get_text() for text in plot_sweep(settings(), returns, bad).axes[0].texts]
    assert texts[:3] == ["0.5", "2.5\n1 of 2 NaN", "no episode\n2 of 2 NaN"]
    lines = plot_sweep([{"a": float(i)} for i in range(6)], returns, bad).axes[0].lines
    np.testing.assert_array_equal(lines[1].get_xdata(), [1.0, 2.0])


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_other_numbers_of_names_are_lines(names):
    chosen = [dict.fromkeys(names, float(i)) for i in range(1, 4)]
    figure = plot_sweep(chosen, np.arange(6.0).reshape(3, 2), FINE[:3])
    assert [axes.get_xlabel() for axes in figure.axes] == list(names)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.5, 2.5, 4.5])
    assert len(figure.axes[0].lines) == 1


def test_sweep_takes_what_train_takes(tmp_path, capsys):
    spec, out = tmp_path / "spec.yaml", tmp_path / "out"
    spec.write_text(SPEC.replace("beta_clone: [0.5, 1, 2]", "gamma: [0.9]"))
    argv = ["sweep", str(spec), "--out", str(out), "--quiet", "--seeds", "3"]
    argv += ["--hparams.gae-lambda", "0.5", "--env-params.max-steps-in-episode", "7"]
    argv += ["--total-timesteps", "128"]
    assert main(argv) == 0
    capsys.readouterr()
    fields = read_config(out / "config.yaml")
    assert (fields["seeds"], fields["total_timesteps"]) == (3, 128)
    assert fields["hparams"]["gae_lambda"] == 0.5
    assert fields["env_params"] == {"max_steps_in_episode": 7}
    assert fields["num_envs"] == 4  # the file's own changes stay
    for argv, words in (
        (["sweep", str(spec), "--resume", "x"], "x contains no sweep: it has no sweep.yaml"),
        (["sweep", "--resume", str(out), "--out", "y"], "out: y is invalid; remove it"),
        (["sweep", "--resume", str(out), "--num-envs", "8"], "num_envs (4 to 8)"),
        (["sweep", str(spec), "--out=y", "--checkpoint-every=-1"], "checkpoint_every: -1"),
        (["sweep", str(spec), "--lr", "3"], "did you mean --hparams.learning-rate?"),
        (["sweep", str(spec)], "out: is missing; name a new folder"),
        (["sweep"], "spec: is missing"),
    ):
        assert main(argv) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sweep", str(spec), "--help"])
    shown = capsys.readouterr().out
    assert "--seeds INT" in shown
    assert "(default: 2)" in shown


def test_equal_results_share_a_rank():
    settings = [{"gamma": x} for x in (0.1, 0.2, 0.3, 0.4, 0.5)]
    returns = np.array([[5.0, 5.0], [np.nan, np.nan], [7.0, 7.0], [7.0, 7.0], [np.nan, np.nan]])
    rows = ranked(settings, returns, [[None, None]] * 5)
    assert [row["rank"] for row in rows] == [1, 1, 3, 4, 4]
    assert [row["gamma"] for row in rows] == [0.3, 0.4, 0.1, 0.2, 0.5]


def test_panels_share_an_axis_and_say_how_many_seeds():
    settings = [{"a": a, "b": b, "c": 1.0 + (a > 1)} for a in (1.0, 2.0, 3.0) for b in (1.0, 2.0)]
    returns = np.array([[s["a"] * 100, s["a"] * 100 + s["b"]] for s in settings])
    figure = plot_sweep(settings, returns, [[None, None]] * 6, Config())
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert figure.get_suptitle() == "PPG dual on CartPole-v1, 2 seeds a setting"
