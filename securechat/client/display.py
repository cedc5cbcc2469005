"""How items look as lines of text, and the one sanitiser every remote string passes before it is shown.

Pure: no terminal, no clock. A view with colours takes `pieces`, every other takes `render`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Final

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

NEWLINE: Final = " ⏎ "  # stands for a line break where an item must stay one line
_SPOKEN_BREAK: Final = " (new line) "
INDENT: Final = "  "  # every line of an item but its first starts with it: no remote text starts a line
MAX_ROWS: Final = 100  # of one item on a terminal: 16 KiB of line breaks must not empty the screen
MAX_REACTIONS: Final = 10  # different ones that are shown beside a message
MAX_REACTING: Final = 6  # people who are named beside each
REPLACEMENT: Final = "\ufffd"

# What Unshown.reason says after its count; ``{s}`` is where the plural goes.
BEFORE_JOIN: Final = "earlier message{s}, from before you joined"
_NOT_SHOWN: Final = "message{s} not shown: "

_PHRASES: Final = {"online": "is online", "offline": "is offline"}


def not_shown(reason: str) -> str:
    """The reason of an `Unshown` for messages that cannot be shown, such as those that do not decrypt."""
    return _NOT_SHOWN + reason


def _span(first: int, last: int | None = None) -> range:
    return range(first, (first if last is None else last) + 1)


def _text_table() -> dict[int, str]:
    table: dict[int, str] = {}
    # Seen by nobody, but a terminal obeys them or a reader is misled by them: gone without a trace.
    for gone in (
        _span(0xAD),  # soft hyphen
        _span(0x61C), _span(0x200E, 0x200F), _span(0x202A, 0x202E), _span(0x2066, 0x2069),  # direction
        _span(0x180E), _span(0x200B), _span(0x2060, 0x2065), _span(0xFEFF),  # zero width, joining nothing
        _span(0x206A, 0x206F), _span(0xFFF0, 0xFFFB),  # deprecated, reserved, interlinear annotation
        _span(0x1BCA0, 0x1BCA3), _span(0x1D173, 0x1D17A),  # shorthand and music formatting
        _span(0xE0000, 0xE007F),  # tags: a second, invisible ASCII
    ):  # fmt: skip
        table.update(dict.fromkeys(gone, ""))
    # A terminal acts on them, so they were put there on purpose or by damage: leave a mark.
    for marked in (_span(0, 0x1F), _span(0x7F, 0x9F), _span(0xD800, 0xDFFF), _span(0xFDD0, 0xFDEF)):
        table.update(dict.fromkeys(marked, REPLACEMENT))
    for plane in range(0x11):
        table.update(dict.fromkeys(_span(plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF), REPLACEMENT))
    table.update(dict.fromkeys(map(ord, "\r\v\f\x85\u2028\u2029"), "\n"))
    table[ord("\t")] = " "
    del table[ord("\n")]
    return table


def _name_table() -> dict[int, str]:
    table = {code: REPLACEMENT if shown == "\n" else shown for code, shown in _TEXT.items()}
    # Brackets mark where a name ends, and a name has one line.
    table.update(dict.fromkeys(map(ord, "\n<>[]"), REPLACEMENT))
    # Fit inside words and emoji, but in a name they only make two names look the same.
    for gone in (
        _span(0x34F), _span(0x115F, 0x1160), _span(0x17B4, 0x17B5), _span(0x180B, 0x180F),
        _span(0x200C, 0x200D), _span(0x3164), _span(0xFE00, 0xFE0F), _span(0xFFA0), _span(0xE0080, 0xE0FFF),
    ):  # fmt: skip
        table.update(dict.fromkeys(gone, ""))
    return table


_TEXT: Final = _text_table()
_NAME: Final = _name_table()


def clean(text: str, *, name: bool = False) -> str:
    """A remote string as it may be shown: no terminal obeys it, no reader is misled by what cannot be seen.

    Direction marks and other invisible characters are dropped, control characters and unpaired surrogates
    become U+FFFD, every kind of line break becomes ``\\n`` and a tab a space. The joiners of emoji and of
    scripts stay. Cleaning twice changes nothing.

    Args:
        text: as it came.
        name: for a user's, room's or file's name: line breaks, brackets and joiners go too.
    """
    if text.isascii() and text.isprintable() and not name:
        return text
    return text.replace("\r\n", "\n").translate(_NAME if name else _TEXT)


def stamp(at: int, tz: tzinfo | None = None) -> str:
    """``2026-11-22 19:05``, in `tz` or the machine's own time zone.

    Args:
        at: milliseconds since 1970. It is a sender's word: what no calendar has is shown as question marks.
        tz: for tests.
    """
    try:
        return datetime.fromtimestamp(at / 1000, tz).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return "????-??-?? ??:??"


Pieces = list[tuple[str, str]]
"""Kinds and texts. A kind is for a colour: time, where, sender, own, mention, mark, event, error, or nothing."""


def pieces(item: Item, *, tz: tzinfo | None = None, numbers: bool = False) -> tuple[Pieces, list[str]]:
    """An item's first words, cleaned, and its body as cleaned lines (at least one) to print behind them.

    A mark stands where a text of the sender's could imitate it. So marks may only ever warn, never vouch.
    """
    match item:
        case Message():
            return _message(item, tz, numbers=numbers)
        case Changed(where):
            head, text = [*_where(where), ("event", "* ")], _change(item)
        case Membership(room, user, what):
            phrase = _PHRASES.get(what) or clean(what, name=True)
            head, text = [*_where(room), ("event", f"* {clean(user, name=True)} {phrase}")], ""
        case Unshown(where, count, reason):
            head = [*_where(where)]
            text = f"{count} {reason.replace('{s}', '' if count == 1 else 's', 1)}"
        case Answer(lines):
            return [], [line.replace("\n", NEWLINE) for line in map(clean, lines)]
        case Notice(text, where):
            head = [*_where(where), ("event", "* ")]
        case Failure(text):
            head = [("error", "! ")]
    return head, clean(text).split("\n")


def spoken(item: Item) -> list[str]:
    """An item as lines to be read aloud: who, then where, then what; no times and no signs, line breaks in words."""
    head, body = pieces(item)
    if isinstance(item, Answer):
        return body
    text = _SPOKEN_BREAK.join(body)
    if isinstance(item, Message):
        return [f"{_speaker(item)}{' ' if item.kind == 'me' else ': '}{text}"]
    if isinstance(item, Failure):
        return [f"Error: {text}"]
    said = "".join(part for kind, part in head if kind != "where").removeprefix("* ") + text
    where = "".join(part for kind, part in head if kind == "where").strip("[] ")
    return [f"{said} (in {where})" if where else said]


def _speaker(item: Message) -> str:
    """Who says something, where, and what is to be said of it."""
    where, private = clean(item.where.removeprefix("@"), name=True), item.where.startswith("@")
    place = f" in {where}" if not private else f" privately to {where}" if item.own else " privately"
    beside = f"{'' if item.quote is None else _quoted(item.quote)}{_fate(item)}".replace("[", "(").replace("]", ")")
    mark = f" ({clean(item.mark, name=True)})" if item.mark else ""
    return f"{clean(item.sender, name=True)}{place}{beside}{mark}"


def _message(item: Message, tz: tzinfo | None, *, numbers: bool) -> tuple[Pieces, list[str]]:
    """A message. What it answers, and what became of it, stands in its author's brackets: there no text can be."""
    head = [*_time(item.at, tz)]
    if numbers and item.seq:
        head.append(("time", f"#{item.seq} "))
    beside = f"{'' if item.quote is None else _quoted(item.quote)}{_fate(item)}"
    private = item.where.startswith("@")
    if private and item.own:
        head.append(("where", f"[pm → {clean(item.where[1:], name=True)}{beside}] "))
    else:
        head += _where("pm" if private else item.where)
    if item.kind == "me":
        head.append(("event", "* "))
    if not (private and item.own):
        kind = "mention" if item.mention else "own" if item.own else "sender"
        head.append((kind, f"<{clean(item.sender, name=True)}{beside}> "))
    head += _mark(item.mark)
    body = [""] if item.deleted else clean(item.text).split("\n")
    if item.kind == "code" and not item.deleted:
        body.insert(0, f"code ({clean(item.lang, name=True)}):" if item.lang else "code:")
    return head, body


def _fate(item: Message) -> str:
    """What became of a message, and who reacted with what: the first of each, since anybody may send a thousand."""
    told, reactions = [" (deleted)" if item.deleted else " (edited)" if item.edited else ""], item.reactions
    for emoji, who in reactions[:MAX_REACTIONS]:
        more = f" and {len(who) - MAX_REACTING} more" if len(who) > MAX_REACTING else ""
        told.append(f" [{clean(emoji, name=True)} {', '.join(clean(u, name=True) for u in who[:MAX_REACTING])}{more}]")
    left = len(reactions) - MAX_REACTIONS
    return "".join(told) + (f" [and {left} more]" if left > 0 else "")


def _quoted(quote: Quote) -> str:
    if not quote.sender:
        return " to an earlier message"
    said = f' "{clean(quote.text, name=True)}"' if quote.text else "'s deleted message"
    return f" to {clean(quote.sender, name=True)}{said}"


def _change(item: Changed) -> str:
    """A sentence of what changed; the whole of a new text follows it."""
    before = f'"{clean(item.before, name=True)}"' if item.before else "an earlier message"
    whose = f"{clean(item.sender, name=True)}'s {before}" if item.sender not in ("", item.who) else before
    who = clean(item.who, name=True)
    match item.what:
        case "edited":
            return f"{who} changed {before}: {item.text}"
        case "deleted":
            return f"{who} deleted {before}"
        case "reacted":
            return f"{who} reacted {clean(item.text, name=True)} to {whose}"
    return f"{who} took back {clean(item.text, name=True)} from {whose}"


def _time(at: int | None, tz: tzinfo | None) -> Iterator[tuple[str, str]]:
    if at is not None:
        yield "time", f"{stamp(at, tz)} "


def _where(room: str) -> Iterator[tuple[str, str]]:
    if room:
        yield "where", f"[{clean(room, name=True)}] "


def _mark(mark: str) -> Iterator[tuple[str, str]]:
    if mark:
        yield "mark", f"[{clean(mark, name=True)}] "


def rows(item: Item, *, tz: tzinfo | None = None, numbers: bool = False) -> list[Pieces]:
    """The same as whole lines, for a terminal: all of a message but its first are indented."""
    head, body = pieces(item, tz=tz, numbers=numbers)
    if isinstance(item, Answer):
        return [[("", line)] for line in body]
    if len(body) > MAX_ROWS:
        body[MAX_ROWS - 1 :] = [NEWLINE.join(body[MAX_ROWS - 1 :])]
    return [[*head, ("", body[0])], *([("", INDENT + line)] for line in body[1:])]


def render(item: Item, *, tz: tzinfo | None = None, multiline: bool = False, numbers: bool = False) -> list[str]:
    """An item as lines without colour or line endings.

    Args:
        item: what to show.
        tz: for tests; the machine's own time zone otherwise.
        multiline: a body's line breaks are kept, for a terminal; else an item is one line and ``⏎`` stands
            for them. An `Answer` has as many lines as it came with.
        numbers: the number of a message stands beside it, for /reply and others.
    """
    if multiline or isinstance(item, Answer):
        return ["".join(text for _, text in row).rstrip(" ") for row in rows(item, tz=tz, numbers=numbers)]
    head, body = pieces(item, tz=tz, numbers=numbers)
    return ["".join(text for _, text in head) + NEWLINE.join(body)]
