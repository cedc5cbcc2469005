"""Who may do what: each command by each kind of person, as it is answered, against the table of PacketDiagram.md.

    python -m tests.unit.test_server_permissions

prints the table as it is observed.
"""

from __future__ import annotations

import hashlib
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from securechat.crypto.envelope import audience, audience_digest
from securechat.crypto.identity import private_conversation
from securechat.crypto.primitives import b64url
from securechat.crypto.roomlog import (
    Ban,
    ChangePolicy,
    ChangeRole,
    ChangeTopic,
    Invite,
    Join,
    Kick,
    Leave,
    Mute,
    Unban,
    Unmute,
)
from securechat.server.session import RULES
from securechat.storage.interface import Session
from securechat.wire import messages as m
from tests.doubles import START, Caller, Person, Room, ServerCase, auth_token, person
from tests.unit.test_docs_packets import PACKETS, rows, sections

HEADING: Final = "Who may do what"
YES: Final = "yes"
NO_ANSWER: Final = "no answer"
OWN_TOKEN: Final = b64url(hashlib.sha256(b"bob").digest())

ALICE, BOB, CAROL, DAVE, ERIN = map(person, ("alice", "bob", "carol", "dave", "erin"))

# How bob came to be what he is, after alice had made the room: who did what, with bob as its subject.
STANDINGS: Final[Mapping[str, tuple[tuple[Any, Person, dict[str, Any]], ...]]] = {
    "stranger": (),
    "member": ((Join, BOB, {}),),
    "muted": ((Join, BOB, {}), (Mute, ALICE, {})),
    "kicked": ((Join, BOB, {}), (Kick, ALICE, {})),
    "banned": ((Join, BOB, {}), (Ban, ALICE, {})),
    "mod": ((Join, BOB, {}), (ChangeRole, ALICE, {"role": "mod"})),
    "admin": ((Join, BOB, {}), (ChangeRole, ALICE, {"role": "admin"})),
    "owner": ((Join, BOB, {}), (ChangeRole, ALICE, {"role": "owner"})),
}
# What a connection is: before a login, after one without a device, after one that was ended; and each standing.
WHO: Final = ("nobody", "no device", *STANDINGS, "ended")


class Matrix(ServerCase):
    """A room ops of alice, with carol, who has no voice, and dave, who is banned; erin is in no room.

    In den are alice and carol, and nobody enters who is not invited.
    """

    PEOPLE = (ALICE, BOB, CAROL, DAVE, ERIN)

    def prepare(self, who: str) -> None:
        """The server's memory, once bob is that; kept, to begin with it again and again."""
        self.reset(self.fresh())
        token_hash = hashlib.sha256(OWN_TOKEN.encode()).digest()
        self.do(self.store.open_session(token_hash, Session("bob", BOB.dev()), START * 1000))
        room = self.rooms["ops"] = Room(ALICE, CAROL, DAVE, name="ops")
        room.do(Mute, ALICE, CAROL)
        room.do(Ban, ALICE, DAVE)
        for kind, author, fields in STANDINGS.get(who, STANDINGS["member"]):
            room.do(kind, author, None if author is BOB else BOB, **fields)
        den = self.rooms["den"] = Room(ALICE, CAROL, name="den", join="invite")
        for made in (room, den):
            for signed in made.events:
                self.do(self.store.act(made.log.name, signed, wait=0.0, now=1))
        members = [one for one in (ALICE, BOB, CAROL) if one.user in room.log.members]
        self.audience = audience_digest(audience({one.user: one.kid for one in members})).hex()
        alices = self.member(ALICE)
        for request in (self.send_of(1, ALICE, *members[1:]), self.pm_of(1, ALICE, CAROL)):
            reply = alices.ask(request)
            assert isinstance(reply, m.SendOk), reply
        alices.ask(m.Logout())  # its token is that of the next login, by the same dice
        self.members = members
        self.theirs = private_conversation(ALICE.ik, CAROL.ik)
        self.restore()  # a server that never lost anything refuses `extend` to everybody
        self.successResultOf(self.store.close())
        self.prepared = self.path.read_bytes()

    def reset(self, content: bytes) -> None:
        """A server that was just started on this memory."""
        self.successResultOf(self.store.close())
        self.path.write_bytes(content)
        for beside in self.path.parent.glob(f"{self.path.name}-*"):
            beside.unlink()
        self.store = self.make_store()
        self.writer.connection.execute("PRAGMA synchronous = OFF")
        self.parts = self.make_parts()
        self.factory = self.listener()

    def requests(self, caller: Caller) -> dict[str, Callable[[], m.Request]]:
        """Every request that bob may make on a connection, in good form, by the row it stands in."""
        second = BOB.bundle(2, (1, 2), previous=BOB.keys().digest)
        reborn = Person("bob", generation=2)
        topic = self.rooms["ops"].draft(ChangeTopic, ALICE, topic=b"x")
        theirs, log = self.theirs, self.rooms["ops"].log

        def act(kind: Any, whom: Person | None = None, **fields: Any) -> Callable[[], m.Request]:
            return lambda: self.act_of(kind, BOB, whom, **fields)

        return {
            "prelogin": lambda: m.Prelogin(user="bob"),
            "register": lambda: self.registration_of(person("fred")),
            "login": lambda: self.login_of(BOB, caller),
            "resume": lambda: m.Resume(token=OWN_TOKEN, proof=caller.proof(BOB)),
            "logout": m.Logout,
            "passwd": lambda: m.Passwd(
                password=auth_token(BOB), new_password=auth_token(BOB, "new"), new_salt=b"n" * 16
            ),
            "publish": lambda: m.Publish(
                device=BOB.dev(2), proof=caller.proof(BOB, 2), keys=m.KeyBundle.of(second)
            ),
            "reset_identity": lambda: m.ResetIdentity(
                password=auth_token(BOB), keys=m.KeyBundle.of(reborn.bundle()), backup=m.Backup(version=2, blob=b"x")
            ),
            "keys": lambda: m.Keys(users=("alice",)),
            "backup": m.BackupRequest,
            "act: create": lambda: self.create_of(BOB, "zoo"),
            "act: join": act(Join),
            "act: join, uninvited": act(Join, room="den"),
            "act: leave": act(Leave),
            "act: invite": act(Invite, ERIN),
            "act: kick": act(Kick, CAROL),
            "act: ban": act(Ban, CAROL),
            "act: unban": act(Unban, DAVE),
            "act: mute": act(Mute, CAROL),
            "act: unmute": act(Unmute, CAROL),
            "act: role": act(ChangeRole, CAROL, role="mod"),
            "act: policy": act(ChangePolicy, join="invite", invite="admin", env=1),
            "act: topic": act(ChangeTopic, topic=b"x"),
            "act: kick, the owner": act(Kick, ALICE),
            "roomlog": lambda: m.RoomLog(room="ops"),
            "roomlog, uninvited": lambda: m.RoomLog(room="den"),
            "extend": lambda: m.Extend(
                room="ops",
                after=log.count,
                acts=(m.Act(signed=topic.data, sig=topic.sig),),
                certs=(m.Certificate.of(ALICE.bundle().certs[0]),),
            ),
            "audience": lambda: m.Audience(room="ops", rcp=self.audience),
            "audience, of others in private": lambda: m.Audience(room=theirs, rcp=self.audience),
            "rooms": m.Rooms,
            "online": lambda: m.Online(room="ops"),
            "stored": m.Stored,
            "send": lambda: self.send_of(1, BOB, *(one for one in self.members if one is not BOB)),
            "pm": lambda: self.pm_of(1, BOB, CAROL),
            "history": lambda: m.History(room="ops"),
            "history, of others in private": lambda: m.History(room=theirs),
            "sync": m.Sync,
            "read": lambda: m.Read(room="ops", seq=1),
            "read, of others in private": lambda: m.Read(room=theirs, seq=1),
            "typing": lambda: m.Typing(room="ops"),
            "typing, of others in private": lambda: m.Typing(room=theirs),
            "note": lambda: m.PutNote(name="0" * 32, blob=b"x"),
            "notes": m.Notes,
            "ping": m.Ping,
        }  # fmt: skip

    def connection(self, who: str) -> Caller:
        """A connection that is what the column says."""
        caller = self.call()
        if who != "nobody":
            device = None if who == "no device" else 1
            reply = caller.ask(self.login_of(BOB, caller, device))
            assert isinstance(reply, m.LoginOk), reply
        if who == "ended":
            assert caller.protocol.session is not None
            caller.protocol.session.end("session_ended", "x")
        caller.listen()
        return caller

    def observed(self) -> Iterator[list[str]]:
        """The rows of the table, cell by cell as it is answered."""
        columns: list[dict[str, str]] = []
        for who in WHO:
            self.prepare(who)
            column: dict[str, str] = {}
            self.reset(self.prepared)
            for name in self.requests(self.call()):
                self.reset(self.prepared)
                self.ids.clear()
                caller = self.connection(who)
                caller.say(self.requests(caller)[name]())
                replies = caller.replies()
                column[name] = replies[0].get("code", YES) if replies else NO_ANSWER
                caller.lose()
            columns.append(column)
        for name in columns[0]:
            yield [name, *(column[name] for column in columns)]


class PermissionTests(Matrix):
    """Tests for who may do what."""

    def test_every_command(self) -> None:
        """Every command has a row, or several, and there is none for what is no command."""
        named = {name.partition(":")[0].partition(",")[0] for name in self.table()}
        self.assertEqual({m.command_of(request) for request in RULES}, named)

    def test_table(self) -> None:
        """Every cell of the document is what is answered."""
        observed = {row[0]: dict(zip(WHO, row[1:], strict=True)) for row in self.observed()}
        self.assertEqual(observed, self.table())

    def table(self) -> dict[str, dict[str, str]]:
        """The table of the document."""
        found = rows(sections(PACKETS)[HEADING], "request", *WHO)
        return {row[0]: dict(zip(WHO, (cell.strip("`") for cell in row[1:]), strict=True)) for row in found}


class _Printed(Matrix):
    def runTest(self) -> None:
        """Prints the table."""
        print(f"| request | {' | '.join(WHO)} |\n|{'---|' * (1 + len(WHO))}")
        for name, *cells in self.observed():
            print(f"| {name} | {' | '.join(cell if cell in (YES, NO_ANSWER) else f'`{cell}`' for cell in cells)} |")


if __name__ == "__main__":
    result = unittest.TestResult()
    _Printed().run(result)
    for _, failure in [*result.errors, *result.failures]:
        print(failure)
