"""What a message says: its kinds, inside the encrypted text, and their bytes.

A plain text is its own bytes, as whoever knows no kinds sends it. Every other kind is a byte 0 and one JSON object that
names it: ``\\0{"k":"edit","of":"<id>","text":"…"}``. A kind that is not known comes from a newer client; so does a
field, which is passed over. A message is named by its id, which commits to its author, its place and its text
(`envelope.message_id`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, dataclass_transform

from msgspec import Meta, MsgspecError, Struct, ValidationError
from msgspec.json import Decoder, encode

from securechat.crypto.findings import Finding
from securechat.crypto.signed import Hex256, HexOrNone, User
from securechat.errors import Undecryptable

MARK: Final = "\x00"  # begins every body that is not a plain text; no text may hold it
MAX_MENTIONS: Final = 50  # names that one message may call
Mentions = Annotated[tuple[User, ...], Meta(max_length=MAX_MENTIONS)]
Emoji = Annotated[str, Meta(min_length=1, max_length=32)]


@dataclass_transform(frozen_default=True)
class _Kind(Struct, frozen=True, omit_defaults=True, tag_field="k"):
    """Base of all kinds."""


class Text(_Kind, tag="text"):
    """A text, perhaps in answer to the message `reply`, and whom it calls."""

    text: str
    reply: HexOrNone = ""
    mentions: Mentions = ()


class Action(_Kind, tag="me"):
    """What its author does: ``/me waves``."""

    text: str
    mentions: Mentions = ()


class Code(_Kind, tag="code"):
    """Lines to be shown as they are; `lang` says what they are written in, or nothing."""

    text: str
    lang: Annotated[str, Meta(max_length=32)] = ""


class Edit(_Kind, tag="edit"):
    """Another text for the message `of`. It counts only by the author of that message."""

    of: Hex256
    text: str
    mentions: Mentions = ()


class Delete(_Kind, tag="delete"):
    """Its author takes back the message `of`."""

    of: Hex256


class React(_Kind, tag="react"):
    """An emoji to the message `to`; `off` takes it back."""

    to: Hex256
    emoji: Emoji
    off: bool = False


Said = Text | Action | Code
"""Kinds that stand for themselves."""
Change = Edit | Delete | React
"""Kinds that change how another message is shown."""
Body = Said | Change

_DECODER: Final[Decoder[Any]] = Decoder(Text | Action | Code | Edit | Delete | React)
_KNOWN: Final = frozenset({"text", "me", "code", "edit", "delete", "react"})


class _Tag(Struct):
    """Which kind a body says it is."""

    k: str


_TAG: Final = Decoder(_Tag)


def to_text(body: Body) -> str:
    """A body as the text that is sealed."""
    if isinstance(body, Text) and not (body.reply or body.mentions):
        return body.text
    return MARK + encode(body).decode("utf-8")


def checked_text(plain: bytes) -> str:
    """The sealed text of these bytes, which is of a known kind. Raises Undecryptable."""
    try:
        text = plain.decode("utf-8")
    except UnicodeDecodeError:
        raise Undecryptable(Finding.NEWER if plain.startswith(b"\x00") else Finding.DAMAGED) from None
    from_text(text)
    return text


def from_text(text: str) -> Body:
    """What a sealed text says.

    Raises:
        Undecryptable: made by a newer client, or damaged.
    """
    if not text.startswith(MARK):
        if MARK in text:
            raise Undecryptable(Finding.DAMAGED)
        return Text(text)
    sealed = text[1:].encode("utf-8", "surrogatepass")
    try:
        body: Body = _DECODER.decode(sealed)
    except (MsgspecError, ValueError, RecursionError):
        raise Undecryptable(Finding.DAMAGED if _kind(sealed) in _KNOWN else Finding.NEWER) from None
    said = body.text if isinstance(body, (Text, Action, Code, Edit)) else ""
    if MARK in said or (isinstance(body, React) and not _is_emoji(body.emoji)):
        raise Undecryptable(Finding.DAMAGED)
    return body


def _kind(sealed: bytes) -> str:
    try:
        return _TAG.decode(sealed).k
    except (MsgspecError, ValidationError, ValueError, RecursionError):
        return ""


def _is_emoji(text: str) -> bool:
    """Whether it may stand for a reaction: one short word, whatever is in it."""
    return not any(c.isspace() for c in text)


_CALLED: Final = re.compile(r"(?<![\w@.-])@([a-z0-9][a-z0-9_.-]{0,31})", re.IGNORECASE)
_ADDRESSED: Final = re.compile(r"\A@?([a-z0-9][a-z0-9_.-]{0,31})[:,]\s", re.IGNORECASE)


def mentions_in(text: str, names: frozenset[str]) -> tuple[str, ...]:
    """Whom a text calls: ``@bob`` anywhere, and ``bob:`` or ``bob,`` at its start, where `names` has them."""
    said = [match[1] for match in _CALLED.finditer(text)]
    said += [match[1] for match in [_ADDRESSED.match(text)] if match]
    found: dict[str, None] = {}
    for word in said:
        name = word.lower()
        # A name may hold dots: of "@bob." the longest known beginning counts.
        while name and name not in names:
            name = name[:-1] if name[-1] in "._-" else ""
        if name:
            found[name] = None
    return tuple(found)[:MAX_MENTIONS]
