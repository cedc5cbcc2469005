"""Accounts: their keys, passwords and backups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.errors import BAD_KEYS, DAMAGED, NAME_TAKEN, STALE_BACKUP, STALE_LIST, AtRestMismatch, Refused
from securechat.storage.interface import Account, Backup, NewAccount, NewKeys
from securechat.storage.queries import devices, notes, sessions
from securechat.storage.queries.common import Cursor, account_id, marks
from securechat.storage.queries.sealing import AtRest, place

# Read where there is no such account: the time must not tell.
_NOBODYS_KEYS: Final = SignedBundle(bytes(800), bytes(64), (SignedCertificate(bytes(400), bytes(64), bytes(64)),))
_NOBODY: Final = ("", b"", 0, b"", 0, msgspec.msgpack.encode(_NOBODYS_KEYS), 0)


def account(cursor: Cursor, user: str, max_past: int) -> Account | None:
    """See `ChatStore.account`."""
    cursor.execute(
        "SELECT password_hash, salt, suspended, ik, version, keys, backup_version FROM account WHERE name = ?",
        (user,),
    )
    row = cursor.fetchone()
    password_hash, salt, suspended, ik, version, keys, backup_version = row or _NOBODY
    found = Account(
        user=user,
        password_hash=password_hash,
        salt=salt,
        suspended=bool(suspended),
        ik=ik,
        version=version,
        keys=_with_past(cursor, [user], {user: keys}, max_past)[user],
        backup_version=backup_version,
    )
    return found if row else None


def salt(cursor: Cursor, user: str) -> bytes | None:
    """See `ChatStore.salt`."""
    cursor.execute("SELECT salt FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    return row[0] if row else None


def register(cursor: Cursor, at_rest: AtRest, new: NewAccount, invite_hash: bytes | None, now: int) -> None:
    """See `ChatStore.register`."""
    if invite_hash is not None:
        sessions.take_place(cursor, invite_hash, now)
    cursor.execute(
        "INSERT INTO account (name, kid, version, list_digest, ik, salt, password_hash, created, password_changed,"
        " keys_changed, backup_version, keys, backup_dek, backup) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO NOTHING RETURNING id",
        (
            new.user, new.rk_kid, new.version, _digest(new.keys), new.ik, new.salt, new.password_hash, now, now, now,
            new.backup.version, msgspec.msgpack.encode(new.keys), *_sealed(at_rest, new.user, new.backup),
        ),
    )  # fmt: skip
    row = cursor.fetchone()
    if row is None:
        raise Refused(NAME_TAKEN, user=new.user)
    devices.put_devices(cursor, row[0], new)


def keys(cursor: Cursor, users: Sequence[str], max_past: int) -> Mapping[str, SignedBundle]:
    """See `ChatStore.keys`."""
    cursor.execute(f"SELECT name, keys FROM account WHERE name IN ({marks(users)})", tuple(users))
    return _with_past(cursor, users, dict(cursor.fetchall()), max_past)


def publish(cursor: Cursor, at_rest: AtRest, user: str, new: NewKeys, backup: Backup | None, now: int) -> None:
    """See `ChatStore.publish`."""
    account = account_id(cursor, user)
    cursor.execute("SELECT version, ik FROM account WHERE id = ?", (account,))
    version, ik = cursor.fetchone()
    if new.version != version + 1 or new.ik != ik:
        raise Refused(STALE_LIST, version=version)
    if devices.named_otherwise(cursor, account, new.devices, new.ik):
        raise Refused(BAD_KEYS, why="a device of this list was revoked, or had another identity")
    if backup is not None:
        _put_newer_backup(cursor, at_rest, user, account, backup)
    _put_keys(cursor, at_rest, account, new, now)
    cursor.execute(
        "DELETE FROM session WHERE account_id = ? AND device IS NOT NULL"
        " AND device NOT IN (SELECT id FROM device WHERE account_id = ? AND standing = ?)",
        (account, account, devices.IN_FORCE),
    )


def reset_identity(cursor: Cursor, at_rest: AtRest, user: str, new: NewKeys, backup: Backup, now: int) -> None:
    """See `ChatStore.reset_identity`."""
    account = account_id(cursor, user)
    # Messages and logs name devices by id, and clients never take an identity back that they saw replaced.
    if devices.seen(cursor, new.devices, new.ik):
        raise Refused(BAD_KEYS, why="a new identity has keys that nobody had before")
    _count_out(cursor, account)
    _put_keys(cursor, at_rest, account, new, now)
    cursor.execute(
        "UPDATE account SET ik = ?, backup_version = ?, backup_dek = ?, backup = ? WHERE id = ?",
        (new.ik, backup.version, *_sealed(at_rest, user, backup), account),
    )
    cursor.execute("DELETE FROM session WHERE account_id = ?", (account,))
    notes.delete(cursor, account)  # the new keys open none of them


def change_password(
    cursor: Cursor,
    at_rest: AtRest,
    user: str,
    password_hash: str,
    salt: bytes,
    backup: Backup | None,
    keep: bytes,
    now: int,
) -> None:
    """See `ChatStore.change_password`."""
    account = account_id(cursor, user)
    if backup is not None:
        _put_newer_backup(cursor, at_rest, user, account, backup)
    cursor.execute(
        "UPDATE account SET password_hash = ?, salt = ?, password_changed = ? WHERE id = ?",
        (password_hash, salt, now, account),
    )
    cursor.execute("DELETE FROM session WHERE account_id = ? AND token_hash <> ?", (account, keep))


def rehash(cursor: Cursor, user: str, old: str, new: str) -> None:
    """See `ChatStore.rehash`."""
    cursor.execute(
        "UPDATE account SET password_hash = ? WHERE name = ? AND password_hash = ?",
        (new, user, old),
    )


def backup(cursor: Cursor, at_rest: AtRest, user: str) -> Backup | None:
    """See `ChatStore.backup`."""
    cursor.execute("SELECT backup_version, backup_dek, backup FROM account WHERE name = ?", (user,))
    row = cursor.fetchone()
    if row is None or not row[0]:
        return None
    version, dek_id, sealed = row
    try:
        return Backup(version, at_rest.sealer.open(dek_id, place("backup", user, version), sealed))
    except AtRestMismatch as mismatch:
        raise Refused(DAMAGED, room=f"{user}'s backup") from mismatch


def put_backup(cursor: Cursor, at_rest: AtRest, user: str, backup: Backup) -> None:
    """See `ChatStore.put_backup`."""
    _put_newer_backup(cursor, at_rest, user, account_id(cursor, user), backup)


def _with_past(
    cursor: Cursor, users: Sequence[str], encoded: Mapping[str, bytes], limit: int
) -> dict[str, SignedBundle]:
    """Stored bundles, each with its past certificates."""
    past = devices.past(cursor, users, limit)
    bundles = {user: msgspec.msgpack.decode(keys, type=SignedBundle) for user, keys in encoded.items()}
    return {user: replace(keys, past=tuple(past[user])) if user in past else keys for user, keys in bundles.items()}


def _digest(keys: SignedBundle) -> bytes:
    """What the next list, and those who rely on this one, name it by."""
    return hashlib.sha256(keys.list).digest()


def _count_out(cursor: Cursor, account: int) -> None:
    """Counts an account's present identity out, wherever it is a member."""
    cursor.execute(
        "UPDATE conversation SET members = members - 1 WHERE id IN (SELECT m.conversation_id FROM member m"
        " JOIN account a ON a.id = m.account_id WHERE a.id = ? AND m.ik = a.ik)",
        (account,),
    )


def _sealed(at_rest: AtRest, user: str, backup: Backup) -> tuple[int, bytes]:
    """A backup as it is stored: the data key's id, and the token."""
    return at_rest.sealer.newest, at_rest.sealer.seal(place("backup", user, backup.version), backup.blob)


def _put_newer_backup(cursor: Cursor, at_rest: AtRest, user: str, account: int, backup: Backup) -> None:
    cursor.execute("SELECT backup_version FROM account WHERE id = ?", (account,))
    (stored,) = cursor.fetchone()
    if backup.version != stored + 1:  # not merely above: a stolen session must not use up all numbers at once
        raise Refused(STALE_BACKUP, version=stored)
    cursor.execute(
        "UPDATE account SET backup_version = ?, backup_dek = ?, backup = ? WHERE id = ?",
        (backup.version, *_sealed(at_rest, user, backup), account),
    )


def _put_keys(cursor: Cursor, at_rest: AtRest, account: int, new: NewKeys, now: int) -> None:
    cursor.execute(
        "UPDATE account SET kid = ?, version = ?, list_digest = ?, keys = ?, keys_changed = ? WHERE id = ?",
        (new.rk_kid, new.version, _digest(new.keys), msgspec.msgpack.encode(new.keys), now, account),
    )
    devices.put_devices(cursor, account, new)
    # Every room this user is in has another audience now.
    at_rest.rosters.clear()
