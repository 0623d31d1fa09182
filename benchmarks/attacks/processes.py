"""Streams, terminals, signals, disks: what happens beside a run while it works."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attacks.victim import Case, Victim, make_run

LIMIT = 90.0
"""Seconds that a process may live."""
PPG = [sys.executable, "-m", "ppg_jax"]


def _short(place: Path, name: str) -> tuple[list[str], Path]:
    """A command that trains for a moment, and its folder."""
    folder = place / name.replace(" ", "_").replace("/", "_")
    shutil.rmtree(folder, ignore_errors=True)
    return [*PPG, "train", str(place / "whole.yaml"), "--out", str(folder)], folder


def _long(place: Path, name: str) -> tuple[list[str], Path]:
    """The same that goes on until it is stopped."""
    command, folder = _short(place, name)
    return [*command, "--total-timesteps", "320000000", "--checkpoint-every", "1000"], folder


def _finished(folder: Path) -> str | None:
    """Whether a run wrote all that a run writes."""
    missing = [n for n in ("metrics.csv", "summary.json", "checkpoints/final")
               if not (folder / n).exists()]  # fmt: skip
    return f"{', '.join(missing)} was not written" if missing else None


def _ended(process: "subprocess.Popen[Any]", seconds: float = LIMIT) -> str | None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"still runs after {seconds:.0f} s"
    return None


def _shell(command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and standard error of a line for a shell; the code of the first in a pipe."""
    line = ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, check=False,
                          env={**os.environ, **(env or {})})  # fmt: skip
    return done.returncode, done.stderr


STREAMS: dict[str, tuple[str, dict[str, str]]] = {
    "a reader that has gone": ("{} | head -1 > /dev/null", {}),
    "a full disk behind standard output": ("{} > /dev/full", {}),
    "standard output is closed": ("{} >&-", {}),
    "standard error is closed": ("{} > /dev/null 2>&-", {}),
    "both are closed": ("{} >&- 2>&-", {}),
    "ASCII": ("{} > /dev/null", {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}),
    "Windows-1252": ("{} > /dev/null", {"PYTHONIOENCODING": "cp1252"}),
}


def streams(whole: Path, place: Path) -> Iterator[Case]:
    """Standard output and terminals that fail, are narrow, or know few letters."""
    for name, (line, env) in STREAMS.items():

        def train(_: Victim, name: str = name, line: str = line, env: Any = env) -> str | None:
            command, folder = _short(place, name)
            code, err = _shell(line.format(" ".join(command)), env)
            if code != 0 or "Traceback" in err or "Exception ignored" in err:
                return f"exit code {code}: {err[-300:]}"
            return _finished(folder)

        yield Case(f"train, {name}", train)
        for args in (f"eval {whole} --episodes 2", "list", "--help", "train --help"):

            def show(_: Victim, args: str = args, line: str = line, env: Any = env) -> str | None:
                code, err = _shell(line.format(" ".join([*PPG, args])), env)
                if code not in (0, 1) or "Traceback" in err or "Exception ignored" in err:
                    return f"exit code {code}: {err[-300:]}"
                return None

            yield Case(f"{args.replace(str(whole), 'DIR')}, {name}", show)
    for term, columns in (("dumb", 80), ("xterm", 40), ("xterm", 20)):
        yield Case(f"a terminal {term} of {columns} columns",
                   lambda _, t=term, c=columns: _terminal(place, t, c))  # fmt: skip
    yield Case("a terminal that goes away", lambda _: _terminal(place, "xterm", 80, leave=True))


def _terminal(place: Path, term: str, columns: int, *, leave: bool = False) -> str | None:
    command, folder = _short(place, f"{term} {columns} {leave}")
    mine, theirs = pty.openpty()
    env = os.environ | {"TERM": term, "COLUMNS": str(columns)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown, began = b"", time.monotonic()
    while time.monotonic() - began < LIMIT:
        if select.select([mine], [], [], 0.2)[0]:
            try:
                shown += os.read(mine, 65536)
            except OSError:  # the other side is closed
                break
        if leave and b"compiling" in shown:
            break
    os.close(mine)
    text = shown.decode(errors="replace")
    wrong = _ended(process) or _finished(folder)
    if wrong or leave:
        return wrong
    if process.returncode or "Traceback" in text:
        return f"exit code {process.returncode}: {text[-300:]}"
    if "\u2026" in text:
        return "something was cut off"
    return None if "phase" in text else "no progress was shown"


def signals(whole: Path, place: Path) -> Iterator[Case]:
    """Signals at all times, and folders that cannot be written to any more."""
    for number in range(12):
        seconds = 0.1 + 0.3 * number
        yield Case(f"Ctrl-C after {seconds:.1f} s",
                   lambda _, s=seconds: _interrupted(place, signal.SIGINT, s))  # fmt: skip
    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        yield Case(f"{name} while programs compile",
                   lambda _, n=name: _while_compiling(place, getattr(signal, n)))  # fmt: skip
        yield Case(f"{name} while it trains",
                   lambda _, n=name: _while_training(place, getattr(signal, n)))  # fmt: skip
    yield Case("its folder becomes unwritable", lambda _: _unwritable(place))
    yield Case("a full disk", lambda _: _full_disk(place))
    yield Case("two make one folder", lambda _: _race(place))
    yield Case("old checkpoints after kills", lambda _: _kills(place))


def _interrupted(place: Path, number: int, seconds: float) -> str | None:
    command, _ = _long(place, "interrupted")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "still runs 20 s after the signal"
    # In its first moments Python itself is still starting, and says so in its own way.
    early = seconds < 0.15
    if "Traceback" in err and not early:
        return f"a traceback: {err[-300:]}"
    return None if process.returncode in (0, 130) or early else f"exit code {process.returncode}"


@contextlib.contextmanager
def _running(command: list[str], until: Any, **kwargs: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process that has come as far as ``until`` says."""
    log = Path(command[command.index("--out") + 1]).with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, text=True, **kwargs
        )
    began = time.monotonic()
    try:
        while not until(log) and process.poll() is None and time.monotonic() - began < LIMIT:
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def _log(folder: Path) -> str:
    return folder.with_suffix(".log").read_text(errors="replace")


def _while_compiling(place: Path, number: int) -> str | None:
    command, folder = _long(place, "compiling")
    command.append("--no-cache")
    with _running(command, lambda log: "compiling" in log.read_text()) as process:
        time.sleep(0.5)
        process.send_signal(number)
        wrong = _ended(process, 5.0)
    if wrong or "Traceback" in _log(folder):
        return wrong or _log(folder)[-300:]
    return None if "--resume" in _log(folder) else "it does not say how to go on"


def _while_training(place: Path, number: int) -> str | None:
    command, folder = _long(place, "training")
    with _running(command, lambda _: (folder / "metrics.csv").exists()) as process:
        process.send_signal(number)
        wrong = _ended(process, 30.0)
    if wrong or process.returncode or "Traceback" in _log(folder):
        return wrong or f"exit code {process.returncode}: {_log(folder)[-300:]}"
    return _finished(folder)


def _unwritable(place: Path) -> str | None:
    """A file stands where the folder was: who may write anywhere cannot write there either."""
    command, folder = _long(place, "unwritable")
    with _running(command, lambda _: (folder / "metrics.csv").exists()) as process:
        folder.rename(folder.with_name("moved"))
        folder.write_text("in the way")
        process.send_signal(signal.SIGTERM)
        wrong = _ended(process, 60.0)
    log = _log(folder)
    if wrong or "Traceback" in log or "Event loop" in log:
        return wrong or log[-300:]
    return None if process.returncode == 1 else f"exit code {process.returncode}: {log[-300:]}"


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
runpy.run_module("ppg_jax", run_name="__main__", alter_sys=True)
"""


def _full_disk(place: Path) -> str | None:
    """No file may be longer than a limit: writing fails as on a full disk."""
    command, _ = _short(place, "full")
    command[1:3] = ["-c", LIMITED]
    command += ["--total-timesteps", "32000", "--checkpoint-every", "10", "--quiet", "--no-cache"]
    env = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                          env=env)  # fmt: skip
    if "Traceback" in done.stderr or "Event loop" in done.stderr:
        return done.stderr[-300:]
    return None if done.returncode == 1 else f"exit code {done.returncode}: {done.stderr[-300:]}"


def _race(place: Path) -> str | None:
    import yaml

    command, folder = _short(place, "race")
    both = [
        subprocess.Popen([*command, "--quiet", "--seed", str(seed)], stderr=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, text=True)
        for seed in (1, 2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=LIMIT)[1] for process in both]
    codes = [process.returncode for process in both]
    if sorted(codes) != [0, 2]:
        return f"exit codes {codes}: {errors}"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return None if config["seed"] == codes.index(0) + 1 else "config.yaml is the loser's"


def _kills(place: Path) -> str | None:
    """Lives that end by SIGKILL, each after some checkpoints, and one that ends by itself."""
    folder = place / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    whole = make_run(folder)
    phases = whole / "checkpoints" / "phases"
    for _ in range(3):
        command = [*PPG, "train", "--resume", str(whole), "--checkpoint-every", "1", "--quiet",
                   "--total-timesteps", "3200000", "--out", str(whole)]  # fmt: skip
        resumed = command[: command.index("--out")]
        process = subprocess.Popen(resumed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(8)
        process.kill()
        process.wait()
        there = sorted(path.name for path in phases.glob("phase_*"))
        if len(there) > 4:  # two, the best, and one that was just written
            return f"{len(there)} checkpoints: {there}"
    return None
