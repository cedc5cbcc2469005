"""Running a room: who is let in, put out or silenced, who may do what, and what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from securechat.client import acts
from securechat.client.slash.common import Mistyped, account_of, author_of, keys_of, room_meant, user_name
from securechat.client.slash.rooms import kind_of
from securechat.crypto.trust import identity_hash
from securechat.errors import InvalidKey

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


async def _act(core: ChatCore, make: acts.Make) -> None:
    await core.lobby.act(room_meant(core, ""), make)


async def do_invite(core: ChatCore, name: str = "", room: str = "") -> None:
    """Invites somebody; without a name, shows the line that leads a friend here."""
    if not name:
        _show_line(core)
        return
    user = user_name(name)
    conversation = room_meant(core, room, "/invite NAME ROOM")
    keys = await keys_of(core, user, anew=True)
    assert core.people is not None
    if core.people.changed([user]):
        raise InvalidKey(
            f"the identity of {user} changed: compare with /safety {user}, then /trust {user}, then invite"
        )
    make = acts.invite(author_of(core), user, keys.ik, (keys.version, keys.digest))
    await core.lobby.act(conversation, make)
    core.answer(f"{user} is invited to {conversation.label}: they type /accept {conversation.room}")


def _show_line(core: ChatCore) -> None:
    account = account_of(core)
    line = core.link.line if core.link is not None else core.line
    active = core.conversations.labelled(core.conversations.active)
    named = replace(line, id=account.profile.srv, inviter=f"{account.user}:{identity_hash(account.own.ik)}")
    if active is not None and not active.private:
        named = replace(named, room=active.room, rid=active.id)
    core.answer(
        "For a friend. They run: securechat LINE, with this line, quotes and all. It names you and this server, so that"
        " nobody can pass for either.",
        f"'{named}'",
    )
    if line.invite is None:
        core.answer("Where the server takes accounts by invitation only, its operator's line is needed besides.")


async def do_kick(core: ChatCore, name: str, reason: str = "") -> None:
    """Puts a member out of the active room."""
    await _act(core, acts.kick(author_of(core), user_name(name), reason))


async def do_ban(core: ChatCore, name: str, rest: str = "") -> None:
    """Puts somebody out and keeps them out, for a time or for good."""
    author = author_of(core)
    until, reason = _timed(author, rest)
    await _act(core, acts.ban(author, user_name(name), until, reason))


def _timed(author: acts.Author, typed: str) -> tuple[int, str]:
    """When it is over (0: never), and what else was typed."""
    first, _, rest = typed.partition(" ")
    until = acts.until(first, author.now)
    return (0, typed) if until is None else (until, rest.strip())


async def do_unban(core: ChatCore, name: str) -> None:
    """Ends a ban."""
    await _act(core, acts.unban(author_of(core), user_name(name)))


async def do_mute(core: ChatCore, name: str, duration: str = "") -> None:
    """Takes a member's voice."""
    author = author_of(core)
    until, rest = _timed(author, duration)
    if rest:
        raise Mistyped(f"{rest} is not a duration. Write 30m, 12h or 7d.")
    await _act(core, acts.mute(author, user_name(name), until))


async def do_unmute(core: ChatCore, name: str) -> None:
    """Gives it back."""
    await _act(core, acts.unmute(author_of(core), user_name(name)))


async def do_role(core: ChatCore, name: str, role: str) -> None:
    """Gives a member of the active room another role."""
    await _act(core, acts.role(author_of(core), user_name(name), role.lower()))


async def do_topic(core: ChatCore, text: str = "") -> None:
    """Shows or sets what the active room is about."""
    conversation = room_meant(core, "")
    if text:
        await core.lobby.act(conversation, acts.topic(author_of(core), text))
    elif conversation.log is not None:
        core.answer(conversation.log.topic or f"{conversation.label} has no topic. /topic TEXT sets one.")


async def do_policy(core: ChatCore, name: str = "", value: str = "") -> None:
    """Shows or changes how the active room is run."""
    conversation = room_meant(core, "")
    log = conversation.log
    assert log is not None
    if name:
        await core.lobby.act(conversation, acts.policy(author_of(core), name.lower(), value.lower()))
        return
    core.answer(
        f"{conversation.label}: {kind_of(conversation)}.",
        f"  join: {log.policy.join}      open: anybody may enter; invite: only who is invited",
        f"  invite: {log.policy.invite}    member: every member may invite; admin: admins and owners only",
        "  history: from-join    members read what was sent since they joined",
    )
