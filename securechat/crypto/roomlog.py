"""The room log: who is in a room, with which rights, signed by the people concerned and replayed by every reader.

An event is signed by its author's device and says what it follows, but has no number of its own: its place is the
server's choice, and the chain of *links* fixes that place for ever. Server and clients judge each event at its place
by this same code; an event in a log that breaks a rule means that the server which gave it lies.

A *head* is a link: it names the log up to there, and two logs with one head are the same log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from securechat.crypto import primitives as p
from securechat.crypto.identity import Device
from securechat.crypto.signed import (
    Count,
    Form,
    Hex128,
    Hex256,
    HexOrNone,
    Key32,
    Number,
    ServerId,
    Signed,
    User,
    Version,
    to_bytes,
)
from securechat.errors import (
    ALREADY_MEMBER,
    BAD_EVENT,
    BANNED,
    NO_RIGHT,
    NOT_INVITED,
    NOT_MEMBER,
    OLD_HEAD,
    STALE_CTL,
    STALE_OWN,
    InvalidKey,
    Refused,
)

BACK: Final = 1024  # links that an event's `after`, or a message's head, may lie back
MAX_TOPIC: Final = 512  # bytes of UTF-8
MAX_REASON: Final = 256  # bytes of UTF-8
SALT_BYTES: Final = 16

Admission = Literal["open", "invite"]
Inviters = Literal["member", "admin"]
RoleName = Literal["member", "mod", "admin", "owner"]


class Role(IntEnum):
    """What somebody is in a room; NONE: not a member."""

    NONE = 0
    MEMBER = 1
    MOD = 2
    ADMIN = 3
    OWNER = 4

    @property
    def label(self) -> str:
        """The name on the wire."""
        return self.name.lower()


# --- events -----------------------------------------------------------------------------------------------------------


class RoomEvent(Signed):
    """Base of all events.

    Attributes:
        room: the room's id, "" in the event that makes it.
        by, ik, dev: its author: name, identity and device.
        after: one of the last 1024 links before its place; "" in the event that makes the room.
        at: the author's clock, in milliseconds; for people, and for when a ban has lapsed.
    """

    srv: ServerId
    room: HexOrNone
    by: User
    ik: Key32
    dev: Hex128
    after: HexOrNone
    at: Count

    @property
    def subject(self) -> str:
        """Whom it is about."""
        return str(getattr(self, "user", self.by))


class MembershipAct(RoomEvent):
    """An act on one person's membership. `own`: the event that changed that person's standing last, or ""."""

    own: HexOrNone


class ControlEvent(RoomEvent):
    """An act of those who run a room. `ctl`: the control event before it, at first the one that made the room."""

    ctl: Hex256


class Create(RoomEvent, tag="sc/room/create"):
    """Makes a room; its hash is the room's id. `dl`: the author's device list."""

    name: User
    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    join: Admission
    invite: Inviters
    env: Number
    dl: Version


class Invite(MembershipAct, tag="sc/room/invite"):
    """Invites an identity, for one join."""

    user: User
    user_ik: Key32
    dl: Version


class Join(MembershipAct, tag="sc/room/join"):
    """Enters."""

    dl: Version


class Leave(MembershipAct, tag="sc/room/leave"):
    """Leaves, or declines an invitation."""


class Kick(ControlEvent, tag="sc/room/kick"):
    """Puts a member out."""

    user: User
    reason: Annotated[bytes, Meta(max_length=MAX_REASON)]


class Ban(ControlEvent, tag="sc/room/ban"):
    """Puts somebody out and keeps them out. `until`: milliseconds since 1970; 0: for ever."""

    user: User
    until: Count
    reason: Annotated[bytes, Meta(max_length=MAX_REASON)]


class Unban(ControlEvent, tag="sc/room/unban"):
    """Lets somebody in again."""

    user: User


class Mute(ControlEvent, tag="sc/room/mute"):
    """Takes a member's voice. `until` as in `Ban`."""

    user: User
    until: Count


class Unmute(ControlEvent, tag="sc/room/unmute"):
    """Gives it back."""

    user: User


class ChangeRole(ControlEvent, tag="sc/room/role"):
    """Gives a member another role."""

    user: User
    role: RoleName


class ChangePolicy(ControlEvent, tag="sc/room/policy"):
    """Who may enter, and who may invite. `env`: the lowest envelope version in use; it may only rise."""

    join: Admission
    invite: Inviters
    env: Number


class ChangeTopic(ControlEvent, tag="sc/room/topic"):
    """What the room is about, in UTF-8."""

    topic: Annotated[bytes, Meta(max_length=MAX_TOPIC)]


AnyEvent = Create | Invite | Join | Leave | Kick | Ban | Unban | Mute | Unmute | ChangeRole | ChangePolicy | ChangeTopic
_EVENT: Final = Form(AnyEvent)


@dataclass(frozen=True)
class SignedEvent:
    """An event as it travels: the bytes that were signed, and the signature of its author's device (label "room")."""

    data: bytes
    sig: bytes

    @cached_property
    def event(self) -> AnyEvent:
        """What it says. Raises InvalidKey: it is not an event."""
        event: AnyEvent = _EVENT.parse(self.data)
        return event

    @cached_property
    def eh(self) -> str:
        """Its hash, H("event", bytes): 64 hex digits."""
        return p.digest("event", self.data).hex()

    def verify(self, device: Device) -> None:
        """Checks signature and author. Raises InvalidKey."""
        event = self.event
        if (event.by, event.ik, event.dev) != (device.user, device.ik, device.dev):
            raise InvalidKey("this room event is not of that device")
        p.verify(device.dk, "room", self.data, self.sig)


def sign_event(device: p.SigningKey, event: AnyEvent) -> SignedEvent:
    """Signs an event by its author's device."""
    data = to_bytes(event)
    return SignedEvent(data, p.sign(device, "room", data))


def next_link(link: str, eh: str) -> str:
    """link_i = H("link", link_{i-1}, eh_i); "" comes before the first."""
    return p.digest("link", bytes.fromhex(link), bytes.fromhex(eh)).hex()


# --- who may do what --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Right:
    """What an act asks of its author.

    Attributes:
        least: the lowest role, given the room's policy.
        above: whether the author must rank strictly above the person concerned.
    """

    least: Callable[[Policy], Role]
    above: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """How a room is run: who may enter, who may invite, and the lowest envelope version."""

    join: str
    invite: str
    env: int


def _least(role: Role) -> Callable[[Policy], Role]:
    return lambda policy: role


RIGHTS: Final[Mapping[type[RoomEvent], Right]] = {
    Invite: Right(lambda policy: Role.ADMIN if policy.invite == "admin" else Role.MEMBER),
    Join: Right(_least(Role.NONE)),
    Leave: Right(_least(Role.NONE)),
    Kick: Right(_least(Role.MOD), above=True),
    Ban: Right(_least(Role.MOD), above=True),
    Unban: Right(_least(Role.MOD)),
    Mute: Right(_least(Role.MOD), above=True),
    Unmute: Right(_least(Role.MOD), above=True),
    ChangeRole: Right(_least(Role.ADMIN), above=True),
    ChangePolicy: Right(_least(Role.OWNER)),
    ChangeTopic: Right(_least(Role.MOD)),
}
"""The rights table. `create` stands outside it: who makes a room needs none."""


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """A member: an identity, not merely a name."""

    ik: bytes
    role: Role


@dataclass(frozen=True, slots=True)
class Change:
    """What one event did to somebody's membership. `ik` is None where it ended; `by_force`: by a kick or ban."""

    user: str
    ik: bytes | None
    by_force: bool = False


@dataclass(slots=True)
class _Span:
    """An identity's time as a member, or a person's without a voice: from event `start` to before event `end`."""

    start: int
    end: int | None = None
    ik: bytes = b""
    until: int = 0

    def holds(self, place: int) -> bool:
        return self.start <= place and (self.end is None or place < self.end)


@dataclass
class RoomLog:
    """A room's log, replayed. Places count from 0; `place` of a link is that of the event it follows.

    Attributes:
        srv: the server's id; an event of another server is no event here.
        id: hash of the first event; "" before it.
        links: the link after each event.
        members, invites, bans, mutes, standing: as of the last event. Invites by invited name: identity → inviter.
    """

    srv: str
    id: str = ""
    name: str = ""
    created: int = 0
    policy: Policy = Policy("open", "member", 1)
    topic: str = ""
    ctl: str = ""
    links: list[str] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    invites: dict[str, dict[bytes, str]] = field(default_factory=dict)
    bans: dict[str, int] = field(default_factory=dict)
    mutes: dict[str, int] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    changes: list[Change | None] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)
    _spans: dict[str, list[_Span]] = field(default_factory=dict)
    _silences: dict[str, list[_Span]] = field(default_factory=dict)
    _rosters: dict[int, Mapping[str, bytes]] = field(default_factory=dict)

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def head(self) -> str:
        """The newest link; "" of an empty log."""
        return self.links[-1] if self.links else ""

    @property
    def count(self) -> int:
        """How many events there are."""
        return len(self.links)

    @property
    def open(self) -> bool:
        """Whether anybody may enter."""
        return self.policy.join == "open"

    def place(self, link: str) -> int | None:
        """Which event a link follows; None where it is not of this log."""
        return self._places.get(link)

    def role(self, user: str, ik: bytes | None = None) -> Role:
        """Somebody's role; with `ik`, that identity's."""
        member = self.members.get(user)
        return Role.NONE if member is None or (ik is not None and member.ik != ik) else member.role

    def member_at(self, user: str, place: int) -> bytes | None:
        """The identity that was a member under a name right after an event."""
        return next((span.ik for span in self._spans.get(user, ()) if span.holds(place)), None)

    def entered(self, user: str) -> int:
        """The place of the event by which a present member entered last; -1 of somebody who is none."""
        spans = self._spans.get(user, ())
        return spans[-1].start if spans and spans[-1].end is None else -1

    def members_at(self, place: int) -> Mapping[str, bytes]:
        """All members right after an event, with their identities."""
        roster = self._rosters.get(place)
        if roster is None:
            if len(self._rosters) >= 8:  # readers look at the newest, and now and then at one before
                self._rosters.pop(next(iter(self._rosters)))
            roster = self._rosters[place] = {
                user: ik for user in self._spans if (ik := self.member_at(user, place)) is not None
            }
        return roster

    def muted_at(self, user: str, place: int, at: int) -> bool:
        """Whether somebody had no voice right after an event, at a time in milliseconds."""
        spans = self._silences.get(user, ())
        return any(span.holds(place) and not 0 < span.until <= at for span in spans)

    def put_out_between(self, after: int, up_to: int) -> set[str]:
        """Who was kicked or banned by the events behind place `after`, up to and with place `up_to`."""
        return {change.user for change in self.changes[after + 1 : up_to + 1] if change is not None and change.by_force}

    def changed_since(self, link: str) -> tuple[set[str], bool] | None:
        """Whose membership changed since a link, and whether anybody was put out; None: not of the last 1024 links."""
        place = self._places.get(link)
        if place is None or place < self.count - BACK:
            return None
        changes = [change for change in self.changes[place + 1 :] if change is not None]
        return {change.user for change in changes}, any(change.by_force for change in changes)

    # --- judging ------------------------------------------------------------------------------------------------------

    def check(self, signed: SignedEvent) -> None:
        """Whether an event may be the next one; its signature is the caller's to check.

        Raises:
            Refused: `bad_event`, `old_head`, `stale_own`, `stale_ctl`, `no_right`, `not_member`, `already_member`,
                `not_invited`, `banned`.
            InvalidKey: it is not an event at all.
        """
        event = signed.event
        if event.srv != self.srv:
            raise Refused(BAD_EVENT, why="it is of another server")
        if isinstance(event, Create):
            if self.links or event.room or event.after:
                raise Refused(BAD_EVENT, why="a room is made once, by its first event")
            return
        if not self.links or event.room != self.id:
            raise Refused(BAD_EVENT, why="it is of another room")
        after = self._places.get(event.after)
        if after is None or after < self.count - BACK:
            raise Refused(OLD_HEAD, room=self.name)
        if isinstance(event, MembershipAct) and event.own != self.standing.get(event.subject, ""):
            raise Refused(STALE_OWN, user=event.subject, room=self.name)
        if isinstance(event, ControlEvent) and event.ctl != self.ctl:
            raise Refused(STALE_CTL, room=self.name)
        self._check_rank(event)
        check = _CHECKS.get(type(event))
        if check is not None:
            check(self, event)

    def _check_rank(self, event: AnyEvent) -> None:
        right = RIGHTS[type(event)]
        least, actor = right.least(self.policy), self.role(event.by, event.ik)
        if least > Role.NONE and actor is Role.NONE:
            raise Refused(NOT_MEMBER, room=self.name)
        if actor < least or (right.above and actor <= self.role(event.subject)):
            raise Refused(NO_RIGHT, room=self.name, role=actor.label)

    # --- taking in ----------------------------------------------------------------------------------------------------

    def append(self, signed: SignedEvent) -> None:
        """Makes an event the next one. Raises as `check` does, and is then as it was."""
        self.check(signed)
        event, place = signed.event, self.count
        if isinstance(event, Create):
            self.id, self.name, self.created = signed.eh, event.name, event.at
        link = next_link(self.head, signed.eh)
        self.changes.append(_APPLY[type(event)](self, event, place))
        self.links.append(link)
        self._places[link] = place
        if isinstance(event, (ControlEvent, Create)):
            self.ctl = signed.eh
        if isinstance(event, _STANDING):
            self.standing[event.subject] = signed.eh

    def _enter(self, user: str, ik: bytes, role: Role, place: int) -> Change:
        self._end(user, place)
        self.members[user] = Member(ik, role)
        self._spans.setdefault(user, []).append(_Span(place, ik=ik))
        return Change(user, ik)

    def _end(self, user: str, place: int) -> bool:
        """Ends a membership, and what it could give: its unused invitations are void."""
        if self.members.pop(user, None) is None:
            return False
        self._spans[user][-1].end = place
        self._void(lambda invited, ik, inviter: inviter == user)
        return True

    def _void(self, which: Callable[[str, bytes, str], bool]) -> None:
        """Takes back invitations, told by the name and identity invited, and who invited them."""
        for user in list(self.invites):
            left = {ik: inviter for ik, inviter in self.invites[user].items() if not which(user, ik, inviter)}
            if left:
                self.invites[user] = left
            else:
                del self.invites[user]

    def _create(self, event: Any, place: int) -> Change:
        self.policy = Policy(event.join, event.invite, event.env)
        return self._enter(event.by, event.ik, Role.OWNER, place)

    def _invite(self, event: Any, place: int) -> None:
        self.invites.setdefault(event.user, {})[event.user_ik] = event.by

    def _join(self, event: Any, place: int) -> Change:
        self.invites.pop(event.by, None)
        self.bans.pop(event.by, None)  # it has lapsed, or `check` would not have let them in
        # Somebody has to run an open room that all have left.
        return self._enter(event.by, event.ik, Role.MEMBER if self.members else Role.OWNER, place)

    def _leave(self, event: Any, place: int) -> Change | None:
        if self.role(event.by, event.ik) is Role.NONE:  # declined; another identity of that name stays
            self._void(lambda user, ik, inviter: (user, ik) == (event.by, event.ik))
            return None
        self.invites.pop(event.by, None)
        self._end(event.by, place)
        return Change(event.by, None)

    def _kick(self, event: Any, place: int) -> Change | None:
        self.invites.pop(event.user, None)
        return Change(event.user, None, by_force=True) if self._end(event.user, place) else None

    def _ban(self, event: Any, place: int) -> Change | None:
        self.bans[event.user] = event.until
        return self._kick(event, place)

    def _unban(self, event: Any, place: int) -> None:
        del self.bans[event.user]

    def _mute(self, event: Any, place: int) -> None:
        self._unmute(event, place)
        self.mutes[event.user] = event.until
        self._silences.setdefault(event.user, []).append(_Span(place, until=event.until))

    def _unmute(self, event: Any, place: int) -> None:
        if self.mutes.pop(event.user, None) is not None:
            self._silences[event.user][-1].end = place

    def _role(self, event: Any, place: int) -> None:
        self.members[event.user] = Member(self.members[event.user].ik, Role[event.role.upper()])

    def _policy(self, event: Any, place: int) -> None:
        self.policy = Policy(event.join, event.invite, event.env)

    def _topic(self, event: Any, place: int) -> None:
        self.topic = event.topic.decode("utf-8")


def _check_invite(log: RoomLog, event: Any) -> None:
    if log.role(event.user, event.user_ik) is not Role.NONE:
        raise Refused(ALREADY_MEMBER, user=event.user, room=log.name)
    if _banned(log, event.user, event.at):
        raise Refused(BANNED, user=event.user, room=log.name)
    if event.user_ik in log.invites.get(event.user, {}):  # another inviter could take it back by leaving
        raise Refused(BAD_EVENT, why=f"{event.user} is invited already")


def _check_join(log: RoomLog, event: Any) -> None:
    if log.role(event.by, event.ik) is not Role.NONE:
        raise Refused(ALREADY_MEMBER, user=event.by, room=log.name)
    if _banned(log, event.by, event.at):
        raise Refused(BANNED, user=event.by, room=log.name)
    if not log.open and event.ik not in log.invites.get(event.by, {}):
        raise Refused(NOT_INVITED, room=log.name)


def _banned(log: RoomLog, user: str, at: int) -> bool:
    """Whether somebody is kept out. That `at` is not from the future is the server's to see to, as with durations."""
    until = log.bans.get(user)
    return until is not None and not 0 < until <= at


def _check_leave(log: RoomLog, event: Any) -> None:
    if log.role(event.by, event.ik) is Role.NONE and event.ik not in log.invites.get(event.by, {}):
        raise Refused(NOT_MEMBER, room=log.name)


def _check_target(log: RoomLog, event: Any) -> None:
    if log.role(event.user) is Role.NONE:
        raise Refused(BAD_EVENT, why=f"{event.user} is not a member")


def _check_unban(log: RoomLog, event: Any) -> None:
    if event.user not in log.bans:
        raise Refused(BAD_EVENT, why=f"{event.user} is not banned")


def _check_unmute(log: RoomLog, event: Any) -> None:
    if event.user not in log.mutes:
        raise Refused(BAD_EVENT, why=f"{event.user} is not muted")


def _check_role(log: RoomLog, event: Any) -> None:
    _check_target(log, event)
    after = log.place(event.after)
    if after is None or log.member_at(event.user, after) != log.members[event.user].ik:
        # Or whoever holds a promotion back could have it land on an identity that its author never meant.
        raise Refused(BAD_EVENT, why=f"{event.user} was not a member with this identity when it was signed")
    actor, new = log.role(event.by, event.ik), Role[event.role.upper()]
    if actor <= new and not actor is new is Role.OWNER:  # an owner may name another owner
        raise Refused(NO_RIGHT, room=log.name, role=actor.label)


def _check_policy(log: RoomLog, event: Any) -> None:
    if event.env < log.policy.env:
        raise Refused(BAD_EVENT, why="the lowest envelope version may only rise")


def _check_topic(log: RoomLog, event: Any) -> None:
    _check_text("topic", event.topic)


def _check_kick(log: RoomLog, event: Any) -> None:
    _check_target(log, event)
    _check_text("reason", event.reason)


def _check_ban(log: RoomLog, event: Any) -> None:
    _check_text("reason", event.reason)


def _check_text(what: str, text: bytes) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(BAD_EVENT, why=f"the {what} is not UTF-8") from None


_STANDING: Final = (Create, MembershipAct, Kick, Ban, Unban)  # what a person's next act must name

_CHECKS: Final[Mapping[type[RoomEvent], Callable[[RoomLog, Any], None]]] = {
    Invite: _check_invite,
    Join: _check_join,
    Leave: _check_leave,
    Kick: _check_kick,
    Ban: _check_ban,
    Unban: _check_unban,
    Mute: _check_target,
    Unmute: _check_unmute,
    ChangeRole: _check_role,
    ChangePolicy: _check_policy,
    ChangeTopic: _check_topic,
}

_APPLY: Final[Mapping[type[RoomEvent], Callable[[RoomLog, Any, int], Change | None]]] = {
    Create: RoomLog._create,
    Invite: RoomLog._invite,
    Join: RoomLog._join,
    Leave: RoomLog._leave,
    Kick: RoomLog._kick,
    Ban: RoomLog._ban,
    Unban: RoomLog._unban,
    Mute: RoomLog._mute,
    Unmute: RoomLog._unmute,
    ChangeRole: RoomLog._role,
    ChangePolicy: RoomLog._policy,
    ChangeTopic: RoomLog._topic,
}


def replay(srv: str, events: Sequence[SignedEvent]) -> RoomLog:
    """A log from events whose signatures were checked before. Raises as `RoomLog.check` does."""
    log = RoomLog(srv)
    for signed in events:
        log.append(signed)
    return log
