"""Becoming an account on a server, and staying it: register, login, new device, password, backup, identity.

The password is stretched in a thread and forgotten; what needs the identity's private half happens while the password
was just typed, since that key lives in the sealed backup and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import UNSET
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred

from securechat.client.people import merged, pins_from
from securechat.client.profile import ClientDir, Profile
from securechat.client.protocol import ChatClientProtocol
from securechat.client.store import CannotKeep, LocalStore, Records
from securechat.crypto import backup as sealed_backup
from securechat.crypto import keystore as ks
from securechat.crypto import primitives as p
from securechat.crypto.identity import (
    AccountKeys,
    SignedBundle,
    certify_device,
    login_proof,
    sign_device_list,
    verify_bundle,
)
from securechat.crypto.passwords import SALT_BYTES, Stretched, stretch
from securechat.crypto.trust import Pin
from securechat.errors import (
    BAD_LOGIN,
    BUSY,
    FULL,
    INTERNAL,
    RATE_LIMITED,
    TOO_MANY_DEVICES,
    TRY_AGAIN,
    Exit,
    InvalidKey,
    Refused,
    SecureChatError,
    WrongSecret,
)
from securechat.wire import limits
from securechat.wire import messages as m

T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]
_PASSING: Final = frozenset({BUSY, FULL, INTERNAL, RATE_LIMITED, TRY_AGAIN})
MOST_VERSION: Final = 2**53 - 1
_ELSEWHERE: Final = "log in with the new one from an empty directory: securechat --data-dir NEW_DIR CONNECT_LINE"
_BACKUP_PINS: Final = 1000  # each takes 250 bytes of the backup and more
_BACKUP_KEY: Final = 2600  # bytes that an RSA key takes of it
_BACKUP_REST: Final = 8192  # and all but pins and keys, with the padding


class WrongPassword(SecureChatError):
    """The keystore on this machine does not open; the server was not asked."""

    exit = Exit.LOGIN_REFUSED


class OlderState(InvalidKey):
    """The server gave an account's list or backup as it was before it gave a newer one."""


class Unsettled(SecureChatError):
    """It is not known which of two passwords counts."""

    def __init__(self, user: str) -> None:
        super().__init__(
            "An earlier change of the password got no answer, so which one counts is not known yet. Type /logout, then"
            f" /login {user} with the new one or, if that is refused, with the old one; then /passwd again."
        )


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


class KeyForge:
    """Makes RSA keys ahead of their need: 0.1 to 2 s that nobody then waits for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._next: Any = None

    def start(self) -> None:
        """Starts making the next key in a thread."""
        if self._next is None:
            self._next = Deferred.fromCoroutine(_awaiting(self._run(p.new_rsa)))
            self._next.addErrback(lambda failure: failure)

    async def take(self) -> Any:
        """A fresh key."""
        self.start()
        made, self._next = self._next, None
        return await made


async def _awaiting(work: Awaitable[T]) -> T:
    return await work


@dataclass(frozen=True)
class Workshop:
    """What the flows need of their surroundings.

    Attributes:
        run: calls a function in a thread.
        ask_code: asks for the recovery code; None where nobody is there.
        pool: makes the local store's pool of connections.
    """

    directory: ClientDir
    reactor: Any
    run: Run
    forge: KeyForge
    now_ms: Callable[[], int]
    ask_code: Callable[[], Awaitable[str | None]]
    pool: Callable[..., ConnectionPool] = ConnectionPool


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
    own = verify_bundle(bundle, srv=profile.srv, user=profile.user)
    if own.ik != ik:
        raise InvalidKey(
            f"the server has another identity for {profile.user} than this machine. If you reset it elsewhere, move"
            f" {profile.path} away and log in again; if not, the server is lying"
        )
    return own


# --- register ---------------------------------------------------------------------------------------------------------


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


# --- login ------------------------------------------------------------------------------------------------------------


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
                f" {_ELSEWHERE}. Or the operator suspended or deleted the account or reset its password: ask them. Keep"
                f" {profile.path} in any case: your keys are in it."
            ) from None
        raise
    return reply


async def settle_keys(shop: Workshop, protocol: ChatClientProtocol, account: OpenAccount, stretched: Stretched) -> None:
    """After a login by password: newer RSA keys come out of the backup, and what is known of others goes into it."""
    await _catch_up_keys(shop, protocol, account, stretched)
    await _refresh_backup(shop, protocol, account, stretched)


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
        account.records = await _restore_pins(account.store, records, opened.pins)
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


async def _restore_pins(store: LocalStore, records: Records, backed: Mapping[str, Any]) -> Records:
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


async def open_keystore(shop: Workshop, keystore: ks.Keystore, password: str) -> tuple[ks.Slot, bytes, Stretched]:
    for slot in reversed(keystore.slots):
        stretched = await shop.run(stretch, password, slot.salt)
        with contextlib.suppress(WrongSecret):
            return slot, keystore.open_slot(slot, stretched.keystore_key()), stretched
    raise WrongPassword(
        f"That is not the password of {keystore.user} on this machine: the keys here do not open. If it was changed on"
        f" another machine, or reset by the operator, {_ELSEWHERE}."
    )


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
        records = await _restore_pins(store, records, account_secrets.pins)  # first: a kill must not lose them
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


def check_restored(account_secrets: sealed_backup.AccountSecrets, own: AccountKeys) -> None:
    if p.ed25519_public(account_secrets.identity) != own.ik:
        raise InvalidKey("the server has another identity for this account than the backup")
    if own.version < account_secrets.list_version:
        raise InvalidKey("the server gave an older device list than the backup knows")
    if own.kid not in {p.key_id(p.rsa_public_der(key.public_key())) for key in account_secrets.rsa_keys}:
        raise InvalidKey("the backup lacks the account's present key")


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


async def open_backup(shop: Workshop, profile: Profile, key: bytes, stored: m.Backup) -> sealed_backup.AccountSecrets:
    """Opens a backup in a thread: an RSA key that comes from elsewhere is checked for 0.15 s. Raises WrongSecret."""
    work = partial(
        sealed_backup.open_backup, key, stored.blob, srv=profile.srv, user=profile.user, version=stored.version
    )
    opened: sealed_backup.AccountSecrets = await shop.run(work)
    return opened


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


def adopt_keys(account: OpenAccount, keys: ks.ProfileKeys) -> None:
    """Keeps other keys in the profile's keystore, on disk when done."""
    profile, data_key = account.profile, account.data_key
    box = ks.make_box(profile.srv, profile.user, keys, data_key, secrets.token_bytes(p.NONCE_BYTES))
    account.keystore = ks.Keystore(profile.srv, profile.user, account.keystore.slots, box)
    profile.write_keystore(account.keystore)
    account.keys = keys


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


# --- parts ------------------------------------------------------------------------------------------------------------


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


def seal_backup(
    key: bytes, account_secrets: sealed_backup.AccountSecrets, profile: Profile, version: int, *, by_code: bool = False
) -> bytes:
    return sealed_backup.seal_backup(
        key,
        account_secrets,
        srv=profile.srv,
        user=profile.user,
        version=version,
        nonce=secrets.token_bytes(p.NONCE_BYTES),
        by_code=by_code,
    )


def new_slot(profile: Profile, data_key: bytes, stretched: Stretched) -> ks.Slot:
    return ks.make_slot(
        profile.srv,
        profile.user,
        stretched.salt,
        stretched.keystore_key(),
        data_key,
        secrets.token_bytes(p.NONCE_BYTES),
    )


def new_keystore(profile: Profile, keys: ks.ProfileKeys, data_key: bytes, stretched: Stretched) -> ks.Keystore:
    box = ks.make_box(profile.srv, profile.user, keys, data_key, secrets.token_bytes(p.NONCE_BYTES))
    return ks.Keystore(profile.srv, profile.user, (new_slot(profile, data_key, stretched),), box)
