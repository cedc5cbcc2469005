"""Getting in and out: /register, /login, /logout, /help, /exit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from securechat.client import accounts, localfirst, stay
from securechat.client.helptext import help_lines
from securechat.client.openaccount import KeysOutOfReach, OpenAccount
from securechat.client.protocol import LinkLost
from securechat.client.slash.common import Mistyped, account_of, secret, user_name
from securechat.client.slash.rooms import do_join
from securechat.client.store import CannotKeep
from securechat.errors import Refused
from securechat.link import PLAIN_SCHEME, SCHEME, ConnectLine, join_address
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore
    from securechat.client.protocol import ChatClientProtocol

NO_RECOVERY: Final = (
    "Nobody can recover a forgotten password: without it, and without a device of yours, messages stay closed."
)
LEAST_PASSWORD: Final = 8  # characters; the stretching makes each guess cost 0.3 s


async def do_register(core: ChatCore, name: str, password: str | None = None) -> None:
    """Makes an account, logs in, and enters the room of the invite."""
    user = user_name(name)
    nobody_logged_in(core)
    asked = password is None
    typed = await secret(core, password, f"New password for {user}: ")
    if len(typed) < LEAST_PASSWORD:
        raise Mistyped(f"A password has at least {LEAST_PASSWORD} characters. A few words in a row are easy to keep.")
    if asked and await core.view.ask_secret("The same again: ") != typed:
        raise Mistyped("The two were not the same. Nothing was done: try again.")
    await _not_logged_in(core)
    core.notice(NO_RECOVERY)
    await register(core, user, typed)


async def register(core: ChatCore, user: str, password: str) -> None:
    """The same with a password that was typed twice, by somebody who was told that it cannot be recovered."""
    nobody_logged_in(core)
    protocol = await _not_logged_in(core)
    line = core.line
    account = await accounts.register(core.shop, protocol, user, password, line.invite)
    core.line = replace(line, invite=None, room=None, rid=None, inviter=None)  # which served once
    try:
        await _learn(account, line)
    except CannotKeep:
        account.close()
        raise
    await stay.enter(core, account)
    core.answer(f"Welcome, {user}. You are registered and logged in.")
    if line.room is not None and (line.invite is not None or line.inviter is not None):
        await do_join(core, line.room)


async def _learn(account: OpenAccount, line: ConnectLine) -> None:
    """What an invite line vouches for: who made it, and which room it leads to. Before the server says otherwise."""
    puts = []
    if line.inviter is not None:
        user, _, identity = line.inviter.partition(":")
        puts.append(("expected", user, identity))
    if line.room is not None and line.rid is not None:
        puts.append(("name", line.room, line.rid))
    await account.store.write(puts)
    for kind, name, value in puts:
        account.records = {**account.records, kind: {**account.records.get(kind, {}), name: value}}


def nobody_logged_in(core: ChatCore) -> None:
    if core.account is not None:
        raise Mistyped(f"You are logged in as {core.user}. Type /logout first.")


async def _not_logged_in(core: ChatCore) -> ChatClientProtocol:
    """The connection; a login before, whose keys were out of reach, is given up."""
    protocol = await core.online.connected()
    if core.stranded is not None:
        core.stranded = None
        with contextlib.suppress(Refused):  # it is another connection by now
            await core.request(m.Logout())
    return protocol


async def do_connect(core: ChatCore, text: str) -> None:
    """Another server from now on: the one of a connect line, or of HOST[:PORT]."""
    nobody_logged_in(core)
    line = ConnectLine.parse(text.strip().strip("'\""))
    if core.link is not None:
        await stay.leave(core)
    core.line = line
    srv = line.id or core.directory.known_id(line.host, line.port)
    users = [] if srv is None else core.directory.users(srv)
    login = f"/login {users[0]} logs in" if len(users) == 1 else "/login NAME logs in"
    core.answer(
        f"The server is {join_address(line.host, line.port)} now.", f"/register NAME makes an account; {login}."
    )


def is_connect_line(text: str) -> bool:
    """Whether somebody typed a connect line as it is."""
    return text.strip().strip("'\"").startswith((f"{SCHEME}://", f"{PLAIN_SCHEME}://"))


async def do_login(core: ChatCore, name: str, password: str | None = None) -> None:
    """Logs in; as oneself it is harmless."""
    user = user_name(name)
    if core.account is not None and core.user == user:
        there = "logged in as" if core.account.logged_in else "still connecting as"
        core.answer(f"You are {there} {user}.")
        return
    nobody_logged_in(core)
    typed = await secret(core, password, f"Password of {user}: ")
    account = await _open_here(core, user, typed)
    if account is not None:
        await stay.enter_here(core, account)
        core.answer(f"What is on this machine of {user} is open. Connecting to {core.line.host}.")
    else:
        await _log_in(core, user, typed)
    if core.view.interactive:
        _where_one_was(core)
    waiting = len(core.outbox.pending()) if core.outbox is not None else 0
    if waiting:
        messages = "1 message of an earlier time is" if waiting == 1 else f"{waiting} messages of an earlier time are"
        core.notice(f"{messages} being sent.")


def _where_one_was(core: ChatCore) -> None:
    """The conversation that was active last is it again; without one, its user is told which there are."""
    assert core.account is not None
    title = core.account.records.get("meta", {}).get("active", "")
    rooms = core.conversations.rooms()
    back = isinstance(title, str) and core.conversations.titled(title) is not None
    if rooms or back:
        then = f"{title} is active" if back else "/switch ROOM makes one of them active"
        core.notice(f"Your rooms: {', '.join(rooms) or 'none'}. {then}.")
    if back:
        core.go(title)


async def _open_here(core: ChatCore, user: str, password: str) -> OpenAccount | None:
    """The account without the server, where a person waits for it. A script goes on when the server has said yes."""
    srv = core.line.id or core.directory.known_id(core.line.host, core.line.port)
    if srv is None or core.link is not None or not core.view.interactive:
        return None
    return await localfirst.open_here(core.shop, srv, user, password)


async def _log_in(core: ChatCore, user: str, password: str) -> None:
    protocol = await _not_logged_in(core)
    try:
        account = await accounts.login(core.shop, protocol, user, password)
    except KeysOutOfReach as error:
        core.stranded = error.stranded
        raise
    await stay.enter(core, account)
    core.answer(f"Logged in as {user}.")
    if account.fresh:
        core.notice("Your keys came back from the backup; this is a new device of your account.")


async def do_help(core: ChatCore, topic: str = "") -> None:
    """Help, from the table."""
    core.answer(*help_lines(topic))


async def do_bare(core: ChatCore) -> None:
    """What a view with lists does by itself; here there are none."""
    core.answer("Nothing stands beside the messages here. securechat --full has lists, and /bare hides them.")


async def do_exit(core: ChatCore) -> None:
    """The view sees `exiting` and closes."""
    core.exiting = True


async def do_logout(core: ChatCore) -> None:
    """Ends the session."""
    account = account_of(core)
    user, told = account.user, True
    with contextlib.suppress(CannotKeep):  # a full disk keeps nobody in: what was read counts as unread, then
        await core.saving.save()
    if core.notes is not None:
        await core.notes.settle(online=core.post.can_send())  # before the session ends: afterwards nothing is taken
    try:
        if account.logged_in:
            await core.request(m.Logout())
    except LinkLost:
        told = False
    await stay.leave(core)
    core.answer(f"{user} is logged out.")
    if not told:
        core.notice(
            "The server could not be told: there, this session ends by itself after 30 days at most, or with /passwd."
            " Nothing on this machine can take it up again."
        )
