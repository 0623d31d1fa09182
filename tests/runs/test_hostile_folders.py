"""Folders that somebody else made: nothing hangs, nothing outside is touched, one line says why."""

import importlib
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from ppg_jax import ConfigError, load_run, resume, run
from ppg_jax.cli.main import main
from ppg_jax.config.config import Config
from ppg_jax.config.plain_files import read_plain
from ppg_jax.runs.checkpoints.checkpoints import Checkpoints
from ppg_jax.runs.files import write_new, write_whole

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = Config(
    num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, num_aux_minibatches=2, seeds=2,
    total_timesteps=4 * 8 * 8, network={"hidden_sizes": (8,)},
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile():
    """What ``benchmarks/attack.py`` does to folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("attacks.hostile")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(SMALL, out=folder, progress=False, checkpoint_every=1, evaluate_every=2, eval_episodes=2,
        log=["jsonl"])  # fmt: skip
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy, a place outside it, and half a minute for everything."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"precious")

    def too_long(*_):
        raise TimeoutError("half a minute")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield tmp_path / "run"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "outside" / "precious").read_bytes() == b"precious"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["precious"]


FILES = [
    ".lock", "metrics.csv", "metrics.jsonl", "evaluation.csv", "summary.json", "config.yaml",
    "learning_curve.png", ".config.yaml.tmp", ".summary.json.tmp", "NEWEST/about/metadata",
    "NEWEST/state", "NEWEST", "checkpoints/final",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["a link to a file outside", "a pipe", "an endless device"])
def test_what_is_no_plain_file(hostile, folder, name, kind, capsys):
    hostile._replace(name, hostile.REPLACEMENTS[kind])(folder, folder.parent / "outside")
    before = hostile.contents(folder)
    code = main(["train", "--resume", str(folder), "--quiet"])
    err = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    if code == 2:
        assert err.count("\n") == 1
        assert hostile.contents(folder) == before
    # What plays needs only the configuration and parameters.
    if name not in ("config.yaml", "checkpoints/final"):
        assert load_run(folder).evaluate(2)[0].shape == (2, 2)


def test_nonsense_beside_a_checkpoint(hostile, whole, tmp_path):
    """The older checkpoint is taken, whatever stands beside the newest."""
    config = load_run(whole).config
    for number, name in enumerate(hostile.NONSENSE):
        folder = tmp_path / str(number)
        shutil.copytree(whole / "checkpoints", folder / "checkpoints")
        hostile._describe(hostile.NONSENSE[name], honest=True)(folder, tmp_path)
        saved, skipped = Checkpoints(folder).newest(config)
        assert saved.phases == 3, name
        assert len(skipped) == 1
        assert "\n" not in skipped[0]
        shutil.rmtree(folder)


def test_a_checkpoint_that_claims_to_be_more_than_it_is(hostile, whole, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = [name for name in hostile.BOMBS if name.startswith("a checkpoint claims")]
    assert len(bombs) == 4
    for name in bombs:
        folder = tmp_path / name
        shutil.copytree(whole / "checkpoints", folder / "checkpoints")
        hostile.BOMBS[name](folder, tmp_path)
        saved, skipped = Checkpoints(folder).newest(load_run(whole).config)
        assert saved.phases == 3
        assert "it should be" in skipped[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize(
    "name",
    [
        "summary.json of brackets", "evaluation.csv of other letters", "metrics.csv of a header",
        "metrics.csv with a column renamed", "metrics.csv of a terabyte",
        "config.yaml of a terabyte", "evaluation.csv of a terabyte", "summary.json of a terabyte",
    ],
)  # fmt: skip
def test_files_of_nonsense(hostile, folder, name):
    hostile.BOMBS[name](folder, folder.parent)
    before = {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    if name.startswith("summary.json"):
        with pytest.raises(ConfigError, match=r"summary.json"):
            _ = load_run(folder).summary
        return
    with pytest.raises(ConfigError) as caught:
        resume(folder, progress=False, evaluate_every=2)
    assert name.split()[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()} == before


def test_files_are_written_whole_and_links_replaced(tmp_path):
    other, file = tmp_path / "other", tmp_path / "file"
    other.write_text("other")
    file.symlink_to(other)
    write_whole(file, "mine")
    assert (file.read_text(), other.read_text(), file.is_symlink()) == ("mine", "other", False)
    with pytest.raises(FileExistsError):
        write_new(file, "new")
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"not a regular file|directory"):
            read_plain(path, 100)
    with pytest.raises(OSError, match="more than 3 bytes"):
        read_plain(file, 3)


@pytest.mark.parametrize("how", ["_full_disk", pytest.param("_unwritable", marks=pytest.mark.long)])
def test_a_disk_that_takes_no_more(hostile, tmp_path, how):
    import yaml

    processes = importlib.import_module("attacks.processes")
    victim = importlib.import_module("attacks.victim")
    fields = victim.FIELDS | {"arch": "shared", "e_aux": 0}  # compiles sooner
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(fields))
    assert getattr(processes, how)(tmp_path) is None
