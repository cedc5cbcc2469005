"""`ChatStore`: what the server needs remembered, as verbs of the domain. SQL is nobody else's business.

Every verb returns once its effect is on disk (fsync), or raises `errors.Refused` and has had no effect. Verbs that
write take effect in the order in which they were called, and their awaiters continue in that order; so whoever
publishes what was stored publishes in the order of the history. Times are milliseconds since 1970, UTC. User and room
names are in canonical form (`wire.names`); a conversation is a room's name or ``pm:`` and 64 hex digits.

Besides the codes named at each verb, any of them may raise `Refused` with `full`, `try_again` or `internal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from securechat.crypto.identity import SignedBundle


@dataclass(frozen=True, slots=True)
class Backup:
    """A sealed backup: `version` counts up from 1; `blob` is opaque."""

    version: int
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be made.

    Attributes:
        password_hash: of the auth token; never the token.
        salt: 16 bytes, the client's own.
        ik: the identity, 32 bytes, and `rk_kid` the id of its RSA key: as verified from `keys`.
        version: of the device list in `keys`.
        devices: ids of the devices in force.
    """

    user: str
    password_hash: str = field(repr=False)
    salt: bytes
    ik: bytes
    rk_kid: str
    version: int
    devices: tuple[str, ...]
    keys: SignedBundle = field(repr=False)
    backup: Backup


@dataclass(frozen=True, slots=True)
class Account:
    """An account as stored; fields as in `NewAccount`. `backup_version` is 0 where there is no backup."""

    user: str
    password_hash: str = field(repr=False)
    salt: bytes
    suspended: bool
    ik: bytes
    version: int
    keys: SignedBundle = field(repr=False)
    backup_version: int


@dataclass(frozen=True, slots=True)
class NewKeys:
    """The next signed keys of an account; fields as in `NewAccount`."""

    ik: bytes
    rk_kid: str
    version: int
    devices: tuple[str, ...]
    keys: SignedBundle = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """A login that may be resumed. `device` is None until one is published."""

    user: str
    device: str | None


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """Where one of a user's conversations stands.

    Attributes:
        head: counts the changes of a room's membership; 0 for private ones.
        last: the newest message, 0 if none.
        first: the newest message when the user joined: nothing up to it was sealed for them.
        read: this user's read marker, at least `first`.
        peer: the other user of a private conversation, else None.
    """

    room: str
    head: int
    last: int
    first: int
    read: int
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """What `join` found or did. `fresh` is False where the user was a member already, `created` where the room was."""

    head: int
    first: int
    last: int
    created: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """One room for the list of rooms."""

    room: str
    members: int
    joined: bool


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored.

    Attributes:
        room: the conversation.
        peer: the other user where it is private, else None; such a conversation is made at its first message.
        mid: the client's message id, 32 hex digits; `device` likewise.
        ctr: the message's number among this device's in this conversation, from 1.
        head: the head it was sealed for; ignored where private.
        shared: the package as JSON, without `encrypted_keys` and `kids`.
        kids: who it is sealed for, by user: the id of the RSA key.
        wrapped: by user, 384 bytes; same users as `kids`.
        body_hash: 32 bytes: SHA-256 over all of the package; tells a resend from another message of the same mid.
        ts: arrival, in milliseconds.
    """

    room: str
    peer: str | None
    sender: str
    device: str
    mid: str
    ctr: int
    head: int
    shared: bytes = field(repr=False)
    kids: Mapping[str, str] = field(repr=False)
    wrapped: Mapping[str, bytes] = field(repr=False)
    body_hash: bytes = field(repr=False)
    ts: int


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a message is. `dup`: an earlier call stored it; `fresh_conversation`: it made the private conversation."""

    seq: int
    ts: int
    dup: bool = False
    fresh_conversation: bool = False


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as one reader may have it. `kid` and `wrapped` are None where it was not sealed for the reader."""

    room: str
    seq: int
    sender: str
    device: str
    mid: str
    ts: int
    shared: bytes = field(repr=False)
    kid: str | None
    wrapped: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a history, oldest first. `more` says that there is more beyond it in the direction asked."""

    messages: Sequence[MessageRow]
    more: bool


class ChatStore(Protocol):
    """See the module's docstring for what holds of every verb."""

    @property
    def epoch(self) -> str:
        """32 hex digits that change when what was acknowledged may be gone (a restore from backup)."""

    @property
    def secret(self) -> bytes:
        """32 random bytes of this server's own, made once: for salts of users who do not exist."""

    # --- accounts ---------------------------------------------------------------------------------------------------

    async def account(self, user: str) -> Account | None:
        """The account of that name."""

    async def register(self, account: NewAccount, *, invite_hash: bytes | None, now: int) -> None:
        """Makes an account; with `invite_hash`, uses up one place of that invitation in the same step.

        Raises:
            Refused: `bad_invite` (looked at first), `name_taken`.
        """

    async def keys(self, users: Sequence[str]) -> Mapping[str, SignedBundle]:
        """The newest signed keys of those users that exist."""

    async def publish(self, user: str, keys: NewKeys, *, backup: Backup | None, now: int) -> None:
        """Replaces an account's keys by their successor, and the backup with them.

        Sessions of devices that are no longer in force end.

        Raises:
            Refused: `stale_list` unless `keys.version` is the stored one + 1 and the identity the same; `stale_backup`.
        """

    async def reset_identity(self, user: str, keys: NewKeys, *, backup: Backup, now: int) -> None:
        """Replaces an account's identity and backup, whatever their versions; ends all its sessions."""

    async def change_password(
        self, user: str, *, password_hash: str, salt: bytes, backup: Backup | None, keep: bytes, now: int
    ) -> None:
        """New hash, salt and backup in one step; ends all sessions but the one of the token hash `keep`.

        Raises:
            Refused: `stale_backup`.
        """

    async def rehash(self, user: str, *, old: str, new: str) -> None:
        """Replaces a password hash by one of a newer scheme, if it is still `old`."""

    async def backup(self, user: str) -> Backup | None:
        """The sealed backup."""

    async def put_backup(self, user: str, backup: Backup) -> None:
        """Stores a newer backup. Raises Refused: `stale_backup` unless its version is the stored one + 1."""

    async def open_session(self, token_hash: bytes, session: Session, now: int) -> None:
        """Remembers a login by the SHA-256 of its token."""

    async def session(self, token_hash: bytes, now: int) -> Session | None:
        """The login of that token, if it was used in the last 30 days and its device is in force."""

    async def bind_session(self, token_hash: bytes, device: str) -> None:
        """Says which device a session is of."""

    async def close_session(self, token_hash: bytes) -> None:
        """Ends a session; unknown ones too."""

    async def add_invite(self, code_hash: bytes, *, uses: int, expires: int, now: int) -> None:
        """Remembers an invitation by the SHA-256 of its code."""

    async def invite_holds(self, code_hash: bytes, now: int) -> bool:
        """Whether an invitation has a place left."""

    # --- conversations ----------------------------------------------------------------------------------------------

    async def conversations(self, user: str) -> Sequence[ConversationRecord]:
        """All rooms and private conversations the user is in."""

    async def join(self, user: str, room: str, now: int) -> Joined:
        """Makes the user a member, and the room where there is none. Raises Refused: `room_full`, `too_many_rooms`."""

    async def leave(self, user: str, room: str, now: int) -> int:
        """Ends a membership; answers the new head. Raises Refused: `no_such_room`, `not_member`."""

    async def rooms(self, user: str) -> Sequence[RoomSummary]:
        """All rooms, by name."""

    async def members(self, user: str, room: str) -> tuple[int, Sequence[tuple[str, int]]]:
        """The head, and each member with the version of its device list, by name.

        Raises:
            Refused: `no_such_room`, `not_member`.
        """

    async def append(self, message: NewMessage) -> Appended:
        """Stores a message as the next of its conversation.

        The checks are made in the storing transaction and in this order.

        Raises:
            Refused: `mid_conflict` (the same sender, device and mid with another body; the same body is no error but
                `dup`, whatever else holds now); `no_such_room`, `not_member`; `stale_head` (with `head`);
                `bad_audience` (`kids` names others than the members); `stale_keys` (with `users`: those whose kid
                is not the newest); `out_of_turn` (with `expected`).
        """

    async def read(
        self, user: str, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """At most `limit` messages and `max_bytes` bytes of them (but at least one), next to a place.

        Args:
            after: the oldest messages above this seq; or
            before: the newest below this one; both None: the newest of all.

        Raises:
            Refused: `no_such_room`, `not_member`; `damaged` where a row does not check out.
        """

    async def move_read_marker(self, user: str, room: str, seq: int) -> bool:
        """Moves the marker forward, to `last` at most; False where it was there already.

        Raises:
            Refused: `no_such_room`, `not_member`.
        """
