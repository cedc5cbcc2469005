"""What is stored about one account, told from the database itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from securechat.storage.interface import StoredTable
from securechat.storage.queries.common import Cursor, account_id


class About(NamedTuple):
    """What a table has about a user: how its rows are counted, given the account's row, and a sentence for people.

    `rows` is None where nothing in it is about a user.
    """

    rows: str | None
    sentence: str


_IN_MY_CONVERSATIONS: Final = " WHERE conversation_id IN (SELECT conversation_id FROM member WHERE account_id = ?)"

TABLES: Final[Mapping[str, About]] = {
    "account": About(
        "SELECT count(*) FROM account WHERE id = ?",
        "Your name, your public keys, the hash of a value made from your password, and your sealed backup.",
    ),
    "audience": About(
        f"SELECT count(*) FROM audience{_IN_MY_CONVERSATIONS}",
        "For whom messages of your conversations were encrypted: names and ids of keys, encrypted at rest.",
    ),
    "conversation": About(
        "SELECT count(*) FROM conversation WHERE id IN (SELECT conversation_id FROM member WHERE account_id = ?)",
        "The rooms and private conversations you are in: names, numbers, and topics, the topics encrypted at rest.",
    ),
    "counter": About(
        "SELECT count(*) FROM counter WHERE account_id = ?",
        "How many messages each of your devices sent where, and how many bytes.",
    ),
    "dek": About(None, "The server's own keys for what it encrypts at rest."),
    "device": About(
        "SELECT count(*) FROM device WHERE account_id = ?",
        "The certificates of your devices, with the names you gave them; those of removed ones too.",
    ),
    "invitation": About(
        "SELECT count(*) FROM invitation WHERE account_id = ?", "Rooms that you are invited to and have not joined."
    ),
    "invite": About(None, "Hashes of invitations to make an account; not by or for whom."),
    "member": About(
        "SELECT count(*) FROM member WHERE account_id = ?", "Which conversations you are in, and how far you have read."
    ),
    "message": About(
        "SELECT count(*) FROM message WHERE sender_id = ?",
        "Messages you sent: where, when, from which device.",
    ),
    "message_keys": About(
        "SELECT count(*) FROM message_keys WHERE message_id IN (SELECT id FROM message WHERE sender_id = ?)",
        "The keys of messages you sent, each encrypted for a reader.",
    ),
    "meta": About(None, "What this server was set up with."),
    "mute": About("SELECT count(*) FROM mute WHERE account_id = ?", "Rooms in which you have no voice, until when."),
    "note": About(
        "SELECT count(*) FROM note WHERE account_id = ?",
        "What your devices share: how many notes of what length, and when each was last one; names and contents are"
        " encrypted by them.",
    ),
    "room_event": About(
        "SELECT count(*) FROM room_event WHERE author_id = ?",
        "What you did in rooms (made, joined, left, invited, ran them), signed by you; encrypted at rest.",
    ),
    "segment": About(
        f"SELECT count(*) FROM segment{_IN_MY_CONVERSATIONS}",
        "The encrypted texts of your conversations, yours and others', encrypted once more at rest.",
    ),
    "session": About(
        "SELECT count(*) FROM session WHERE account_id = ?",
        "Your logins: hashes of their tokens, the device, when begun and last used.",
    ),
}
"""Every table of the schema; a test holds the two together."""


def stored(cursor: Cursor, user: str) -> Sequence[StoredTable]:
    """See `ChatStore.stored`."""
    account = account_id(cursor, user)
    found = []
    for table, (sql, sentence) in TABLES.items():
        if sql is not None:
            cursor.execute(sql, (account,))
            (rows,) = cursor.fetchone()
            cursor.execute(f"SELECT name FROM pragma_table_info('{table}')")
            columns = tuple(name for (name,) in cursor.fetchall())
            found.append(StoredTable(table, rows, columns, sentence))
    return found
