"""What the operator may ask of the running daemon: one table of commands, `COMMANDS`, and what answers each."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, Union

import msgspec

from securechat.chat.broker import RoomBroker
from securechat.crypto.atrest import KeyEncryptionKeys
from securechat.crypto.passwords import SALT_BYTES
from securechat.crypto.primitives import b64url
from securechat.errors import SecureChatError
from securechat.link import ConnectLine
from securechat.server.checks import PasswordChecks
from securechat.server.session import Logins, ServerSession
from securechat.server.settings import MAX_QUOTA_MB, MAX_RETENTION_DAYS, MEGABYTE
from securechat.storage.interface import ChatStore, OperatorStore, Tell
from securechat.wire.names import NAME_PATTERN

INVITE_BYTES: Final = 16
DAY: Final = 86_400  # seconds
_MAX_NAME: Final = 200  # of a room that gave up its name, the id stands behind it
_FAULTS: Final = 1000  # told one by one; with more, a backup is what helps

_SUSPENDED: Final = "The operator of this server suspended this account."
_DELETED: Final = "The operator of this server deleted this account."
_PASSWORD_RESET: Final = "The operator of this server reset the password of this account. Log in with the new one."
_REVOKED: Final = "The operator of this server ended this login. Log in again."

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
RoomName = Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_NAME)]
Answer = dict[str, Any]


class BusyOperating(SecureChatError):
    """Another command of the kind runs."""


class NotPossible(SecureChatError):
    """What was asked cannot be done."""


class Command(msgspec.Struct, tag_field="cmd", frozen=True):
    """Base of the commands."""


class Invite(Command, tag="invite", frozen=True):
    """Asks for an invitation into a room: for `uses` newcomers, for `expires` seconds."""

    room: Name = "general"
    uses: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    expires: Annotated[int, msgspec.Meta(ge=60, le=366 * DAY)] = 7 * DAY


class Status(Command, tag="status", frozen=True):
    """The daemon's figures."""


class Backup(Command, tag="backup", frozen=True):
    """A copy of the database into a new file."""

    path: str


class RotateKeys(Command, tag="rotate-keys", frozen=True):
    """Everything sealed anew, under a key of today."""


class Check(Command, tag="check", frozen=True):
    """Everything read and held against itself."""


class UserList(Command, tag="user-list", frozen=True):
    """All accounts."""


class UserSuspend(Command, tag="user-suspend", frozen=True):
    """Keeps an account out from now on; or lets it in again."""

    user: Name
    yes: bool = True


class UserDelete(Command, tag="user-delete", frozen=True):
    """Takes an account away from its owner."""

    user: Name


class UserResetPassword(Command, tag="user-reset-password", frozen=True):
    """Another password: what a client derives from it and from `salt`."""

    user: Name
    token: str = ""
    salt: bytes = b""


class UserQuota(Command, tag="user-quota", frozen=True):
    """How many megabytes an account may have stored; None: as the settings say."""

    user: Name
    megabytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_QUOTA_MB)] | None = None


class Sessions(Command, tag="sessions", frozen=True):
    """Who is or was logged in."""

    user: Name | None = None


class Revoke(Command, tag="revoke", frozen=True):
    """Ends the logins of a device, or all of an account."""

    user: Name
    device: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None = None


class RoomList(Command, tag="room-list", frozen=True):
    """All rooms."""


class RoomDelete(Command, tag="room-delete", frozen=True):
    """Takes a room away, with everything said in it."""

    room: RoomName


class RoomRetention(Command, tag="room-retention", frozen=True):
    """For how many days a room's messages are kept, 0: for ever; None: as the settings say."""

    room: RoomName
    days: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETENTION_DAYS)] | None = None


class RoomQuota(Command, tag="room-quota", frozen=True):
    """How many megabytes of messages a room may have; None: as the settings say."""

    room: RoomName
    megabytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_QUOTA_MB)] | None = None


class AdminStore(ChatStore, OperatorStore, Protocol):
    """A store with all its verbs."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What the commands work with.

    Attributes:
        connect_line: the server's own, to put invites on.
        random: bytes nobody can guess.
        now: seconds since 1970.
        read_keys: reads the key file again. Raises StartupError.
        figures: what `status` tells.
        limits: the settings that hold where nothing else was said, to be told: `retention_days` and so on.
        running: commands that must not run twice at once.
    """

    store: AdminStore
    broker: RoomBroker
    logins: Logins
    passwords: PasswordChecks
    connect_line: ConnectLine
    random: Callable[[int], bytes]
    now: Callable[[], float]
    read_keys: Callable[[], KeyEncryptionKeys]
    figures: Callable[[], dict[str, int]]
    limits: dict[str, int] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.now() * 1000)

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Only one of these at a time. Raises BusyOperating."""
        if what in self.running:
            raise BusyOperating(f"Another {what} is under way. Wait for its end.")
        self.running.add(what)
        try:
            yield
        finally:
            self.running.discard(what)


# --- invitations, backups, keys, checks -------------------------------------------------------------------------------


async def invite(operations: Operations, request: Invite, tell: Tell) -> Answer:
    """A connect line with an invitation in it."""
    code = b64url(operations.random(INVITE_BYTES))
    now = operations.now_ms()
    await operations.store.add_invite(
        hashlib.sha256(code.encode("ascii")).digest(), uses=request.uses, expires=now + request.expires * 1000, now=now
    )
    base = operations.connect_line
    return {"line": str(ConnectLine(base.host, base.port, base.id, code, request.room, base.tls))}


async def status(operations: Operations, request: Status, tell: Tell) -> Answer:
    """How many connections there are, and what they use."""
    return {"figures": operations.figures()}


async def backup(operations: Operations, request: Backup, tell: Tell) -> Answer:
    """A backup, opened and checked."""
    path = Path(request.path)
    if not path.is_absolute():
        raise NotPossible(f"{path} is not a whole path: the daemon has a directory of its own.")
    with operations.alone("backup"):
        report = await operations.store.copy_to(path, _anyhow(tell))
    return {"path": str(path), **msgspec.to_builtins(report)}


async def rotate_keys(operations: Operations, request: RotateKeys, tell: Tell) -> Answer:
    """A new data key, and everything under it; also when its operator is gone: the sooner it is through, the better."""
    kek = operations.read_keys()
    with operations.alone("change of keys"):
        rotated = await operations.store.rotate(kek, _anyhow(tell), now=operations.now_ms())
    return {"rows": rotated.rows, "damaged": rotated.damaged}


def _anyhow(tell: Tell) -> Tell:
    """Tells while there is somebody to be told; what is under way goes on without."""

    def told(what: str, done: int, of: int) -> None:
        with contextlib.suppress(SecureChatError):
            tell(what, done, of)

    return told


async def check(operations: Operations, request: Check, tell: Tell) -> Answer:
    """What does not check out of all that is stored."""
    with operations.alone("check"):
        faults = await operations.store.check(operations.connect_line.id or "", tell)
    return {"faults": msgspec.to_builtins(faults[:_FAULTS]), "count": len(faults)}


# --- accounts ---------------------------------------------------------------------------------------------------------


async def user_list(operations: Operations, request: UserList, tell: Tell) -> Answer:
    """All accounts, and the quota that holds where none of their own is set."""
    users = await operations.store.users(operations.now_ms())
    rows = [
        msgspec.to_builtins(user)
        | {
            "connected": len(operations.logins.of(user.user)),
            "deleted": user.deleted or None,
            "quota": _mb(user.quota),
        }
        for user in users
    ]
    return {"users": rows, "limits": operations.limits}


async def user_suspend(operations: Operations, request: UserSuspend, tell: Tell) -> Answer:
    """Ends an account's logins and connections at once; none gets in until it is let in again."""
    if not request.yes:
        await operations.store.suspend(request.user, yes=False)
        operations.logins.let_in(request.user)
        return {"ended": 0}
    return {
        "ended": await _shut_out(operations, request.user, _SUSPENDED, operations.store.suspend(request.user, yes=True))
    }


async def user_delete(operations: Operations, request: UserDelete, tell: Tell) -> Answer:
    """Takes an account away; see `OperatorStore.delete_user` for what stays."""
    verb = operations.store.delete_user(request.user, now=operations.now_ms())
    return {"ended": await _shut_out(operations, request.user, _DELETED, verb)}


async def _shut_out(operations: Operations, user: str, msg: str, verb: Awaitable[None]) -> int:
    """Does what shuts an account out, and ends its connections, also those that are logging in; how many."""
    shut = operations.logins.shut_out(user)  # before: whoever was let in by what the database said until now is not
    try:
        await verb
    except BaseException:
        if shut:
            operations.logins.let_in(user)
        raise
    return _end(operations.logins.of(user), msg)


def _end(sessions: list[ServerSession], msg: str) -> int:
    for session in sessions:
        session.end("session_ended", msg)
    return len(sessions)


async def user_reset_password(operations: Operations, request: UserResetPassword, tell: Tell) -> Answer:
    """Another password. Without one: what is needed to derive it, which only clients can."""
    if not request.token:
        return {"srv": operations.connect_line.id}
    if len(request.salt) != SALT_BYTES:
        raise NotPossible(f"A salt has {SALT_BYTES} bytes.")
    password_hash = await operations.passwords.hash(request.token)
    await operations.store.reset_password(
        request.user, password_hash=password_hash, salt=request.salt, now=operations.now_ms()
    )
    operations.logins.end_earlier(request.user)
    return {"ended": _end(operations.logins.of(request.user), _PASSWORD_RESET)}


async def user_quota(operations: Operations, request: UserQuota, tell: Tell) -> Answer:
    """What an account may have stored."""
    await operations.store.set_user_quota(request.user, _bytes(request.megabytes))
    return {}


async def sessions(operations: Operations, request: Sessions, tell: Tell) -> Answer:
    """All logins, each with the addresses it is connected from now."""
    rows = []
    for one in await operations.store.sessions(request.user, operations.now_ms()):
        here = [s.peer.address for s in operations.logins.of(one.user) if s.device == one.device]
        rows.append(msgspec.to_builtins(one) | {"connected": here})
    return {"sessions": rows}


async def revoke(operations: Operations, request: Revoke, tell: Tell) -> Answer:
    """Ends logins and connections."""
    ended = await operations.store.end_sessions(request.user, request.device)
    operations.logins.end_earlier(request.user)
    here = [s for s in operations.logins.of(request.user) if request.device in (None, s.device)]
    _end(here, _REVOKED)
    return {"sessions": ended, "connections": len(here)}


# --- rooms ------------------------------------------------------------------------------------------------------------


async def room_list(operations: Operations, request: RoomList, tell: Tell) -> Answer:
    """All rooms, and the limits that hold where none of their own is set."""
    rooms = [msgspec.to_builtins(room) | {"quota": _mb(room.quota)} for room in await operations.store.all_rooms()]
    return {"rooms": rooms, "limits": operations.limits}


async def room_delete(operations: Operations, request: RoomDelete, tell: Tell) -> Answer:
    """Takes a room away. Its members' clients are made to look where they are, and so to notice."""
    removed = await operations.store.remove_room(request.room)
    for reader in operations.broker.listeners([request.room]):
        operations.broker.unsubscribe(reader, request.room)
    msg = f"The operator of this server deleted the room {request.room.partition('#')[0]}, with all its messages."
    for user in removed.members:
        for session in operations.logins.of(user):
            session.end("room_deleted", msg)
    done = 0
    while await operations.store.purge():
        done += 1
        tell("deleting messages", done, 0)
    return {"id": removed.id, "members": removed.members}


async def room_retention(operations: Operations, request: RoomRetention, tell: Tell) -> Answer:
    """How long a room's messages are kept."""
    await operations.store.set_retention(request.room, request.days)
    return {}


async def room_quota(operations: Operations, request: RoomQuota, tell: Tell) -> Answer:
    """What a room may have stored."""
    await operations.store.set_room_quota(request.room, _bytes(request.megabytes))
    return {}


def _bytes(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes * MEGABYTE


def _mb(quota: int | None) -> int | None:
    return None if quota is None else quota // MEGABYTE


Handler = Callable[[Operations, Any, Tell], Awaitable[Answer]]

COMMANDS: Final[dict[type[Command], Handler]] = {
    Invite: invite,
    Status: status,
    Backup: backup,
    RotateKeys: rotate_keys,
    Check: check,
    UserList: user_list,
    UserSuspend: user_suspend,
    UserDelete: user_delete,
    UserResetPassword: user_reset_password,
    UserQuota: user_quota,
    Sessions: sessions,
    Revoke: revoke,
    RoomList: room_list,
    RoomDelete: room_delete,
    RoomRetention: room_retention,
    RoomQuota: room_quota,
}

AnyCommand: Final[Any] = Union[tuple(COMMANDS)]  # noqa: UP007  # a union of what the table names
