"""The logs of rooms: fetched, verified, kept on disk, and added to. What the server says of a room counts only so far.

A log grows in one place, `_take`: events whose signatures were checked, in their order, by the rules of `roomlog`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.defer import DeferredLock

from securechat.client.acts import verify_events, what_happened
from securechat.client.conversations import Conversation
from securechat.client.people import People
from securechat.client.protocol import LinkLost
from securechat.crypto import primitives as p
from securechat.crypto.identity import Device
from securechat.crypto.roomlog import AnyEvent, Create, Join, RoomLog, SignedEvent, replay, sign_event
from securechat.crypto.transcript import transcript_start
from securechat.crypto.trust import Sighting
from securechat.errors import NOT_THE_NEXT, STALE_LOG, InvalidKey, Refused
from securechat.wire import limits
from securechat.wire import messages as m

CHUNK: Final = 128  # events in one record of the local store
_TRIES: Final = 6  # of an act that others were quicker than
_SLOW: Final = 1000  # events whose verifying is worth a word
_OTHER_LOG: Final = "the server shows another log of this room than before"

Cert = m.Certificate
Events = Sequence[SignedEvent]
Put = tuple[str, str, Any]


class Host(Protocol):
    """What the book needs of server and disk; `client.core`."""

    people: People | None

    async def request(self, request: m.Request) -> Any:
        """Asks the server. Raises Refused, LinkLost."""

    async def ask(self, request: m.Request) -> Any:
        """The same, again where the server only asks for patience. Raises Refused, LinkLost."""

    async def keep(self, puts: list[Put], deletes: list[tuple[str, str]]) -> None:
        """Writes records. Raises CannotKeep."""

    def notice(self, text: str, where: str = "") -> None:
        """Shows something worth knowing."""


class Listener(Protocol):
    """Who hears what happens to the logs; `client.lobby`."""

    def room_event(self, conversation: Conversation, signed: SignedEvent) -> None:
        """An event was taken in as it happened."""

    def log_fetched(self, conversation: Conversation) -> None:
        """A log was brought to where the server has it: this account may not be in the room any more."""

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """Sending there waits for a word."""


class RoomBook:
    """Keeps the logs of one account's rooms.

    Args:
        srv: the server's id.
        run: calls a function in a thread.
    """

    def __init__(self, srv: str, host: Host, listener: Listener, run: Callable[..., Awaitable[Any]]) -> None:
        self._srv = srv
        self._host = host
        self._listener = listener
        self._run = run
        self._locks: WeakKeyDictionary[Conversation, DeferredLock] = WeakKeyDictionary()

    def _people(self) -> People:
        if self._host.people is None:
            raise LinkLost("the account was left meanwhile")
        return self._host.people

    # --- from disk --------------------------------------------------------------------------------------------------

    async def load(self, conversation: Conversation, chunks: Mapping[str, Any]) -> None:
        """Takes up a log where it was left: it was verified before it was sealed, so only its rules are replayed."""
        try:
            events = [SignedEvent(p.unb64(data), p.unb64(sig)) for name in sorted(chunks) for data, sig in chunks[name]]
            log: RoomLog = await self._run(replay, self._srv, events)
            if events and log.id != conversation.id:
                raise InvalidKey("it is of another room")
        except (Refused, InvalidKey):
            log, events = RoomLog(self._srv), []  # made by other rules: it is fetched and verified anew
            await self._host.keep([], [("log", f"{conversation.id} {name}") for name in chunks])
        self._hold(conversation, log, events)
        conversation.saved = log.count

    @staticmethod
    def _hold(conversation: Conversation, log: RoomLog, events: Iterable[SignedEvent]) -> None:
        conversation.log = conversation.reader.log = log
        conversation.events = list(events)

    # --- from the server --------------------------------------------------------------------------------------------

    async def reach(self, conversation: Conversation, events: int, head: str = "", *, quietly: bool = False) -> None:
        """Brings a log to so many events, and holds it against a link the server named there.

        What the server does not give (unless `quietly`), or what breaks the rules, is an alarm of that room.

        Raises:
            Refused, LinkLost: nothing is changed.
        """
        lock = self._locks.setdefault(conversation, DeferredLock())
        await lock.acquire()
        try:
            before = _count(conversation)
            while not conversation.broken and _count(conversation) < events:
                if not await self._page(conversation):
                    break
            log = conversation.log
            if conversation.broken:
                return  # said already
            if log is None or log.count < events:
                if not quietly:
                    self._listener.alarm(
                        conversation, "the server does not give this room's log as far as it says it goes"
                    )
            elif head and events and log.links[events - 1] != head:
                self._listener.alarm(conversation, _OTHER_LOG)
            if conversation.kept and _count(conversation) > max(before, events - 1):
                self._listener.log_fetched(conversation)
        finally:
            lock.release()

    async def look(self, room: str, events: Callable[[int], None] | None = None) -> Conversation:
        """A room one is not in (yet): its log, verified, in a conversation of its own.

        Raises:
            Refused, LinkLost, InvalidKey.
        """
        found = Conversation(room, kept=False)
        while await self._page(found):
            if found.log is not None and events is not None and found.log.count >= _SLOW:
                events(found.log.count)
        if found.broken or found.log is None or not found.log.links:
            raise InvalidKey(
                f"the server's log of {room} does not check out: {'; '.join(found.stopped) or 'it is empty'}"
            )
        return found

    async def _page(self, conversation: Conversation) -> bool:
        """Fetches the next events; whether there is more."""
        after = _count(conversation)
        reply: m.RoomLogOk = await self._host.ask(m.RoomLog(room=conversation.room, after=after))
        if conversation.id and reply.rid != conversation.id:
            self._break(conversation, "the server gives another room under this name")
            return False
        if after >= _SLOW and conversation.kept and reply.more:
            self._host.notice(f"The room's log is being checked: {after} of {reply.events} events.", conversation.title)
        acts = [(act.signed, act.sig) for act in reply.acts]
        try:
            events, devices = await self._run(verify_events, self._srv, acts, reply.certs, self._people().device)
        except InvalidKey as error:
            self._break(conversation, f"the server's log of this room does not check out: {error}")
            return False
        await self._ask_of(events)
        had = _count(conversation) - after  # they came live meanwhile; no await from here on until they are taken in
        if any(one.eh != other.eh for one, other in zip(events, conversation.events[after:], strict=False)):
            self._break(conversation, _OTHER_LOG)
            return False
        return await self.take(conversation, events[had:], devices) and reply.more and bool(reply.acts)

    async def take(self, conversation: Conversation, events: Events, devices: Iterable[Device]) -> bool:
        """Adds events whose signatures were checked; whether all of them stand the rules."""
        held = self._take(conversation, events, devices)
        if conversation.kept:
            await self._save(conversation)
        return held

    async def _ask_of(self, events: Events) -> None:
        """Gets the present keys of people whom a log names by another identity than the pinned: it may be old."""
        people = self._people()
        entered = {one.event.by: one.event.ik for one in events if isinstance(one.event, (Create, Join))}
        doubtful = [user for user, ik in entered.items() if people.identity(user) not in (None, ik)]
        with contextlib.suppress(Refused):
            await people.know(doubtful, quietly=True)

    def go_on_with(self, conversation: Conversation, found: Conversation) -> None:
        """A longer log of a room that is known takes the place of the one that it goes on from."""
        assert found.log is not None
        self._hold(conversation, found.log, found.events)

    async def adopt(self, conversation: Conversation) -> None:
        """A room that was looked at is one's own from now on: its log is kept."""
        if not conversation.kept:
            conversation.kept, conversation.saved = True, 0
        self.sight(conversation, conversation.events)
        await self._save(conversation)

    async def _save(self, conversation: Conversation) -> None:
        count = len(conversation.events)
        if puts := self.unsaved(conversation):
            await self._host.keep(puts, [])
            self.saved(conversation, count)

    def _take(self, conversation: Conversation, events: Events, devices: Iterable[Device]) -> bool:
        for device in devices:
            self._people().add_device(device)
        if conversation.broken:
            return False
        log = conversation.log
        if log is None:
            log = RoomLog(self._srv)
            self._hold(conversation, log, ())
        before = log.count
        try:
            for signed in events:
                if not log.links and not _makes(signed, conversation):
                    self._break(conversation, "the server gives the log of another room")
                    break
                log.append(signed)
                conversation.events.append(signed)
        except (Refused, InvalidKey) as error:
            why = str(error)
            if isinstance(error, Refused):  # whose text is for the author of the event
                why = f"{signed.event.by} {what_happened(signed.event)} ({error.code.name})"
            self._break(conversation, f"event {log.count + 1} of the server's log breaks the rules: {why}")
        if log.links and not conversation.id:
            conversation.id = conversation.reader.room = log.id
            conversation.restart(0, transcript_start(log.id))
        if conversation.kept:  # whose room one merely looks at is nobody met
            self.sight(conversation, conversation.events[before:])
        return not conversation.broken

    def _break(self, conversation: Conversation, reason: str) -> None:
        conversation.broken = True
        self._listener.alarm(conversation, reason)

    def sight(self, conversation: Conversation, events: Iterable[SignedEvent]) -> None:
        """Pins the members that some events name, as they are in the room now."""
        log, entered = conversation.log, {}
        for signed in events:
            if isinstance(signed.event, (Create, Join)):
                entered[signed.event.by] = signed.event
        for user, event in entered.items():
            if log is None or log.role(user, event.ik) <= 0:
                continue
            try:
                self._people().sight(Sighting(user, event.ik, *event.dl))
            except InvalidKey as error:
                self._listener.alarm(conversation, str(error))

    def live(self, conversation: Conversation, event: m.RoomEvent) -> bool:
        """The next event, as it happens; False where it is not the next, so that `reach` must bring what is between."""
        if conversation.broken:
            return True
        if event.events <= _count(conversation):
            if conversation.events[event.events - 1].data != event.signed:
                self._break(conversation, _OTHER_LOG)
            return True
        if conversation.log is None or event.events != _count(conversation) + 1:
            return False
        acts = [(event.signed, event.sig)]
        try:
            events, devices = verify_events(self._srv, acts, (event.cert,), self._people().device)
        except InvalidKey as error:
            self._break(conversation, f"an event the server sent does not check out: {error}")
            return True
        said = events[0].event
        keys = self._people().known(said.by)
        if isinstance(said, Join) and keys is not None and keys.ik != said.ik:
            self._people().forget([said.by])  # what was known of them is old
        if self._take(conversation, events, devices):
            if self._people().revoked(said.by, said.dev):
                self._listener.alarm(conversation, f"the server let in an act of a device that {said.by} revoked")
            self._listener.room_event(conversation, events[0])
        return True

    @staticmethod
    def unsaved(conversation: Conversation) -> list[Put]:
        """The records that hold the events not on disk yet; `saved` takes note once they are."""
        events, since = conversation.events, conversation.saved
        if since == len(events):
            return []
        chunks = [events[at : at + CHUNK] for at in range(since - since % CHUNK, len(events), CHUNK)]
        return [
            (
                "log",
                f"{conversation.id} {number:06}",
                [[p.b64(signed.data), p.b64(signed.sig)] for signed in chunk],
            )
            for number, chunk in enumerate(chunks, since // CHUNK)
        ]

    @staticmethod
    def saved(conversation: Conversation, count: int) -> None:
        """So many events are on disk now."""
        conversation.saved = max(conversation.saved, count)

    # --- acting -----------------------------------------------------------------------------------------------------

    async def act(self, conversation: Conversation, make: Callable[[RoomLog], AnyEvent], device: Any) -> m.ActOk:
        """Signs an act and has the server take it in; again, on what is new, where somebody was quicker.

        Args:
            make: the act, given the log as it is known now.
            device: the key of this device.

        Raises:
            Refused: the rules, here already, or the server. InvalidKey, LinkLost.
        """
        log = conversation.log
        for left in reversed(range(_TRIES)):
            signed = sign_event(device, make(log or RoomLog(self._srv)))
            if log is not None:
                log.check(signed)
            try:
                done: m.ActOk = await self._host.request(
                    m.DoAct(room=conversation.room, signed=signed.data, sig=signed.sig)
                )
            except Refused as refusal:
                if refusal.code not in NOT_THE_NEXT or not left or log is None:
                    raise
                await self._refresh(conversation)
                continue
            if log is None:  # this made the room: nobody else knows more of it
                await self.take(conversation, [signed], ())
            if _count(conversation) >= done.events and conversation.events[done.events - 1].eh != signed.eh:
                raise InvalidKey("the server says it took an act in, and its log shows another")
            return done
        raise AssertionError("the loop ends by returning or raising")

    async def _refresh(self, conversation: Conversation) -> None:
        """Brings a log to where the server has it."""
        await self.reach(conversation, _count(conversation) + 1, quietly=True)

    async def give_back(self, conversation: Conversation, after: int) -> None:
        """Gives a server that lost the end of a log what this client has of it.

        Somebody else may be giving it back, too: what the server has by then must be this log.

        Raises:
            Refused, LinkLost.
        """
        while after < len(conversation.events) and not conversation.broken:
            some = conversation.events[after : after + limits.EVENTS_PER_PAGE]
            acts = tuple(m.Act(signed=signed.data, sig=signed.sig) for signed in some)
            request = m.Extend(room=conversation.room, after=after, acts=acts, certs=self._certificates(some))
            try:
                await self._host.ask(request)
                after += len(some)
            except Refused as refusal:
                given = await self._given_back(conversation, after) if refusal.code is STALE_LOG else 0
                if not given:
                    raise
                after += given

    def _certificates(self, events: Events) -> tuple[Cert, ...]:
        """Of the devices that signed these: a server that lost events may have lost those, too."""
        people, found = self._people(), {}
        for signed in events:
            event = signed.event
            certificate = people.certificate(event.by, event.dev)
            if certificate is not None:
                found[event.by, event.dev] = certificate
        return tuple(found.values())

    async def _given_back(self, conversation: Conversation, after: int) -> int:
        """How many events the server has behind place `after` by now; another than ours there is an alarm."""
        reply: m.RoomLogOk = await self._host.ask(m.RoomLog(room=conversation.room, after=after))
        for act, ours in zip(reply.acts, conversation.events[after:], strict=False):
            if act.signed != ours.data:
                self._break(conversation, _OTHER_LOG)
                break
        return len(reply.acts)


def _count(conversation: Conversation) -> int:
    return 0 if conversation.log is None else conversation.log.count


def _makes(first: SignedEvent, conversation: Conversation) -> bool:
    """Whether a log that begins so is of that room; an event that begins none is for its rules to refuse."""
    event = first.event
    if not isinstance(event, Create):
        return True
    return event.name == conversation.room and conversation.id in ("", first.eh)
