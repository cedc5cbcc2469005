"""What was shown is noted: cursors, chains and logs in one write with the messages themselves, and at the server."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from securechat.client.conversations import Conversation
from securechat.client.kept import Kept
from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.errors import Refused
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_SAVE_SECONDS: Final = 0.5  # what was shown is noted this long afterwards, many at once


class Saving:
    """Of what was shown, that which is not noted yet."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._unsaved: dict[Conversation, set[str]] = {}  # with the devices whose chains moved
        self._saving: Any = None

    def shown(self, conversation: Conversation, device: str = "") -> None:
        """A cursor moved, and that device's chain; it is noted a little later, with others."""
        self._unsaved.setdefault(conversation, set()).update(filter(None, [device]))
        if self._saving is None:
            self._saving = self._core.reactor.callLater(_SAVE_SECONDS, self._save_now)

    def archived(self, conversation: Conversation, kept: Kept) -> None:
        """A message is to be kept on this machine; it is written with the cursor, a little later."""
        if self._core.archive is not None:
            self._core.archive.put(conversation.id, kept)
            self.shown(conversation)

    def _save_now(self) -> None:
        self._saving = None
        self._core.own_task(self.save(), "noting what was shown")

    def drop(self) -> None:
        """The account is left: nothing more is noted."""
        self._unsaved = {}
        if self._saving is not None and self._saving.active():
            self._saving.cancel()
        self._saving = None

    async def save(self) -> None:
        """Notes what was shown, here and at the server. Raises CannotKeep."""
        await self.tell(await self.keep())

    async def keep(self) -> dict[str, int]:
        """Notes what was shown on this machine: where more was read than before, by room. Raises CannotKeep."""
        if self._core.archive is None:
            return await self._keep_cursors([], [])
        async with self._core.archive.unsaved() as batch:
            return await self._keep_cursors(batch.puts, batch.deletes)

    async def _keep_cursors(self, pages: Sequence[Any], gone: Sequence[tuple[str, str]]) -> dict[str, int]:
        """What was shown, in one transaction with the messages themselves: no cursor is beyond what is kept."""
        unsaved, self._unsaved = self._unsaved, {}
        counts = {conversation: len(conversation.events) for conversation in unsaved}
        puts = [put for conversation, devices in unsaved.items() for put in self._records(conversation, devices)]
        try:
            if puts or pages or gone:
                await self._core.keep([*puts, *pages], list(gone))
        except CannotKeep:
            for conversation, devices in unsaved.items():
                self._unsaved.setdefault(conversation, set()).update(devices)
                self._core.healing.unkept(conversation)
            raise
        for conversation, count in counts.items():
            self._core.book.saved(conversation, count)
        moved = [conversation for conversation in unsaved if conversation.read_to > conversation.read]
        for conversation in moved:
            conversation.read = conversation.read_to
        return {conversation.room: conversation.read_to for conversation in moved}

    def _records(self, conversation: Conversation, devices: set[str]) -> list[tuple[str, str, Any]]:
        """Where a conversation stands, what its log has grown by, what it lacks, and the chains of these devices."""
        chains = conversation.reader.chains
        return [
            ("conv", conversation.id, conversation.record()),
            *self._core.book.unsaved(conversation),
            *self._core.healing.unsaved(conversation),
            *(("chain", f"{conversation.id} {dev}", chains[dev].to_fields()) for dev in devices & chains.keys()),
        ]

    async def tell(self, read: Mapping[str, int]) -> None:
        """Tells the server how far each of these rooms was read."""
        for room, seq in read.items():
            with contextlib.suppress(LinkLost, Refused):  # the marker moves with the next message
                await self._core.request(m.Read(room=room, seq=seq))
