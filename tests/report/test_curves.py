"""Comparisons with known answers, and pictures that show what they should."""

import dataclasses

import numpy as np
import pytest

from ppg_jax.config.config import Config
from ppg_jax.config.fields import ConfigError
from ppg_jax.report.curves import (
    markdown_table,
    normalized,
    plot_curves,
    plot_learning_curve,
    plot_profile,
    probability_of_improvement,
)
from ppg_jax.report.groups import Group, group_runs
from ppg_jax.report.statistics import iqm, iqm_interval


@dataclasses.dataclass
class Fake:
    config: Config
    metrics: dict


def fake(returns, **fields):
    """A run whose seeds have these returns throughout."""
    returns = np.repeat(np.array(returns, float)[:, None], 20, axis=1)
    steps = np.tile(8192 * np.arange(1, 21), (len(returns), 1))
    metrics = {
        "episode_return": returns,
        "num_episodes": np.ones(returns.shape, int),
        "env_steps": steps,
    }
    losses = ("policy_loss", "value_loss", "clone_kl", "aux_value_loss", "aux_phase_value_loss")
    metrics |= {name: np.zeros(returns.shape) for name in losses}
    return Fake(Config(**fields), metrics)


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm(np.array([100.0, 1.0, 2.0, -50.0])) == 1.5
    assert iqm_interval([np.array([100.0, 1.0, 2.0, -50.0, np.nan])])[0] == 1.5


def test_interval_covers_and_shrinks():
    rng = np.random.default_rng(0)
    few, many = (iqm_interval([rng.normal(3, 1, n)]) for n in (8, 800))
    for middle, low, high in (few, many):
        assert low < middle < high
    assert few[2] - few[1] > 3 * (many[2] - many[1])
    assert iqm_interval([np.array([2.0, 2.0])]) == (2.0, 2.0, 2.0)
    assert np.isnan(iqm_interval([np.array([2.0])])[1:]).all()
    assert np.isnan(iqm_interval([np.array([np.nan])])).all()


def test_resampling_stays_within_its_task():
    # Between the tasks lies everything; within them nothing varies.
    apart = [np.zeros(8), np.full(8, 100.0)]
    middle, low, high = iqm_interval(apart)
    assert (middle, low, high) == (50.0, 50.0, 50.0)
    _, low, high = iqm_interval([np.concatenate(apart)])
    assert high - low > 30


def test_a_task_with_a_single_run_keeps_its_weight():
    middle, low, high = iqm_interval([np.array([100.0]), np.array([0.0, 1.0, 2.0])])
    assert middle == 1.5
    assert 0 <= low < high <= 2  # twice in the drawing, the single run would get into the middle


def test_the_numbers_are_those_of_rliable():
    """rliable 1.2.0 on the same scores, 50,000 resamples (5,000 for the probability)."""
    x = [
        [0.525, 0.521, 0.761, 0.247, 0.035, 0.354],
        [0.474, 0.393, 0.689, 0.375, 0.456, 0.391],
        [0.628, 0.572, 0.359, 0.508, 0.251, 0.437],
    ]
    y = [
        [0.523, 0.81, 0.671, 0.123, 0.097, 0.562],
        [0.713, 0.2, 0.428, 0.263, 0.337, 0.464],
        [0.361, 0.505, 0.177, 0.466, 0.352, 0.507],
    ]
    np.testing.assert_allclose(iqm_interval(x), [0.4439, 0.3750, 0.5198], atol=5e-3)
    np.testing.assert_allclose(iqm_interval(y), [0.4206, 0.3112, 0.5113], atol=5e-3)
    assert iqm_interval(x)[0] == pytest.approx(0.4439, abs=1e-12)
    found = probability_of_improvement(*(dict(enumerate(map(np.array, s))) for s in (x, y)))
    assert found[0] == pytest.approx(0.56481481, abs=1e-8)
    np.testing.assert_allclose(found[1:], [0.3704, 0.75], atol=0.02)


def test_probability_of_improvement():
    better, worse = {"a": np.array([3.0, 4.0])}, {"a": np.array([1.0, 2.0])}
    assert probability_of_improvement(better, worse) == (1.0, 1.0, 1.0)
    assert probability_of_improvement(worse, better)[0] == 0.0
    assert probability_of_improvement(better, better)[0] == 0.5
    mixed = {"a": np.array([3.0, 0.0])}
    middle, low, high = probability_of_improvement(mixed, worse)
    assert (middle, low, high) == (0.5, 0.0, 1.0)
    assert np.isnan(probability_of_improvement({"a": np.array([1.0])}, {"b": np.array([1.0])})[0])


def test_groups_are_what_differs():
    runs = [fake([1.0]), fake([2.0], seed=5), fake([3.0], arch="shared", hparams={"gamma": 0.9})]
    groups = group_runs(runs)
    assert [g.label for g in groups] == [
        "arch dual, gamma 0.999", "arch shared, gamma 0.9",
    ]  # fmt: skip
    assert groups[0].scores("CartPole-v1").tolist() == [1.0, 2.0]
    assert [g.label for g in group_runs(runs, ["seed"])] == ["seed 0", "seed 5"]
    assert [g.label for g in group_runs(runs[:1])] == ["PPG dual"]
    with pytest.raises(ConfigError, match="by: 'gamma' is not a field; did you mean hparams.gamma"):
        group_runs(runs, ["gamma"])
    with pytest.raises(ConfigError, match="by: 'qqq' is not a field; config.yaml of a run shows"):
        group_runs(runs, ["qqq"])


def test_groups_that_differ_in_much_have_the_names_of_their_algorithms():
    ppo = {"arch": "shared", "e_aux": 0, "n_pi": 1, "e_pi": 4, "e_v": 4}
    runs = [fake([1.0]), fake([2.0], **ppo)]
    assert [g.label for g in group_runs(runs)] == ["PPG dual", "PPO shared"]
    both = [
        fake([1.0], **ppo),
        fake([2.0], **ppo | {"n_pi": 2, "e_pi": 1, "e_v": 1, "num_envs": 8}),
    ]
    assert [g.label.split(",")[0] for g in group_runs(both)] == ["num_envs 64", "num_envs 8"]


def two_groups():
    first = [fake([10.0, 12.0]), fake([1.0, 2.0], env="Acrobot-v1")]
    second = [fake([20.0, 22.0]), fake([0.0, 1.0], env="Acrobot-v1")]
    return [Group("one", tuple(first)), Group("two", tuple(second))]


def test_environments_are_brought_to_one_scale():
    found = normalized(two_groups())
    np.testing.assert_allclose(found["one"]["CartPole-v1"], [0, 1 / 6])
    np.testing.assert_allclose(found["two"]["Acrobot-v1"], [0, 0.5])


def test_groups_are_compared_where_all_of_them_are():
    first, second = two_groups()
    alone = Group("alone", second.runs[:1])
    assert list(normalized([first, alone])["one"]) == ["CartPole-v1"]
    text = markdown_table([first, alone])
    assert "environments, 0 to 1" not in text
    assert "with probability 0.00" in text  # 10 and 12 against 20 and 22
    apart = [Group("one", first.runs[1:]), alone]
    assert "with probability" not in markdown_table(apart)
    with pytest.raises(ConfigError, match="groups: they have no environment in common"):
        plot_profile(apart)


def test_the_table():
    text = markdown_table(two_groups())
    assert "| two | CartPole-v1 | 2 | 21.00 | 20.00 to 22.00 |" in text
    assert text.index("| two | CartPole-v1") < text.index("| one | CartPole-v1")  # best first
    assert "2 environments, 0 to 1 (IQM)" in text
    assert "A run of *one* beats one of *two* with probability" in text


def test_curves_show_every_environment_and_group():
    figure = plot_curves(two_groups(), per_seed=True)
    assert [axes.get_title() for axes in figure.axes] == ["Acrobot-v1", "CartPole-v1"]
    cartpole = figure.axes[1]
    assert len(cartpole.lines) == 2 * (2 + 1)
    assert cartpole.lines[2].get_ydata()[-1] == 11.0
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]
    figure.canvas.draw()
    assert "50k" in [text.get_text() for text in cartpole.get_xticklabels()]


def test_lost_seeds_are_marked():
    run = fake([1.0, 2.0])
    run.metrics["value_loss"][1, 7:] = np.nan
    group = Group("one", (run, fake([3.0])))
    assert group.name == "one (1 of 3 seeds NaN)"
    assert "| one (1 of 3 seeds NaN) | CartPole-v1 |" in markdown_table([group])
    acrobot = fake([1.0], env="Acrobot-v1")
    group = Group("one", (*group.runs, acrobot))
    other = Group("two", (fake([2.0]), acrobot))
    text = markdown_table([group, other])
    assert text.count("one (1 of 4 seeds NaN)") == 4  # two environments, all, and the sentence
    (legend,) = plot_profile([group, other]).legends
    assert legend.get_texts()[0].get_text() == "one (1 of 4 seeds NaN)"
    assert "1 of 2 seeds NaN" in plot_learning_curve(run.config, run.metrics).axes[0].get_title()


def test_runs_of_different_lengths_share_an_axis():
    short = fake([1.0, 3.0])
    short.metrics = {name: x[:, :5] for name, x in short.metrics.items()}
    steps, returns = Group("both", (short, fake([5.0]))).curves("CartPole-v1")
    assert steps[-1] == 20 * 8192
    assert np.isnan(returns[0, -1])
    assert returns[2, -1] == 5.0


def test_a_run_without_an_episode_has_a_picture():
    run = fake([1.0, 2.0])
    run.metrics["num_episodes"][:] = 0
    run.metrics["episode_return"][:] = np.nan
    assert plot_learning_curve(run.config, run.metrics).axes[0].get_title()


def test_groups_without_an_episode_have_pictures():
    lost = [fake([1.0, 2.0]), fake([1.0, 2.0], env="Acrobot-v1")]
    for run in lost:
        run.metrics["num_episodes"][:] = 0
    groups = [Group("none", tuple(lost)), Group("none either", tuple(lost))]
    figure = plot_profile(groups)
    assert not figure.axes[0].lines
    assert len(figure.legends[0].get_texts()) == 2
    assert "| none | CartPole-v1 | 0 | nan | - |" in markdown_table(groups)


def test_profile_falls_from_one_to_nothing():
    figure = plot_profile(two_groups())
    for line in figure.axes[0].lines:
        share = line.get_ydata()
        assert (np.diff(share) <= 0).all()
        assert (share[0], share[-1]) == (1.0, 0.0)
