"""Tests for /links and /open."""

from __future__ import annotations

import sys
from typing import Any

from securechat.client.slash.links import LISTED
from securechat.errors import Exit
from tests.doubles import ChatCase, ChatClient


class LinkCase(ChatCase):
    """Tests of a client that is in a room, whose programs are only noted."""

    def setUp(self) -> None:
        super().setUp()
        self.started: list[tuple[Any, ...]] = []
        self.reactor.spawnProcess = lambda *a, **k: self.started.append(a)  # type: ignore[attr-defined]  # it has none
        self.alice = self.registered("alice", "general")
        self.open_with(sys.executable)

    def open_with(self, command: str) -> None:
        """Sets the preference."""
        self.alice.core.preferences.choose("open-command", command)

    def said(self, *texts: str) -> ChatClient:
        """Alice, after she said this."""
        for text in texts:
            self.alice.type(text)
        return self.alice


class LinksTests(LinkCase):
    """Tests for /links."""

    def test_newest_first(self) -> None:
        """Numbered from the newest on, each once, with the host as it is."""
        client = self.said(
            "a https://a.example/1 and https://a.example/2.", "none", "b https://\u00fc.example", "https://a.example/1"
        )
        self.assertEqual(
            ["  1  https://a.example/1", "  2  https://xn--tda.example", "  3  https://a.example/2"],
            client.type("/links"),
        )

    def test_disguised(self) -> None:
        """Where a link seems to lead elsewhere it is said."""
        client = self.said("https://bank.example@elsewhere.example/x")
        self.assertEqual(
            ["  1  https://bank.example@elsewhere.example/x  (leads to elsewhere.example)"], client.type("/links")
        )

    def test_not_too_many(self) -> None:
        """Of many links the newest are listed."""
        client = self.said(" ".join(f"https://a.example/{n}" for n in range(LISTED + 5)))
        shown = client.type("/links")
        self.assertEqual((LISTED, f"  1  https://a.example/{LISTED + 4}"), (len(shown), shown[0]))

    def test_none(self) -> None:
        """Where there is none it is said."""
        self.assertEqual(["There is no link in what is here of general."], self.said("hi").type("/links"))

    def test_ignored(self) -> None:
        """Of people who are ignored nothing is listed."""
        self.registered("bob", "general").type("https://bob.example")
        self.settle()
        self.assertEqual(["  1  https://bob.example"], self.alice.type("/links")[-1:])
        self.alice.core.attention.ignored.add("bob")
        self.assertEqual(["There is no link in what is here of general."], self.alice.type("/links"))


class OpenTests(LinkCase):
    """Tests for /open."""

    def test_opens(self) -> None:
        """The whole link is said, then given to the program as one word; before that nothing was opened."""
        client = self.said("https://a.example/x?a=b&c=$HOME")
        client.type("/links")
        self.assertEqual([], self.started)
        self.assertEqual(["https://a.example/x?a=b&c=$HOME"], client.type("/open 1"))
        self.assertEqual((sys.executable, [sys.executable, "https://a.example/x?a=b&c=$HOME"]), self.started[0][1:3])

    def test_words_of_the_preference(self) -> None:
        """The preference may have arguments of its own."""
        self.open_with(f"{sys.executable} --new 'a b'")
        client = self.said("https://a.example")
        client.type("/links")
        client.type("/open 1")
        self.assertEqual([sys.executable, "--new", "a b", "https://a.example"], self.started[0][2])

    def test_numbers_stay(self) -> None:
        """A link that comes meanwhile does not take the number of one that was listed."""
        client = self.said("https://a.example")
        client.type("/links")
        self.said("https://elsewhere.example")
        self.assertEqual(["https://a.example"], client.type("/open 1"))

    def test_not_listed(self) -> None:
        """Any other number opens nothing, and says what is possible."""
        client = self.said("https://a.example https://b.example")
        client.type("/links")
        for number in ("0", "3", "-1", "x", "01", "\u00b2", "9" * 5000):
            self.assertEqual(Exit.FIXABLE, client.exit(f"/open {number}"))
            self.assertEqual(
                ["! /open takes a number of the list, 1 to 2. /links shows a new one."], client.view.take()
            )
        self.assertEqual([], self.started)

    def test_no_list_of_another(self) -> None:
        """What was listed for one account is not there for the next."""
        client = self.said("https://a.example")
        client.type("/links")
        client.type("/logout")
        self.assertEqual((), client.core.listed_links)

    def test_invitation(self) -> None:
        """A line of this program is no page: it is said what to do with it."""
        client = self.said("securechat://chat.example:5000/#id=x")
        client.type("/links")
        self.assertEqual(
            [
                "securechat://chat.example:5000/#id=x",
                "! This leads into SecureChat, not to a page: start securechat with it, in quotes.",
            ],
            client.type("/open 1"),
        )

    def test_program_missing(self) -> None:
        """Where there is no such program the link stays on the screen, and it is said what to do."""
        self.open_with("no-such-program")
        client = self.said("https://a.example")
        client.type("/links")
        self.assertEqual(
            [
                "https://a.example",
                "* The link was not opened: no-such-program is not on this machine."
                " Copy it by hand, or /set open-command to a browser.",
            ],
            client.type("/open 1"),
        )

    def test_open_quote(self) -> None:
        """A preference that cannot be split is said to be one."""
        self.open_with("x 'y")
        client = self.said("https://a.example")
        client.type("/links")
        self.assertEqual(Exit.FIXABLE, client.exit("/open 1"))
        self.assertIn("a quote that is not closed", client.view.take()[-1])
