"""Tests for the checks of /doctor, from facts to what is said; and that every cure can be typed as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from securechat.client import checkup, commands
from securechat.client.checkup import AccountFacts, Facts, FileFacts, Hidden, Result, Signs, State
from securechat.crypto.findings import Finding
from securechat.crypto.reading import Found

NOW: Final = 1_700_000_000_000
NOTHING_TO_DO: Final = {  # nobody lacks anything, or nothing can be done
    Finding.BEFORE_JOIN, Finding.LATE, Finding.EARLIER_IDENTITY, Finding.REVOKED_SINCE, Finding.NOT_TO,
}  # fmt: skip
ACCOUNT: Final = AccountFacts("alice", "d" * 32, 2, True, 3, 2, True, 4, 4)
GOOD: Final = Facts(
    NOW,
    "chat.example:12345",
    "1.0",
    1,
    online=True,
    signs=Signs(since=NOW / 1000, apart=100),
    pinned="id",
    server=("1.0", 1, ("one", "two")),
    users=("alice",),
    account=ACCOUNT,
    pins=(3, 1, ()),
    files=FileFacts("/data", 2048, 2**30, True),
    terminal="TERM=xterm",
)


def typed_in(text: str, *names: str) -> Iterator[str]:
    """The commands in a text, each with what belongs to it: a name, or a word of the command's own."""
    for found in re.finditer(r"(?<!\S)/([a-z-]+)(?: (@?[\w#-]+))?", text):
        command, word = commands.find(found[1]), found[2] or ""
        choices = "" if command is None or not command.kinds else command.kinds[0]
        belongs = word.removeprefix("@") in names or (choices.startswith("=") and word in choices[1:].split("|"))
        yield f"/{found[1]} {word}" if belongs else f"/{found[1]}"


class CureTests(SynchronousTestCase):
    """The cures of the findings."""

    def cures(self) -> Iterator[tuple[Finding, str]]:
        """Each, as others and as its author are told."""
        for finding in Finding:
            found = Found(finding, "bob", 2)
            yield finding, found.cure_for("alice")
            yield finding, found.cure_for("bob")

    def test_every_finding_has_one(self) -> None:
        """All but those where there is nothing to do."""
        lacking = {finding for finding, cure in self.cures() if not cure}
        self.assertEqual(NOTHING_TO_DO, lacking)

    def test_can_be_typed(self) -> None:
        """Every command in them is one, with what it needs."""
        typed = [command for _, cure in self.cures() for command in typed_in(cure, "bob")]
        self.assertIn("/verify bob", typed)
        self.assertIn("/backup fetch", typed)
        misfits = [line for line in typed if not isinstance(commands.parse(line), commands.Typed)]
        self.assertEqual([], misfits)

    def test_own(self) -> None:
        """Nobody is told to ask themselves, nor by their name in the third person."""
        for finding in Finding:
            self.assertNotIn("bob", Found(finding, "bob").cure_for("bob"), finding.name)

    def test_own_only_for_its_author(self) -> None:
        """Others are told what helps them."""
        self.assertEqual("ask bob to send it again", Found(Finding.DAMAGED, "bob").cure_for("alice"))
        self.assertEqual("send it again if it matters", Found(Finding.DAMAGED, "bob").cure_for("bob"))


class CheckCase(SynchronousTestCase):
    """Facts that are all well, but for what a test changes."""

    def found(self, name: str, **changes: Any) -> list[Result]:
        """What the checks of a name find."""
        return [result for result in checkup.check(replace(GOOD, **changes)) if result.name == name]

    def bad(self, name: str, text: str, next: str, state: State = State.BAD, **changes: Any) -> None:
        """The first of a name is in this state, says that, and what to type, which can be typed."""
        first = self.found(name, **changes)[0]
        self.assertEqual((state, next), (first.state, first.next))
        self.assertIn(text, first.text)
        if next.startswith("/"):
            self.assertIsInstance(commands.parse(next), commands.Typed)

    def warns(self, name: str, text: str, next: str, **changes: Any) -> None:
        """The same, where it is only worth a word."""
        self.bad(name, text, next, State.WARN, **changes)


class CheckTests(CheckCase):
    """Each row of the table."""

    def test_all_well(self) -> None:
        """Nothing is marked, and the last line says so."""
        lines = checkup.report(checkup.check(GOOD))
        self.assertTrue(all(line.startswith("ok   ") for line in lines[:-1]), lines)
        self.assertEqual("All is well.", lines[-1])
        self.assertEqual(14, len(lines))

    def test_link(self) -> None:
        """Where the server is not reached, it is said why and when it is tried again."""
        down = Signs(failed=NOW / 1000, failure="the connection broke")
        self.bad("link", "the connection broke; the next attempt is in 8 s", "", online=False, signs=down, retry=7.6)
        self.bad("link", "not reached: Nothing listens. See", "", online=False, failure="Nothing listens.")
        self.assertIn("before that: the connection broke", self.found("link", signs=replace(down, since=1.0))[0].text)

    def test_identity(self) -> None:
        """Another server, and one that is not known."""
        self.bad("server", "another server answers", "/trust server", changed=True)
        self.warns("server", "not known here yet", "", pinned=None)

    def test_clock(self) -> None:
        """More than two minutes, in either direction; what is not known is said to be so."""
        self.warns("clock", "3 minutes behind the server's", "", signs=Signs(apart=200_000))
        self.warns("clock", "3 minutes ahead of the server's", "", signs=Signs(apart=-200_000))
        self.assertEqual([State.OK], [r.state for r in self.found("clock", signs=Signs(apart=-checkup.CLOCK))])
        self.assertIn("cannot be compared", self.found("clock", signs=Signs())[0].text)

    def test_versions(self) -> None:
        """What the server names; nothing without it; another protocol is bad."""
        self.assertIn("server 1.0, protocol 1, features one two", self.found("versions")[0].text)
        self.assertIn("not known without", self.found("versions", server=None)[0].text)
        self.bad("versions", "protocol 2", "", server=("2.0", 2, ()))

    def test_nobody_logged_in(self) -> None:
        """What is not looked at is said; the next step is the login of the account that is here."""
        self.warns("account", "nobody is logged in", "/login alice", account=None)
        self.warns("account", "nobody is logged in", "/help register", account=None, users=())
        names = {result.name for result in checkup.check(replace(GOOD, account=None))}
        self.assertEqual(set(), names & {"keys", "backup", "people", "outbox", "messages"})

    def test_device(self) -> None:
        """A device that was revoked."""
        self.bad("account", "this device was revoked", "/devices", account=replace(ACCOUNT, in_force=False))

    def test_keys(self) -> None:
        """The present key is not here; the backup is older than it was; under what it lies."""
        self.bad("keys", "not the present one", "/backup fetch", account=replace(ACCOUNT, key_here=False))
        self.bad("backup", "gives number 3, and had given 4", "/help keys", account=replace(ACCOUNT, stored_backup=3))
        self.assertIn("not asked", self.found("backup", account=replace(ACCOUNT, stored_backup=None))[0].text)
        self.assertIn("a recovery code", self.found("backup", account=replace(ACCOUNT, by_code=True))[0].text)

    def test_people(self) -> None:
        """Changed identities by name, and the rest of many by number."""
        self.bad("people", "identity of bob changed", "/verify bob", pins=(3, 1, ("bob",)))
        many = self.found("people", pins=(9, 0, tuple(f"user{n}" for n in range(8))))
        self.assertEqual(("so did those of 3 more", "/audit"), (many[5].text, many[5].next))

    def test_stopped(self) -> None:
        """Where nothing is sent, with why."""
        self.bad("alarms", "nothing is sent to ops: forked", "/continue ops", stopped=(("ops", ("forked",), False),))
        self.bad("alarms", "asks for the log again", "/continue @bob", stopped=(("@bob", (), True),))

    def test_outbox(self) -> None:
        """What waits for a word, and what goes by itself."""
        self.warns("outbox", "what you wrote to @bob waits", "/verify bob", held=(("@bob", "/verify bob"),))
        self.assertIn("2 messages on the way", self.found("outbox", waiting=2)[0].text)
        self.assertIn("1 message waiting for the", self.found("outbox", waiting=1, online=False)[0].text)

    def test_messages(self) -> None:
        """What is not shown, by reason and author, the most first, with its cure; not what is as it should be."""
        some = (
            Hidden("DAMAGED", "bob", 1, "ops"),
            Hidden("OTHER_KEY", "carol", 3, "ops"),
            Hidden("BEFORE_JOIN", "", 9, "ops"),
            Hidden("IDENTITY_CHANGED", "dave", 2, "@dave"),
        )
        found = self.found("messages", hidden=some, not_given=(("ops", 2),))
        self.assertEqual(
            ["/backup fetch", "/verify dave", "", "/history ops"],
            [result.next for result in found],
        )
        self.assertEqual(
            "1 message in ops not shown: damaged or sealed wrongly (ask bob to send it again)", found[2].text
        )
        self.assertIn("did not give 2 messages in ops", found[3].text)
        self.assertEqual([State.OK], [r.state for r in self.found("messages", hidden=some[2:3])])

    def test_every_reason(self) -> None:
        """Whatever hid a message, what is said of it can be typed."""
        for finding in Finding:
            if not finding.shown and finding.name not in checkup._NO_TROUBLE:
                (result,) = self.found("messages", hidden=(Hidden(finding.name, "bob", 1, "ops"),))
                self.assertIs(State.WARN, result.state)
                if result.next:
                    self.assertIsInstance(commands.parse(result.next), commands.Typed, result.next)
                    self.assertIn(result.next, result.text)

    def test_files(self) -> None:
        """Not to be written, little room, and open to others."""
        files = FileFacts("/data", 10, 2**30, True)
        self.bad("disk", "cannot be written", "chmod u+w /data", files=replace(files, writable=False))
        self.warns("disk", "only 50 MiB are free", "", files=replace(files, free=50 * 2**20))
        self.bad("disk", "only 1 MiB are free", "", files=replace(files, free=2**20))
        self.bad(
            "files", "may open /data/x and 1 more", "chmod -R go-rwx /data", files=replace(files, open=("/data/x", "y"))
        )
        self.assertEqual([], self.found("files", files=None))

    def test_terminal(self) -> None:
        """One that cannot show all text."""
        self.warns("terminal", "LC_ALL=C.UTF-8", "", utf8=False)


class ReportTests(CheckCase):
    """The lines, and the last of them."""

    def last(self, **changes: Any) -> str:
        """What the last line says."""
        return checkup.report(checkup.check(replace(GOOD, **changes)))[-1]

    def test_worst_first(self) -> None:
        """What is bad comes before what is only worth a word."""
        held = (("ops", "/continue ops"),)
        self.assertEqual("Type next: /continue ops", self.last(held=held))
        self.assertEqual("Type next: /verify bob", self.last(held=held, pins=(1, 0, ("bob",))))

    def test_no_command(self) -> None:
        """Where the worst is nothing that a command helps with, no lesser one is named."""
        said = "No command helps with that: what is marked BAD says what to do."
        self.assertEqual(said, self.last(online=False, held=(("ops", "/continue ops"),)))
        self.assertEqual(said.replace("BAD", "WARN"), self.last(utf8=False))

    def test_marked_in_words(self) -> None:
        """A line says its state, its name, and what to type."""
        lines = checkup.report(checkup.check(replace(GOOD, pins=(1, 0, ("bob",)))))
        self.assertIn("BAD  people: the identity of bob changed → /verify bob", lines)
