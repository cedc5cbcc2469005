"""Every deliberate error, each with its wire code.

`CODES` is the one table: the server answers from it, the client takes its exit status from it, and PacketDiagram.md
shows the same rows (a test compares them). A text says what happened and what to do next; ``{name}`` in it is filled
from the data the error is raised with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final


class Exit(IntEnum):
    """Exit status of the client's commands; documented in README.md and `securechat --help`."""

    OK = 0
    FIXABLE = 1
    USAGE = 2
    NETWORK = 3
    UNTRUSTED = 4
    RATE_LIMITED = 5
    LOGIN_REFUSED = 6
    NOT_THERE = 7
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Code:
    """One way a request can fail.

    Attributes:
        name: the wire code, for programs; unique.
        text: for people; says what to do next.
        exit: the status a script's client ends with.
        closes: the server closes the connection after answering.
        stored_nothing: proof that a refused `send` is not in the history, so a new body may use the same ``mid``.
    """

    name: str
    text: str
    exit: Exit = Exit.FIXABLE
    closes: bool = False
    stored_nothing: bool = False


# Violations: the peer does not speak the protocol. Answered, logged, closed.
BAD_PACKET: Final = Code(
    "bad_packet", "That line is not a packet ({why}). Send one JSON object a line.", Exit.NETWORK, True
)
EMPTY_LINE: Final = Code(
    "empty_line", "An empty line is not a packet. Send one JSON object a line.", Exit.NETWORK, True
)
LINE_TOO_LONG: Final = Code(
    "line_too_long", "A line may have {limit} bytes here. Send less at once.", Exit.FIXABLE, True
)

# Requests that cannot be understood or are not possible now.
UNKNOWN_COMMAND: Final = Code(
    "unknown_command", "This server does not know that command. Is the client newer than the server?"
)
BAD_FIELD: Final = Code("bad_field", "A field of this request is wrong: {why}.")
LOGIN_FIRST: Final = Code(
    "login_first", "Log in first: /login NAME, or /register NAME for a new account.", Exit.LOGIN_REFUSED
)
DEVICE_FIRST: Final = Code("device_first", "This login has no device key yet: publish one first.", Exit.LOGIN_REFUSED)
ALREADY_LOGGED_IN: Final = Code("already_logged_in", "This connection is logged in. Type /logout first.")

# Accounts.
BAD_LOGIN: Final = Code(
    "bad_login", "No account has that name and password. Check both and try again.", Exit.LOGIN_REFUSED
)
BAD_SESSION: Final = Code("bad_session", "That session has ended. Log in again with /login.", Exit.LOGIN_REFUSED)
NAME_TAKEN: Final = Code("name_taken", "The name {user} is taken. Choose another, or /login {user} if it is yours.")
INVITE_NEEDED: Final = Code(
    "invite_needed",
    "This server takes new accounts by invitation. Ask its operator for an invite line (securechat admin invite).",
    Exit.LOGIN_REFUSED,
)
BAD_INVITE: Final = Code(
    "bad_invite", "That invitation is used up, expired or unknown. Ask for a new one.", Exit.LOGIN_REFUSED
)
REGISTRATION_CLOSED: Final = Code(
    "registration_closed", "This server takes no new accounts. Ask its operator.", Exit.LOGIN_REFUSED
)
BAD_KEYS: Final = Code("bad_keys", "The account's keys do not check out: {why}.", Exit.UNTRUSTED)
STALE_LIST: Final = Code(
    "stale_list", "The device list is not the successor of the newest one ({version}). Fetch the newest and try again."
)
TOO_MANY_DEVICES: Final = Code("too_many_devices", "An account has at most {limit} devices. Revoke one first.")
STALE_BACKUP: Final = Code("stale_backup", "A newer backup is stored (version {version}). Fetch it first.")
NO_BACKUP: Final = Code("no_backup", "This account has no backup on the server. Use /keys import FILE.", Exit.UNTRUSTED)

# Conversations.
NO_SUCH_USER: Final = Code("no_such_user", "There is no user {user} here. Check the spelling.", Exit.NOT_THERE)
NO_SUCH_ROOM: Final = Code("no_such_room", "There is no room {room} here. /join {room} makes it.", Exit.NOT_THERE)
ROOM_EXISTS: Final = Code("room_exists", "There is a room {room} already. /join {room} enters it.")
NOT_INVITED: Final = Code(
    "not_invited", "{room} is a private room. Ask one of its members to /invite you.", Exit.NOT_THERE
)
BANNED: Final = Code(
    "banned", "{user} is banned from {room}. Those who run it can end that with /unban {user}.", Exit.NOT_THERE
)
MUTED: Final = Code("muted", "You have no voice in {room}. Those who run it can end that with /unmute.")
NO_RIGHT: Final = Code("no_right", "Your role in {room}, {role}, does not allow that. /members shows who can.")
ALREADY_MEMBER: Final = Code("already_member", "{user} is in {room} already.")
BAD_EVENT: Final = Code("bad_event", "The room does not take that act: {why}.")
OLD_HEAD: Final = Code(
    "old_head", "Too much happened in {room} since this act was signed. Fetch its log and sign again."
)
STALE_OWN: Final = Code(
    "stale_own", "The membership of {user} in {room} changed meanwhile. Fetch the room's log and sign again."
)
STALE_CTL: Final = Code("stale_ctl", "Somebody else who runs {room} was quicker. Fetch the room's log and sign again.")
STALE_LOG: Final = Code("stale_log", "These events do not go on where the server's log of {room} ends.")
UNKNOWN_AUDIENCE: Final = Code("unknown_audience", "No message of {room} has that audience.", Exit.NOT_THERE)
NOT_MEMBER: Final = Code("not_member", "You are not in {room}. Type /join {room} first.", Exit.NOT_THERE)
SELF_MESSAGE: Final = Code("self_message", "A private message goes to somebody else. Name another user.")
ROOM_FULL: Final = Code("room_full", "{room} has {limit} members, the most a room can have.")
TOO_MANY_ROOMS: Final = Code(
    "too_many_rooms", "You are in {limit} rooms, the most an account can be in. /leave one first."
)
STALE_HEAD: Final = Code(
    "stale_head",
    "Somebody was put out of {room} meanwhile. Seal the message for the present members.",
    stored_nothing=True,
)
STALE_KEYS: Final = Code(
    "stale_keys", "Keys of members changed meanwhile. Fetch them and seal again.", stored_nothing=True
)
BAD_AUDIENCE: Final = Code(
    "bad_audience", "The message is not sealed for exactly the members of {room}.", stored_nothing=True
)
OUT_OF_TURN: Final = Code(
    "out_of_turn", "The next message of this device here has number {expected}. Send that first.", stored_nothing=True
)
CTR_BEHIND: Final = Code(
    "ctr_behind",
    "This device has sent more here than it knows: its next message has number {expected}. The proof comes along.",
    stored_nothing=True,
)
OVER_QUOTA: Final = Code(
    "over_quota",
    "{who} the {limit} MB of messages that this server keeps for one. Ask its operator for more room.",
    stored_nothing=True,
)
BAD_HEADER: Final = Code("bad_header", "The signed header does not say what the server knows: {why}.", Exit.UNTRUSTED)
MID_CONFLICT: Final = Code("mid_conflict", "Another message was stored under this mid. Use a new one.")
DAMAGED: Final = Code(
    "damaged", "Stored messages of {room} do not check out on the server. Tell its operator.", Exit.NETWORK
)

# Load and faults: try again later, nothing is wrong with the request.
RATE_LIMITED: Final = Code("rate_limited", "Too many attempts. Try again in {retry_after:.0f} s.", Exit.RATE_LIMITED)
BUSY: Final = Code("busy", "The server is busy. Try again in {retry_after:.0f} s.", Exit.RATE_LIMITED)
TRY_AGAIN: Final = Code(
    "try_again", "The server could not store that now. Try again in {retry_after:.0f} s.", Exit.NETWORK
)
FULL: Final = Code("full", "The server's disk is full. Nothing was stored; tell its operator.", Exit.NETWORK)
INTERNAL: Final = Code(
    "internal", "The server made a mistake and logged it. Reconnect and try again.", Exit.NETWORK, True
)

CODES: Final[dict[str, Code]] = {value.name: value for value in list(globals().values()) if isinstance(value, Code)}

PATIENCE: Final = frozenset({BUSY, FULL, RATE_LIMITED, TRY_AGAIN})  # the same request may be accepted later
NOT_THE_NEXT: Final = frozenset({OLD_HEAD, STALE_CTL, STALE_OWN})  # an act that does not go on from the log as it is


class SecureChatError(Exception):
    """Base of every deliberate error; its text is for a person and says what to do next."""


class Refused(SecureChatError):
    """A request is answered with an error code.

    Attributes:
        code: the row of the table.
        data: what fills the text; ``retry_after`` (seconds), ``expected``, ``head``, ``version``, ``users`` and
            ``proof`` also travel in the reply as fields of their own.
    """

    def __init__(self, code: Code, **data: Any) -> None:
        self.code = code
        self.data = data
        super().__init__(code.text.format(**data))


class ProtocolViolation(Refused):
    """The peer does not speak the protocol: answer its code, then close the connection."""


class StartupError(SecureChatError):
    """The daemon or client cannot start; the text says what is wrong and how to mend it."""


class BackupFailed(SecureChatError):
    """A backup could not be made, or is none; the text says why. Nothing is left of it."""


class InvalidKey(SecureChatError):
    """A key, certificate, list or signature failed a check; nothing of the object may be used."""

    exit = Exit.UNTRUSTED


class WrongSecret(SecureChatError):
    """A sealed object does not open: wrong password, recovery code or passphrase, or altered bytes."""


class Undecryptable(SecureChatError):
    """A package does not open for this reader.

    Attributes:
        finding: one of the fixed reasons (`crypto.findings.Finding`).
    """

    def __init__(self, finding: Any) -> None:
        self.finding = finding
        super().__init__(str(finding))


class AtRestMismatch(SecureChatError):
    """A sealed row is not the one its columns name: moved, replayed or damaged in the database."""
