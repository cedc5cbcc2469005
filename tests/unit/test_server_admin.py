"""Tests for the operator's door."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from securechat.errors import FULL, Refused
from securechat.link import ConnectLine
from securechat.server.admin import AdminCommands, AdminFactory
from tests.doubles import SRV, START, SteadyRandom, StoreCase

LINE = ConnectLine("chat.example.org", 99, SRV)
FIGURES = {"connections": 3, "queued": 0}


class AdminCase(StoreCase):
    """Tests of an operator's connection."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor.advance(START)
        commands = AdminCommands(self.store, LINE, SteadyRandom(), self.reactor.seconds, lambda: FIGURES)
        self.transport = StringTransport()
        self.protocol = AdminFactory(self.reactor, commands).buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def answers(self) -> list[dict[str, Any]]:
        """What was answered since the last look."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def ask(self, request: bytes | dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.protocol.dataReceived(line + b"\n")
        (answer,) = self.answers()
        return answer


class InviteTests(AdminCase):
    """Tests for invitations."""

    def invite(self, **fields: Any) -> tuple[str, str]:
        """An invitation's line, and its code."""
        answer = self.ask({"cmd": "invite"} | fields)
        self.assertEqual("ok", answer["status"])
        code = ConnectLine.parse(answer["line"]).invite
        assert code is not None
        return answer["line"], code

    def holds(self, code: str, after: float = 0) -> bool:
        """Whether an invitation has a place left, so many seconds from now."""
        now = int((START + after) * 1000)
        return self.do(self.store.invite_holds(hashlib.sha256(code.encode()).digest(), now))

    def test_line(self) -> None:
        """The line leads to this server, proves which it is, and names a room."""
        line, code = self.invite(room="ops")
        self.assertEqual(ConnectLine("chat.example.org", 99, SRV, code, "ops"), ConnectLine.parse(line))
        self.assertEqual({"id": [SRV], "invite": [code], "room": ["ops"]}, parse_qs(urlsplit(line).fragment))

    def test_code(self) -> None:
        """The code is 128 random bits, other each time, and holds."""
        codes = {self.invite()[1] for _ in range(3)}
        self.assertEqual((3, {22}), (len(codes), {len(code) for code in codes}))
        for code in codes:
            self.assertTrue(self.holds(code))

    def test_defaults(self) -> None:
        """Without more it leads one newcomer into general, for a week."""
        line, code = self.invite()
        self.assertEqual("general", ConnectLine.parse(line).room)
        week = 7 * 24 * 3600
        self.assertEqual([True, False], [self.holds(code, after) for after in (week - 1, week)])

    def test_expires(self) -> None:
        """It holds for the seconds asked for."""
        _, code = self.invite(expires=60)
        self.assertEqual([True, False], [self.holds(code, after) for after in (59, 60)])

    def test_limits(self) -> None:
        """A room that is none, and numbers beyond reason, are refused, with the field."""
        for field, value in (
            ("room", "No"), ("room", "pm:" + "0" * 64), ("uses", 0), ("uses", 10_001), ("uses", "1"), ("expires", 59),
            ("expires", 400 * 24 * 3600), ("expires", 1.5), ("room", None),
        ):  # fmt: skip
            answer = self.ask({"cmd": "invite", field: value})
            self.assertEqual("error", answer["status"], (field, value))
            self.assertIn(field, answer["msg"])

    def test_stored_as_a_hash(self) -> None:
        """What is stored does not admit anybody."""
        _, code = self.invite()
        content = b"".join(path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*"))
        self.assertNotIn(code.encode(), content)


class StatusTests(AdminCase):
    """Tests for the daemon's figures."""

    def test_figures(self) -> None:
        """They are told as they are."""
        self.assertEqual({"status": "ok", "figures": FIGURES}, self.ask({"cmd": "status"}))


class RequestTests(AdminCase):
    """Tests for what is no good request."""

    def test_hostile(self) -> None:
        """Whatever comes is answered in a few words, and the connection goes on."""
        for line in (
            b"", b"x", b"[]", b'{"cmd":"stop"}', b"\xff", b'{"cmd":1}', b'{"cmd":"invite"}{}', b"[" * 4000,
            b'{"cmd":"invite","x":' + b"[" * 4000, b'{"cmd":"invite","room":"\\ud800"}',
            b'{"cmd":"invite","uses":' + b"9" * 4000 + b"}",
        ):  # fmt: skip
            answer = self.ask(line)
            self.assertEqual("error", answer["status"], line[:40])
            self.assertLess(len(answer["msg"]), 200)
        self.assertEqual("ok", self.ask({"cmd": "invite"})["status"])

    def test_too_long(self) -> None:
        """A line of more than 4 KiB ends the connection."""
        self.protocol.dataReceived(b"x" * 4098)
        self.assertTrue(self.transport.disconnecting)

    def test_refused_by_the_store(self) -> None:
        """Where the store refuses, its words are the answer."""

        async def full(*_: Any, **__: Any) -> None:
            raise Refused(FULL)

        self.patch(type(self.store), "add_invite", full)
        self.assertEqual({"status": "error", "msg": FULL.text}, self.ask({"cmd": "invite"}))

    def test_own_fault(self) -> None:
        """A fault of the daemon's own is logged, and answered without its insides."""

        async def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("the insides")

        self.patch(type(self.store), "add_invite", broken)
        answer = self.ask({"cmd": "invite"})
        self.assertEqual("error", answer["status"])
        self.assertNotIn("insides", answer["msg"])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_gone(self) -> None:
        """An answer for somebody who is gone goes nowhere."""
        waiting: Deferred[None] = Deferred()

        async def slow(*_: Any, **__: Any) -> None:
            await waiting

        self.patch(type(self.store), "add_invite", slow)
        self.protocol.dataReceived(b'{"cmd":"invite"}\n')
        self.protocol.connectionLost(None)
        self.protocol.transport = None
        waiting.callback(None)
        self.assertEqual([], self.answers())
