"""A run and a sweep in a line, and in a notebook; figures and files that are one's own."""

import pytest
from rich.console import Console

from ppg_jax import Config, load_run, run, sweep
from ppg_jax.cli.main import main
from ppg_jax.cli.train import _print_result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = Config(
        num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2,
        total_timesteps=4 * 8 * 8, seeds=2, network={"hidden_sizes": (8,)},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "<b>run</b>"
    return folder, run(config, out=folder, progress=False), config


def test_one_line_each(made):
    folder, result, config = made
    ppo = config.replace(arch="shared", e_aux=0)
    swept = sweep(ppo, {"gamma": [0.9, 0.99]}, progress=False)
    for shown, words in (
        (repr(result), "<Run: PPG dual on CartPole-v1, 2 seeds, final return "),
        (repr(load_run(folder)), "<Saved run: PPG dual on CartPole-v1, 2 seeds, final return "),
        (repr(swept), "<Sweep: PPO shared on CartPole-v1, 2 seeds, final return "),
    ):
        assert shown.startswith(words)
        assert "\n" not in shown
        assert len(shown) < 300
    assert "2 settings" in repr(swept)


def test_small_tables(made):
    folder, result, _ = made
    text = result._repr_html_()
    assert text.count("<tr>") == 3
    assert "<th>seed</th><th>final return</th><th>loss</th>" in text
    shown = load_run(folder)._repr_html_()
    assert "<b>run</b>" not in shown.replace("&lt;b&gt;run&lt;/b&gt;", "")
    (folder / "metrics.csv").rename(folder / "elsewhere")
    try:
        assert "metrics.csv cannot be read" in load_run(folder)._repr_html_()
        assert "unknown: no episode ended" in repr(load_run(folder))
    finally:
        (folder / "elsewhere").rename(folder / "metrics.csv")


def test_plot_overwrites_nothing_of_others(made, tmp_path, capsys):
    folder, _, _ = made
    mine = tmp_path / "report.md"
    mine.write_text("my own report\n")
    assert main(["plot", str(folder), "--out", str(tmp_path)]) == 2
    assert f"out: {mine} was not made by ppg-jax plot" in capsys.readouterr().err
    assert mine.read_text() == "my own report\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    for _ in range(2):  # its own files may be made again
        assert main(["plot", str(folder), "--out", str(tmp_path / "figures")]) == 0


def test_a_run_without_metrics_is_played_with_a_word(made, tmp_path, capsys):
    folder, _, _ = made
    (folder / "metrics.csv").rename(folder / "elsewhere")
    try:
        assert main(["eval", str(folder), "--episodes", "3"]) == 0
        err = capsys.readouterr().err
        assert "seeds with a NaN loss are not marked" in err
        assert err.count("\n") == 1
        gif = tmp_path / "a.gif"
        assert main(["render", str(folder), "--file", str(gif), "--max-steps", "3"]) == 0
        assert gif.read_bytes().startswith(b"GIF")
    finally:
        (folder / "elsewhere").rename(folder / "metrics.csv")


def test_brackets_in_a_name_are_no_markup(made, capsys):
    _, result, _ = made
    for name in ("runs[red]x", "runs[/x]"):
        assert _print_result(result, name, Console(), quiet=False) == 0
        assert f"written to {name}\n" in capsys.readouterr().out
