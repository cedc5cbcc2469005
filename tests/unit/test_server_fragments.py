"""The same session, however its bytes are cut: the server says the same, to the last byte.

Clock and chance are the same in every run, so what is compared is everything that was ever said.
"""

from __future__ import annotations

from msgspec.structs import replace

from securechat.crypto.roomlog import Leave
from securechat.server.connections import ConnectionLimits
from securechat.wire import codec
from securechat.wire import messages as m
from tests.doubles import Caller, ServerCase, SteadyRandom, auth_token

PASSWORD_OF_NOBODY = "sc1$" + "a" * 43


class FragmentCase(ServerCase):
    """Tests that replay a session."""

    PEOPLE = ()
    LIMITS = ConnectionLimits(message_burst=1000)

    def server(self) -> Caller:
        """A connection to a server that has just been started, on a store that was just made."""
        self.successResultOf(self.store.close())
        self.path.write_bytes(self.fresh())
        for beside in self.path.parent.glob(f"{self.path.name}-*"):
            beside.unlink()
        self.store = self.make_store()
        self.writer.connection.execute("PRAGMA synchronous = OFF")
        self.parts = self.make_parts()
        self.factory = self.listener()
        return self.call()

    def replay(self, caller: Caller, *pieces: bytes) -> bytes:
        """What the server says to a client that says this, in these pieces."""
        for piece in pieces:
            caller.protocol.dataReceived(piece)
        self.reactor.advance(0)
        caller.lose()
        return caller.raw


class WholeSessionTests(FragmentCase):
    """A session from registering to a violation."""

    def test_whole_session(self) -> None:
        """Cut at the ends of lines, around them, inside them, and byte by byte, the session is the same."""
        caller = self.server()
        lines = self.session(caller)
        session = b"".join(lines)
        said = self.replay(caller, session)
        self.assertEqual(1 + len(lines) + 3, said.count(b"\n"))  # with the greeting, `live`, the leaving, and `bye`
        ends = [len(b"".join(lines[: number + 1])) for number in range(len(lines))]
        cuts = [*ends[:-1:2], *(end - 1 for end in ends[1::4]), *range(500, len(session), 2777)]
        for cut in sorted(cuts):
            self.assertEqual(said, self.replay(self.server(), session[:cut], session[cut:]), cut)
        self.assertEqual(said, self.replay(self.server(), *(bytes([byte]) for byte in session)))
        self.assertEqual(said, self.replay(self.server(), *lines))

    def session(self, caller: Caller) -> list[bytes]:
        """The client's lines, all of them at once: their proof is of this greeting, as of every other here."""
        registration = replace(self.registration_of(self.alice), proof=caller.proof(self.alice))
        create = replace(self.create_of(self.alice, "ops"), id=3)
        first, second, third = (self.send_of(number, self.alice) for number in (1, 2, 3))
        broken = replace(second, package=replace(second.package, hdr=second.package.hdr + b" "))
        leave = replace(self.act_of(Leave, self.alice), id=27)
        requests = [
            m.Ping(id=1),
            m.Prelogin(id=2, user="alice"),
            create,
            registration,
            replace(create, id=5),
            first,
            broken,
            second,
            first,
            third,
            m.History(id=20, room="ops", limit=2),
            m.Sync(id=21, since={self.rooms["ops"].log.id: 3}),
            m.RoomLog(id=22, room="ops"),
            m.Keys(id=23, users=("alice",)),
            m.Read(id=24, room="ops", seq=2),
            m.BackupRequest(id=25),
            m.Passwd(id=26, password=PASSWORD_OF_NOBODY, new_password=auth_token(self.alice), new_salt=b"n" * 16),
            leave,
            m.Logout(id=28),
        ]
        return [*map(codec.encode, requests), b'{"cmd":"?"}\r\n', b"not JSON\n"]


class EverySplitTests(FragmentCase):
    """A session before a login, which costs little."""

    def test_every_split(self) -> None:
        """Cut in two anywhere, the session is the same."""
        session = b"".join(
            (
                codec.encode(m.Ping(id=1)),
                codec.encode(m.Prelogin(id="é\u2028", user="nobody")),
                b"\t" + codec.encode(m.Rooms())[:-1] + b" \r\n",
                b'{"cmd":"online","room":"#"}\n{"cmd":"\\n"}\n',
                codec.encode(m.Login(id=5, user="nobody", password=PASSWORD_OF_NOBODY)),
                b'{"id":6,"cmd":"ping","x":"}\\"{"}\n',
                b"\r\n",
                codec.encode(m.Ping(id=7)),
            )
        )
        self.server()
        said = self.once_more(session)
        self.assertEqual(1 + 8 + 1, said.count(b"\n"))  # with the greeting and `bye`; the last ping is too late
        for cut in range(len(session) + 1):
            self.assertEqual(said, self.once_more(session[:cut], session[cut:]), cut)

    def test_every_two_splits(self) -> None:
        """Cut in three anywhere in its first 80 bytes, the session is the same."""
        session = codec.encode(m.Ping(id=1)) + b'{"id":2,"cmd":"online","room":"#"}\r\n{"cmd":"?"}\nno JSON\n'
        self.server()
        said = self.once_more(session)
        self.assertEqual(1 + 4 + 1, said.count(b"\n"))
        last = min(80, len(session))
        for first in range(last):
            for second in range(first, last + 1):
                pieces = session[:first], session[first:second], session[second:]
                self.assertEqual(said, self.once_more(*pieces), (first, second))

    def once_more(self, *pieces: bytes) -> bytes:
        """The same session on a new connection, with the same chance."""
        self.parts = self.make_parts()
        self.assertIsInstance(self.parts.random, SteadyRandom)
        self.factory = self.listener()
        return self.replay(self.call(), *pieces)
