"""Tests for links in texts."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.links import ascii_host, disguised, find_links, host_of, osc8


class FindTests(SynchronousTestCase):
    """Tests for `find_links`."""

    def assertFound(self, text: str, *links: str) -> None:
        """The text has exactly these links."""
        self.assertEqual(list(links), find_links(text), text)

    def test_schemes(self) -> None:
        """The web, and this program's own lines; nothing else is a link."""
        self.assertFound("see http://a.example and https://b.example/x", "http://a.example", "https://b.example/x")
        line = "securechat://chat.example:5000/#id=abc&invite=def"
        self.assertFound(f"come: '{line}'", line)
        self.assertFound("securechat+insecure://localhost:5000", "securechat+insecure://localhost:5000")
        self.assertFound("javascript:alert(1) file:///etc/passwd mailto:a@b.c ftp://x.example www.x.example")
        self.assertFound("xhttp://a.example")

    def test_scheme_in_capitals(self) -> None:
        """Capitals in scheme and host mean nothing; in a path they do."""
        self.assertFound("HTTPS://A.Example/Path", "https://a.example/Path")

    def test_punctuation_behind(self) -> None:
        """What ends a sentence does not belong to a link."""
        for end in (".", ",", "!", "?!", "...", ":", ";", "'", '"', ">", "…", "»", "*", "\n", ".)"):
            self.assertFound(f"at https://a.example/x{end}", "https://a.example/x")
            self.assertFound(f"at https://a.example{end}", "https://a.example")

    def test_brackets(self) -> None:
        """A bracket belongs to the link that opens it."""
        self.assertFound("(https://a.example/x)", "https://a.example/x")
        self.assertFound("https://a.example/Foo_(bar)", "https://a.example/Foo_(bar)")
        self.assertFound("(https://a.example/Foo_(bar)).", "https://a.example/Foo_(bar)")
        self.assertFound("[text](https://a.example/x[1])", "https://a.example/x[1]")
        self.assertFound("<https://a.example/x>y", "https://a.example/x")
        self.assertFound("`https://a.example/x`", "https://a.example/x")

    def test_query_and_fragment(self) -> None:
        """They belong to it, directly behind the host too."""
        self.assertFound("https://a.example?q=1&r=2#top", "https://a.example?q=1&r=2#top")

    def test_each_once(self) -> None:
        """A link that is said twice is listed once, in the place of the first."""
        self.assertFound(
            "https://b.example https://a.example https://b.example", "https://b.example", "https://a.example"
        )

    def test_other_alphabets(self) -> None:
        """A host that only looks like another one is shown as what it is; a path stays readable."""
        self.assertFound("https://b\u00fccher.example/\u00fc", "https://xn--bcher-kva.example/\u00fc")
        self.assertFound("https://\u0430pple.example", "https://xn--pple-43d.example")
        self.assertFound("https://\uff41pple\u3002example:8080", "https://apple.example:8080")

    def test_no_hosts(self) -> None:
        """What is no host makes no link; nor do letters that would become punctuation."""
        for host in ("", "...", "a\u2100b.example", "a\u2044b.example", "x" * 64 + ".example", "a." * 130 + "example",
                     "exa$mple", "\u202e.example", "a%2fb.example"):  # fmt: skip
            self.assertFound(f"https://{host}/x")

    def test_addresses(self) -> None:
        """Numbers and ports are hosts too."""
        self.assertFound("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x")
        self.assertFound("http://[::1]:8080/x", "http://[::1]:8080/x")

    def test_long_and_hostile(self) -> None:
        """A long text takes no longer than its length: nothing is looked at again and again."""
        for text in ("http://" * 20_000, "https://a.example/" + "(" * 100_000, "https://a.example/" + ")" * 100_000,
                     "https://a.example/" + "." * 100_000, "https://" + "\u00fc" * 50_000, "@" * 100_000):  # fmt: skip
            start = time.process_time()
            find_links(text)
            self.assertLess(time.process_time() - start, 2.0, text[:20])

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.text(max_size=40), st.text(max_size=20))
    def test_fuzz(self, before: str, after: str) -> None:
        """Whatever stands around: a link has no blank, its host is ASCII, and finding it again changes nothing."""
        for link in find_links(f"{before} https://{before}{after} https://a.example/{after}"):
            self.assertFalse(any(c.isspace() for c in link))
            self.assertTrue(host_of(link).isascii())
            self.assertEqual([link], find_links(link))


class HostTests(SynchronousTestCase):
    """Tests for where a link leads."""

    def test_host(self) -> None:
        """The host alone, without user, port and path."""
        for link, host in (
            ("https://a.example", "a.example"),
            ("https://a.example:443/x@y", "a.example"),
            ("https://bank.example@elsewhere.example/x", "elsewhere.example"),
            ("http://[::1]:8080/x", "[::1]"),
            ("http://[::1]", "[::1]"),
        ):
            self.assertEqual(host, host_of(link))

    def test_disguised(self) -> None:
        """A name before the host is told, an @ elsewhere is none."""
        self.assertTrue(disguised("https://bank.example@elsewhere.example/x"))
        self.assertFalse(disguised("https://a.example/@bob?x=a@b#@"))

    def test_ascii(self) -> None:
        """A letter of its own keeps its code; nothing is made of it that it is not."""
        self.assertEqual("xn--fa-hia.example", ascii_host("fa\u00df.example"))
        self.assertEqual("", ascii_host("a\u2100b.example"))


class HyperlinkTests(SynchronousTestCase):
    """Tests for `osc8`."""

    def test_around(self) -> None:
        """It begins and ends what is clicked; the same link has the same name, another one another."""
        before, behind = osc8("https://a.example/x")
        self.assertEqual("\x1b]8;id=988cacd2;https://a.example/x\x1b\\", before)
        self.assertEqual("\x1b]8;;\x1b\\", behind)
        self.assertNotEqual(before.partition(";https")[0], osc8("https://a.example/y")[0].partition(";https")[0])

    def test_beyond_ascii(self) -> None:
        """What the terminal is given is ASCII, and what was encoded is not encoded again."""
        self.assertIn(";https://a.example/%C3%BC%20\x1b", osc8("https://a.example/\u00fc%20")[0])

    def test_refused(self) -> None:
        """Another scheme, and anything that a terminal obeys."""
        for url in (
            "javascript:alert(1)",
            "securechat://a.example",
            "https://a.example/\x1b\\",
            "https://a.example/\x07",
            "https://a.example/\x9c",
            "https://a.example/ x",
        ):
            self.assertRaises(ValueError, osc8, url)
