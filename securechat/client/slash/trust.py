"""Whom one talks to: safety numbers, trust, devices, and the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from securechat.client import audit, ownkeys, renewal
from securechat.client.display import stamp
from securechat.client.slash.common import Mistyped, account_of, agreed, keys_of, secret, user_name
from securechat.crypto.identity import AccountKeys, fingerprint
from securechat.crypto.primitives import b64
from securechat.crypto.trust import Source, TrustState, half_fingerprint, safety_bytes, safety_number
from securechat.errors import Exit, InvalidKey
from securechat.link import join_address

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_SERVER: Final = "server"
_LEAST_PIECE: Final = 4  # characters of a device's id that may stand for it


# --- comparing --------------------------------------------------------------------------------------------------------


async def _halves(core: ChatCore, user: str, keys: AccountKeys) -> tuple[bytes, bytes]:
    account = account_of(core)
    srv = account.profile.srv

    def half(name: str, ik: bytes) -> bytes:
        return half_fingerprint(ik, f"{name}@{srv}".encode("ascii"))

    return await core.run(half, core.user, account.own.ik), await core.run(half, user, keys.ik)


def _rows(number: str) -> Sequence[str]:
    groups = [number[at : at + 5] for at in range(0, 60, 5)]
    return ["    " + " ".join(groups[at : at + 4]) for at in range(0, 12, 4)]


async def do_safety(core: ChatCore, name: str, form: str = "") -> None:
    """The safety number of oneself and somebody: the same 60 digits on both sides."""
    user = user_name(name)
    if user == account_of(core).user:
        raise Mistyped("A safety number is between you and somebody else. Name another user.")
    if form.lower() not in ("", "qr"):
        raise Mistyped("Usage: /safety NAME [qr]")
    halves = await _halves(core, user, await keys_of(core, user, anew=True))
    core.answer(f"Your safety number with {user}:", *_rows(safety_number(*halves)))
    if form:
        core.answer(*_qr(safety_bytes(*halves)))
    core.answer(
        f"{user} sees the same with /safety {core.user}. Compare by phone or face to face, never in this chat.",
        f"If they are the same: /verify {user}",
    )


def _qr(data: bytes) -> Sequence[str]:
    """A QR code of blocks; whoever scans both screens, or compares the pictures, sees whether they are the same."""
    try:
        import segno
    except ImportError:
        raise Mistyped("QR codes need one more package: pip install 'securechat[qr]'.") from None
    rows = [list(row) for row in segno.make(f"SECURECHAT0:{data.hex().upper()}", error="l").matrix_iter(border=2)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}  # light on dark, as terminals mostly are
    return [
        "".join(blocks[bool(a), bool(b)] for a, b in zip(*rows[at : at + 2], strict=True))
        for at in range(0, len(rows), 2)
    ]


async def do_verify(core: ChatCore, name: str, word: str = "") -> Exit | None:
    """Walks through comparing, and marks somebody as verified."""
    user = user_name(name)
    if user == account_of(core).user:
        raise Mistyped("You are yourself. Name another user.")
    assert core.people is not None
    keys = await keys_of(core, user, anew=True)
    pin = core.people.pins.get(user)
    if pin is not None and pin.state is TrustState.VERIFIED:
        core.answer(f"You compared {user}'s identity before, and it is still the same.")
        return None
    halves = await _halves(core, user, keys)
    core.answer(
        f"1. Call {user}, or meet. Not in this chat: whoever is in between could answer for both of you.",
        f"2. {user} types /safety {core.user} and reads out what it shows. You should see the same here:",
        *_rows(safety_number(*halves)),
    )
    if pin is not None and pin.ik != keys.ik:
        core.answer(f"(This is a new identity. Before: {fingerprint(pin.ik)})")
    return await _take_word(core, user, keys.ik, word, Source.VERIFIED, "3. Is it the same, digit by digit? [yes/no] ")


async def do_trust(core: ChatCore, name: str, word: str = "") -> Exit | None:
    """Accepts a changed identity, after showing both fingerprints: a `yes` counts for what was shown before."""
    if name.lower() == _SERVER:
        await _trust_server(core, word)
        return None
    user = user_name(name)
    account_of(core)
    assert core.people is not None
    await keys_of(core, user, anew=True)
    pin, keys = core.people.pins.get(user), core.people.known(user)
    if pin is None or keys is None:
        raise InvalidKey(f"the server gives no usable keys of {user}")
    if pin.state is not TrustState.CHANGED:
        compared = "verified" if pin.state is TrustState.VERIFIED else "not compared"
        core.answer(f"{user}'s identity is the one you know ({compared}):", f"  {fingerprint(pin.ik)}")
        if core.outbox is not None:
            core.outbox.release()  # it may have been another for a while
        return None
    if pin.verified:
        raise Mistyped(
            f"You had compared {user}'s identity, and now it is another: trusting it unseen would undo that."
            f" Compare again: /verify {user}"
        )
    core.answer(
        f"The identity of {user} changed. Either {user} started over with new keys, or somebody else uses the name.",
        f"  before: {fingerprint(pin.ik)}",
        f"  now:    {keys.fingerprint}",
        f"Compare with {user} over another channel (their /whoami shows it; /safety {user} is shorter to read out).",
    )
    return await _take_word(core, user, keys.ik, word, Source.OWNER, f"Trust the new identity of {user}? [yes/no] ")


async def _take_word(core: ChatCore, user: str, shown: bytes, word: str, source: Source, question: str) -> Exit | None:
    """Asks for the owner's word about an identity that was shown, and acts on it.

    Args:
        word: as typed. It counts if that identity was shown before: nobody can have compared what was not shown.
    """
    people, command = core.people, "verify" if source is Source.VERIFIED else "trust"
    assert people is not None
    known, core.shown_identity = core.shown_identity == (user, shown), (user, shown)
    if not await agreed(core, word if known else "", question):
        core.answer(f"Nothing is changed. If they are the same: /{command} {user} yes")
        return None if core.view.interactive and not word else Exit.UNTRUSTED
    if people is not core.people or people.accept(user, shown, source) is None:
        raise InvalidKey(f"{user}'s identity changed again meanwhile: nothing is trusted. Type /{command} {user}")
    core.healing.trusted(user)
    await core.keep([("accepted", user, b64(shown))], [])  # for the backup
    waits = core.outbox is not None and core.outbox.pending()
    core.answer(
        f"{user} is verified." if source is Source.VERIFIED else f"The new identity of {user} is trusted.",
        *(["What waited is sent."] if waits else []),
    )
    if core.outbox is not None:
        core.outbox.release()
    return None


async def _trust_server(core: ChatCore, word: str) -> None:
    changed = core.online.changed_server
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
    if not await agreed(core, word, "Trust the new server? [yes/no] "):
        core.answer("Nothing is changed. To accept it: /trust server yes")
        return
    core.directory.remember(changed.line.known(changed.now))
    core.online.changed_server = None
    core.answer("The server is trusted. Now /login or /register.")


# --- keys and devices -------------------------------------------------------------------------------------------------


async def do_whois(core: ChatCore, name: str) -> None:
    """Somebody's identity, devices, since when they are known, and how far they are trusted."""
    user = user_name(name)
    keys = await keys_of(core, user, anew=True)
    assert core.people is not None
    core.answer(f"{user}:", f"  identity: {keys.fingerprint}")
    pin = core.people.pins.get(user)
    if pin is not None and user != core.user:
        said = {
            TrustState.TOFU: "not compared (/verify does)",
            TrustState.VERIFIED: "verified: you compared it",
            TrustState.CHANGED: f"CHANGED. Before it was {fingerprint(pin.ik)}",
        }
        how = pin.source if pin.source.endswith("by you") else f"by the {pin.source}"
        core.answer(f"  state: {said[pin.state]}", f"  first seen: {stamp(pin.first_seen)}, {how}")
    core.answer(f"  device list: number {keys.version}", *_devices(keys, ""))
    rooms = [c.label for c in core.conversations if c.log is not None and user in c.log.members]
    if rooms and user != core.user:
        core.answer(f"  in rooms with you: {', '.join(sorted(rooms))}")


def _devices(keys: AccountKeys, own: str) -> Sequence[str]:
    lines = []
    for dev, device in sorted(keys.known.items(), key=lambda item: item[1].created):
        state = "" if dev in keys.devices else ", revoked" if device.ik == keys.ik else ", of an earlier identity"
        mark = ", this one" if dev == own else ""
        lines.append(f"  device {dev[:8]}: {device.name}, since {stamp(device.created)}{state}{mark}")
    return lines


async def do_devices(core: ChatCore) -> None:
    """One's own devices."""
    account = account_of(core)
    await ownkeys.renew(core)
    core.answer(
        f"Your devices, by list number {account.own.version}, signed by your identity:",
        *_devices(account.own, account.keys.dev),
        "/revoke DEVICE shuts one out: it reads nothing that is sent from then on.",
    )


async def do_revoke(core: ChatCore, piece: str, password: str | None = None) -> None:
    """Shuts a device out, and gives the account a new key that it does not have."""
    account = account_of(core)
    await ownkeys.renew(core)
    found = [dev for dev in account.own.devices if dev.startswith(piece.lower())]
    if len(piece) < _LEAST_PIECE or len(found) != 1:
        raise Mistyped(f"{piece} is not one of your devices. /devices lists them; the first characters are enough.")
    (dev,) = found
    if dev == account.keys.dev:
        raise Mistyped("That is this very device. Revoke it from another one; here, /logout ends its session.")
    typed = await secret(core, password, "Your password: ")
    await renewal.revoke_device(core.shop, await core.online.connected(), account, typed, dev)
    ownkeys.took(core)
    core.answer(
        f"Device {dev[:8]} is revoked, and its sessions are ended. Your account has a new key from now on.",
        "Your other devices get it with /backup fetch, or at their next /login.",
    )


async def show_keys(core: ChatCore) -> None:
    """One's own keys; /keys without more."""
    account = account_of(core)
    core.answer(
        f"{account.user}:",
        f"  identity: {account.own.fingerprint}",
        f"  present RSA key: {account.own.kid[:8]} (of {len(account.own.kids)} so far)",
        f"  keys on this machine: {account.profile.path}",
        *_devices(account.own, account.keys.dev),
    )


# --- audit ------------------------------------------------------------------------------------------------------------


async def do_audit(core: ChatCore) -> Exit | None:
    """Checks everything this client has, and writes a report."""
    account_of(core)
    report = await audit.run(core, core.progress)
    core.answer(*report.summary, f"The whole report: {report.path}")
    return Exit.UNTRUSTED if report.faults else None
