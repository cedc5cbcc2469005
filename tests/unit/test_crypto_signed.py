"""Tests for signed objects: exactly one spelling of exactly the fields, and nothing else."""

from __future__ import annotations

import json
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto import signed
from securechat.crypto.envelope import Header, parse_header
from securechat.crypto.identity import DeviceCertificate, DeviceList
from securechat.crypto.roomlog import AnyEvent
from securechat.crypto.signed import Count, Form, HexOrNone, Key32, Number, Signed, Version, to_bytes
from securechat.errors import InvalidKey
from securechat.wire.names import NAME_PATTERN
from tests.cast import Person, Room


class Note(Signed, tag="test/note"):
    """One field of each kind."""

    n: Count
    s: Annotated[str, Meta(max_length=40)]
    k: Key32
    items: tuple[Number, ...]
    dl: Version


class Other(Signed, tag="test/other"):
    """Another kind, with the same fields in part."""

    n: Count


FORM = Form(Note)
KEY = p.b64(bytes(range(32)))  # ends in "=": its last character has bits to spare
GOOD = b'{"t":"test/note","n":7,"s":"x","k":"%b","items":[1,2],"dl":[3,"%b"]}' % (KEY.encode(), b"ab" * 32)
MEANT = Note(n=7, s="x", k=bytes(range(32)), items=(1, 2), dl=(3, "ab" * 32))


class FormCase(SynchronousTestCase):
    """What these tests share."""

    def refuse(self, *documents: bytes | str) -> None:
        """Each of these is refused, and in few words."""
        for document in documents:
            data = document.encode() if isinstance(document, str) else document
            error = self.assertRaises(InvalidKey, FORM.parse, data)
            self.assertLess(len(str(error)), 80)

    def swapped(self, old: str, *new: str) -> list[str]:
        """The good object, with a piece of it exchanged for each of these."""
        text = GOOD.decode()
        self.assertEqual(1, text.count(old))
        return [text.replace(old, piece) for piece in new]


class ParseTests(FormCase):
    """Tests for `Form.parse`."""

    def test_good(self) -> None:
        """What `to_bytes` writes is the canonical form, and means the same again."""
        self.assertEqual(GOOD, to_bytes(MEANT))
        self.assertEqual(MEANT, FORM.parse(GOOD))

    def test_numbers(self) -> None:
        """No floats in any spelling, no constants, no bool for int, no sign, no zeros in front, no other type."""
        wrong = (
            "1.0", "7.0", "7e0", "70e-1", "1e3", "1e999", "-1e999", "1E400", "NaN", "nan", "-NaN", "Infinity",
            "-Infinity", "true", "false", "null", "-0", "-1", "-7", "+7", "07", "00", "0x7", "7_0", '"7"', "[7]", "{}",
            "", "7 7", "\u0667",
        )  # fmt: skip
        self.refuse(*self.swapped('"n":7', *(f'"n":{number}' for number in wrong)))
        self.refuse(*self.swapped("[1,2]", *(f"[1,{number}]" for number in wrong)))
        self.refuse(*self.swapped('[3,"', *(f'[{number},"' for number in wrong)))

    def test_range(self) -> None:
        """Up to 2^53 - 1, which every JSON reader holds exactly, and not one more, however many digits."""
        for number in (0, 1, 2**53 - 1):
            (text,) = self.swapped('"n":7', f'"n":{number}')
            self.assertEqual(number, FORM.parse(text.encode()).n)
        beyond = (str(2**53), str(2**53 + 1), str(2**63), str(2**64), str(2**64 + 7), "9" * 400, "9" * 5000)
        self.refuse(*self.swapped('"n":7', *(f'"n":{number}' for number in beyond)))
        self.refuse(*self.swapped('"n":7', *(f'"n":-{number}' for number in beyond)))

    def test_at_least_one(self) -> None:
        """A number that counts from 1 is never 0."""
        self.refuse(*self.swapped("[1,2]", "[1,0]"), *self.swapped('[3,"', '[0,"'))

    def test_fields(self) -> None:
        """Exactly its fields: each one left out, and one more, are refused."""
        fields = json.loads(GOOD)
        for name in fields:
            self.refuse(json.dumps({key: fields[key] for key in fields if key != name}, separators=(",", ":")))
        self.refuse(json.dumps(fields | {"more": 1}, separators=(",", ":")), "{}")

    def test_order(self) -> None:
        """Fields in another order are another spelling, wherever the tag stands."""
        fields = json.loads(GOOD)
        names = list(fields)
        for at in range(1, len(names)):
            turned = names[at:] + names[:at]
            self.refuse(json.dumps({name: fields[name] for name in turned}, separators=(",", ":")))

    def test_duplicates(self) -> None:
        """A field given twice is refused: equal or not, before or behind, and by an escape."""
        self.refuse(*self.swapped('"n":7', '"n":7,"n":7', '"n":8,"n":7', '"n":7,"n":8', '"n":7,"\\u006e":7'))
        self.refuse(*self.swapped('{"t":"test/note"', '{"t":"test/note","t":"test/note"', '{"t":"x","t":"test/note"'))

    def test_tag(self) -> None:
        """Another tag, none, or one of another type is refused."""
        self.refuse(*self.swapped('"test/note"', '"test/other"', '"test/Note"', '""', "null", "1", "[]"))
        self.refuse(*self.swapped('"t":"test/note",', ""))

    def test_tag_tells_kinds_apart(self) -> None:
        """A form of several kinds gives the one that the tag names, with its own fields."""
        form = Form(Note | Other)
        self.assertEqual([MEANT, Other(n=7)], [form.parse(GOOD), form.parse(b'{"t":"test/other","n":7}')])
        self.assertRaises(InvalidKey, form.parse, b'{"t":"test/note","n":7}')
        self.assertRaises(InvalidKey, form.parse, GOOD.replace(b"note", b"other"))

    def test_blanks(self) -> None:
        """No white space anywhere."""
        text = GOOD.decode()
        for blank in (" ", "\n", "\t", "\r"):
            self.refuse(blank + text, text + blank)
            self.refuse(*(text.replace(mark, mark + blank, 1) for mark in ("{", ":", ",", "[")))

    def test_escapes(self) -> None:
        """A character has one spelling: no escape where none is needed, and none but the shortest."""
        self.refuse(*self.swapped('"s":"x"', '"s":"\\u0078"', '"s":"\\/"', '"s":"\\u000a"', '"s":"\\u001F"'))
        self.refuse(*self.swapped('"n":', '"\\u006e":'), *self.swapped("test/note", "test\\/note"))
        for escape, meant in (("\\n", "\n"), ("\\u001f", "\x1f"), ('\\"', '"'), ("\\\\", "\\"), ("/", "/")):
            (text,) = self.swapped('"s":"x"', f'"s":"{escape}"')
            self.assertEqual(meant, FORM.parse(text.encode()).s)

    def test_ascii_only(self) -> None:
        """Nothing beyond ASCII, neither as it is nor by an escape; so no lone surrogates."""
        for word in ("é", "\u2028", "\U0001f600", "\\u00e9", "\\ud83d\\ude00", "\\ud800", "\\udc00\\ud800", "\\udfff"):
            self.refuse(*self.swapped('"s":"x"', f'"s":"{word}"'))
        self.refuse(GOOD.replace(b'"x"', b'"\xff"'), GOOD.replace(b'"x"', b'"\xed\xa0\x80"'))

    def test_encodings(self) -> None:
        """No byte order mark, no UTF-16 or UTF-32."""
        text = GOOD.decode()
        self.refuse(*(text.encode(name) for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")))

    def test_control_characters(self) -> None:
        """A raw control character inside a string is refused, as JSON says; so is NUL anywhere."""
        self.refuse(*self.swapped('"s":"x"', '"s":"a\nb"', '"s":"\0"'), GOOD + b"\0", b"\0" + GOOD)

    def test_base64(self) -> None:
        """Bytes have one spelling: stray bits, missing or surplus padding, the other alphabet, another length."""
        stray = KEY[:-2] + "9="  # "8=" with a bit set that no byte has
        self.assertEqual("8=", KEY[-2:])
        wrong = (
            stray, KEY[:-1], KEY + "=", KEY[:-2], KEY + "\\n", "\\n" + KEY, KEY[:4] + " " + KEY[4:], "", "=",
            KEY.replace("A", "-", 1), KEY.replace("A", "_", 1), KEY.replace("A", "@", 1), p.b64(bytes(31)),
            p.b64(bytes(33)), KEY + KEY,
        )  # fmt: skip
        self.refuse(*self.swapped(KEY, *wrong))
        self.refuse(*self.swapped(f'"{KEY}"', "null", "1", "[]", "[1,2]"))

    def test_hex(self) -> None:
        """A hash has 64 lower-case digits."""
        good = "ab" * 32
        for wrong in ("", good[:-1], good + "0", good.upper(), good + "\\n", "g" * 64, " " + good[1:]):
            self.refuse(*self.swapped(good, wrong))

    def test_depth(self) -> None:
        """What nests deep is refused, however deep, and without an end of the stack."""
        self.refuse(*self.swapped("[1,2]", "[[1,2]]", "[1,[2]]"))
        self.refuse(b"[" * 16_000, b'{"t":' * 3000, b"[" * 8000 + b"]" * 8000)
        deep = Form(Any, limit=10**7)
        for data in (b"[" * 10**6, b"[" * 10**6 + b"]" * 10**6, b'{"t":' * 10**6):
            self.assertRaises(InvalidKey, deep.parse, data)

    def test_size(self) -> None:
        """An object beyond its limit is refused before it is looked at; one at the limit is not."""
        self.assertEqual(MEANT, Form(Note, limit=len(GOOD)).parse(GOOD))
        self.assertRaises(InvalidKey, Form(Note, limit=len(GOOD) - 1).parse, GOOD)
        (huge,) = self.swapped("[1,2]", "[" + ",".join("1" * 9000) + "]")
        self.assertGreater(len(huge), signed.MAX_OBJECT)
        self.refuse(huge, "9" * 10**7, b" " * 10**7)

    def test_not_objects(self) -> None:
        """Other JSON, no JSON, and more than one value are refused."""
        self.refuse(b"", b" ", b"[]", b'"x"', b"1", b"null", GOOD + GOOD, GOOD + b"x", GOOD[:-1], GOOD[1:], b"{" + GOOD)
        self.refuse(GOOD.replace(b'"', b"'"), GOOD[:-1] + b",}", GOOD.replace(b"2]", b"2,]"), GOOD + b"//")

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """A good object with some bytes changed is refused, or is the one spelling of what it means."""
        text = bytearray(GOOD)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text) - 1))
            piece = data.draw(st.sampled_from((b"", b"0", b"9", b'"', b",", b" ", b"-", b"1.0", b"\\u0030", b"\xc3")))
            text[at : at + data.draw(st.integers(0, 2))] = piece
        try:
            meant = FORM.parse(bytes(text))
        except InvalidKey:
            return
        self.assertEqual(bytes(text), to_bytes(meant))
        self.assertEqual(list(json.loads(GOOD)), list(json.loads(text)))


class NameTests(SynchronousTestCase):
    """Tests for the patterns of fields."""

    def test_users_are_those_of_the_wire(self) -> None:
        """A user's name in a signed object is what the packets take for one."""
        self.assertEqual(NAME_PATTERN, signed.USER_PATTERN)

    def test_patterns_end_at_the_end(self) -> None:
        """A line feed behind is no part of a name, a hash or a server's id."""
        for kind, good in (
            (signed.User, "alice"), (signed.ServerId, "s" * 43), (signed.Hex128, "a" * 32), (signed.Hex256, "a" * 64),
            (HexOrNone, ""), (HexOrNone, "a" * 64),
        ):  # fmt: skip
            form = Form(tuple[kind])  # type: ignore[valid-type]
            self.assertEqual((good,), form.parse(json.dumps([good]).encode()))
            for wrong in (good + "\n", good + "a" * 65, "\n" + good, "é" + good[1:]):
                self.assertRaises(InvalidKey, form.parse, json.dumps([wrong]).encode())


class KindTests(SynchronousTestCase):
    """What each signed object of the protocol is."""

    def test_tags_are_apart(self) -> None:
        """Every kind has a tag of its own, which comes first: none can be taken for another."""
        kinds = [Header, DeviceCertificate, DeviceList, *AnyEvent.__args__]  # type: ignore[attr-defined]
        tags = [kind.__struct_config__.tag for kind in kinds]
        self.assertEqual(15, len(set(tags)))
        self.assertEqual({"t"}, {kind.__struct_config__.tag_field for kind in kinds})
        self.assertEqual([True] * 15, [str(tag).startswith("sc/") for tag in tags])

    def test_one_is_no_other(self) -> None:
        """A certificate, a list and an event are refused where a header is asked for, and the other way round."""
        alice = Person("alice")
        event = Room(alice).events[0].data
        for data in (alice.certificate().cert, alice.bundle().list, event):
            self.assertRaises(InvalidKey, parse_header, data)
        for kind, data in (
            (DeviceCertificate, alice.bundle().list),
            (DeviceList, event),
            (AnyEvent, alice.bundle().list),
        ):
            self.assertRaises(InvalidKey, Form(kind).parse, data)
