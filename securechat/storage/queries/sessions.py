"""Logins that may be resumed, and invitations."""

from __future__ import annotations

from typing import Final

from securechat.errors import BAD_INVITE, Refused
from securechat.storage.interface import Session
from securechat.storage.queries.common import Cursor, account_id
from securechat.storage.queries.devices import IN_FORCE

SESSION_LIFE: Final = 30 * 24 * 3600 * 1000  # milliseconds without use after which a session has ended


def open_session(cursor: Cursor, token_hash: bytes, session: Session, now: int) -> None:
    """See `ChatStore.open_session`."""
    account = account_id(cursor, session.user)
    # Here the ended ones go: nobody waits for this, and no account gathers more than it opens in 30 days.
    cursor.execute("DELETE FROM session WHERE account_id = ? AND used <= ?", (account, now - SESSION_LIFE))
    cursor.execute(
        "INSERT INTO session (token_hash, account_id, device, created, used) VALUES (?, ?, ?, ?, ?)",
        (token_hash, account, None if session.device is None else bytes.fromhex(session.device), now, now),
    )


def session(cursor: Cursor, token_hash: bytes, now: int) -> Session | None:
    """See `ChatStore.session`. Counts as use, so it writes."""
    cursor.execute(
        "SELECT a.name, s.device FROM session s JOIN account a ON a.id = s.account_id"
        " LEFT JOIN device d ON d.account_id = s.account_id AND d.id = s.device AND d.standing = ?"
        " WHERE s.token_hash = ? AND s.used > ? AND (s.device IS NULL OR d.id IS NOT NULL)",
        (IN_FORCE, token_hash, now - SESSION_LIFE),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute("UPDATE session SET used = ? WHERE token_hash = ?", (now, token_hash))
    user, device = row
    return Session(user, None if device is None else device.hex())


def bind_session(cursor: Cursor, token_hash: bytes, device: str) -> None:
    """See `ChatStore.bind_session`."""
    cursor.execute("UPDATE session SET device = ? WHERE token_hash = ?", (bytes.fromhex(device), token_hash))


def close_session(cursor: Cursor, token_hash: bytes) -> None:
    """See `ChatStore.close_session`."""
    cursor.execute("DELETE FROM session WHERE token_hash = ?", (token_hash,))


def add_invite(cursor: Cursor, code_hash: bytes, uses: int, expires: int, now: int) -> None:
    """See `ChatStore.add_invite`."""
    cursor.execute("DELETE FROM invite WHERE places = 0 OR expires <= ?", (now,))
    cursor.execute(
        "INSERT INTO invite (code_hash, places, created, expires) VALUES (?, ?, ?, ?)",
        (code_hash, uses, now, expires),
    )


def invite_holds(cursor: Cursor, code_hash: bytes, now: int) -> bool:
    """See `ChatStore.invite_holds`."""
    cursor.execute("SELECT 1 FROM invite WHERE code_hash = ? AND places > 0 AND expires > ?", (code_hash, now))
    return cursor.fetchone() is not None


def take_place(cursor: Cursor, code_hash: bytes, now: int) -> None:
    """Uses up one place of an invitation. Raises Refused: `bad_invite`."""
    cursor.execute(
        "UPDATE invite SET places = places - 1 WHERE code_hash = ? AND places > 0 AND expires > ? RETURNING places",
        (code_hash, now),
    )
    if cursor.fetchone() is None:
        raise Refused(BAD_INVITE)
