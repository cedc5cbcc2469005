"""One's own keys, as they change while the account is open: here, on another device, or in the backup."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import to_builtins

from securechat.client.store import CannotKeep, Put
from securechat.client.view import Failure
from securechat.crypto.identity import AccountKeys
from securechat.errors import Exit, InvalidKey
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


def news(core: ChatCore, bundle: m.KeyBundle) -> None:
    """Another device of this account published new keys."""
    assert core.account is not None and core.people is not None
    try:
        own = core.account.checked(bundle)
        core.people.meet_self(own, fresh=False)  # not before it stands this: nothing is sealed for an older list
        core.account.own = own
        core.own_task(keep(core), "keeping one's own keys")
    except InvalidKey as error:
        core.show(Failure(f"The server sent keys as yours that are refused: {error}.", Exit.UNTRUSTED))


async def renew(core: ChatCore) -> None:
    """Fetches this account's own keys: another device changed them. Raises Refused, LinkLost."""
    reply: m.KeysOk = await core.ask(m.Keys(users=(core.user,)))
    if core.user in reply.keys:
        news(core, reply.keys[core.user])


def took(core: ChatCore, *, made_here: bool = True) -> None:
    """The account has another RSA key: a newer one made here, or those of its backup."""
    if made_here and core.people is not None and core.account is not None:
        core.people.meet_self(core.account.own, fresh=True)
        core.own_task(keep(core), "keeping one's own keys")
    if core.inbox is not None and core.account is not None:
        core.inbox.use(core.account.keys.by_kid())
        core.healing.keys_came()


async def keep(core: ChatCore) -> None:
    """Keeps the account's own keys as the server has them, for a start without it."""
    account = core.account
    if account is not None and account.kept_own != account.own.digest:
        account.kept_own = account.own.digest
        with contextlib.suppress(CannotKeep):  # the next start asks the server first, then
            await account.store.write([_record_of(account.own)])


def _record_of(own: AccountKeys) -> Put:
    """The record by which an account's own keys, as the server has them, are there without the server, too."""
    return "meta", "own", None if own.bundle is None else to_builtins(m.KeyBundle.of(own.bundle))
