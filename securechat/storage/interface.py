"""`ChatStore`: what the server needs remembered, as verbs of the domain. SQL is nobody else's business.

Every verb returns once its effect is on disk (fsync), or raises `errors.Refused` and has had no effect. Verbs that
write take effect in the order in which they were called, and their awaiters continue in that order; so whoever
publishes what was stored publishes in the order of the history. Times are milliseconds since 1970, UTC. User and room
names are in canonical form (`wire.names`); a conversation is a room's name or ``pm:`` and 64 hex digits.

Besides the codes named at each verb, any of them may raise `Refused` with `full`, `try_again` or `internal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from securechat.crypto.atrest import KeyEncryptionKeys
from securechat.crypto.envelope import AnyHeader
from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.crypto.roomlog import SignedEvent

Place = tuple[int, str]
"""A place in a transcript: the number of a message, and `th` after it in hex."""


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
        devices: ids of the devices in force, in the order of their certificates in `keys`.
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
    """An account as stored; fields as in `NewAccount`, but `keys` has past certificates too.

    `backup_version` is 0 where there is no backup.
    """

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
    """The next signed keys of an account; fields as in `NewAccount`. `revoked`: ids of the devices its list revokes."""

    ik: bytes
    rk_kid: str
    version: int
    devices: tuple[str, ...]
    keys: SignedBundle = field(repr=False)
    revoked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A login that may be resumed. `device` is None until one is published."""

    user: str
    device: str | None


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """Where one of a user's conversations stands.

    Attributes:
        id: of the room; `room` itself where private.
        head: the newest link of the room log, and `events` how many events it has; "" and 0 where private.
        last: the newest message, 0 if none.
        first: the newest message when the user joined.
        read: this user's read marker, at least `first`.
        start: the place to go on from.
        peer: the other user of a private conversation, else None.
        trimmed: the newest message that was removed as too old, 0 if none; and `kept`, for how many days messages are
            kept, 0: for ever.
    """

    room: str
    id: str
    head: str
    events: int
    last: int
    first: int
    read: int
    start: Place
    peer: str | None = None
    trimmed: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """One open room for the list of rooms."""

    room: str
    members: int
    joined: bool
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a room event is in its log.

    Attributes:
        id: of the room.
        events: its number, from 1.
        link: of the log, after it.
        start: the place in the transcript behind which it stands.
        dup: an earlier call put it there.
    """

    id: str
    events: int
    link: str
    start: Place
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """Events that a log has got back: the first has number `first`; `seq` is the newest message of the room.

    `certs` are those of the signing devices, one an event.
    """

    first: int
    seq: int
    certs: Sequence[SignedCertificate]


@dataclass(frozen=True, slots=True)
class LogPage:
    """Part of a room log. `certs`: of the devices that signed these events, each once; `events`: of the whole log."""

    id: str
    acts: Sequence[SignedEvent]
    certs: Sequence[SignedCertificate]
    events: int
    more: bool


class NewMessage(Struct, frozen=True, kw_only=True):
    """A message to be stored. (A Struct, like `Appended`: made for every message, a twentieth of the time.)

    Attributes:
        room: the conversation by name; where it is private, the header's `room`.
        peer: the other user where it is private, else None; such a conversation is made at its first message.
        sender, device: who sends it; `header` names the same.
        header: what the sender signed.
        id: names the message in `prev` and in transcripts, 64 hex digits.
        shared: the package as JSON, without `encrypted_keys` and `kids`.
        kids: who it is sealed for, by user: the id of the RSA key; empty where the header is of a chain.
        wrapped: by user, 384 bytes; same users as `kids`.
        body_hash: 32 bytes: SHA-256 over all of the package; tells a resend from another message of the same mid.
        ts: arrival, in milliseconds.
    """

    room: str
    peer: str | None
    sender: str
    device: str
    header: AnyHeader
    id: str
    shared: bytes
    kids: Mapping[str, str]
    wrapped: Mapping[str, bytes]
    body_hash: bytes
    ts: int

    def __repr__(self) -> str:
        return f"<NewMessage {self.id}>"


class Appended(Struct, frozen=True):
    """Where a message is: at `seq`, behind `events` events of the room log.

    `dup`: an earlier call stored it; `fresh_conversation`: it made the private conversation.
    """

    seq: int
    ts: int
    events: int
    dup: bool = False
    fresh_conversation: bool = False


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as one reader may have it.

    `kid` and `wrapped` are None where it was not sealed for the reader, or `chained`: for all readers alike.
    """

    room: str
    seq: int
    sender: str
    device: str
    mid: str
    ts: int
    events: int
    shared: bytes = field(repr=False)
    kid: str | None
    wrapped: bytes | None = field(repr=False)
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a history, oldest first. `more` says that there is more beyond it in the direction asked.

    `start` is the place before the first message; None where there never was one. `peer` is the other user of a private
    conversation. `trimmed` is the newest message that was removed as too old, 0 if none was.
    """

    messages: Sequence[MessageRow]
    more: bool
    start: Place | None = None
    peer: str | None = None
    trimmed: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """A note of an account: `name` is 32 hex digits, `version` its number, from 1; `blob` is opaque."""

    name: str
    version: int
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotePage:
    """Some of an account's notes, by version; `more` says that there are newer ones."""

    notes: Sequence[Note]
    more: bool


@dataclass(frozen=True, slots=True)
class NoteLimits:
    """How many notes an account may have, and how many bytes of them."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table of the database: its columns, how many rows are about an account, and what they are, for people."""

    table: str
    rows: int
    columns: tuple[str, ...]
    about: str


# --- what the operator sees -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserInfo:
    """One account, for its operator.

    Attributes:
        deleted: when; 0 if it was not.
        quota: bytes of messages it may have stored, 0: any; None: as the settings say.
        rooms: that it is in; `devices` in force; `sessions` that can be resumed.
        stored: bytes of its messages.
    """

    user: str
    created: int
    suspended: bool
    deleted: int
    quota: int | None
    rooms: int
    devices: int
    sessions: int
    stored: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One login that can be resumed, for the operator. `device` is None until one is published."""

    user: str
    device: str | None
    created: int
    used: int


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """One room, for the operator.

    Attributes:
        id: of the room.
        messages: how many there are now; `stored`: their bytes.
        last: when the newest message came, or the room was made.
        retention: days that messages are kept, 0: for ever; None: as the settings say.
        quota: bytes of messages it may have, 0: any; None: as the settings say.
    """

    room: str
    id: str
    open: bool
    members: int
    messages: int
    stored: int
    events: int
    last: int
    retention: int | None
    quota: int | None


@dataclass(frozen=True, slots=True)
class RemovedRoom:
    """A room that the operator removed: its id, and who was in it."""

    id: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A backup that was made and opened.

    Attributes:
        size: of the file, in bytes.
        sealed: how many sealed rows were opened, all there are.
    """

    size: int
    accounts: int
    rooms: int
    messages: int
    sealed: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a change of keys came to: how many rows were sealed anew, and how many do not open and stay as they are."""

    rows: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not check out: the table and row it is in, the room or user it is of, and what it is."""

    table: str
    row: int
    where: str
    what: str


Tell = Callable[[str, int, int], None]
"""Told of a long verb's progress, in the reactor's thread: what it is at, how much is done, and of how much."""


class OperatorStore(Protocol):
    """What only the operator may ask; the docstring of this module holds for these verbs too."""

    async def users(self, now: int) -> Sequence[UserInfo]:
        """Every account there ever was, by name."""

    async def suspend(self, user: str, *, yes: bool) -> None:
        """Lets an account in no more, and ends its sessions; or lets it in again. Raises Refused: `no_such_user`."""

    async def delete_user(self, user: str, *, now: int) -> None:
        """Takes an account away from its owner.

        The hash of its password, its sessions, invitations, notes and backup go. Its name, keys and certificates stay,
        for others need them to verify what it said, and so does its place in rooms: only those who run one can put it
        out.

        Raises:
            Refused: `no_such_user`.
        """

    async def reset_password(self, user: str, *, password_hash: str, salt: bytes, now: int) -> None:
        """Another password, without the old one; ends all sessions. The backup stays as it is, under the old one.

        Raises:
            Refused: `no_such_user`.
        """

    async def sessions(self, user: str | None, now: int) -> Sequence[SessionInfo]:
        """The logins that can be resumed, of one account or all. Raises Refused: `no_such_user`."""

    async def end_sessions(self, user: str, device: str | None) -> int:
        """Ends the sessions of a device, or all of an account; how many. Raises Refused: `no_such_user`."""

    async def all_rooms(self) -> Sequence[RoomInfo]:
        """Every room, by name."""

    async def remove_room(self, room: str) -> RemovedRoom:
        """Takes a room away: its name is free, its log and memberships are gone; messages go by `purge`.

        Raises:
            Refused: `no_such_room`.
        """

    async def purge(self) -> bool:
        """Deletes some messages of removed rooms; False if there is nothing left to delete."""

    async def set_retention(self, room: str, days: int | None) -> None:
        """For how many days a room's messages are kept; None: as the settings say. Raises Refused: `no_such_room`."""

    async def set_room_quota(self, room: str, quota: int | None) -> None:
        """How many bytes of messages a room may have; None: as the settings say. Raises Refused: `no_such_room`."""

    async def set_user_quota(self, user: str, quota: int | None) -> None:
        """The same for an account. Raises Refused: `no_such_user`."""

    async def trim(self, *, now: int) -> int:
        """Removes some messages that are older than their conversation keeps them; how many, 0 if none is left."""

    async def copy_to(self, path: Path, tell: Tell) -> BackupReport:
        """Writes a copy of the database, of one moment, to a new file, once that was opened and checked.

        Raises:
            BackupFailed: nothing is left of it.
        """

    async def rotate(self, kek: KeyEncryptionKeys, tell: Tell, *, now: int) -> Rotated:
        """Seals everything anew under a new data key, and wraps that by the first of these keys.

        What was begun and not ended is gone on with. Others are served meanwhile.

        Raises:
            StartupError: these keys do not open the data keys; nothing is changed.
        """

    async def check(self, srv: str, tell: Tell) -> Sequence[Fault]:
        """Reads everything and holds it against itself; others are served meanwhile.

        Args:
            srv: the server's id, which keys and certificates name.
        """


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
        """The account of that name. It takes as long where there is none."""

    async def salt(self, user: str) -> bytes | None:
        """The salt of that account; no more is read, so that the time does not tell whether there is one."""

    async def register(self, account: NewAccount, *, invite_hash: bytes | None, now: int) -> None:
        """Makes an account; with `invite_hash`, uses up one place of that invitation in the same step.

        Raises:
            Refused: `bad_invite` (looked at first), `name_taken`.
        """

    async def keys(self, users: Sequence[str]) -> Mapping[str, SignedBundle]:
        """The newest signed keys of those users that exist.

        Their `past`: certificates of devices in force no more, newest first; of those of the present identity, what its
        list revokes.
        """

    async def publish(self, user: str, keys: NewKeys, *, backup: Backup | None, now: int) -> None:
        """Replaces an account's keys by their successor, and the backup with them.

        Sessions of devices that are no longer in force end.

        Raises:
            Refused: `stale_list` unless `keys.version` is the stored one + 1 and the identity the same; `bad_keys` (a
                device of it was revoked, or had another identity); `stale_backup`.
        """

    async def reset_identity(self, user: str, keys: NewKeys, *, backup: Backup, now: int) -> None:
        """Replaces an account's identity and backup, whatever their versions; ends all its sessions, drops its notes.

        The new identity is a member of nothing.

        Raises:
            Refused: `bad_keys`: any account had this identity or device before.
        """

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

    async def put_note(self, user: str, name: str, blob: bytes) -> int:
        """Stores a note in the place of the one of that name; its version, one more than that of the one before it.

        Where there are too many then, or too many bytes of them, those longest unchanged are deleted.
        """

    async def notes(self, user: str, *, after: int, max_bytes: int) -> NotePage:
        """Notes above a version, oldest first; at most `max_bytes` bytes of them, but one at least."""

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

    async def conversations(
        self, user: str, since: Mapping[str, int] | None = None, *, follows: bool = True
    ) -> Sequence[ConversationRecord]:
        """All rooms and private conversations the user is in.

        Args:
            since: by id of the conversation, the newest message that a reader has: `start` is then the place there, but
                at least `first`; or at the read marker, where none is given. None: `start` is the newest place.
            follows: whether `since` is of this history. Of another one, and where it is ahead of `last`, `start` is no
                later than the read marker.
        """

    async def invitations(self, user: str) -> Sequence[str]:
        """The rooms the user is invited to, by name."""

    async def act(self, room: str, signed: SignedEvent, *, wait: float, now: int) -> Placed:
        """Puts an event into a room's log, and does what it says.

        Its form, its signature, and that its author is who calls, are the caller's to check.

        Args:
            room: the name.
            wait: seconds until its author may act again; 0.0: now. An event that is in the log already is no error
                but `dup`, whatever else holds now.

        Raises:
            Refused: in this order: `rate_limited`; `bad_event` (its author's identity or device is not in force);
                `no_such_user`, `stale_keys` (with `users`: a device list or identity it names is not the newest);
                `room_exists`, `no_such_room`; what `crypto.roomlog.RoomLog.check` refuses; `banned`, by this server's
                clock; `room_full`, `too_many_rooms`.
        """

    async def extend(
        self,
        user: str,
        room: str,
        after: int,
        acts: Sequence[SignedEvent],
        certs: Sequence[SignedCertificate],
        *,
        srv: str,
        now: int,
    ) -> Extension:
        """Takes back events that were lost, as they are, behind the first `after` ones.

        Their signatures are checked here: by certificates of devices that were not revoked, stored or in `certs`, of
        their authors' present identities.

        Raises:
            Refused: `stale_log` where nothing can be lost, for no epoch went before this one; `bad_event`,
                `no_such_user`; `stale_log` unless `after` is how many events there are and these continue them;
                `not_member` (of the room as it is here; where there is none, as these events make it); what
                `RoomLog.check` refuses; `banned`, by this server's clock; `bad_event` (a list far ahead of the stored
                one; an author in too many rooms); `room_full`.
        """  # fmt: skip

    async def room_log(self, user: str, room: str, *, after: int, limit: int, max_bytes: int) -> LogPage:
        """The events of a room's log behind the first `after`: at most `limit`, and `max_bytes` bytes but one at least.

        Raises:
            Refused: `no_such_room`; `not_invited` unless the room is open or the user is in it or invited; `damaged`.
        """

    async def rooms(self, user: str) -> Sequence[RoomSummary]:
        """The open rooms that anybody is in, by name."""

    async def members(self, user: str, room: str) -> Sequence[str]:
        """The members of a room that the user is in, by name. Raises Refused: `no_such_room`, `not_member`."""

    async def check_voice(self, user: str, room: str, now: int) -> None:
        """Returns if somebody may speak in a conversation. Raises Refused: `no_such_room`, `not_member`, `muted`."""

    async def audience(self, user: str, room: str, rcp: str) -> bytes:
        """The bytes of an audience that messages of a conversation were sealed for, by its digest in hex.

        Raises:
            Refused: `no_such_room`, `not_member`, `unknown_audience`, `damaged`.
        """

    async def stored(self, user: str) -> Sequence[StoredTable]:
        """What is stored about an account: every table that may have rows about one, by name."""

    async def append(self, message: NewMessage) -> Appended:
        """Stores a message as the next of its conversation.

        The checks are made in the storing transaction and in this order.

        Raises:
            Refused: `mid_conflict` (the same sender, device and mid with another body; the same body is no error but
                `dup`, whatever else holds now); `no_such_room`, `no_such_user`; `bad_header` (it is of another room),
                where private `stale_keys` (the two identities are not those of the conversation); `not_member`;
                `muted`; `stale_head` (with `head`: somebody was put out since its `head`, or that is too old);
                `stale_keys` (the sender's own list); `bad_audience` (`kids` names others than the members; either is
                fine for those who came or left since its `head`); `stale_keys` (with `users`: those whose kid is not
                the newest); `bad_header` (`rcp`, `th`); `ctr_behind` (with `expected`, and `proof`: the device's
                newest message as a MessageRow), `out_of_turn` (with `expected`).
        """

    async def read(
        self, user: str, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        """At most `limit` messages and `max_bytes` bytes of them (but at least one), next to a place.

        In a room that is not open nothing from before the user joined.

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
