"""Peers that do not play by the rules, over TLS, against the real daemon: it answers, closes, and serves the others."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from typing import Any

from msgspec.structs import replace

from securechat.crypto.envelope import parse_header
from securechat.crypto.identity import login_proof
from securechat.crypto.passwords import SALT_BYTES
from securechat.crypto.roomlog import AnyEvent, Create, Join, Leave, SignedEvent, sign_event
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.integration.harness import PASSWORD, Gone, IntegrationTestCase, Person, Wire, WireRefused, stretched

NO_ROOM = b"0" * 64
PING = b'{"cmd":"ping","id":1}\n'


class HostileTestCase(IntegrationTestCase):
    """A daemon, and somebody well-behaved who is served all the time."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        self.witness, self.quiet = self.person(self.server, "witness", room="general")

    def served(self, within: float = 5.0) -> None:
        """Fails unless the witness is answered in time, and the daemon had no fault."""
        before = time.monotonic()
        self.quiet.ask(lambda number: m.Ping(id=number))
        self.assertLess(time.monotonic() - before, within)
        self.assertTrue(self.server.alive)

    def answers(self, wire: Wire, sent: bytes) -> list[dict[str, Any]]:
        """All packets until the server closes the connection after `sent`."""
        with contextlib.suppress(Gone):
            wire.write(sent)
        return [json.loads(line) for line in wire.gone()]


class LineTests(HostileTestCase):
    """Bytes that are no packets."""

    def test_garbage(self) -> None:
        """What is no JSON object in UTF-8 is answered once, by name, and closes the connection."""
        for line in (
            b"hello", b"GET / HTTP/1.1\r", b"{", b"null", b"[]", b'"x"', b"{}", b'{"id":1}',
            b"\xff\xfe{}", b"\x00" * 99, b"\xef\xbb\xbf" + PING.strip(), b'{"cmd":"ping","id":"\xed\xa0\x80"}',
            b'{"cmd":"ping","x":NaN}', b'{"cmd":"ping","x":' + b"[" * 9 + b"]" * 9 + b"}",
            b"[" * 10_000, b'{"a":' * 3_000, b"'" * 16_000,
        ):  # fmt: skip
            with Wire(self.server.port) as wire:
                answer, bye = self.answers(wire, line + b"\n" + PING)
            self.assertEqual(("bad_packet", "bye"), (answer.get("code"), bye.get("event")), line[:40])
        self.served()

    def test_wrong_fields(self) -> None:
        """A packet with wrong fields is answered under its id, and the connection goes on."""
        with Wire(self.server.port) as wire:
            for line, code in (
                (b'{"cmd":"nosuch","id":7}', "unknown_command"),
                (b'{"cmd":["ping"],"id":7}', "unknown_command"),
                (b'{"cmd":"prelogin","id":7}', "bad_field"),
                (b'{"cmd":"prelogin","id":7,"user":"Alice"}', "bad_field"),
                (b'{"cmd":"prelogin","id":7,"user":"../../etc"}', "bad_field"),
                (b'{"cmd":"prelogin","id":7,"user":1}', "bad_field"),
                (b'{"cmd":"login","id":7,"user":"alice","password":"secretpassword"}', "bad_field"),
                (b'{"cmd":"roomlog","id":7,"room":"general"}', "login_first"),
                (b'{"cmd":"sync","id":7,"since":{"%s":-1}}' % NO_ROOM, "bad_field"),
                (b'{"cmd":"sync","id":7,"since":{"%s":1e400}}' % NO_ROOM, "bad_field"),
            ):
                wire.write(line + b"\n")
                answer = json.loads(wire.line())
                self.assertEqual((7, code), (answer.get("id"), answer.get("code")), line)
            wire.write(b'{"cmd":"ping","id":8,"unknown":{"field":[1,2]}}\r\n')
            self.assertEqual({"id": 8, "status": "ok"}, json.loads(wire.line()))

    def test_long_lines(self) -> None:
        """A line over the limit of its state is answered and closes, finished or not; at the limit it is taken."""
        register, others = limits.MAX_LINE_REGISTER, limits.MAX_LINE_GREETED
        for sent in (
            b'{"cmd":"register",' + b" " * register + b"\n",
            b"{" + b" " * (register + 1),
            b'{"cmd":"ping",' + b" " * others + b'"id":1}\n',
        ):
            with Wire(self.server.port) as wire:
                answer, bye = self.answers(wire, sent)
            self.assertEqual(("line_too_long", "bye"), (answer.get("code"), bye.get("event")), sent[:20])
        with Wire(self.server.port) as wire:
            wire.write(b'{"cmd":"ping","id":1' + b" " * (others - 21) + b"}\n")
            self.assertEqual("ok", json.loads(wire.line())["status"])
        _, wire = self.person(self.server, "mallory")
        wire.write(b'{"cmd":"ping","id":1' + b" " * (limits.MAX_LINE - 21) + b"}\n")
        self.assertEqual("ok", json.loads(wire.line())["status"])
        answer, _ = self.answers(wire, b'{"cmd":"ping","id":1' + b" " * limits.MAX_LINE + b"}\n")
        self.assertEqual("line_too_long", answer.get("code"))
        self.served()

    def test_newline_flood(self) -> None:
        """The first empty line closes the connection; a megabyte of them costs the others nothing."""
        with Wire(self.server.port) as wire:
            answer, bye = self.answers(wire, b"\n" * (1 << 20))
        self.assertEqual(("empty_line", "bye"), (answer.get("code"), bye.get("event")))
        self.served(within=3.0)

    def test_byte_by_byte(self) -> None:
        """A line in one-byte records is a line; and however two lines are cut in two, the answers are the same."""
        _, wire = self.person(self.server, "mallory")
        padded = PING[:-2] + b" " * 4000 + PING[-2:]
        for at in range(len(padded)):
            wire.write(padded[at : at + 1])
        self.assertEqual({"id": 1, "status": "ok"}, json.loads(wire.line()))
        two = PING + b'{"cmd":"nosuch","id":"\xc3\xa9"}\r\n'
        for cut in range(len(two) + 1):
            wire.write(two[:cut])
            wire.write(two[cut:])
            first, second = json.loads(wire.line()), json.loads(wire.line())
            self.assertEqual({"id": 1, "status": "ok"}, first)
            self.assertEqual(("é", "unknown_command"), (second["id"], second["code"]))

    def test_many_at_once(self) -> None:
        """A thousand requests in one segment are answered in their order, whatever they cost."""
        _, wire = self.person(self.server, "mallory", room="general")
        lines = []
        for number in range(1000):
            request = m.Ping(id=number) if number % 3 else m.Online(id=number, room="general")
            lines.append(codec.encode(request))
        wire.write(b"".join(lines))
        self.assertEqual(list(range(1000)), [json.loads(wire.line())["id"] for _ in range(1000)])
        self.served()


class ConnectionTests(HostileTestCase):
    """Connections that hang, break, or never say what they want."""

    def test_nobody_logs_in(self) -> None:
        """Ten seconds after it came, a connection without a login is gone: before, in and after TLS, pings or not."""
        started = time.monotonic()
        address = ("127.0.0.1", self.server.port)
        silent, half = (socket.create_connection(address) for _ in range(2))
        half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        dripping = Wire(self.server.port)
        greeted = Wire(self.server.port)
        for connection in (silent, half, dripping, greeted):
            self.addCleanup(connection.close)
        ends: dict[int, float] = {}
        while len(ends) < 3 and time.monotonic() - started < limits.AUTH_SECONDS + 8:
            for number, connection in enumerate((silent, half)):
                if number not in ends and select.select([connection], [], [], 0.1)[0]:
                    with contextlib.suppress(ConnectionResetError):
                        self.assertEqual(b"", connection.recv(100))
                    ends[number] = time.monotonic() - started
            if 2 not in ends:
                try:
                    dripping.write(PING)
                    dripping.ready()
                except Gone:
                    ends[2] = time.monotonic() - started
            self.served(within=3.0)
        self.assertEqual({0, 1, 2}, ends.keys())
        for when in ends.values():
            self.assertTrue(limits.AUTH_SECONDS - 1 < when < limits.AUTH_SECONDS + 5, ends)
        self.assertEqual("login_timeout", greeted.event(m.Bye).reason)

    def test_lost_before_the_answer(self) -> None:
        """What was asked on a connection that broke at once took effect once; asking again says so."""
        mallory, wire = self.person(self.server, "mallory", room="general")
        log, readers = mallory.readers(wire, "general")
        packages = [mallory.package("was it stored?", log, readers) for _ in range(5)]
        for ctr, package in enumerate(packages, 1):

            def send(number: int, package: m.Package = package) -> m.Send:
                return m.Send(id=number, room="general", package=package)

            wire.say(send)
            wire.close()
            wire = self.wire(self.server)
            mallory.resume(wire)
            self.assertEqual(ctr, wire.ask(send).seq)
        mallory.sync(wire)
        page = wire.ask(lambda number: m.History(id=number, room="general"))
        mids = [parse_header(package.hdr).mid for package in packages]
        self.assertEqual(mids, [message.mid for message in page.messages])
        self.assertEqual(["was it stored?"] * 5, [self.witness.open(self._next()) for _ in range(5)])

    def _next(self) -> m.StoredMessage:
        return self.quiet.event(m.StoredMessage)

    def test_cut_in_the_middle(self) -> None:
        """Connections cut at any point, by FIN or by RST, inside TLS or a line, leave nothing behind."""
        hello = self._client_hello()
        for number in range(60):
            connection = socket.create_connection(("127.0.0.1", self.server.port))
            connection.sendall(hello[: number * 9])
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        for cut in range(0, len(PING), 3):
            with Wire(self.server.port) as wire:
                wire.write(PING[:cut])
        self.served()

    def _client_hello(self) -> bytes:
        """What a client says first."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def connect() -> None:
                with contextlib.suppress(OSError):
                    Wire(port, greet=False, patience=5)

            connecting = threading.Thread(target=connect)
            connecting.start()
            connection, _ = listener.accept()
            with connection:
                hello = connection.recv(65536)
            connecting.join()
            return hello

    def test_no_tls(self) -> None:
        """Whoever speaks no TLS is cut off without a fault."""
        for sent in (b"GET / HTTP/1.1\r\n\r\n", PING, os.urandom(5000), b"\x16\x03\x01\xff\xff" + bytes(5000)):
            with socket.create_connection(("127.0.0.1", self.server.port), 12) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(65536):
                        pass
        self.served()

    def test_half_closed(self) -> None:
        """A peer that closes its sending half is let go."""
        mallory, wire = self.person(self.server, "mallory", room="general")
        self.assertEqual([(Create, "witness"), (Join, "mallory")], [self._room_event() for _ in range(2)])
        for person, its_wire in ((self.witness, self.quiet), (mallory, wire)):
            person.sync(its_wire, presence=True)
        wire._socket.shutdown(socket.SHUT_WR)
        wire.gone(5.0)
        told = [self.quiet.event(m.PresenceEvent) for _ in range(2)]
        self.assertEqual([("mallory", True), ("mallory", False)], [(one.user, one.online) for one in told])
        with Wire(self.server.port) as again:
            mallory.resume(again)

    def _room_event(self) -> tuple[type[AnyEvent], str]:
        told = self.quiet.event(m.RoomEvent)
        event = SignedEvent(told.signed, told.sig).event
        return type(event), event.by

    def test_a_reader_too_slow(self) -> None:
        """A member that does not read is cut; the others get everything in time, and it catches up afterwards."""
        mallory, _ = slow = self._slow_reader()
        talker, wire = self.person(self.server, "talker", room="general")
        log, readers = talker.readers(wire, "general")
        count = 600  # 13 MB: more than its queue and all buffers of the kernel hold
        reading = threading.Thread(target=self._read_all, args=(count,))
        reading.start()
        for ctr in range(1, count + 1):
            package = talker.package("x" * limits.MAX_TEXT, log, readers)
            wire.say(lambda number, package=package: m.Send(id=number, room="general", package=package))
            if ctr > limits.PENDING_SENDS:
                wire.reply()
        for _ in range(limits.PENDING_SENDS):
            wire.reply()
        reading.join(30)
        self.assertFalse(reading.is_alive(), "the witness does not get what was sent")
        self.assertIn("reads too slowly", self.server.said())
        slow[1].close()
        with Wire(self.server.port) as again:
            mallory.resume(again)
            mallory.sync(again, {"general": 0})
            self.assertEqual(list(range(1, count + 1)), [again.event(m.StoredMessage).seq for _ in range(count)])

    def _slow_reader(self) -> tuple[Person, Wire]:
        mallory, wire = self.person(self.server, "mallory", room="general")
        wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return mallory, wire

    def _read_all(self, count: int) -> None:
        for _ in range(count):
            self._next()


class RequestTests(HostileTestCase):
    """Well-formed requests that are not allowed."""

    def test_what_is_not_ones_own(self) -> None:
        """Rooms one is not in, other people's messages, and forged packages are refused by name; nothing is stored."""
        mallory, wire = self.person(self.server, "mallory")
        log, (alone,) = mallory.readers(wire, "general")
        both = [alone, mallory.keys]
        leave = Leave(
            srv=mallory.srv, room=log.id, by="mallory", ik=mallory.keys.ik, dev=mallory.dev, after=log.head, own="",
            at=1,
        )  # fmt: skip
        left = sign_event(mallory.device, leave)

        def send(room: str = "general", readers: Any = both, text: str = "x", **changes: Any) -> Any:
            mallory.sent.clear()
            package = mallory.package(text, log, readers, **{"mid": "0" * 32} | changes)
            return lambda number: m.Send(id=number, room=room, package=package)

        def pm(user: str = "witness", readers: Any = both, **changes: Any) -> Any:
            mallory.sent.clear()
            package = mallory.package("x", None, readers, **changes)
            return lambda number: m.Pm(id=number, user=user, package=package)

        cases: list[tuple[str, Any]] = [
            ("not_member", send()),
            ("no_such_room", send("none")),
            ("bad_header", send(author="witness")),
            ("bad_header", send(dev=self.witness.dev)),
            ("not_member", lambda number: m.History(id=number, room="general")),
            ("no_such_room", lambda number: m.History(id=number, room="pm:" + "0" * 64)),
            ("not_member", lambda number: m.Online(id=number, room="general")),
            ("not_member", lambda number: m.DoAct(id=number, room="general", signed=left.data, sig=left.sig)),
            ("bad_event", lambda number: m.DoAct(id=number, room="general", signed=left.data, sig=bytes(64))),
            ("not_member", lambda number: m.Read(id=number, room="general", seq=1)),
            ("no_such_user", pm("nobody")),
            ("bad_audience", pm(readers=[alone])),
            ("out_of_turn", pm(ctr=2)),
            ("bad_header", pm(room=log.id)),
            ("self_message", pm("mallory")),
        ]
        for code, build in cases:
            refusal = self.assertRaises(WireRefused, wire.ask, build)
            self.assertEqual(code, refusal.code, build(0))
        mallory.join(wire, "general")
        log, _ = mallory.readers(wire, "general")
        for code, build in (
            ("stale_head", send(head="0" * 64)),
            ("bad_audience", send(readers=[alone])),
            ("out_of_turn", send(ctr=2)),
            ("out_of_turn", send(prev="0" * 64)),
            ("bad_header", send(th=(1, "0" * 64))),
            ("stale_keys", send(dl=(2, "0" * 64))),
        ):
            refusal = self.assertRaises(WireRefused, wire.ask, build)
            self.assertEqual(code, refusal.code)
        ok = wire.ask(send())
        self.assertEqual((1, False), (ok.seq, ok.dup))
        refusal = self.assertRaises(WireRefused, wire.ask, send(text="y"))
        self.assertEqual("mid_conflict", refusal.code)

    def test_the_same_again(self) -> None:
        """The same bytes a hundred times are one message; others cannot send it as theirs, and may use its id."""
        mallory, wire = self.person(self.server, "mallory", room="general")
        log, readers = mallory.readers(wire, "general")
        mid = "5a" * 16
        package = mallory.package("once", log, readers, mid=mid)
        line = codec.encode(m.Send(id=1_000, room="general", package=package))
        wire.write(line * 50)
        again = [json.loads(wire.line()) for _ in range(50)]
        with Wire(self.server.port, srv=mallory.srv) as other:
            mallory.resume(other)
            other.write(line * 50)
            again += [json.loads(other.line()) for _ in range(50)]
        self.assertEqual([False] + [True] * 99, [answer.get("dup", False) for answer in again])
        self.assertEqual({("ok", 1, "general")}, {(each["status"], each["seq"], each["room"]) for each in again})
        stolen = m.Send(id=0, room="general", package=package)
        refusal = self.assertRaises(WireRefused, self.quiet.ask, lambda number: replace(stolen, id=number))
        self.assertEqual("bad_header", refusal.code)
        log, readers = self.witness.readers(self.quiet, "general")
        package = self.witness.package("another's", log, readers, mid=mid)
        own_mid = m.Send(id=0, room="general", package=package)
        reply = self.quiet.ask(lambda number: replace(own_mid, id=number))
        self.assertEqual((2, False), (reply.seq, reply.dup))
        page = self.quiet.ask(lambda number: m.History(id=number, room="general"))
        self.assertEqual(["once", "another's"], [self.witness.open(message) for message in page.messages])

    def test_a_session_from_before_the_password_changed(self) -> None:
        """Another password ends the other sessions of the account: their tokens open nothing."""
        mallory, _ = self.person(self.server, "mallory")
        before = mallory.token
        secret, new = stretched(PASSWORD, bytes(SALT_BYTES)), stretched("another password", bytes(SALT_BYTES))
        with Wire(self.server.port, srv=mallory.srv) as other:
            proof = login_proof(
                mallory.device, lk=other.hello.lk, exporter=other.exporter, nonce=other.hello.nonce, user="mallory"
            )
            token = secret.auth_token(mallory.srv, "mallory")
            login = other.ask(
                lambda number: m.Login(id=number, user="mallory", password=token, device=mallory.dev, proof=proof)
            )
            other.ask(
                lambda number: m.Passwd(
                    id=number, password=token, new_password=new.auth_token(mallory.srv, "mallory"), new_salt=new.salt
                )
            )
        with Wire(self.server.port, srv=mallory.srv) as third:
            self.assertEqual(before, mallory.token)
            refusal = self.assertRaises(WireRefused, mallory.resume, third)
            self.assertEqual("bad_session", refusal.code)
            mallory.token = login.token
            mallory.resume(third)

    def test_a_session_that_ended(self) -> None:
        """The token of a session that was logged out, or of another device's, opens nothing."""
        mallory, wire = self.person(self.server, "mallory")
        with Wire(self.server.port) as other:
            mallory.device, own = self.witness.device, mallory.device
            refusal = self.assertRaises(WireRefused, mallory.resume, other)
            self.assertEqual("bad_session", refusal.code)
            mallory.device = own
        wire.ask(lambda number: m.Logout(id=number))
        with Wire(self.server.port) as other:
            refusal = self.assertRaises(WireRefused, mallory.resume, other)
            self.assertEqual("bad_session", refusal.code)
            proof = bytes(64)
            refusal = self.assertRaises(
                WireRefused,
                other.ask,
                lambda number: m.Resume(id=number, token=self.witness.token, proof=proof),
            )
            self.assertEqual("bad_session", refusal.code)
