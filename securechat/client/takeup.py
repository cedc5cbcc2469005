"""An account's conversations, and all that goes with them, taken up from its records where they were left."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from securechat.client.archive import Archive
from securechat.client.attention import Attention
from securechat.client.company import Company
from securechat.client.conversations import Conversation, Conversations
from securechat.client.desk import Desk
from securechat.client.entries import Turn
from securechat.client.healing import Healing
from securechat.client.inbox import Inbox
from securechat.client.notes import Notes
from securechat.client.openaccount import OpenAccount
from securechat.client.outbox import Outbox
from securechat.client.people import People, pins_from
from securechat.client.roombook import RoomBook
from securechat.client.store import Records
from securechat.client.telling import calls_in, searched
from securechat.crypto.trust import Pin, PinStore
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


async def take_up(core: ChatCore, account: OpenAccount) -> None:
    """Makes the core's parts anew, as this account's records have them. Raises InvalidKey, CannotKeep."""
    records = account.records
    core.attention, core.company = Attention(core), Company(core)
    core.archive = Archive(
        account.store,
        run=core.run,
        text_of=searched,
        mentions=partial(calls_in, user=account.user),
        cap=int(core.preferences["cache"]) * 2**20,
    )
    core.people = _people(core, account)
    core.healing = Healing(core)
    core.healing.load(records.get("lack", {}))
    core.desk = Desk(core)
    core.book = RoomBook(account.profile.srv, core, core.lobby, core.run)
    turns, waiting = await _of_this_device(core, account)
    core.outbox = Outbox(core.post, core.reactor, {room: Turn.from_record(turn) for room, turn in turns.items()})
    core.outbox.restore(waiting)
    core.inbox = Inbox(core.desk, core.run, account.keys.by_kid())
    meta = records.get("meta", {})
    core.catchup.epoch, core.catchup.followed = str(meta.get("epoch", "")), int(meta.get("followed", 0))
    core.people.meet_self(account.own, fresh=account.fresh)
    await _conversations(core, account)
    apply = {
        "draft": core.drafts.take, "level": core.attention.take_level, "ignore": core.attention.take_ignored,
    }  # fmt: skip
    core.notes = Notes(core, apply, records.get("note", {}), int(meta.get("notes", 0)))


def _people(core: ChatCore, account: OpenAccount) -> People:
    async def fetch(users: tuple[str, ...]) -> m.KeysOk:
        reply: m.KeysOk = await core.ask(m.Keys(users=users))
        return reply

    def save(user: str, pin: Pin) -> None:
        core.own_task(core.keep([("pin", user, pin.to_fields())], []), "keeping a pin")

    records = account.records
    return People(
        account.profile.srv,
        PinStore(pins_from(records.get("pin", {})), save, records.get("expected", {})),
        fetch=fetch,
        run=core.run,
        say=core.notice,
        now_ms=core.now_ms,
        met=lambda user: core.healing.met(user),
    )


async def _of_this_device(core: ChatCore, account: OpenAccount) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What this device counts and has to send. Of the one before a reset the counters end, and seals are void."""
    records, device = account.records, account.keys.dev
    turns, waiting = records.get("turn", {}), dict(records.get("outbox", {}))
    if records.get("meta", {}).get("device") != device:
        waiting = {number: {**record, "sealed": None} for number, record in waiting.items()}
        puts = [("meta", "device", device), *(("outbox", number, record) for number, record in waiting.items())]
        await core.keep(puts, [("turn", room) for room in turns])
        turns = {}
    return turns, waiting


async def _conversations(core: ChatCore, account: OpenAccount) -> None:
    records = account.records
    core.conversations = Conversations(records.get("name", {}), account.user)
    chains, logs = _by_conversation(records, "chain"), _by_conversation(records, "log")
    for id, record in records.get("conv", {}).items():
        conversation = Conversation(str(record["room"]), record["peer"], id)
        conversation.restore(record, chains.get(id, {}))
        if is_private(conversation.room):
            conversation.reader.pair = core.desk.pair(conversation)  # so that nobody gives it another peer
        else:
            await core.book.load(conversation, logs.get(id, {}))
        (core.conversations.add if conversation.here else core.conversations.remember)(conversation)


def _by_conversation(records: Records, kind: str) -> dict[str, dict[str, Any]]:
    """Records that are filed as a conversation's id and a rest: by id, then by the rest."""
    found: dict[str, dict[str, Any]] = {}
    for name, record in records.get(kind, {}).items():
        id, _, rest = name.partition(" ")
        found.setdefault(id, {})[rest] = record
    return found
