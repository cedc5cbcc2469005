"""A server that lies: the genuine one, with somebody in it who changes what it says, keeps and lets in.

    python -m tests.evil --data-dir DIR --listen 127.0.0.1:PORT --attacks FILE

`EvilServer` is one class for all attacks of docs/threat-model.md that need a server. Tests in one process give
`EvilFactory` to their network; the command runs a whole daemon for real clients, and an attack of
`tests.evil_daemon.ATTACKS` begins as soon as its name stands in the file. It holds what an operator holds: the server's
key, the at-rest key, the database and every connection; no user's key.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from securechat.crypto import primitives as p
from securechat.crypto.envelope import Position, SealedMessage, seal
from securechat.crypto.identity import AccountKeys, SignedBundle, certify_device, sign_device_list, verify_bundle
from securechat.crypto.roomlog import AnyEvent, SignedEvent, next_link, sign_event
from securechat.crypto.transcript import transcript_start
from securechat.server.protocol import ChatServerFactory, ChatServerProtocol
from securechat.storage.queries import segments
from securechat.wire import messages as m

Said = dict[str, Any]
Rule = Callable[[str, str, Said], "list[Said] | None"]
"""Given to whom, what it is (``event:message``, or the command that a reply is to) and the packet: what is said
instead, nothing for an empty list; None leaves it alone."""


class Impostor:
    """Keys that the server made up for a name: an identity, a device and an RSA key of its own.

    Args:
        rsa: an RSA key to use; they are slow to make. None where nothing is sealed for it.
    """

    def __init__(self, srv: str, user: str, rsa: RSAPrivateKey | None = None) -> None:
        self.srv, self.user, self.rsa = srv, user, rsa
        self.identity, self.device = p.new_ed25519(), p.new_ed25519()
        self.ik, self.dk = p.ed25519_public(self.identity), p.ed25519_public(self.device)
        self.dev = p.key_id(self.dk)
        self.certificate = certify_device(
            identity=self.identity, device=self.device, srv=srv, user=user, name="device 1", created=1
        )

    @cached_property
    def bundle(self) -> SignedBundle:
        """Its first device list."""
        return self.signed_list()

    @cached_property
    def keys(self) -> AccountKeys:
        """The same, as a client has it."""
        return verify_bundle(self.bundle, srv=self.srv, user=self.user)

    def signed_list(self, version: int = 1, previous: str = "", **changes: Any) -> SignedBundle:
        """A device list of this identity."""
        assert self.rsa is not None
        return sign_device_list(
            identity=self.identity,
            srv=self.srv,
            user=self.user,
            version=version,
            previous=previous,
            rk_der=p.rsa_public_der(self.rsa.public_key()),
            certificates=[self.certificate],
            **changes,
        )

    def sign(self, event: AnyEvent) -> SignedEvent:
        """A room event by this device."""
        return sign_event(self.device, event)

    def write(self, text: str, readers: Iterable[AccountKeys], position: Position) -> SealedMessage:
        """A message by this device."""
        return seal(text, readers, position, self.device)


def as_packet(value: Any) -> Any:
    """A packet or part of one as it stands in a line."""
    return json.loads(msgspec.json.encode(value))


def wire_package(sealed: SealedMessage, reader: str) -> Said:
    """A sealed message as one reader gets it."""
    own = {name: value for name, value in sealed.encrypted_keys.items() if name == reader}
    package = m.Package(
        encrypted_message=sealed.encrypted_message,
        encrypted_keys=own,
        kids={name: sealed.kids[name] for name in own},
        hdr=sealed.hdr,
        bind=sealed.bind,
        sig=sealed.sig,
    )
    said: Said = as_packet(package)
    return said


class EvilServer:
    """What the server does to its users. Each attack is a method; it holds from then on.

    Attributes:
        seen: every message handed to anybody: (reader, room, seq) → the event.
        bundles: every signed device list that passed by, oldest first, by user.
        backups: the same for backups.
        events: every room event that passed by, by room.
        store: of the genuine server; None before the first listener.
    """

    def __init__(self) -> None:
        self.store: Any = None
        self._rules: list[Rule] = []
        self._readers: dict[str, list[EvilProtocol]] = {}
        self._answers: dict[str, Callable[[str, Said], Said | None]] = {}
        self._offsets: dict[tuple[str, str], int] = {}
        self._newest: dict[tuple[str, str], int] = {}  # numbers as the genuine server counts
        self.seen: dict[tuple[str, str, int], Said] = {}
        self.bundles: dict[str, list[Said]] = {}
        self.backups: dict[str, list[Said]] = {}
        self.events: dict[str, list[Said]] = {}

    # --- in the middle of every connection --------------------------------------------------------------------------

    def connected(self, user: str, protocol: EvilProtocol) -> None:
        """Somebody speaks under a name."""
        readers = self._readers.setdefault(user, [])
        if protocol not in readers:
            readers.append(protocol)

    def told(self, user: str, kind: str, said: Said) -> list[Said]:
        """What is said instead of a genuine packet."""
        self._remember(user, kind, said)
        saying = [said]
        for rule in self._rules:
            changed = [(one, rule(user, kind, one)) for one in saying]
            saying = [new for one, news in changed for new in ([one] if news is None else news)]
        return [self._renumbered(user, kind, one) for one in saying]

    def _remember(self, user: str, kind: str, said: Said) -> None:
        if kind == "event:message":
            self.seen[user, said["room"], said["seq"]] = said
        if kind in ("event:message", "send", "pm") and "seq" in said:
            self._newest[user, said["room"]] = said["seq"]
        if kind == "event:room":
            events = self.events.setdefault(said["room"], [])
            if said["events"] > len(events):
                events.append(said)
        bundles = said.get("keys")
        if kind == "keys" and isinstance(bundles, dict):
            for name, bundle in bundles.items():
                self._keep(self.bundles, name, bundle)
        elif kind in ("login", "resume", "publish", "event:member") and isinstance(bundles, dict):
            self._keep(self.bundles, said.get("user", user), bundles)
        if kind == "backup" and "backup" in said:
            self._keep(self.backups, user, said["backup"])

    @staticmethod
    def _keep(kept: dict[str, list[Said]], name: str, value: Said) -> None:
        if value not in kept.setdefault(name, []):
            kept[name].append(value)

    def _renumbered(self, user: str, kind: str, said: Said) -> Said:
        """A victim sees no gap in the numbers: what was left out or put in before moves what follows."""
        numbered = said.get("event") == "message" or (kind in ("send", "pm") and "seq" in said)
        if numbered and not said.pop("invented", False):
            return {**said, "seq": said["seq"] + self._offsets.get((user, said["room"]), 0)}
        return said

    def link_at(self, room: str, count: int) -> str:
        """The link after so many events of a room."""
        link = ""
        for event in self.events[room][:count]:
            link = next_link(link, p.digest("event", base64.b64decode(event["signed"])).hex())
        return link

    @property
    def users(self) -> list[str]:
        """Everybody who was connected."""
        return list(self._readers)

    def say(self, user: str, said: Said) -> None:
        """Says something to all connections of a user that nobody else said."""
        for protocol in self._readers.get(user, []):
            if not protocol.closing:
                protocol.invent(said)

    def rule(self, rule: Rule) -> None:
        """A lie of a test's own."""
        self._rules.append(rule)

    def answer(self, command: str, answer: Callable[[str, Said], Said | None]) -> None:
        """Answers a command itself, given who asks and the request; the genuine server where that is None."""
        self._answers[command] = answer

    def heard(self, user: str, said: Said) -> Said | None:
        """What is answered to a request that the genuine server never sees."""
        answer = self._answers.get(said.get("cmd", ""))
        answered = None if answer is None else answer(user, said)
        return None if answered is None else {"id": said.get("id"), "status": "ok", **answered}

    def stop(self) -> None:
        """Lies no more, as if nothing had been."""
        self._rules.clear()
        self._answers.clear()
        self._offsets.clear()

    # --- keys and devices -------------------------------------------------------------------------------------------

    def swap_keys(self, of: str, bundle: SignedBundle, to: str | None = None) -> None:
        """Gives another bundle for a name: to everybody, or to one user."""
        false = as_packet(m.KeyBundle.of(bundle))

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if to not in (None, user) or user == of:
                return None
            if kind == "keys" and of in said.get("keys", {}):
                return [{**said, "keys": {**said["keys"], of: false}}]
            if kind == "event:member" and said["user"] == of:
                return [{**said, "keys": false}]
            return None

        self.rule(rule)

    def announce_keys(self, to: str, of: str, bundle: SignedBundle) -> None:
        """Tells somebody that a name has these keys now, and stays with it."""
        self.swap_keys(of, bundle, to)
        self.say(to, {"event": "member", "user": of, "keys": as_packet(m.KeyBundle.of(bundle))})

    def add_ghost_device(self, of: str, ghost: Impostor) -> None:
        """Adds a device of the server's own to somebody's bundle, under the genuine list."""
        certificate = as_packet(m.Certificate.of(ghost.certificate))

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind != "keys" or of not in said.get("keys", {}):
                return None
            bundle = said["keys"][of]
            return [{**said, "keys": {**said["keys"], of: {**bundle, "certs": [*bundle["certs"], certificate]}}}]

        self.rule(rule)

    def roll_back_list(self, of: str) -> None:
        """Shows the oldest device list that passed by."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if kind == "keys" and of in said.get("keys", {}):
                return [{**said, "keys": {**said["keys"], of: self.bundles[of][0]}}]
            if kind in ("login", "resume") and user == of:
                return [{**said, "keys": self.bundles[of][0]}]
            return [] if kind == "event:member" and said["user"] == of else None

        self.rule(rule)

    def roll_back_backup(self, of: str) -> None:
        """Gives the oldest backup that passed by, under its own number."""

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            return [{**said, "backup": self.backups[of][0]}] if kind == "backup" and user == of else None

        self.rule(rule)

    def weaken_stretching(self, **fields: Any) -> None:
        """Answers `prelogin` with costs of the server's choice, or another salt."""
        self.rule(lambda user, kind, said: [{**said, **fields}] if kind == "prelogin" else None)

    # --- messages ---------------------------------------------------------------------------------------------------

    def change_messages(self, to: str, change: Callable[[Said], Said | None]) -> None:
        """Changes each message that somebody is given, live and in histories; None leaves one out.

        What is left out leaves no gap in the numbers.
        """

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != to:
                return None
            if kind == "event:message":
                changed = change(said)
                if changed is None:
                    self.moved(user, said["room"], -1)
                    return []
                return [changed]
            if kind == "history" and "messages" in said:
                changes = [change(message) for message in said["messages"]]
                return [{**said, "messages": [one for one in changes if one is not None]}]
            return None

        self.rule(rule)

    def moved(self, user: str, room: str, by: int) -> int:
        """From now on somebody's numbers in a room are so many off; how many they were before."""
        before = self._offsets.get((user, room), 0)
        self._offsets[user, room] = before + by
        return before

    def newest(self, user: str, room: str) -> Said:
        """The newest message somebody was given."""
        number = max(seq for reader, name, seq in self.seen if (reader, name) == (user, room))
        return self.seen[user, room, number]

    def insert(self, user: str, message: Said, **changes: Any) -> None:
        """Hands somebody a message as the next of its room, and moves what follows."""
        room = changes.get("room", message["room"])
        seq = self._newest.get((user, room), 0) + self.moved(user, room, 1) + 1
        self.say(user, {**message, **changes, "seq": seq})

    def drop_next(self, to: str, room: str, count: int = 1) -> None:
        """Keeps the next messages of a room from somebody, without a gap in the numbers."""
        left = [count]

        def change(message: Said) -> Said | None:
            if message["room"] != room or not left[0]:
                return message
            left[0] -= 1
            return None

        self.change_messages(to, change)

    def swap_next(self, to: str, room: str) -> None:
        """Hands somebody the next two messages of a room in the other order."""
        held: list[Said] = []

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if (user, kind) != (to, "event:message") or said["room"] != room or len(held) > 1:
                return None
            held.append(said)
            if len(held) == 1:
                return []
            first, second = held
            return [{**second, "seq": first["seq"]}, {**first, "seq": second["seq"]}]

        self.rule(rule)

    # --- rooms ------------------------------------------------------------------------------------------------------

    def withhold_events(self, to: str, room: str, those: Callable[[AnyEvent], bool]) -> None:
        """Hides room events from somebody: there, the log ends before them, and nothing says that it went on."""
        end: list[int] = []

        def hidden(signed: str) -> bool:
            return those(SignedEvent(base64.b64decode(signed), b"").event)

        def up_to(said: Said) -> Said:
            return {**said, "events": min([said["events"], *end])}

        def rule(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != to or (said.get("room") != room and kind != "sync"):
                return None
            if kind == "event:room":
                if not end and hidden(said["signed"]):
                    end.append(said["events"] - 1)
                return [] if end else None
            if kind == "roomlog" and "acts" in said:
                before = said["events"] - len(said["acts"])  # of a page that is the last
                if not end:
                    end.extend(before + n for n, act in enumerate(said["acts"]) if hidden(act["signed"]))
                    del end[1:]
                acts = said["acts"][: max(0, end[0] - before)] if end else said["acts"]
                return [{**up_to(said), "acts": acts}]
            if kind == "history" and "messages" in said:
                return [{**said, "messages": [up_to(message) for message in said["messages"]]}]
            if kind == "sync" and end:
                there = [one for one in said["conversations"] if one["room"] == room]
                rest = [one for one in said["conversations"] if one["room"] != room]
                return [{**said, "conversations": rest + [{**one, **self._shorter(room, end[0])} for one in there]}]
            return [up_to(said)] if "events" in said else None

        self.rule(rule)

    def _shorter(self, room: str, events: int) -> Said:
        return {"events": events, "head": self.link_at(room, events)}

    def add_event(self, to: str, room: str, signed: SignedEvent, certificate: Any) -> None:
        """Puts an event of the server's own making at the end of a room's log, for one user."""
        number = max((event["events"] for event in self.events.get(room, [])), default=0) + 1
        act = {"signed": p.b64(signed.data), "sig": p.b64(signed.sig)}
        self.say(
            to,
            {"event": "room", "room": room, "events": number, **act, "cert": as_packet(m.Certificate.of(certificate))},
        )

    def give_log(self, to: str, room: str, acts: list[SignedEvent], certs: list[Any]) -> None:
        """Gives somebody another log of a room altogether."""
        given = [{"signed": p.b64(signed.data), "sig": p.b64(signed.sig)} for signed in acts]
        named = [as_packet(m.Certificate.of(certificate)) for certificate in certs]

        def answer(user: str, said: Said) -> Said | None:
            if user != to or said["room"] != room:
                return None
            page = {"acts": given[said.get("after", 0) :], "certs": named, "events": len(acts)}
            return {"room": room, "rid": acts[0].eh, **page}

        self.answer("roomlog", answer)

    # --- the database -----------------------------------------------------------------------------------------------

    def rewrite_message(self, room: str, seq: int, change: Callable[[Said], Said]) -> None:
        """Changes a stored message with the at-rest key, as its operator can.

        Args:
            change: given the shared part of the package.
        """
        at_rest = self.store._at_rest
        with contextlib.closing(sqlite3.connect(self.store._path)) as connection:
            room_id, number = connection.execute(
                "SELECT c.room_id, m.segment_id FROM message m JOIN conversation c ON c.id = m.conversation_id"
                " WHERE c.name = ? AND m.seq = ?",
                (room, seq),
            ).fetchone()
            at_rest.segments.clear()
            segment = segments.opened(connection.cursor(), at_rest, room_id, number)
            bodies = list(segment.bodies)
            body = bodies[seq - segment.first]
            shared = json.dumps(change(json.loads(body.shared)), separators=(",", ":")).encode()
            bodies[seq - segment.first] = body._replace(shared=shared)
            sealed = segments.seal(at_rest, number, room_id, segments.Segment(segment.first, bodies))
            connection.execute(
                "UPDATE segment SET dek_id = ?, sealed = ? WHERE id = ?", (at_rest.sealer.newest, sealed, number)
            )
            connection.commit()

    def newest_stored(self) -> list[tuple[str, int]]:
        """Each conversation that has messages, and the number of its newest."""
        with contextlib.closing(sqlite3.connect(self.store._path)) as connection:
            return connection.execute("SELECT name, last_seq FROM conversation WHERE last_seq > 0").fetchall()

    def delete_newest(self, room: str, count: int = 1) -> None:
        """Takes the newest messages of a room out of the database, so that nothing in it tells of them."""
        with contextlib.closing(sqlite3.connect(self.store._path)) as connection:
            found = connection.execute("SELECT id, room_id, last_seq FROM conversation WHERE name = ?", (room,))
            conversation, room_id, last = found.fetchone()
            gone = "SELECT id FROM message WHERE conversation_id = ? AND seq > ?"
            connection.execute(f"DELETE FROM message_keys WHERE message_id IN ({gone})", (conversation, last - count))
            connection.execute(
                "DELETE FROM message WHERE conversation_id = ? AND seq > ?", (conversation, last - count)
            )
            connection.execute(
                "DELETE FROM segment WHERE conversation_id = ? AND first_seq > ?", (conversation, last - count)
            )
            before = connection.execute(
                "SELECT th FROM message WHERE conversation_id = ? AND seq = ?", (conversation, last - count)
            ).fetchone()
            th = bytes.fromhex(transcript_start(room_id)) if before is None else before[0]
            connection.execute(
                "UPDATE conversation SET last_seq = ?, th = ? WHERE id = ?", (last - count, th, conversation)
            )
            connection.execute(
                "UPDATE counter SET last = last - ? WHERE conversation_id = ? AND seq > ?",
                (count, conversation, last - count),
            )
            connection.commit()
        self.store._at_rest.undone()  # what it remembers is not so any more


LENIENT: Final[dict[str, Callable[..., Any]]] = {
    "_check_author": lambda *_: None,
    "_changed_since": lambda *_: set(),
    "_check_audience": lambda *_: None,
    "_was_at": lambda *_: True,
    "_check_turn": lambda *_: None,
}
"""Checks of `storage.queries.messages` that a server leaves out that stores whatever serves its lies."""


class EvilProtocol(ChatServerProtocol):
    """A connection to the evil server."""

    factory: EvilFactory

    def __init__(self, factory: EvilFactory) -> None:
        super().__init__(factory)
        self._commands: dict[Any, str] = {}

    def lineReceived(self, line: bytes) -> None:
        """Notes what a reply will be to."""
        try:
            heard = json.loads(line)
            self._commands[heard.get("id")] = heard.get("cmd", "")
            answer = self.factory.evil.heard("" if self.session is None else self.session.user, heard)
        except (ValueError, AttributeError):
            answer = None
        if answer is None:
            super().lineReceived(line)
        else:
            self.deliver(json.dumps(answer).encode() + b"\n")

    def deliver(self, lines: bytes) -> None:
        """Says something else, where the evil server wants it."""
        user = "" if self.session is None else self.session.user
        if user:
            self.factory.evil.connected(user, self)
        for line in lines.splitlines():
            said = json.loads(line)
            kind = f"event:{said['event']}" if "event" in said else self._commands.pop(said.get("id"), "")
            for one in self.factory.evil.told(user, kind, said):
                super().deliver(json.dumps(one).encode() + b"\n")

    def invent(self, said: Said) -> None:
        """Says what nobody said."""
        super().deliver(json.dumps(said).encode() + b"\n")


class EvilFactory(ChatServerFactory):
    """Makes the connections of an evil server."""

    def __init__(self, evil: EvilServer, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.evil = evil
        evil.store = self.parts.store

    def buildProtocol(self, addr: Any) -> Any:
        """For Twisted."""
        return EvilProtocol(self)


if __name__ == "__main__":
    from tests.evil_daemon import main

    sys.exit(main(sys.argv[1:]))
