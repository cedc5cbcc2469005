"""Tests for the short names of emoji."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.display import clean
from securechat.client.emoji import MOST, complete, label, replace, table


class TableTests(SynchronousTestCase):
    """Tests for the table."""

    def test_as_people_type_them(self) -> None:
        """The names that everybody knows."""
        for name, emoji in (
            ("+1", "👍"), ("thumbsup", "👍"), ("-1", "👎"), ("tada", "🎉"), ("joy", "😂"), ("heart", "❤️"),
            ("rocket", "🚀"), ("eyes", "👀"), ("fire", "🔥"), ("100", "💯"), ("thinking", "🤔"), ("shrug", "🤷"),
            ("wave", "👋"), ("pray", "🙏"), ("check", "✅"), ("x", "❌"), ("bug", "🐛"), ("sob", "😭"),
            ("face_with_tears_of_joy", "😂"), ("party_popper", "🎉"),
        ):  # fmt: skip
            self.assertEqual(emoji, table()[name], name)

    def test_size(self) -> None:
        """Hundreds of them."""
        self.assertGreater(len(table()), 700)

    def test_all_can_be_typed_and_shown(self) -> None:
        """Each name is found by what is typed, and each emoji passes the filter of remote text as it is."""
        for name, emoji in table().items():
            self.assertEqual(emoji, replace(f":{name}:"), name)
            self.assertEqual(emoji, clean(emoji), name)
            self.assertFalse(any(c.isspace() for c in emoji), name)

    def test_pictures(self) -> None:
        """Each is two columns wide, or has the mark that makes it a picture: no letter is among them."""
        for name, emoji in table().items():
            self.assertTrue(get_cwidth(emoji) == 2 or emoji.endswith("\ufe0f"), name)
            self.assertFalse(any(c.isalnum() and c != "\u2139" for c in emoji), name)


class CompleteTests(SynchronousTestCase):
    """Tests for `complete` and `label`."""

    def test_begins_so(self) -> None:
        """Names that begin so, in any case."""
        self.assertEqual([":tada:"], complete(":tad"))
        self.assertEqual([":tada:"], complete(":TAD"))

    def test_a_part_begins_so(self) -> None:
        """Then those of which a later word does; what people type comes before what Unicode calls it."""
        found = complete(":heart")
        self.assertEqual(":heart:", found[0])
        self.assertIn(":broken_heart:", complete(":heart")[1:] + complete(":broken"))
        self.assertEqual(":rocket:", complete(":rocket")[0])

    def test_not_too_many(self) -> None:
        """However many there are, a few are offered."""
        self.assertEqual(MOST, len(complete(":fa")))

    def test_nothing(self) -> None:
        """Nothing for a word that is none, is too short, or has no match."""
        for typed in ("", ":", ":t", "tada", "::", ":)", ":-)", ":tada:", ": x", ":xyzzy"):
            self.assertEqual([], complete(typed), typed)

    def test_label(self) -> None:
        """A name is listed with its picture, whatever else is offered as it is."""
        self.assertEqual(":tada: 🎉", label(":tada:"))
        for other in ("bob:", "/join", ":xyzzy:", "", ":", "::"):
            self.assertEqual(other, label(other))


class ReplaceTests(SynchronousTestCase):
    """Tests for `replace`."""

    def test_known(self) -> None:
        """A known name becomes its emoji, wherever it stands by itself."""
        for text, sent in (
            (":tada:", "🎉"),
            ("done :tada:!", "done 🎉!"),
            (":tada::tada: :+1:", "🎉🎉 👍"),
            ("(:joy:)", "(😂)"),
            ("a\n:joy:\n", "a\n😂\n"),
        ):
            self.assertEqual(sent, replace(text))

    def test_left_alone(self) -> None:
        """Unknown names, names of code, times and addresses stay as they were typed."""
        for text in (
            "", ":", "::", ":xyzzy:", "std::tada::x", "12:100:30", "http://x:100:/", "a:tada:", ":tada:b", "x::tada:",
            ": tada :", ":Tada:", ":tada",
        ):  # fmt: skip
            self.assertEqual(text, replace(text))

    def test_known_beside_unknown(self) -> None:
        """Of a run of names the known ones are replaced."""
        self.assertEqual("🎉:xyzzy:", replace(":tada::xyzzy:"))

    def test_code(self) -> None:
        """Between backquotes nothing is replaced, also in a block that is not closed."""
        self.assertEqual("`:tada:` 🎉", replace("`:tada:` :tada:"))
        self.assertEqual("```\n:tada:\n```\n🎉", replace("```\n:tada:\n```\n:tada:"))
        self.assertEqual("🎉 ```\n:tada:", replace(":tada: ```\n:tada:"))
        self.assertEqual("a ` 🎉", replace("a ` :tada:"))

    @settings(max_examples=200, deadline=None, database=None)
    @given(st.lists(st.sampled_from([":tada:", ":", "`", "```", " ", "y", "\n"]), max_size=12).map("".join))
    def test_fuzz(self, text: str) -> None:
        """Nothing but names becomes anything else."""
        self.assertEqual(text, replace(text).replace("🎉", ":tada:"))
