"""Every packet as one frozen struct: requests, replies, events.

`bytes` travel as standard base64; times are milliseconds since 1970 (UTC); unknown fields are ignored so that newer
clients work. PacketDiagram.md shows each of these; a test holds the two to each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, dataclass_transform

from msgspec import UNSET, Meta, Struct, UnsetType, field

from securechat.wire import limits
from securechat.wire.names import CONVERSATION_PATTERN, NAME_PATTERN

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Conversation = Annotated[str, Meta(pattern=CONVERSATION_PATTERN)]
Hex128 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
RequestId = Annotated[int, Meta(ge=0, le=2**53 - 1)] | Annotated[str, Meta(max_length=64)] | None
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Number = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Key32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Salt = Annotated[bytes, Meta(min_length=16, max_length=16)]
AuthToken = Annotated[str, Meta(pattern=r"^sc1\$[A-Za-z0-9_-]{43}\Z")]
SessionToken = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
InviteCode = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
WrappedKey = Annotated[bytes, Meta(min_length=384, max_length=384)]  # RSA-3072
FernetToken = Annotated[  # version 0x80 and a time stamp of 0
    str, Meta(min_length=100, max_length=limits.MAX_TOKEN, pattern=r"^gAAAAAAAAAAA[A-Za-z0-9_-]+=*\Z")
]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Packet(Struct, frozen=True, omit_defaults=True):
    """Base of all packets: immutable, compared by value, defaults left out on the wire."""


# ---------------------------------------------------------------------------------------------- parts of packets


class Certificate(Packet):
    """A device certificate as the exact bytes that were signed, with the identity's and the device's signature."""

    cert: Annotated[bytes, Meta(max_length=limits.MAX_CERTIFICATE)]
    ik_sig: Signature
    dk_sig: Signature


class KeyBundle(Packet):
    """An account's signed device list and the certificates it names. `crypto.identity` checks it."""

    list: Annotated[bytes, Meta(max_length=limits.MAX_DEVICE_LIST)]
    sig: Signature
    certs: Annotated[tuple[Certificate, ...], Meta(min_length=1, max_length=limits.MAX_DEVICES + 1)]

    @classmethod
    def of(cls, signed: Any) -> KeyBundle:
        """A bundle of the same fields from elsewhere (see `crypto.identity.BundleBytes`), as part of a packet."""
        certs = tuple(Certificate(cert=c.cert, ik_sig=c.ik_sig, dk_sig=c.dk_sig) for c in signed.certs)
        return cls(list=signed.list, sig=signed.sig, certs=certs)


class Backup(Packet):
    """An account's sealed backup. The server can do nothing with it but keep it."""

    version: Number
    blob: Annotated[bytes, Meta(max_length=limits.MAX_BACKUP)]


class Package(Packet):
    """The hybrid package, v1: one Fernet token, and its key wrapped for each reader.

    `kids` says which RSA key each entry was wrapped for. A package given to a reader holds that reader's entry alone.
    """

    encrypted_message: FernetToken
    encrypted_keys: Annotated[dict[Name, WrappedKey], Meta(max_length=limits.MAX_MEMBERS)]
    kids: Annotated[dict[Name, Hex128], Meta(max_length=limits.MAX_MEMBERS)]


class StoredMessage(Packet, tag_field="event", tag="message"):
    """A message as stored, cut down to one reader: in a history page, and as an event of its own.

    `sender` and `device` are the server's word for now; `seq` counts the conversation's messages from 1 without gaps.
    `to` is the other user of a private conversation.
    """

    room: Conversation
    seq: Number
    sender: Name
    device: Hex128
    mid: Hex128
    ts: Count
    package: Package
    to: Name | UnsetType = UNSET


class RoomEntry(Packet):
    """One room in the answer to `rooms`."""

    room: Name
    members: Count
    joined: bool = False


class Member(Packet):
    """One member of a room: whose keys to fetch when the known device list is older than `version`."""

    user: Name
    version: Number
    online: bool = False


class ConversationState(Packet):
    """Where one conversation of mine stands, in the answer to `sync`.

    `first` is the message after which I joined: what is not newer was never sealed for me. `reset` says that the
    cursor given does not exist here (another epoch, or ahead of `last`): start again from `read`.
    """

    room: Conversation
    head: Count
    last: Count
    first: Count
    read: Count
    unread: Count
    peer: Name | UnsetType = UNSET
    reset: bool = False


# ------------------------------------------------------------------------------------------------------ requests


class Request(Packet, tag_field="cmd", kw_only=True):
    """Base of all requests. `id` comes back in the reply."""

    id: RequestId = None


class Prelogin(Request, tag="prelogin"):
    """Asks for the salt of an account; an unknown name gets a constant one that looks the same."""

    user: Name


class Register(Request, tag="register"):
    """Makes an account with its first device, which proves that it holds its key; logs in."""

    user: Name
    password: AuthToken
    salt: Salt
    keys: KeyBundle
    proof: Signature
    backup: Backup
    invite: InviteCode | None = None


class Login(Request, tag="login"):
    """Logs in by password. With `device` and `proof`, as that device; without, to publish a new one."""

    user: Name
    password: AuthToken
    device: Hex128 | None = None
    proof: Signature | None = None


class Resume(Request, tag="resume"):
    """Logs in again after a lost connection, by the token of the session and a proof of its device's key."""

    token: SessionToken
    proof: Signature


class Logout(Request, tag="logout"):
    """Ends the session; the token is worthless afterwards. The connection stays, as before a login."""


class Passwd(Request, tag="passwd"):
    """Changes the password in one step with the salt and backup that depend on it; ends all other sessions."""

    password: AuthToken
    new_password: AuthToken
    new_salt: Salt
    backup: Backup | None = None


class Publish(Request, tag="publish"):
    """Publishes the next device list of the account, made by `device`."""

    device: Hex128
    proof: Signature
    keys: KeyBundle
    backup: Backup | None = None


class ResetIdentity(Request, tag="reset_identity"):
    """Replaces the identity of the account by a new one; ends all sessions; old messages stay unreadable to it."""

    password: AuthToken
    keys: KeyBundle
    backup: Backup


class Keys(Request, tag="keys"):
    """Asks for the signed keys of users."""

    users: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=limits.KEYS_PER_REQUEST)]


class BackupRequest(Request, tag="backup"):
    """Fetches the sealed backup; with `backup`, stores a newer one."""

    backup: Backup | None = None


class Join(Request, tag="join"):
    """Joins a room, making it when there is none. Joining twice is harmless."""

    room: Name


class Leave(Request, tag="leave"):
    """Leaves a room."""

    room: Name


class Rooms(Request, tag="rooms"):
    """Lists the rooms of the server."""


class Members(Request, tag="members"):
    """Lists the members of a room one is in, at its present head."""

    room: Name


class Send(Request, tag="send"):
    """Stores a message in a room. `ok` means: on disk, once."""

    room: Name
    mid: Hex128
    ctr: Number
    head: Count
    package: Package


class Pm(Request, tag="pm"):
    """Stores a private message. Same promise as `send`."""

    user: Name
    mid: Hex128
    ctr: Number
    package: Package


class History(Request, tag="history"):
    """Reads a page of a conversation, oldest first, next to `before` or `after` (exclusive; neither: the newest)."""

    room: Conversation
    limit: Annotated[int, Meta(ge=1, le=limits.HISTORY_MAX)] = limits.HISTORY_DEFAULT
    before: Number | None = None
    after: Count | None = None


class Sync(Request, tag="sync"):
    """Starts delivery: answers where each conversation stands, then streams what is newer than `since`."""

    epoch: Epoch | None = None
    since: Annotated[dict[Conversation, Count], Meta(max_length=16 * limits.MAX_ROOMS)] = {}


class Read(Request, tag="read"):
    """Moves this user's read marker in a conversation forward."""

    room: Conversation
    seq: Number


class Ping(Request, tag="ping"):
    """Keeps the connection alive."""


REQUESTS: Final[tuple[type[Request], ...]] = (
    Prelogin, Register, Login, Resume, Logout, Passwd, Publish, ResetIdentity, Keys, BackupRequest,
    Join, Leave, Rooms, Members, Send, Pm, History, Sync, Read, Ping,
)  # fmt: skip
AnyRequest = (
    Prelogin | Register | Login | Resume | Logout | Passwd | Publish | ResetIdentity | Keys | BackupRequest
    | Join | Leave | Rooms | Members | Send | Pm | History | Sync | Read | Ping
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------- replies


class Reply(Packet, tag_field="status", tag="ok", kw_only=True):
    """Base of all good replies, and the whole of those that say no more."""

    id: RequestId = None


class Failed(Packet, tag_field="status", tag="error", kw_only=True):
    """A refusal. `code` is for programs, `msg` for people; the other fields come with the codes that need them."""

    id: RequestId = None
    code: str
    msg: str
    retry_after: float | UnsetType = UNSET
    expected: Number | UnsetType = UNSET
    head: Count | UnsetType = UNSET
    version: Number | UnsetType = UNSET
    users: tuple[Name, ...] | UnsetType = UNSET


class PreloginOk(Reply, tag="ok"):
    """The salt of the account's password."""

    salt: Salt


class LoginOk(Reply, tag="ok"):
    """Logged in. `device` is absent until one is published; `keys` is the account's newest list."""

    user: Name
    token: SessionToken
    keys: KeyBundle
    device: Hex128 | UnsetType = UNSET
    backup_version: Count = 0
    dup: bool = False


class PublishOk(Reply, tag="ok"):
    """Published; this connection is the new device's. `keys` is the account's list as stored now."""

    keys: KeyBundle
    backup_version: Count = 0


class KeysOk(Reply, tag="ok"):
    """Signed keys, one bundle a user asked for; a name that does not exist is left out."""

    keys: dict[Name, KeyBundle]


class BackupOk(Reply, tag="ok"):
    """The sealed backup."""

    backup: Backup


class JoinOk(Reply, tag="ok"):
    """Joined: what is newer than `first` arrives as events, sealed for you too."""

    room: Name
    head: Count
    first: Count
    last: Count
    created: bool = False


class RoomsOk(Reply, tag="ok"):
    """The rooms of the server, by name."""

    rooms: tuple[RoomEntry, ...]


class MembersOk(Reply, tag="ok"):
    """The members of a room at `head`, by name."""

    room: Name
    head: Count
    members: tuple[Member, ...]


class SendOk(Reply, tag="ok"):
    """Stored: on disk, once, at `seq`. `dup` says that an earlier `send` of the same mid did it."""

    room: Conversation
    seq: Number
    ts: Count
    dup: bool = False


class HistoryOk(Reply, tag="ok"):
    """A page of history. `more` says that the conversation goes on beyond the page, in the direction asked."""

    room: Conversation
    messages: tuple[StoredMessage, ...]
    more: bool = False
    first_seq: Count = 0
    last_seq: Count = 0


class SyncOk(Reply, tag="ok"):
    """Where each conversation stands. What is newer follows as events, then `live` for each conversation."""

    epoch: Epoch
    conversations: tuple[ConversationState, ...]


# -------------------------------------------------------------------------------------------------------- events


class Event(Packet, tag_field="event"):
    """Base of what the server says by itself."""


class Limits(Packet):
    """The limits in force, so that a client need not guess."""

    line: Count = limits.MAX_LINE
    text: Count = limits.MAX_TEXT
    members: Count = limits.MAX_MEMBERS
    pending_sends: Count = limits.PENDING_SENDS
    history: Count = limits.HISTORY_MAX
    silence: Count = int(limits.SILENCE_SECONDS)


class Hello(Event, tag="hello"):
    """The server's greeting and proof of identity. A client that knows the server sends nothing before checking it."""

    protocol: int
    server: str
    lk: Key32
    nonce: Key32
    sig: Signature
    epoch: Epoch
    registration: str
    limits: Limits
    features: tuple[str, ...] = ()


class RoomEvent(Event, tag="room"):
    """Something about the people of a room: `joined` (with their keys), `left`, `online` or `offline`.

    `head` comes with the first two: the membership after it. `first` comes with `joined`: the newest message then,
    so that another connection of the newcomer knows where the room begins for it.
    """

    room: Name
    type: str
    user: Name
    head: Count | UnsetType = UNSET
    first: Count | UnsetType = UNSET
    keys: KeyBundle | UnsetType = UNSET


class MemberEvent(Event, tag="member"):
    """Somebody who shares a conversation with you published new keys."""

    user: Name
    keys: KeyBundle


class Live(Event, tag="live"):
    """All that `sync` had to stream of this conversation has been sent; what follows is new."""

    room: Conversation
    seq: Count


class ReadEvent(Event, tag="read"):
    """Another device of this account moved the read marker."""

    room: Conversation
    seq: Number


class Bye(Event, tag="bye"):
    """The server is about to close this connection, and why."""

    reason: str
    msg: str
    retry_after: float | UnsetType = UNSET


EVENTS: Final[tuple[type[Packet], ...]] = (Hello, StoredMessage, RoomEvent, MemberEvent, Live, ReadEvent, Bye)
AnyEvent = Hello | StoredMessage | RoomEvent | MemberEvent | Live | ReadEvent | Bye

REPLIES: Final[dict[type[Request], type[Reply]]] = {
    Prelogin: PreloginOk,
    Register: LoginOk,
    Login: LoginOk,
    Resume: LoginOk,
    Logout: Reply,
    Passwd: Reply,
    Publish: PublishOk,
    ResetIdentity: LoginOk,
    Keys: KeysOk,
    BackupRequest: BackupOk,
    Join: JoinOk,
    Leave: Reply,
    Rooms: RoomsOk,
    Members: MembersOk,
    Send: SendOk,
    Pm: SendOk,
    History: HistoryOk,
    Sync: SyncOk,
    Read: Reply,
    Ping: Reply,
}


def command_of(request: type[Request]) -> str:
    """The name of a request on the wire."""
    tag: Any = request.__struct_config__.tag
    return str(tag)
