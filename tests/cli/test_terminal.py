"""Streams, terminals and signals: trouble with showing is never a run's trouble."""

import contextlib
import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ppg_jax import Config, run
from ppg_jax import __main__ as entry
from ppg_jax.cli.main import main
from ppg_jax.cli.streams import Forgiving
from ppg_jax.runs.progress import Bar, Lines, Snapshot, make_display

PPG = [sys.executable, "-m", "ppg_jax"]
TINY = [
    "cartpole", "--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--n-pi", "2",
    "--arch", "shared", "--e-aux", "0", "--total-timesteps", "320",  # PPO compiles sooner
]  # fmt: skip
ENV = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def shell(line):
    """Exit code of the first command of a pipe, and what stands on standard error."""
    script = ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(script, capture_output=True, text=True, env=ENV, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("{} | head -1 > /dev/null", "", marks=pytest.mark.long),
        ("{} > /dev/full", "warning: standard output cannot be written: No space left"),
        ("{} >&-", "warning: standard output cannot be written: it is closed"),
        pytest.param("{} >&- 2>&-", "", marks=pytest.mark.long),
    ],
)
def test_a_run_goes_on_when_nothing_can_be_shown(tmp_path, line, said):
    command = " ".join([*PPG, "train", *TINY, "--out", str(tmp_path / "run")])
    code, err = shell(line.format(command))
    assert code == 0, err
    assert err.startswith(said) if said else not err
    assert_trained(tmp_path / "run")


def assert_trained(folder, seeds=1):
    assert (folder / "summary.json").exists()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 10 * seeds


@pytest.mark.parametrize(
    ("args", "lines"),
    [  # "list" imports every environment, and takes the way out that "--help" takes
        ("list", ["{} > /dev/full"]),
        ("--help", ["{} | head -1 > /dev/null", "{} > /dev/full", "{} >&-"]),
        ("train -h", ["{} | head -1 > /dev/null", "{} > /dev/full", "{} >&-"]),
    ],
)
def test_what_is_all_about_its_output(args, lines):
    for line in lines:
        code, err = shell(line.format(" ".join([*PPG, args])))
        if "head" in line:
            assert (code, err) == (0, "")
            continue
        why = "it is closed" if ">&-" in line else "No space left on device"
        assert (code, err) == (1, f"error: standard output cannot be written: {why}\n")


@pytest.mark.parametrize("args", [["list"], ["--help"], ["train", "-h"], ["train", *TINY]])
def test_what_a_stream_of_ascii_cannot_say(tmp_path, monkeypatch, capsys, args):
    """In this process, with the stream that ``PYTHONIOENCODING=ascii`` makes in one of its own."""
    if len(args) > 2:  # of two seeds, for a ± in what is shown
        args = [*args, "--seeds", "2", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(entry, "_take_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ppg-jax", *args])
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # both are wrapped, and put back
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert entry.main() == 0
    monkeypatch.undo()
    assert capsys.readouterr().err == ""
    text = (tmp_path / "out").read_text()
    assert text.isascii()
    if len(args) > 2:
        assert "+/-" in text
        assert_trained(tmp_path / "run", seeds=2)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251", "cp437"])
def test_letters_that_a_stream_does_not_have(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    out = Forgiving(stream)
    out.write("0.5 ± 0.1 \u00e9\u0416\u250f \udcff\n")
    out.write("next\n")
    out.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert out.failed is None
    assert text.replace("+/-", "±").startswith("0.5 ± 0.1 ")
    assert text.endswith("?\nnext\n")


def test_a_folder_that_is_gone(tmp_path):
    script = "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['ppg-jax', 'list']\n"
    script += "from ppg_jax.__main__ import main; sys.exit(main())"
    env = ENV | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "gone", env=env, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def terminal(monkeypatch):
    """Runs the command line in a terminal of its own; what that shows, and the exit code."""

    def run_there(args, **env):
        mine, theirs = pty.openpty()
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        shown = []

        def read():
            with contextlib.suppress(OSError):  # the other side is closed
                while part := os.read(mine, 65536):
                    shown.append(part)

        reader = threading.Thread(target=read)
        reader.start()
        with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            code = main(args)
        reader.join()
        os.close(mine)
        return b"".join(shown).decode(), code

    return run_there


@pytest.mark.parametrize(("term", "columns"), [("dumb", 80), ("xterm", 25)])
def test_terminals_of_all_kinds(tmp_path, terminal, term, columns):
    command = ["train", *TINY, "--seeds", "2", "--out", str(tmp_path / "run")]
    shown, code = terminal(command, TERM=term, COLUMNS=str(columns))
    assert code == 0
    assert "phase 5/5" in shown
    assert "\u2026" not in shown
    assert " left" in shown
    assert "final return" in shown


RETURNS = np.array([1234.56, 1078.9, 1500.1])


@pytest.mark.parametrize("width", range(32, 120, 4))
@pytest.mark.parametrize("bad", [0, 3])
def test_no_number_of_the_bar_is_cut(tmp_path, width, bad):
    config = Config(total_timesteps=8192 * 3200)
    now = Snapshot(iterations=1600, phases=50, env_steps=160 * 3 * 8192, speed=3 * 8192.0,
                   returns=RETURNS, bad=bad)  # fmt: skip
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        bar = make_display(console, config)
        assert isinstance(bar, Bar)
        bar.update(now)
        console.print(bar)
    text = (tmp_path / "out").read_text()
    assert "return 1271.2 ± 173.9" in text
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width
    if width >= 84:
        assert "phase 50/100" in text
        assert "3.93M steps 24.6k/s" in text


class Broken:
    """A file that cannot be written to any more."""

    encoding = "utf-8"

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return False


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "x"), OSError(28, "x"), ValueError("closed")]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_that_raises(error, terminal):
    config = Config(
        num_envs=4, num_steps=8, num_minibatches=2, n_pi=2, arch="shared", e_aux=0,
        total_timesteps=4 * 8 * 4, network={"hidden_sizes": (8,)},
    )  # fmt: skip
    console = Console(file=Broken(error), force_terminal=terminal)
    assert isinstance(make_display(console, config), Bar if terminal else Lines)
    assert run(config, console=console).finished


def test_version(capsys):
    for option in ("--version", "-V"):
        assert main([option]) == 0
        assert capsys.readouterr().out.startswith("ppg-jax 0.1.0 (jax ")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_packages_are_imported_ends_the_process(tmp_path, name):
    number = getattr(signal, name)
    script = "import signal, time, ppg_jax.__main__ as m; m._take_signals(); print(1, flush=True)"
    # Foreign code that swallows whatever is raised, as callbacks in an import may.
    script += "\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert err == "error: stopped\n"


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_ctrl_c_at_any_moment(tmp_path, seconds):
    command = [
        *PPG,
        "train",
        "cartpole",
        "--out",
        str(tmp_path / "run"),
        "--total-timesteps",
        "1e9",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 20
    assert process.returncode in (0, 130)
    assert "Traceback" not in err
