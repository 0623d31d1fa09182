"""Searches: the budget holds, survivors are exact, and what is resumed is what was not stopped."""

import dataclasses
import json
import math
import sys

import numpy as np
import pytest
import yaml

import ppg_jax
from ppg_jax import ConfigError
from ppg_jax.cli.main import main
from ppg_jax.report import iqm
from ppg_jax.sweeps.tuning import search as search_module
from ppg_jax.sweeps.tuning.objectives import area, normalized_score, score
from ppg_jax.sweeps.tuning.search import Search
from ppg_jax.sweeps.tuning.space import distributions, spec_of, values_of

SMALL = {
    "env": "CartPole-v1", "num_envs": 4, "num_steps": 16, "num_minibatches": 2, "n_pi": 1,
    "num_aux_minibatches": 2, "e_aux": 1, "total_timesteps": 9 * 64, "seeds": 2,
    "network": {"hidden_sizes": [8]},
}  # fmt: skip
SPACE = {"learning_rate": {"log": [1e-4, 1e-1]}, "gamma": [0.9, 0.99]}
RUN = 9 * 64 * 2
"""Environment steps of a whole trial."""
CONFIG = ppg_jax.Config(**SMALL)
HOW = {"population": 3, "rungs": 3, "report_seeds": 2, "progress": False}


def table(result):
    """The trials without what NaN would make different from itself."""
    return [json.dumps(dataclasses.asdict(trial)) for trial in result.trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of several generations, and its folder."""
    folder = tmp_path_factory.mktemp("tune") / "search"
    return ppg_jax.tune(CONFIG, SPACE, 4 * RUN, out=folder, **HOW), folder


def test_area_by_hand():
    nan = np.nan
    returns = np.array([[nan, 2.0, nan, 6.0], [4.0, nan, nan, nan], [nan] * 4])
    found = area({"episode_return": returns})
    np.testing.assert_allclose(found, [(2 + 2 + 6) / 3, 4.0, nan])


def test_scores_of_several_environments():
    bounds = {"a": (0.0, 10.0), "b": (100.0, 300.0)}
    assert normalized_score({"a": 5.0, "b": 300.0}, bounds) == 0.75


def test_ranges_become_distributions():
    space = {
        "hparams.learning_rate": {"log": [1e-4, 1e-2]}, "n_pi": {"int": [2, 8]},
        "hidden_sizes": [[8], [16, 16]], "arch": {"choice": ["dual", "shared"]},
        "gamma": {"uniform": [0.9, 1]},
    }  # fmt: skip
    found = distributions(space)
    assert list(found) == ["learning_rate", "n_pi", "hidden_sizes", "arch", "gamma"]
    assert (found["learning_rate"].low, found["learning_rate"].log) == (1e-4, True)
    assert (found["n_pi"].low, found["n_pi"].high, found["gamma"].log) == (2, 8, False)
    stored = {"hidden_sizes": found["hidden_sizes"].choices[1], "arch": "dual"}
    assert values_of(stored) == {"hidden_sizes": [16, 16], "arch": "dual"}
    assert spec_of({"gamma": (0.9, np.float64(0.5))}) == {"gamma": [0.9, 0.5]}


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({}, "space: {} is invalid"),
        ({"learning_rat": [1]}, "learning_rat: is not a field; did you mean learning_rate"),
        ({"gamma": {"log": [0, 1]}}, "gamma: {log: [0, 1]} is invalid"),
        ({"gamma": {"normal": [0, 1]}}, "gamma: {'normal': [0, 1]} is invalid"),
        ({"gamma": [0.9], "hparams.gamma": [0.8]}, "hparams.gamma: is given twice"),
        ({"gamma": [2.0]}, "trial 0 ({'gamma': 2.0}): hparams.gamma: 2.0 is invalid"),
    ],
)
def test_spaces_that_are_refused(space, named):
    with pytest.raises(ConfigError) as error:
        ppg_jax.tune(CONFIG, space, 4 * RUN, **HOW)
    assert str(error.value).startswith(named)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"objective": "best"}, "objective: 'best' is invalid"),
        ({"sampler": "grid"}, "sampler: 'grid' is invalid; it should be tpe or random"),
        ({"pruner": "hard"}, "pruner: 'hard' is invalid"),
        ({"reduction": 1}, "reduction: 1 is invalid"),
        ({"budget": RUN}, f"budget: {RUN} is invalid; a generation takes"),
        ({"environments": {"CartPole-v1": (500, 20)}}, "environments: CartPole-v1: (500, 20)"),
    ],
)
def test_options_that_are_refused(changes, named):
    given = {"config": CONFIG, "space": SPACE, "environments": {}, "budget": 9 * RUN} | changes
    with pytest.raises(ConfigError) as error:
        Search(**given)
    assert str(error.value).startswith(named)


def test_a_generation_by_hand():
    """Nine trials to a ninth of the run, three to a third, one to the end."""
    search = Search(CONFIG, SPACE, {}, 9 * RUN, population=9)
    assert search.shares == pytest.approx([1 / 9, 1 / 3, 1])
    assert search.one_generation == pytest.approx(RUN * (9 / 9 + 3 * 2 / 9 + 1 * 2 / 3), abs=2)


def test_the_budget_holds(searched):
    result, _ = searched
    assert 0 < result.env_steps == sum(t.env_steps for t in result.trials) <= 4 * RUN
    assert len(result.trials) > HOW["population"]  # more than one generation
    for trial in result.trials:
        assert trial.env_steps == round(trial.share * 9) * 64 * 2
        assert trial.finished == (trial.share == 1.0)


def test_survivors_go_on_bit_for_bit(searched):
    """A trial that was trained in three parts has the score of a run of its own."""
    result, _ = searched
    best = max((t for t in result.trials if t.finished), key=lambda t: t.score)
    assert best.values == result.best_values
    alone = ppg_jax.run(result.best, progress=False)
    assert score("final_return", alone.config, alone.metrics) == best.score
    assert float(iqm(alone.final_returns)) == best.score


def test_the_report_has_fresh_seeds(searched):
    result, folder = searched
    (run,) = result.report.values()
    assert (run.config.seed, run.config.seeds) == (1, 2)
    again = ppg_jax.run(result.best.replace(seed=1, seeds=2), progress=False)
    np.testing.assert_array_equal(again.final_returns, run.final_returns)
    saved = ppg_jax.load_run(folder / "winner" / "CartPole-v1")
    np.testing.assert_array_equal(saved.final_returns, run.final_returns)
    assert [row["setting"] for row in result.compared()] == ["winner", "before"]
    assert "2 fresh seeds" in repr(result)


def test_files(searched):
    result, folder = searched
    names = {path.name for path in folder.iterdir()}
    assert {
        "tune.yaml", "config.yaml", "trials.journal", "trials.csv", "trials.md", "winner.yaml",
        "summary.json", "parallel_coordinates.png", "winner", "baseline",
    } <= names  # fmt: skip
    assert ppg_jax.load_config(folder / "winner.yaml") == result.best
    assert yaml.safe_load((folder / "tune.yaml").read_text())["budget"] == 4 * RUN
    assert len((folder / "trials.csv").read_text().splitlines()) == 1 + len(result.trials)
    assert len(result.to_dataframe()) == len(result.trials)


def test_a_search_that_was_killed_and_resumed_is_the_same(searched, tmp_path, monkeypatch):
    whole, _ = searched
    train, calls = search_module.train_part, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 5:  # in the second generation, between two rungs
            raise RuntimeError("killed")
        train(*args)

    monkeypatch.setattr(search_module, "train_part", killed)
    with pytest.raises(RuntimeError, match="killed"):
        ppg_jax.tune(CONFIG, SPACE, 4 * RUN, out=tmp_path / "search", **HOW)
    monkeypatch.undo()
    resumed = ppg_jax.resume_tune(tmp_path / "search", progress=False)
    assert table(resumed) == table(whole)
    assert resumed.best_values == whole.best_values
    assert resumed.finished
    again = ppg_jax.resume_tune(tmp_path / "search", progress=False)  # there is nothing left to do
    assert table(again) == table(whole)
    with pytest.raises(ConfigError, match=r"budget: 1 is invalid; it should be at least"):
        ppg_jax.resume_tune(tmp_path / "search", budget=1, progress=False)
    with pytest.raises(ConfigError, match="has its report already"):
        ppg_jax.resume_tune(tmp_path / "search", budget=40 * RUN, progress=False)


@pytest.mark.long
def test_several_environments_and_programs():
    space = {"hidden_sizes": [[4], [8]], "learning_rate": {"log": [1e-3, 1e-2]}}
    bounds = {"CartPole-v1": (20.0, 500.0), "Acrobot-v1": (-500.0, -60.0)}
    result = ppg_jax.tune(
        CONFIG, space, 12 * RUN, environments=bounds, objective="area", sampler="random",
        pruner="median", baseline=False, **HOW,
    )  # fmt: skip
    for trial in result.trials:
        assert set(trial.scores) == set(bounds)
        wanted = normalized_score(trial.scores, bounds)
        assert trial.score == wanted or (math.isnan(trial.score) and math.isnan(wanted))
    assert set(result.report) == set(bounds)
    assert not result.baseline


def test_the_command(tmp_path, capsys):
    spec = {
        "config": "cartpole", "space": SPACE, "population": 3, "rungs": 2, "report_seeds": 1,
        "baseline": False, "changes": {k: v for k, v in SMALL.items() if k != "env"},
    }  # fmt: skip
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    out = str(tmp_path / "out")
    assert main(["tune", str(file), "--out", out]) == 2
    assert "budget: is missing" in capsys.readouterr().err
    given = ["tune", str(file), "--out", out, "--budget", "4e3", "--quiet", "--no-cache"]
    assert main(given) == 0
    assert "winner.yaml" in capsys.readouterr().out
    assert main(["tune", "--resume", out, "--quiet", "--no-cache"]) == 0
    assert main(["tune", "--resume", out, "--seeds", "3"]) == 2
    assert "seeds: cannot be used with --resume" in capsys.readouterr().err
    file.write_text(yaml.safe_dump(spec | {"spaces": 1}))
    assert main(given) == 2
    assert "spaces: is unknown; did you mean space?" in capsys.readouterr().err


def test_optuna_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'ppg-jax\[tune\]'"):
        ppg_jax.tune(CONFIG, SPACE, 4 * RUN, **HOW)
