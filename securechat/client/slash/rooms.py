"""Rooms: entering and leaving, who is there, going on after an alarm."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from securechat.client import acts
from securechat.client.conversations import Conversation
from securechat.client.slash.common import (
    Mistyped,
    account_of,
    author_of,
    room_meant,
    room_name,
    room_of,
    user_name,
)
from securechat.client.view import Unshown
from securechat.crypto.roomlog import SALT_BYTES, Role
from securechat.crypto.trust import TrustState
from securechat.errors import NO_SUCH_ROOM, NOT_INVITED, ROOM_EXISTS, Exit, InvalidKey, Refused
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_OPEN: Final = "an open room: anybody on this server, its operator too, can enter and read from then on"
_PRIVATE: Final = "a private room: only who is invited enters"
_CHECKED: Final = 2000  # events between two words about a long log that is being checked


# --- in and out -------------------------------------------------------------------------------------------------------


async def do_join(core: ChatCore, name: str) -> None:
    """Into a room, which becomes the active one; an open room is made where there is none."""
    account_of(core)
    label = room_name(name)
    conversation = core.conversations.labelled(label)
    if conversation is None:
        await _enter(core, label)
        return
    if core.conversations.active != label:
        core.answer(f"{label} is active.")
    core.go(label)


async def _enter(core: ChatCore, label: str) -> None:
    room, _, piece = label.partition("#")
    known = core.conversations.names.get(room)
    try:
        found = await _look(core, room)
    except Refused as refusal:
        if refusal.code is not NO_SUCH_ROOM or piece:
            raise
        if known is not None:
            raise InvalidKey(
                f"the room {room} that you knew is gone, or the server hides it. It is not made anew by itself: if that"
                f" is what you want, /create {room}"
            ) from None
        try:
            await _make(core, room, private=False)
        except Refused as taken:
            if taken.code is not ROOM_EXISTS:
                raise
            found = await _look(core, room)  # somebody was quicker
        else:
            return
    _check_same(found, room, piece, known)
    await _join(core, found)


async def _look(core: ChatCore, room: str) -> Conversation:
    return await core.lobby.look(room, lambda events: _progress(core, room, events))


def _progress(core: ChatCore, room: str, events: int) -> None:
    if events % _CHECKED < 256:
        core.notice(f"{room} has a long log; {events} of its events are checked so far.")


def _check_same(found: Conversation, room: str, piece: str, known: str | None) -> None:
    """Another room of a known name is entered by its own label only. Raises InvalidKey."""
    if piece and not found.id.startswith(piece):
        raise InvalidKey(f"the server's room {room} is not {room}#{piece} but {room}#{found.id[:4]}")
    if not piece and known not in (None, found.id):
        raise InvalidKey(
            f"the server's room {room} is not the one you knew under that name, or were invited to. If you want the"
            f" other one all the same: /join {room}#{found.id[:4]}"
        )


async def _join(core: ChatCore, found: Conversation) -> None:
    author, log = author_of(core), found.log
    assert log is not None
    with core.lobby.entering(found.room):
        if log.role(author.user, author.ik) is not Role.NONE:  # another device of this account, a moment ago
            await core.lobby.take_up(found.room)
            taken = core.conversations.known(found.id)
            if taken is None or not taken.here:
                raise InvalidKey(
                    f"you are in {found.room} already by its log, and the server did not say so. Try again"
                )
            _activate(core, taken)
            core.answer(f"Another device of yours entered {taken.label}: it is active here too.")
            return
        found = await core.lobby.enter_room(found, await core.lobby.act(found, acts.join(author)))
    _activate(core, found)  # first: what is said of a room stands in it
    who = f"{len(log.members)} members" if len(log.members) > 1 else "you alone"
    core.answer(
        f"You are in {found.label}, {kind_of(found)}. ({who})",
        "What you type goes there, sealed for its members.",
        *([f"Topic: {log.topic}"] if log.topic else []),
    )
    assert core.people is not None
    strangers = [user for user, member in log.members.items() if core.people.identity(user) not in (None, member.ik)]
    if others := sorted(set(strangers) - {author.user}):
        core.notice(f"Here under another identity than you know, and gets nothing of yours: {', '.join(others)}")
    if found.first:
        core.show(Unshown(found.label, found.first, "earlier message{s}, from before you joined"))
    await core.post.prepare(found)


async def _make(core: ChatCore, room: str, *, private: bool) -> None:
    made = Conversation(room)
    make = acts.create(author_of(core), room, secrets.token_bytes(SALT_BYTES), private=private)
    with core.lobby.entering(room):
        done = await core.lobby.act(made, make)
        core.conversations.names.pop(room, None)  # by its maker's own word the name means this room from now on
        made = await core.lobby.enter_room(made, done)
    _activate(core, made)
    core.answer(f"You made {made.label}, {kind_of(made)}. What you type goes there, sealed for its members.")
    if private:
        core.answer("Let others in with /invite NAME.")


def _activate(core: ChatCore, conversation: Conversation) -> None:
    core.go(conversation.title)


def kind_of(conversation: Conversation) -> str:
    """What sort of room it is, and so who can read there."""
    return _PRIVATE if conversation.private else _OPEN


async def do_create(core: ChatCore, name: str, kind: str = "") -> None:
    """Makes a room, open or private."""
    account_of(core)
    room = room_name(name)
    if kind not in ("", "--private") or "#" in room:
        raise Mistyped("Usage: /create NAME [--private]")
    await _make(core, room, private=bool(kind))


async def do_accept(core: ChatCore, name: str) -> None:
    """Into a room one was invited to."""
    account_of(core)
    label = room_name(name)
    if core.conversations.labelled(label) is not None:
        raise Mistyped(f"You are in {label} already. /switch {label} makes it the active one.")
    room, _, piece = label.partition("#")
    found = await _look(core, room)
    _check_same(found, room, piece, core.conversations.names.get(room))
    author = author_of(core)
    assert found.log is not None
    if author.ik not in found.log.invites.get(author.user, {}):
        # Also where the log shown is an open room's: one expected a private one, so this may be another.
        raise Refused(NOT_INVITED, room=room)
    await _join(core, found)


async def do_leave(core: ChatCore, name: str = "") -> None:
    """Out of a room; the one before it becomes active. Of a room one is only invited to: declines."""
    label = room_name(name) if name else core.conversations.active
    if not label:
        raise Mistyped("No room is active. Type /leave ROOM.")
    account_of(core)
    conversation = core.conversations.labelled(label)
    if conversation is None:
        await _decline(core, label)
        return
    await core.lobby.act(conversation, acts.leave(author_of(core)))
    core.conversations.drop(conversation.room)
    core.status_changed()
    now = f" {core.conversations.active} is active now." if core.conversations.active else ""
    core.answer(f"You left {label}.{now}")


async def _decline(core: ChatCore, label: str) -> None:
    author = author_of(core)
    try:
        found = await _look(core, label.partition("#")[0])
    except Refused:
        raise room_missing(core, label) from None
    if found.log is None or author.ik not in found.log.invites.get(author.user, {}):
        raise room_missing(core, label)
    await core.lobby.act(found, acts.leave(author))
    core.answer(f"You declined the invitation to {label}.")


def room_missing(core: ChatCore, label: str) -> Refused:
    """The refusal for a room one is not in."""
    try:
        room_of(core, label)
    except Refused as refusal:
        return refusal
    raise AssertionError("called for a room one is in")


async def do_switch(core: ChatCore, name: str) -> None:
    """Another room or person becomes the active one; a few letters of the name are enough."""
    account_of(core)
    title = name.lower() if name.startswith("@") else name.removeprefix("#").lower()
    conversation = core.conversations.titled(title)
    if conversation is None:
        conversation = _only_match(core, name)
    _activate(core, conversation)
    core.answer(f"{conversation.title} is active.")


def _only_match(core: ChatCore, typed: str) -> Conversation:
    """The one conversation that a few letters fit best. Raises Mistyped, Refused."""
    found = core.attention.best_match(typed)
    if not found:
        return room_of(core, room_name(typed))  # which says that one is not in it
    ties = [title for title in found if core.attention.fits_alike(typed, title, found[0])]
    if len(ties) > 1:
        raise Mistyped(f"{typed} fits {', '.join(ties[:8])}. Type more of the name.")
    conversation = core.conversations.titled(found[0])
    assert conversation is not None
    return conversation


# --- looking ----------------------------------------------------------------------------------------------------------


async def do_rooms(core: ChatCore) -> None:
    """The open rooms of the server, and one's own private ones, which the server does not list."""
    account_of(core)
    reply: m.RoomsOk = await core.request(m.Rooms())
    own = {conversation.room: conversation for conversation in core.conversations if conversation.peer is None}
    if not reply.rooms:
        core.answer("There are no open rooms yet. /join NAME makes one.")
    for room in reply.rooms:
        people = "1 member" if room.members == 1 else f"{room.members} members"
        label = own[room.room].label if room.room in own and room.joined else room.room
        log = own[room.room].log if room.joined and room.room in own else None
        topic = room.topic if log is None else log.topic
        core.answer(f"{label}: {people}{_note(core, label, room.joined)}{f' · {topic}' if topic else ''}")
    private = sorted(c.label for c in own.values() if c.private)
    if private:
        core.answer(f"Private rooms are not listed. Yours: {', '.join(private)}")


def _note(core: ChatCore, label: str, joined: bool) -> str:
    if label == core.conversations.active and joined:
        return " (active)"
    return " (you are in)" if joined else ""


async def do_members(core: ChatCore, name: str = "") -> None:
    """The members of a room: role, who is there, and how far their identity is trusted."""
    conversation = room_meant(core, name, "/members ROOM")
    log, people = conversation.log, core.people
    assert log is not None and people is not None
    reply: m.OnlineOk = await core.request(m.Online(room=conversation.room))
    conversation.online = set(reply.users)
    core.answer(f"{conversation.label} is {kind_of(conversation)}.")
    muted, banned = _in_force(core, log.mutes), _in_force(core, log.bans)
    for user, member in sorted(log.members.items(), key=lambda item: (-item[1].role, item[0])):
        notes = [member.role.label, *(["online"] if user in conversation.online else [])]
        notes += _marks(core, user, member.ik)
        if user in muted:
            notes.append("muted")
        core.answer(f"{user} ({', '.join(notes)})")
    for user, by in sorted((user, by) for user, named in log.invites.items() for by in named.values()):
        core.answer(f"{user} (invited by {by})")
    if banned:
        core.answer(f"Banned: {', '.join(banned)}")


def _in_force(core: ChatCore, until: Mapping[str, int]) -> list[str]:
    """Those whose ban or mute has not lapsed by now, in order; 0 never does."""
    now = core.now_ms()
    return sorted(user for user, end in until.items() if not end or now < end)


def _marks(core: ChatCore, user: str, ik: bytes) -> list[str]:
    assert core.people is not None
    if user == core.user:
        return ["you"]
    state, pinned = core.people.state(user), core.people.identity(user)
    if state is TrustState.CHANGED:
        return ["identity changed"]
    if pinned != ik:
        return ["here under an earlier identity: gets nothing"]
    return ["verified"] if state is TrustState.VERIFIED else ["not compared"]


# --- going on ---------------------------------------------------------------------------------------------------------


async def do_continue(core: ChatCore, name: str) -> Exit | None:
    """Goes on in a conversation where something did not check out, or whose readers grew."""
    account_of(core)
    if name.startswith("@"):
        conversation = core.with_peer(user_name(name))
        if conversation is None:
            raise Mistyped(f"You have no private messages with {name[1:]}.")
    else:
        label = room_name(name)
        known = core.conversations.labelled(label) or core.with_peer(label)
        if known is None:
            raise room_missing(core, label)
        conversation = known
    if conversation.broken:
        await core.lobby.look_again(conversation)
    if conversation.broken:
        core.answer(f"{conversation.title} cannot go on: {'; '.join(conversation.stopped)}.")
        return Exit.UNTRUSTED
    for reason in conversation.stopped:
        core.answer(f"You go on although: {reason}.")
    waits = core.outbox is not None and any(e.where == conversation.title for e in core.outbox.pending())
    await core.lobby.go_on(conversation)
    core.answer(f"What waited for {conversation.title} is tried again." if waits else f"{conversation.title} goes on.")
    return None
