"""Tests for the operator's door, and what stands behind it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from securechat.crypto.atrest import KeyEncryptionKeys
from securechat.errors import BAD_LOGIN, BAD_SESSION, FULL, NAME_TAKEN, NO_SUCH_USER, Exit, Refused
from securechat.link import ConnectLine
from securechat.server.admin import AdminFactory
from securechat.server.operations import COMMANDS, Operations
from securechat.wire import messages as m
from tests.doubles import SRV, START, SteadyRandom, auth_token
from tests.unit.test_server_talk import TalkCase

LINE = ConnectLine("chat.example.org", 99, SRV)
FIGURES = {"connections": 3, "queued": 0}


class AdminCase(TalkCase):
    """Tests of an operator's connection to a server where alice and bob are in the room ops."""

    def setUp(self) -> None:
        super().setUp()
        self.kek = KeyEncryptionKeys(self.KEY_FILE)
        operations = Operations(
            store=self.store,
            broker=self.parts.broker,
            logins=self.parts.logins,
            passwords=self.checks,
            connect_line=LINE,
            random=SteadyRandom(),
            now=self.reactor.seconds,
            read_keys=lambda: self.kek,
            figures=lambda: FIGURES,
            limits={"retention_days": 7},
        )
        self.transport = StringTransport()
        self.protocol = AdminFactory(self.reactor, operations).buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.operations = operations

    def answers(self) -> list[dict[str, Any]]:
        """What was answered since the last look."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def ask(self, request: bytes | dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; what was said on the progress is left out."""
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.protocol.dataReceived(line + b"\n")
        *progress, answer = self.answers()
        self.assertEqual({"progress"} if progress else set(), {one["status"] for one in progress})
        return answer

    def ok(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """What a command that must succeed answers."""
        answer = self.ask({"cmd": cmd} | fields)
        self.assertEqual("ok", answer.pop("status"), answer)
        return answer

    def refused(self, cmd: str, **fields: Any) -> tuple[str, Exit]:
        """Why a command is refused, and with which status it is to end."""
        answer = self.ask({"cmd": cmd} | fields)
        self.assertEqual("error", answer["status"])
        return answer["msg"], Exit(answer["exit"])


class InviteTests(AdminCase):
    """Tests for invitations."""

    def invite(self, **fields: Any) -> tuple[str, str]:
        """An invitation's line, and its code."""
        line = self.ok("invite", **fields)["line"]
        code = ConnectLine.parse(line).invite
        assert code is not None
        return line, code

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
            msg, status = self.refused("invite", **{field: value})
            self.assertEqual(Exit.USAGE, status, (field, value))
            self.assertIn(field, msg)

    def test_stored_as_a_hash(self) -> None:
        """What is stored does not admit anybody."""
        _, code = self.invite()
        content = b"".join(path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*"))
        self.assertNotIn(code.encode(), content)


class StatusTests(AdminCase):
    """Tests for the daemon's figures."""

    def test_figures(self) -> None:
        """They are told as they are."""
        self.assertEqual({"figures": FIGURES}, self.ok("status"))


class RequestTests(AdminCase):
    """Tests for what is no good request, and for what goes wrong."""

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
        self.assertEqual((FULL.text, Exit.NETWORK), self.refused("invite"))

    def test_own_fault(self) -> None:
        """A fault of the daemon's own is logged, and answered without its insides."""

        async def broken(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("the insides")

        self.patch(type(self.store), "add_invite", broken)
        msg, status = self.refused("invite")
        self.assertEqual(Exit.NETWORK, status)
        self.assertNotIn("insides", msg)
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

    def test_check_without_an_operator(self) -> None:
        """A check that nobody waits for any more stops; a change of keys goes on."""
        self.transport.connected = False
        for cmd in ("check", "rotate-keys"):
            self.protocol.dataReceived(json.dumps({"cmd": cmd}).encode() + b"\n")
        (answer,) = self.answers()
        self.assertEqual("ok", answer["status"])
        self.assertIn("rows", answer)

    def test_alone(self) -> None:
        """Of some commands only one runs at a time; and the next one when it is done."""
        with self.operations.alone("check"):
            msg, status = self.refused("check")
        self.assertEqual((Exit.FIXABLE, True), (status, msg.startswith("Another check is under way")))
        self.ok("check")

    def test_every_command_is_reached(self) -> None:
        """Each command of the table is known by its name on the socket, and answered by its handler."""
        for kind in COMMANDS:
            answer = self.ask({"cmd": kind.__struct_config__.tag, "user": "nobody", "room": "none", "path": "x"})
            self.assertNotIn("Invalid value", answer.get("msg", ""), kind)


class StorageTests(AdminCase):
    """Tests for backups, keys and checks by way of the socket."""

    def test_backup(self) -> None:
        """The answer says what is in it; a path that is not whole is refused."""
        self.many(3)
        path = Path(self.mktemp()).absolute()
        answer = self.ok("backup", path=str(path))
        self.assertEqual(
            (str(path), path.stat().st_size, 3, 1, 3),
            tuple(answer[name] for name in ("path", "size", "accounts", "rooms", "messages")),
        )
        self.assertIn("not a whole path", self.refused("backup", path="chat.backup")[0])
        self.assertIn("already", self.refused("backup", path=str(path))[0])

    def test_check(self) -> None:
        """Nothing is wrong with a good database; then what is wrong is told."""
        self.many(3)
        self.assertEqual({"faults": [], "count": 0}, self.ok("check"))
        self.writer.connection.execute("UPDATE message SET ts = ts + 1 WHERE seq = 2")
        answer = self.ok("check")
        self.assertEqual(
            (1, "message", "ops"), (answer["count"], *(answer["faults"][0][k] for k in ("table", "where")))
        )

    def test_rotate_keys(self) -> None:
        """It says how many rows it sealed anew; nothing is wrong afterwards."""
        self.many(3)
        answer = self.ok("rotate-keys")
        self.assertGreater(answer["rows"], 5)
        self.assertEqual(0, answer["damaged"])
        self.assertEqual(0, self.ok("check")["count"])


class UserTests(AdminCase):
    """Tests for accounts and logins."""

    LOGINS: ClassVar[int] = 1000

    def out(self) -> m.Bye:
        """The goodbye that bob's connection got, and nothing after it."""
        (bye,) = self.bobs.take(m.Bye)
        self.assertTrue(self.bobs.closing)
        assert isinstance(bye, m.Bye)
        return bye

    def test_list(self) -> None:
        """Every account, with what it has and uses."""
        self.many(2)
        self.ok("user-quota", user="bob", megabytes=3)
        alice, bob, carol = self.ok("user-list")["users"]
        self.assertEqual(["alice", "bob", "carol"], [user["user"] for user in (alice, bob, carol)])
        self.assertEqual(
            [(1, 1, 1, 1, None), (1, 1, 1, 1, 3), (0, 1, 0, 0, None)],
            [
                tuple(user[name] for name in ("rooms", "devices", "sessions", "connected", "quota"))
                for user in (alice, bob, carol)
            ],
        )
        self.assertGreater(alice["stored"], 4 * 384)
        self.assertEqual(0, bob["stored"])
        self.assertEqual({"retention_days": 7}, self.ok("user-list")["limits"])

    def test_suspend(self) -> None:
        """A suspended account is out, by every way in; then it comes back, but not by its old sessions."""
        caller = self.call()
        login = caller.ask(self.login_of(self.bob, caller))
        self.bobs.take()
        self.assertEqual({"ended": 1}, self.ok("user-suspend", user="bob"))
        (bye,) = caller.take(m.Bye)
        self.assertEqual(("session_ended", True), (bye.reason, "suspended" in bye.msg))
        caller = self.call()
        self.assertFailed(BAD_LOGIN, caller.ask(self.login_of(self.bob, caller)))
        resume = m.Resume(id=2, token=login.token, proof=caller.proof(self.bob))
        self.assertFailed(BAD_SESSION, caller.ask(resume))
        self.ok("user-suspend", user="bob", yes=False)
        self.assertFailed(BAD_SESSION, caller.ask(resume))
        self.assertIsInstance(caller.ask(self.login_of(self.bob, caller)), m.LoginOk)

    def test_suspended_while_logging_in(self) -> None:
        """Who is let in by what the database said a moment ago is not let in after all."""
        caller = self.call()
        login = self.login_of(self.bob, caller)
        self.parts.logins.shut_out("bob")
        self.assertFailed(BAD_SESSION, caller.ask(login))
        self.parts.logins.let_in("bob")
        self.assertIsInstance(caller.ask(login), m.LoginOk)

    def test_logging_in_meanwhile(self) -> None:
        """Who is let in by a password or session that ended a moment ago is not, and leaves no session."""
        caller = self.call()
        token = caller.ask(self.login_of(self.bob, caller)).token
        caller.lose()
        salt = base64.b64encode(bytes(16)).decode()
        ends = (
            {"cmd": "revoke", "user": "bob"},
            {"cmd": "user-reset-password", "user": "bob", "token": auth_token(self.bob, "another"), "salt": salt},
        )
        for end in ends:
            for resume in (True, False):
                caller = self.call()
                request = (
                    m.Resume(token=token, proof=caller.proof(self.bob)) if resume else self.login_of(self.bob, caller)
                )
                meanwhile = [end]
                genuine = type(self.store).account

                async def account(store: Any, user: str, meanwhile: Any = meanwhile, genuine: Any = genuine) -> Any:
                    found = await genuine(store, user)
                    if meanwhile:
                        self.assertEqual("ok", self.ask(meanwhile.pop())["status"])
                    return found

                self.patch(type(self.store), "account", account)
                self.assertFailed(BAD_SESSION, caller.ask(request))
                self.assertEqual((), tuple(self.parts.logins.of("bob")))
                self.assertEqual([], list(self.do(self.store.sessions("bob", START * 1000))))

    def test_suspending_nobody(self) -> None:
        """Where there is no such account nobody is shut out who may come later."""
        self.assertEqual(
            (NO_SUCH_USER.text.format(user="dave"), Exit.NOT_THERE), self.refused("user-suspend", user="dave")
        )
        self.assertTrue(self.parts.logins.admits("dave"))

    def test_delete(self) -> None:
        """A deleted account cannot log in or be written to; its keys and its place in rooms stay, its name is taken."""
        self.assertEqual({"ended": 1}, self.ok("user-delete", user="bob"))
        self.assertIn("deleted", self.out().msg)
        caller = self.call()
        self.assertFailed(BAD_LOGIN, caller.ask(self.login_of(self.bob, caller)))
        self.assertFailed(NAME_TAKEN, caller.ask(self.registration_of(self.bob)))
        self.assertFailed(NO_SUCH_USER, self.alices.ask(self.pm_of(1, self.alice, self.bob)))
        self.assertEqual(["bob"], list(self.alices.ask(m.Keys(id=9, users=("bob",))).keys))
        self.assertIsInstance(self.send(), m.SendOk)
        self.assertIsNone(self.do(self.store.backup("bob")))
        self.assertEqual(0, self.ok("check")["count"])
        for cmd in ("user-delete", "user-suspend", "user-quota", "sessions", "revoke"):
            self.assertEqual(("bob was deleted.", Exit.NOT_THERE), self.refused(cmd, user="bob"), cmd)
        alice, bob, _ = self.ok("user-list")["users"]
        self.assertEqual((None, START * 1000), (alice["deleted"], bob["deleted"]))

    def test_reset_password(self) -> None:
        """The server gets what a client derives, never a password; the old one does not do any more."""
        self.assertEqual({"srv": SRV}, self.ok("user-reset-password", user="bob"))
        salt = base64.b64encode(b"another salt 123").decode()
        token = auth_token(self.bob, "another")
        self.assertEqual({"ended": 1}, self.ok("user-reset-password", user="bob", token=token, salt=salt))
        self.assertIn("reset the password", self.out().msg)
        caller = self.call()
        self.assertEqual(b"another salt 123", caller.ask(m.Prelogin(id=1, user="bob")).salt)
        self.assertFailed(BAD_LOGIN, caller.ask(self.login_of(self.bob, caller)))
        self.assertIsInstance(caller.ask(self.login_of(self.bob, caller, password=token)), m.LoginOk)
        self.assertIn("salt has 16", self.refused("user-reset-password", user="bob", token=token, salt="AAAA")[0])

    def test_sessions(self) -> None:
        """Logins with their devices and addresses; those of one account are shown, and end, alone."""
        everybody = self.ok("sessions")["sessions"]
        self.assertEqual(["alice", "bob"], [one["user"] for one in everybody])
        (bob,) = self.ok("sessions", user="bob")["sessions"]
        self.assertEqual((self.bob.dev(), ["192.0.2.1"]), (bob["device"], bob["connected"]))
        self.assertEqual({"sessions": 0, "connections": 0}, self.ok("revoke", user="bob", device="0" * 32))
        self.assertEqual({"sessions": 1, "connections": 1}, self.ok("revoke", user="bob", device=self.bob.dev()))
        self.assertEqual("session_ended", self.out().reason)
        self.assertEqual({"sessions": 1, "connections": 1}, self.ok("revoke", user="alice"))
        self.assertEqual([], self.ok("sessions")["sessions"])
        self.assertEqual(Exit.NOT_THERE, self.refused("sessions", user="nobody")[1])


class RoomTests(AdminCase):
    """Tests for rooms."""

    def test_list(self) -> None:
        """Every room, with what it has and what was said of it."""
        self.many(2)
        self.ok("room-retention", room="ops", days=3)
        self.ok("room-quota", room="ops", megabytes=5)
        (room,) = self.ok("room-list")["rooms"]
        self.assertEqual(
            ("ops", True, 2, 2, 2, START * 1000, 3, 5),
            tuple(
                room[name] for name in ("room", "open", "members", "messages", "events", "last", "retention", "quota")
            ),
        )
        self.ok("room-retention", room="ops")
        self.ok("room-quota", room="ops")
        (room,) = self.ok("room-list")["rooms"]
        self.assertEqual((None, None), (room["retention"], room["quota"]))

    def test_delete(self) -> None:
        """Those in it are told and come back without it; everything of it is gone, and its name is free."""
        self.many(250)
        self.enter(self.alices, self.alice, "more")
        self.assertEqual(["alice", "bob"], self.ok("room-delete", room="ops")["members"])
        for caller in (self.alices, self.bobs):
            (bye,) = caller.take(m.Bye)
            self.assertEqual(("room_deleted", True), (bye.reason, "the room ops" in bye.msg))
        with self.writer.connection as database:
            for table in ("message", "message_keys", "segment", "audience"):
                self.assertEqual((0,), database.execute(f"SELECT count(*) FROM {table}").fetchone(), table)
        alice = self.again(self.alice, sync=False)
        self.assertEqual(["more"], [state.room for state in alice.ask(m.Sync(id=1)).conversations])
        del self.rooms["ops"]
        self.enter(alice, self.alice, "ops")
        self.assertEqual(0, self.ok("check")["count"])
        self.assertEqual(2, len(self.ok("room-list")["rooms"]))

    def test_no_such_room(self) -> None:
        """What is said of a room that is none is what helps an operator."""
        for cmd in ("room-delete", "room-retention", "room-quota"):
            msg, status = self.refused(cmd, room="nothing")
            self.assertEqual((Exit.NOT_THERE, True), (status, "securechat admin room list" in msg), cmd)
