"""Where one stands, and what is wrong: /status, /doctor."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from securechat import __version__
from securechat.client import checkup, stay
from securechat.client.checkup import AccountFacts, Facts, FileFacts, Hidden, State
from securechat.client.display import stamp
from securechat.client.protocol import LinkLost
from securechat.crypto.backup import needs_code
from securechat.crypto.findings import Finding
from securechat.errors import Exit, Refused, SecureChatError
from securechat.link import join_address
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore
    from securechat.client.healing import Lack

_FILES: Final = 10_000  # looked at of a data directory


# --- /doctor ----------------------------------------------------------------------------------------------------------


async def do_doctor(core: ChatCore) -> Exit | None:
    """Looks at everything, and says what to type next."""
    failure = await _reach(core)
    facts = await _facts(core, failure)
    if core.account is None and core.stranded is None and core.link is not None:
        await stay.leave(core)  # nobody is logged in, so nobody needs the connection
    results = checkup.check(facts)
    core.answer(*checkup.report(results))
    return Exit.FIXABLE if any(result.state is State.BAD for result in results) else None


async def _reach(core: ChatCore) -> str:
    """Why there is no connection; "" where there is one. Without an account one is made, to see whether it can be."""
    if core.account is None and core.link is None:
        try:
            await core.online.connected()
        except SecureChatError as error:
            return str(error)
    return ""


async def _facts(core: ChatCore, failure: str) -> Facts:
    line = core.link.line if core.link is not None else core.line
    protocol = None if core.link is None else core.link.protocol
    hello = None if protocol is None else protocol.hello
    pinned = line.id or core.directory.known_id(line.host, line.port)
    retry = core.online.retry_at - core.clock() if core.online.retry_at and protocol is None else None
    facts = Facts(
        core.now_ms(),
        join_address(line.host, line.port),
        __version__,
        limits.PROTOCOL_VERSION,
        online=protocol is not None,
        signs=core.signs,
        failure=failure,
        retry=retry,
        pinned=pinned,
        changed=core.online.changed_server is not None,
        users=() if pinned is None else tuple(core.directory.users(pinned)),
        server=None if hello is None else (hello.server, hello.protocol, hello.features),
        files=await core.run(_files, core.directory.path),
        terminal=_terminal(core.reactor, os.environ),
        utf8="utf" in (getattr(sys.__stdout__, "encoding", "") or "").lower(),
    )
    return facts if core.account is None else await _of_account(core, facts)


async def _of_account(core: ChatCore, facts: Facts) -> Facts:
    """The same with what only an account has."""
    assert core.account is not None and core.people is not None
    account, people = core.account, core.people
    backup = None
    with contextlib.suppress(Refused, LinkLost):
        backup = (await core.request(m.BackupRequest())).backup
    pins = {user: pin for user, pin in people.pins.all().items() if user != account.user}
    keys = account.keys.by_kid()
    return replace(
        facts,
        account=AccountFacts(
            account.user,
            account.keys.dev,
            len(account.own.devices),
            account.keys.dev in account.own.devices,
            account.own.version,
            len(keys),
            account.own.kid in keys,
            account.backup_version,
            None if backup is None else backup.version,
            backup is not None and needs_code(backup.blob),
        ),
        pins=(len(pins), sum(pin.verified for pin in pins.values()), tuple(sorted(people.changed(pins)))),
        stopped=tuple((c.title, tuple(c.stopped), c.broken) for c in core.conversations if c.stopped or c.broken),
        waiting=0 if core.outbox is None else len(core.outbox.moving()),
        held=tuple(_held(core)),
        hidden=tuple(hidden(core.conversations, core.healing.of)),
        not_given=tuple(_not_given(core)),
    )


def hidden(conversations: Iterable[Conversation], lacks: Callable[[Conversation], Iterable[Lack]]) -> Sequence[Hidden]:
    """What is not shown, of what is in memory and what is remembered of before, by reason and author."""
    counts: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], str] = {}
    for conversation in conversations:
        kept = [entry.kept for entry in conversation.timeline]
        found = [(one.hidden, one.sender) for one in kept if one.hidden in Finding.__members__]
        found += [
            (lack.finding, lack.sender)
            for lack in lacks(conversation)
            if lack.id and not conversation.timeline.has(lack.seq)
        ]
        counts.update(found)
        last.update(dict.fromkeys(found, conversation.title))
    return [Hidden(finding, sender, count, last[finding, sender]) for (finding, sender), count in counts.items()]


def _not_given(core: ChatCore) -> Sequence[tuple[str, int]]:
    found = []
    for conversation in core.conversations:
        count = sum(lack.finding == Finding.MISSING.name for lack in core.healing.of(conversation))
        if count:
            found.append((conversation.title, count))
    return found


def _held(core: ChatCore) -> Sequence[tuple[str, str]]:
    """Where something waits for a word, once each, and what gives it."""
    if core.outbox is None or core.people is None:
        return []
    moving = core.outbox.moving()
    held = dict.fromkeys(entry.where for entry in core.outbox.pending() if entry not in moving)
    found = []
    for where in held:
        conversation = core.conversations.titled(where)
        members = [where[1:]] if where.startswith("@") else _members(conversation)
        changed = core.people.changed(members)
        stopped = conversation is not None and conversation.stopped
        found.append((where, f"/verify {changed[0]}" if changed and not stopped else f"/continue {where}"))
    return found


def _members(conversation: Conversation | None) -> Sequence[str]:
    return () if conversation is None or conversation.log is None else sorted(conversation.log.members)


def _files(path: Path) -> FileFacts:
    """The data directory and all in it; blocking."""
    size, open_to_others = 0, []
    for number, each in enumerate([path, *path.rglob("*")]):
        if number >= _FILES:
            break
        with contextlib.suppress(OSError):  # gone meanwhile
            status = each.stat(follow_symlinks=False)
            size += 0 if each.is_dir() else status.st_size
            if status.st_mode & 0o077 and not each.is_symlink():
                open_to_others.append(str(each))
    free = shutil.disk_usage(path).free
    return FileFacts(str(path), size, free, os.access(path, os.W_OK | os.X_OK), tuple(open_to_others))


def _terminal(reactor: object, environ: Mapping[str, str]) -> str:
    """What shows all this, in words."""
    try:
        toolkit = f"prompt_toolkit {metadata.version('prompt_toolkit')}"
    except metadata.PackageNotFoundError:
        toolkit = "no prompt_toolkit (pip install 'securechat[tui]' brings the prompt)"
    plain = "256 colours" if "256color" in environ.get("TERM", "") else "plain colours"
    colours = "no colours (NO_COLOR)" if environ.get("NO_COLOR") else environ.get("COLORTERM") or plain
    return f"TERM={environ.get('TERM', '')}, {colours}, {type(reactor).__name__}, {toolkit}"


# --- /status ----------------------------------------------------------------------------------------------------------


async def do_status(core: ChatCore) -> None:
    """Who and where one is, and what waits."""
    line = core.link.line if core.link is not None else core.line
    where = join_address(line.host, line.port)
    if core.account is None:
        core.answer(f"Nobody is logged in. The server is {where}. Type /login NAME, or /register NAME.")
        return
    account = core.account
    unread = [(c.unread, c.mentions) for c in core.conversations if c.unread]
    total, mentions = sum(count for count, _ in unread), sum(called for _, called in unread)
    waiting = 0 if core.outbox is None else len(core.outbox.pending())
    rooms = f" in {len(unread)} conversation{'' if len(unread) == 1 else 's'}"
    rooms += f", {mentions} of them for you" if mentions else ""
    core.answer(
        f"You are {account.user} on {where}, on device {account.keys.dev[:8]} of {len(account.own.devices)}.",
        f"Link: {_link(core)}.",
        _active(core),
        f"Unread: {total}{rooms if total else ''}. Waiting to be sent: {waiting}.",
        f"Others see you type: {core.preferences['typing']}. They see you online: {core.preferences['presence']}.",
    )


def _link(core: ChatCore) -> str:
    if core.link is not None and core.link.protocol is not None:
        since = f" since {stamp(int(core.signs.since * 1000))}" if core.signs.since else ""
        return f"online{since}" + ("" if core.synced else ", catching up")
    wait = max(0, round(core.online.retry_at - core.clock()))
    again = f", the next attempt is in {wait} s" if core.online.retry_at else ", an attempt is being made"
    return f"offline ({core.signs.failure or 'no connection'}){again}"


def _active(core: ChatCore) -> str:
    """The active conversation in a sentence."""
    title = core.conversations.active
    conversation = core.conversations.titled(title) if title else None
    if conversation is None or core.people is None:
        return "No room is active: /join ROOM or /switch ROOM. Everything you write will be end-to-end encrypted."
    if conversation.peer is not None:
        peer = "verified" if core.people.verified(conversation.peer) else f"not compared (/verify {conversation.peer})"
        kind = f"private talk with {conversation.peer}, {peer}"
    else:
        others = [user for user in _members(conversation) if user != core.user]
        verified = sum(core.people.verified(user) for user in others)
        sort = "a private room" if conversation.private else "an open room: whoever has an account here can enter"
        members = f"members: you and {len(others)}, {verified} of them verified" if others else "you are alone there"
        kind = f"{sort}; {members}"
    stopped = f" Sending is stopped: {'; '.join(conversation.stopped)}." if conversation.stopped else ""
    return f"Active: {title}, {kind}. Everything here is end-to-end encrypted.{stopped}"
