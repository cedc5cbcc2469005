"""One's own account: /whoami, /passwd, /backup, /keys, /reset-identity, /whatserverknows."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from securechat.client import backups, ownkeys, renewal, stay, transfer
from securechat.client.openaccount import OpenAccount, Stranded
from securechat.client.protocol import LinkLost
from securechat.client.slash.common import Mistyped, account_of, agreed, secret
from securechat.client.slash.start import LEAST_PASSWORD, nobody_logged_in
from securechat.client.slash.trust import show_keys
from securechat.crypto.identity import fingerprint
from securechat.link import join_address
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


async def do_whoami(core: ChatCore) -> None:
    """Name, device, fingerprint, server."""
    account = account_of(core)
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
    account = account_of(core)
    asked = new is None
    before = await secret(core, old, "Present password: ")
    after = await secret(core, new, "New password: ")
    if len(after) < LEAST_PASSWORD:
        raise Mistyped(f"A password has at least {LEAST_PASSWORD} characters. Nothing was changed.")
    if asked and await core.view.ask_secret("The new one again: ") != after:
        raise Mistyped("The two were not the same. Nothing was changed.")
    backed = await renewal.change_password(core.shop, await core.online.connected(), account, before, after)
    core.answer("The password is changed. Your other connections were logged out.")
    if not backed:
        core.notice(
            "The backup at the server does not open, so it was not changed: it brings no keys back. Keep a copy of"
            " them: /keys export FILE."
        )


async def do_backup(core: ChatCore, word: str, password: str | None = None) -> None:
    """Moves the backup under a recovery code, or brings newer keys from it."""
    account = account_of(core)
    if word.lower() not in ("code", "fetch"):
        raise Mistyped("Usage: /backup code, or /backup fetch")
    typed = await secret(core, password, "Your password: ")
    if word.lower() == "fetch":
        await _fetch_keys(core, account, typed)
        return

    def show(code: str) -> None:
        core.answer(
            "Your recovery code, shown this once:",
            f"    {code}",
            "Write it down. A login from an empty directory asks for it; whoever finds it needs your password too.",
        )

    try:
        await renewal.backup_under_code(core.shop, await core.online.connected(), account, typed, show)
    except LinkLost as error:
        raise LinkLost(
            f"{error}. Whether this code counts now is not known: keep it, and the one before if you had one. Later"
            " make another: /backup code"
        ) from None
    core.answer("The backup lies under this code now.")


async def _fetch_keys(core: ChatCore, account: OpenAccount, password: str) -> None:
    """Takes the keys of the backup; what was sealed for them and not shown is shown then."""
    new = await backups.fetch_keys(core.shop, await core.online.connected(), account, password)
    if core.account is not account:
        raise Mistyped("The account was left meanwhile. Log in again: /login NAME.")
    ownkeys.took(core, made_here=False)
    if new:
        core.answer(f"{new} newer key{' is' if new == 1 else 's are'} on this machine now. What they open is shown.")
    else:
        core.answer("The backup has no key that is not on this machine. Ask for such messages to be sent again.")


async def do_keys(core: ChatCore, verb: str = "", file: str = "", passphrase: str | None = None) -> None:
    """Shows one's own keys, or carries a keystore in a sealed file."""
    if not verb:
        await show_keys(core)
        return
    if not file:
        raise Mistyped("Usage: /keys, or /keys export|import FILE")
    path = Path(file)
    with contextlib.suppress(RuntimeError):  # no such user: then it is a name like any other
        path = path.expanduser()
    if verb.lower() == "export":
        account = account_of(core)
        typed = await secret(core, passphrase, "Passphrase for the file: ")
        await transfer.export_keys(core.shop, account, path, typed)
        core.answer(f"{account.user}'s keys are in {path}, sealed with that passphrase. Guard both.")
    elif verb.lower() == "import":
        nobody_logged_in(core)
        typed = await secret(core, passphrase, "Passphrase of the file: ")
        profile = await transfer.import_keys(core.shop, path, typed)
        core.answer(f"The keys of {profile.user} are on this machine now. Type /login {profile.user}.")
    else:
        raise Mistyped("Usage: /keys, or /keys export|import FILE")


async def do_reset_identity(core: ChatCore, password: str | None = None, word: str = "") -> None:
    """Starts over with new keys, after saying what that means."""
    stranded = core.stranded
    if core.account is not None:
        account = core.account
        stranded = Stranded(account.user, account.salt, account.backup_version)
    if stranded is None:
        raise Mistyped("Log in first: /login NAME.")
    core.answer(
        f"This gives {stranded.user} new keys. Everybody you talk to sees that your identity changed, and sends you",
        "nothing until they type /trust. All messages so far stay closed to the new keys, and you are in no room any",
        "more: /join again, or be invited. There is no way back.",
    )
    typed = await secret(core, password, "Your password: ")
    if not await agreed(core, word, "Start over? [yes/no] "):
        core.answer("Nothing is changed. To do it: /reset-identity PASSWORD yes")
        return
    protocol = await core.online.connected()
    await core.saving.save()
    put_down = partial(stay.put_down, core)
    account = await renewal.reset_identity(core.shop, protocol, stranded, typed, core.account, put_down)
    await stay.enter(core, account)
    core.answer(f"{account.user} has a new identity.", f"  {fingerprint(account.keys.ik)}")


async def do_whatserverknows(core: ChatCore) -> None:
    """What the server stores about this account, by its own tables, and what it sees in passing."""
    account_of(core)
    reply: m.StoredOk = await core.request(m.Stored())
    core.answer(f"What the server stores about {core.user}, by its own tables (columns and rows; it may lie):")
    for table in reply.tables:
        rows = "1 row" if table.rows == 1 else f"{table.rows} rows"
        about = f": {table.about}" if table.about else ""
        core.answer(f"  {table.table}, {rows}{about}", f"      {', '.join(table.columns)}")
    core.answer("What it can see in passing, whether or not it keeps it:", *(f"  {line}" for line in reply.passing))
    core.answer("It has no text, no password and no private key of yours: those never leave this machine unsealed.")
