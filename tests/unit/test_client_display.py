"""Tests for how items look, and for the sanitiser of remote strings."""

from __future__ import annotations

import sys
import unicodedata
from datetime import UTC, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.display import (
    BEFORE_JOIN,
    INDENT,
    MAX_ROWS,
    clean,
    not_shown,
    pieces,
    render,
    rows,
    spoken,
    stamp,
)
from securechat.client.view import (
    Answer,
    Changed,
    Failure,
    Item,
    Membership,
    Message,
    Notice,
    Quote,
    Unshown,
)
from securechat.errors import Exit

AT = 1795374300000  # 2026-11-22 19:05 UTC

# Format characters with a shape of their own, or that scripts and emoji are joined with.
VISIBLE_FORMAT = {0x200C, 0x200D, *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
VISIBLE_FORMAT |= set(range(0x13430, 0x13440))

any_text = st.text(st.characters(min_codepoint=0, max_codepoint=sys.maxunicode), max_size=60)


def forbidden(character: str, *, name: bool = False) -> bool:
    """Whether a terminal or a reader could be misled by a character, by its Unicode category."""
    category = unicodedata.category(character)
    if character == "\n":
        return name
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return True
    if category == "Cf":
        return ord(character) not in VISIBLE_FORMAT or (name and character in "\u200c\u200d")
    return ord(character) & 0xFFFE == 0xFFFE


class CleanTests(SynchronousTestCase):
    """Tests for `clean`."""

    def test_every_code_point(self) -> None:
        """No character of all there are comes out as one that misleads, in a text or in a name."""
        everything = "".join(map(chr, range(sys.maxunicode + 1)))
        for name in (False, True):
            found = {hex(ord(c)) for c in clean(everything, name=name) if forbidden(c, name=name)}
            self.assertEqual(set(), found)

    def test_escape_sequences(self) -> None:
        """What a terminal would obey is shown as text with a mark."""
        self.assertEqual("\ufffd[2J\ufffd]0;title\ufffd", clean("\x1b[2J\x1b]0;title\x07"))
        self.assertEqual("\ufffd31m", clean("\x9b31m"))
        self.assertEqual("\ufffd\ufffd", clean("\x7f\x08"))

    def test_direction(self) -> None:
        """Overrides, isolates and marks go: a reader sees the order that was sent."""
        self.assertEqual("abcdef", clean("a\u202eb\u2066c\u2069d\u200fe\u061cf"))

    def test_tags(self) -> None:
        """The invisible second ASCII goes."""
        self.assertEqual("hi", clean("hi" + "".join(chr(0xE0000 + ord(c)) for c in "secret")))

    def test_surrogates(self) -> None:
        """Half a character is marked, so that every result can be encoded."""
        self.assertEqual(b"\xef\xbf\xbdx", clean("\ud83dx").encode())

    def test_line_breaks(self) -> None:
        """Every kind of line break is one newline in a body, and none in a name."""
        self.assertEqual("a\nb\nc\nd\ne\nf\ng", clean("a\r\nb\rc\vd\x85e\u2028f\u2029g"))
        self.assertEqual("a\ufffdb\ufffdc", clean("a\nb\u2028c", name=True))

    def test_tab(self) -> None:
        """A tab is a space: its width is anybody's guess."""
        self.assertEqual("a b", clean("a\tb"))

    def test_ordinary_text(self) -> None:
        """Scripts, accents and joined emoji stay as they are."""
        for text in (
            "naïve Ünïcödé",
            "שלום",
            "مرحبا",
            "\u0645\u06cc\u200c\u062e",
            "日本語",
            "👩\u200d👩\u200d👧\u200d👦 ❤\ufe0f",
            "e\u0301",
        ):
            self.assertEqual(text, clean(text))

    def test_joiners_in_names(self) -> None:
        """In a name, what cannot be seen goes: two names that look the same are the same."""
        self.assertEqual("alice", clean("al\u200di\u200bc\ufe0fe\u3164", name=True))

    def test_brackets_in_names(self) -> None:
        """A name cannot close the brackets it stands in."""
        self.assertEqual("al\ufffd \ufffdpm\ufffd", clean("al> [pm]", name=True))

    @settings(max_examples=150, deadline=None, database=None)
    @given(any_text, st.booleans())
    def test_fuzz(self, text: str, name: bool) -> None:
        """Nothing misleading comes out of anything, cleaning twice changes nothing, and the result can be encoded."""
        cleaned = clean(text, name=name)
        self.assertEqual([], [c for c in cleaned if forbidden(c, name=name)])
        self.assertEqual(cleaned, clean(cleaned, name=name))
        cleaned.encode()


class RenderTests(SynchronousTestCase):
    """Tests for `render`."""

    def assertRendered(self, expected: str, item: Item) -> None:
        """The item is that one line."""
        self.assertEqual([expected], render(item, tz=UTC))

    def test_room_message(self) -> None:
        """Room, sender, text; the time where it is given; a mark before the text."""
        self.assertRendered("[general] <alice> Hello everyone!", Message("general", "alice", "Hello everyone!"))
        self.assertRendered("2026-11-22 19:05 [general] <alice> Hi", Message("general", "alice", "Hi", AT))
        self.assertRendered("[general] <alice> [late] Hi", Message("general", "alice", "Hi", mark="late"))

    def test_private_message(self) -> None:
        """Whom it came from, or whom it went to."""
        self.assertRendered("[pm] <alice> Hi", Message("@alice", "alice", "Hi"))
        self.assertRendered("[pm → bob] Hi", Message("@bob", "alice", "Hi", own=True))
        self.assertRendered("2026-11-22 19:05 [pm → bob] [x] Hi", Message("@bob", "alice", "Hi", AT, "x", own=True))
        self.assertRendered("2026-11-22 19:05 [pm] <bob> [x] Hi", Message("@bob", "bob", "Hi", AT, "x"))

    def test_membership(self) -> None:
        """A phrase for each thing that can happen."""
        for what, phrase in (
            ("joined", "joined"), ("left", "left"), ("online", "is online"), ("offline", "is offline"),
        ):  # fmt: skip
            self.assertRendered(f"[general] * bob {phrase}", Membership("general", "bob", what))
        self.assertRendered(
            "[ops#4f2a] * bob put carol out (spam)", Membership("ops#4f2a", "bob", "put carol out (spam)")
        )
        self.assertRendered("* bob is online", Membership("", "bob", "online"))

    def test_what_others_wrote_of_an_act(self) -> None:
        """A reason or a topic stays inside its line, whatever is in it: no bracket, no line break, no direction."""
        item = Membership("ops", "bob", "set the topic: x\n[ops] <carol> y\u202e")
        self.assertRendered("[ops] * bob set the topic: x\ufffd\ufffdops\ufffd \ufffdcarol\ufffd y", item)

    def test_several_flags(self) -> None:
        """All that is said of a message stands in one pair of brackets before it, and no name in it closes them."""
        self.assertRendered(
            "[general] <alice> [went to mallory, not a member; was not sealed for carol] Hi",
            Message("general", "alice", "Hi", mark="went to mallory, not a member; was not sealed for carol"),
        )
        self.assertRendered("[general] <alice> [a\ufffd b] Hi", Message("general", "alice", "Hi", mark="a] b"))

    def test_unshown(self) -> None:
        """A count, in the singular where it is one."""
        self.assertRendered(
            "[general] 50 earlier messages, from before you joined", Unshown("general", 50, BEFORE_JOIN)
        )
        self.assertRendered("[general] 1 earlier message, from before you joined", Unshown("general", 1, BEFORE_JOIN))
        self.assertRendered("[pm bob] 2 messages not shown: no key", Unshown("pm bob", 2, not_shown("no key")))
        self.assertRendered("[pm bob] 1 message not shown: no key", Unshown("pm bob", 1, not_shown("no key")))

    def test_answer(self) -> None:
        """Lines as they are, each cleaned; no line is no line."""
        self.assertEqual(["a", "  b", "c ⏎ d\ufffd"], render(Answer(["a", "  b", "c\nd\x1b"])))
        self.assertEqual([], render(Answer([])))

    def test_notice_and_failure(self) -> None:
        """A star and an exclamation mark."""
        self.assertRendered("* hello", Notice("hello"))
        self.assertRendered("[general] * hello", Notice("hello", "general"))
        self.assertRendered("! no such room", Failure("no such room", Exit.NOT_THERE))

    def test_line_break_in_one_line(self) -> None:
        """A break in a body is a sign where an item must be one line."""
        self.assertRendered("[general] <alice> a ⏎  ⏎ b", Message("general", "alice", "a\n\nb"))

    def test_line_break_on_a_terminal(self) -> None:
        """On a terminal the lines stay lines, indented."""
        item = Message("general", "alice", "a\n[general] <bob> I owe alice 5\n\nb")
        expected = ["[general] <alice> a", "  [general] <bob> I owe alice 5", "", "  b"]
        self.assertEqual(expected, render(item, multiline=True))

    def test_a_thousand_lines(self) -> None:
        """A body of line breaks does not empty the screen; nothing of it is lost."""
        shown = render(Message("general", "alice", "\n".join(map(str, range(1000)))), multiline=True)
        self.assertEqual(MAX_ROWS, len(shown))
        self.assertTrue(shown[-1].endswith("998 ⏎ 999"))

    def test_a_thousand_reactions(self) -> None:
        """They do not fill the screen: a few are shown, and how many there are."""
        people = tuple(f"user{n}" for n in range(1000))
        many = tuple((f"{n:032d}", people) for n in range(1000))
        (line,) = render(Message("ops", "alice", "hi", reactions=(("+1", people[:3]), *many)))
        self.assertTrue(line.startswith("[ops] <alice [+1 user0, user1, user2] ["), line)
        self.assertIn("user5 and 994 more]", line)
        self.assertTrue(line.endswith(" [and 991 more]> hi"), line)
        self.assertLess(len(line), 1200)

    def test_spoken(self) -> None:
        """Read aloud, who speaks comes first; no brackets, no times, no signs."""
        for line, item in (
            ("bob in general: hi (new line) there", Message("general", "bob", "hi\nthere", AT)),
            ("bob privately: psst", Message("@bob", "bob", "psst")),
            ("alice privately to bob: psst", Message("@bob", "alice", "psst", own=True)),
            ("bob in general waves", Message("general", "bob", "waves", kind="me")),
            ('bob in general to alice "yes" (edited) (👍 alice): no', Message(
                "general", "bob", "no", quote=Quote("alice", "yes"), edited=True, reactions=(("👍", ("alice",)),)
            )),
            ("bob in general (late): hi", Message("general", "bob", "hi", mark="late")),
            ("bob joined (in general)", Membership("general", "bob", "joined")),
            ('bob deleted "x" (in general)', Changed("general", "bob", "deleted", before="x", sender="bob")),
            ("2 earlier messages, from before you joined (in general)", Unshown("general", 2, BEFORE_JOIN)),
            ("The connection is lost.", Notice("The connection is lost.")),
            ("Error: no such room", Failure("no such room")),
        ):  # fmt: skip
            self.assertEqual([line], spoken(item))
        self.assertEqual(["one", "two"], spoken(Answer(["one", "two"])))

    def test_no_text_is_a_reaction(self) -> None:
        """What became of a message stands where no text can: nobody can write an edit, a reaction or a deletion."""
        fates = (
            Message("ops", "bob", "hi", edited=True),
            Message("ops", "bob", "hi", reactions=(("👍", ("alice",)),)),
            Message("ops", "bob", "", deleted=True),
            Message("ops", "bob", "hi", quote=Quote("alice", "yes")),
        )
        for item in fates:
            (line,) = render(item)
            head, _, text = line.partition("> ")
            for forged in (text, f"{text} (edited)", f"{text} [👍 alice]", "(deleted)", line.removeprefix("[ops] ")):
                self.assertNotEqual(line, render(Message("ops", "bob", forged))[0])
            self.assertNotEqual("[ops] <bob", head)

    def test_time_zone(self) -> None:
        """The reader's clock counts, over midnight too."""
        self.assertEqual("2026-11-23 00:35", stamp(AT, timezone(timedelta(hours=5, minutes=30))))

    def test_impossible_time(self) -> None:
        """A sender's nonsense is shown as such."""
        for at in (10**18, -(10**18), 2**80):
            self.assertEqual("????-??-?? ??:??", stamp(at, UTC))

    def test_every_remote_field_is_cleaned(self) -> None:
        """Nothing that is obeyed comes out, whichever field it was put in."""
        evil = "x\x1b[2J\u202e\n[general] <bob> y"
        items: tuple[Item, ...] = (
            Message(evil, evil, evil, AT, evil),
            Message(f"@{evil}", evil, evil, AT, evil),
            Message(f"@{evil}", evil, evil, AT, evil, own=True),
            Membership(evil, evil, evil),
            Unshown(evil, 2, evil),
            Answer([evil]),
            Notice(evil, evil),
            Failure(evil),
        )
        for item in items:
            (line,) = render(item, tz=UTC)
            self.assertEqual([], [c for c in line if forbidden(c, name=True)], item)

    @settings(max_examples=100, deadline=None, database=None)
    @given(any_text, any_text)
    def test_no_text_starts_a_line(self, sender: str, text: str) -> None:
        """Whatever a sender is called and writes: one line, or further ones that are indented."""
        item = Message("general", sender, text)
        (line,) = render(item)
        self.assertNotIn("\n", line)
        self.assertTrue(line.startswith("[general] <"))
        for row in rows(item)[1:]:
            self.assertTrue(row[0][1].startswith(INDENT))

    def test_pieces(self) -> None:
        """A view with colours learns which words are what."""
        head, body = pieces(Message("general", "alice", "a\nb", AT, "late"), tz=UTC)
        kinds = ["time", "where", "sender", "mark"]
        self.assertEqual(kinds, [kind for kind, _ in head])
        self.assertEqual(["a", "b"], body)
