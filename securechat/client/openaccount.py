"""An account whose keys are open in this process: what it consists of, and why it may not open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securechat.client.people import pins_from
from securechat.client.profile import Profile
from securechat.client.protocol import ChatClientProtocol
from securechat.client.store import CannotKeep, LocalStore, Records
from securechat.client.workshop import Workshop
from securechat.crypto import keystore as ks
from securechat.crypto.identity import AccountKeys, login_proof, verify_bundle
from securechat.crypto.passwords import Stretched
from securechat.errors import Exit, InvalidKey, SecureChatError
from securechat.wire import messages as m


class WrongPassword(SecureChatError):
    """The keystore on this machine does not open; the server was not asked."""

    exit = Exit.LOGIN_REFUSED


class OlderState(InvalidKey):
    """The server gave an account's list or backup as it was before it gave a newer one."""


class KeysOutOfReach(SecureChatError):
    """The password is right, but the account's keys cannot be had; only `/reset-identity` is left, or another machine.

    Attributes:
        stranded: what a reset needs.
    """

    exit = Exit.UNTRUSTED

    def __init__(self, text: str, stranded: Stranded) -> None:
        self.stranded = stranded
        super().__init__(text)


@dataclass(frozen=True)
class Stranded:
    """Logged in by password, without the account's keys."""

    user: str
    salt: bytes
    backup_version: int


@dataclass(frozen=True)
class FirstLogin:
    """What it takes to log in with a keystore that was opened before the server was asked.

    Attributes:
        slot: the one that the password opened.
        stretched: the password's; dropped as soon as the server has said yes.
    """

    slot: ks.Slot
    stretched: Stretched


@dataclass
class OpenAccount:
    """An account whose keys are open in this process.

    Attributes:
        salt: of its present password.
        token: resumes the session after a lost connection; "" before there is one.
        own: its own keys as the server has them, verified against what was known here.
        fresh: whether this is a new device of an older account.
        first_login: of an account that was opened before the server was asked, until it has logged in.
        kept_own: digest of the device list that the local store has.
    """

    profile: Profile
    lock: int
    keystore: ks.Keystore
    data_key: bytes
    keys: ks.ProfileKeys
    store: LocalStore
    records: Mapping[str, Mapping[str, Any]]
    salt: bytes
    token: str
    own: AccountKeys
    backup_version: int
    fresh: bool = False
    first_login: FirstLogin | None = None
    kept_own: str = ""

    def __repr__(self) -> str:
        return f"<OpenAccount {self.profile.user}>"

    @property
    def user(self) -> str:
        """The account's name."""
        return self.profile.user

    @property
    def logged_in(self) -> bool:
        """Whether there is a session at the server, as far as is known."""
        return bool(self.token)

    async def note_backup(self, version: int) -> None:
        """Remembers the newest backup, so that an older one is not taken for it."""
        self.backup_version = version
        with contextlib.suppress(CannotKeep):
            await self.store.write([("meta", "backup_version", version)])

    def close(self) -> None:
        """Lets go of the profile."""
        self.store.close()
        os.close(self.lock)

    async def resume(self, protocol: ChatClientProtocol) -> AccountKeys:
        """Logs in again on a new connection; the account's keys as the server has them. Raises Refused, InvalidKey."""
        proof = self._proof(protocol)
        reply = await protocol.request(m.Resume(token=self.token, proof=proof))
        return self.checked(reply.keys)

    def checked(self, bundle: m.KeyBundle) -> AccountKeys:
        """The account's own keys as the server has them now; whoever takes them as `own` looks at the pin first.

        Raises:
            InvalidKey: not those of this account.
        """
        return own_keys(bundle, self.profile, self.keys.ik)

    def _proof(self, protocol: ChatClientProtocol) -> bytes:
        return prove(protocol, self.keys, self.user)


def prove(protocol: ChatClientProtocol, keys: ks.ProfileKeys, user: str) -> bytes:
    """The device's signature over this connection."""
    assert protocol.hello is not None
    return login_proof(
        keys.device, lk=protocol.hello.lk, exporter=protocol.exporter, nonce=protocol.hello.nonce, user=user
    )


def own_keys(bundle: m.KeyBundle, profile: Profile, ik: bytes) -> AccountKeys:
    """An account's keys as the server has them, verified. Raises InvalidKey: also where the identity is not `ik`."""
    own = verify_bundle(bundle, srv=profile.srv, user=profile.user)
    if own.ik != ik:
        raise InvalidKey(
            f"the server has another identity for {profile.user} than this machine. If you reset it elsewhere, move"
            f" {profile.path} away and log in again; if not, the server is lying"
        )
    return own


def check_not_older(profile: Profile, records: Records, own: AccountKeys, backup_version: int) -> None:
    """Whether the server is where this profile last saw it: nothing is signed on top of something older.

    Raises:
        OlderState: it is not.
    """
    seen = pins_from(records.get("pin", {})).get(own.user)
    known = None if seen is None or seen.ik != own.ik else (seen.version, seen.digest)
    older_list = known is not None and (own.version < known[0] or (own.version == known[0] and own.digest != known[1]))
    if older_list or backup_version < int(records.get("meta", {}).get("backup_version", 0)):
        raise OlderState(
            f"the server gave an older {'device list' if older_list else 'backup'} of {own.user} than it had given"
            f" before. Ask its operator. If they put back an older state, move {profile.path} away and log in again"
        )


async def open_account(
    shop: Workshop,
    profile: Profile,
    lock: int,
    keystore: ks.Keystore,
    data_key: bytes,
    keys: ks.ProfileKeys,
    salt: bytes,
    reply: m.LoginOk,
) -> OpenAccount:
    """An account as the server's reply to a login has it, with its local store. Raises InvalidKey."""
    own = own_keys(reply.keys, profile, keys.ik)
    store, records = await open_store(shop, profile, data_key)
    account = OpenAccount(
        profile, lock, keystore, data_key, keys, store, records, salt, reply.token, own, reply.backup_version
    )
    if reply.backup_version > int(records.get("meta", {}).get("backup_version", 0)):
        await account.note_backup(reply.backup_version)
    return account


async def open_store(shop: Workshop, profile: Profile, data_key: bytes) -> tuple[LocalStore, Records]:
    """The local store, and all that is in it."""
    store = LocalStore(profile.database, ks.RecordSealer(data_key), reactor=shop.reactor, pool=shop.pool)
    try:
        return store, await store.load()
    except BaseException:
        store.close()
        raise
