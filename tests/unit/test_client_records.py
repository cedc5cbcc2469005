"""Tests for the objects that scripts read, and for what docs/scripting.md says of them."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat import scripting
from securechat.client.records import line_of, record_of, rfc3339
from securechat.client.view import Answer, Changed, Failure, Item, Membership, Message, Notice, Unshown
from securechat.crypto.findings import Finding
from securechat.errors import Exit

NOW = 1_700_000_000_000
DOCUMENT = Path(scripting.__file__).parent.parent / "docs" / "scripting.md"
FULL = Message(
    "ops", "bob", "hi", mark="late", kind="code", lang="sh", mention=True, edited=True, deleted=True,
    reactions=(("👍", ("alice",)),), seq=7, ts=NOW, id="a" * 64, reply="b" * 64, author="c",
)  # fmt: skip
EXAMPLES: dict[str, Item] = {
    "message": FULL,
    "edit": Changed("ops", "bob", "edited", "new", seq=7, id="a" * 64, ts=NOW),
    "delete": Changed("ops", "bob", "deleted", seq=7, id="a" * 64, ts=NOW),
    "reaction": Changed("ops", "bob", "reacted", "👍", seq=7, id="a" * 64, ts=NOW),
    "member": Membership("ops", "bob", "joined"),
    "presence": Membership("ops", "bob", "offline"),
    "undecryptable": Unshown("ops", 2, "message{s} not shown: damaged", 8, "DAMAGED", "bob"),
    "notice": Notice("Connected again."),
    "error": Failure("No.", Exit.NOT_THERE, "not_member"),
}


def record(item: Item) -> dict[str, Any]:
    """An item as an object, after its way through a line."""
    found = record_of(item, now_ms=NOW, trust=lambda user, author: f"{user} {author}")
    assert found is not None
    parsed: dict[str, Any] = json.loads(line_of(found))
    return parsed


class RecordTests(SynchronousTestCase):
    """Tests for `record_of` and `line_of`."""

    def test_message(self) -> None:
        """A message, whole."""
        expected = {
            "v": 1, "type": "message", "room": "ops", "private": False, "ts": "2023-11-14T22:13:20.000Z",
            "id": "a" * 64, "seq": 7, "sender": "bob", "text": "hi", "kind": "code", "trust": "bob c",
            "decrypted": True, "mention": True, "own": False, "lang": "sh", "reply_to": "b" * 64, "edited": True,
            "deleted": True, "warning": "late", "reactions": {"👍": ["alice"]},
        }  # fmt: skip
        self.assertEqual(expected, record(FULL))

    def test_private_and_own(self) -> None:
        """A private one says so; one's own needs nobody's trust."""
        found = record(Message("@bob", "alice", "hi", own=True))
        self.assertEqual((True, "own", True), (found["private"], found["trust"], found["own"]))
        self.assertNotIn("warning", found)

    def test_reaction_taken_back(self) -> None:
        """A reaction says whether it is taken back."""
        self.assertIs(False, record(EXAMPLES["reaction"])["off"])
        self.assertIs(True, record(Changed("ops", "bob", "unreacted", "👍"))["off"])

    def test_undecryptable(self) -> None:
        """What cannot be read has its reason, its number and its cure."""
        found = record(EXAMPLES["undecryptable"])
        self.assertEqual(("damaged", 2, 8), (found["reason"], found["count"], found["seq"]))
        self.assertEqual("messages not shown: damaged", found["text"])
        self.assertEqual("ask bob to send it again", found["cure"])

    def test_every_finding(self) -> None:
        """Each finding that hides a text has its reason, and a cure without a gap in it; none is one of its own."""
        for finding in Finding:
            found = record(Unshown("ops", 1, "x", 1, finding.name, "bob"))
            self.assertEqual(finding.name.lower(), found["reason"])
            self.assertNotIn("{", found["cure"])
        self.assertEqual(("other", ""), tuple(record(Unshown("ops", 1, "x"))[name] for name in ("reason", "cure")))

    def test_error(self) -> None:
        """A failure has the wire code, or a word for its status."""
        self.assertEqual(("not_member", 7), tuple(record(EXAMPLES["error"])[name] for name in ("code", "exit")))
        self.assertEqual("network", record(Failure("Away.", Exit.NETWORK))["code"])

    def test_answers_are_none(self) -> None:
        """What a typed command answers is nothing for a script."""
        self.assertIsNone(record_of(Answer(["Logged in."]), now_ms=NOW, trust=lambda user, author: ""))

    def test_line(self) -> None:
        """A line is printable ASCII, whatever the text; and it says that text exactly."""
        text = "a\n\x1b[2J\x7f\x9b\u202e\u2028🎉\ud800"
        record_ = record_of(Message("ops", "bob\x07", text), now_ms=NOW, trust=lambda user, author: "tofu")
        assert record_ is not None
        line = line_of(record_)
        self.assertTrue(line.endswith("}\n"))
        self.assertTrue(line[:-1].isascii() and line[:-1].isprintable(), line)
        self.assertEqual(text, json.loads(line)["text"])

    def test_times(self) -> None:
        """A time that no calendar has is null, not a fault."""
        self.assertEqual("2023-11-14T22:13:20.123Z", rfc3339(NOW + 123))
        self.assertIsNone(rfc3339(10**18))


class DocumentTests(SynchronousTestCase):
    """docs/scripting.md says what is so."""

    def setUp(self) -> None:
        self.text = DOCUMENT.read_text(encoding="utf-8")

    def fields(self, section: str) -> set[str]:
        """The fields in the first columns of the tables of a section."""
        found = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
        return {name for cell in found for name in re.findall(r"`(\w+)`", cell)}

    def test_objects(self) -> None:
        """Each type has its section with exactly its fields, and each section is a type's."""
        objects = self.text.partition("## The objects")[2].partition("\n## ")[0]
        common, *sections = re.split(r"^### ", objects, flags=re.MULTILINE)
        every, _, others = common.partition("and all but `error`")
        for section in sections:
            kind = section.partition("\n")[0].strip()
            documented = self.fields(every) | self.fields(section) | (set() if kind == "error" else self.fields(others))
            self.assertEqual(set(record(EXAMPLES[kind])), documented, kind)
            self.assertEqual(kind, record(EXAMPLES[kind])["type"])
        self.assertEqual(list(EXAMPLES), [section.partition("\n")[0].strip() for section in sections])

    def test_statuses(self) -> None:
        """Document and help have each exit status with the same words."""
        documented = re.findall(r"^\| (\d+) \| (.*) \|$", self.text, re.MULTILINE)
        helped = re.findall(r"^  (\d+) +(.*)$", scripting.STATUSES, re.MULTILINE)
        self.assertEqual([str(int(status)) for status in Exit], [number for number, _ in documented])
        self.assertEqual(documented, helped)

    def test_options(self) -> None:
        """Every option in the document and in README is one, and every option of the verbs is documented or helped."""
        readme = (DOCUMENT.parent.parent / "README.md").read_text(encoding="utf-8")
        for verb, parser in (("send", scripting.send_parser()), ("listen", scripting.listen_parser())):
            there = {option for action in _actions(parser) for option in action.option_strings}
            for line in re.findall(rf"securechat {verb} ([^|\n]*)", self.text + readme):
                options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line.partition("#")[0]))
                self.assertLessEqual(options, there, line)
            for action in _actions(parser):
                self.assertTrue(action.help, action.dest)

    def test_no_password_option(self) -> None:
        """No option takes a password itself."""
        for parser in (scripting.send_parser(), scripting.listen_parser()):
            self.assertFalse({"--password", "--pass"} & set(parser._option_string_actions))
            self.assertFalse(parser.allow_abbrev, "--password would be taken for --password-file")


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions
