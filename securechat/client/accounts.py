"""Becoming an account on a server, and staying it: register, login, new device.

The password is stretched in a thread and forgotten; what needs the identity's private half happens while the password
was just typed, since that key lives in the sealed backup and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from msgspec import UNSET

from securechat.client.backups import check_restored, fetch_backup, restore_pins, seal_backup, settle_keys, with_pins
from securechat.client.keystores import ELSEWHERE, new_keystore, open_keystore
from securechat.client.openaccount import (
    KeysOutOfReach,
    OlderState,
    OpenAccount,
    Stranded,
    WrongPassword,
    check_not_older,
    open_account,
    open_store,
    own_keys,
    prove,
)
from securechat.client.profile import Profile
from securechat.client.protocol import ChatClientProtocol
from securechat.client.workshop import Workshop
from securechat.crypto import backup as sealed_backup
from securechat.crypto import keystore as ks
from securechat.crypto import primitives as p
from securechat.crypto.identity import AccountKeys, SignedBundle, certify_device, sign_device_list, verify_bundle
from securechat.crypto.passwords import SALT_BYTES, Stretched, stretch
from securechat.errors import (
    BAD_LOGIN,
    BUSY,
    FULL,
    INTERNAL,
    RATE_LIMITED,
    TOO_MANY_DEVICES,
    TRY_AGAIN,
    InvalidKey,
    Refused,
    WrongSecret,
)
from securechat.wire import limits
from securechat.wire import messages as m

_PASSING: Final = frozenset({BUSY, FULL, INTERNAL, RATE_LIMITED, TRY_AGAIN})


async def register(
    shop: Workshop, protocol: ChatClientProtocol, user: str, password: str, invite: str | None
) -> OpenAccount:
    """Makes an account, its first device and its backup. Raises Refused and the errors of `login`.

    Where this machine has keys of that name already (an earlier try whose answer got lost), it logs in with them.
    """
    profile = shop.directory.profile(protocol.srv, user)
    if profile.exists():
        with contextlib.suppress(WrongPassword):  # any other refusal says nothing against the keys that are here
            return await login(shop, protocol, user, password)
    lock = profile.lock()
    try:
        return await _register(shop, protocol, profile, lock, password, invite)
    except BaseException:
        os.close(lock)
        raise


async def _register(
    shop: Workshop, protocol: ChatClientProtocol, profile: Profile, lock: int, password: str, invite: str | None
) -> OpenAccount:
    stretched, rsa = await shop.run(stretch, password, secrets.token_bytes(SALT_BYTES)), await shop.forge.take()
    identity = p.new_ed25519()
    keys = ks.ProfileKeys(p.new_ed25519(), (rsa,), p.ed25519_public(identity))
    bundle = next_list(profile, identity, keys, None, shop.now_ms())
    account_secrets = sealed_backup.AccountSecrets(identity, (rsa,), 1, {})
    blob = seal_backup(stretched.backup_key(), account_secrets, profile, 1)
    data_key = secrets.token_bytes(ks.DATA_KEY_BYTES)
    keystore = new_keystore(profile, keys, data_key, stretched)
    profile.write_pending(keystore)
    proof = prove(protocol, keys, profile.user)
    try:
        reply = await protocol.request(
            m.Register(
                user=profile.user,
                password=stretched.auth_token(profile.srv, profile.user),
                salt=stretched.salt,
                keys=m.KeyBundle.of(bundle),
                proof=proof,
                backup=m.Backup(version=1, blob=blob),
                invite=invite,
            )
        )
    except Refused:
        profile.drop_pending()
        raise
    profile.write_keystore(keystore)
    return await open_account(shop, profile, lock, keystore, data_key, keys, stretched.salt, reply)


async def login(shop: Workshop, protocol: ChatClientProtocol, user: str, password: str) -> OpenAccount:
    """Logs in with the keystore of this machine, or from an empty directory with the sealed backup.

    Raises:
        WrongPassword: the keystore does not open.
        Refused: the server's answer.
        InvalidKey: what the server has is not this account as it is known here.
        KeysOutOfReach: the password is right, the keys are not to be had.
    """
    profile = shop.directory.profile(protocol.srv, user)
    lock = profile.lock()
    try:
        keystore = profile.read_keystore()
        if keystore is None:
            return await _login_afresh(shop, protocol, profile, lock, password)
        return await _login_with(shop, protocol, profile, lock, keystore, password)
    except BaseException:
        os.close(lock)
        raise


async def _login_with(
    shop: Workshop, protocol: ChatClientProtocol, profile: Profile, lock: int, keystore: ks.Keystore, password: str
) -> OpenAccount:
    slot, data_key, stretched = await open_keystore(shop, keystore, password)
    keys: ks.ProfileKeys = await shop.run(keystore.open_box, data_key)
    reply = await ask_login(protocol, profile, keys, stretched)
    if reply.device is UNSET:
        own = own_keys(reply.keys, profile, keys.ik)
        return await enrol(shop, protocol, profile, lock, stretched, own, reply, data_key)
    keystore = keystore.with_only(slot)
    profile.write_keystore(keystore)
    account = await open_account(shop, profile, lock, keystore, data_key, keys, stretched.salt, reply)
    try:
        await settle_keys(shop, protocol, account, stretched)
    except BaseException:
        account.store.close()
        raise
    return account


async def _login_afresh(
    shop: Workshop, protocol: ChatClientProtocol, profile: Profile, lock: int, password: str
) -> OpenAccount:
    user = profile.user
    salt = (await protocol.request(m.Prelogin(user=user))).salt
    stretched = await shop.run(stretch, password, salt)
    token = stretched.auth_token(profile.srv, user)
    reply = await protocol.request(m.Login(user=user, password=token))
    own = verify_bundle(reply.keys, srv=profile.srv, user=user)
    return await enrol(shop, protocol, profile, lock, stretched, own, reply, secrets.token_bytes(ks.DATA_KEY_BYTES))


async def ask_login(
    protocol: ChatClientProtocol, profile: Profile, keys: ks.ProfileKeys, stretched: Stretched
) -> m.LoginOk:
    """Logs in as a device of the account; where the reply names none, this one is in force no more.

    Raises:
        WrongPassword: it opens the keystore, and the server refuses it.
        Refused, LinkLost.
    """
    token = stretched.auth_token(profile.srv, profile.user)
    proof = prove(protocol, keys, profile.user)
    try:
        reply: m.LoginOk = await protocol.request(
            m.Login(user=profile.user, password=token, device=keys.dev, proof=proof)
        )
    except Refused as refusal:
        if refusal.code is BAD_LOGIN:
            raise WrongPassword(
                f"That password opens the keys of {profile.user} on this machine, but the server refuses it. Either it"
                " was changed on another machine; then the backup brings your keys along when you"
                f" {ELSEWHERE}. Or the operator suspended or deleted the account or reset its password: ask them. Keep"
                f" {profile.path} in any case: your keys are in it."
            ) from None
        raise
    return reply


async def enrol(
    shop: Workshop,
    protocol: ChatClientProtocol,
    profile: Profile,
    lock: int,
    stretched: Stretched,
    own: AccountKeys,
    reply: m.LoginOk,
    data_key: bytes,
) -> OpenAccount:
    """Makes this profile a device of the account, with the keys of the backup."""
    if len(own.devices) >= limits.MAX_DEVICES:
        raise Refused(TOO_MANY_DEVICES, limit=limits.MAX_DEVICES)
    store, records = await open_store(shop, profile, data_key)
    try:
        check_not_older(profile, records, own, reply.backup_version)
        not_older = partial(check_not_older, profile, records, own)
        account_secrets, key, by_code, version = await _restored(
            shop, protocol, profile, stretched, own, reply, not_older
        )
        records = await restore_pins(store, records, account_secrets.pins)  # first: a kill must not lose them
        newer = with_pins(account_secrets, records, own.version + 1)
    finally:
        store.close()
    keys = ks.ProfileKeys(p.new_ed25519(), account_secrets.rsa_keys, own.ik)
    bundle = next_list(profile, account_secrets.identity, keys, own, shop.now_ms())
    backup = m.Backup(version=version + 1, blob=seal_backup(key, newer, profile, version + 1, by_code=by_code))
    keystore = new_keystore(profile, keys, data_key, stretched)
    profile.write_pending(keystore)
    proof = prove(protocol, keys, profile.user)
    published = await protocol.request(
        m.Publish(device=keys.dev, proof=proof, keys=m.KeyBundle.of(bundle), backup=backup)
    )
    profile.write_keystore(keystore)
    opened = m.LoginOk(
        user=profile.user, token=reply.token, keys=published.keys, backup_version=published.backup_version
    )
    account = await open_account(shop, profile, lock, keystore, data_key, keys, stretched.salt, opened)
    return replace(account, fresh=True)


async def _restored(
    shop: Workshop,
    protocol: ChatClientProtocol,
    profile: Profile,
    stretched: Stretched,
    own: AccountKeys,
    reply: m.LoginOk,
    check_version: Callable[[int], None],
) -> tuple[sealed_backup.AccountSecrets, bytes, bool, int]:
    """`_fetch_backup` of an account that is these keys. Raises KeysOutOfReach, OlderState, Refused."""
    try:
        fetched = await fetch_backup(shop, protocol, profile, stretched, check_version)
        check_restored(fetched[0], own)
    except OlderState:
        raise  # nobody should start over for that
    except (WrongSecret, Refused, InvalidKey) as error:
        if isinstance(error, Refused) and error.code in _PASSING:
            raise
        raise KeysOutOfReach(
            f"The password is right, but the keys of {profile.user} cannot be restored: {error}. Log in on a machine"
            " whose keys this password opens, or start over with new keys: /reset-identity.",
            Stranded(profile.user, stretched.salt, reply.backup_version),
        ) from None
    return fetched


def next_list(
    profile: Profile, identity: Any, keys: ks.ProfileKeys, own: AccountKeys | None, now_ms: int
) -> SignedBundle:
    """The account's next device list, with this profile's device in it. Devices that are there already stay."""
    certificate = certify_device(
        identity=identity,
        device=keys.device,
        srv=profile.srv,
        user=profile.user,
        name=f"device {1 if own is None else own.version + 1}",  # not the machine's name: everybody can read it
        created=now_ms,
    )
    older = () if own is None or own.bundle is None else tuple(own.bundle.certs)
    return sign_device_list(
        identity=identity,
        srv=profile.srv,
        user=profile.user,
        version=1 if own is None else own.version + 1,
        previous="" if own is None else own.digest,
        rk_der=p.rsa_public_der(keys.rsa_keys[0].public_key()),
        certificates=(*older, certificate),
        revoked=() if own is None else sorted(own.revoked),
        old_kids=() if own is None else own.kids,
    )
