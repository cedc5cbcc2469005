"""Tests for what its user may choose, and the file that keeps it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.commands import Misfit, Text, Typed, parse
from securechat.client.preferences import PREFERENCES, BadPreference, Preferences, preference
from tests.doubles import ChatCase


class TableTests(SynchronousTestCase):
    """Tests for the table of preferences."""

    def test_table(self) -> None:
        """Each has a name that can be typed, a line about it, and a default that may be chosen."""
        self.assertEqual(len(PREFERENCES), len({row.name for row in PREFERENCES}))
        for row in PREFERENCES:
            self.assertRegex(row.name, r"^[a-z-]+$")
            self.assertTrue(row.about)
            self.assertEqual(row.default, row.checked(row.default))

    def test_values(self) -> None:
        """Values are taken as people write them, and kept in one way."""
        for name, typed, kept in (
            ("color", " ALWAYS ", "always"),
            ("notify", "bell, OSC9,bell", "bell,osc9"),
            ("cache", "007", "7"),
            ("cache", "100000", "100000"),
            ("notify-command", "  notify-send 'a b' ", "notify-send 'a b'"),
            ("notify-command", "", ""),
            ("typing", "On", "on"),
        ):
            self.assertEqual(kept, preference(name).checked(typed))
        self.assertIs(preference("notify-text"), preference("Notify_Text"))

    def test_errors(self) -> None:
        """A wrong value is refused with what may stand there."""
        for name, typed, said in (
            ("color", "red", "color cannot be red. Choose auto, always, never."),
            ("color", "", "color cannot be empty. Choose auto, always, never."),
            ("notify", "bell,horn", "notify cannot be horn. Choose bell, osc9, osc777, osc99, command, none (several"),
            ("cache", "-1", "cache is a whole number from 0 to 100000."),
            ("cache", "100001", "cache is a whole number from 0 to 100000."),
            ("cache", "1.5", "cache is a whole number from 0 to 100000."),
            ("open-command", "a\x1bb", "open-command cannot hold control characters."),
            ("open-command", "a\nb", "open-command cannot hold control characters."),
            ("open-command", "a\udc80b", "open-command cannot hold control characters."),
        ):
            error = self.assertRaises(BadPreference, preference(name).checked, typed)
            self.assertIn(said, str(error))
        self.assertIn("/set lists them all.", str(self.assertRaises(BadPreference, preference, "colour")))


class FileTests(SynchronousTestCase):
    """Tests for the file."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.path = self.directory / "client.toml"

    def given(self, text: str) -> Preferences:
        """What is read of a file of this text."""
        self.path.write_text(text, encoding="utf-8")
        return Preferences(self.path)

    def again(self) -> Preferences:
        """What is read of it now, without complaints."""
        found = Preferences(self.path)
        self.assertEqual([], found.problems)
        return found

    def test_none(self) -> None:
        """Without a file the defaults count, and none is made by reading; without a path nothing is written."""
        chosen = Preferences(self.path)
        self.assertEqual([row.default for row in PREFERENCES], [chosen[row.name] for row in PREFERENCES])
        self.assertFalse(self.path.exists())
        memory = Preferences()
        memory.choose("color", "never")
        memory.alias("hi", "/send hi")
        self.assertEqual(("never", {"hi": "/send hi"}), (memory["color"], memory.aliases))

    def test_there_and_back(self) -> None:
        """Every preference may be chosen twice, and is there at the next start; the file is its owner's alone."""
        for _ in range(2):
            for row in PREFERENCES:
                value = row.choices[-1] if row.choices else "5" if row.number else 'say "hi" \\ bye'
                Preferences(self.path).choose(row.name, value)
                self.assertEqual(value, self.again()[row.name], row.name)
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)
        self.assertEqual(len(PREFERENCES), len(self.path.read_text().splitlines()))

    def test_all_else_stays(self) -> None:
        """Comments, order, unknown names and tables stay as they are; one line changes."""
        text = '# mine\ncolor = "never" # dark\n\n# loud\nnotify_text = true\nfuture = 5\n\n'
        text += '[alias]\n# greets\nhi = "/send hi"\n'
        chosen = self.given(text)
        self.assertEqual(("never", True), (chosen["color"], chosen.on("notify-text")))
        self.assertEqual([f"{self.path}: There is no setting future. /set lists them all."], chosen.problems)
        chosen.choose("notify-text", "off")
        self.assertEqual(text.replace("notify_text = true", 'notify-text = "off"'), self.path.read_text())
        chosen.choose("cache", "9")
        chosen.alias("bye", "/send bye")
        chosen.alias("hi", "")
        expected = text.replace("notify_text = true", 'notify-text = "off"').replace("[alias]", 'cache = "9"\n[alias]')
        self.assertEqual(expected.replace('hi = "/send hi"', '"bye" = "/send bye"'), self.path.read_text())

    def test_wrong_value(self) -> None:
        """A value that cannot be is named; all others count."""
        chosen = self.given('color = "red"\ncache = 12\nfold = false\nnotify = ["bell"]\n')
        self.assertEqual(("auto", "12", "off", "bell"), tuple(chosen[n] for n in ("color", "cache", "fold", "notify")))
        self.assertEqual(2, len(chosen.problems))
        self.assertIn("color cannot be red.", chosen.problems[0])

    def test_absurd(self) -> None:
        """Numbers of thousands of digits and brackets without end are said to be wrong, and all else counts."""
        for text in (f'cache = "{"9" * 5000}"\n', f"cache = 0x{'f' * 9000}\n"):
            chosen = self.given(f'{text}color = "never"\n')
            self.assertEqual(("64", "never", 1), (chosen["cache"], chosen["color"], len(chosen.problems)), text[:9])
        self.assertEqual(1, len(self.given(f"cache = {'[' * 5000}").problems))

    def test_broken(self) -> None:
        """A file that is none is named and left alone; what is chosen counts until the end, which is said."""
        for content in (b'color = "ne', b"\xff\xfe", b'color = "never"\ncolor = "never"\n', b"alias = 5\n[alias]\n"):
            self.path.write_bytes(content)
            chosen = Preferences(self.path)
            self.assertIn("is not read", chosen.problems[0])
            error = self.assertRaises(BadPreference, chosen.choose, "color", "always")
            self.assertIn("has to be mended by hand", str(error))
            self.assertEqual(("always", content), (chosen["color"], self.path.read_bytes()))

    def test_too_clever(self) -> None:
        """What one line cannot change is not broken by it."""
        for text in ('alias.hi = "/send hi"\n', 'alias = {hi = "/send hi"}\n', 'open-command = """\ncolor = 1\n"""\n'):
            chosen = self.given(text)
            for change, arguments in ((chosen.alias, ("bye", "/send bye")), (chosen.choose, ("color", "always"))):
                before = self.path.read_text()
                try:
                    change(*arguments)
                except BadPreference:
                    self.assertEqual(before, self.path.read_text())
                self.assertLessEqual(tomllib.loads(text).keys(), tomllib.loads(self.path.read_text()).keys())

    def test_unreadable(self) -> None:
        """A directory in its place is named, and nothing is lost but the keeping."""
        self.path.mkdir()
        chosen = Preferences(self.path)
        self.assertIn("is not read", chosen.problems[0])
        self.assertRaises(OSError, chosen.choose, "color", "always")
        self.assertEqual("always", chosen["color"])

    def test_link(self) -> None:
        """Where the file is a link, as people who share their settings have it, the link stays."""
        real = self.directory / "dotfiles"
        real.mkdir()
        (real / "client.toml").write_text('color = "never"\n')
        self.path.symlink_to(real / "client.toml")
        Preferences(self.path).choose("color", "always")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual('color = "always"\n', (real / "client.toml").read_text())
        self.assertEqual(["client.toml"], os.listdir(real))

    def test_over(self) -> None:
        """What a flag says counts above the file, until something else is chosen; the file keeps what it has."""
        self.path.write_text('color = "never"\n')
        chosen = Preferences(self.path, {"color": "ALWAYS", "ui": "plain"})
        self.assertEqual(("always", "plain"), (chosen["color"], chosen["ui"]))
        self.assertEqual("never", self.again()["color"])
        chosen.choose("color", "auto")
        self.assertEqual(("auto", "auto"), (chosen["color"], self.again()["color"]))
        self.assertRaises(BadPreference, Preferences, self.path, {"color": "red"})


class AliasTests(SynchronousTestCase):
    """Tests for commands of its user's own."""

    def test_there_and_back(self) -> None:
        """Whatever an alias stands for is there at the next start, or refused."""
        path = Path(self.mktemp())
        chosen = Preferences(path)
        texts = {"a": "/send a", "b-2": 'quo"te \\n', "c": "two\nlines\t", "é": "x"}
        for name, text in texts.items():
            chosen.alias(name, text)
            chosen.alias(name, text)
        self.assertEqual(texts, Preferences(path).aliases)
        self.assertRaises(BadPreference, chosen.alias, "d", "a\udc80")
        chosen.alias("a", "")
        chosen.alias("nothing", "")
        self.assertEqual(set(texts) - {"a"}, set(Preferences(path).aliases))

    def test_parse(self) -> None:
        """An alias takes what is typed behind it along; it hides no command, and stands for no other alias."""
        aliases = {"hi": "/send hello", "j": "/leave", "shout": "HEY", "again": "/hi", "empty": ""}
        found = parse("/hi  all of you", aliases)
        self.assertIsInstance(found, Typed)
        self.assertEqual(("send", ("hello all of you",)), (found.command.name, found.arguments))  # type: ignore[union-attr]
        self.assertEqual(found, parse("/HI all of you", aliases))
        self.assertEqual("join", parse("/j ops", aliases).command.name)  # type: ignore[union-attr]
        self.assertEqual(Text("HEY you"), parse("/shout you", aliases))
        self.assertIsInstance(parse("/again", aliases), Misfit)
        self.assertIsNone(parse("/empty", aliases))

    def test_no_secret(self) -> None:
        """What stands for a command that takes a password is not run: what is typed behind it would show."""
        for text in ("/login alice", " /login", "/passwd", "/keys import file", "/register"):
            found = parse("/enter secret1 secret2", {"enter": text})
            self.assertIsInstance(found, Misfit, text)
            self.assertIn("An alias cannot stand for", found.problem)  # type: ignore[union-attr]


class CommandTests(ChatCase):
    """Tests for /set and /alias."""

    def test_set(self) -> None:
        """All are listed, one is explained, one is changed."""
        client = self.client()
        lines = client.type("/set")
        self.assertEqual(len(PREFERENCES) + 1, len(lines))
        self.assertIn("open-command = (nothing)", lines)
        self.assertEqual(
            ["color = auto: colours; NO_COLOR turns them off too. One of auto, always, never."],
            client.type("/set color"),
        )
        self.assertEqual(["color = never"], client.type("/set COLOR never"))
        self.assertEqual(["notify = bell,osc9"], client.type("/set notify bell, osc9"))
        self.assertEqual(["open-command = xdg-open %s"], client.type("/set open-command xdg-open %s"))
        self.assertEqual(["open-command = (nothing)"], client.type('/set open-command ""'))

    def test_alias(self) -> None:
        """One is made, listed, used and ended."""
        client = self.client()
        self.assertEqual(["There are no aliases yet. /alias NAME TEXT makes one."], client.type("/alias"))
        self.assertEqual(["/c = /set color"], client.type("/alias /C /set color"))
        self.assertEqual(["/c = /set color"], client.type("/alias"))
        self.assertEqual(["color = always"], client.type("/c always"))
        self.assertEqual(["/c = /set color"], client.type("/alias c"))
        self.assertEqual(["/c is gone."], client.type("/unalias c"))
        self.assertIn("There is no command /c.", client.type("/c always")[0])
        for line in ("/alias x  /login bob", "/alias x /passwd"):
            self.assertIn("An alias cannot stand for", client.type(line)[0])
