"""Requests about accounts: login and all that comes before it, sessions, passwords, keys, backups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from securechat.crypto.identity import (
    AccountKeys,
    SignedBundle,
    SignedCertificate,
    certify_device,
    check_login_proof,
    check_successor,
    stored_device_key,
    verify_bundle,
)
from securechat.crypto.passwords import fake_salt
from securechat.crypto.primitives import b64url, new_ed25519
from securechat.errors import (
    BAD_INVITE,
    BAD_KEYS,
    BAD_LOGIN,
    BAD_SESSION,
    INVITE_NEEDED,
    NAME_TAKEN,
    NO_BACKUP,
    NO_SUCH_USER,
    REGISTRATION_CLOSED,
    STALE_LIST,
    TOO_MANY_DEVICES,
    InvalidKey,
    Refused,
)
from securechat.storage.interface import Account, Backup, NewAccount, NewKeys, Session
from securechat.wire import codec, limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.server.session import ServerSession

_PASSWORD_CHANGED: Final = "The password of this account was changed. Log in with the new one."
_IDENTITY_RESET: Final = "The identity of this account was reset. Log in again."
_DEVICE_REVOKED: Final = "This device was removed from the account."
_PAST_TOGETHER: Final = 2000  # past certificates in one reply, 0.8 KB each: who asks for 20 users gets all of theirs


# --- between the wire and the store -----------------------------------------------------------------------------------


def to_store(bundle: m.KeyBundle) -> SignedBundle:
    """A part of a packet as a stored bundle; past certificates are the server's own to keep."""
    certs = tuple(SignedCertificate(c.cert, c.ik_sig, c.dk_sig) for c in bundle.certs)
    return SignedBundle(bundle.list, bundle.sig, certs)


def _verified(session: ServerSession, user: str, bundle: SignedBundle) -> AccountKeys:
    try:
        return verify_bundle(bundle, srv=session.parts.identity.srv, user=user)
    except InvalidKey as error:
        raise Refused(BAD_KEYS, why=error) from None


def _new_keys(keys: AccountKeys, bundle: SignedBundle) -> NewKeys:
    return NewKeys(keys.ik, keys.kid, keys.version, tuple(keys.devices), bundle, tuple(sorted(keys.revoked)))


def _backup(backup: m.Backup) -> Backup:
    return Backup(backup.version, backup.blob)


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def _check_proof(session: ServerSession, user: str, dk: bytes, proof: bytes) -> None:
    check_login_proof(
        dk, proof, lk=session.parts.identity.lk, exporter=session.peer.exporter, nonce=session.nonce, user=user
    )


# --- before the login -------------------------------------------------------------------------------------------------


async def prelogin(session: ServerSession, request: m.Prelogin) -> m.Reply:
    """The salt; for an unknown name a constant one that cannot be told from a real one."""
    store = session.parts.store
    salt = await store.salt(request.user)
    fake = fake_salt(store.secret, request.user)  # in any case: the time must not tell whether it is needed
    return m.PreloginOk(id=request.id, salt=fake if salt is None else salt)


async def register(session: ServerSession, request: m.Register) -> m.Reply:
    """A new account; the same (user, identity, password) again is `dup`, for a client that lost the first answer."""
    parts = session.parts
    mark = parts.logins.mark()
    parts.admission.stranger(request.user, session.peer.address, parts.monotonic())
    bundle = to_store(request.keys)
    keys = _verified(session, request.user, bundle)
    if keys.version != 1 or len(keys.devices) != 1:
        raise Refused(BAD_KEYS, why="a new account has one device and list number 1")
    (device,) = keys.devices
    _prove_new_device(session, request.user, keys, device, request.proof)
    account = await parts.store.account(request.user)
    # One hash is checked whether or not the name exists, and an invite is looked at before the name is told of.
    same = await _check_password(session, request.password, account)
    dup = same and account is not None and stored_device_key(account.keys, device) is not None
    if not dup:
        invite_hash = await _admit(session, request)
        if account is not None:
            raise Refused(NAME_TAKEN, user=request.user)
        new = NewAccount(
            request.user,
            await parts.passwords.hash(request.password),
            request.salt,
            keys.ik,
            keys.kid,
            keys.version,
            tuple(keys.devices),
            bundle,
            _backup(request.backup),
        )
        await parts.store.register(new, invite_hash=invite_hash, now=session.now_ms())
    return await _open(session, request.id, request.user, device, mark, dup=dup)


async def _admit(session: ServerSession, request: m.Register) -> bytes | None:
    """Whether this listener lets a newcomer in: the hash of the invite to use up, or None where none is needed."""
    from securechat.server.session import Registration

    registration = session.peer.registration
    if registration is Registration.CLOSED:
        raise Refused(REGISTRATION_CLOSED)
    if registration is Registration.OPEN:
        return None
    if request.invite is None:
        raise Refused(INVITE_NEEDED)
    invite_hash = _token_hash(request.invite)
    if not await session.parts.store.invite_holds(invite_hash, session.now_ms()):
        raise Refused(BAD_INVITE)
    return invite_hash


async def _check_password(session: ServerSession, token: str, account: Account | None) -> bool:
    usable = None if account is None or account.suspended else account.password_hash
    session.password_check = True
    try:
        return await session.parts.passwords.verify(token, usable)
    finally:
        session.password_check = False


async def login(session: ServerSession, request: m.Login) -> m.Reply:
    """By password. Unknown user, wrong password and suspended account are one error in equal time."""
    parts = session.parts
    mark = parts.logins.mark()
    account = await parts.store.account(request.user)
    device = _proven_device(session, request, account)
    if device is None:
        parts.admission.stranger(request.user, session.peer.address, parts.monotonic())
    else:
        parts.admission.known_device(request.user, device, parts.monotonic())
    matches = await _check_password(session, request.password, account)
    if account is None or not matches:
        raise Refused(BAD_LOGIN)
    if parts.passwords.needs_rehash(account.password_hash):
        new = await parts.passwords.hash(request.password)
        await parts.store.rehash(request.user, old=account.password_hash, new=new)
    return await _open(session, request.id, request.user, device, mark)


def _proven_device(session: ServerSession, request: m.Login, account: Account | None) -> str | None:
    """The device whose key signed this connection, if it is in force; None otherwise, without a word why."""
    if request.device is None or request.proof is None:
        return None
    dk = stored_device_key(_nobodys_keys() if account is None else account.keys, request.device)
    try:
        # A signature is checked in any case: the time must not tell whether there is such an account or device.
        _check_proof(session, request.user, dk or session.parts.identity.lk, request.proof)
    except InvalidKey:
        return None
    return None if dk is None else request.device


@cache
def _nobodys_keys() -> SignedBundle:
    """What is looked through for a device where there is no account, so that it takes as long."""
    identity, device = new_ed25519(), new_ed25519()
    certificate = certify_device(identity=identity, device=device, srv="0" * 43, user="nobody", name="-", created=1)
    return SignedBundle(b"", b"", (certificate,))


async def resume(session: ServerSession, request: m.Resume) -> m.Reply:
    """By the token of an earlier login, and the key of its device."""
    parts = session.parts
    mark = parts.logins.mark()
    token_hash = _token_hash(request.token)
    known = await parts.store.session(token_hash, session.now_ms())
    account = None if known is None else await parts.store.account(known.user)
    if known is None or known.device is None or account is None or account.suspended:
        raise Refused(BAD_SESSION)
    dk = stored_device_key(account.keys, known.device)
    try:
        _check_proof(session, account.user, dk or b"", request.proof)
    except InvalidKey:
        raise Refused(BAD_SESSION) from None
    session.log_in(known.user, known.device, token_hash, mark)
    return _logged_in(session, request.id, account, request.token)


async def _open(
    session: ServerSession, request_id: m.RequestId, user: str, device: str | None, mark: int, *, dup: bool = False
) -> m.Reply:
    """Starts a session that can be resumed, and logs in. Raises Refused: `bad_session`."""
    parts = session.parts
    token = b64url(parts.random(32))
    token_hash = _token_hash(token)
    await parts.store.open_session(token_hash, Session(user, device), session.now_ms())
    account = await parts.store.account(user)
    if account is None or session.gone:
        raise Refused(BAD_SESSION)
    try:
        session.log_in(user, device, token_hash, mark)
    except Refused:
        await parts.store.close_session(token_hash)
        raise
    return _logged_in(session, request_id, account, token, dup=dup)


def _logged_in(
    session: ServerSession, request_id: m.RequestId, account: Account, token: str, *, dup: bool = False
) -> m.Reply:
    return m.LoginOk(
        id=request_id,
        user=account.user,
        token=token,
        keys=m.KeyBundle.of(account.keys),
        device=UNSET if session.device is None else session.device,
        backup_version=account.backup_version,
        dup=dup,
    )


# --- after it ---------------------------------------------------------------------------------------------------------


async def ping(session: ServerSession, request: m.Ping) -> m.Reply:
    """Says that both ends are there."""
    return m.Reply(id=request.id)


async def logout(session: ServerSession, request: m.Logout) -> m.Reply:
    """Ends the session; its token is worth nothing any more."""
    await session.parts.store.close_session(session.token_hash)
    session.log_out()
    return m.Reply(id=request.id)


async def passwd(session: ServerSession, request: m.Passwd) -> m.Reply:
    """A new password, by the current one: a session's token alone does not do."""
    parts = session.parts
    parts.admission.known_device(session.user, session.device or "", parts.monotonic())
    account = await parts.store.account(session.user)
    if account is None or not await _check_password(session, request.password, account):
        raise Refused(BAD_LOGIN)
    await parts.store.change_password(
        session.user,
        password_hash=await parts.passwords.hash(request.new_password),
        salt=request.new_salt,
        backup=None if request.backup is None else _backup(request.backup),
        keep=session.token_hash,
        now=session.now_ms(),
    )
    parts.logins.end_others(session, _PASSWORD_CHANGED)
    return m.Reply(id=request.id)


async def publish(session: ServerSession, request: m.Publish) -> m.Reply:
    """The next device list, and with it this connection's device."""
    parts = session.parts
    account = await _own_account(session)
    bundle = to_store(request.keys)
    keys = _verified(session, session.user, bundle)
    _check_successor(_verified(session, session.user, replace(account.keys, past=())), keys)
    if len(keys.devices) > limits.MAX_DEVICES:
        raise Refused(TOO_MANY_DEVICES, limit=limits.MAX_DEVICES)
    _prove_new_device(session, session.user, keys, request.device, request.proof)
    backup = None if request.backup is None else _backup(request.backup)
    user = session.user
    parts.admission.publish(user, parts.monotonic())  # not before: who has the session alone must not use it up
    try:
        await parts.store.publish(user, _new_keys(keys, bundle), backup=backup, now=session.now_ms())
    except Refused:
        parts.admission.publish_undone(user)
        raise
    await parts.store.bind_session(session.token_hash, request.device)
    for other in parts.logins.of(session.user):
        if other is not session and other.device is not None and other.device not in keys.devices:
            other.end("session_ended", _DEVICE_REVOKED)
    session.log_in(session.user, request.device, session.token_hash)
    await _tell_contacts(session, await _conversations(session))
    return await _present(session, request.id)


def _check_successor(old: AccountKeys, new: AccountKeys) -> None:
    """Raises Refused: `stale_list`: the list follows another than the newest; `bad_keys`: it must not follow it so."""
    try:
        check_successor(old, new)
    except InvalidKey as error:
        if (new.ik, new.version, new.previous) == (old.ik, old.version + 1, old.digest):
            raise Refused(BAD_KEYS, why=error) from None
        raise Refused(STALE_LIST, version=old.version) from None


async def reset_identity(session: ServerSession, request: m.ResetIdentity) -> m.Reply:
    """A new identity under the old name, by the password. Everybody sees that it changed."""
    parts = session.parts
    account = await _own_account(session)
    parts.admission.stranger(session.user, session.peer.address, parts.monotonic())
    if not await _check_password(session, request.password, account):
        raise Refused(BAD_LOGIN)
    bundle = to_store(request.keys)
    keys = _verified(session, session.user, bundle)
    if keys.version != 1 or len(keys.devices) != 1 or keys.ik == account.ik:
        raise Refused(BAD_KEYS, why="a new identity has one device and list number 1")
    heard = await _conversations(session)  # before: the new identity is in none
    await parts.store.reset_identity(
        session.user, _new_keys(keys, bundle), backup=_backup(request.backup), now=session.now_ms()
    )
    parts.logins.end_others(session, _IDENTITY_RESET)
    await _tell_contacts(session, heard)
    user = session.user
    session.log_out()
    (device,) = keys.devices
    return await _open(session, request.id, user, device, parts.logins.mark())


def _prove_new_device(session: ServerSession, user: str, keys: AccountKeys, device: str, proof: bytes) -> None:
    try:
        _check_proof(session, user, keys.devices.get(device, b""), proof)
    except InvalidKey:
        raise Refused(BAD_KEYS, why="the device did not prove that it holds its key") from None


async def _own_account(session: ServerSession) -> Account:
    account = await session.parts.store.account(session.user)
    if account is None:
        raise Refused(NO_SUCH_USER, user=session.user)
    return account


async def _present(session: ServerSession, request_id: m.RequestId) -> m.Reply:
    """The reply of a login, for a connection that is logged in already; the token stays, and is not told again."""
    account = await _own_account(session)
    return m.PublishOk(id=request_id, keys=m.KeyBundle.of(account.keys), backup_version=account.backup_version)


async def _conversations(session: ServerSession) -> list[str]:
    return [record.room for record in await session.parts.store.conversations(session.user)]


async def _tell_contacts(session: ServerSession, conversations: Sequence[str]) -> None:
    """Tells everybody who is there, and shares one of these conversations, that this account's keys are new."""
    broker = session.parts.broker
    account = await _own_account(session)
    keys = m.KeyBundle.of(replace(account.keys, past=()))  # or each publish would make some 80 KB for every contact
    line = codec.encode(m.MemberEvent(user=session.user, keys=keys))
    readers = dict.fromkeys([*broker.listeners(conversations), *broker.readers_of(session.user)])
    broker.announce_to(readers, line, skip=session)


async def keys(session: ServerSession, request: m.Keys) -> m.Reply:
    """Signed keys of users."""
    found = await session.parts.store.keys(request.users)
    share = _PAST_TOGETHER // len(request.users)
    return m.KeysOk(id=request.id, keys={user: m.KeyBundle.of(_cut(bundle, share)) for user, bundle in found.items()})


def _cut(bundle: SignedBundle, past: int) -> SignedBundle:
    """A bundle with so many of its past certificates."""
    return replace(bundle, past=bundle.past[:past])


async def backup(session: ServerSession, request: m.BackupRequest) -> m.Reply:
    """The sealed backup, or a newer one."""
    store = session.parts.store
    if request.backup is not None:
        await store.put_backup(session.user, _backup(request.backup))
        return m.BackupOk(id=request.id, backup=request.backup)
    stored = await store.backup(session.user)
    if stored is None:
        raise Refused(NO_BACKUP)
    return m.BackupOk(id=request.id, backup=m.Backup(version=stored.version, blob=stored.blob))


# --- what the server knows --------------------------------------------------------------------------------------------

PASSING: Final = (
    "The address you connect from, while you are connected; in its log, where it ends a connection that misbehaves.",
    "When you are connected and from which of your devices; when you last used each.",
    "Where you are typing, while you let others know; and whether you let them know that you are there.",
    "When your devices share drafts, settings and the like, and how long these are, to within 256 bytes.",
    "Who writes to whom, in which room and when, and how long each message is, to within 16 bytes.",
    "The names of rooms, who is in them with which role, who invited, muted, removed or banned whom, and topics.",
    "Which conversations you read, how far, and whose keys you ask for.",
    "At a login, a value made from your password; never the password itself.",
)
"""What the server can see in passing, whether or not it is stored."""


async def stored(session: ServerSession, request: m.Stored) -> m.Reply:
    """What the server stores about this account."""
    found = await session.parts.store.stored(session.user)
    tables = (m.StoredTable(table=t.table, rows=t.rows, columns=t.columns, about=t.about) for t in found)
    return m.StoredOk(id=request.id, tables=tuple(tables), passing=PASSING)
