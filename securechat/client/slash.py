"""What each slash command does. The table of them, with their help, is `commands.COMMANDS`.

Each is a coroutine of the core and the arguments as typed. It returns when its effect is there, and raises
SecureChatError, whose text is shown, when there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import TimeoutError

from securechat.client import accounts, commands, transfer
from securechat.client.accounts import KeysOutOfReach, OpenAccount
from securechat.client.display import BEFORE_JOIN
from securechat.client.inbox import fold, to_item
from securechat.client.outbox import watched
from securechat.client.protocol import LinkLost
from securechat.client.view import Unshown
from securechat.crypto.identity import fingerprint
from securechat.crypto.primitives import b64
from securechat.crypto.trust import TrustState
from securechat.errors import LOGIN_FIRST, NO_SUCH_USER, NOT_MEMBER, Exit, InvalidKey, Refused, SecureChatError
from securechat.link import join_address
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.names import NAME_RULE, fold_room, fold_user

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore
    from securechat.client.protocol import ChatClientProtocol

_LEAST_PASSWORD: Final = 8  # characters; the stretching makes each guess cost 0.3 s
_SERVER: Final = "server"
_OWN_SECONDS: Final = 3.0  # that /history waits for one's own messages to be stored


class Mistyped(SecureChatError):
    """What was typed cannot be done; the text says what to type instead."""

    exit = Exit.FIXABLE


async def run(core: ChatCore, typed: commands.Typed | commands.Text) -> Exit:
    """Carries out a typed line. Raises SecureChatError."""
    if isinstance(typed, commands.Text):
        return await do_send(core, typed.text)
    status = await _ACTIONS[typed.command.name](core, *typed.arguments)
    return Exit.OK if status is None else status


def not_in(room: str) -> Refused:
    """The error of somebody who is not in a room."""
    return Refused(NOT_MEMBER, room=room)


def _room(typed: str) -> str:
    room = fold_room(typed)
    if room is None:
        raise Mistyped(f"{typed} cannot be the name of a room: {NAME_RULE}.")
    return room


def _user(typed: str) -> str:
    user = fold_user(typed)
    if user is None:
        raise Mistyped(f"{typed} cannot be the name of a user: {NAME_RULE}.")
    return user


def _account(core: ChatCore) -> OpenAccount:
    if core.account is None:
        raise Refused(LOGIN_FIRST)
    return core.account


def _conversation(core: ChatCore, room: str) -> Conversation:
    _account(core)
    conversation = core.conversations.get(room)
    if conversation is None:
        raise not_in(room)
    return conversation


async def _secret(core: ChatCore, given: str | None, question: str) -> str:
    """A password given on the line, or asked for without echo."""
    secret = given if given is not None else await core.view.ask_secret(question)
    if not secret:
        raise Mistyped("No password was given. On a pipe it stands on the line: /login NAME PASSWORD.")
    return secret


# --- start ------------------------------------------------------------------------------------------------------------


async def do_register(core: ChatCore, name: str, password: str | None = None) -> None:
    """Makes an account, logs in, and enters the room of the invite."""
    user = _user(name)
    _nobody_logged_in(core)
    asked = password is None
    secret = await _secret(core, password, f"New password for {user}: ")
    if len(secret) < _LEAST_PASSWORD:
        raise Mistyped(f"A password has at least {_LEAST_PASSWORD} characters. A few words in a row are easy to keep.")
    if asked and await core.view.ask_secret("The same again: ") != secret:
        raise Mistyped("The two were not the same. Nothing was done: try again.")
    protocol = await _not_logged_in(core)
    core.notice(
        "Nobody can recover a forgotten password: without it, and without a device of yours, messages stay closed."
    )
    invite, room = core.line.invite, core.line.room
    account = await accounts.register(core.shop, protocol, user, secret, invite)
    core.line = replace(core.line, invite=None, room=None)  # which served once
    await core.enter(account)
    core.answer(f"Welcome, {user}. You are registered and logged in.")
    if invite is not None and room is not None:
        await do_join(core, room)


def _nobody_logged_in(core: ChatCore) -> None:
    if core.account is not None:
        raise Mistyped(f"You are logged in as {core.user}. Type /logout first.")


async def _not_logged_in(core: ChatCore) -> ChatClientProtocol:
    """The connection; a login before, whose keys were out of reach, is given up."""
    protocol = await core.connected()
    if core.stranded is not None:
        core.stranded = None
        with contextlib.suppress(Refused):  # it is another connection by now
            await core.request(m.Logout())
    return protocol


async def do_login(core: ChatCore, name: str, password: str | None = None) -> None:
    """Logs in; as oneself it is harmless."""
    user = _user(name)
    if core.account is not None and core.user == user:
        core.answer(f"You are logged in as {user}.")
        return
    _nobody_logged_in(core)
    secret = await _secret(core, password, f"Password of {user}: ")
    protocol = await _not_logged_in(core)
    try:
        account = await accounts.login(core.shop, protocol, user, secret)
    except KeysOutOfReach as error:
        core.stranded = error.stranded
        raise
    await core.enter(account)
    core.answer(f"Logged in as {user}.")
    if account.fresh:
        core.notice("Your keys came back from the backup; this is a new device of your account.")
    rooms = core.conversations.rooms()
    if rooms and core.view.interactive:
        core.notice(f"Your rooms: {', '.join(rooms)}. /join ROOM makes one of them active.")
    waiting = len(core.outbox.pending()) if core.outbox is not None else 0
    if waiting:
        core.notice(f"{waiting} messages of an earlier time are being sent.")


async def do_help(core: ChatCore, topic: str = "") -> None:
    """Help, from the table."""
    core.answer(*commands.help_lines(topic))


async def do_exit(core: ChatCore) -> None:
    """The view sees `exiting` and closes."""
    core.exiting = True


async def do_logout(core: ChatCore) -> None:
    """Ends the session."""
    user = _account(core).user
    await core.save()
    told = True
    try:
        await core.request(m.Logout())
    except LinkLost:
        told = False
    await core.leave_account()
    core.answer(f"{user} is logged out.")
    if not told:
        core.notice(
            "The server could not be told: there, this session ends by itself after 30 days at most, or with /passwd."
            " Nothing on this machine can take it up again."
        )


# --- talk -------------------------------------------------------------------------------------------------------------


async def do_send(core: ChatCore, text: str) -> Exit:
    """To the active room."""
    _account(core)
    room = core.conversations.active
    if not room:
        raise Mistyped("No room is active. Type /join ROOM (or /switch ROOM) first; /rooms lists them.")
    return await _post(core, room, text)


async def do_pm(core: ChatCore, name: str, text: str) -> Exit:
    """To one person."""
    _account(core)
    user = _user(name)
    if user == core.user:
        raise Mistyped("A private message goes to somebody else. Name another user.")
    assert core.people is not None
    if core.people.known(user) is None and core.link is not None and core.link.protocol is not None:
        await meet(core, user)
    return await _post(core, f"@{user}", text)


async def meet(core: ChatCore, user: str) -> None:
    """Fetches somebody's keys. Raises Refused where there is no such user."""
    assert core.people is not None
    reply = await core.request(m.Keys(users=(user,)))
    if user not in reply.keys:
        raise Refused(NO_SUCH_USER, user=user)
    core.people.take_in(reply.keys)


async def _post(core: ChatCore, where: str, text: str) -> Exit:
    if len(text.encode("utf-8", "replace")) > limits.MAX_TEXT:
        raise Mistyped(f"A message has at most {limits.MAX_TEXT} bytes. Send it in parts.")
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise Mistyped("This text has characters in it that are no text. Nothing was sent.")
    assert core.outbox is not None
    entry = await core.outbox.put(where, text)
    core.status_changed()
    waiting = watched(entry.done)
    if not core.view.interactive:
        waiting.addTimeout(core.timeout, core.reactor)  # a script is not held for ever; a person goes on typing
    try:
        status = await waiting
    except TimeoutError:
        core.timeout = 0.0  # all patience is used up: `close` says what was not acknowledged
        return Exit.NETWORK
    if status is Exit.OK and core.inbox is not None:
        await core.inbox.shown()
    return status


async def do_history(core: ChatCore, *arguments: str) -> None:
    """The newest messages of a room or of a private conversation, paging by itself."""
    _account(core)
    words = list(arguments)
    count = int(words.pop()) if words and words[-1].isdecimal() and (len(words) == 2 or not fold_room(words[-1])) else 0
    if len(words) == 2:
        raise Mistyped("Usage: /history [room] [count]")
    if len(words) == 1 and words[0].isdecimal() and core.conversations.get(words[0]) is None:
        count = int(words.pop())
    where = words[0] if words else core.conversations.active
    if not where:
        raise Mistyped("No room is active. Type /history ROOM.")
    conversation = await _named(core, where)
    await _own_first(core, conversation)
    messages = await _newest(core, conversation.room, count or limits.HISTORY_DEFAULT)
    assert core.inbox is not None
    opened = await core.inbox.open_all(messages)
    items = fold([to_item(o, conversation, core.user, core.mark_of(o.message.sender), timed=True) for o in opened])
    if not items:
        core.answer(f"{conversation.title} has no messages yet.")
    for item in items:
        core.show(item)


async def _own_first(core: ChatCore, conversation: Conversation) -> None:
    """Waits a moment for what was typed there before: it belongs into the history that is asked for."""
    if core.outbox is None or not core.can_send(conversation.title):
        return
    for entry in core.outbox.moving():
        if entry.where == conversation.title:
            with contextlib.suppress(TimeoutError):
                await watched(entry.done).addTimeout(_OWN_SECONDS, core.reactor)


async def _named(core: ChatCore, where: str) -> Conversation:
    if not where.startswith("@"):
        return _conversation(core, _room(where))
    found = core.conversations.with_peer(_user(where))
    if found is None:
        raise Mistyped(f"You have no private messages with {where[1:]} yet. Type /pm {where[1:]} MESSAGE.")
    return found


async def _newest(core: ChatCore, room: str, count: int) -> Sequence[m.StoredMessage]:
    pages: list[Sequence[m.StoredMessage]] = []
    before: int | None = None
    while count > 0:
        at, size = before, min(count, limits.HISTORY_MAX)
        page = await core.request(m.History(room=room, before=at, limit=size))
        pages.append(page.messages)
        count -= len(page.messages)
        if not page.more or not page.messages:
            break
        before = page.messages[0].seq
    return [message for page in reversed(pages) for message in page]


# --- rooms ------------------------------------------------------------------------------------------------------------


async def do_join(core: ChatCore, name: str) -> None:
    """Into a room, which becomes the active one."""
    _account(core)
    room = _room(name)
    if core.conversations.get(room) is None:
        reply = await core.request(m.Join(room=room))
        conversation = core.conversations.ensure(room)
        conversation.head = max(conversation.head, reply.head)
        conversation.first = reply.first
        conversation.cursor = max(conversation.cursor, reply.first)
        conversation.live = True
        core.shown(conversation)
        made = "You made the room" if reply.created else "You are in"
        core.answer(f"{made} {room}. What you type goes there; it can be read by its members only.")
        if reply.first and not reply.created:
            core.show(Unshown(room, reply.first, BEFORE_JOIN))
        await core.prepare(conversation)
    elif core.conversations.active != room:
        core.answer(f"{room} is active.")
    core.conversations.activate(room)
    core.status_changed()


async def do_leave(core: ChatCore, name: str = "") -> None:
    """Out of a room; the one before it becomes active."""
    room = _room(name) if name else core.conversations.active
    if not room:
        raise Mistyped("No room is active. Type /leave ROOM.")
    _conversation(core, room)
    await core.request(m.Leave(room=room))
    core.conversations.drop(room)
    core.status_changed()
    now = f" {core.conversations.active} is active now." if core.conversations.active else ""
    core.answer(f"You left {room}.{now}")


async def do_switch(core: ChatCore, name: str) -> None:
    """Another room becomes the active one."""
    room = _room(name)
    _conversation(core, room)
    core.conversations.activate(room)
    core.status_changed()
    core.answer(f"{room} is active.")


async def do_rooms(core: ChatCore) -> None:
    """All rooms of the server."""
    _account(core)
    reply = await core.request(m.Rooms())
    if not reply.rooms:
        core.answer("There are no rooms yet. /join NAME makes one.")
        return
    active = core.conversations.active
    for room in reply.rooms:
        note = " (active)" if room.room == active else " (you are in)" if room.joined else ""
        people = "1 member" if room.members == 1 else f"{room.members} members"
        core.answer(f"{room.room}: {people}{note}")


async def do_who(core: ChatCore, name: str = "") -> None:
    """The members of a room, and who is there."""
    room = _room(name) if name else core.conversations.active
    if not room:
        raise Mistyped("No room is active. Type /who ROOM.")
    conversation = _conversation(core, room)
    conversation.members = None  # who is there changes without the membership: ask
    conversation.members_head = -1
    members = await core.members_of(conversation)
    for user in sorted(members):
        there = "online" if user in conversation.online or user == core.user else "offline"
        mark = f", {core.mark_of(user)}" if core.mark_of(user) else ""
        core.answer(f"{user} ({there}{mark})")


# --- account and keys -------------------------------------------------------------------------------------------------


async def do_whoami(core: ChatCore) -> None:
    """Name, device, fingerprint, server."""
    account = _account(core)
    line = core.link.line if core.link is not None else core.line
    core.answer(
        f"You are {account.user} on {join_address(line.host, line.port)}.",
        f"Your fingerprint: {fingerprint(account.keys.ik)}",
        f"This device: {account.keys.dev} (one of {len(account.own.devices)})",
        f"The server's identity: {account.profile.srv}",
        f"Keys on this machine: {account.profile.path}",
    )


async def do_passwd(core: ChatCore, old: str | None = None, new: str | None = None) -> None:
    """Changes the password."""
    account = _account(core)
    asked = new is None
    before = await _secret(core, old, "Present password: ")
    after = await _secret(core, new, "New password: ")
    if len(after) < _LEAST_PASSWORD:
        raise Mistyped(f"A password has at least {_LEAST_PASSWORD} characters. Nothing was changed.")
    if asked and await core.view.ask_secret("The new one again: ") != after:
        raise Mistyped("The two were not the same. Nothing was changed.")
    backed = await accounts.change_password(core.shop, await core.connected(), account, before, after)
    core.answer("The password is changed. Your other connections were logged out.")
    if not backed:
        core.notice(
            "The backup at the server does not open, so it was not changed: it brings no keys back. Keep a copy of"
            " them: /keys export FILE."
        )


async def do_trust(core: ChatCore, name: str, word: str = "") -> Exit | None:
    """Accepts a changed identity, after showing both fingerprints: a `yes` counts for what was shown before."""
    if name.lower() == _SERVER:
        await _trust_server(core, word)
        return None
    _account(core)
    user, typed = _user(name), word
    assert core.people is not None
    if core.people.known(user) is None:
        await meet(core, user)
    pin, keys = core.people.pins.get(user), core.people.known(user)
    if pin is None or keys is None:
        raise InvalidKey(f"the server gives no usable keys of {user}")
    if pin.state is not TrustState.CHANGED:
        core.answer(f"{user}'s identity is the one you know:", f"  {fingerprint(pin.ik)}")
        return None
    if core.shown_identity != (user, keys.ik):
        word = ""  # nobody can have compared what was not shown
    core.answer(
        f"The identity of {user} changed. Either {user} started over with new keys, or somebody else uses the name.",
        f"  before: {fingerprint(pin.ik)}",
        f"  now:    {keys.fingerprint}",
        f"Compare the new one with {user} over another channel (their /whoami shows it).",
    )
    people, core.shown_identity = core.people, (user, keys.ik)
    if not await _agreed(core, word, f"Trust the new identity of {user}? [yes/no] "):
        core.answer(f"Nothing is changed. To accept it: /trust {user} yes")
        return Exit.UNTRUSTED if typed and not word else None
    if people is not core.people or people.accept(user, keys.ik) is None:
        raise InvalidKey(f"{user}'s identity changed again meanwhile: nothing is trusted. Type /trust {user}")
    await core.keep([("accepted", user, b64(keys.ik))], [])
    core.answer(f"The new identity of {user} is trusted. What waited is sent.")
    if core.outbox is not None:
        core.outbox.release()
    return None


async def _agreed(core: ChatCore, word: str, question: str) -> bool:
    if not word and core.view.interactive:
        word = await core.view.ask(question) or ""
    return word.strip().lower() in ("yes", "y")


async def _trust_server(core: ChatCore, word: str) -> None:
    changed = core.changed_server
    if changed is None:
        core.answer("No server's identity is in doubt.")
        return
    where = join_address(changed.line.host, changed.line.port)
    core.answer(
        f"The server at {where} changed its identity.",
        f"  before: {changed.before}",
        f"  now:    {changed.now}",
        "Ask its operator whether it was set up anew. Accounts and keys of the server before stay where they are.",
    )
    if not await _agreed(core, word, "Trust the new server? [yes/no] "):
        core.answer("Nothing is changed. To accept it: /trust server yes")
        return
    core.directory.remember(changed.line.known(changed.now))
    core.changed_server = None
    core.answer("The server is trusted. Now /login or /register.")


async def do_backup(core: ChatCore, word: str, password: str | None = None) -> None:
    """Moves the backup under a recovery code."""
    account = _account(core)
    if word.lower() != "code":
        raise Mistyped("Usage: /backup code")
    secret = await _secret(core, password, "Your password: ")

    def show(code: str) -> None:
        core.answer(
            "Your recovery code, shown this once:",
            f"    {code}",
            "Write it down. A login from an empty directory asks for it; whoever finds it needs your password too.",
        )

    try:
        await accounts.backup_under_code(core.shop, await core.connected(), account, secret, show)
    except LinkLost as error:
        raise LinkLost(
            f"{error}. Whether this code counts now is not known: keep it, and the one before if you had one. Later"
            " make another: /backup code"
        ) from None
    core.answer("The backup lies under this code now.")


async def do_keys(core: ChatCore, verb: str, file: str, passphrase: str | None = None) -> None:
    """Carries a keystore in a sealed file."""
    path = Path(file)
    with contextlib.suppress(RuntimeError):  # no such user: then it is a name like any other
        path = path.expanduser()
    if verb.lower() == "export":
        account = _account(core)
        secret = await _secret(core, passphrase, "Passphrase for the file: ")
        await transfer.export_keys(core.shop, account, path, secret)
        core.answer(f"{account.user}'s keys are in {path}, sealed with that passphrase. Guard both.")
    elif verb.lower() == "import":
        _nobody_logged_in(core)
        secret = await _secret(core, passphrase, "Passphrase of the file: ")
        profile = await transfer.import_keys(core.shop, path, secret)
        core.answer(f"The keys of {profile.user} are on this machine now. Type /login {profile.user}.")
    else:
        raise Mistyped("Usage: /keys export|import FILE")


async def do_reset_identity(core: ChatCore, password: str | None = None, word: str = "") -> None:
    """Starts over with new keys, after saying what that means."""
    stranded = core.stranded
    if core.account is not None:
        account = core.account
        stranded = accounts.Stranded(account.user, account.salt, account.backup_version)
    if stranded is None:
        raise Mistyped("Log in first: /login NAME.")
    core.answer(
        f"This gives {stranded.user} new keys. Everybody you talk to sees that your identity changed, and sends you",
        "nothing until they type /trust. All messages so far stay closed to the new keys. There is no way back.",
    )
    secret = await _secret(core, password, "Your password: ")
    if not await _agreed(core, word, "Start over? [yes/no] "):
        core.answer("Nothing is changed. To do it: /reset-identity PASSWORD yes")
        return
    protocol = await core.connected()
    await core.save()
    account = await accounts.reset_identity(core.shop, protocol, stranded, secret, core.account, core.put_down)
    await core.enter(account)
    core.answer(f"{account.user} has a new identity.", f"  {fingerprint(account.keys.ik)}")


Action = Callable[..., Awaitable[Exit | None]]
_ACTIONS: Final[dict[str, Action]] = {
    command.name: globals()["do_" + command.name.replace("-", "_")] for command in commands.COMMANDS
}
