"""The sealed backup at the server: fetched, opened, and brought up to what is known here."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from securechat.client.keystores import adopt_keys, open_keystore
from securechat.client.openaccount import OpenAccount
from securechat.client.people import merged, pins_from
from securechat.client.profile import Profile
from securechat.client.protocol import ChatClientProtocol
from securechat.client.store import LocalStore, Records
from securechat.client.workshop import Workshop
from securechat.crypto import backup as sealed_backup
from securechat.crypto import primitives as p
from securechat.crypto.identity import AccountKeys
from securechat.crypto.passwords import Stretched
from securechat.crypto.trust import Pin
from securechat.errors import InvalidKey, Refused, WrongSecret
from securechat.wire import limits
from securechat.wire import messages as m

MOST_VERSION: Final = 2**53 - 1
_BACKUP_PINS: Final = 1000  # each takes 250 bytes of the backup and more
_BACKUP_KEY: Final = 2600  # bytes that an RSA key takes of it
_BACKUP_REST: Final = 8192  # and all but pins and keys, with the padding


async def settle_keys(shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, stretched: Stretched) -> None:
    """After a login by password: newer RSA keys come out of the backup, and what is known of others goes into it."""
    await _catch_up_keys(shop, protocol, account, stretched)
    await _refresh_backup(shop, protocol, account, stretched)


async def _catch_up_keys(
    shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, stretched: Stretched
) -> None:
    """Fetches the account's newer RSA keys, where another device renewed them, from the backup."""
    if account.own.kid in account.keys.by_kid():
        return
    with contextlib.suppress(WrongSecret, Refused, InvalidKey):  # the messages say what they lack
        opened, *_ = await fetch_backup(shop, protocol, account.profile, stretched)
        check_restored(opened, account.own)
        adopt_keys(account, replace(account.keys, rsa_keys=opened.rsa_keys))


async def _refresh_backup(
    shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, stretched: Stretched
) -> None:
    """Brings the pins into the backup, where they are new since the last time: now its key is at hand.

    What the backup knows besides, another device told it; a store that was lost gets all of it back.
    """
    records, profile = account.records, account.profile
    if records.get("meta", {}).get("pins_backed") == _digest_of_pins(records):
        return
    try:
        stored = (await protocol.request(m.BackupRequest())).backup
        opened = await open_backup(shop, profile, stretched.backup_key(), stored)
        account.records = await restore_pins(account.store, records, opened.pins)
        if account.backup_version <= stored.version < MOST_VERSION:  # else it is older than the server said
            newer = with_pins(opened, records, max(opened.list_version, account.own.version))
            blob = seal_backup(stretched.backup_key(), newer, profile, stored.version + 1)
            await protocol.request(m.BackupRequest(backup=m.Backup(version=stored.version + 1, blob=blob)))
            await account.note_backup(stored.version + 1)
            await account.store.write([("meta", "pins_backed", _digest_of_pins(account.records))])
    except (Refused, WrongSecret):
        return  # under a recovery code, or another device was quicker; the next login tries again


def _digest_of_pins(records: Records) -> str:
    return p.digest("pins", json.dumps(records.get("pin", {}), sort_keys=True).encode("ascii")).hex()


async def restore_pins(store: LocalStore, records: Records, backed: Mapping[str, Any]) -> Records:
    """Puts into the local store those pins of a backup that it lacks; the records as they are then."""
    pins = dict(records.get("pin", {}))
    lacking = {user: pin.to_fields() for user, pin in pins_from(backed).items() if user not in pins}
    if lacking:
        await store.write([("pin", user, fields) for user, fields in lacking.items()])
    return {**records, "pin": pins | lacking}


def with_pins(
    opened: sealed_backup.AccountSecrets, records: Records, list_version: int
) -> sealed_backup.AccountSecrets:
    """A backup's contents with what is known here put to what it knows, as far as it takes that: the dearest first."""
    ours = pins_from(records.get("pin", {}))
    accepted = records.get("accepted", {})
    settled = {user for user, pin in ours.items() if accepted.get(user) == p.b64(pin.ik)}
    pins = merged(ours, pins_from(opened.pins), settled)
    left = limits.MAX_BACKUP - _BACKUP_REST - _BACKUP_KEY * (len(opened.rsa_keys) + 1)  # one may come with it
    kept = {}
    for user, pin in sorted(pins.items(), key=_dearness)[:_BACKUP_PINS]:
        fields = pin.to_fields()
        size = len(json.dumps({user: fields}))
        if size <= left:
            left -= size
            kept[user] = fields
    return opened.with_pins(kept, list_version)


def _dearness(named: tuple[str, Pin]) -> tuple[bool, bool, int]:
    """Which pins a backup keeps first: those compared, those with an open claim, then whoever was known longest.

    So strangers, however many come, put nobody out of it.
    """
    _, pin = named
    return not pin.verified, pin.claimed is None, pin.first_seen


async def fetch_keys(shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, password: str) -> int:
    """Takes the RSA keys of the backup into the keystore; how many were not there.

    Raises:
        WrongPassword: the keystore does not open with it.
        WrongSecret, InvalidKey, Refused, LinkLost: the backup is not to be had. Nothing is changed.
    """
    _, _, stretched = await open_keystore(shop, account.keystore, password)
    opened, *_ = await fetch_backup(shop, protocol, account.profile, stretched)
    check_restored(opened, account.own)
    here, brought = account.keys.by_kid(), replace(account.keys, rsa_keys=opened.rsa_keys).by_kid()
    gained = brought.keys() - here.keys()
    if gained:
        rest = (key for kid, key in here.items() if kid not in brought)
        adopt_keys(account, replace(account.keys, rsa_keys=(*opened.rsa_keys, *rest)))
    return len(gained)


async def fetch_backup(
    shop: Workshop,
    protocol: ChatClientProtocol,
    profile: Profile,
    stretched: Stretched,
    check_version: Callable[[int], None] = lambda version: None,
) -> tuple[sealed_backup.AccountSecrets, bytes, bool, int]:
    """The opened backup; the key it lies under, whether that is of a recovery code, and its version.

    Args:
        check_version: called with the version before anything is opened; what it raises passes through.
    """
    stored = (await protocol.request(m.BackupRequest())).backup
    check_version(stored.version)
    if stored.version >= MOST_VERSION:
        raise WrongSecret("the backup has a number that no other can follow")
    by_code = sealed_backup.needs_code(stored.blob)
    key, what = stretched.backup_key(), "password"
    if by_code:
        typed = await shop.ask_code()
        if not typed:
            raise WrongSecret("the backup lies under a recovery code, and none was given")
        key, what = sealed_backup.code_key(sealed_backup.parse_code(typed)), "recovery code"
    try:
        opened = await open_backup(shop, profile, key, stored)
    except WrongSecret:
        reset = "" if by_code else " (perhaps the operator reset your password)"
        raise WrongSecret(
            f"the backup at the server does not open with this {what}. It lies under another one{reset}, or is damaged"
        ) from None
    return opened, key, by_code, stored.version


def check_restored(account_secrets: sealed_backup.AccountSecrets, own: AccountKeys) -> None:
    """Whether a backup is of the account as the server shows it. Raises InvalidKey."""
    if p.ed25519_public(account_secrets.identity) != own.ik:
        raise InvalidKey("the server has another identity for this account than the backup")
    if own.version < account_secrets.list_version:
        raise InvalidKey("the server gave an older device list than the backup knows")
    if own.kid not in {p.key_id(p.rsa_public_der(key.public_key())) for key in account_secrets.rsa_keys}:
        raise InvalidKey("the backup lacks the account's present key")


async def open_backup(shop: Workshop, profile: Profile, key: bytes, stored: m.Backup) -> sealed_backup.AccountSecrets:
    """Opens a backup in a thread: an RSA key that comes from elsewhere is checked for 0.15 s. Raises WrongSecret."""
    work = partial(
        sealed_backup.open_backup, key, stored.blob, srv=profile.srv, user=profile.user, version=stored.version
    )
    opened: sealed_backup.AccountSecrets = await shop.run(work)
    return opened


def seal_backup(
    key: bytes, account_secrets: sealed_backup.AccountSecrets, profile: Profile, version: int, *, by_code: bool = False
) -> bytes:
    """A backup of that number under a key; `by_code`: the key is of a recovery code."""
    return sealed_backup.seal_backup(
        key,
        account_secrets,
        srv=profile.srv,
        user=profile.user,
        version=version,
        nonce=secrets.token_bytes(p.NONCE_BYTES),
        by_code=by_code,
    )
