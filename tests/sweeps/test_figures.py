"""The figures of a sweep: fields of any kind on the axes, and a learning curve for each setting."""

import numpy as np

from ppg_jax import Config
from ppg_jax.runs import Result
from ppg_jax.sweeps.figures import MOST_COLOURS, plot_setting_curves, plot_sweep
from ppg_jax.sweeps.report import ranked

FINE = [[None, None]] * 6


def grid(**columns):
    (a, b) = columns
    return [{a: x, b: y} for x in columns[a] for y in columns[b]]


def test_names_and_lists_on_a_heat_map():
    settings = grid(hidden_sizes=[[8], [16, 16]], arch=["single", "dual", "shared"])
    figure = plot_sweep(settings, np.arange(12.0).reshape(6, 2), FINE, Config())
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]])
    names = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert names == ["single", "dual", "shared"]  # in their order
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["[8]", "[16, 16]"]
    assert figure.get_suptitle() == "CartPole-v1, 2 seeds a setting"  # not PPG dual


def test_panels_of_names_and_numbers():
    settings = [
        {"env": env, "n_pi": n_pi, "recall": ["action"] if n_pi > 2 else []}
        for env in ("A", "B") for n_pi in (4, 2, 1)
    ]  # fmt: skip
    returns = np.arange(12.0).reshape(6, 2)
    figure = plot_sweep(settings, returns, [*FINE[:5], [3, None]], Config())
    env, n_pi, recall = figure.axes
    assert [label.get_text() for label in env.get_xticklabels()] == ["A", "B"]
    np.testing.assert_array_equal(env.lines[0].get_ydata(), [2.5, 8.5])  # IQM of 0..5 and 6..11
    np.testing.assert_array_equal(n_pi.lines[0].get_xdata(), [1, 2, 4])  # numbers are sorted
    assert [label.get_text() for label in recall.get_xticklabels()] == ['["action"]', "[]"]
    np.testing.assert_array_equal(env.lines[-1].get_xdata(), [1.0])  # B has a seed with NaN
    assert figure.get_suptitle() == "PPG dual, 2 seeds a setting"


def result(returns, env="CartPole-v1", iterations=4):
    config = Config(env=env, seeds=2)
    one = np.ones((2, iterations), np.float32)
    metrics = {
        "episode_return": one * np.float32(returns), "num_episodes": one.astype(np.int32),
        "env_steps": np.tile(np.arange(1, iterations + 1), (2, 1)), "policy_loss": one,
        "value_loss": one, "aux_value_loss": one, "aux_phase_value_loss": one, "clone_kl": one,
    }  # fmt: skip
    return Result(
        config=config, metrics=metrics, state=None, compile_seconds=0.0, run_seconds=0.0,
        first_bad_iteration=[None, None],
    )  # fmt: skip


def curves(settings, runs):
    returns = np.stack([r.final_returns if r else np.full(2, np.nan) for r in runs])
    rows = ranked(settings, returns, [[None, None]] * len(runs))
    return plot_setting_curves(settings, runs, rows)


def test_the_best_curves_have_a_colour():
    settings = [{"gamma": x / 20} for x in range(12)]
    runs = [result(number) for number in range(11)] + [None]
    figure = curves(settings, runs)
    (axes,) = figure.axes
    lines = {line.get_ydata()[0]: line.get_color() for line in axes.lines}
    assert sorted(lines) == list(range(11))
    grey = [returns for returns, color in lines.items() if color == "0.7"]
    assert sorted(grey) == [0, 1, 2, 3]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"{n}: gamma {n / 20:g}" for n in range(10, 3, -1)]
    assert len(labels) == MOST_COLOURS
    assert figure.get_suptitle() == "learning curves, 2 seeds each; 4 more in grey"


def test_a_panel_for_each_environment():
    settings = grid(env=["CartPole-v1", "Acrobot-v1"], gamma=[0.1, 0.2, 0.3, 0.4, 0.5])
    runs = [result(n, setting["env"], 4 + n) for n, setting in enumerate(settings)]
    figure = curves(settings, runs)
    acrobot, cartpole = figure.axes
    assert (acrobot.get_title(), cartpole.get_title()) == ("Acrobot-v1", "CartPole-v1")
    for axes, returns in ((cartpole, range(5)), (acrobot, range(5, 10))):
        colors = {line.get_ydata()[0]: line.get_color() for line in axes.lines}
        assert sorted(colors) == list(returns)
        grey = [x for x, color in colors.items() if color == "0.7"]
        assert sorted(grey) == [min(returns), min(returns) + 1]


def test_nothing_to_draw_is_an_empty_figure():
    assert curves([{"gamma": 0.1}], [result(np.nan)]).axes == []
    assert curves([{"gamma": 0.1}], [None]).axes == []


def test_environments_are_ranked_apart():
    settings = grid(env=["A", "B"], gamma=[0.1, 0.2, 0.3])
    returns = np.array([[1, 1], [3, 3], [2, 2], [30, 30], [10, 10], [30, 30]], float)
    rows = ranked(settings, returns, FINE)
    assert [(row["env"], row["rank"], row["setting"]) for row in rows] == [
        ("A", 1, 1), ("A", 2, 2), ("A", 3, 0), ("B", 1, 3), ("B", 1, 5), ("B", 3, 4),
    ]  # fmt: skip
