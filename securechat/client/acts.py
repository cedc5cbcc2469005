"""Acts in rooms: made from what was typed, verified when they come back, and told in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from securechat.crypto import roomlog as r
from securechat.crypto.identity import Device, verify_certificate
from securechat.errors import InvalidKey, SecureChatError
from securechat.wire import messages as m

Make = Callable[[r.RoomLog], r.AnyEvent]
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_POLICY_NAMES: Final = {"join": ("open", "invite"), "invite": ("member", "admin"), "history": ("from-join",)}


class BadWord(SecureChatError):
    """What was typed for an act cannot be understood; the text says what can."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who acts: an account, on one of its devices, at a time in milliseconds."""

    srv: str
    user: str
    ik: bytes
    dev: str
    dl: tuple[int, str]
    now: int

    def fields(self, log: r.RoomLog) -> dict[str, Any]:
        """What all events have."""
        return {
            "srv": self.srv, "room": log.id, "by": self.user, "ik": self.ik, "dev": self.dev, "after": log.head,
            "at": self.now,
        }  # fmt: skip

    def own(self, log: r.RoomLog, user: str) -> dict[str, Any]:
        """The same for an act on somebody's membership."""
        return {**self.fields(log), "own": log.standing.get(user, "")}

    def control(self, log: r.RoomLog) -> dict[str, Any]:
        """The same for an act of those who run a room."""
        return {**self.fields(log), "ctl": log.ctl}


def create(author: Author, name: str, salt: bytes, *, private: bool) -> Make:
    """Makes a room."""
    join: Any = "invite" if private else "open"
    return lambda log: r.Create(
        **author.fields(log), name=name, salt=salt, join=join, invite="member", env=1, dl=author.dl
    )


def join(author: Author) -> Make:
    """Enters."""
    return lambda log: r.Join(**author.own(log, author.user), dl=author.dl)


def leave(author: Author) -> Make:
    """Leaves, or declines."""
    return lambda log: r.Leave(**author.own(log, author.user))


def invite(author: Author, user: str, ik: bytes, dl: tuple[int, str]) -> Make:
    """Invites an identity."""
    return lambda log: r.Invite(**author.own(log, user), user=user, user_ik=ik, dl=dl)


def kick(author: Author, user: str, reason: str) -> Make:
    """Puts a member out."""
    return lambda log: r.Kick(**author.control(log), user=user, reason=_bytes(reason, r.MAX_REASON))


def ban(author: Author, user: str, until: int, reason: str) -> Make:
    """Keeps somebody out."""
    return lambda log: r.Ban(**author.control(log), user=user, until=until, reason=_bytes(reason, r.MAX_REASON))


def unban(author: Author, user: str) -> Make:
    """Lets them in again."""
    return lambda log: r.Unban(**author.control(log), user=user)


def mute(author: Author, user: str, until: int) -> Make:
    """Takes a member's voice."""
    return lambda log: r.Mute(**author.control(log), user=user, until=until)


def unmute(author: Author, user: str) -> Make:
    """Gives it back."""
    return lambda log: r.Unmute(**author.control(log), user=user)


def role(author: Author, user: str, name: str) -> Make:
    """Gives a member another role."""
    names = [role.label for role in r.Role if role]
    if name not in names:
        raise BadWord(f"{name} is not a role. There are: {', '.join(names)}.")
    chosen: Any = name
    return lambda log: r.ChangeRole(**author.control(log), user=user, role=chosen)


def topic(author: Author, text: str) -> Make:
    """Says what the room is about."""
    return lambda log: r.ChangeTopic(**author.control(log), topic=_bytes(text, r.MAX_TOPIC))


def policy(author: Author, name: str, value: str) -> Make:
    """Changes one part of how a room is run."""
    values = _POLICY_NAMES.get(name)
    if values is None:
        raise BadWord(f"A policy is one of: {', '.join(_POLICY_NAMES)}.")
    if value not in values:
        raise BadWord(f"The policy {name} is one of: {', '.join(values)}.")

    def make(log: r.RoomLog) -> r.AnyEvent:
        parts: dict[str, Any] = {"join": log.policy.join, "invite": log.policy.invite}
        return r.ChangePolicy(**author.control(log), **{**parts, name: value}, env=log.policy.env)

    if name == "history":
        raise BadWord(
            "history is from-join already: members read what was sent since they joined. It has no other value."
        )
    return make


def _bytes(text: str, limit: int) -> bytes:
    data = text.encode("utf-8", "replace")
    if len(data) > limit:
        raise BadWord(f"That is too long: {limit} bytes at most.")
    return data


def until(typed: str, now: int) -> int | None:
    """When a duration such as ``30m``, ``12h`` or ``7d`` is over, in milliseconds; None: it is not a duration."""
    match = _DURATION.fullmatch(typed.lower())
    return None if match is None else now + int(match[1]) * _UNITS[match[2]] * 1000


# --- in words ---------------------------------------------------------------------------------------------------------


def what_happened(event: r.AnyEvent) -> str:
    """An event as the end of a sentence that begins with its author's name."""
    return _WORDS[type(event)](event)


def _reason(event: Any) -> str:
    text = event.reason.decode("utf-8", "replace")
    return f" ({text})" if text else ""


def _policy(event: Any) -> str:
    enter = "anybody may enter" if event.join == "open" else "only who is invited may enter"
    return f"changed the policy: {enter}, {'members invite' if event.invite == 'member' else 'admins invite'}"


def _banned(event: Any) -> str:
    return f"banned {event.user}{' for a time' if event.until else ''}{_reason(event)}"


def _topic(text: str) -> str:
    return f"set the topic: {text}" if text else "took the topic away"


_WORDS: Final[dict[type[r.RoomEvent], Callable[[Any], str]]] = {
    r.Create: lambda event: "made the room",
    r.Invite: lambda event: f"invited {event.user}",
    r.Join: lambda event: "joined",
    r.Leave: lambda event: "left",
    r.Kick: lambda event: f"put {event.user} out{_reason(event)}",
    r.Ban: _banned,
    r.Unban: lambda event: f"ended the ban of {event.user}",
    r.Mute: lambda event: f"muted {event.user}{' for a time' if event.until else ''}",
    r.Unmute: lambda event: f"gave {event.user} their voice back",
    r.ChangeRole: lambda event: f"made {event.user} {_article(event.role)}",
    r.ChangePolicy: _policy,
    r.ChangeTopic: lambda event: _topic(event.topic.decode("utf-8", "replace")),
}


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "ao" else f"a {role}"


def verify_events(
    srv: str,
    acts: Iterable[tuple[bytes, bytes]],
    certs: Iterable[m.Certificate],
    known: Callable[[str, str], Device | None],
) -> tuple[Sequence[r.SignedEvent], Sequence[Device]]:
    """Events whose signatures hold, and the devices met on the way; 0.13 ms an event: for many, in a thread.

    Args:
        certs: looked at where a device is not known already.
        known: a device whose certificate was verified before, by user and id.

    Raises:
        InvalidKey: any of them is not what it says.
    """
    events = [r.SignedEvent(data, sig) for data, sig in acts]
    authors = {(signed.event.by, signed.event.dev) for signed in events}
    devices = {author: device for author in authors if (device := known(*author)) is not None}
    fresh: list[Device] = []
    if len(devices) < len(authors):
        given = [verify_certificate(certificate, srv=srv) for certificate in certs]
        fresh = [device for device in given if (device.user, device.dev) in authors]  # others say nothing of a log
        devices.update({(device.user, device.dev): device for device in fresh})
    for signed in events:
        device = devices.get((signed.event.by, signed.event.dev))
        if device is None:
            raise InvalidKey(f"nobody vouches for the device that {signed.event.by} signed with")
        signed.verify(device)
    return events, fresh
