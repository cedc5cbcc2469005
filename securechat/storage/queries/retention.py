"""How much is kept, and for how long: quotas, and the removal of what is too old.

Messages go from the oldest on, by whole segments. What hangs on them stays right: numbers go on, the transcript after
the last one removed is kept with its conversation, and the row of each device's newest message stays without its body,
so that a resend of it is still known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securechat.errors import OVER_QUOTA, Refused
from securechat.storage.interface import NewMessage
from securechat.storage.queries.common import Cursor, marks
from securechat.storage.queries.sealing import AtRest, Author, Standing, Usage

_SLOT: Final = 384  # bytes of a wrapped key
_MEGABYTE: Final = 1_000_000  # bytes, as quotas are given
_DAY: Final = 24 * 3600 * 1000  # milliseconds
_BATCH: Final = 256  # messages removed in one step, several segments: others wait meanwhile


# --- quotas -----------------------------------------------------------------------------------------------------------


def size_of(message: NewMessage) -> int:
    """What a message counts for: the bytes of its body and of its keys."""
    return len(message.shared) + _SLOT * len(message.wrapped)


def usage_of(cursor: Cursor, at_rest: AtRest, account: int, quota: int | None) -> Usage | None:
    """What an account has stored; None where it has no limit, and nothing needs to be counted."""
    limit = at_rest.quotas.user if quota is None else quota
    if not limit:
        return None
    usage = at_rest.usages.get(account)
    if usage is None:
        cursor.execute("SELECT coalesce(sum(bytes), 0) FROM counter WHERE account_id = ?", (account,))
        usage = at_rest.usages[account] = Usage(int(cursor.fetchone()[0]), limit)
    return usage


def check_quota(message: NewMessage, standing: Standing, author: Author) -> None:
    """Whether there is room for one more message. Raises Refused: `over_quota`."""
    if standing.limit and standing.bytes + size_of(message) > standing.limit:
        raise Refused(OVER_QUOTA, who=f"{message.room} has", limit=standing.limit // _MEGABYTE)
    usage = author.usage
    if usage is not None and usage.stored + size_of(message) > usage.limit:
        raise Refused(OVER_QUOTA, who="You have", limit=usage.limit // _MEGABYTE)


# --- retention --------------------------------------------------------------------------------------------------------


def due(cursor: Cursor, kept: int, now: int) -> Sequence[tuple[int, int]]:
    """Conversations whose oldest message is too old, each with the time before which messages go.

    Args:
        kept: days that messages are kept, where a room has no number of its own; 0: for ever.
    """
    cursor.execute(
        "SELECT c.id, ? - ? * coalesce(c.retention, ?) AS cutoff FROM conversation c"
        " WHERE c.removed = 0 AND coalesce(c.retention, ?) > 0 AND c.last_seq > c.trimmed_seq"
        " AND (SELECT ts FROM message m WHERE m.conversation_id = c.id AND m.seq = c.trimmed_seq + 1) < cutoff",
        (now, _DAY, kept, kept),
    )
    return cursor.fetchall()


def trim(cursor: Cursor, conversation: int, cutoff: int) -> int:
    """Removes the oldest messages of a conversation, as far as they came before `cutoff`; how many.

    A segment stays until all of it is too old: that is the time of one commit.
    """
    cursor.execute(
        "SELECT m.id, m.segment_id, m.ts, m.sender_id, m.device, m.size, m.seq, m.th FROM message m"
        " JOIN conversation c ON c.id = m.conversation_id WHERE c.id = ? AND m.seq > c.trimmed_seq"
        " ORDER BY m.seq LIMIT ?",
        (conversation, _BATCH),
    )
    rows = cursor.fetchall()
    count = next((at for at, row in enumerate(rows) if row[2] >= cutoff), len(rows))
    if count < len(rows) or count == _BATCH:  # not into a segment of which something stays, or may
        beyond = rows[count][1] if count < len(rows) else rows[-1][1]
        while count and rows[count - 1][1] == beyond:
            count -= 1
    if not count:
        return 0
    gone = rows[:count]
    cursor.execute(
        "UPDATE conversation SET trimmed_seq = ?, trimmed_th = ?, bytes = bytes - ? WHERE id = ?",
        (gone[-1][6], gone[-1][7], sum(row[5] for row in gone), conversation),
    )
    cursor.executemany(
        "UPDATE counter SET bytes = bytes - ? WHERE account_id = ? AND device = ? AND conversation_id = ?",
        [(row[5], row[3], row[4], conversation) for row in gone],
    )
    numbers = [row[0] for row in gone]
    cursor.execute(f"DELETE FROM message_keys WHERE message_id IN ({marks(numbers)})", numbers)
    cursor.execute(
        f"UPDATE message SET segment_id = NULL, audience_id = NULL, size = 0 WHERE id IN ({marks(numbers)})", numbers
    )
    # All but the newest of each device: with those that were that when they were removed, and are not any more.
    cursor.execute(
        "DELETE FROM message WHERE conversation_id = ? AND seq <= ? AND NOT EXISTS (SELECT 1 FROM counter k"
        " WHERE k.account_id = message.sender_id AND k.device = message.device"
        " AND k.conversation_id = message.conversation_id AND k.seq = message.seq)",
        (conversation, gone[-1][6]),
    )
    segments = list({row[1] for row in gone})
    cursor.execute(f"DELETE FROM segment WHERE id IN ({marks(segments)})", segments)
    return count
