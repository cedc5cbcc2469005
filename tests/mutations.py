"""Good requests with one thing wrong, for tests of what a server does with them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

# What may stand in the place of any value, as JSON.
ODD_VALUES: Final = (
    b"null", b"true", b"-1", b"0", b"1.5", b"1e400", b"-1e400", b"NaN", b"Infinity", b"9007199254740992",
    b"9" * 400, b'""', b'"x"', b"[]", b"{}", b"[[]]", b'{"":""}', b'"' + b"x" * 5000 + b'"',
    b'"\\u0000"', b'"\\ud800"', b'"\\u202e\\u2066"', b'"\\u001b[2J"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"',
    b"[" * 50 + b"]" * 50, b'{"a":' * 50 + b"1" + b"}" * 50, b"[" * 100_000, b"\x00", b"",
)  # fmt: skip

_KEYS: Final = (b'"x"', b'""', b'"\\u0000"', b'"\\ud800"', b'"cmd"', b'"id"', b'"' + b"k" * 999 + b'"', b"1", b"\xff")

Fields = Mapping[str, Any]


def joined(fields: Mapping[bytes, bytes]) -> bytes:
    """An object of keys and values that are JSON already, or should be."""
    return b"{" + b",".join(b"%b:%b" % pair for pair in fields.items()) + b"}"


def as_json(fields: Fields) -> dict[bytes, bytes]:
    """The same fields, each as JSON."""
    return {json.dumps(key).encode(): json.dumps(value).encode() for key, value in fields.items()}


def odd_value(fields: Fields, dice: random.Random) -> bytes:
    """One field has an odd value."""
    parts = as_json(fields)
    parts[dice.choice(list(parts))] = dice.choice(ODD_VALUES)
    return joined(parts)


def odd_inside(fields: Fields, dice: random.Random) -> bytes:
    """A value somewhere inside is odd; where nothing is inside anything, one of the fields."""
    mark = "here it is"
    changed = json.loads(json.dumps(fields))
    holders = [changed]
    for holder in holders:
        values = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in values if isinstance(value, dict | list) and value]
    holder = dice.choice(holders[1:] or holders)
    holder[dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))] = mark
    return json.dumps(changed).encode().replace(json.dumps(mark).encode(), dice.choice(ODD_VALUES))


def missing(fields: Fields, dice: random.Random) -> bytes:
    """One field is missing."""
    parts = as_json(fields)
    del parts[dice.choice(list(parts))]
    return joined(parts)


def extra(fields: Fields, dice: random.Random) -> bytes:
    """One field more, whose key or value is odd."""
    return joined({**as_json(fields), dice.choice(_KEYS): dice.choice(ODD_VALUES)})


def double(fields: Fields, dice: random.Random) -> bytes:
    """One field stands there twice."""
    key, value = dice.choice(list(as_json(fields).items()))
    return joined(as_json(fields))[:-1] + b",%b:%b}" % (key, dice.choice((value, *ODD_VALUES)))


def other_command(fields: Fields, dice: random.Random) -> bytes:
    """The fields of one command under the name of another, or of none."""
    names = ("ping", "login", "register", "send", "act", "sync", "history", "Ping", "__class__", "", "\ud800", "x" * 99)
    return json.dumps({**fields, "cmd": dice.choice(names)}).encode()


def flipped(fields: Fields, dice: random.Random) -> bytes:
    """A few bytes are others, are gone, or stand there twice."""
    line = bytearray(json.dumps(fields).encode())
    for _ in range(dice.randint(1, 3)):
        at, count = dice.randrange(len(line)), dice.randint(0, 9)
        line[at : at + count] = dice.choice((dice.randbytes(count), b"", bytes(line[at : at + count]) * 2))
    return bytes(line)


MUTATIONS: Final[tuple[Callable[[Fields, random.Random], bytes], ...]] = (
    odd_value, odd_inside, missing, extra, double, other_command, flipped,
)  # fmt: skip


def mutated(fields: Fields, dice: random.Random) -> bytes:
    """A line, without its newline, that is the good request `fields` but for one thing."""
    line = dice.choice(MUTATIONS)(fields, dice)
    return line.replace(b"\n", b" ")
