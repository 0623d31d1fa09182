"""Who is attacked: a process that runs commands, and a run's folder to be spoilt.

python victim.py    # reads the arguments of a command from each line, and answers in JSON
"""

import contextlib
import dataclasses
import io
import json
import queue
import resource
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS, FIRST_SECONDS = 60.0, 300.0
"""That a command may take, and the first one of a process."""
GIGABYTES = 1.0
"""By which it may raise the memory that its process takes."""

FIELDS = {
    "env": "CartPole-v1", "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2,
    "num_aux_minibatches": 2, "total_timesteps": 4 * 8 * 8, "seeds": 2,
    "network": {"hidden_sizes": [8]},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
      name: for people.
      run: attacks; says what was wrong, None if all was well.
    """

    name: str
    run: Callable[["Victim"], str | None]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a command: its exit code, what it said, and why it is no answer if so."""

    code: int | None
    out: str = ""
    err: str = ""
    failed: str | None = None

    @property
    def wrong(self) -> str | None:
        """What no command may do."""
        if self.failed:
            return self.failed
        if "Traceback" in self.err:
            return "a traceback: " + self.err.strip().splitlines()[-1][:200]
        if self.code not in (0, 1, 2):
            return f"exit code {self.code}"
        if self.code == 2 and self.err.count("\n") != 1:
            return f"refused with {self.err.count(chr(10))} lines: {self.err[:200]!r}"
        return None


class Victim:
    """A process that runs one command after the other, and is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def __call__(self, *args: Any, seconds: float = SECONDS) -> Answer:
        """Runs ``ppg-jax ARGS``."""
        if self._process is None:  # it has to import and compile first
            seconds = max(seconds, FIRST_SECONDS)
        process = self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps([str(arg) for arg in args]) + "\n")
        process.stdin.flush()
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()
            return Answer(None, failed=f"{args[0]} still runs after {seconds:.0f} s")
        if not line:
            code = process.wait()
            self.close()
            return Answer(None, failed=f"{args[0]} killed its process: exit code {code}")
        found = json.loads(line)
        grown = found.pop("grown")
        heavy = f"{args[0]} took {grown:.1f} GB of memory" if grown > GIGABYTES else None
        return Answer(**found, failed=heavy)

    def _start(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__], text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._answers = queue.Queue()
            reading = (self._process, self._answers)
            threading.Thread(target=self._read, args=reading, daemon=True).start()
        return self._process

    @staticmethod
    def _read(process: "subprocess.Popen[str]", answers: "queue.Queue[str]") -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stdout:
                answers.put(line)
        answers.put("")

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]


def make_run(folder: Path) -> Path:
    """A finished run with every kind of file that a run writes."""
    import yaml

    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(FIELDS))
    command = [sys.executable, "-m", "ppg_jax", "train", str(file), "--out", str(folder)]
    command += ["--checkpoint-every", "1", "--evaluate-every", "2", "--eval-episodes", "2"]
    subprocess.run([*command, "--log", "jsonl", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return folder


def copy(whole: Path, place: Path) -> Path:
    """A fresh copy of a run's folder, instead of an earlier one."""
    folder = place / "copy"
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(whole, folder, symlinks=True)
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """What stands in a folder: files by their bytes, anything else by its kind."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not path.is_dir():
            found[name] = "special"
    found.pop(".lock", None)
    return found


def serve() -> None:
    """Answers commands: code, output, and by how many GB the peak of memory grew."""
    from ppg_jax.cli.main import main

    answers = sys.stdout
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(json.loads(line))
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "grown": grown}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
