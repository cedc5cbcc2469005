"""`ChatCore`: the client without a screen: link, account, conversations, and what happens when the server speaks.

Typed commands are carried out by `slash`; views show what `view.Item` says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from securechat.client import commands, slash
from securechat.client.accounts import KeyForge, OpenAccount, Stranded, Workshop
from securechat.client.acts import what_happened
from securechat.client.connection import ChangedServer, ServerLink
from securechat.client.conversations import Conversation, Conversations
from securechat.client.desk import Desk
from securechat.client.inbox import Inbox, OwnMessage
from securechat.client.outbox import Entry, Outbox, Sealed, Turn
from securechat.client.people import People, pins_from
from securechat.client.post import Post
from securechat.client.profile import ClientDir
from securechat.client.protocol import ChatClientProtocol, LinkLost
from securechat.client.roombook import RoomBook
from securechat.client.store import CannotKeep, Records
from securechat.client.view import Answer, Failure, Item, Membership, Notice, Status, View
from securechat.crypto.envelope import Examined, message_id
from securechat.crypto.primitives import b64
from securechat.crypto.roomlog import AnyEvent, Create, Join, Leave, SignedEvent
from securechat.crypto.transcript import transcript_start
from securechat.crypto.trust import Pin, PinStore, TrustState
from securechat.errors import (
    BAD_HEADER,
    BAD_SESSION,
    BUSY,
    FULL,
    RATE_LIMITED,
    TRY_AGAIN,
    Exit,
    InvalidKey,
    Refused,
    SecureChatError,
    WrongSecret,
)
from securechat.link import ConnectLine
from securechat.wire import messages as m
from securechat.wire.names import is_private

_INVITES: Final = 20  # looked at together; the server can name any number
_LINES: Final = 8  # about what happened in a room meanwhile; of more, only the people are named
_LEAVE_SECONDS: Final = 1.0  # that whoever leaves waits for the server's answers
_PATIENCE: Final = frozenset({BUSY, FULL, RATE_LIMITED, TRY_AGAIN})
_QUESTIONS: Final = 5  # the same to a server that is busy
_TRIES: Final = 3  # to find a moment in which nothing is shown
_SAVE_SECONDS: Final = 0.5  # what was shown is noted this long afterwards, many at once


class ChatCore:
    """One client: what is behind every view.

    Args:
        run: calls a function in a thread.
        timeout: seconds a script waits for one acknowledgement.
        make_link: how to reach the server; tests give their own.
        clock: seconds since 1970.
    """

    log = Logger()

    def __init__(
        self,
        directory: ClientDir,
        line: ConnectLine,
        view: View,
        *,
        reactor: Any,
        run: Callable[..., Awaitable[Any]],
        timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
        make_link: Callable[..., ServerLink] = ServerLink,
    ) -> None:
        self.directory = directory
        self.line = line
        self.view = view
        self.reactor = reactor
        self.run = run
        self.timeout = timeout
        self.clock = clock
        self._make_link = make_link
        self.forge = KeyForge(run)
        self.shop = Workshop(directory, reactor, run, self.forge, self.now_ms, self._ask_code)
        self.link: ServerLink | None = None
        self.account: OpenAccount | None = None
        self.stranded: Stranded | None = None
        self.conversations = Conversations()
        self.people: People | None = None
        self.outbox: Outbox | None = None
        self.inbox: Inbox | None = None
        self.book: RoomBook = RoomBook("", self, run)
        self._post = Post(self)
        self._desk = Desk(self)
        self.exiting = False
        self.shown_identity: tuple[str, bytes] | None = None  # by the last /trust USER
        self._epoch = ""
        self.synced = False
        self._round = 0  # of catching up
        self._sync_waiters: list[Deferred[None]] = []
        self._looking: set[str] = set()  # rooms that one is said to be invited to
        self._looks = DeferredLock()
        self._entering: dict[str, list[m.StoredMessage | m.RoomEvent]] = {}  # rooms on the way in: what came meanwhile
        self._unsaved: dict[Conversation, set[str]] = {}  # with the devices whose chains moved
        self._saving: Any = None
        self._said_down = False
        self._work = ""
        self.changed_server: ChangedServer | None = None

    def start(self) -> None:
        """Says hello; starts making keys where they will be needed."""
        self.directory.prepare()
        if not self.directory.any_account():
            self.forge.start()
        self._tell_status()

    # --- small things -----------------------------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """Who is logged in, or ""."""
        return "" if self.account is None else self.account.user

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock() * 1000)

    def show(self, item: Item) -> None:
        """Shows an item."""
        self.view.show(item)

    def notice(self, text: str, where: str = "") -> None:
        """Shows something worth knowing."""
        self.view.show(Notice(text, where))

    def answer(self, *lines: str) -> None:
        """Shows what a command was asked for."""
        self.view.show(Answer(lines))

    def _tell_status(self, link: str | None = None) -> None:
        if link is None:
            link = "online" if self.link is not None and self.link.protocol is not None else "offline"
        waiting = 0 if self.outbox is None else len(self.outbox.pending())
        self.view.status(Status(self.user, self.conversations.active, link, waiting, self._work))

    def status_changed(self) -> None:
        """The active room or the number of waiting messages may be another."""
        self._tell_status()

    async def _ask_code(self) -> str | None:
        return await self.view.ask_secret("Recovery code: ")

    def _own_task(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Starts work that nobody waits for; a fault in it is logged, never lost."""
        task = Deferred.fromCoroutine(work)
        task.addErrback(lambda failure: self.log.failure("{what} failed", failure=failure, what=what))

    # --- what a view calls (view.Client) ----------------------------------------------------------------------------

    async def submit(self, line: str) -> Exit:
        """Runs one typed line; every error is shown, none is raised."""
        typed = commands.parse(line)
        try:
            if typed is None:
                return Exit.OK
            if isinstance(typed, commands.Misfit):
                self.show(Failure(typed.problem, Exit.USAGE))
                return Exit.USAGE
            return await slash.run(self, typed)
        except OSError as error:  # a full disk, a directory that is not ours
            await self._leave_half_open()
            self.show(Failure(f"This machine does not let it be done: {error.strerror} ({error.filename})."))
            return Exit.FIXABLE
        except SecureChatError as error:
            await self._leave_half_open()
            status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.FIXABLE)
            if isinstance(error, LinkLost):
                status = Exit.NETWORK
            text = str(error)
            if isinstance(error, (LinkLost, InvalidKey, WrongSecret)):  # the others may start with a name
                text = text[:1].upper() + text[1:]
            self.show(Failure(text, status))
            return status

    async def _leave_half_open(self) -> None:
        """A login that failed leaves no half-open connection behind."""
        if self.account is None and self.stranded is None and self.link is not None:
            await self.leave_account()

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        """Completions for what is being typed."""
        users = set() if self.people is None else set(self.people.pins.all())
        return commands.completions(text, self.conversations.rooms(), sorted(users))

    async def close(self, timeout: float) -> Exit:
        """Waits for the outbox, then leaves; says what was not acknowledged."""
        status = Exit.OK
        if self.outbox is not None and self.outbox.moving():
            waiting = self.outbox.idle().addTimeout(min(timeout, self.timeout), self.reactor)
            with contextlib.suppress(TimeoutError):
                await waiting
            left = self.outbox.moving()
            if left:
                status = Exit.NETWORK
                texts = "; ".join(f"to {entry.where}: {entry.text[:40]}" for entry in left[:5])
                self.show(Failure(f"Not acknowledged by the server, kept for the next time: {texts}", status))
        await self.leave_account()
        return status

    async def leave_account(self) -> None:
        """Closes the account and the connection; what waits in the outbox stays on disk."""
        account, link = self.account, self.link
        await self._last_words()
        if self.account is not account or self.link is not link:
            return  # somebody else left it meanwhile
        self._stop_talk()
        if self.outbox is not None:
            for entry in self.outbox.pending():
                entry.settle(Exit.NETWORK)
        self.account = self.link = None
        self.stranded = self.people = self.outbox = self.inbox = self.shown_identity = None
        self.conversations = Conversations()
        self._end_sync()
        self._forget_account(account)
        if link is not None:
            await link.stop()

    def _forget_account(self, account: OpenAccount | None) -> None:
        self._unsaved = {}
        if self._saving is not None and self._saving.active():
            self._saving.cancel()
        self._saving = None
        waiters, self._sync_waiters = self._sync_waiters, []
        for waiter in waiters:
            waiter.errback(LinkLost("the connection was closed before everything had come"))
        if account is not None:
            account.close()
        self._tell_status()

    async def _last_words(self) -> None:
        """Shows and notes what came. Neither a server that stands still nor a full disk keeps anybody from leaving."""
        online = self.link is not None and self.link.protocol is not None
        if self.inbox is not None and online:
            await self._briefly(self.inbox.shown())
        with contextlib.suppress(CannotKeep):
            read = await self._keep_shown()
            if online:
                await self._briefly(Deferred.fromCoroutine(self._tell_read(read)))

    async def _briefly(self, work: Deferred[None]) -> None:
        with contextlib.suppress(TimeoutError):
            await work.addTimeout(_LEAVE_SECONDS, self.reactor)

    async def put_down(self) -> None:
        """The account is about to be opened anew, with other keys: notes what was shown, and shows nothing more."""
        self._stop_talk()
        with contextlib.suppress(CannotKeep):
            await self._keep_shown()
        self.account = None

    # --- link -------------------------------------------------------------------------------------------------------

    async def connected(self) -> ChatClientProtocol:
        """A verified connection, made if there is none. Raises CannotConnect, UntrustedServer, LinkLost."""
        if self.link is not None:
            if self.link.protocol is None:
                raise LinkLost("the server is away; it is being tried again. Wait for the connection")
            return self.link.protocol
        self._tell_status("connecting")
        ask = self.view.ask if self.view.interactive else None
        link = self.link = self._make_link(self.reactor, self.line, self.directory, self, ask=ask)
        try:
            protocol = await link.connect()
        except BaseException:
            self.changed_server = link.judge.changed
            self.link = None
            self._tell_status()
            raise
        self._tell_status()
        return protocol

    async def request(self, request: m.Request) -> Any:
        """Asks the server. Raises Refused, LinkLost."""
        protocol = self.link.protocol if self.link is not None else None
        if protocol is None:
            raise LinkLost("there is no connection to the server right now; it is tried again by itself")
        return await protocol.request(request)

    async def ask(self, request: m.Request) -> Any:
        """A question whose answer what was said waits for: asked again where the server only asks for patience.

        A server that goes on asking for it is left, and tried again: what was not judged comes again.

        Raises:
            Refused, LinkLost.
        """
        for left in reversed(range(_QUESTIONS)):
            try:
                return await self.request(request)
            except Refused as refusal:
                if refusal.code not in _PATIENCE:
                    raise
                if not left:
                    if self.link is not None and self.link.protocol is not None:
                        self.link.protocol.give_up(str(refusal))
                    raise LinkLost(str(refusal)) from None
                await deferLater(self.reactor, float(refusal.data.get("retry_after", 1.0)))
        raise AssertionError("the last question is answered or given up")

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """The connection is back: resume, sync, resend."""
        if self.account is not None:
            self._own_task(self._come_back(self.account, protocol), "coming back")
        self._tell_status()

    async def _come_back(self, account: OpenAccount, protocol: ChatClientProtocol) -> None:
        try:
            own = await account.resume(protocol)
            assert self.people is not None
            self.people.meet_self(own, fresh=False)
            account.own = own
            await self._sync()
        except LinkLost:
            return  # the link tries again
        except CannotKeep as error:
            self.show(Failure(str(error)))
            protocol.give_up(str(error))  # it is tried again by itself; until then nothing is sent unnoted
            return
        except (Refused, InvalidKey) as error:
            if isinstance(error, Refused) and error.code.exit in (Exit.NETWORK, Exit.RATE_LIMITED):
                protocol.give_up(str(error))  # a server that is not up to it yet: the link tries again
                return
            ended = isinstance(error, Refused) and error.code is BAD_SESSION
            text = f"{error} What you wrote is kept." if ended else str(error)
            self.show(Failure(text, Exit.LOGIN_REFUSED))
            await self.leave_account()
            return
        if self.link is not None and self.link.protocol is protocol:  # else it broke again before all had come
            self.notice("Connected again.")
            self._said_down = False

    def link_event(self, event: m.AnyEvent) -> None:
        """The server said something."""
        if isinstance(event, (m.StoredMessage, m.RoomEvent)) and event.room in self._entering:
            self._entering[event.room].append(event)  # its turn comes when the room is there
        elif isinstance(event, m.StoredMessage):
            if self.inbox is not None:
                self.inbox.put(event)
        elif isinstance(event, m.RoomEvent):
            self._room_event(event)
        elif isinstance(event, m.PresenceEvent):
            self._presence(event)
        elif isinstance(event, m.InvitedEvent):
            self._own_task(self._invited(event.room), "looking at an invitation")
        elif isinstance(event, m.MemberEvent):
            if event.user == self.user:
                self._own_news(event.keys)
            elif self.people is not None:
                self.people.take_in({event.user: event.keys})
        elif isinstance(event, m.Live):
            self._live(event)
        elif isinstance(event, m.ReadEvent):
            pass  # unread counts come with the terminal UI

    def _own_news(self, bundle: m.KeyBundle) -> None:
        """Another device of this account published new keys."""
        assert self.account is not None and self.people is not None
        try:
            own = self.account.checked(bundle)
            self.people.meet_self(own, fresh=False)  # not before it stands this: nothing is sealed for an older list
            self.account.own = own
        except InvalidKey as error:
            self.show(Failure(f"The server sent keys as yours that are refused: {error}.", Exit.UNTRUSTED))

    def link_down(self, why: str, wait: float | None) -> None:
        """The connection is gone, or an attempt failed."""
        if self.link is None:
            return  # by our own doing
        self._end_sync()
        if self.account is None:
            # Nobody is logged in, so nobody needs it: the next /login makes another.
            self._own_task(self.leave_account(), "leaving")
            return
        if wait is None:
            self.changed_server = self.link.judge.changed
            self.show(Failure(f"Disconnected: {why}", Exit.NETWORK))
            self._own_task(self.leave_account(), "leaving")
            return
        if not self._said_down:
            self._said_down = True
            self.notice(f"The connection is lost: {why}. It is tried again; what you type is kept.")
        self._tell_status(f"offline, next try in {wait:.0f} s" if wait else "connecting")

    # --- account ----------------------------------------------------------------------------------------------------

    async def enter(self, account: OpenAccount) -> None:
        """An account is open and logged in: takes up its conversations where they were left.

        Raises:
            LinkLost: the connection is gone; where the account stays open, it comes back by itself.
            Refused, InvalidKey, CannotKeep: the account is closed again.
        """
        self._stop_talk()
        if self.link is None or self.link.protocol is None:
            account.close()
            raise LinkLost("the connection was lost during the login. Try again")
        self.account, self.stranded = account, None
        try:
            await self._take_up(account)
            await self._sync()
        except (Refused, InvalidKey, CannotKeep):
            await self.leave_account()
            raise

    async def _take_up(self, account: OpenAccount) -> None:
        records = account.records
        self.people = People(
            account.profile.srv,
            PinStore(pins_from(records.get("pin", {})), self._save_pin, records.get("expected", {})),
            fetch=self._fetch_keys,
            run=self.run,
            say=self._say_of_people,
            now_ms=self.now_ms,
        )
        self._desk = Desk(self)
        self.book = RoomBook(account.profile.srv, self, self.run)
        turns, waiting = await self._of_this_device(account)
        self.outbox = Outbox(self, self.reactor, {room: Turn.from_record(turn) for room, turn in turns.items()})
        self.outbox.restore(waiting)
        self.inbox = Inbox(self, self.run, account.keys.by_kid())
        self._epoch = str(records.get("meta", {}).get("epoch", ""))
        self.people.meet_self(account.own, fresh=account.fresh)
        self.conversations = Conversations(records.get("name", {}))
        chains, logs = _by_conversation(records, "chain"), _by_conversation(records, "log")
        for id, record in records.get("conv", {}).items():
            conversation = Conversation(str(record["room"]), record["peer"], id)
            conversation.restore(record, chains.get(id, {}))
            conversation.reader.user = account.user
            if not is_private(conversation.room):
                await self.book.load(conversation, logs.get(id, {}))
            (self.conversations.add if conversation.here else self.conversations.remember)(conversation)

    async def _of_this_device(self, account: OpenAccount) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """What this device counts and has to send. Of the one before a reset the counters end, and seals are void."""
        records, device = account.records, account.keys.dev
        turns, waiting = records.get("turn", {}), dict(records.get("outbox", {}))
        if records.get("meta", {}).get("device") != device:
            waiting = {number: {**record, "sealed": None} for number, record in waiting.items()}
            puts = [("meta", "device", device), *(("outbox", number, record) for number, record in waiting.items())]
            await self.keep(puts, [("turn", room) for room in turns])
            turns = {}
        return turns, waiting

    def _stop_talk(self) -> None:
        """Nothing is shown or sent any more; what waits is on disk."""
        if self.inbox is not None:
            self.inbox.stop()
        if self.outbox is not None:
            self.outbox.stop()

    async def _sync(self) -> None:
        """Brings every conversation up to date, then lets the outbox go on."""
        self._end_sync()
        followed = {c.room: (c.id, c.cursor) for c in self.conversations.all_known() if c.cursor}
        for conversation in self.conversations:
            conversation.live = False
        epoch = self._epoch or None
        since = {room: cursor for room, (_, cursor) in followed.items()}
        reply = await self.request(m.Sync(epoch=epoch, since=since))
        present, passed_over = set(), set()
        for state in reply.conversations:
            present.add(state.room)
            known = followed.get(state.room, ("", 0))[0] == state.id
            if self._take_state(state, known=known, same_epoch=reply.epoch == self._epoch):
                passed_over.add(state.room)
        for conversation in self.conversations:
            if conversation.room in present:
                continue
            if is_private(conversation.room):
                conversation.live = (
                    True  # nobody can be put out of one: the server has nothing to say of it, or hides it
                )
            else:
                self._lose(conversation)
        if reply.epoch != self._epoch:
            self._epoch = reply.epoch
            if self.outbox is not None:
                self.outbox.new_epoch()
            await self.keep([("meta", "epoch", reply.epoch)], [])
        put_back = {state.room for state in reply.conversations if state.reset}
        for conversation in self.conversations:
            if conversation.room in put_back and self.outbox is not None:
                await self.outbox.reseal(conversation.title)
        for state in reply.conversations:
            await self._bring_log(state)
            self._check_entry(state.room, passed_over=state.room in passed_over)
        for conversation in self.conversations:
            self._tell_events(conversation)  # what a client that was ended in between had not said
        self._own_task(self._look_at(reply.invites[:_INVITES]), "looking at invitations")
        waiter: Deferred[None] = Deferred()
        self._sync_waiters.append(waiter)  # not before: nothing is sealed for members of an old log
        self._check_synced()
        await waiter

    def _end_sync(self) -> None:
        """What was caught up counts no more, nor does what is still to be shown of it."""
        self.synced = False
        self._round += 1

    def _take_state(self, state: m.ConversationState, *, known: bool, same_epoch: bool) -> bool:
        """Where one conversation stands by the server's word.

        Args:
            known: whether its messages were followed up to the cursor that the server was told.

        Returns:
            Whether it passes over messages, as if this account had been out of the room: its log has to show that.
        """
        room, private = state.room, is_private(state.room)
        before, peer = self.conversations.get(room), None if state.peer is UNSET else state.peer
        named = self.conversations.known(state.id)
        if (private and state.id != room) or (named is not None and named.room != room):
            self.notice("The server gives one conversation under two names. The second one is left out.", room)
            return False
        conversation = self.conversations.ensure(room, peer, state.id)
        if before is not None and conversation is not before:
            self.notice(
                f"The server has another room under this name than the one you were in. It is {conversation.label}"
                " here; the one you knew is gone, or hidden.",
                before.title,
            )
        conversation.reader.user = self.user
        conversation.first, conversation.read = state.first, state.read
        self._unsaved.setdefault(conversation, set())
        seq = conversation.cursor
        seen = conversation.reader.transcript.at(state.start[0])  # some more may have been shown while this was asked
        if known and not state.reset and seen is not None:
            if state.start[1] != seen:
                self.alarm(conversation, "the server's history up to here is not the one you saw")
            return False
        lost = state.reset and (not same_epoch or seq > state.last)
        passed_over = known and not lost and not private and seq < state.start[0] == state.first
        if known and not lost and not passed_over:
            self.alarm(conversation, "the server goes on at another place than you had come to")
        conversation.restart(*state.start)
        if state.reset:
            self.notice(
                "The server's history is not the one this client knew (was a backup restored?): it is read again.",
                conversation.title,
            )
        return passed_over

    def _check_entry(self, room: str, *, passed_over: bool) -> None:
        """Whether a room's log shows that one was out of it, where the server passed over messages for that reason."""
        conversation = self.conversations.get(room)
        if conversation is None or conversation.log is None:
            return
        entered = conversation.log.entered(self.user)
        if passed_over and entered <= conversation.entry:
            self.alarm(conversation, "the server passed over messages, as if you had been out of the room meanwhile")
        conversation.entry = entered

    async def _bring_log(self, state: m.ConversationState) -> None:
        """A room's log as far as the server has it; what the server lost of it is given back."""
        conversation = self.conversations.get(state.room)
        if conversation is None or is_private(state.room):
            return
        log = conversation.log
        try:
            if log is not None and state.events < log.count:
                if not state.events or log.links[state.events - 1] != state.head:
                    self.alarm(conversation, "the server shows another log of this room than before")
                    return
                await self.book.give_back(conversation, state.events)
                if not conversation.broken:
                    self.notice("The server had lost the end of this room's log: it has it again.", conversation.title)
                return
            await self.book.reach(conversation, state.events, state.head)
            if conversation.id != state.id:
                self.alarm(conversation, "the server names this room by another id than its log has")
            await self.pin_name(conversation)
        except Refused as refusal:
            self.alarm(conversation, f"the room's log cannot be had: {refusal}")

    async def pin_name(self, conversation: Conversation) -> None:
        """The first room of a name that one was in keeps it."""
        if self.conversations.names.setdefault(conversation.room, conversation.id) == conversation.id:
            await self.keep([("name", conversation.room, conversation.id)], [])

    async def look(self, room: str, events: Callable[[int], None] | None = None) -> Conversation:
        """A room one is not in: its log, verified, going on from what was known of it. Raises Refused, InvalidKey."""
        found = await self.book.look(room, events)
        known = self.conversations.known(found.id)
        if known is not None and found.log is not None and (known.broken or not known.extended_by(found.log)):
            raise InvalidKey(f"the server shows another log of {room} than the one you knew: it is not entered")
        return found

    async def _look_at(self, rooms: Iterable[str]) -> None:
        for room in rooms:
            with contextlib.suppress(LinkLost):
                await self._invited(room)

    async def _invited(self, room: str) -> None:
        """Somebody invites this account: who, is in the room's log. One at a time: the server can name any room."""
        if room in self._looking or len(self._looking) >= _INVITES:
            return
        self._looking.add(room)
        try:
            await self._looks.run(lambda: Deferred.fromCoroutine(self._look_into(room)))
        finally:
            self._looking.discard(room)

    async def _look_into(self, room: str) -> None:
        try:
            found = await self.look(room)
        except (Refused, InvalidKey) as error:
            self.notice(f"An invitation to {room} does not check out: {error}")
            return
        log, account = found.log, self.account
        if log is None or account is None:
            return
        by = log.invites.get(account.user, {}).get(account.own.ik)
        if by is None or self.people is None:
            return
        label = self.conversations.label(room, log.id)
        if self.people.identity(by) not in (None, log.members[by].ik):
            self.notice(
                f"Somebody invites you to {label} as {by}, by another identity than the {by} you know. Ask {by} by"
                " another way before you /accept."
            )
        else:
            self.notice(f"{by} invites you to {label}. /accept {label} enters it.")

    def _lose(self, conversation: Conversation, *, said: bool = False) -> None:
        """Not in it any more, without having typed /leave: what is typed next must not go elsewhere by itself.

        Args:
            said: whether a line of the room's own has said it.
        """
        was_active = self.conversations.lose(conversation.room)
        if was_active or not said:
            active = " No room is active: /switch ROOM." if was_active else ""
            self.notice(f"You are no longer in {conversation.title}.{active}")
        self.shown(conversation)
        self._tell_status()

    def _live(self, event: m.Live) -> None:
        conversation = self.conversations.get(event.room)
        if conversation is not None:
            conversation.live = True
        self._check_synced()

    def _check_synced(self) -> None:
        if not all(conversation.live for conversation in self.conversations) or not self._sync_waiters:
            return
        present = self._round

        def caught_up() -> None:
            if present != self._round:
                return  # the connection it came over is gone
            self.synced = True
            waiters, self._sync_waiters = self._sync_waiters, []
            for waiter in waiters:
                waiter.callback(None)
            if self.outbox is not None:
                self.outbox.kick()

        # What was missed is shown before anything new is sent.
        if self.inbox is not None:
            self.inbox.put(caught_up)

    # --- conversations ----------------------------------------------------------------------------------------------

    def _room_event(self, event: m.RoomEvent) -> None:
        conversation = self.conversations.get(event.room)
        if conversation is None:
            # Another device of this account joined; what comes now is for this one too.
            self._own_task(self._appeared(event.room), "taking up a room")
        elif not self.book.live(conversation, event):
            self._own_task(self._bring(conversation, event.events), "fetching a room's log")

    async def _bring(self, conversation: Conversation, events: int) -> None:
        with contextlib.suppress(Refused, LinkLost):
            await self.book.reach(conversation, events)

    async def _appeared(self, room: str) -> None:
        """A room that another device of this account entered: taken up from where its messages come to this one too."""
        with contextlib.suppress(Refused, LinkLost, InvalidKey), self.entering(room):
            found = await self.look(room)
            if not self._in_by_log(found):
                return  # the server's word alone lets nobody in
            # A history does not say where a room stands in which nothing was said since.
            reply: m.SyncOk = await self.request(m.Sync(epoch=self._epoch or None, since={room: 0}))
            state = next((state for state in reply.conversations if state.room == room), None)
            if state is None or state.id != found.id:
                return  # it was left again meanwhile
            room_found = await self._take_up_room(found, state.start, state.first)
            room_found.read = state.read
            entered = next((one.event for one in reversed(found.events) if one.event.by == self.user), None)
            if self.inbox is not None and entered is not None:
                self.inbox.put(lambda: self.show(Membership(room_found.title, entered.by, what_happened(entered))))

    @contextlib.contextmanager
    def entering(self, room: str) -> Iterator[None]:
        """While this account is on its way into a room, what comes from there waits."""
        self._entering.setdefault(room, [])
        try:
            yield
        finally:
            for event in self._entering.pop(room, []):
                if self.conversations.get(room) is not None:
                    self.link_event(event)

    def room_event(self, conversation: Conversation, signed: SignedEvent) -> None:
        """An event was taken in as it happened: said in its turn, and one's own end there taken note of."""
        event = signed.event
        self.shown(conversation)
        if self.inbox is None or self.account is None:
            return
        self._tell_events(conversation)
        here = _answered(event, self.account.keys.dev)
        log = conversation.log
        if log is not None and not log.role(self.user, self.account.own.ik):
            self.inbox.put(lambda: self._put_out(conversation, quietly=here))

    def log_fetched(self, conversation: Conversation) -> None:
        """A log was brought to where the server has it: one's own end there may be among what was not told."""
        log = conversation.log
        if self.inbox is None or self.account is None or log is None:
            return
        self._tell_events(conversation)
        if not log.role(self.user, self.account.own.ik):
            self.inbox.put(lambda: self._put_out(conversation, quietly=False))

    def _tell_events(self, conversation: Conversation) -> None:
        """Says what was not said yet of a room's log, in its turn; from then on its user knows who is there."""
        if self.inbox is None or self.account is None:
            return
        since, count = max(conversation.told, conversation.queued), len(conversation.events)
        if since >= count:
            return
        conversation.queued = count
        lines: list[Item] = []
        if since or conversation.entry >= 0:  # of a room new to this client, who is there is all that there is to say
            own = self.account.keys.dev
            events = [one.event for one in conversation.events[since:] if not _answered(one.event, own)]
            lines = [Membership(conversation.title, event.by, what_happened(event)) for event in events]
            if len(lines) > _LINES:
                came = sorted({event.by for event in events if isinstance(event, Join)} & self._members(conversation))
                people = f" Came in: {', '.join(came)}." if came else ""
                lines = [Notice(f"{len(lines)} things happened here meanwhile.{people}", conversation.title)]

        def tell() -> None:
            conversation.told = max(conversation.told, count)
            self.shown(conversation)
            for line in lines:
                self.show(line)

        self.inbox.put(tell)

    @staticmethod
    def _members(conversation: Conversation) -> set[str]:
        return set() if conversation.log is None else set(conversation.log.members)

    def _in_by_log(self, conversation: Conversation) -> bool:
        """Whether this account is a member of a room, by its log."""
        account, log = self.account, conversation.log
        return account is not None and log is not None and bool(log.role(account.user, account.own.ik))

    def _put_out(self, conversation: Conversation, *, quietly: bool) -> None:
        if self.conversations.get(conversation.room) is not conversation:
            return
        if quietly:
            self.conversations.drop(conversation.room)
        else:
            self._lose(conversation, said=True)
        self._check_synced()  # it may have been the last one that was waited for

    def _presence(self, event: m.PresenceEvent) -> None:
        """Shown by /members; a line for each would bury the talk."""
        conversation = self.conversations.get(event.room)
        if conversation is not None:
            (conversation.online.add if event.online else conversation.online.discard)(event.user)

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """Something does not check out: sending there waits for a word."""
        if conversation.stop(reason) and conversation.kept:
            self.shown(conversation)
            then = (
                "Nothing is sent there until the server shows a log that checks out. Tell the others by another way;"
                f" /continue {conversation.title} looks again."
                if conversation.broken
                else "Sending there is stopped. Compare with the others by another way;"
                f" /continue {conversation.title} goes on all the same."
            )
            self.show(Failure(f"[{conversation.title}] {reason[:1].upper()}{reason[1:]}. {then}", Exit.UNTRUSTED))

    async def act(self, conversation: Conversation, make: Callable[[Any], AnyEvent]) -> m.ActOk:
        """Signs an act by this device and has the server take it in. Raises Refused, InvalidKey, LinkLost."""
        assert self.account is not None
        return await self.book.act(conversation, make, self.account.keys.device)

    async def enter_room(self, found: Conversation, done: m.ActOk) -> Conversation:
        """One is in a room now: its messages come from here on."""
        conversation = await self._take_up_room(found, done.start, done.start[0])
        await self.book.reach(conversation, done.events, done.link)
        self._check_entry(conversation.room, passed_over=False)
        return conversation

    async def _take_up_room(self, found: Conversation, start: tuple[int, str], first: int) -> Conversation:
        """A room one is in from now on; what was known of it before goes on: chains, alarms, log."""
        conversation = self.conversations.known(found.id) or found
        if conversation is not found:
            if found.log is None or not conversation.extended_by(found.log):
                raise InvalidKey(f"the server shows another log of {found.room} than the one you knew")
            self.book.go_on_with(conversation, found)
        conversation.restart(*start)
        conversation.first = first
        conversation.reader.user = self.user
        conversation.live = True
        conversation.label = self.conversations.label(conversation.room, conversation.id)
        conversation.told = conversation.queued = len(conversation.events)
        self.conversations.add(conversation)
        await self.book.adopt(conversation)
        await self.pin_name(conversation)
        self._check_entry(conversation.room, passed_over=False)
        self.shown(conversation)
        return conversation

    async def go_on(self, conversation: Conversation) -> None:
        """The owner's word: what did not check out there is put up with, and what waits is sent.

        The transcript goes on from what the server shows now; pins, chains and the log never go back.
        """
        reasons = list(conversation.stopped)
        if reasons:
            conversation.audiences.clear()
            await self._believe(conversation)
        conversation.stopped = [reason for reason in conversation.stopped if reason not in reasons]
        self.shown(conversation)
        if self.outbox is not None:
            self.outbox.go_on(conversation.title, conversation.readers_known())

    async def look_again(self, conversation: Conversation) -> None:
        """A log that did not check out: the server may give a better one now. What was verified of it stays."""
        conversation.broken = False
        await self.book.reach(conversation, len(conversation.events) + 1, quietly=True)
        self.shown(conversation)

    async def _believe(self, conversation: Conversation) -> None:
        """The transcript goes on, at the newest message shown, as the server says it is now: nothing is passed over.

        Raises:
            InvalidKey: the server's answer makes no sense.
        """
        for _ in range(_TRIES):
            seq = conversation.cursor
            page: m.HistoryOk = await self.ask(m.History(room=conversation.room, before=seq + 1, limit=1))
            if conversation.cursor != seq:
                continue  # more was shown meanwhile
            if not page.messages:
                if not conversation.first:  # nothing of it is left
                    conversation.restart(0, transcript_start(conversation.id))
                return
            if len(page.messages) != 1 or page.start is UNSET or page.messages[0].seq != page.start[0] + 1:
                raise InvalidKey("the server does not say how the history goes on")
            (newest,) = page.messages
            conversation.restart(*page.start)
            link, package = conversation.reader.link_at(newest.events) or "", newest.package
            conversation.reader.transcript.advance(newest.seq, link, message_id(package.hdr, package.bind))
            return

    async def accepted(self, user: str, ik: bytes) -> None:
        """The owner's word about somebody's identity, for the backup."""
        await self.keep([("accepted", user, b64(ik))], [])

    def took_keys(self) -> None:
        """The account has a newer RSA key, made here."""
        if self.people is not None and self.account is not None:
            self.people.meet_self(self.account.own, fresh=True)
        if self.inbox is not None and self.account is not None:
            self.inbox.use(self.account.keys.by_kid())

    def progress(self, done: int, total: int) -> None:
        """How far a long job is."""
        self._work = f"{done} of {total}" if done < total else ""
        self._tell_status()

    async def prepare(self, conversation: Conversation) -> None:
        """Gets the keys of a room's members, so that the first message leaves at once; says whose identity changed."""
        await self._post.prepare(conversation)

    async def renew_own(self) -> None:
        """Fetches this account's own keys: another device changed them. Raises Refused, LinkLost."""
        reply = await self._fetch_keys((self.user,))
        if self.user in reply.keys:
            self._own_news(reply.keys[self.user])

    # --- outbox.Host ------------------------------------------------------------------------------------------------

    def can_send(self, where: str) -> bool:
        """Whether there is a connection that has caught up."""
        return self.synced and self.link is not None and self.link.protocol is not None

    async def seal(self, entry: Entry, turn: Callable[[str], Turn]) -> Sealed:
        """See `post.Post.seal`."""
        return await self._post.seal(entry, turn)

    async def transmit(self, entry: Entry) -> m.SendOk:
        """Sends one sealed message."""
        return await self._post.transmit(entry)

    async def renew(self, entry: Entry, refusal: Refused) -> bool:
        """See `post.Post.renew`."""
        return await self._post.renew(entry, refusal)

    def proven(self, sealed: Sealed, refusal: Refused) -> Turn | None:
        """See `post.Post.proven`."""
        return self._post.proven(sealed, refusal)

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """Writes records of the account."""
        if self.account is not None:
            await self.account.store.write(puts, deletes)

    def sent(self, entry: Entry, reply: m.SendOk) -> None:
        """A message is stored: it is shown in its place among the others."""
        peer = entry.where[1:] if entry.where.startswith("@") else None
        sealed, account = entry.sealed, self.account
        if self.inbox is not None and sealed is not None and account is not None:
            # Where it went is what was signed, whatever the server says it stored.
            conversation = self.conversations.labelled(entry.where)
            if peer is not None:
                conversation = self.conversations.get(sealed.conversation)
                if conversation is None:
                    conversation = self.conversations.ensure(sealed.conversation, peer)
                    conversation.reader.user = self.user
                    conversation.live = True
            if conversation is not None and conversation.id == sealed.conversation:
                events = reply.events if peer is None else 0
                own = OwnMessage(
                    conversation.room, peer, reply.seq, events, sealed.ctr, sealed.id, account.keys.dev, entry.text
                )
                self.inbox.put(own)
        self._tell_status()

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """A message was refused, or waits for its author's word."""
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.UNTRUSTED)
        fate = "" if waits else f" Not sent: {entry.text[:60]}"
        text = str(error)
        if isinstance(error, InvalidKey):  # the others may start with a name
            text = f"{text[:1].upper()}{text[1:]}."
        self.show(Failure(f"{text}{fate}", status))
        where = entry.where
        known = self.conversations.with_peer(where[1:]) if where[0] == "@" else self.conversations.labelled(where)
        if isinstance(error, Refused) and error.code is BAD_HEADER and known is not None:
            self.alarm(known, "the server does not know the history that it gave you")
        self._tell_status()

    def delayed(self, entry: Entry, error: Refused) -> None:
        """The server asks for patience."""
        self.notice(f"Not sent yet: {error} It is tried again by itself.", entry.where)

    # --- inbox.Host -------------------------------------------------------------------------------------------------

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """The conversation of a message; a private one starts with its first message."""
        conversation = self.conversations.get(message.room)
        if conversation is None and is_private(message.room) and message.to is not UNSET:
            peer = message.to if message.sender == self.user else message.sender
            conversation = self.conversations.ensure(message.room, peer)
            conversation.reader.user = self.user
            conversation.live = True
        return conversation

    def shown(self, conversation: Conversation, device: str = "") -> None:
        """A cursor moved, and that device's chain; it is noted a little later, with others."""
        self._unsaved.setdefault(conversation, set()).update(filter(None, [device]))
        if self._saving is None:
            self._saving = self.reactor.callLater(_SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self._own_task(self.save(), "noting what was shown")

    async def save(self) -> None:
        """Notes what was shown, here and at the server."""
        await self._tell_read(await self._keep_shown())

    async def _keep_shown(self) -> dict[str, int]:
        unsaved, self._unsaved = self._unsaved, {}
        counts = {conversation: len(conversation.events) for conversation in unsaved}
        puts: list[tuple[str, str, Any]] = []
        for conversation, devices in unsaved.items():
            puts.append(("conv", conversation.id, conversation.record()))
            puts += self.book.unsaved(conversation)
            chains = conversation.reader.chains
            puts += [("chain", f"{conversation.id} {dev}", chains[dev].to_fields()) for dev in devices & chains.keys()]
        try:
            if puts:
                await self.keep(puts, [])
        except CannotKeep:
            for conversation, devices in unsaved.items():
                self._unsaved.setdefault(conversation, set()).update(devices)
            raise
        for conversation, count in counts.items():
            self.book.saved(conversation, count)
        moved = [conversation for conversation in unsaved if conversation.cursor > conversation.read]
        for conversation in moved:
            conversation.read = conversation.cursor
        return {conversation.room: conversation.cursor for conversation in moved}

    async def _tell_read(self, read: Mapping[str, int]) -> None:
        for room, seq in read.items():
            with contextlib.suppress(LinkLost, Refused):  # the marker moves with the next message
                await self.request(m.Read(room=room, seq=seq))

    def own_came_back(self, mid: str) -> None:
        """A message of this account is in the history: if it waited here, it is done."""
        entry = None if self.outbox is None else self.outbox.seen(mid)
        if entry is not None and self.inbox is not None:
            self.inbox.shown().addCallback(lambda _: entry.settle(Exit.OK))  # also where nothing is shown any more

    def mark_of(self, user: str) -> str:
        """ "changed" beside the name of somebody whose identity did."""
        if self.people is not None and self.people.state(user) is TrustState.CHANGED:
            return "identity changed"
        return ""

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places."""
        return await self._desk.missing(room, after, before)

    async def prepare_reading(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
        """See `desk.Desk.prepare`."""
        await self._desk.prepare(conversation, messages)

    async def prepare_audiences(self, conversation: Conversation, examined: Sequence[Examined]) -> None:
        """See `desk.Desk.audiences`."""
        await self._desk.audiences(conversation, examined)

    # --- people -----------------------------------------------------------------------------------------------------

    async def _fetch_keys(self, users: tuple[str, ...]) -> m.KeysOk:
        reply: m.KeysOk = await self.ask(m.Keys(users=users))
        return reply

    def _save_pin(self, user: str, pin: Pin) -> None:
        self._own_task(self.keep([("pin", user, pin.to_fields())], []), "keeping a pin")

    def _say_of_people(self, text: str) -> None:
        self.notice(text)


def _answered(event: AnyEvent, own: str) -> bool:
    """Whether this device's answer to a command has said what happened."""
    return event.dev == own and isinstance(event, (Create, Join, Leave))


def _by_conversation(records: Records, kind: str) -> dict[str, dict[str, Any]]:
    """Records that are filed as a conversation's id and a rest: by id, then by the rest."""
    found: dict[str, dict[str, Any]] = {}
    for name, record in records.get(kind, {}).items():
        id, _, rest = name.partition(" ")
        found.setdefault(id, {})[rest] = record
    return found
