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
ConversationId = Annotated[str, Meta(pattern=r"^(pm:)?[0-9a-f]{64}\Z")]
Hex128 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Hex256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
HeadLink = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]
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
SignedHeader = Annotated[bytes, Meta(min_length=2, max_length=limits.MAX_HEADER)]
EventBytes = Annotated[bytes, Meta(min_length=2, max_length=limits.MAX_EVENT)]
NoteBytes = Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_NOTE)]
Ciphertext = Annotated[bytes, Meta(min_length=17, max_length=limits.MAX_CIPHERTEXT)]  # ChaCha20-Poly1305, with its tag
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

    @classmethod
    def of(cls, signed: Any) -> Certificate:
        """A certificate of the same fields from elsewhere, as part of a packet."""
        return cls(cert=signed.cert, ik_sig=signed.ik_sig, dk_sig=signed.dk_sig)


class KeyBundle(Packet):
    """An account's signed device list and the certificates it names. `crypto.identity` checks it.

    `past` holds certificates of devices in force no more, so that what they signed can still be checked.
    """

    list: Annotated[bytes, Meta(max_length=limits.MAX_DEVICE_LIST)]
    sig: Signature
    certs: Annotated[tuple[Certificate, ...], Meta(min_length=1, max_length=limits.MAX_DEVICES + 1)]
    past: Annotated[tuple[Certificate, ...], Meta(max_length=limits.MAX_PAST)] = ()

    @classmethod
    def of(cls, signed: Any) -> KeyBundle:
        """A bundle of the same fields from elsewhere (see `crypto.identity.BundleBytes`), as part of a packet."""
        return cls(
            list=signed.list,
            sig=signed.sig,
            certs=tuple(map(Certificate.of, signed.certs)),
            past=tuple(map(Certificate.of, signed.past)),
        )


class Backup(Packet):
    """An account's sealed backup. The server can do nothing with it but keep it."""

    version: Number
    blob: Annotated[bytes, Meta(max_length=limits.MAX_BACKUP)]


class Package(Packet, kw_only=True):
    """A sealed message, of one of two shapes; `hdr` is the exact JSON that `sig` covers with the rest.

    Envelope v1 has `encrypted_message`, a Fernet token; `encrypted_keys`, its key wrapped for each reader; `kids`, the
    RSA key each entry was wrapped for; and `bind`. A package given to a reader holds that reader's entry alone.
    Envelope v2 has `ct` instead of all these: it is the same for every reader. `crypto.envelope` checks both.
    """

    encrypted_message: FernetToken = ""
    encrypted_keys: Annotated[dict[Name, WrappedKey], Meta(max_length=limits.MAX_MEMBERS)] = {}
    kids: Annotated[dict[Name, Hex128], Meta(max_length=limits.MAX_MEMBERS)] = {}
    hdr: SignedHeader
    bind: Key32 = b""
    ct: Ciphertext = b""
    sig: Signature


class StoredMessage(Packet, tag_field="event", tag="message"):
    """A message as stored, cut down to one reader: in a history page, and as an event of its own.

    `sender`, `device` and `mid` say which key to check it with, and what its header must say; `seq` counts the
    conversation's messages from 1 without gaps; `events` counts the room events before it (0 in private). `to` is
    the other user of a private conversation.
    """

    room: Conversation
    seq: Number
    sender: Name
    device: Hex128
    mid: Hex128
    ts: Count
    events: Count
    package: Package
    to: Name | UnsetType = UNSET


class Act(Packet):
    """A room event as the exact bytes that its author's device signed. `crypto.roomlog` checks it."""

    signed: EventBytes
    sig: Signature


class RoomEntry(Packet):
    """One room in the answer to `rooms`. The topic is its signed one, as the server has replayed it."""

    room: Name
    members: Count
    joined: bool = False
    topic: str = ""


Place = tuple[Count, Hex256]
"""A place in a transcript: after which message, and `th` there."""


class ConversationState(Packet):
    """Where one conversation of mine stands, in the answer to `sync`.

    `id` is the room's id (or `room` itself in private); `head` the newest link of its log and `events` their number.
    `first` is the message after which I joined. What streams begins behind the place `start`. `reset` says that the
    cursor given does not exist here (another epoch, or ahead of `last`). Messages up to `trimmed` were removed, for the
    server keeps them for `kept` days (0: for ever).
    """

    room: Conversation
    id: str
    head: HeadLink
    events: Count
    last: Count
    first: Count
    read: Count
    unread: Count
    start: Place
    peer: Name | UnsetType = UNSET
    reset: bool = False
    trimmed: Count = 0
    kept: Count = 0


class StoredTable(Packet):
    """One table of the server's database, in the answer to `stored`: its columns, and how many rows are mine."""

    table: str
    rows: Count
    columns: tuple[str, ...]
    about: str = ""


class StoredNote(Packet):
    """A note of the account, in the answer to `notes`. The server knows neither what it is named after nor its content.

    `version` counts the notes of the account as they came; of each name there is the newest alone.
    """

    name: Hex128
    version: Number
    blob: NoteBytes


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


class DoAct(Request, tag="act"):
    """Puts a signed room event into a room's log; the one that makes the room, too. The same again is harmless."""

    room: Name
    signed: EventBytes
    sig: Signature


class RoomLog(Request, tag="roomlog"):
    """Reads a room's log behind its first `after` events: of a room one is in or invited to, or of an open one."""

    room: Name
    after: Count = 0


class Extend(Request, tag="extend"):
    """Gives a server that lost the end of a room's log the events it lacks, as they are, behind its first `after`."""

    room: Name
    after: Count
    acts: Annotated[tuple[Act, ...], Meta(min_length=1, max_length=limits.EVENTS_PER_PAGE)]
    certs: Annotated[tuple[Certificate, ...], Meta(max_length=limits.EVENTS_PER_PAGE)] = ()


class Audience(Request, tag="audience"):
    """Asks whom messages with this digest were sealed for."""

    room: Conversation
    rcp: Hex256


class Rooms(Request, tag="rooms"):
    """Lists the open rooms of the server."""


class Online(Request, tag="online"):
    """Asks which members of a room one is in are connected, and say so."""

    room: Name


class Stored(Request, tag="stored"):
    """Asks what the server stores about this account."""


class Send(Request, tag="send"):
    """Stores a message in a room. `ok` means: on disk, once. All about it stands in its signed header."""

    room: Name
    package: Package


class Pm(Request, tag="pm"):
    """Stores a private message. Same promise as `send`."""

    user: Name
    package: Package


class History(Request, tag="history"):
    """Reads a page of a conversation, oldest first, next to `before` or `after` (exclusive; neither: the newest)."""

    room: Conversation
    limit: Annotated[int, Meta(ge=1, le=limits.HISTORY_MAX)] = limits.HISTORY_DEFAULT
    before: Number | None = None
    after: Count | None = None


class Sync(Request, tag="sync"):
    """Starts delivery: answers where each conversation stands, then streams what is newer than `since`.

    `since` names conversations by their ids: another room may have a room's name by now. With `presence` others may be
    told that this connection is there, and it is told of them; with `typing` it is told who types. Both hold until the
    next `sync`.
    """

    epoch: Epoch | None = None
    since: Annotated[dict[ConversationId, Count], Meta(max_length=16 * limits.MAX_ROOMS)] = {}
    presence: bool = False
    typing: bool = False


class Read(Request, tag="read"):
    """Moves this user's read marker in a conversation forward."""

    room: Conversation
    seq: Number


class Typing(Request, tag="typing"):
    """Tells those in a conversation who want to know that one is writing there. Nothing of it is stored."""

    room: Conversation


class PutNote(Request, tag="note"):
    """Stores a note for the account's own devices, in the place of the one of that name."""

    name: Hex128
    blob: NoteBytes


class Notes(Request, tag="notes"):
    """Reads the account's notes that are newer than `after`, oldest first."""

    after: Count = 0


class Ping(Request, tag="ping"):
    """Keeps the connection alive."""


REQUESTS: Final[tuple[type[Request], ...]] = (
    Prelogin, Register, Login, Resume, Logout, Passwd, Publish, ResetIdentity, Keys, BackupRequest,
    DoAct, RoomLog, Extend, Audience, Rooms, Online, Stored, Send, Pm, History, Sync, Read, Typing, PutNote,
    Notes, Ping,
)  # fmt: skip
AnyRequest = (
    Prelogin | Register | Login | Resume | Logout | Passwd | Publish | ResetIdentity | Keys | BackupRequest
    | DoAct | RoomLog | Extend | Audience | Rooms | Online | Stored | Send | Pm | History | Sync | Read | Typing
    | PutNote | Notes | Ping
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
    head: HeadLink | UnsetType = UNSET
    version: Number | UnsetType = UNSET
    users: tuple[Name, ...] | UnsetType = UNSET
    proof: StoredMessage | UnsetType = UNSET


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


class ActOk(Reply, tag="ok"):
    """In the log: on disk, as event number `events`, with this link; behind message `start`. `dup`: it was already.

    `rid` is the room's id.
    """

    room: Name
    rid: Hex256
    events: Number
    link: Hex256
    start: Place
    dup: bool = False


class RoomLogOk(Reply, tag="ok"):
    """Events in their order, and the certificates of the devices that signed them. `events`: how many there are.

    `rid` is the room's id.
    """

    room: Name
    rid: Hex256
    acts: tuple[Act, ...]
    certs: tuple[Certificate, ...]
    events: Count
    more: bool = False


class ExtendOk(Reply, tag="ok"):
    """The log goes on to `events` now."""

    room: Name
    events: Count


class AudienceOk(Reply, tag="ok"):
    """The exact bytes of the audience."""

    room: Conversation
    audience: bytes


class RoomsOk(Reply, tag="ok"):
    """The open rooms of the server, by name."""

    rooms: tuple[RoomEntry, ...]


class OnlineOk(Reply, tag="ok"):
    """Who of a room is connected and says so; the server's word."""

    room: Name
    users: tuple[Name, ...]


class StoredOk(Reply, tag="ok"):
    """What the server stores about this account, from its own tables, and what it can see in passing."""

    tables: tuple[StoredTable, ...]
    passing: tuple[str, ...]


class SendOk(Reply, tag="ok"):
    """Stored: on disk, once, at `seq`, behind `events` room events. `dup`: an earlier `send` of the same mid did it."""

    room: Conversation
    seq: Number
    ts: Count
    events: Count
    dup: bool = False


class HistoryOk(Reply, tag="ok"):
    """A page of history. `more` says that the conversation goes on beyond the page, in the direction asked.

    `start` is the place before its first message. Messages up to `trimmed` were removed as too old.
    """

    room: Conversation
    messages: tuple[StoredMessage, ...]
    more: bool = False
    first_seq: Count = 0
    last_seq: Count = 0
    start: Place | UnsetType = UNSET
    trimmed: Count = 0


class SyncOk(Reply, tag="ok"):
    """Where each conversation stands. What is newer follows as events, then `live` for each conversation.

    `invites` names the rooms one is invited to.
    """

    epoch: Epoch
    conversations: tuple[ConversationState, ...]
    invites: tuple[Name, ...] = ()


class NoteOk(Reply, tag="ok"):
    """Stored: on disk, as number `version` of the account's notes."""

    version: Number


class NotesOk(Reply, tag="ok"):
    """Notes, by `version`. `more` says that there are newer ones than these."""

    notes: tuple[StoredNote, ...]
    more: bool = False


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
    """The next event of a room's log, number `events` of it, with the certificate of the device that signed it."""

    room: Name
    events: Number
    signed: EventBytes
    sig: Signature
    cert: Certificate


class PresenceEvent(Event, tag="presence"):
    """A member of a room who shares it connected, or has no such connection left."""

    room: Name
    user: Name
    online: bool


class InvitedEvent(Event, tag="invited"):
    """Somebody invited this account to a room; `roomlog` shows who."""

    room: Name


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


class TypingEvent(Event, tag="typing"):
    """Somebody writes in a conversation. There is no word of its end: who hears no more forgets it."""

    room: Conversation
    user: Name


class NoteEvent(Event, tag="note"):
    """Another device of this account stored a note."""

    name: Hex128
    version: Number
    blob: NoteBytes


class Bye(Event, tag="bye"):
    """The server is about to close this connection, and why."""

    reason: str
    msg: str
    retry_after: float | UnsetType = UNSET


EVENTS: Final[tuple[type[Packet], ...]] = (
    Hello, StoredMessage, RoomEvent, PresenceEvent, InvitedEvent, MemberEvent, Live, ReadEvent, TypingEvent,
    NoteEvent, Bye,
)  # fmt: skip
AnyEvent = (
    Hello | StoredMessage | RoomEvent | PresenceEvent | InvitedEvent | MemberEvent | Live | ReadEvent | TypingEvent
    | NoteEvent | Bye
)  # fmt: skip

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
    DoAct: ActOk,
    RoomLog: RoomLogOk,
    Extend: ExtendOk,
    Audience: AudienceOk,
    Rooms: RoomsOk,
    Online: OnlineOk,
    Stored: StoredOk,
    Send: SendOk,
    Pm: SendOk,
    History: HistoryOk,
    Sync: SyncOk,
    Read: Reply,
    Typing: Reply,
    PutNote: NoteOk,
    Notes: NotesOk,
    Ping: Reply,
}


def command_of(request: type[Request]) -> str:
    """The name of a request on the wire."""
    tag: Any = request.__struct_config__.tag
    return str(tag)
