"""Items as the JSON objects that scripts read: one a line, documented in docs/scripting.md. Pure.

The texts in them are exact; all that is not printable ASCII is escaped, so that a terminal obeys none of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from securechat.client.view import Answer, Changed, Failure, Item, Membership, Message, Notice, Unshown
from securechat.crypto.findings import Finding

VERSION: Final = 1  # rises only when a field changes its meaning: readers ignore fields they do not know

Record = dict[str, Any]
_CHANGES: Final = {"edited": "edit", "deleted": "delete", "reacted": "reaction", "unreacted": "reaction"}
_PRESENCE: Final = frozenset({"online", "offline"})


def record_of(item: Item, *, now_ms: int, trust: Callable[[str, str], str]) -> Record | None:
    """One item; None for what no script asked for.

    Args:
        now_ms: milliseconds since 1970, for what comes without a time of the server's.
        trust: of a user and the identity that signed (see `view.Message.author`).
    """
    match item:
        case Message():
            return _message(item, trust)
        case Changed():
            return _changed(item)
        case Membership(room, user, what):
            kind = "presence" if what in _PRESENCE else "member"
            return _record(kind, room, now_ms) | {"user": user, "what": what}
        case Unshown():
            return _unshown(item, now_ms)
        case Notice(text, where):
            return _record("notice", where, now_ms) | {"text": text}
        case Failure(text, status, code):
            name = code or status.name.lower()
            return {
                "v": VERSION,
                "type": "error",
                "ts": rfc3339(now_ms),
                "code": name,
                "exit": int(status),
                "text": text,
            }
        case Answer():
            return None


def line_of(record: Record) -> str:
    """A record as one line of ASCII, with its line ending."""
    return json.dumps(record, separators=(",", ":")) + "\n"


def rfc3339(ms: int) -> str | None:
    """``2026-11-24T18:47:00.123Z``; None for what no calendar has.

    Args:
        ms: milliseconds since 1970.
    """
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return None


def _record(kind: str, where: str, ms: int) -> Record:
    return {"v": VERSION, "type": kind, "room": where, "private": where.startswith("@"), "ts": rfc3339(ms)}


def _message(item: Message, trust: Callable[[str, str], str]) -> Record:
    record = _record("message", item.where, item.ts) | {
        "id": item.id,
        "seq": item.seq,
        "sender": item.sender,
        "text": item.text,
        "kind": item.kind,
        "trust": "own" if item.own else trust(item.sender, item.author),
        "decrypted": True,
        "mention": item.mention,
        "own": item.own,
    }
    seldom = {
        "lang": item.lang,
        "reply_to": item.reply,
        "edited": item.edited,
        "deleted": item.deleted,
        "warning": item.mark,
        "reactions": {emoji: list(who) for emoji, who in item.reactions},
    }
    return record | {name: value for name, value in seldom.items() if value}


def _changed(item: Changed) -> Record:
    kind = _CHANGES[item.what]
    record = _record(kind, item.where, item.ts) | {"id": item.id, "seq": item.seq, "sender": item.who}
    if kind == "edit":
        record["text"] = item.text
    elif kind == "reaction":
        record |= {"emoji": item.text, "off": item.what == "unreacted"}
    return record


def _unshown(item: Unshown, now_ms: int) -> Record:
    finding = Finding.__members__.get(item.finding)
    return _record("undecryptable", item.where, now_ms) | {
        "seq": item.seq,
        "count": item.count,
        "sender": item.sender,
        "reason": item.finding.lower() or "other",
        "text": item.reason.replace("{s}", "" if item.count == 1 else "s", 1),
        "cure": "" if finding is None else finding.value.cure.format(who=item.sender, n=item.count),
        "decrypted": False,
    }
