"""Tests for one line of JSON and one message: every packet both ways, every limit, every id."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import (
    BAD_FIELD,
    BAD_PACKET,
    BUSY,
    CODES,
    CTR_BEHIND,
    EMPTY_LINE,
    INTERNAL,
    NOT_MEMBER,
    OUT_OF_TURN,
    STALE_BACKUP,
    STALE_HEAD,
    STALE_KEYS,
    UNKNOWN_COMMAND,
    ProtocolViolation,
    Refused,
)
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests.doubles import Person, hex_id, long_id, wrapped

TOKEN = "gAAAAAAAAAAA" + "x" * 88
SESSION = "t" * 43
AUTH = "sc1$" + "a" * 43
PM = "pm:" + "0" * 64
KEYS = m.KeyBundle.of(Person("alice").bundle(devices=(1, 2), past=(Person("alice").certificate(3),)))
BACKUP = m.Backup(version=1, blob=b"sealed")
SALT = b"sixteen of salt!"
MID, DEV, EPOCH = hex_id("mid"), hex_id("device"), hex_id("epoch")
PACKAGE = m.Package(
    encrypted_message=TOKEN,
    encrypted_keys={user: wrapped(MID, user) for user in ("alice", "bob")},
    kids={user: hex_id(user) for user in ("alice", "bob")},
    hdr=b'{"t":"sc/1"}',
    bind=b"b" * 32,
    sig=b"s" * 64,
)
LINK, TH = long_id("link"), long_id("th")
STORED = m.StoredMessage(room="general", seq=1, sender="alice", device=DEV, mid=MID, ts=5, events=2, package=PACKAGE)
EVENT, SIG = b'{"t":"sc/room/leave"}', b"s" * 64
CERTIFICATE = KEYS.certs[0]

# One of each, with every field that may be left out; and each once more as short as it can be.
REQUESTS: list[m.AnyRequest] = [
    m.Prelogin(id=1, user="alice"),
    m.Register(
        id=2, user="alice", password=AUTH, salt=SALT, keys=KEYS, proof=b"p" * 64, backup=BACKUP, invite="i" * 22
    ),
    m.Register(user="alice", password=AUTH, salt=SALT, keys=KEYS, proof=b"p" * 64, backup=BACKUP),
    m.Login(id=3, user="alice", password=AUTH, device=DEV, proof=b"p" * 64),
    m.Login(user="alice", password=AUTH),
    m.Resume(id=4, token=SESSION, proof=b"p" * 64),
    m.Logout(id=5),
    m.Passwd(id=6, password=AUTH, new_password=AUTH, new_salt=SALT, backup=BACKUP),
    m.Passwd(password=AUTH, new_password=AUTH, new_salt=SALT),
    m.Publish(id=7, device=DEV, proof=b"p" * 64, keys=KEYS, backup=BACKUP),
    m.Publish(device=DEV, proof=b"p" * 64, keys=KEYS),
    m.ResetIdentity(id=8, password=AUTH, keys=KEYS, backup=BACKUP),
    m.Keys(id=9, users=("alice", "bob")),
    m.BackupRequest(id=10, backup=BACKUP),
    m.BackupRequest(),
    m.DoAct(id=11, room="general", signed=EVENT, sig=SIG),
    m.RoomLog(id=12, room="general", after=3),
    m.RoomLog(room="general"),
    m.Extend(id=12, room="general", after=3, acts=(m.Act(signed=EVENT, sig=SIG),), certs=(CERTIFICATE,)),
    m.Extend(room="general", after=3, acts=(m.Act(signed=EVENT, sig=SIG),)),
    m.Audience(id=13, room=PM, rcp=LINK),
    m.Rooms(id=13),
    m.Online(id=14, room="general"),
    m.Stored(id=14),
    m.Send(id=15, room="general", package=PACKAGE),
    m.Pm(id=16, user="bob", package=PACKAGE),
    m.History(id=17, room="general", limit=200, before=7),
    m.History(room=PM, after=0),
    m.Sync(id=18, epoch=EPOCH, since={TH: 4, PM: 0}),
    m.Sync(id=19, presence=True, typing=True),
    m.Sync(),
    m.Read(id=19, room=PM, seq=4),
    m.Typing(id=20, room=PM),
    m.PutNote(id=21, name=MID, blob=b"n"),
    m.Notes(id=22, after=7),
    m.Notes(),
    m.Ping(id="a string"),
    m.Ping(),
]

REPLIES: list[tuple[type[m.Request], m.Reply]] = [
    (m.Prelogin, m.PreloginOk(id=1, salt=SALT)),
    (m.Register, m.LoginOk(id=1, user="alice", token=SESSION, keys=KEYS, device=DEV, backup_version=1, dup=True)),
    (m.Login, m.LoginOk(id=1, user="alice", token=SESSION, keys=KEYS)),
    (m.Resume, m.LoginOk(user="alice", token=SESSION, keys=KEYS, device=DEV)),
    (m.Logout, m.Reply(id=1)),
    (m.Passwd, m.Reply(id="x")),
    (m.Publish, m.PublishOk(id=1, keys=KEYS, backup_version=3)),
    (m.ResetIdentity, m.LoginOk(id=1, user="alice", token=SESSION, keys=KEYS, device=DEV)),
    (m.Keys, m.KeysOk(id=1, keys={"alice": KEYS})),
    (m.Keys, m.KeysOk(id=1, keys={})),
    (m.BackupRequest, m.BackupOk(id=1, backup=BACKUP)),
    (m.DoAct, m.ActOk(id=1, room="general", rid=LINK, events=1, link=LINK, start=(2, TH), dup=True)),
    (m.DoAct, m.ActOk(room="general", rid=LINK, events=1, link=LINK, start=(0, TH))),
    (
        m.RoomLog,
        m.RoomLogOk(
            id=1,
            room="general",
            rid=LINK,
            acts=(m.Act(signed=EVENT, sig=SIG),),
            certs=(CERTIFICATE,),
            events=2,
            more=True,
        ),
    ),
    (m.RoomLog, m.RoomLogOk(id=1, room="general", rid=LINK, acts=(), certs=(), events=0)),
    (m.Extend, m.ExtendOk(id=1, room="general", events=4)),
    (m.Audience, m.AudienceOk(id=1, room=PM, audience=b"[]")),
    (
        m.Rooms,
        m.RoomsOk(
            id=1,
            rooms=(m.RoomEntry(room="general", members=2, joined=True, topic="x"), m.RoomEntry(room="a", members=1)),
        ),
    ),
    (m.Online, m.OnlineOk(id=1, room="general", users=("alice",))),
    (
        m.Stored,
        m.StoredOk(id=1, tables=(m.StoredTable(table="account", rows=1, columns=("id",), about="x"),), passing=("y",)),
    ),
    (m.Send, m.SendOk(id=1, room="general", seq=1, ts=2, events=3, dup=True)),
    (m.Pm, m.SendOk(id=1, room=PM, seq=1, ts=2, events=0)),
    (
        m.History,
        m.HistoryOk(id=1, room="general", messages=(STORED,), more=True, first_seq=1, last_seq=1, start=(0, TH)),
    ),
    (m.History, m.HistoryOk(id=1, room="general", messages=())),
    (
        m.Sync,
        m.SyncOk(
            id=1,
            epoch=EPOCH,
            conversations=(
                m.ConversationState(
                    room="general",
                    id=LINK,
                    head=LINK,
                    events=3,
                    last=2,
                    first=0,
                    read=1,
                    unread=1,
                    start=(2, TH),
                    reset=True,
                ),
                m.ConversationState(
                    room=PM, id=PM, head="", events=0, last=2, first=0, read=1, unread=1, start=(2, TH), peer="bob"
                ),
            ),
            invites=("more",),
        ),
    ),
    (m.Read, m.Reply(id=1)),
    (m.Typing, m.Reply(id=1)),
    (m.PutNote, m.NoteOk(id=1, version=7)),
    (m.Notes, m.NotesOk(id=1, notes=(m.StoredNote(name=MID, version=7, blob=b"n"),), more=True)),
    (m.Notes, m.NotesOk(id=1, notes=())),
    (m.Ping, m.Reply(id=1)),
]

EVENTS: list[m.AnyEvent] = [
    m.Hello(
        protocol=1,
        server="SecureChat/1",
        lk=b"l" * 32,
        nonce=b"n" * 32,
        sig=b"s" * 64,
        epoch=EPOCH,
        registration="open",
        limits=m.Limits(),
        features=("v1",),
    ),
    STORED,
    m.StoredMessage(room=PM, seq=1, sender="alice", device=DEV, mid=MID, ts=5, events=0, package=PACKAGE, to="bob"),
    m.RoomEvent(room="general", events=1, signed=EVENT, sig=SIG, cert=CERTIFICATE),
    m.PresenceEvent(room="general", user="alice", online=False),
    m.InvitedEvent(room="general"),
    m.MemberEvent(user="alice", keys=KEYS),
    m.Live(room="general", seq=0),
    m.ReadEvent(room="general", seq=1),
    m.TypingEvent(room=PM, user="alice"),
    m.NoteEvent(name=MID, version=7, blob=b"n" * 24_576),
    m.Bye(reason="shutdown", msg="Bye.", retry_after=2.0),
    m.Bye(reason="silence", msg="Bye."),
]


def line_of(packet: m.Packet) -> dict[str, Any]:
    """A packet as its line's JSON."""
    fields: dict[str, Any] = json.loads(codec.encode(packet))
    return fields


def request_of(kind: type[m.Request]) -> dict[str, Any]:
    """A good request of a kind, as JSON, with all its fields."""
    return line_of(next(request for request in REQUESTS if type(request) is kind))


class CodecCase(SynchronousTestCase):
    """What the tests of lines share."""

    def decode(self, fields: dict[str, Any]) -> m.AnyRequest:
        """A request of these fields."""
        return codec.decode_request(json.dumps(fields).encode())

    def refuse(self, fields: dict[str, Any], code: object = BAD_FIELD) -> Refused:
        """A request of these fields is refused with that code."""
        error = self.assertRaises(Refused, self.decode, fields)
        self.assertIs(code, error.code, fields)
        return error


class RoundTripTests(CodecCase):
    """Every packet, as its sender wrote it and its reader got it."""

    def test_samples_are_complete(self) -> None:
        """There is a sample of every request, of every reply to every request, and of every event."""
        self.assertEqual(set(m.REQUESTS), {type(request) for request in REQUESTS})
        self.assertEqual(m.REPLIES, {kind: type(reply) for kind, reply in REPLIES})
        self.assertEqual(set(m.EVENTS), {type(event) for event in EVENTS})
        self.assertEqual(set(m.REQUESTS), set(m.REPLIES))

    def test_requests(self) -> None:
        """Each comes back equal, and on one line."""
        for request in REQUESTS:
            line = codec.encode(request)
            self.assertEqual([-1, 1], [line.find(b"\n") - len(line), line.count(b"\n")])
            self.assertEqual(request, codec.decode_request(line[:-1]))

    def test_replies(self) -> None:
        """Each comes back equal, decoded as the reply to its request."""
        for kind, reply in REPLIES:
            self.assertEqual(reply, codec.decode_reply(codec.encode(reply), kind))

    def test_failures(self) -> None:
        """A refusal comes back equal in the place of any reply."""
        for failed in (
            m.Failed(id=1, code="x", msg="y"),
            m.Failed(
                id="a",
                code="x",
                msg="y",
                retry_after=1.5,
                expected=1,
                head=LINK,
                version=2,
                users=("bob",),
                proof=STORED,
            ),
        ):
            for kind in m.REQUESTS:
                self.assertEqual(failed, codec.decode_reply(codec.encode(failed), kind))

    def test_events(self) -> None:
        """Each comes back equal."""
        for event in EVENTS:
            self.assertEqual(event, codec.decode_event(codec.encode(event)))

    def test_commands_are_unique(self) -> None:
        """No two requests have one name, and each name is one short word."""
        names = [m.command_of(request) for request in m.REQUESTS]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertRegex(name, r"^[a-z_]{2,16}\Z")

    def test_command_stands_first(self) -> None:
        """A line says first what it is, so that a person reads it and a reader need not search."""
        for request in REQUESTS:
            start = b'{"cmd":"%b"' % m.command_of(type(request)).encode()
            self.assertTrue(codec.encode(request).startswith(start))

    def test_defaults_are_left_out(self) -> None:
        """What has its default is not written."""
        self.assertEqual(b'{"cmd":"ping"}\n', codec.encode(m.Ping()))
        self.assertEqual(b'{"cmd":"sync"}\n', codec.encode(m.Sync()))
        self.assertEqual(b'{"status":"ok"}\n', codec.encode(m.Reply()))

    def test_within_the_line_limits(self) -> None:
        """The longest text to the most members with the longest names fits a line."""
        users = [f"user{number:04}".ljust(32, "x") for number in range(limits.MAX_MEMBERS)]
        package = m.Package(
            encrypted_message="gAAAAAAAAAAA" + "x" * (limits.MAX_TOKEN - 12),
            encrypted_keys=dict.fromkeys(users, b"\xff" * 384),
            kids=dict.fromkeys(users, MID),
            hdr=b"h" * limits.MAX_HEADER,
            bind=b"b" * 32,
            sig=b"s" * 64,
        )
        send = m.Send(id=2**53 - 1, room="r" * 32, package=package)
        line = codec.encode(send)
        self.assertLess(len(line), limits.MAX_LINE)
        self.assertEqual(send, codec.decode_request(line[:-1]))

    def test_depth_of_ours(self) -> None:
        """No packet of ours comes near the limit of nesting."""

        def depth(value: object) -> int:
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
            return 0 if inner is None else 1 + max(map(depth, inner), default=0)

        packets = [*REQUESTS, *(reply for _, reply in REPLIES), *EVENTS]
        self.assertLessEqual(max(depth(line_of(packet)) for packet in packets), limits.MAX_DEPTH - 2)


class NewerPeerTests(CodecCase):
    """What a newer peer says that this one does not know."""

    MORE: dict[str, Any] = {"zzz": {"a": [1.5, None, True]}, "event": "x", "status": "y"}

    def test_unknown_fields_of_requests(self) -> None:
        """They are ignored, at the top and inside."""
        for request in REQUESTS:
            self.assertEqual(request, self.decode(line_of(request) | self.MORE))
        fields = request_of(m.Register)
        fields["keys"]["certs"][0]["zzz"] = fields["keys"]["zzz"] = fields["backup"]["zzz"] = 1
        self.assertEqual(REQUESTS[1], self.decode(fields))

    def test_unknown_fields_of_replies_and_events(self) -> None:
        """They are ignored."""
        for kind, reply in REPLIES:
            self.assertEqual(reply, codec.decode_reply(json.dumps(line_of(reply) | {"zzz": [1]}).encode(), kind))
        for event in EVENTS:
            self.assertEqual(event, codec.decode_event(json.dumps(line_of(event) | {"zzz": [1]}).encode()))

    def test_unknown_event(self) -> None:
        """It is None, whatever is in it."""
        for line in (b'{"event":"waving","user":"bob"}', b'{"event":"reaction","room":1.5}', b'{"event":""}'):
            self.assertIs(None, codec.decode_event(line))

    def test_unknown_command(self) -> None:
        """It is refused as such, with its id, and the connection goes on."""
        for command in ("waving", "", "PING", "ping ", 1, True, [], {}, "\u0000"):
            error = self.refuse({"cmd": command, "id": 7}, UNKNOWN_COMMAND)
            self.assertNotIsInstance(error, ProtocolViolation)
            self.assertEqual(7, error.data["id"])

    def test_order_of_fields(self) -> None:
        """The command may stand anywhere in the line."""
        for request in REQUESTS:
            self.assertEqual(request, self.decode(dict(reversed(line_of(request).items()))))

    def test_white_space(self) -> None:
        """White space between tokens is nothing."""
        self.assertEqual(m.Ping(id=1), codec.decode_request(b' { "id" : 1 ,\t"cmd" : "ping" } '))


class RequestIdTests(CodecCase):
    """Tests for `id`."""

    def test_good(self) -> None:
        """Any integer from 0 to 2**53 - 1, any string of up to 64 characters, or none."""
        for request_id in (0, 1, 2**53 - 1, "", "x" * 64, "é\u2028😀", '"messages":[]', None):
            self.assertEqual(request_id, self.decode({"cmd": "ping", "id": request_id}).id)

    def test_wrong(self) -> None:
        """Anything else is refused, and not repeated in the answer."""
        for request_id in (-1, 2**53, 2**64, 1.5, 1.0, True, False, "x" * 65, [], {}, [1], {"id": 1}):
            error = self.refuse({"cmd": "ping", "id": request_id})
            self.assertIs(None, error.data["id"], request_id)

    def test_kept_with_another_fault(self) -> None:
        """Where something else is wrong, the answer carries the id."""
        self.assertEqual(7, self.refuse({"cmd": "online", "id": 7}).data["id"])
        self.assertEqual("x" * 64, self.refuse({"cmd": "online", "room": "A", "id": "x" * 64}).data["id"])

    def test_comes_back(self) -> None:
        """A reply and a refusal carry it, whatever it is."""
        for request_id in (0, 2**53 - 1, "é\u2028😀"):
            self.assertEqual(request_id, line_of(m.Reply(id=request_id))["id"])
            refusal = codec.encode_refusal(request_id, Refused(UNKNOWN_COMMAND))
            self.assertEqual(request_id, json.loads(refusal)["id"])
        self.assertNotIn("id", json.loads(codec.encode_refusal(None, Refused(UNKNOWN_COMMAND))))


def b64(size: int) -> str:
    """Base64 of that many bytes."""
    return base64.b64encode(bytes(size)).decode()


NAMES: tuple[list[Any], list[Any]] = (
    ["a", "0", "a" * 32, "a.b_c-d"],
    ["", "a" * 33, "A", "é", "-a", ".a", "_a", "a b", "a\n", "a:b", "#a", 1, None, ["a"], "pm:" + "0" * 64],
)
CONVERSATIONS: tuple[list[Any], list[Any]] = (
    ["a", "a" * 32, PM],
    ["", "a" * 33, "A", "pm:", "pm:" + "0" * 63, "pm:" + "0" * 65, "pm:" + "A" * 64, PM + "\n", "pm:a", 1, None],
)
HEX: tuple[list[Any], list[Any]] = (
    ["0" * 32, "f" * 32],
    ["", "0" * 31, "0" * 33, "F" * 32, "g" * 32, "0" * 32 + "\n", 1],
)
COUNT: tuple[list[Any], list[Any]] = ([0, 2**53 - 1], [-1, 2**53, 1.0, "1", True, None, []])
NUMBER: tuple[list[Any], list[Any]] = ([1, 2**53 - 1], [0, -1, 2**53, 1.5, "1", True, None])
AUTHS: tuple[list[Any], list[Any]] = (
    [AUTH, "sc1$" + "-_" * 21 + "A"],
    ["", "secret", "sc1$" + "a" * 42, "sc1$" + "a" * 44, "sc2$" + "a" * 43, "sc1$" + "a" * 42 + "=", AUTH + "\n", None],
)
SIXTEEN: tuple[list[Any], list[Any]] = ([b64(16)], [b64(15), b64(17), "", b64(16)[:-1], "?" * 24, 16, None])
PROOF: tuple[list[Any], list[Any]] = ([b64(64)], [b64(63), b64(65), "", "!" * 88, 64])
TOKENS: tuple[list[Any], list[Any]] = (
    [TOKEN, "gAAAAAAAAAAA" + "x" * (limits.MAX_TOKEN - 12), TOKEN[:-1] + "="],
    [
        "gAAAAAAAAAAA" + "x" * 87, "gAAAAAAAAAAA" + "x" * (limits.MAX_TOKEN - 11), "", "gAAAAABn" + "x" * 92,
        "hAAAAAAAAAAA" + "x" * 88, TOKEN + "\n", TOKEN[:-1] + "+", TOKEN[:50] + "=" + TOKEN[50:], TOKEN[:-1] + '"',
        None, 1,
    ],
)  # fmt: skip


class LimitTests(CodecCase):
    """What each field of a request may be: the last value that is good, and the first that is not."""

    def check(self, kind: type[m.Request], field: str, values: tuple[list[Any], list[Any]]) -> None:
        """With each of the first a request is taken, with each of the second it is refused."""
        good, wrong = values
        *path, last = (int(step) if step.isdigit() else step for step in field.split("."))
        for value, is_good in [*((value, True) for value in good), *((value, False) for value in wrong)]:
            fields = request_of(kind)
            place: Any = fields
            for step in path:
                place = place[step]
            place[last] = value
            if is_good:
                self.decode(fields)
            else:
                error = self.refuse(fields)
                self.assertLess(len(str(error)), 250)
                self.assertTrue(str(error).isprintable())

    def test_names(self) -> None:
        """Users and rooms: the one pattern, no other case, no private conversation."""
        for kind, field in (
            (m.Prelogin, "user"), (m.Register, "user"), (m.Login, "user"), (m.Pm, "user"),
            (m.DoAct, "room"), (m.RoomLog, "room"), (m.Extend, "room"), (m.Online, "room"), (m.Send, "room"),
            (m.Keys, "users.0"),
        ):  # fmt: skip
            self.check(kind, field, NAMES)

    def test_conversations(self) -> None:
        """Where a conversation is named, it is a room or a private one; cursors go by ids."""
        for kind in (m.History, m.Read, m.Audience, m.Typing):
            self.check(kind, "room", CONVERSATIONS)
        for name in (TH, PM):
            self.decode({"cmd": "sync", "since": {name: 0}})
        for name in (*CONVERSATIONS[1], "general", TH[1:], f"{TH}\n"):
            if isinstance(name, str):
                self.refuse({"cmd": "sync", "since": {name: 0}})

    def test_hex(self) -> None:
        """Devices, keys, epochs: 32 lower-case hex digits; digests: 64."""
        for kind, field in (
            (m.Login, "device"), (m.Publish, "device"), (m.Sync, "epoch"), (m.Send, "package.kids.alice"),
            (m.PutNote, "name"),
        ):  # fmt: skip
            self.check(kind, field, HEX)
        self.check(m.Audience, "rcp", ([TH], ["", TH[1:], TH + "0", TH.upper().replace("0", "A"), TH + "\n", None]))

    def test_counts(self) -> None:
        """Counts are whole, from 0 or 1, and below 2**53; a bool is none."""
        for kind, field in ((m.RoomLog, "after"), (m.Extend, "after"), (m.Sync, f"since.{TH}"), (m.Notes, "after")):
            self.check(kind, field, COUNT)
        for kind, field in ((m.Read, "seq"), (m.Register, "backup.version")):
            self.check(kind, field, NUMBER)
        self.check(m.History, "before", (NUMBER[0], [0, -1, 2**53, 1.5, "1", True]))

    def test_history_limit(self) -> None:
        """A page has 1 to 200 messages, 50 where nothing is said."""
        self.check(m.History, "limit", ([1, 200], [0, 201, -1, 1.0, "1", True, None]))
        page = self.decode({"cmd": "history", "room": "general"})
        assert isinstance(page, m.History)
        self.assertEqual(50, page.limit)

    def test_passwords(self) -> None:
        """Only a stretched password of the one scheme is one: a plain one never gets through."""
        for kind, field in (
            (m.Register, "password"), (m.Login, "password"), (m.Passwd, "password"), (m.Passwd, "new_password"),
            (m.ResetIdentity, "password"),
        ):  # fmt: skip
            self.check(kind, field, AUTHS)

    def test_bytes(self) -> None:
        """Salts, proofs and signatures have their size, in base64."""
        for kind, field in ((m.Register, "salt"), (m.Passwd, "new_salt")):
            self.check(kind, field, SIXTEEN)
        for kind, field in (
            (m.Register, "proof"), (m.Login, "proof"), (m.Resume, "proof"), (m.Publish, "proof"),
            (m.Register, "keys.sig"),
            (m.Register, "keys.certs.0.ik_sig"), (m.Publish, "keys.certs.1.dk_sig"), (m.Publish, "keys.past.0.dk_sig"),
            (m.DoAct, "sig"), (m.Extend, "acts.0.sig"), (m.Extend, "certs.0.ik_sig"), (m.Send, "package.sig"),
        ):  # fmt: skip
            self.check(kind, field, PROOF)

    def test_tokens(self) -> None:
        """Session tokens and invites have their length and alphabet."""
        self.check(m.Resume, "token", ([SESSION], ["t" * 42, "t" * 44, "t" * 42 + "=", SESSION + "\n", None]))
        self.check(m.Register, "invite", (["i" * 22, None], ["i" * 21, "i" * 23, "i" * 21 + "+", "i" * 22 + "\n", 1]))

    def test_bundle(self) -> None:
        """A bundle has one certificate to eleven, up to 100 past ones, each of 1 KiB, and a list of at most 8 KiB."""
        one = request_of(m.Register)["keys"]["certs"][0]
        self.check(m.Register, "keys.certs", ([[one], [one] * 11], [[], [one] * 12, one, [one, 1], [one, None], None]))
        self.check(m.Register, "keys.list", ([b64(8192)], [b64(8193), None, 1]))
        self.check(m.Register, "keys.past", ([[], [one] * 100], [[one] * 101, one, [one, None], None]))
        self.check(m.Register, "keys.certs.0.cert", ([b64(1024)], [b64(1025), None]))

    def test_backup(self) -> None:
        """A backup has at most 256 KiB."""
        for kind in (m.Register, m.Passwd, m.Publish, m.ResetIdentity, m.BackupRequest):
            self.check(kind, "backup.blob", ([b64(256 * 1024)], [b64(256 * 1024 + 1), None]))

    def test_note(self) -> None:
        """A note has 1 byte to 24 KiB."""
        self.check(m.PutNote, "blob", ([b64(1), b64(24 * 1024)], ["", b64(24 * 1024 + 1), "x", 1, None]))

    def test_flags(self) -> None:
        """What a sync asks for is yes or no."""
        for field in ("presence", "typing"):
            self.check(m.Sync, field, ([True, False], [0, 1, "true", None]))

    def test_package(self) -> None:
        """The token is a Fernet token of version 0x80, time 0 and at most 16 KiB of text."""
        for kind in (m.Send, m.Pm):
            self.check(kind, "package.encrypted_message", TOKENS)

    def test_signed_parts(self) -> None:
        """A header and a room event have at most 2 KiB, `bind` 32 bytes."""
        for kind, field in ((m.Send, "package.hdr"), (m.Pm, "package.hdr"), (m.DoAct, "signed")):
            self.check(kind, field, ([b64(2), b64(2048)], [b64(1), b64(2049), "", None]))
        self.check(m.Send, "package.bind", ([b64(32)], [b64(31), b64(33), "", None]))

    def test_events(self) -> None:
        """One request brings back at most 256 events, with at most as many certificates."""
        fields = request_of(m.Extend)
        act, certificate = fields["acts"][0], fields["certs"][0]
        self.check(m.Extend, "acts", ([[act], [act] * 256], [[], [act] * 257, act, None]))
        self.check(m.Extend, "certs", ([[], [certificate] * 256], [[certificate] * 257, certificate, None]))

    def test_wrapped_keys(self) -> None:
        """A wrapped key has 384 bytes, under a name."""
        self.check(m.Send, "package.encrypted_keys.alice", ([b64(384)], [b64(383), b64(385), b64(512), "", None]))
        for name in ("A", "a" * 33, ""):
            self.check(m.Send, "package.encrypted_keys", ([], [{name: b64(384)}]))
            self.check(m.Send, "package.kids", ([], [{name: "0" * 32}]))

    def test_members(self) -> None:
        """A package has at most 1000 readers."""
        users = [f"u{number}" for number in range(1001)]
        for field, value in (("encrypted_keys", b64(384)), ("kids", "0" * 32)):
            most, more = dict.fromkeys(users[:-1], value), dict.fromkeys(users, value)
            self.check(m.Send, f"package.{field}", ([most], [more]))

    def test_lists(self) -> None:
        """Keys of 1 to 50 users at once; a sync of at most 8000 conversations."""
        users = [f"u{number}" for number in range(51)]
        self.check(m.Keys, "users", ([users[:1], users[:50]], [[], users, "alice", None]))
        since = {f"{number:064x}": 0 for number in range(8001)}
        self.check(m.Sync, "since", ([{}, dict(list(since.items())[:8000])], [since, [], None]))

    def test_required_fields(self) -> None:
        """A field that is needed and missing is refused, and the text names it."""
        for request in (kind for kind in m.REQUESTS if kind.__struct_fields__):
            for field in msgspec.structs.fields(request):
                if field.required:
                    fields = {key: value for key, value in request_of(request).items() if key != field.name}
                    self.assertIn(field.name, str(self.refuse(fields)))

    def test_depth(self) -> None:
        """Eight levels are read, nine are not; brackets inside strings are no levels."""
        for levels, is_good in ((8, True), (9, False)):
            fields = b"[" * (levels - 1) + b"]" * (levels - 1)
            line = b'{"cmd":"ping","x":' + fields + b"}"
            if is_good:
                self.assertEqual(m.Ping(), codec.decode_request(line))
            else:
                error = self.assertRaises(ProtocolViolation, codec.decode_request, line)
                self.assertIs(BAD_PACKET, error.code)
        for text in ("[{" * 50_000, '\\"' + "[" * 100, "\\\\", '\\\\\\"[[[[[[[[[['):
            line = b'{"cmd":"ping","x":["' + text.encode() + b'",[[]],{}],"y":[[[[]]]],"z":{}}'
            self.assertEqual(m.Ping(), codec.decode_request(line), text[:20])

    def test_depth_of_replies(self) -> None:
        """The same holds of what a server says."""
        deep = b"[" * 8 + b"]" * 8
        for decode in (
            lambda: codec.decode_event(b'{"event":"live","room":"a","seq":0,"x":' + deep + b"}"),
            lambda: codec.decode_reply(b'{"status":"ok","x":' + deep + b"}", m.Ping),
            lambda: codec.decode_heading(b'{"id":1,"x":' + deep + b"}"),
        ):
            self.assertRaises(ProtocolViolation, decode)


class RefusalTests(SynchronousTestCase):
    """Tests for how a refusal is told."""

    def told(self, refusal: Refused) -> m.Failed:
        """A refusal as its reader gets it."""
        reply = codec.decode_reply(codec.encode_refusal(7, refusal), m.Ping)
        assert isinstance(reply, m.Failed)
        return reply

    def test_code_and_text(self) -> None:
        """The code for programs and the text for people."""
        refusal = Refused(NOT_MEMBER, room="general")
        self.assertEqual(m.Failed(id=7, code="not_member", msg=str(refusal)), self.told(refusal))

    def test_fields(self) -> None:
        """What a program needs comes in fields of its own."""
        self.assertEqual(2.0, self.told(Refused(BUSY, retry_after=2.0)).retry_after)
        self.assertEqual(5, self.told(Refused(OUT_OF_TURN, expected=5)).expected)
        self.assertEqual(LINK, self.told(Refused(STALE_HEAD, room="general", head=LINK)).head)
        self.assertEqual(STORED, self.told(Refused(CTR_BEHIND, expected=3, proof=STORED)).proof)
        self.assertEqual(3, self.told(Refused(STALE_BACKUP, version=3)).version)
        self.assertEqual(("bob", "eve"), self.told(Refused(STALE_KEYS, users=("bob", "eve"))).users)

    def test_no_fields(self) -> None:
        """Where there are none, none are written."""
        self.assertEqual(
            {"status", "id", "code", "msg"}, json.loads(codec.encode_refusal(7, Refused(BAD_FIELD, why="x"))).keys()
        )
        self.assertIs(UNSET, self.told(Refused(UNKNOWN_COMMAND)).users)

    def test_internal(self) -> None:
        """A fault of the server's own tells nothing but the code's text."""
        failed = codec.decode_reply(codec.internal_error(7, INTERNAL), m.Ping)
        self.assertEqual(m.Failed(id=7, code="internal", msg=CODES["internal"].text), failed)

    def test_empty_line(self) -> None:
        """An empty line is a violation of its own."""
        error = self.assertRaises(ProtocolViolation, codec.decode_request, b"")
        self.assertIs(EMPTY_LINE, error.code)


class MessageEventTests(SynchronousTestCase):
    """Tests for the message event in two parts."""

    SHARED = codec.shared_part(PACKAGE)
    PLACE: dict[str, Any] = {
        "room": "general", "seq": 2**53 - 1, "sender": "alice", "device": DEV, "mid": MID, "ts": 7, "events": 2,
    }  # fmt: skip

    def test_same_as_the_packet(self) -> None:
        """Prefix and tail together are byte for byte the packet, cut down to one reader."""
        line = codec.message_prefix(**self.PLACE, shared=self.SHARED) + codec.own_tail("bob", hex_id("k"), b"w" * 384)
        package = replace(PACKAGE, encrypted_keys={"bob": b"w" * 384}, kids={"bob": hex_id("k")})
        packet = m.StoredMessage(**self.PLACE, package=package)
        self.assertEqual(packet, codec.decode_event(line))
        self.assertEqual(line_of(packet), json.loads(line))

    def test_private(self) -> None:
        """A private message says whom it is for."""
        line = codec.message_prefix(**self.PLACE | {"room": PM}, shared=self.SHARED, to="bob")
        event = codec.decode_event(line + codec.own_tail("alice", hex_id("k"), b"w" * 384))
        assert isinstance(event, m.StoredMessage)
        self.assertEqual((PM, "bob"), (event.room, event.to))

    def test_not_for_this_reader(self) -> None:
        """Who has no entry gets the message without any."""
        event = codec.decode_event(codec.message_prefix(**self.PLACE, shared=self.SHARED) + codec.NO_TAIL)
        assert isinstance(event, m.StoredMessage)
        self.assertEqual(replace(PACKAGE, encrypted_keys={}, kids={}), event.package)

    def test_one_prefix_for_all(self) -> None:
        """The prefix names no reader and holds no key."""
        prefix = codec.message_prefix(**self.PLACE, shared=self.SHARED)
        self.assertNotIn(b"kids", prefix)
        for reader in ("bob", "carol"):
            event = codec.decode_event(prefix + codec.own_tail(reader, hex_id(reader), b"w" * 384))
            assert isinstance(event, m.StoredMessage)
            self.assertEqual([reader], list(event.package.kids))

    def test_history_reply(self) -> None:
        """A page of messages encoded before is the packet it stands for."""
        tail = codec.own_tail("bob", hex_id("k"), b"w" * 384)
        messages = [codec.message_prefix(**self.PLACE | {"seq": seq}, shared=self.SHARED) + tail for seq in (1, 2, 3)]
        for request_id in (7, '"messages":[]', "messages", None):
            head = m.HistoryOk(id=request_id, room="general", messages=(), more=True, first_seq=1, last_seq=3)
            for count in (0, 1, 3):
                line = codec.history_reply(head, messages[:count])
                self.assertEqual((1, b"\n"), (line.count(b"\n"), line[-1:]))
                reply = codec.decode_reply(line, m.History)
                expected = tuple(codec.decode_event(message) for message in messages[:count])
                self.assertEqual((request_id, expected), (reply.id, reply.messages))
                self.assertEqual((True, 1, 3), (reply.more, reply.first_seq, reply.last_seq))


class HeadingTests(SynchronousTestCase):
    """Tests for telling replies from events."""

    def test_heading(self) -> None:
        """An event by its name, a reply by the id of its request."""
        self.assertEqual(codec.Heading(event="live"), codec.decode_heading(codec.encode(m.Live(room="general", seq=0))))
        self.assertEqual(codec.Heading(id=7), codec.decode_heading(codec.encode(m.Reply(id=7))))
        self.assertEqual(codec.Heading(), codec.decode_heading(codec.encode(m.Reply())))

    def test_reply_of_another_kind(self) -> None:
        """A reply that lacks what its request was promised is a violation."""
        self.assertRaises(ProtocolViolation, codec.decode_reply, codec.encode(m.Reply(id=1)), m.Online)
        self.assertRaises(ProtocolViolation, codec.decode_reply, codec.encode(m.Live(room="general", seq=0)), m.Ping)
        self.assertRaises(ProtocolViolation, codec.decode_reply, b'{"id":1}', m.Ping)

    def test_event_with_wrong_fields(self) -> None:
        """An event of a known name with wrong fields is a violation."""
        for line in (b'{"event":"live"}', b'{"event":"live","room":"A","seq":1}', b'{"event":"message"}'):
            self.assertRaises(ProtocolViolation, codec.decode_event, line)
