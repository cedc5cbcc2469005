"""While logged in: another password, another place for the backup, a device shut out, a new identity.

Each needs the password, for the identity's private half lies in the sealed backup and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from securechat.client.accounts import next_list
from securechat.client.backups import (
    MOST_VERSION,
    check_restored,
    fetch_backup,
    open_backup,
    seal_backup,
    with_pins,
)
from securechat.client.keystores import adopt_keys, new_keystore, new_slot
from securechat.client.openaccount import OpenAccount, Stranded, WrongPassword, open_account, prove
from securechat.client.profile import Profile
from securechat.client.protocol import ChatClientProtocol
from securechat.client.workshop import Workshop
from securechat.crypto import backup as sealed_backup
from securechat.crypto import keystore as ks
from securechat.crypto import primitives as p
from securechat.crypto.identity import (
    device_of,
    sign_device_list,
)
from securechat.crypto.passwords import SALT_BYTES, Stretched, stretch
from securechat.errors import (
    DAMAGED,
    NO_BACKUP,
    InvalidKey,
    Refused,
    SecureChatError,
    WrongSecret,
)
from securechat.wire import messages as m


class Unsettled(SecureChatError):
    """It is not known which of two passwords counts."""

    def __init__(self, user: str) -> None:
        super().__init__(
            "An earlier change of the password got no answer, so which one counts is not known yet. Type /logout, then"
            f" /login {user} with the new one or, if that is refused, with the old one; then /passwd again."
        )


async def change_password(
    shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, old: str, new: str
) -> bool:
    """A new password for the account, its keystore and its backup.

    The keystore gets the new slot first and loses the old one at the next login: a crash anywhere in between leaves
    one of the two passwords working for both. After a change that got no answer there is no place for a third.

    Returns:
        Whether the backup is of use afterwards: not if it was none before.

    Raises:
        WrongPassword: `old` is not the present one.
        Unsettled: an earlier change got no answer.
        Refused: the server's answer; all is as before.
    """
    profile, earlier = account.profile, account.keystore
    if earlier.slots[-1].salt != account.salt:
        raise Unsettled(profile.user)
    before = await shop.run(stretch, old, account.salt)
    _check_typed(account, before)
    after = await shop.run(stretch, new, secrets.token_bytes(SALT_BYTES))
    fresh, backed = await _resealed_backup(shop, protocol, profile, before, after)
    account.keystore = earlier.with_slot(new_slot(profile, account.data_key, after))
    profile.write_keystore(account.keystore)
    try:
        await protocol.request(
            m.Passwd(
                password=before.auth_token(profile.srv, profile.user),
                new_password=after.auth_token(profile.srv, profile.user),
                new_salt=after.salt,
                backup=fresh,
            )
        )
    except Refused:
        account.keystore = earlier
        profile.write_keystore(earlier)
        raise
    account.salt = after.salt
    if fresh is not None:
        await account.note_backup(fresh.version)
    return backed


async def _resealed_backup(
    shop: Workshop, protocol: ChatClientProtocol, profile: Profile, before: Stretched, after: Stretched
) -> tuple[m.Backup | None, bool]:
    """The backup under a new password, where it lies under one; and whether there is one that is of use."""
    try:
        stored = (await protocol.request(m.BackupRequest())).backup
        if sealed_backup.needs_code(stored.blob):
            return None, True
        opened = await open_backup(shop, profile, before.backup_key(), stored)
    except WrongSecret:
        return None, False
    except Refused as refusal:
        if refusal.code not in (DAMAGED, NO_BACKUP):
            raise
        return None, False
    version = stored.version + 1
    if version > MOST_VERSION:
        return None, False
    return m.Backup(version=version, blob=seal_backup(after.backup_key(), opened, profile, version)), True


def _check_typed(account: OpenAccount, stretched: Stretched) -> None:
    """Whether a password typed again is the account's, by the keystore. Raises WrongPassword."""
    for slot in account.keystore.slots:
        if slot.salt == stretched.salt:
            with contextlib.suppress(WrongSecret):
                account.keystore.open_slot(slot, stretched.keystore_key())
                return
    raise WrongPassword("That is not your present password.")


async def backup_under_code(
    shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, password: str, show: Callable[[str], None]
) -> None:
    """Moves the backup under a fresh recovery code, which is kept nowhere.

    Args:
        show: shows the code, before the server can have what only it opens.
    """
    stretched = await shop.run(stretch, password, account.salt)
    _check_typed(account, stretched)
    opened, _, _, version = await fetch_backup(shop, protocol, account.profile, stretched)
    code = secrets.token_bytes(sealed_backup.CODE_BYTES)
    blob = seal_backup(sealed_backup.code_key(code), opened, account.profile, version + 1, by_code=True)
    show(sealed_backup.format_code(code))
    await protocol.request(m.BackupRequest(backup=m.Backup(version=version + 1, blob=blob)))
    await account.note_backup(version + 1)


async def revoke_device(
    shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, password: str, dev: str
) -> None:
    """Takes a device off the account's list and renews the RSA key, which that device does not get.

    The keystore has the new key on disk before anybody can seal for it.

    Raises:
        WrongPassword: not the present one.
        WrongSecret, Refused: the backup, where the identity's private half lies, cannot be had; nothing is changed.
    """
    profile, own = account.profile, account.own
    stretched = await shop.run(stretch, password, account.salt)
    _check_typed(account, stretched)
    opened, key, by_code, version = await fetch_backup(shop, protocol, profile, stretched)
    check_restored(opened, own)
    rsa = await shop.forge.take()
    keys = replace(account.keys, rsa_keys=(rsa, *account.keys.rsa_keys))
    adopt_keys(account, keys)
    newer = replace(with_pins(opened, account.records, own.version + 1), rsa_keys=(rsa, *opened.rsa_keys))
    assert own.bundle is not None
    bundle = sign_device_list(
        identity=opened.identity,
        srv=profile.srv,
        user=profile.user,
        version=own.version + 1,
        previous=own.digest,
        rk_der=p.rsa_public_der(rsa.public_key()),
        certificates=[c for c in own.bundle.certs if device_of(c).dev != dev],
        revoked=sorted({*own.revoked, dev}),
        old_kids=own.kids,
    )
    backup = m.Backup(version=version + 1, blob=seal_backup(key, newer, profile, version + 1, by_code=by_code))
    reply = await protocol.request(
        m.Publish(
            device=keys.dev, proof=prove(protocol, keys, profile.user), keys=m.KeyBundle.of(bundle), backup=backup
        )
    )
    published = account.checked(reply.keys)
    if published.version != own.version + 1:
        raise InvalidKey("the server took the new device list, and shows another")
    account.own = published
    await account.note_backup(version + 1)


async def _next_backup(protocol: ChatClientProtocol, known: int) -> int:
    """The next backup's number; after one that nothing can follow they begin anew."""
    with contextlib.suppress(Refused):
        known = (await protocol.request(m.BackupRequest())).backup.version
    return known + 1 if known < MOST_VERSION else 1


async def reset_identity(
    shop: Workshop,
    protocol: ChatClientProtocol,
    stranded: Stranded,
    password: str,
    account: OpenAccount | None,
    put_down: Callable[[], Awaitable[None]],
) -> OpenAccount:
    """Replaces the account's identity and keys by new ones; what was sealed for the old ones stays closed.

    Args:
        account: closed once the server agreed.
        put_down: called right before.
    """
    profile = shop.directory.profile(protocol.srv, stranded.user)
    stretched, rsa = await shop.run(stretch, password, stranded.salt), await shop.forge.take()
    identity = p.new_ed25519()
    keys = ks.ProfileKeys(p.new_ed25519(), (rsa,), p.ed25519_public(identity))
    bundle = next_list(profile, identity, keys, None, shop.now_ms())
    version = await _next_backup(protocol, stranded.backup_version)
    blob = seal_backup(stretched.backup_key(), sealed_backup.AccountSecrets(identity, (rsa,), 1, {}), profile, version)
    data_key = secrets.token_bytes(ks.DATA_KEY_BYTES) if account is None else account.data_key
    token = stretched.auth_token(profile.srv, profile.user)
    request = m.ResetIdentity(password=token, keys=m.KeyBundle.of(bundle), backup=m.Backup(version=version, blob=blob))
    reply = await protocol.request(request)
    if account is not None:
        await put_down()
        account.close()
    lock = profile.lock()
    try:
        keystore = new_keystore(profile, keys, data_key, stretched)
        profile.write_keystore(keystore)
        renewed = await open_account(shop, profile, lock, keystore, data_key, keys, stretched.salt, reply)
        await renewed.note_backup(version)
        return renewed
    except BaseException:
        os.close(lock)
        raise
