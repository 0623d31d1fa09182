"""Processes that train rows together: who has which, what they exchange, and what a loss does."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ppg_jax.config import ConfigError
from ppg_jax.execution import joining, link
from ppg_jax.execution.link import Link, ProcessGoneError
from ppg_jax.execution.processes import ALONE, Processes, from_bytes, to_bytes


@pytest.fixture
def star(monkeypatch):
    """A function that makes processes, all in this one, joined by sockets."""
    ended = threading.Event()
    monkeypatch.setattr(Link, "_end", lambda _: ended.set())  # it would end the tests
    made, sockets = [], []

    def make(count):
        pairs = [socket.socketpair() for _ in range(1, count)]
        peers = [{i + 1: pair[0] for i, pair in enumerate(pairs)}]
        peers += [{0: pair[1]} for pair in pairs]
        sockets.extend(s for pair in pairs for s in pair)
        made.extend(Processes(count, i, Link(mine)) for i, mine in enumerate(peers))
        return made, peers, ended

    yield make
    in_all(lambda p: p.link.leave(), made)
    for connection in sockets:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def in_all(work, processes):
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(work, processes))


@pytest.mark.parametrize(("rows", "count"), [(8, 2), (7, 3), (3, 3), (5, 1)])
def test_every_row_has_one_process(rows, count):
    parts = Processes(count).parts(rows)
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Processes(count, count - 1).rows(rows) == parts[-1]


def test_fewer_rows_than_processes_are_refused():
    with pytest.raises(ConfigError, match="seeds: 2 is invalid with 3 processes"):
        Processes(3).parts(2)


def test_arrays_survive():
    arrays = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "flag": np.array([True, False]),
              "none": np.zeros((0, 4), np.float32), "nan": np.array(np.nan)}  # fmt: skip
    found = from_bytes(to_bytes(arrays))
    assert list(found) == list(arrays)
    for name, x in arrays.items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_alone_nothing_is_sent():
    arrays = {"x": np.ones(2)}
    assert ALONE.joined(arrays) is arrays
    assert ALONE.all(5) == [5]
    assert ALONE.from_first("x") == "x"
    assert ALONE.in_all(lambda: 3) == 3


def test_what_they_exchange(star):
    processes, _, _ = star(3)
    assert in_all(lambda p: p.all({"i": p.index}), processes) == [[{"i": i} for i in range(3)]] * 3
    assert in_all(lambda p: p.from_first(10 + p.index), processes) == [10] * 3
    # Process i has i + 1 rows: 0, 1 1, 2 2 2.
    joined = in_all(
        lambda p: p.joined({"x": np.full((p.index + 1, 1), p.index, np.float32)}), processes
    )
    for found in joined:
        np.testing.assert_array_equal(found["x"], np.float32([[0], [1], [1], [2], [2], [2]]))
    sizes = in_all(lambda p: len(p.to_first({"x": np.ones(p.index + 1)})["x"]), processes)
    assert sizes == [6, 2, 3]


def test_what_fails_in_one_fails_in_all(star):
    processes, _, _ = star(3)

    def work(p):
        with pytest.raises((OSError, ZeroDivisionError)) as caught:
            p.in_all(lambda: 1 // (p.index - 1))
        return f"{type(caught.value).__name__}: {caught.value}"

    found = in_all(work, processes)
    reason = "integer division or modulo by zero"
    assert found[1] == f"ZeroDivisionError: {reason}"
    assert found[0] == found[2] == f"OSError: {reason} (process 1)"
    assert in_all(lambda p: p.all(1), processes) == [[1, 1, 1]] * 3  # and they go on


@pytest.mark.parametrize(("dead", "others"), [(2, (0, 1)), (0, (1, 2))])
def test_a_dead_process_is_noticed_by_all(star, dead, others):
    processes, sockets, ended = star(3)
    for connection in sockets[dead].values():
        connection.shutdown(socket.SHUT_RDWR)  # as the system does when a process is killed
    for i in others:
        with pytest.raises(ProcessGoneError, match=f"process {dead} is gone") as caught:
            processes[i].wait()
        assert not caught.value.failed
        with pytest.raises(ProcessGoneError, match=f"process {dead} is gone"):
            processes[i].wait()
    assert ended.wait(5)


def test_a_reason_reaches_all_word_for_word(star):
    processes, _, _ = star(3)
    processes[1].fail("out: it is not empty (process 1)")
    for i in (0, 2):
        with pytest.raises(ProcessGoneError, match=r"^out: it is not empty \(process 1\)$") as e:
            processes[i].wait()
        assert e.value.failed


def test_a_silent_process_counts_as_gone(star, monkeypatch):
    monkeypatch.setattr(link, "SILENCE", 1.0)
    monkeypatch.setattr(link.Link, "_beat", lambda *_: None)
    processes, _, _ = star(2)
    with pytest.raises(ProcessGoneError, match="process 1 is gone: it is silent"):
        processes[0].wait()


def test_who_leaves_is_no_loss_until_it_is_needed(star):
    processes, _, ended = star(2)
    leaving = threading.Thread(target=processes[1].link.leave)
    leaving.start()
    time.sleep(0.2)
    assert not ended.is_set()
    with pytest.raises(ProcessGoneError, match="process 1 has ended"):
        processes[0].wait()
    leaving.join(15)


def test_a_stranger_is_not_let_in():
    token = "ab" * joining._TOKEN
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        port = server.getsockname()[1]
        found = pool.submit(joining._accept, server, 2, token)
        stranger = joining._connect("127.0.0.1", port, "cd" * joining._TOKEN, 1)
        friend = joining._connect("127.0.0.1", port, token, 1)
        peers = found.result(20)
        assert peers[1].getpeername() == friend.getsockname()
        assert stranger.recv(1) == b""
        for connection in (stranger, friend, peers[1]):
            connection.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", 2, None), "process_id: it is missing"),
        ((None, 2, 1), "coordinator: it is missing"),
        (("host", 2, 1), "coordinator: 'host' is invalid; it should be HOST:PORT"),
        (("host:x", 2, 1), "coordinator: 'host:x' is invalid"),
        (("host:1", 0, 0), "num_processes: 0 is invalid"),
        (("host:1", 2, 2), "process_id: 2 is invalid; it should be 0 to 1"),
    ],
)
def test_wrong_arguments(given, message):
    with pytest.raises(ConfigError, match=message):
        joining._check(*given)


def test_too_late():
    np.asarray(__import__("jax").numpy.ones(1))
    with pytest.raises(ConfigError, match=r"JAX has computed already; call ppg_jax\.distributed"):
        joining.distributed("localhost:1", 1, 0)
