"""Tests for what one's own devices tell each other: drafts, whom one ignores, what is announced."""

from __future__ import annotations

import base64
import json
import shutil
from typing import Any

from securechat.client.drafts import MAX_DRAFT
from securechat.client.panes import Panes
from securechat.client.protocol import LinkLost
from securechat.crypto.notes import NoteKeys, note_name, seal_note
from securechat.errors import RATE_LIMITED, Exit
from securechat.wire import messages as m
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient


class NotesCase(ChatCase):
    """One account on two machines, both in a room."""

    def setUp(self) -> None:
        super().setUp()
        self.one = self.registered("bob", "general")
        self.two = self.device("bob-2")

    def device(self, data: str) -> ChatClient:
        """A device that was just set up, or is started again."""
        client = self.client(data)
        client.type(f"/login bob {PASSWORD}")
        client.view.take()
        return client

    def draft(self, client: ChatClient, text: str | None = None, where: str = "general") -> str:
        """What lies half typed; `text` is typed before."""
        panes = Panes(client.core)
        if text is not None:
            panes.set_draft(where, text)
        return panes.draft(where)

    def keys(self) -> NoteKeys:
        """What notes of this account are sealed by."""
        assert self.one.core.account is not None
        return NoteKeys.of(self.one.core.account.keys.rsa_keys)

    def give(self, value: Any, kind: str = "draft", *, name: str | None = None, user: str = "bob") -> None:
        """The server gives the second device a note that holds this."""
        named = note_name(self.keys(), kind, self.general)
        blob = seal_note(self.keys(), named, json.dumps(value).encode(), srv=SRV, user=user, nonce=bytes(12))
        self.hand(name or named, blob)

    def hand(self, name: str, blob: bytes, version: int = 90) -> None:
        """The server gives the second device these bytes."""
        self.two.wire.say(m.NoteEvent(name=name, version=version, blob=blob))
        self.pass_time(1)

    @property
    def general(self) -> str:
        """The room's id."""
        conversation = self.one.core.conversations.labelled("general")
        assert conversation is not None
        return conversation.id


class DraftTests(NotesCase):
    """Tests for lines that lie half typed."""

    def test_follows(self) -> None:
        """A draft is on the other device a few seconds later, and gone once it was dropped."""
        self.draft(self.one, "half a li")
        self.draft(self.one, "half a line")
        self.pass_time(1)
        self.assertEqual("", self.draft(self.two))
        self.pass_time(5)
        self.assertEqual("half a line", self.draft(self.two))
        self.draft(self.two, "")
        self.pass_time(5)
        self.assertEqual("", self.draft(self.one))
        self.assertEqual(1, self.one.wire.commands.count("note"))

    def test_away(self) -> None:
        """A draft of a device that has left reaches one that was away, and survives a restart."""
        self.two.quit()
        self.draft(self.one, "half a line")
        self.assertEqual(Exit.OK, self.one.exit("/logout"))
        self.assertEqual("half a line", self.draft(self.device("bob-2")))
        self.assertEqual("half a line", self.draft(self.device("bob")))

    def test_killed(self) -> None:
        """A draft is on disk half a second later, whatever becomes of the process; the server gets it then."""
        self.network.refuse("note", RATE_LIMITED, times=1, retry_after=1.0)
        self.draft(self.one, "half a line")
        self.pass_time(1)
        self.one.quit()
        self.assertEqual("", self.draft(self.two))
        self.assertEqual("half a line", self.draft(self.device("bob")))
        self.pass_time(10)
        self.draft(self.clients[-1], "half a line more")
        self.pass_time(10)
        self.assertEqual("half a line more", self.draft(self.two))

    def test_offline(self) -> None:
        """What is typed while the server is away is told once it is back; the newer of two counts on both."""
        self.network.go_down()
        self.settle()
        self.draft(self.two, "older")
        self.pass_time(1)
        self.draft(self.one, "newer")
        self.pass_time(5)
        self.network.come_back()
        self.pass_time(60)
        self.assertEqual(["newer", "newer"], [self.draft(self.one), self.draft(self.two)])

    def test_too_long(self) -> None:
        """A draft that is too long for a note stays on its machine."""
        for text in ("x" * (MAX_DRAFT + 1), "\u2028" * 10_000):
            self.draft(self.one, text)
            self.pass_time(5)
            self.assertEqual(text, self.draft(self.one))
            self.assertNotIn("note", self.one.wire.commands)
        self.assertEqual("", self.draft(self.two))

    def test_no_secret(self) -> None:
        """A line with a password on it is no draft, nor is what was there before."""
        for line in ("/login bob secret1", "/lgoin bob secret1", "  /passwd old secret1", "/keys import f secret1"):
            self.draft(self.one, "half a line")
            self.assertEqual("", self.draft(self.one, line), line)
        self.pass_time(5)
        self.assertEqual("/login bob", self.draft(self.one, "/login bob"))
        for path in self.home.rglob("*"):
            self.assertNotIn(b"secret1", path.read_bytes() if path.is_file() else b"")

    def test_nowhere(self) -> None:
        """Where there is no conversation there is no draft."""
        self.assertEqual("", self.draft(self.one, "x", "attic"))


class ServerTests(NotesCase):
    """Tests for what the server sees of notes, and may do with them."""

    def test_sees_nothing(self) -> None:
        """Neither on the wire nor in the database is a word of a note, nor whom it is about."""
        self.registered("mallory")
        self.draft(self.one, "readable words")
        self.one.type("/ignore mallory")
        self.one.type("/notify none general")
        self.pass_time(5)
        puts = [asked for asked in self.one.wire.asked if asked["cmd"] == "note"]
        self.assertEqual(3, len(puts))
        self.assertEqual(3, len({put["name"] for put in puts}))
        self.assertEqual(1, len({len(put["blob"]) for put in puts}))
        for put in puts:
            seen = put["name"].encode() + base64.b64decode(put["blob"])
            for word in ("readable", "mallory", "none", "draft", "ignore", "level", self.general):
                self.assertNotIn(word.encode(), seen)
        rows = self.writer.connection.execute("SELECT * FROM note").fetchall()
        self.assertEqual(3, len(rows))
        self.assertNotIn("readable", repr(rows))
        self.assertNotIn("mallory", repr(rows))

    def test_genuine(self) -> None:
        """What the tests below give is taken where nothing is wrong with it."""
        self.give([self.one.core.now_ms(), "draft", self.general, "genuine"])
        self.assertEqual("genuine", self.draft(self.two))

    def test_old(self) -> None:
        """An older note than the one that is known changes nothing."""
        self.draft(self.one, "old")
        self.pass_time(5)
        self.draft(self.one, "new")
        self.pass_time(5)
        told = [said for said in self.two.wire.told if said.get("event") == "note"]
        self.assertEqual(2, len(told))
        self.two.wire.say(json.dumps({**told[0], "version": 99}).encode() + b"\n")
        self.pass_time(5)
        self.assertEqual("new", self.draft(self.two))

    def test_not_genuine(self) -> None:
        """A note that is altered, cut short, of another name, user or key, or that holds nonsense, changes nothing."""
        self.draft(self.one, "mine")
        self.pass_time(5)
        before = (dict(self.two.core.attention.levels), set(self.two.core.attention.ignored))
        late = self.one.core.now_ms() + 60_000
        name = note_name(self.keys(), "draft", self.general)
        blob = seal_note(
            self.keys(), name, json.dumps([late, "draft", self.general, "forged"]).encode(),
            srv=SRV, user="bob", nonce=bytes(12),
        )  # fmt: skip
        for given in (b"", blob[:15], blob[:-1], blob[:40] + bytes([blob[40] ^ 1]) + blob[41:], bytes(16) + blob[16:]):
            self.hand(name, given)
        self.hand("ab" * 16, blob)
        self.give([late, "draft", self.general, "forged"], user="alice")
        self.give([late, "draft", "another", "forged"])
        for value in (
            5, [], [late], [late, "draft", self.general], ["x", "draft", self.general, "forged"],
            [None, 5, self.general, "forged"], [float("inf"), "draft", self.general, "forged"],
            [late, 5, self.general, "x"], {"a": 1, "b": 2, "c": 3, "d": 4},
        ):  # fmt: skip
            self.give(value)
        self.assertEqual("mine", self.draft(self.two))
        self.assertEqual(before, (self.two.core.attention.levels, self.two.core.attention.ignored))
        self.assertEqual([], self.flushLoggedErrors())

    def test_strange_values(self) -> None:
        """Values of another type, as a newer client might have, are passed over."""
        late = self.one.core.now_ms() + 60_000
        for kind, value in (("draft", 5), ("level", "loud"), ("level", []), ("ignore", "yes"), ("mood", "good")):
            self.give([late, kind, self.general, value], kind)
        self.assertEqual("", self.draft(self.two))
        self.assertEqual({}, self.two.core.attention.levels)
        self.assertEqual(set(), self.two.core.attention.ignored)

    def test_new_key(self) -> None:
        """After a device was shut out, notes under the newer key are read by those that have it."""
        self.draft(self.one, "before")
        self.pass_time(5)
        self.assertEqual(Exit.OK, self.one.exit(f"/passwd {PASSWORD} another password 1"), self.one.view.text)
        self.draft(self.one, "after")
        self.pass_time(5)
        self.assertEqual("after", self.draft(self.one))

    def test_fresh_device(self) -> None:
        """A device that is set up anew gets all notes there are."""
        self.draft(self.one, "half a line")
        self.registered("mallory")
        self.one.type("/ignore mallory")
        self.pass_time(5)
        shutil.rmtree(self.home / "bob-2")
        self.two.quit()
        two = self.device("bob-2")
        self.assertEqual(("half a line", {"mallory"}), (self.draft(two), two.core.attention.ignored))


class HostileServerTests(NotesCase):
    """Tests for a server that gives notes without end."""

    def test_without_end(self) -> None:
        """Where there is said to be more, and what comes is not newer, it is not asked again."""
        note = m.StoredNote(name="ab" * 16, version=1, blob=b"n")
        asked = list[m.Notes]()
        answer = m.NotesOk(notes=(note,), more=True)

        async def request(request: m.Request) -> m.NotesOk:
            assert isinstance(request, m.Notes)
            asked.append(request)
            if len(asked) > 20:
                raise LinkLost("too often")
            return answer

        self.patch(self.two.core, "request", request)
        notes = self.two.core.notes
        assert notes is not None
        self.do(notes.fetch())
        self.assertLessEqual(len(asked), 2)
