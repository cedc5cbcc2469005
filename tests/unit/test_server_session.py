"""Tests for one connection's conversation: greeting, what is allowed when, and how faults are answered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from securechat.crypto.identity import check_hello
from securechat.crypto.primitives import ed25519_public
from securechat.errors import (
    ALREADY_LOGGED_IN,
    BAD_FIELD,
    BAD_PACKET,
    CODES,
    DEVICE_FIRST,
    LOGIN_FIRST,
    UNKNOWN_COMMAND,
)
from securechat.server.session import RULES, Registration, ServerSession, State
from securechat.wire import codec
from securechat.wire import messages as m
from tests.doubles import SERVER_KEY, SRV, ServerCase, device
from tests.unit.test_wire_codec import REQUESTS

# Who may ask what, as documented; each word a command.
BEFORE = "prelogin register login resume"
ACCOUNT = "logout publish reset_identity keys backup"
READY = "passwd act roomlog extend audience rooms online stored send pm history sync read typing note notes"
ALWAYS = "ping"


def answered_with(state: State, command: str) -> str | None:
    """The code with which a command is refused in a state; None where the state allows it."""
    if command in ALWAYS.split():
        return None
    if state is State.GREETED:
        return None if command in BEFORE.split() else LOGIN_FIRST.name
    if command in BEFORE.split():
        return ALREADY_LOGGED_IN.name
    return DEVICE_FIRST.name if state is State.NO_DEVICE and command in READY.split() else None


class MemoryPeer:
    """A connection as its session sees it."""

    address = "192.0.2.1"
    registration = Registration.OPEN
    exporter = b"e" * 32

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.byes: list[m.Bye] = []
        self.in_or_out: list[bool] = []

    def deliver(self, lines: bytes) -> None:
        """As Peer's."""
        self.said.append(lines)

    def drained(self) -> Deferred[None]:
        """As Peer's."""
        return succeed(None)

    @property
    def slow(self) -> bool:
        """As Peer's."""
        return False

    def say_bye(self, bye: m.Bye) -> None:
        """As Peer's."""
        self.byes.append(bye)

    def logged_in(self, yes: bool) -> None:
        """As Peer's."""
        self.in_or_out.append(yes)


class SessionCase(ServerCase):
    """Tests of sessions without a transport."""

    def session(self, state: State = State.GREETED) -> tuple[ServerSession, MemoryPeer]:
        """A session in a state, and its connection."""
        peer = MemoryPeer()
        session = ServerSession(self.parts, peer)
        if state is not State.GREETED:
            session.log_in("alice", self.alice.dev() if state is State.READY else None, b"t" * 32)
        return session, peer

    def answer(self, session: ServerSession, peer: MemoryPeer, request: m.AnyRequest) -> Any:
        """What a request is answered."""
        self.successResultOf(Deferred.fromCoroutine(session.handle(request)))
        return codec.decode_reply(peer.said.pop(), type(request))


class HelloTests(SessionCase):
    """Tests for the greeting."""

    def hello(self) -> m.Hello:
        """A greeting."""
        session, _ = self.session()
        line = session.hello()
        self.assertTrue(line.endswith(b"\n"))
        hello = codec.decode_event(line)
        assert isinstance(hello, m.Hello)
        return hello

    def test_proves_the_server(self) -> None:
        """It is signed by the server's own key, over this very connection."""
        hello = self.hello()
        self.assertEqual(ed25519_public(SERVER_KEY), hello.lk)
        check_hello(hello.lk, hello.sig, exporter=MemoryPeer.exporter, nonce=hello.nonce)

    def test_nonce(self) -> None:
        """Each connection has a nonce of its own."""
        self.assertEqual(3, len({self.hello().nonce for _ in range(3)}))

    def test_says_what_a_client_needs(self) -> None:
        """Protocol, epoch, limits and who may register."""
        hello = self.hello()
        self.assertEqual((1, self.store.epoch, "open"), (hello.protocol, hello.epoch, hello.registration))
        self.assertEqual(m.Limits(), hello.limits)
        self.assertEqual("SecureChat/test", hello.server)

    def test_server_id(self) -> None:
        """What stands in signed objects is the id of that key."""
        self.assertEqual(SRV, self.parts.identity.srv)


class StateTableTests(SessionCase):
    """Tests for what is allowed when."""

    def test_table_is_complete(self) -> None:
        """Every request has a row, and the documented commands are those there are."""
        self.assertEqual(set(m.REQUESTS), set(RULES))
        documented = [BEFORE, ACCOUNT, READY, ALWAYS]
        commands = sorted(word for words in documented for word in words.split())
        self.assertEqual(sorted(map(m.command_of, m.REQUESTS)), commands)

    def test_every_command_in_every_state(self) -> None:
        """What a state does not allow is refused with the documented code; what it allows is not."""
        for state in State:
            for request in REQUESTS:
                session, peer = self.session(state)
                reply = self.answer(session, peer, request)
                command = m.command_of(type(request))
                code = reply.code if isinstance(reply, m.Failed) else None
                if answered_with(state, command) is not None:
                    self.assertEqual(answered_with(state, command), code, (state, command))
                else:
                    self.assertNotIn(code, {"login_first", "already_logged_in", "device_first", "internal"})
                self.assertEqual(request.id, reply.id)

    def test_refused_commands_do_nothing(self) -> None:
        """A refused command leaves the connection as it was."""
        for state in State:
            for request in REQUESTS:
                if answered_with(state, m.command_of(type(request))) is not None:
                    session, peer = self.session(state)
                    before = session.user, session.device, session.token_hash, session.state, len(peer.in_or_out)
                    self.answer(session, peer, request)
                    after = session.user, session.device, session.token_hash, session.state, len(peer.in_or_out)
                    self.assertEqual((before, []), (after, peer.byes))

    def test_states_of_a_login(self) -> None:
        """A login with a device is ready, one without is not yet, and a logout goes back to before it."""
        session, peer = self.session()
        session.log_in("alice", None, b"t" * 32)
        self.assertIs(State.NO_DEVICE, session.state)
        session.log_in("alice", device("alice"), b"t" * 32)
        self.assertIs(State.READY, session.state)
        session.log_out()
        self.assertEqual(
            (State.GREETED, "", None, b""), (session.state, session.user, session.device, session.token_hash)
        )
        self.assertEqual([True, True, False], peer.in_or_out)

    def test_logging_out_twice(self) -> None:
        """Who is not logged in is logged out without a word."""
        session, peer = self.session()
        session.log_out()
        self.assertEqual([], peer.in_or_out)


class FaultTests(SessionCase):
    """Tests for what goes wrong."""

    def test_refusal(self) -> None:
        """A refusal is answered, and the connection goes on."""
        session, peer = self.session()
        self.assertEqual("login_first", self.answer(session, peer, m.Online(id=7, room="ops")).code)
        self.assertEqual(m.Reply(id=8), self.answer(session, peer, m.Ping(id=8)))
        self.assertEqual([], peer.byes)

    def test_own_fault(self) -> None:
        """A fault of the server's is answered without its insides, logged, and ends the connection."""

        async def broken(*_: object) -> None:
            raise ZeroDivisionError("the insides")

        self.patch(type(self.store), "salt", broken)
        session, peer = self.session()
        reply = self.answer(session, peer, m.Prelogin(id=7, user="alice"))
        self.assertEqual(m.Failed(id=7, code="internal", msg=CODES["internal"].text), reply)
        self.assertEqual(["internal"], [bye.reason for bye in peer.byes])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_violation(self) -> None:
        """A violation is answered and ends the connection; it is no error of the daemon's."""
        session, peer = self.session()
        for line, code in (
            (b"x", BAD_PACKET),
            (b'{"cmd":"?","id":7}', UNKNOWN_COMMAND),
            (b'{"cmd":"online"}', BAD_FIELD),
        ):
            try:
                codec.decode_request(line)
            except Exception as refusal:  # whichever it is, it is what the protocol passes on
                session.refuse(getattr(refusal, "data", {}).get("id"), refusal)  # type: ignore[arg-type]
            reply = codec.decode_reply(peer.said.pop(), m.Ping)
            self.assertEqual(code.name, reply.code)
        self.assertEqual(["bad_packet"], [bye.reason for bye in peer.byes])

    def test_lost(self) -> None:
        """After the connection is lost nobody is logged in by it."""
        session, _ = self.session(State.READY)
        self.assertEqual([session], self.parts.logins.of("alice"))
        session.connection_lost()
        self.assertEqual(([], True), (self.parts.logins.of("alice"), session.gone))


class LoginsTests(SessionCase):
    """Tests for who is logged in by which connections."""

    def test_same_device(self) -> None:
        """A second connection of one device takes the place of the first."""
        first, peer = self.session(State.READY)
        second, _ = self.session(State.READY)
        self.assertEqual(["replaced"], [bye.reason for bye in peer.byes])
        self.assertEqual([second], self.parts.logins.of("alice"))
        self.assertIs(State.GREETED, first.state)

    def test_other_devices(self) -> None:
        """Other devices, and logins without one, stay."""
        for name in ("one", "two", None, None):
            session = ServerSession(self.parts, MemoryPeer())
            session.log_in("alice", name and device(name), b"t" * 32)
        self.assertEqual(4, len(self.parts.logins.of("alice")))

    def test_end_others(self) -> None:
        """All but one are ended, with the reason."""
        sessions = [(ServerSession(self.parts, peer), peer) for peer in (MemoryPeer(), MemoryPeer(), MemoryPeer())]
        for number, (session, _) in enumerate(sessions):
            session.log_in("alice", device("alice", number), b"t" * 32)
        self.parts.logins.end_others(sessions[1][0], "why")
        self.assertEqual([["why"], [], ["why"]], [[bye.msg for bye in peer.byes] for _, peer in sessions])
        self.assertEqual([sessions[1][0]], self.parts.logins.of("alice"))

    def test_nothing_is_left(self) -> None:
        """When all have gone, nothing of them is kept."""
        session, _ = self.session(State.READY)
        session.log_out()
        self.assertEqual([{}, set(), 0, {}], list(vars(self.parts.logins).values()))
