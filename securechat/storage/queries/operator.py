"""What the operator sees and decides: accounts, logins, rooms, quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from securechat.errors import NO_SUCH_ROOM, NO_SUCH_USER, Refused
from securechat.storage.interface import RemovedRoom, RoomInfo, SessionInfo, UserInfo
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.sealing import AtRest
from securechat.storage.queries.sessions import SESSION_LIFE

_PURGED: Final = 100  # rows of a removed room deleted at once: each is overwritten, and others wait meanwhile


def users(cursor: Cursor, now: int) -> Sequence[UserInfo]:
    """See `OperatorStore.users`."""
    cursor.execute(
        "SELECT a.name, a.created, a.suspended, a.deleted, a.quota,"
        " (SELECT count(*) FROM member m JOIN conversation c ON c.id = m.conversation_id"
        "  WHERE m.account_id = a.id AND m.ik = a.ik AND c.private = 0),"
        " (SELECT count(*) FROM device d WHERE d.account_id = a.id AND d.standing = 'in force'),"
        " (SELECT count(*) FROM session s WHERE s.account_id = a.id AND s.used > ?),"
        " (SELECT coalesce(sum(k.bytes), 0) FROM counter k WHERE k.account_id = a.id)"
        " FROM account a ORDER BY a.name",
        (now - SESSION_LIFE,),
    )
    return [
        UserInfo(name, created, bool(suspended), deleted, quota, rooms, devices, sessions, stored)
        for name, created, suspended, deleted, quota, rooms, devices, sessions, stored in cursor.fetchall()
    ]


def suspend(cursor: Cursor, user: str, yes: bool) -> None:
    """See `OperatorStore.suspend`."""
    account = _account(cursor, user)
    cursor.execute("UPDATE account SET suspended = ? WHERE id = ?", (int(yes), account))
    if yes:
        cursor.execute("DELETE FROM session WHERE account_id = ?", (account,))


def delete_user(cursor: Cursor, at_rest: AtRest, user: str, now: int) -> None:
    """See `OperatorStore.delete_user`."""
    account = _account(cursor, user)
    cursor.execute(
        "UPDATE account SET deleted = ?, suspended = 1, password_hash = '', salt = randomblob(16), backup_version = 0,"
        " backup_dek = ?, backup = x'' WHERE id = ?",
        (now, at_rest.sealer.newest, account),
    )
    for table in ("session", "invitation", "note"):
        cursor.execute(f"DELETE FROM {table} WHERE account_id = ?", (account,))


def reset_password(cursor: Cursor, user: str, password_hash: str, salt: bytes, now: int) -> None:
    """See `OperatorStore.reset_password`."""
    account = _account(cursor, user)
    cursor.execute(
        "UPDATE account SET password_hash = ?, salt = ?, password_changed = ? WHERE id = ?",
        (password_hash, salt, now, account),
    )
    cursor.execute("DELETE FROM session WHERE account_id = ?", (account,))


def sessions(cursor: Cursor, user: str | None, now: int) -> Sequence[SessionInfo]:
    """See `OperatorStore.sessions`."""
    if user is not None:
        _account(cursor, user)
    cursor.execute(
        "SELECT a.name, s.device, s.created, s.used FROM session s JOIN account a ON a.id = s.account_id"
        " WHERE s.used > ? AND (? IS NULL OR a.name = ?) ORDER BY a.name, s.created",
        (now - SESSION_LIFE, user, user),
    )
    return [
        SessionInfo(name, None if device is None else device.hex(), created, used)
        for name, device, created, used in cursor.fetchall()
    ]


def end_sessions(cursor: Cursor, user: str, device: str | None) -> int:
    """See `OperatorStore.end_sessions`."""
    account = _account(cursor, user)
    raw = None if device is None else bytes.fromhex(device)
    cursor.execute(
        "DELETE FROM session WHERE account_id = ? AND (? IS NULL OR device = ?) RETURNING 1", (account, raw, raw)
    )
    return len(cursor.fetchall())


def _account(cursor: Cursor, user: str) -> int:
    """The row of an account. Raises Refused: `no_such_user`, with `deleted` where there was one."""
    cursor.execute("SELECT id, deleted FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    if row is None or row[1]:
        raise Refused(NO_SUCH_USER, user=user, deleted=row is not None)
    return int(row[0])


# --- rooms ------------------------------------------------------------------------------------------------------------


def all_rooms(cursor: Cursor) -> Sequence[RoomInfo]:
    """See `OperatorStore.all_rooms`."""
    cursor.execute(
        "SELECT c.name, c.room_id, c.open, c.members, c.last_seq - c.trimmed_seq, c.bytes, c.events, c.created,"
        " (SELECT m.ts FROM message m WHERE m.conversation_id = c.id AND m.seq = c.last_seq), c.retention, c.quota"
        " FROM conversation c WHERE c.private = 0 AND c.removed = 0 ORDER BY c.name"
    )
    return [
        RoomInfo(name, room_id, bool(opened), members, messages, stored, events, last or created, retention, quota)
        for name, room_id, opened, members, messages, stored, events, created, last, retention, quota in (
            cursor.fetchall()
        )
    ]


def remove_room(cursor: Cursor, at_rest: AtRest, room: str) -> RemovedRoom:
    """See `OperatorStore.remove_room`."""
    row, room_id = _room(cursor, room)
    cursor.execute(
        "SELECT a.name FROM member m JOIN account a ON a.id = m.account_id WHERE m.conversation_id = ? ORDER BY a.name",
        (row,),
    )
    members = tuple(name for (name,) in cursor.fetchall())
    # Its name is free at once; its id stands behind the old one, as with rooms that nobody can enter any more.
    cursor.execute(
        "UPDATE conversation SET removed = 1, open = 0, members = 0, events = 0, head = x'', topic = NULL,"
        " topic_dek = NULL, name = ? WHERE id = ?",
        (room if "#" in room else f"{room}#{room_id}", row),
    )
    for table in ("member", "invitation", "mute", "counter", "room_event"):
        cursor.execute(f"DELETE FROM {table} WHERE conversation_id = ?", (row,))
    at_rest.undone()  # what the writer remembers of the room's log and members is no more
    return RemovedRoom(room_id, members)


def purge(cursor: Cursor) -> bool:
    """See `OperatorStore.purge`."""
    cursor.execute("SELECT id FROM conversation WHERE removed = 1 LIMIT 1")
    found = cursor.fetchone()
    if found is None:
        return False
    cursor.execute("SELECT id FROM message WHERE conversation_id = ? LIMIT ?", (found[0], _PURGED))
    if messages := cursor.fetchall():
        cursor.executemany("DELETE FROM message_keys WHERE message_id = ?", messages)
        cursor.executemany("DELETE FROM message WHERE id = ?", messages)
        return True
    for table in ("segment", "audience"):
        cursor.execute(f"SELECT id FROM {table} WHERE conversation_id = ? LIMIT ?", (found[0], _PURGED))
        if rows := cursor.fetchall():
            cursor.executemany(f"DELETE FROM {table} WHERE id = ?", rows)
            return True
    cursor.execute("DELETE FROM conversation WHERE id = ?", found)
    return True


def set_retention(cursor: Cursor, room: str, days: int | None) -> None:
    """See `OperatorStore.set_retention`."""
    cursor.execute("UPDATE conversation SET retention = ? WHERE id = ?", (days, _room(cursor, room)[0]))


def set_room_quota(cursor: Cursor, room: str, quota: int | None) -> None:
    """See `OperatorStore.set_room_quota`."""
    cursor.execute("UPDATE conversation SET quota = ? WHERE id = ?", (quota, _room(cursor, room)[0]))


def set_user_quota(cursor: Cursor, user: str, quota: int | None) -> None:
    """See `OperatorStore.set_user_quota`."""
    cursor.execute("UPDATE account SET quota = ? WHERE id = ?", (quota, _account(cursor, user)))


def _room(cursor: Cursor, room: str) -> tuple[int, str]:
    """The row and the id of a room by its name. Raises Refused: `no_such_room`."""
    cursor.execute(
        "SELECT id, room_id FROM conversation WHERE name = ? AND private = 0 AND removed = 0",
        (room,),
    )
    row = cursor.fetchone()
    if row is None:
        raise Refused(NO_SUCH_ROOM, room=room)
    return int(row[0]), str(row[1])
