"""An account's stay with the core: entered, put down, left with a few last words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, TimeoutError

from securechat.client import ownkeys
from securechat.client.conversations import Conversations
from securechat.client.healing import Healing
from securechat.client.notes import Notes
from securechat.client.openaccount import OpenAccount, Stranded
from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.client.takeup import take_up
from securechat.errors import Exit, InvalidKey, Refused

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_LEAVE_SECONDS: Final = 1.0  # that whoever leaves waits for the server's answers


async def enter(core: ChatCore, account: OpenAccount) -> None:
    """An account is open and logged in: takes up its conversations where they were left.

    Raises:
        LinkLost: the connection is gone; where the account stays open, it comes back by itself.
        Refused, InvalidKey, CannotKeep: the account is closed again.
    """
    _stop_talk(core)
    if core.link is None or core.link.protocol is None:
        account.close()
        raise LinkLost("the connection was lost during the login. Try again")
    core.account, core.stranded = account, None
    try:
        await take_up(core, account)
        await ownkeys.keep(core)
        await core.catchup.run()
        core.healing.keys_came()
        core.healing.updated()
        core.healing.given_again()
    except (Refused, InvalidKey, CannotKeep):
        await leave(core)
        raise
    share(core)


async def enter_here(core: ChatCore, account: OpenAccount) -> None:
    """An account was opened with what is on this machine: it is there at once, and logged in behind that.

    Raises:
        InvalidKey, CannotKeep: the account is closed again.
    """
    core.account = account
    core.online.first_login_begins()
    try:
        await take_up(core, account)
    except (InvalidKey, CannotKeep):
        await leave(core)
        raise
    if core.account is account:  # else it was left meanwhile
        core.online.begin(account.profile.srv)
        core.status_changed()


def share(core: ChatCore) -> None:
    """What one's other devices noted is fetched, what was noted here told to them, and who is there asked."""
    if core.notes is not None:
        core.own_task(_fetch_notes(core.notes), "sharing notes")
    core.own_task(core.company.look_around(), "looking who is there")


async def _fetch_notes(notes: Notes) -> None:
    with contextlib.suppress(LinkLost, Refused):  # with the next connection
        await notes.fetch()


async def put_down(core: ChatCore) -> None:
    """The account is about to be opened anew, with other keys: notes what was shown, and shows nothing more."""
    if core.notes is not None:
        await _last_notes(core.notes, online=False)
    _stop_talk(core)
    with contextlib.suppress(CannotKeep):
        await core.saving.keep()
    core.account = None


def _stop_talk(core: ChatCore) -> None:
    """Nothing is shown or sent any more; what waits is on disk."""
    if core.inbox is not None:
        core.inbox.stop()
    if core.outbox is not None:
        core.outbox.stop()
    if core.notes is not None:
        core.notes.stop()


async def leave(core: ChatCore, stranded: Stranded | None = None) -> None:
    """Closes the account and the connection; what waits in the outbox stays on disk.

    Args:
        stranded: the login that stands, without the keys: then the connection stays, too.
    """
    account, link = core.account, core.link
    await _last_words(core)
    if core.account is not account or core.link is not link:
        return  # somebody else left it meanwhile
    _stop_talk(core)
    if core.outbox is not None:
        for entry in core.outbox.pending():
            entry.settle(Exit.NETWORK)
    core.account = core.people = core.outbox = core.inbox = core.shown_identity = None
    core.stranded, core.conversations = stranded, Conversations()
    if stranded is None:
        core.link, core.online.retry_at = None, 0.0
    core.notes = core.archive = None
    core.found = []
    core.listed_links = ()
    core.healing = Healing(core)
    core.saving.drop()
    core.catchup.give_up()
    if account is not None:
        account.close()
    core.status_changed()
    if link is not None and stranded is None:
        await link.stop()


async def _last_words(core: ChatCore) -> None:
    """Shows and notes what came. Neither a server that stands still nor a full disk keeps anybody from leaving."""
    online = core.link is not None and core.link.protocol is not None
    if core.inbox is not None and online:
        await _briefly(core, core.inbox.shown())
    if core.notes is not None:
        notes = _last_notes(core.notes, online=online and core.synced)
        await _briefly(core, Deferred.fromCoroutine(notes))
    with contextlib.suppress(CannotKeep):
        read = await core.saving.keep()
        if online:
            await _briefly(core, Deferred.fromCoroutine(core.saving.tell(read)))


async def _last_notes(notes: Notes, *, online: bool) -> None:
    with contextlib.suppress(CannotKeep):
        await notes.settle(online=online)


async def _briefly(core: ChatCore, work: Deferred[None]) -> None:
    with contextlib.suppress(TimeoutError):
        await work.addTimeout(_LEAVE_SECONDS, core.reactor)
