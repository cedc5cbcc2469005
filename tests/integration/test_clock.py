"""A clock that is set while the daemon runs, by libfaketime: forward by 400 days, back by an hour."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import Final
from unittest import SkipTest

import psutil

from securechat.crypto.passwords import SALT_BYTES
from securechat.wire import limits
from securechat.wire import messages as m
from tests.integration.harness import FAST, PASSWORD, Daemon, IntegrationTestCase, Wire, WireRefused, stretched, until

_WATCHED: Final = 2.0  # seconds after a clock was set
_BUSY: Final = 0.5  # seconds of CPU that the daemon may use meanwhile
_LATE: Final = 5.0  # seconds that a timer may be late on a busy machine
_DAY: Final = 24 * 3600 * 1000  # milliseconds
_HOUR: Final = 3600 * 1000


def _library() -> str:
    """What `faketime` preloads. Raises SkipTest."""
    wrapper = shutil.which("faketime")
    if wrapper is None:
        raise SkipTest("needs faketime")
    said = subprocess.run([wrapper, "-f", "+0", "env"], capture_output=True, encoding="utf-8", check=True).stdout
    return next(line.partition("=")[2] for line in said.splitlines() if line.startswith("LD_PRELOAD="))


class ClockCase(IntegrationTestCase):
    """Tests with processes whose clock can be set."""

    def setUp(self) -> None:
        super().setUp()
        self.offset = self.directory / "offset"
        self.set("+0")
        self.environ = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nobody can set that clock
        }

    def set(self, offset: str) -> None:
        """Sets the clock."""
        part = self.offset.with_suffix(".part")
        part.write_text(f"{offset}\n", encoding="ascii")
        part.replace(self.offset)


class ClientTests(ClockCase):
    """A client on a machine whose clock is set."""

    def test_comes_back(self) -> None:
        """A client keeps its connection when the clock is set, and comes back by itself after it was set back."""
        daemon = self.daemon()
        client = self.client("alice", daemon.line, "--keep-going", environ=self.environ)
        client.ask(f"/register alice {PASSWORD}", "Welcome")
        client.ask("/join general", " general, an open room")
        self.set("+400d")
        client.ask("before", "<alice> before")
        time.sleep(_WATCHED)
        self.set("-1h")
        self.assertEqual([], client.shown("The connection is lost"))
        daemon.kill()
        client.wait_for("The connection is lost")
        daemon.restart()
        client.wait_for("Connected again.")
        client.ask("after", "<alice> after")
        self.assertEqual(0, client.finish())


class ClockTests(ClockCase):
    """Two people, before and after the daemon's clock is set."""

    def setUp(self) -> None:
        super().setUp()
        self.server: Daemon = self.daemon(environ=self.environ, settings={**FAST, "logins_per_account": 5})
        self.alice, self.sending = self.person(self.server, "alice", room="general")
        self.bob, self.reading = self.person(self.server, "bob", room="general")
        self.places: list[tuple[int, str]] = []

    def send(self, text: str) -> int:
        """A message from one to the other, behind all before it; answers its time."""
        (reply,) = self.alice.send(self.sending, "general", text)
        message = self.reading.event(m.StoredMessage)
        self.assertEqual((len(self.places) + 1, text), (message.seq, self.bob.open(message)))
        self.assertEqual(reply.ts, message.ts)
        self.places.append((message.seq, text))
        return reply.ts

    def quiet(self) -> None:
        """The daemon does next to nothing: no timer fires again and again."""
        process = psutil.Process(self.server.process.pid)
        before, said = sum(process.cpu_times()[:2]), len(self.server.said())
        time.sleep(_WATCHED)
        self.assertLess(sum(process.cpu_times()[:2]) - before, _BUSY)
        self.assertEqual(said, len(self.server.said()), self.server.said()[-2000:])

    def test_set(self) -> None:
        """Order goes by seq, connections and sessions live on, and timers neither rush nor wait, whatever it says."""
        first = self.send("before")
        self.set("+400d")
        self.quiet()
        later = self.send("after 400 days")
        self.assertGreater(later - first, 399 * _DAY)
        self.set("-1h")
        self.quiet()
        self.assertLess(self.send("an hour before the first") - first, -_HOUR / 2)
        page = self.reading.ask(lambda number: m.History(id=number, room="general"))
        self.assertEqual(self.places, [(message.seq, self.bob.open(message)) for message in page.messages])
        for person in (self.alice, self.bob):
            with Wire(self.server.port, srv=person.srv) as again:
                person.resume(again)
        started = time.monotonic()
        with Wire(self.server.port) as silent:
            self.assertEqual("login_timeout", silent.event(m.Bye, limits.AUTH_SECONDS + _LATE).reason)
        self.assertGreater(time.monotonic() - started, limits.AUTH_SECONDS - 1)

    def test_tokens(self) -> None:
        """A session that was not used for 30 days is over, at once when the clock says so; a password still opens."""
        self.set("+400d")
        with Wire(self.server.port, srv=self.alice.srv) as again:
            refused = self.assertRaises(WireRefused, self.alice.resume, again)
            self.assertEqual("bad_session", refused.code)
        self.set("+0")
        with Wire(self.server.port, srv=self.alice.srv) as again:
            self.alice.resume(again)

    def test_limits(self) -> None:
        """A clock set forward gives nobody more attempts at a password, one set back takes none for longer."""
        codes = [self._attempt() for _ in range(6)]
        self.assertEqual("rate_limited", codes[-1])
        for offset in ("+400d", "-1h"):
            self.set(offset)
            self.assertEqual("rate_limited", self._attempt())
        until(lambda: self._attempt() != "rate_limited", "an attempt is allowed again", 20)

    def _attempt(self) -> str:
        """What a wrong password is refused with."""
        wrong = stretched("not the password", bytes(SALT_BYTES)).auth_token(self.alice.srv, "alice")
        with Wire(self.server.port, srv=self.alice.srv) as wire:
            refused = self.assertRaises(
                WireRefused, wire.ask, lambda number: m.Login(id=number, user="alice", password=wrong)
            )
        return str(refused.code)
