"""Tests for what a message says: its kinds, and what comes of bytes that are none."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.body import (
    MARK,
    MAX_MENTIONS,
    Action,
    Body,
    Code,
    Delete,
    Edit,
    React,
    Text,
    checked_text,
    from_text,
    mentions_in,
    to_text,
)
from securechat.crypto.findings import Finding
from securechat.errors import Undecryptable
from tests.cast import Conversation, Person, Room, read, reader_of

ID = "ab" * 32
BODIES: tuple[Body, ...] = (
    Text("hello"),
    Text(""),
    Text("yes", ID),
    Text("@bob yes", ID, ("bob",)),
    Action("waves"),
    Action("waves at @bob", ("bob",)),
    Code("if x:\n    y()", "python"),
    Code('a\\b"\u2028\n'),
    Edit(ID, "better", ("bob",)),
    Edit(ID, ""),
    Delete(ID),
    React(ID, "👍"),
    React(ID, "+1", True),
)
DAMAGED = (
    "a\0b",  # no mark inside a text
    MARK + '{"k":"text","text":5}',
    MARK + '{"k":"text"}',
    MARK + '{"k":"text","text":"a\\u0000b"}',
    MARK + '{"k":"text","text":"x","reply":"abc"}',
    MARK + '{"k":"text","text":"x","mentions":["No Name"]}',
    MARK + json.dumps({"k": "text", "text": "x", "mentions": [f"u{n}" for n in range(MAX_MENTIONS + 1)]}),
    MARK + json.dumps({"k": "edit", "of": ID.upper(), "text": "x"}),
    MARK + json.dumps({"k": "edit", "of": ID}),
    MARK + json.dumps({"k": "delete", "of": ""}),
    MARK + json.dumps({"k": "react", "to": ID, "emoji": ""}),
    MARK + json.dumps({"k": "react", "to": ID, "emoji": "two words"}),
    MARK + json.dumps({"k": "react", "to": ID, "emoji": "x" * 33}),
    MARK + json.dumps({"k": "code", "text": "x", "lang": "x" * 33}),
)
NEWER = (
    MARK,
    MARK + "no JSON",
    MARK + "[]",
    MARK + '{"k":5}',
    MARK + '{"k":"poll","text":"x"}',
    MARK + '{"text":"x"}',
    MARK + "[" * 100_000,
)


class BodyTests(SynchronousTestCase):
    """Tests for kinds as the text that is sealed."""

    def test_there_and_back(self) -> None:
        """Every kind comes back as it was."""
        for body in BODIES:
            self.assertEqual(body, from_text(to_text(body)))
            self.assertEqual(to_text(body), checked_text(to_text(body).encode("utf-8")))

    def test_plain(self) -> None:
        """A plain text is its own bytes, as whoever knows no kinds writes and reads it; no other kind is."""
        self.assertEqual('{"k":"delete"}', to_text(Text('{"k":"delete"}')))
        for body in BODIES:
            plain = isinstance(body, Text) and not body.reply and not body.mentions
            self.assertEqual(not plain, to_text(body).startswith(MARK))

    def test_bytes(self) -> None:
        """The bytes are those that the protocol's document names."""
        self.assertEqual(f'\0{{"k":"edit","of":"{ID}","text":"…"}}', to_text(Edit(ID, "…")))

    def test_unknown_field(self) -> None:
        """A field of a newer client is passed over."""
        self.assertEqual(Action("waves"), from_text(MARK + '{"k":"me","text":"waves","mood":"good"}'))

    def test_damaged(self) -> None:
        """What is of a known kind and breaks its rules is damaged."""
        for text in DAMAGED:
            self.assertIs(Finding.DAMAGED, self.failureOf(text), text[:60])

    def test_newer(self) -> None:
        """What names no kind that is known is of a newer client."""
        for text in NEWER:
            self.assertIs(Finding.NEWER, self.failureOf(text), text[:60])

    def test_no_text(self) -> None:
        """Bytes that are no UTF-8 are damaged, or with the mark before them of a newer client."""
        for plain, finding in ((b"\xff", Finding.DAMAGED), (b"\x00\xff", Finding.NEWER)):
            self.assertIs(finding, self.assertRaises(Undecryptable, checked_text, plain).finding)

    def failureOf(self, text: str) -> Finding:
        """What is found of a text that is none."""
        return self.assertRaises(Undecryptable, from_text, text).finding


class MentionTests(SynchronousTestCase):
    """Tests for whom a text calls."""

    NAMES = frozenset({"bob", "carol", "carol.c", "d-1"})

    def test_table(self) -> None:
        """A name behind @ anywhere, or before a colon or comma at the start, calls whom it names, if they are there."""
        for text, called in (
            ("hello", ()),
            ("bob", ()),
            ("@bob", ("bob",)),
            ("hello @BOB!", ("bob",)),
            ("bob: hello", ("bob",)),
            ("Bob, hello", ("bob",)),
            ("@bob: hello", ("bob",)),
            ("bob:hello", ()),
            ("hello bob: no", ()),
            ("mail bob@carol or x@bob.org", ()),
            ("(@bob)", ("bob",)),
            ("@bob's", ("bob",)),
            ("@bobby", ()),
            ("@carol.", ("carol",)),
            ("@carol.c.", ("carol.c",)),
            ("@carol.d", ()),
            ("@d-1", ("d-1",)),
            ("@bob @carol @bob", ("bob", "carol")),
            ("@dave", ()),
            ("@", ()),
        ):
            self.assertEqual(called, mentions_in(text, self.NAMES), text)

    def test_most(self) -> None:
        """One message calls no more than so many, so that it can be sealed."""
        names = [f"u{n}" for n in range(2 * MAX_MENTIONS)]
        called = mentions_in(" ".join(f"@{name}" for name in names), frozenset(names))
        self.assertEqual(tuple(names[:MAX_MENTIONS]), called)
        self.assertEqual(called, getattr(from_text(to_text(Text("x", mentions=called))), "mentions", ()))


class ChainTests(SynchronousTestCase):
    """Tests for messages that cannot be shown among others."""

    def test_counted(self) -> None:
        """A message of a newer client is not shown and leaves no gap in its author's chain; a damaged one is missed."""
        alice, bob = Person("alice", 0), Person("bob", 1)
        talk = Conversation(Room(alice, bob).log, alice, bob)
        reader = reader_of(bob, talk)
        found = []
        for text in ("one", NEWER[4], "two", DAMAGED[1], "three"):
            verdict, shown = read(bob, reader, talk.deliver(talk.say(alice, text), bob), talk)
            hidden = None if verdict.hidden is None else verdict.hidden.finding
            found.append((shown, hidden, [flag.finding for flag in verdict.flags], len(verdict.alarms)))
        self.assertEqual(
            [
                ("one", None, [], 0),
                ("", Finding.NEWER, [], 0),
                ("two", None, [], 0),
                ("", Finding.DAMAGED, [], 0),
                ("three", None, [Finding.MISSING], 0),
            ],
            found,
        )
