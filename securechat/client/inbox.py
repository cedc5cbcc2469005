"""The inbox: everything that is shown goes through here, so that it is shown once, in order, and judged first.

Opening a message costs 4 ms of RSA, so messages are examined in a thread, many at a time; what came between them (who
joined, own messages acknowledged) waits its turn in the same queue. Judging them is the reactor's work, one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from msgspec import UNSET
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from securechat.client.conversations import Conversation
from securechat.client.display import not_shown
from securechat.client.kept import Entry, Kept, Taken
from securechat.client.people import People
from securechat.client.protocol import LinkLost
from securechat.client.telling import fold, history, kept_of, told
from securechat.client.view import Item, Unshown
from securechat.crypto.envelope import Delivered, Examined, bind_of, examine
from securechat.crypto.identity import Device
from securechat.crypto.reading import ConversationReader, Found, Verdict
from securechat.errors import Refused
from securechat.wire import messages as m

BATCH: Final = 64  # messages examined in one visit to the thread
STEP: Final = 16  # messages of a history examined between two looks at the progress


@dataclass(frozen=True, slots=True)
class OwnMessage:
    """A message of this very client, acknowledged; its text is known, and what it signed."""

    room: str
    peer: str | None
    seq: int
    events: int
    ctr: int
    id: str
    device: str
    text: str
    ts: int = 0


class Host(Protocol):
    """What the inbox needs; `client.desk`."""

    @property
    def people(self) -> People | None:
        """Other people's keys and pins; None where no account is open."""

    @property
    def user(self) -> str:
        """Who is logged in."""

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """The conversation a message belongs to; None where this account is not in it."""

    def show(self, item: Item) -> None:
        """Shows an item."""

    def shown(self, conversation: Conversation, device: str) -> None:
        """A conversation's cursor moved, and the chain of that device perhaps."""

    def own_came_back(self, mid: str) -> None:
        """A message of this account was seen in the history."""

    def mark_of(self, user: str) -> str:
        """What to say of somebody beside their name, or ""."""

    def author_hash(self, user: str, device: str) -> str:
        """A short hash of the identity behind a device; "" where that is not known."""

    def took(self, conversation: Conversation, taken: Taken) -> bool:
        """A new message was taken in: it is kept, and counted. Whether it is to be shown."""

    def read_back(self, conversation: Conversation, taken: Sequence[Taken]) -> None:
        """Messages of a history were taken in: they are kept."""

    def hid(self, conversation: Conversation, examined: Examined, found: Found) -> None:
        """A message that has just come is not shown."""

    def not_given(self, conversation: Conversation, first: int, count: int) -> None:
        """The server did not give so many messages, from number `first` on."""

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """Sending there waits for a word."""

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places, from the server. Raises Refused, LinkLost."""

    async def prepare_reading(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
        """Fetches what judging messages needs: log, devices of their authors. Raises LinkLost."""

    async def prepare_audiences(self, conversation: Conversation, examined: Sequence[Examined]) -> None:
        """Fetches whom messages were sealed for, and those people's keys. Raises LinkLost."""


Job = m.StoredMessage | OwnMessage | Callable[[], Awaitable[None] | None]


class Inbox:
    """The queue of what is to be shown.

    Args:
        run: calls a function in a thread.
        keys: the account's RSA keys by id.
    """

    log = Logger()

    def __init__(self, host: Host, run: Callable[..., Awaitable[Any]], keys: Mapping[str, Any]) -> None:
        self._host = host
        self._run = run
        self._keys = keys
        self._queue: deque[Job] = deque()
        self._working = False
        self._stopped = False
        self._unshown: Unshown | None = None  # the last item, if one like it may follow
        self._waiters: list[Deferred[None]] = []

    def use(self, keys: Mapping[str, Any]) -> None:
        """The account has other RSA keys from now on."""
        self._keys = keys

    def put(self, job: Job) -> None:
        """Queues something to show, or a call to make once all before it was shown; what it awaits holds all behind."""
        self._queue.append(job)
        self._start()

    def _start(self) -> None:
        if self._queue and not self._working and not self._stopped:
            self._working = True
            working = Deferred.fromCoroutine(self._work())
            working.addErrback(lambda failure: self.log.failure("showing failed", failure=failure))
            working.addBoth(self._rest)

    def stop(self) -> None:
        """Shows nothing more; what waits comes again by `sync`."""
        self._stopped = True
        self._queue.clear()
        for waiter in list(self._waiters):
            self._tell(waiter)

    def shown(self) -> Deferred[None]:
        """Fires when everything queued so far was shown, or never will be."""
        done: Deferred[None] = Deferred()
        self._waiters.append(done)
        if self._stopped:
            self._tell(done)
        else:
            self.put(lambda: self._tell(done))
        return done

    def _tell(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            waiter.callback(None)

    def _rest(self, result: object) -> None:
        self._working = False
        self._start()

    async def _work(self) -> None:
        while self._queue and not self._stopped:
            batch = deque(self._queue.popleft() for _ in range(min(BATCH, len(self._queue))))
            messages = [job for job in batch if isinstance(job, m.StoredMessage)]
            judging = False
            try:
                examined = deque(await self._examined(messages))
                judging = True
                while batch and not self._stopped:
                    job = batch.popleft()
                    if isinstance(job, m.StoredMessage):
                        await self._show(job, examined.popleft())
                    elif isinstance(job, OwnMessage):
                        await self._show_own(job)
                    else:
                        self._say(None)
                        working = job()
                        if working is not None:
                            await working
            except LinkLost:
                judging = False
            finally:
                self._say(None)
                if not self._stopped:
                    # Where the link or the thread broke, what was not judged comes again by `sync` or is missed and
                    # fetched by what comes next. Whoever waits for something else must not wait for ever.
                    self._queue.extendleft(reversed([job for job in batch if judging or callable(job)]))

    async def _examined(self, messages: Sequence[m.StoredMessage]) -> Sequence[Examined | None]:
        """Each message examined, with what judging it needs at hand; None: of a conversation this account is not in."""
        by_conversation: dict[str, tuple[Conversation, list[m.StoredMessage]]] = {}
        for message in messages:
            conversation = self._host.conversation_of(message)
            if conversation is not None and message.seq > conversation.cursor:
                by_conversation.setdefault(message.room, (conversation, []))[1].append(message)
        found: dict[tuple[str, int], Examined] = {}
        for conversation, some in by_conversation.values():
            for examined in await self.examine(conversation, some):
                found[examined.message.room, examined.message.seq] = examined
        return [found.get((self._id(message), message.seq)) for message in messages]

    def _id(self, message: m.StoredMessage) -> str:
        conversation = self._host.conversation_of(message)
        return message.room if conversation is None else conversation.id

    async def examine(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> Sequence[Examined]:
        """Examines messages of one conversation in a thread, whether they open or not. Raises LinkLost."""
        await self._host.prepare_reading(conversation, messages)
        user, people = self._host.user, self._people()
        work = [
            (delivered(message, conversation.id, user), people.device(message.sender, message.device))
            for message in messages
        ]
        examined: Sequence[Examined] = await self._run(examine_all, work, self._keys) if work else ()
        if self._host.people is people:
            await self._host.prepare_audiences(conversation, examined)
        return examined

    def _people(self) -> People:
        if self._host.people is None:
            raise LinkLost("the account was left meanwhile")
        return self._host.people

    def _say(self, item: Item | None) -> None:
        """Shows an item, a run of those that did not open as one line; None: shows what is held back for that."""
        run = [self._unshown] if self._unshown is not None else []
        self._unshown = None
        folded = fold([*run, *([item] if item is not None else [])])
        last = folded[-1] if folded else None
        if item is not None and isinstance(last, Unshown):
            self._unshown = last
            folded.pop()
        for each in folded:
            self._host.show(each)

    async def _show(self, message: m.StoredMessage, examined: Examined | None) -> None:
        conversation = self._host.conversation_of(message)
        if message.sender == self._host.user:
            self._host.own_came_back(message.mid)
        if conversation is None or message.seq <= conversation.cursor:
            return
        if examined is None:
            (examined,) = await self.examine(conversation, [message])
        if await self._filled(conversation, message.seq):
            self._judged(conversation, examined)

    def _judged(self, conversation: Conversation, examined: Examined) -> None:
        """A message judged, taken in, and said."""
        people, message = self._people(), examined.message
        verdict = conversation.reader.receive(examined, people, conversation.audiences.get)
        for found in verdict.alarms:
            self._host.alarm(conversation, found.text)
        self._host.shown(conversation, message.device)
        if verdict.hidden is not None:
            self._host.hid(conversation, examined, verdict.hidden)
        self._tell_of(conversation, self.kept(examined, verdict))

    def kept(self, examined: Examined, verdict: Verdict) -> Kept:
        """A judged message as it is kept."""
        host, message = self._host, examined.message
        author = host.author_hash(message.sender, message.device)
        return kept_of(examined, verdict, host.user, author, host.mark_of(message.sender))

    def _tell_of(self, conversation: Conversation, kept: Kept) -> None:
        taken = conversation.timeline.take(kept)
        if self._host.took(conversation, taken):
            self._say(told(taken, conversation, self._host.user))

    async def _filled(self, conversation: Conversation, before: int) -> bool:
        """Fetches what is missing before a message. The server streams without gaps; this is for when it does not.

        Returns:
            Whether the message is next: not if the connection broke, when all of it comes again by `sync`; nor if the
            conversation went on without it meanwhile.
        """
        if self._stopped or before <= conversation.cursor + 1:
            return not self._stopped and before == conversation.cursor + 1
        found: Sequence[m.StoredMessage] = ()
        try:
            found = await self._host.missing(conversation.room, conversation.cursor, before)
        except LinkLost:
            return False
        except Refused:
            pass  # said below, with their number
        for examined in await self.examine(conversation, found):
            if self._stopped:
                return False
            lost = examined.message.seq - conversation.cursor - 1
            if lost >= 0 and examined.message.seq < before:
                self._not_given(conversation, lost)
                self._judged(conversation, examined)
        if self._stopped:
            return False
        self._not_given(conversation, before - conversation.cursor - 1)
        return before == conversation.cursor + 1

    def _not_given(self, conversation: Conversation, count: int) -> None:
        if count > 0:
            self._say(Unshown(conversation.title, count, not_shown("the server did not give them")))
            transcript = conversation.reader.transcript
            self._host.not_given(conversation, transcript.seq + 1, count)
            conversation.restart(transcript.seq + count, transcript.th)

    async def _show_own(self, own: OwnMessage) -> None:
        message = m.StoredMessage(
            room=own.room, seq=own.seq, sender=self._host.user, device=own.device, mid="", ts=0, events=own.events,
            package=m.Package(hdr=b"", sig=b""),
            to=UNSET if own.peer is None else own.peer,
        )  # fmt: skip
        conversation = self._host.conversation_of(message)
        if conversation is None or own.seq <= conversation.cursor:
            return
        await self._host.prepare_reading(conversation, [message])
        if not await self._filled(conversation, own.seq):
            return
        conversation.reader.own(own.seq, own.events, own.device, own.ctr, own.id)
        host = self._host
        author = host.author_hash(host.user, own.device)
        self._tell_of(conversation, Kept(own.seq, own.ts, host.user, author, own.id, own.text))
        self._host.shown(conversation, own.device)

    # --- history ----------------------------------------------------------------------------------------------------

    async def page(
        self,
        conversation: Conversation,
        pages: Sequence[m.HistoryOk],
        progress: Callable[[int, int], None],
        judged: Callable[[Examined, Verdict], None] = lambda examined, verdict: None,
    ) -> Sequence[Item]:
        """Pages of a history, oldest first, as they are shown; checked in themselves and against what was seen.

        Args:
            progress: told how many of how many messages have been opened.
            judged: told of each message what was found about it.
        """
        messages = [message for page in pages for message in page.messages]
        starts = {page.messages[0].seq: page.start for page in pages if page.messages and page.start is not UNSET}
        examined: list[Examined] = []
        for at in range(0, len(messages), STEP):
            examined += await self.examine(conversation, messages[at : at + STEP])
            progress(len(examined), len(messages))
        taken: list[Taken] = []
        reader: ConversationReader | None = None
        people = self._people()
        forked = False
        for each in examined:
            seq = each.message.seq
            start = starts.get(seq)
            if reader is not None and start is not None and start != reader.transcript.place:
                forked = True  # a page does not begin where the one before it ended
            if reader is None or seq != reader.transcript.seq + 1:
                if start is None or start[0] != seq - 1:
                    forked = True
                    start = (seq - 1, conversation.reader.transcript.th)
                reader = conversation.reader.elsewhere(*start)
            verdict = reader.receive(each, people, conversation.audiences.get)
            known = conversation.reader.transcript.at(seq)
            forked = forked or (known is not None and known != reader.transcript.th)
            judged(each, verdict)
            kept, timeline = self.kept(each, verdict), conversation.timeline
            taken.append(Taken(kept, Entry(kept), new=False) if timeline.outlasts(kept) else timeline.take(kept))
        if forked:
            self._host.alarm(conversation, "the history the server gives now is not the one you saw before")
        self._host.read_back(conversation, taken)
        return history(taken, conversation, self._host.user)


def delivered(message: m.StoredMessage, conversation: str, user: str) -> Delivered:
    """A message as the checks take it, with the reader's own entry."""
    package = message.package
    return Delivered(
        room=conversation,
        seq=message.seq,
        sender=message.sender,
        device=message.device,
        mid=message.mid,
        ts=message.ts,
        events=message.events,
        token=package.encrypted_message,
        hdr=package.hdr,
        bind=bind_of(package.bind, package.ct),
        sig=package.sig,
        wrapped=package.encrypted_keys.get(user),
        kid=package.kids.get(user),
        chained=bool(package.ct),
    )


def examine_all(work: Sequence[tuple[Delivered, Device | None]], keys: Mapping[str, Any]) -> Sequence[Examined]:
    """Examines messages; blocking, 4.5 ms each."""
    return [examine(message, device, keys) for message, device in work]
