"""What clients print, through a network that breaks and with a daemon that is killed; and the proxy that breaks it."""

from __future__ import annotations

import os
import secrets
import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.harness import IntegrationTestCase, until
from tests.promise import Promise
from tests.proxy import BYTES, DELAY, DROP, HALF_CLOSE, PASS, RESET, Proxy, Schedule

ROUNDS = 8


class PromiseTests(IntegrationTestCase):
    """Real clients behind the proxy."""

    def test_each_line_once_and_in_order(self) -> None:
        """Everything typed is shown to everybody once, in one order, and each one's lines in the order typed."""
        seed = int(os.environ.get("SECURECHAT_TEST_SEED") or secrets.randbits(32))
        promise = Promise(self.directory, seed)
        self.addCleanup(promise.end)
        self._pids += [client.process.pid for client in promise.clients.values()]
        promise.gather()
        for _ in range(ROUNDS):
            promise.round()
        if not promise.kills:
            promise.daemon.kill()
            promise.daemon.restart()
            promise.settle()
        self.assertEqual([], list(promise.troubles()), f"seed {seed}, {promise.figures()}")
        self.assertGreater(promise.typed.total(), ROUNDS)
        self.assertGreater(promise.figures()["lost"], 0, "no connection ever broke: this tested nothing")


class ProxyTests(SynchronousTestCase):
    """The moods do what they are called."""

    def setUp(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.proxy = Proxy(self.server.getsockname()[1], 1)
        self.addCleanup(self.proxy.close)
        self.client = socket.create_connection(("127.0.0.1", self.proxy.port), 5)
        self.addCleanup(self.client.close)
        self.behind, _ = self.server.accept()
        self.behind.settimeout(5)
        self.addCleanup(self.behind.close)

    def exchange(self, size: int = 3000) -> list[bytes]:
        """Sends so many bytes to the server; answers what each read gave it."""
        sending = threading.Thread(target=self.client.sendall, args=(bytes(size),))
        sending.start()
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < size:
            pieces.append(self.behind.recv(65536))
            self.assertTrue(pieces[-1], "the connection ended")
        sending.join()
        return pieces

    def test_forwards(self) -> None:
        """In every mood that forwards, all bytes arrive, in both directions."""
        for mood in (PASS, DELAY, BYTES):
            self.proxy.be(mood)
            self.assertEqual(3000, sum(map(len, self.exchange())))
            self.behind.sendall(b"answer")
            self.assertEqual(b"answer", self._all_of(6))

    def _all_of(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += self.client.recv(size - len(got))
        return got

    def test_drop(self) -> None:
        """What came in a mood that forwards nothing arrives in the next."""
        self.proxy.be(DROP)
        self.client.sendall(b"later")
        self.behind.settimeout(0.2)
        self.assertRaises(TimeoutError, self.behind.recv, 5)
        self.proxy.be(PASS)
        self.behind.settimeout(5)
        self.assertEqual(b"later", self.behind.recv(5))

    def test_reset(self) -> None:
        """Both ends see the connection broken."""
        self.proxy.be(RESET)
        for end in (self.client, self.behind):
            self.assertRaises(ConnectionResetError, end.recv, 1)

    def test_half_close(self) -> None:
        """One end reads the end of the stream; what it sends still arrives."""
        self.proxy.be(HALF_CLOSE)
        ended = until(self._ended, "one direction has ended", 5)
        other = self.behind if ended is self.client else self.client
        ended.sendall(b"still")
        other.settimeout(5)
        self.assertEqual(b"still", other.recv(5))

    def _ended(self) -> socket.socket | None:
        for end in (self.client, self.behind):
            end.settimeout(0.05)
            try:
                if not end.recv(1):
                    return end
            except TimeoutError:
                pass
        return None

    def test_nobody_behind(self) -> None:
        """Without anybody to forward to, connections are reset, some before they seem to be there."""
        self.server.close()

        def talk() -> None:
            with socket.create_connection(("127.0.0.1", self.proxy.port), 5) as refused:
                refused.recv(1)

        self.assertRaises(ConnectionResetError, talk)

    def test_schedule(self) -> None:
        """The same seed gives the same moods."""
        one, other, third = Schedule(5), Schedule(5), Schedule(6)
        moods = [one.next() for _ in range(20)]
        self.assertEqual(moods, [other.next() for _ in range(20)])
        self.assertNotEqual(moods, [third.next() for _ in range(20)])
