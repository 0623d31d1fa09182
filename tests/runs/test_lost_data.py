"""Nothing is deleted, cut or overwritten before what replaces it is safe."""

import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from rich.console import Console

from ppg_jax import ConfigError, load_run, resume, run
from ppg_jax.cli.main import main
from ppg_jax.config.config import Config
from ppg_jax.execution.segments import Pace, _segment_phases
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.folder import new_folder
from tests.runs.test_resume import assert_same, small, stopped, whole  # noqa: F401  # fixtures


def contents(folder):
    """Every file of a folder, but for the lock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refused(folder, words, **changes):
    """Whether ``resume`` says some words, and leaves the folder as it is."""
    before = contents(folder)
    with pytest.raises(ConfigError) as caught:
        resume(folder, progress=False, **changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


def edit(folder, **changes):
    file = folder / "config.yaml"
    fields = yaml.safe_load(file.read_text())
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            fields[section][field] = value
        else:
            fields[name] = value
    file.write_text(yaml.safe_dump(fields))


@pytest.mark.parametrize("steps", [4 * 8 * 4, 4 * 8 * 12])
def test_a_run_does_not_shrink(stopped, steps):  # noqa: F811
    words = [f"total_timesteps: {steps} is invalid; it should be at least 416, the run's own"]
    refused(stopped, words, total_timesteps=steps)
    edit(stopped, total_timesteps=steps)  # by hand: the checkpoint knows better
    refused(stopped, words)


def test_the_command_line_refuses_it_too(stopped, capsys):  # noqa: F811
    before = contents(stopped)
    assert main(["train", "--resume", str(stopped), "--total-timesteps", "64"]) == 2
    assert "error: total_timesteps: 64 is invalid" in capsys.readouterr().err
    assert contents(stopped) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_pi": 1}, ["n_pi (2 to 1)"]),
        ({"n_pi": 4}, ["n_pi (2 to 4)"]),
        ({"hparams__learning_rate": 0.5}, ["hparams.learning_rate (0.0005 to 0.5)"]),
        ({"seed": 7, "seeds": 3}, ["seed (0 to 7)", "seeds (2 to 3)"]),
        ({"num_steps": 4}, ["num_steps (8 to 4)"]),
        ({"num_envs": 8}, ["num_envs (4 to 8)"]),
        ({"network__hidden_sizes": [9]}, ["network.hidden_sizes ([8] to [9])"]),
        ({"env": "Acrobot-v1"}, ["env ('CartPole-v1' to 'Acrobot-v1')"]),
        ({"arch": "shared"}, ["arch ('dual' to 'shared')"]),
        ({"lr_schedule": "linear"}, ["lr_schedule ('constant' to 'linear')"]),
    ],
)
def test_an_edited_configuration_is_refused_by_its_fields(stopped, changes, words):  # noqa: F811
    edit(stopped, **changes)
    what = "config.yaml differs from the configuration of the checkpoint of phase 4"
    refused(stopped, [what, *words])


def test_what_may_differ_may_be_edited(whole, stopped):  # noqa: F811
    edit(stopped, devices=1, strategy="map")
    assert_same(resume(stopped, progress=False), whole[1])


def test_a_configuration_that_says_the_same_is_left_alone(stopped):  # noqa: F811
    file = stopped / "config.yaml"
    text = "# a note of my own\n" + file.read_text()
    file.write_text(text)
    resume(stopped, progress=False)
    assert file.read_text() == text


def said(folder, tmp_path, **options):
    """What a resumed run says, and its result."""
    with (tmp_path / "log").open("w") as log:
        result = resume(folder, console=Console(file=log, width=400), **options)
    return (tmp_path / "log").read_text(), result


def test_an_older_checkpoint_will_do_where_metrics_are_short(whole, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    lines = (folder / "metrics.csv").read_bytes().splitlines(keepends=True)
    (folder / "metrics.csv").write_bytes(b"".join(lines[: 1 + 2 * 2 * 5]))  # five phases
    text, again = said(folder, tmp_path)
    assert "checkpoint of phase 6 is skipped: " in text
    assert "has 10 iterations; at least 12 are needed" in text
    assert "resuming after phase 5 of 6" in text
    assert_same(again, whole[1])
    assert (folder / "metrics.csv").read_bytes() == (whole[0] / "metrics.csv").read_bytes()


def test_a_checkpoint_that_does_not_fit_is_kept_until_it_is_made_again(
    whole,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    newest = folder / "checkpoints" / "phases" / "phase_6"
    (newest / "about" / "metadata").write_text("{}")
    (folder / "checkpoints" / "set_aside" / "phase_of mine").mkdir(parents=True)  # not ours: stays
    seen = []
    save = Checkpoints.save

    def watched(self, config, phases, *args, **kwargs):
        aside = folder / "checkpoints" / "set_aside" / "phase_6" / "about" / "metadata"
        seen.append((phases, aside.read_text()))
        save(self, config, phases, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "save", watched)
    assert_same(resume(folder, progress=False), whole[1])
    assert seen == [(6, "{}")]
    assert [p.name for p in (folder / "checkpoints" / "set_aside").iterdir()] == ["phase_of mine"]


def test_metrics_are_on_disk_before_the_checkpoint(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr("os.fsync", lambda number: order.append("sync"))
    save = Checkpoints.save

    def watched(self, config, phases, *args, **kwargs):
        assert "sync" in order
        order.clear()
        self.wait()
        save(self, config, phases, *args, **kwargs)
        self.wait()
        order.clear()

    monkeypatch.setattr(Checkpoints, "save", watched)
    run(small(), out=tmp_path / "run", progress=False, checkpoint_every=1)


@pytest.mark.parametrize("locks", [True, False])
def test_of_two_that_make_a_folder_one_has_it(tmp_path, monkeypatch, locks):
    """Locks tell files that were opened apart, so threads race as processes do."""
    if not locks:
        monkeypatch.setattr("ppg_jax.runs.folder.fcntl", None)
    barrier = threading.Barrier(2)

    def make(folder, number):
        barrier.wait()
        try:
            with new_folder(folder, Config(seed=number)):
                barrier.wait()  # until the other was refused
                return None
        except ConfigError as error:
            barrier.wait()
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        for attempt in range(100):
            folder = tmp_path / str(attempt)
            said = list(pool.map(make, [folder] * 2, (1, 2)))
            (error,) = filter(None, said)
            assert "another process trains there" in error or "is not empty" in error
            config = yaml.safe_load((folder / "config.yaml").read_text())
            assert config["seed"] == said.index(None) + 1


def test_metrics_that_are_deleted_meanwhile_are_written_again(whole, tmp_path):  # noqa: F811
    folder = tmp_path / "run"

    class Deletes:
        def write(self, metrics, first_iteration):
            if first_iteration == 4:
                (folder / "metrics.csv").unlink()

        def close(self):
            pass

    run(small(), out=folder, progress=False, log=[Deletes()])
    assert (folder / "metrics.csv").read_bytes() == (whole[0] / "metrics.csv").read_bytes()


@pytest.mark.parametrize("text", [None, "seed,iteration\n", "garbage"])
def test_a_run_without_its_metrics_plays(whole, tmp_path, text):  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "metrics.csv").unlink()
    if text is not None:
        (folder / "metrics.csv").write_text(text)
    loaded = load_run(folder)
    np.testing.assert_array_equal(loaded.evaluate(4)[0], load_run(whole[0]).evaluate(4)[0])
    with pytest.raises(ConfigError, match="metrics.csv"):
        _ = loaded.metrics
    assert main(["plot", str(folder), "--out", str(tmp_path / "figures")]) == 2


def leaves(folder):
    import jax

    return [np.asarray(x) for x in jax.tree.leaves(load_run(folder).parameters)]


@pytest.fixture(scope="module")
def whole_phases(tmp_path_factory):
    """A run whose newest checkpoint holds the parameters of its end."""
    folder = tmp_path_factory.mktemp("runs") / "whole_phases"
    run(small(total_timesteps=4 * 8 * 12), out=folder, progress=False)
    return folder


@pytest.mark.parametrize("how", ["garbage", "one bit", "cut", "gone", "empty folder"])
def test_damaged_final_parameters_are_taken_from_the_checkpoint(tmp_path, whole_phases, how):
    made = tmp_path / "made"
    shutil.copytree(whole_phases, made)
    want = leaves(made)
    final = made / "checkpoints" / "final"
    data = max(final.glob("**/d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    if how == "garbage":
        data.write_bytes(b"garbage")
    elif how == "one bit":
        content[len(content) // 2] ^= 4
        data.write_bytes(content)
    elif how == "cut":
        data.write_bytes(content[:-1])
    elif how == "gone":
        data.unlink()
    else:
        shutil.rmtree(final)
        final.mkdir()
    with pytest.warns(RuntimeWarning, match="the checkpoint of phase 6 is used instead"):
        found = leaves(made)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_survive_a_kill_while_they_are_replaced(whole, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    want = leaves(folder)
    shutil.rmtree(folder / "checkpoints" / "phases")
    final = folder / "checkpoints" / "final"
    final.rename(final.with_name("final.old"))
    for a, b in zip(leaves(folder), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_old_checkpoints_do_not_pile_up(tmp_path):
    """Lives that are killed, each after a checkpoint of its own."""
    folder = tmp_path / "run"
    config = small(total_timesteps=4 * 8 * 2 * 8, seeds=1)
    run(config, out=folder, progress=False, checkpoint_every=1, keep=20)
    phases = folder / "checkpoints" / "phases"
    scores = {
        int(path.name[6:]): json.loads((path / "about" / "metadata").read_text())["episode_return"]
        for path in phases.iterdir()
    }
    assert len(scores) == 8
    shutil.rmtree(phases / "phase_8")
    shutil.rmtree(folder / "checkpoints" / "final")
    resume(folder, progress=False, checkpoint_every=1, keep=2)
    best = max(scores, key=lambda phase: (scores[phase] or -np.inf, phase))
    assert {int(path.name[6:]) for path in phases.iterdir()} == {7, 8, best}


@pytest.mark.parametrize("done", [0, 43, 98, 99])
@pytest.mark.parametrize(("num_phases", "every"), [(1000, 25), (1000, 7), (997, 25), (100_000, 64)])
def test_segments_end_where_evaluations_are_due(done, num_phases, every):
    one_step = {"num_envs": 1, "num_steps": 1, "n_pi": 1, "num_minibatches": 1}
    config = Config(**one_step, num_aux_minibatches=1, total_timesteps=num_phases)
    each = _segment_phases(config, done, Pace(stop_every=every))
    assert (num_phases - done) % each == 0
    ends = set(range(done + each, num_phases + 1, each))
    assert set(range(done - done % every + every, num_phases + 1, every)) <= ends


def test_a_run_that_is_stopped_often_is_evaluated_as_one_that_is_not(tmp_path):
    config = small(total_timesteps=4 * 8 * 2 * 6, seeds=1)
    options = {"progress": False, "evaluate_every": 2, "eval_episodes": 2, "checkpoint_every": 1}
    alone = run(config, out=tmp_path / "alone", **options)
    assert sorted({row["phase"] for row in alone.evaluations}) == [2, 4, 6]
    folder = tmp_path / "stopped"
    shutil.copytree(tmp_path / "alone", folder)
    (folder / "evaluation.csv").unlink()
    for phase in (2, 4, 6):
        shutil.rmtree(folder / "checkpoints" / "phases" / f"phase_{phase}", ignore_errors=True)
    for path in (folder / "checkpoints" / "phases").iterdir():
        assert path.name in ("phase_5", "phase_3", "phase_1")
    again = resume(folder, **options)
    assert {row["phase"] for row in again.evaluations} == {6}
    assert list(again.evaluations) == [row for row in alone.evaluations if row["phase"] == 6]


def test_evaluations_that_cannot_be_read_are_not_overwritten(whole, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    for text in (b"\xff\xfe\x00", b"phase\n1,2\n", b"phase,env_steps\na,b,c,d,e,f,g,h\n"):
        (folder / "evaluation.csv").write_bytes(text)
        before = contents(folder)
        with pytest.raises(ConfigError, match=r"evaluation.csv cannot be read"):
            resume(folder, progress=False, evaluate_every=1)
        assert contents(folder) == before


@pytest.mark.long
def test_two_processes_train_into_one_folder_at_once(tmp_path):
    """The command line, twice in the same moment: one trains, the other says so."""
    args = [sys.executable, "-m", "ppg_jax", "train", "cartpole", "--total-timesteps", "8192"]
    args += ["--arch", "shared", "--e-aux", "0"]  # compiles sooner
    args += ["--out", str(tmp_path / "run"), "--quiet"]
    both = [
        subprocess.Popen([*args, "--seed", str(seed)], stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    began = time.monotonic()
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert time.monotonic() - began < 120
    assert sorted(process.returncode for process in both) == [0, 2]
    loser = errors[[process.returncode for process in both].index(2)]
    assert loser.startswith("error: ")
    winner = [process.returncode for process in both].index(0) + 1
    assert load_run(tmp_path / "run").config.seed == winner
