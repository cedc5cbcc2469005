"""The outbox: what was typed leaves in order, once, and stays until the server has it on disk.

Sealed bytes and counter are on this machine's disk before the first byte leaves, so a resend after a crash sends those
very bytes under the same mid. One message of a conversation is under way at a time; conversations go side by side.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from securechat.client.entries import Entry, Sealed, Turn
from securechat.client.held import Elsewhere, Held
from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.errors import (
    BAD_AUDIENCE,
    BAD_SESSION,
    CTR_BEHIND,
    DEVICE_FIRST,
    LOGIN_FIRST,
    OUT_OF_TURN,
    PATIENCE,
    STALE_HEAD,
    STALE_KEYS,
    Exit,
    InvalidKey,
    Refused,
)
from securechat.wire import messages as m

_RESEAL: Final = frozenset({BAD_AUDIENCE, STALE_HEAD, STALE_KEYS})  # nothing was stored, and other bytes may do
_LATER: Final = frozenset({BAD_SESSION, DEVICE_FIRST, LOGIN_FIRST})  # about the connection, not the message
_RETRY_SECONDS: Final = 5.0  # where the server names no time
_RESEALS: Final = 20  # of one message, before a pause


class LostMessages(Held):
    """The server does not have what it acknowledged, though it says that it lost nothing."""

    def __init__(self, where: str, expected: int) -> None:
        super().__init__(
            f"The server says that your next message to {where} is number {expected}. That does not fit what it"
            " acknowledged before: it lost messages, or it lies. What you wrote waits. Ask its operator: once a"
            " restored backup is announced as one, it goes on by itself. /audit shows what else differs."
        )


class Host(Protocol):
    """What the outbox needs of the core."""

    def can_send(self) -> bool:
        """Whether there is a connection that has caught up."""

    async def seal(self, entry: Entry, turn: Callable[[str], Turn]) -> Sealed:
        """Seals for the present readers, as the next message of this device there.

        Args:
            turn: this device's last message in a conversation, by its id.

        Raises:
            Held, Elsewhere, InvalidKey, Refused, LinkLost.
        """

    async def transmit(self, entry: Entry) -> m.SendOk:
        """Sends. Raises Refused, LinkLost."""

    def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> Coroutine[Any, Any, None]:
        """Writes records; on disk when done. Raises CannotKeep."""

    def sent(self, entry: Entry, reply: m.SendOk) -> None:
        """A message is stored at the server."""

    async def renew(self, entry: Entry, refusal: Refused) -> bool:
        """Learns what a refusal says that the client lacks; whether other bytes are called for.

        Raises:
            LinkLost, InvalidKey.
        """

    def proven(self, sealed: Sealed, refusal: Refused) -> Turn | None:
        """This device's newest message, from the server's proof; None where it proves nothing."""

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """A message was refused for good, or waits for its author's word."""

    def delayed(self, entry: Entry, error: Refused) -> None:
        """The server asks for patience, for the first time with this message; it is tried again by itself."""


class Outbox:
    """What was typed and is not stored at the server yet.

    Args:
        turns: by conversation id, this device's last stored message.
    """

    log = Logger()

    def __init__(self, host: Host, clock: IReactorTime, turns: dict[str, Turn]) -> None:
        self._host = host
        self._clock = clock
        self._turns = turns
        self._queues: dict[str, list[Entry]] = {}
        self._keeping: list[Entry] = []  # typed, and not on disk yet: whoever leaves waits for these too
        self._running: set[str] = set()
        self._held: set[str] = set()
        self._lost: set[str] = set()  # of these, for messages that the server lost
        self._next = 1
        self._idle: list[Deferred[None]] = []
        self._stopped = False

    def stop(self) -> None:
        """Sends nothing more, whatever comes back meanwhile: what waits is on disk."""
        self._stopped = True

    def restore(self, records: dict[str, Any]) -> None:
        """Takes in what an earlier run left."""
        for name in sorted(records, key=int):
            entry = Entry.from_record(int(name), records[name])
            self._queues.setdefault(entry.where, []).append(entry)
            self._next = max(self._next, entry.number + 1)

    def pending(self) -> list[Entry]:
        """Everything not stored yet, in the order it was typed."""
        queued = [entry for queue in self._queues.values() for entry in queue]
        return sorted([*queued, *self._keeping], key=lambda entry: entry.number)

    def moving(self) -> list[Entry]:
        """The same without what waits for its author's word."""
        return [entry for entry in self.pending() if entry.where not in self._held or entry in self._keeping]

    def idle(self) -> Deferred[None]:
        """Fires when nothing is left that could move."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._tell_idle()
        return done

    async def put(self, where: str, text: str, seen: tuple[str, ...] | None = None, room: str = "") -> Entry:
        """Keeps a message on disk and starts it on its way. Raises CannotKeep: it is neither kept nor sent."""
        entry = Entry(self._next, where, text, secrets.token_hex(16), seen, room)
        self._next += 1
        self._keeping.append(entry)
        try:
            await self._host.keep([("outbox", str(entry.number), entry.record())], [])
        except CannotKeep:
            self._keeping.remove(entry)
            self._tell_idle()
            raise
        self._keeping.remove(entry)
        self._queues.setdefault(where, []).append(entry)
        self.kick(where)
        return entry

    def kick(self, where: str | None = None) -> None:
        """Something changed for the better (all conversations, or one): tries again what waits."""
        for name in [where] if where is not None else list(self._queues):
            if where is not None or name not in self._held:
                self._held.discard(name)
                self._lost.discard(name)
                self._start(name)

    def release(self) -> None:
        """Lets also those move that waited for their author's word."""
        self._held.clear()
        self._lost.clear()
        self.kick()

    def new_epoch(self) -> None:
        """The server says that it lost something: what waits for that alone goes with the next `kick`."""
        self._held -= self._lost
        self._lost.clear()

    def go_on(self, where: str, seen: tuple[str, ...] | None) -> None:
        """Their author was told who may read it now: what waits there is sent to these.

        Args:
            seen: who is there, as far as they were told.
        """
        for entry in self._queues.get(where, []):
            if entry.seen is not None:
                entry.seen = seen
        self.kick(where)

    async def reseal(self, where: str) -> None:
        """The server's history there went back: what waits must name another place in it. Raises CannotKeep.

        Its number counts as used: others may have seen it.
        """
        for entry in self._queues.get(where, []):
            if (sealed := entry.sealed) is not None:
                used = Turn(sealed.ctr, sealed.id)
                turn = ("turn", sealed.conversation, [used.ctr, used.id])
                await self._host.keep([turn, ("outbox", str(entry.number), replace(entry, sealed=None).record())], [])
                self._turns[sealed.conversation], entry.sealed = used, None

    def seen(self, mid: str) -> Entry | None:
        """A message of this account came back from the server: it need not be sent (again)."""
        for where, queue in self._queues.items():
            for entry in queue:
                if entry.mid == mid:
                    self._finish(where, entry, stored=True)
                    self._tell_idle()
                    return entry
        return None

    # --- one conversation's worker ----------------------------------------------------------------------------------

    def _start(self, where: str) -> None:
        if where in self._running or not self._queues.get(where) or not self._may_send(where):
            return
        self._running.add(where)
        work = Deferred.fromCoroutine(self._work(where))
        work.addErrback(lambda failure: self.log.failure("sending failed", failure=failure))
        work.addBoth(lambda _: self._done(where))

    def _done(self, where: str) -> None:
        self._running.discard(where)
        self._tell_idle()

    def _may_send(self, where: str) -> bool:
        return not self._stopped and self._host.can_send()

    async def _work(self, where: str) -> None:
        while (queue := self._queues.get(where)) and self._may_send(where) and where not in self._held:
            entry = queue[0]
            try:
                if entry.sealed is None:
                    await self._seal(entry)
                    if self._stopped:
                        return
                    if entry not in queue:  # it came back from the history meanwhile: so it is stored
                        await self._host.keep([], [("outbox", str(entry.number))])
                        continue
                reply = await self._host.transmit(entry)
            except Refused as refusal:
                if refusal.code in _LATER:
                    return  # it goes when this account is logged in again
                try:
                    await self._refused(where, entry, refusal)
                except LinkLost:
                    return
                except (Held, InvalidKey, CannotKeep) as error:
                    self._hold(where, entry, error)
            except LinkLost:
                return  # its outcome is unknown; the same bytes go again when the link is back
            except Elsewhere as error:
                self._give_up(where, entry, error, error.exit)
            except (Held, InvalidKey, CannotKeep) as error:
                self._hold(where, entry, error)
            else:
                self._finish(where, entry, stored=True)
                self._host.sent(entry, reply)
                entry.settle(Exit.OK)

    def _hold(self, where: str, entry: Entry, error: Exception) -> None:
        self._held.add(where)
        if isinstance(error, LostMessages):
            self._lost.add(where)
        self._host.not_sent(entry, error, waits=True)
        for waiting in self._queues.get(where, []):
            waiting.settle(Exit.FIXABLE if isinstance(error, CannotKeep) else Exit.UNTRUSTED)

    async def _seal(self, entry: Entry) -> None:
        sealed = await self._host.seal(entry, lambda conversation: self._turns.get(conversation, Turn()))
        await self._host.keep([("outbox", str(entry.number), replace(entry, sealed=sealed).record())], [])
        entry.sealed = sealed  # not before: what is here may be sent

    async def _refused(self, where: str, entry: Entry, refusal: Refused) -> None:
        if refusal.code in PATIENCE:
            if not entry.delayed:
                entry.delayed = True
                self._host.delayed(entry, refusal)
            await deferLater(self._clock, float(refusal.data.get("retry_after", _RETRY_SECONDS)))
        elif refusal.code in (CTR_BEHIND, OUT_OF_TURN):
            self._take_turn(where, entry, refusal)
        elif refusal.code in _RESEAL:
            # Proof that nothing was stored: other bytes may go under the same mid.
            entry.reseals += 1
            if await self._host.renew(entry, refusal):
                entry.sealed = None
            if entry.reseals % _RESEALS == 0 or entry.sealed is not None:
                await deferLater(self._clock, _RETRY_SECONDS)  # people come and go too fast just now
        else:
            self._give_up(where, entry, refusal, refusal.code.exit)

    def _give_up(self, where: str, entry: Entry, error: Exception, status: Exit) -> None:
        """Whatever comes, this one is not sent any more."""
        self._finish(where, entry)
        self._host.not_sent(entry, error, waits=False)
        entry.settle(status)

    def _take_turn(self, where: str, entry: Entry, refusal: Refused) -> None:
        """The server counts otherwise. It is believed upwards, by the proof of this device's own signature, only.

        Where what it proves is this very message, that is stored: sealed anew, it would be read twice.
        """
        sealed = entry.sealed
        assert sealed is not None
        turn = self._host.proven(sealed, refusal) if refusal.code is CTR_BEHIND else None
        if turn is not None and (turn.id == sealed.id or turn.mid == entry.mid):
            proof: m.StoredMessage = refusal.data["proof"]
            entry.sealed = Sealed(proof.package, sealed.conversation, turn.ctr, turn.id)  # the one that others read
            self._finish(where, entry, stored=True)
            self._host.sent(entry, m.SendOk(room=proof.room, seq=proof.seq, ts=proof.ts, events=proof.events))
            entry.settle(Exit.OK)
            return
        if turn is None or turn.ctr < sealed.ctr:
            entry.sealed = None
            raise LostMessages(entry.where, int(refusal.data.get("expected", 0)))
        self._turns[sealed.conversation] = Turn(turn.ctr, turn.id)
        entry.sealed = None

    def _finish(self, where: str, entry: Entry, *, stored: bool = False) -> None:
        queue = self._queues.get(where, [])
        if entry not in queue:
            return  # it came back from the history meanwhile
        queue.remove(entry)
        if not queue:
            del self._queues[where]
        turns, sealed = [], entry.sealed
        if stored and sealed is not None and sealed.ctr > self._turns.get(sealed.conversation, Turn()).ctr:
            self._turns[sealed.conversation] = Turn(sealed.ctr, sealed.id)
            turns = [("turn", sealed.conversation, [sealed.ctr, sealed.id])]
        keeping = Deferred.fromCoroutine(self._host.keep(turns, [("outbox", str(entry.number))]))
        keeping.addErrback(lambda failure: self.log.failure("the outbox was not written", failure=failure))

    def _tell_idle(self) -> None:
        if not self.moving():
            waiting, self._idle = self._idle, []
            for done in waiting:
                done.callback(None)
