"""A run's folder that an earlier version wrote (0.1.0, before the package had folders)."""

import csv
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from ppg_jax.runs import load_run, resume

ARCHIVE = Path(__file__).parent / "older_run.tar.gz"
PHASES, ITERATIONS, SEEDS = 4, 8, 2


@pytest.fixture
def older_run(tmp_path):
    """CartPole with a gru, normalised observations and an adapted ``beta_clone``: four phases."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "older_run"


def rows(folder, name="metrics.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_it_is_played(older_run):
    saved = load_run(older_run)
    returns, _, ended = saved.evaluate(episodes=3, greedy=True)
    assert returns.shape == (SEEDS, 3)
    assert ended.all()
    assert saved.metrics["episode_return"].shape == (SEEDS, ITERATIONS)
    # Two places on disk hold the same parameters: what plays, and the newest checkpoint.
    played, stats = saved.parameters
    (older_run / "checkpoints" / "final").rename(older_run / "elsewhere")
    again = load_run(older_run).parameters
    jax.tree.map(np.testing.assert_array_equal, (played, stats), again)


def test_it_is_resumed(older_run):
    before, evaluations = rows(older_run), rows(older_run, "evaluation.csv")
    assert len(before) == SEEDS * ITERATIONS
    result = resume(
        older_run, total_timesteps=6 * 64, progress=False, evaluate_every=2, eval_episodes=2
    )
    assert result.finished
    assert rows(older_run)[: len(before)] == before
    assert rows(older_run, "evaluation.csv")[: len(evaluations)] == evaluations
    steps = [int(row["env_steps"]) for row in rows(older_run) if row["seed"] == "0"]
    assert steps == [32 * (i + 1) for i in range(12)]
    assert np.isfinite(result.metrics["value_loss"]).all()
