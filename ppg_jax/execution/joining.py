"""Joins the processes of a run, once in the life of a process."""

import atexit
import contextlib
import hmac
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ppg_jax.config import ConfigError
from ppg_jax.execution.link import Link
from ppg_jax.execution.processes import ALONE, Processes

MEETING_SECONDS = 300
"""Seconds in which all processes must have come."""
HELLO_SECONDS = 30.0
_TOKEN = 16


class _Here:
    processes = ALONE


def distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Processes:
    """Joins this process with others, so that ``run`` and ``resume`` spread the seeds over all.

    Every process must call this, before JAX computes anything, and then the same functions with the
    same arguments. ``jax.distributed.initialize`` finds the processes of a SLURM job, of Open MPI,
    of a Kubernetes job or of a TPU pod. Elsewhere all three arguments are needed.

    JAX itself stays local: ``jax.devices()`` are the devices of this process. The processes are
    joined by TCP connections to the first one; seeds need no others. If a process dies, the others
    raise ``ProcessGoneError``, and are ended if they do not end themselves within 15 seconds.

    Args:
      coordinator: ``HOST:PORT`` of the process 0; the port must be free there.
      num_processes: number of processes.
      process_id: index of this process, from 0.

    Returns:
      The number of processes, and the index of this one.

    Raises:
      ConfigError: JAX has computed already, no cluster is found, an argument is invalid, or not all
        processes have come within 5 minutes.
    """
    if _Here.processes is not ALONE:
        raise ConfigError("distributed: this process has joined the others already; call it once")
    _check_early()
    _check(coordinator, num_processes, process_id)
    with _server() as server:
        place = {"port": server.getsockname()[1], "token": secrets.token_hex(_TOKEN)}
        found = _meet(
            {
                "coordinator": coordinator,
                "num_processes": num_processes,
                "process_id": process_id,
                "timeout": MEETING_SECONDS,
                "place": place,
            }
        )
        for name in ("cuda", "rocm"):
            if found[name] not in (None, "all"):  # one GPU for each task of SLURM or Open MPI
                jax.config.update(f"jax_{name}_visible_devices", found[name])
        index, count = found["index"], found["count"]
        try:
            if index == 0:
                peers = _accept(server, count, found["token"])
            else:
                peers = {0: _connect(found["host"], found["port"], found["token"], index)}
        except OSError as error:
            raise ConfigError(
                f"distributed: process {index} cannot talk to the others: {error}"
            ) from None
    _Here.processes = joined(count, index, peers)
    return _Here.processes


def _server() -> socket.socket:
    """A socket that listens on a free port, for both versions of IP if the system has both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
        )
    return socket.create_server(("", 0), backlog=1024)


def joined(count: int, index: int, peers: dict[int, socket.socket]) -> Processes:
    """The processes at the other ends of connected sockets, as ``Processes``."""
    link = Link(peers)
    atexit.register(link.leave)
    return Processes(count, index, link)


def processes_here() -> Processes:
    """The processes that ``distributed`` has joined; ``ALONE`` if it was not called."""
    return _Here.processes


def _check_early() -> None:
    """Checks that JAX has not computed yet.

    Raises:
      ConfigError: it has.
    """
    from jax._src import xla_bridge  # what jax.distributed.initialize itself asks

    if xla_bridge.backends_are_initialized():
        raise ConfigError(
            "distributed: JAX has computed already; call ppg_jax.distributed() first, before "
            "jax.devices() and all computations"
        )


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Checks the arguments of ``distributed``.

    Raises:
      ConfigError: some are missing, or a value is invalid.
    """
    given = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return
    if missing:
        raise ConfigError(
            f"{missing[0]}: it is missing; give all of coordinator, num_processes and process_id, "
            "or none of them in a cluster that JAX knows"
        )
    assert coordinator is not None
    assert num_processes is not None
    assert process_id is not None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"coordinator: {coordinator!r} is invalid; it should be HOST:PORT")
    if num_processes < 1:
        raise ConfigError(f"num_processes: {num_processes} is invalid; it should be at least 1")
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"process_id: {process_id} is invalid; it should be 0 to {num_processes - 1}"
        )


def _meet(request: dict[str, Any]) -> dict[str, Any]:
    """Calls ``meeting.py``, and returns its answer.

    Raises:
      ConfigError: no cluster is found, or not all processes have come.
    """
    program = str(Path(__file__).with_name("meeting.py"))
    child = subprocess.Popen(
        [sys.executable, "-P", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
            with child.stderr as errors:
                shown = errors.read()
            answer = child.stdout.read()
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
    try:
        return dict(json.loads(answer.splitlines()[-1]))
    except (IndexError, ValueError):
        raise ConfigError(f"distributed: {_reason(shown, request)}") from None


def _reason(shown: str, request: dict[str, Any]) -> str:
    """Why the processes have not met, from what JAX has shown."""
    if "coordinator_address should be defined" in shown:
        return (
            "JAX finds no cluster (SLURM, Open MPI, Kubernetes or TPU pod); give --coordinator "
            "HOST:PORT, --num-processes N and --process-id I"
        )
    if "DEADLINE_EXCEEDED" in shown:
        where = f" at {request['coordinator']}" if request["coordinator"] else ""
        who = f"all {request['num_processes']}" if request["num_processes"] else "all"
        return f"not {who} processes have met{where} within {request['timeout']} s"
    if "address already in use" in shown.lower() or "Failed to add port" in shown:
        return f"{request['coordinator'] or 'the port'} is in use; choose another port"
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "absl::Status" in line]
    return (told or lines or ["the processes have not met"])[-1][-300:]


def _accept(server: socket.socket, count: int, token: str) -> dict[int, socket.socket]:
    """Waits for the connections of all other processes.

    Raises:
      OSError: one does not come in time.
    """
    peers: dict[int, socket.socket] = {}
    end = time.monotonic() + HELLO_SECONDS
    while len(peers) < count - 1:
        server.settimeout(max(0.01, end - time.monotonic()))
        connection, _ = server.accept()
        with contextlib.suppress(OSError, ValueError):  # a stranger
            connection.settimeout(5.0)
            hello = b""
            while len(hello) < 2 * _TOKEN + 8:
                more = connection.recv(2 * _TOKEN + 8 - len(hello))
                if not more:
                    raise ConnectionError
                hello += more
            index = int(hello[2 * _TOKEN :])
            is_ours = hmac.compare_digest(hello[: 2 * _TOKEN], token.encode())
            if is_ours and 0 < index < count and index not in peers:
                peers[index] = connection
                continue
        connection.close()
    return peers


def _connect(host: str, port: int, token: str, index: int) -> socket.socket:
    """Connects to the first process.

    Raises:
      OSError: it cannot be reached.
    """
    for wait in _waits():
        try:
            connection = socket.create_connection((host.strip("[]"), port), timeout=10.0)
            connection.sendall(f"{token}{index:08d}".encode())
            return connection
        except OSError as error:
            problem = error
            time.sleep(wait)
    raise problem


def _waits() -> Iterator[float]:
    end = time.monotonic() + HELLO_SECONDS / 2
    while time.monotonic() < end:
        yield 0.5
