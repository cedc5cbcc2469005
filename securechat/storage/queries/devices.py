"""Devices: those in force, and the certificates of all there ever were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from securechat.crypto.identity import Device, SignedCertificate
from securechat.storage.interface import NewAccount, NewKeys
from securechat.storage.queries.common import Cursor, marks

IN_FORCE: Final = "in force"
PAST: Final = "past"  # revoked by their list, or of a former identity
UNLISTED: Final = "unlisted"  # their account's list, as stored, names them neither way: see `ChatStore.extend`


def put_devices(cursor: Cursor, account: int, new: NewKeys | NewAccount) -> None:
    """Makes exactly these devices those in force."""
    cursor.execute("UPDATE device SET standing = ? WHERE account_id = ? AND standing = ?", (PAST, account, IN_FORCE))
    cursor.executemany(
        "INSERT INTO device (account_id, id, standing, ik, certificate) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (account_id, id, ik) DO UPDATE SET standing = excluded.standing,"
        " certificate = excluded.certificate",
        [
            (account, bytes.fromhex(device), IN_FORCE, new.ik, _encoded(certificate))
            for device, certificate in zip(new.devices, new.keys.certs, strict=True)
        ],
    )
    revoked = new.revoked if isinstance(new, NewKeys) else ()
    cursor.executemany(
        "UPDATE device SET standing = ? WHERE account_id = ? AND id = ? AND standing = ?",
        [(PAST, account, bytes.fromhex(device), UNLISTED) for device in revoked],
    )


def past(cursor: Cursor, users: Sequence[str], limit: int) -> dict[str, list[SignedCertificate]]:
    """The certificates in force no more, by user: the newest `limit` of each, newest first."""
    cursor.execute(
        "SELECT a.name, d.certificate FROM account a JOIN device d ON d.account_id = a.id"
        f" WHERE a.name IN ({marks(users)}) AND d.standing = ? AND NOT EXISTS"
        " (SELECT 1 FROM device f WHERE f.account_id = d.account_id AND f.id = d.id AND f.standing = ?)"
        " ORDER BY d.number DESC",
        (*users, PAST, IN_FORCE),
    )
    found: dict[str, list[SignedCertificate]] = {}
    for user, certificate in cursor.fetchall():
        certificates = found.setdefault(user, [])
        if len(certificates) < limit:
            certificates.append(decoded(certificate))
    return found


def named_otherwise(cursor: Cursor, account: int, devices: Iterable[str], ik: bytes) -> bool:
    """Whether the account had one of these devices under another identity, or has revoked it: its id means that one."""
    ids = [bytes.fromhex(device) for device in devices]
    cursor.execute(
        f"SELECT 1 FROM device WHERE account_id = ? AND id IN ({marks(ids)}) AND (ik <> ? OR standing = ?) LIMIT 1",
        (account, *ids, ik, PAST),
    )
    return cursor.fetchone() is not None


def seen(cursor: Cursor, devices: Iterable[str], ik: bytes) -> bool:
    """Whether any account had one of these devices, or this identity. Walks all devices: for what is rare."""
    ids = [bytes.fromhex(device) for device in devices]
    cursor.execute(f"SELECT 1 FROM device WHERE ik = ? OR id IN ({marks(ids)}) LIMIT 1", (ik, *ids))
    return cursor.fetchone() is not None


def certificate(cursor: Cursor, user: str, device: str, ik: bytes) -> tuple[str, SignedCertificate] | None:
    """The standing and the certificate of a device of that identity; None where it is not known."""
    cursor.execute(
        "SELECT d.standing, d.certificate FROM account a JOIN device d ON d.account_id = a.id"
        " WHERE a.name = ? AND d.id = ? AND d.ik = ?",
        (user, bytes.fromhex(device), ik),
    )
    row = cursor.fetchone()
    return None if row is None else (row[0], decoded(row[1]))


def put_unlisted(cursor: Cursor, given: Iterable[tuple[Device, SignedCertificate]]) -> None:
    """Keeps verified certificates of accounts that exist, where they are new."""
    for device, certificate in given:
        cursor.execute(
            "INSERT INTO device (account_id, id, standing, ik, certificate)"
            " SELECT id, ?, ?, ?, ? FROM account WHERE name = ?"
            " ON CONFLICT (account_id, id, ik) DO NOTHING",
            (bytes.fromhex(device.dev), UNLISTED, device.ik, _encoded(certificate), device.user),
        )


def _encoded(certificate: SignedCertificate) -> bytes:
    return msgspec.msgpack.encode(certificate)


def decoded(encoded: bytes) -> SignedCertificate:
    """A certificate as it is stored."""
    return msgspec.msgpack.decode(encoded, type=SignedCertificate)
