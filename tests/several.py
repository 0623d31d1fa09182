"""Starts the command line in several processes of this machine."""

import os
import socket
import subprocess
import sys


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command: list[str], count: int) -> list[subprocess.Popen]:
    """The processes of ``ppg-jax COMMAND``; one process is started without ``--distributed``."""
    port = free_port()
    options = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    # XLA warns at length about cached programs of another kind of CPU.
    environ = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    each = [[*options, "--process-id", str(i)] for i in range(count)] if count > 1 else [[]]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "ppg_jax", *command, *mine],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
        )
        for mine in each
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each process."""
    try:
        shown = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, shown, strict=True)]


def train(command: list[str], count: int) -> list[tuple[int, str, str]]:
    return finish(start(["train", *command], count))
