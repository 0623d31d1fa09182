"""Messages between the processes of a run, and who is still there.

The processes form a star: each has one TCP connection to the first process. JAX's own runtime is
not used for this. It ends a process by a C++ message of many lines as soon as another one dies, and
a collective operation of a device cannot be given up.

A process that ends closes its connections, so the others know at once. A process that is stopped,
or whose machine or network is gone, is silent: it counts as gone after ``SILENCE`` seconds. From
then on every ``send`` and ``receive`` raises. If the program does not come to one within ``GRACE``
seconds, because a device computes or a disk hangs, the process is ended.
"""

import collections
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

SILENCE = 35.0
"""Seconds without a message after which a process counts as gone."""
BEAT = 5.0
"""Seconds between two messages that only say that a process is there."""
GRACE = 15.0
"""Seconds that a process has to end in order after another one is gone."""

_HEAD = struct.Struct(">cHQ")
_MESSAGE, _BEAT, _BYE, _GONE, _FAILED = b"M", b"B", b"E", b"G", b"F"

EXIT_CODE = 3
"""Exit code of a process that ends because another one is gone."""


class ProcessGoneError(Exception):
    """Another process of the run has died, failed or ended. This one cannot go on.

    Attributes:
      failed: whether the other process has said why it ends. It is then the whole message.
    """

    def __init__(self, reason: str, failed: bool = False) -> None:
        super().__init__(reason)
        self.failed = failed


class Link:
    """Connections of a process with the first process, or of the first process with all others.

    Args:
      peers: connected sockets by index of the process at the other end.

    Attributes:
      last_words: called with the error before a process that hangs is ended; it must return soon.
    """

    def __init__(self, peers: dict[int, socket.socket]) -> None:
        self._peers = peers
        self._locks = {peer: threading.Lock() for peer in peers}
        self._inbox: dict[tuple[int, str], collections.deque[bytes]] = {}
        self._heard = dict.fromkeys(peers, time.monotonic())
        self._left: set[int] = set()
        self._changed = threading.Condition()
        self._lost: ProcessGoneError | None = None
        self._leaving = False
        self.last_words: Callable[[ProcessGoneError], None] = lambda _: None
        for peer, connection in peers.items():
            connection.settimeout(None)
            with contextlib.suppress(OSError):  # a socket of another kind, in tests
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._read, peer)
            self._start(self._beat, peer)
        self._start(self._watch)

    @staticmethod
    def _start(target: Callable[..., None], *args: int) -> None:
        threading.Thread(target=target, args=args, name="link", daemon=True).start()

    def send(self, to: int, channel: str, payload: bytes) -> None:
        """Sends a message. Messages of a channel arrive in order.

        Raises:
          ProcessGoneError: a process is gone.
        """
        self._check()
        try:
            self._write(to, _MESSAGE, channel.encode(), payload)
        except OSError:
            raise self._lose(ProcessGoneError(f"process {to} is gone")) from None

    def receive(self, sender: int, channel: str) -> bytes:
        """Waits for the next message of a process in a channel.

        Raises:
          ProcessGoneError: a process is gone, or the sender has left.
        """
        box = self._box(sender, channel)
        with self._changed:
            self._changed.wait_for(lambda: box or self._lost or sender in self._left)
            if box:
                return box.popleft()
        raise self._lose(ProcessGoneError(f"process {sender} has ended"))

    def fail(self, reason: str) -> None:
        """Ends all other processes: this one cannot go on. They show the reason."""
        with self._changed:
            if self._lost is not None or self._leaving:
                return
            self._lost = ProcessGoneError("the other processes were ended, since this one failed")
        self._tell(_FAILED, reason)

    def leave(self) -> None:
        """Ends the connections in order. Nothing happens if that was done, or a process is gone."""
        with self._changed:
            if self._leaving or self._lost is not None:
                return
            self._leaving = True
        for peer in self._peers:
            with contextlib.suppress(OSError):
                self._write(peer, _BYE)
                self._peers[peer].shutdown(socket.SHUT_WR)
        # What is on its way must arrive. A socket with unread messages that is closed resets the
        # connection, and the other side would lose what it has not read yet.
        with self._changed:
            self._changed.wait_for(lambda: len(self._left) == len(self._peers), timeout=10.0)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _box(self, sender: int, channel: str) -> collections.deque[bytes]:
        with self._changed:
            return self._inbox.setdefault((sender, channel), collections.deque())

    def _write(self, to: int, kind: bytes, channel: bytes = b"", payload: bytes = b"") -> None:
        with self._locks[to]:
            self._peers[to].sendall(_HEAD.pack(kind, len(channel), len(payload)) + channel)
            self._peers[to].sendall(payload)

    def _read(self, peer: int) -> None:
        """Takes the messages of a process until it ends."""
        error, kind = ProcessGoneError(f"process {peer} is gone"), b""
        with contextlib.suppress(OSError):
            while True:
                kind, named, size = _HEAD.unpack(self._exactly(peer, _HEAD.size))
                channel = bytes(self._exactly(peer, named)).decode()
                payload = bytes(self._exactly(peer, size))
                if kind == _MESSAGE:
                    box = self._box(peer, channel)
                    with self._changed:
                        box.append(payload)
                        self._changed.notify_all()
                elif kind in (_GONE, _FAILED):
                    error = ProcessGoneError(payload.decode(errors="replace"), kind == _FAILED)
                    break
                elif kind == _BYE:
                    break
        with self._changed:
            self._left.add(peer)
            self._changed.notify_all()
        if kind != _BYE:
            self._lose(error)

    def _exactly(self, peer: int, size: int) -> bytearray:
        """The next bytes of a process. Each piece is a sign of life.

        Raises:
          OSError: the connection ended before.
        """
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            count = self._peers[peer].recv_into(rest[: 1 << 20])
            if not count:
                raise ConnectionError
            rest = rest[count:]
            self._heard[peer] = time.monotonic()
        return found

    def _beat(self, peer: int) -> None:
        with contextlib.suppress(OSError):
            while not self._leaving and self._lost is None:
                self._write(peer, _BEAT)
                time.sleep(BEAT)

    def _watch(self) -> None:
        """Finds processes that are silent."""
        before = time.monotonic()
        while not self._leaving and self._lost is None:
            time.sleep(1.0)
            now = time.monotonic()
            if now - before > BEAT:  # this process was stopped itself; what came is not read yet
                self._heard = dict.fromkeys(self._peers, now)
            before = now
            for peer, heard in self._heard.items():
                if peer not in self._left and now - heard > SILENCE:
                    self._lose(ProcessGoneError(f"process {peer} is gone: it is silent"))

    def _lose(self, error: ProcessGoneError) -> ProcessGoneError:
        """Notes that a process is gone, and tells the others. Returns what was noted first."""
        with self._changed:
            if self._lost is not None or self._leaving:
                return self._lost or error
            self._lost = error
            self._changed.notify_all()
        self._start(self._end)
        self._tell(_FAILED if error.failed else _GONE, str(error))
        return error

    def _tell(self, kind: bytes, reason: str) -> None:
        """Sends the reason to all that still listen, without waiting for those that do not."""
        text = reason.encode()[:2000]
        for peer, connection in self._peers.items():
            with contextlib.suppress(OSError):
                if self._locks[peer].acquire(timeout=1.0):  # kept: nothing is sent after this
                    connection.settimeout(1.0)
                    connection.sendall(_HEAD.pack(kind, 0, len(text)) + text)
                    connection.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        """Ends the process if it does not end by itself."""
        time.sleep(GRACE)
        words = threading.Thread(target=self.last_words, args=(self._lost,), daemon=True)
        words.start()
        words.join(2.0)
        os._exit(EXIT_CODE)
