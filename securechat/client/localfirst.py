"""Local first: an account opened with what is on this machine, and logged in behind its user's back.

What was kept of it is there as soon as the password is stretched: rooms, what is unread, the outbox. Whether the server
agrees shows later; until then nothing leaves this machine but the login itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, ValidationError, convert

from securechat.client import stay
from securechat.client.accounts import ask_login, enrol
from securechat.client.backups import settle_keys
from securechat.client.keystores import open_keystore
from securechat.client.openaccount import FirstLogin, OpenAccount, check_not_older, open_store, own_keys
from securechat.client.people import pins_from
from securechat.client.profile import Profile
from securechat.client.protocol import LinkLost
from securechat.client.store import Records
from securechat.client.workshop import Workshop
from securechat.crypto.identity import AccountKeys
from securechat.errors import Exit, InvalidKey, Refused, SecureChatError
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore
    from securechat.client.protocol import ChatClientProtocol


NO_DEVICE: Final = "This machine is no device of your account any more, and could not be made one again"


class NotTakenUp(SecureChatError):
    """An account that was open had to be closed half way; the text says what to type."""

    exit = Exit.LOGIN_REFUSED


async def open_here(shop: Workshop, srv: str, user: str, password: str) -> OpenAccount | None:
    """Opens an account without the server.

    Returns:
        None where what is here does not suffice: no keys, or nothing kept yet of what the server has of the account.

    Raises:
        WrongPassword: the keystore does not open.
        InvalidKey: it is damaged.
        ProfileBusy: another client has it open.
    """
    profile = shop.directory.profile(srv, user)
    if not profile.exists():
        return None
    lock, account = profile.lock(), None
    try:
        keystore = profile.read_keystore()
        if keystore is None:
            return None
        slot, data_key, stretched = await open_keystore(shop, keystore, password)
        keys = await shop.run(keystore.open_box, data_key)
        store, records = await open_store(shop, profile, data_key)
        own = _kept(profile, records, keys)
        if own is None:
            store.close()
            return None
        account = OpenAccount(
            profile, lock, keystore, data_key, keys, store, records, slot.salt, "", own, _backup_version(records),
            first_login=FirstLogin(slot, stretched), kept_own=own.digest,
        )  # fmt: skip
        return account
    finally:
        if account is None:
            os.close(lock)


def _kept(profile: Profile, records: Records, keys: Any) -> AccountKeys | None:
    """The account's own keys as `ownkeys.keep` left them; None where they are not, or not the newest that were seen."""
    try:
        own = own_keys(convert(records["meta"]["own"], m.KeyBundle), profile, keys.ik)
        check_not_older(profile, records, own, _backup_version(records))
    except (KeyError, ValidationError, InvalidKey):
        return None
    return own if keys.dev in own.devices else None


def _backup_version(records: Records) -> int:
    return int(records.get("meta", {}).get("backup_version", 0))


# --- behind it --------------------------------------------------------------------------------------------------------


async def log_in(core: ChatCore, account: OpenAccount, protocol: ChatClientProtocol) -> None:
    """The first login of an account that was opened here; afterwards its session is resumed like any other.

    A device that is in force no more becomes a new one, and the account is taken up anew with that one's keys.

    Raises:
        Refused, WrongPassword: the server's answer.
        InvalidKey: this is another server, or what it has is not the account as it is known here.
        KeysOutOfReach, NotTakenUp: this device is in force no more, and a new one is not made; the account is closed.
        LinkLost: the connection is gone, or the account was left meanwhile.
    """
    first, people = account.first_login, core.people
    assert first is not None and people is not None
    reply = await ask_login(protocol, account.profile, account.keys, first.stretched)
    _still(core, account)
    if reply.device is UNSET:
        await _as_another_device(core, account, protocol, first, reply)
        return
    own = account.checked(reply.keys)
    people.meet_self(own, fresh=False)
    account.keystore = account.keystore.with_only(first.slot)
    account.profile.write_keystore(account.keystore)
    account.own, account.token, account.first_login = own, reply.token, None
    if reply.backup_version > account.backup_version:
        await account.note_backup(reply.backup_version)
    held = account.keys
    await settle_keys(core.shop, protocol, account, first.stretched)
    _still(core, account)
    people.pins.complete(pins_from(account.records.get("pin", {})))
    if account.keys is not held and core.inbox is not None:
        core.inbox.use(account.keys.by_kid())


def _still(core: ChatCore, account: OpenAccount) -> None:
    if core.account is not account:
        raise LinkLost("the account was left meanwhile")


async def _as_another_device(
    core: ChatCore, account: OpenAccount, protocol: ChatClientProtocol, first: FirstLogin, reply: m.LoginOk
) -> None:
    own = account.checked(reply.keys)
    await stay.put_down(core)
    account.store.close()
    try:
        renewed = await enrol(
            core.shop, protocol, account.profile, account.lock, first.stretched, own, reply, account.data_key
        )
    except BaseException as error:
        os.close(account.lock)
        if isinstance(error, (LinkLost, Refused)):  # the account is closed: nothing tries this again by itself
            raise NotTakenUp(f"{NO_DEVICE}: {error} Type /login {account.user} to try again.") from None
        raise
    core.notice("This device was taken off your account's list; it is a new one now, with keys from the backup.")
    await stay.enter(core, renewed)
