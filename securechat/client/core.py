"""`ChatCore`: the client without a screen: link, account, conversations, and what happens when the server speaks.

Typed commands are carried out by `slash`; views show what `view.Item` says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from securechat.client import commands, slash
from securechat.client.accounts import KeyForge, OpenAccount, Stranded, Workshop
from securechat.client.connection import ChangedServer, ServerLink
from securechat.client.conversations import Conversation, Conversations
from securechat.client.inbox import Inbox, OwnMessage
from securechat.client.outbox import Entry, Outbox
from securechat.client.people import IdentityChanged, People, pins_from
from securechat.client.profile import ClientDir
from securechat.client.protocol import ChatClientProtocol, LinkLost
from securechat.client.store import CannotKeep
from securechat.client.view import Answer, Failure, Item, Membership, Notice, Status, View
from securechat.crypto.envelope import seal
from securechat.crypto.trust import Pin, PinStore, TrustState
from securechat.errors import BAD_SESSION, Exit, InvalidKey, Refused, SecureChatError, WrongSecret
from securechat.link import ConnectLine
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.names import is_private

_MISSING_PAGES: Final = 100  # of history between two messages; what is beyond is counted, not shown
_LEAVE_SECONDS: Final = 1.0  # that whoever leaves waits for the server's answers
_SAVE_SECONDS: Final = 0.5  # what was shown is noted this long afterwards, many at once
_SEAL_IN_THREAD: Final = 8  # readers; each costs 0.1 ms


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
        self.exiting = False
        self.shown_identity: tuple[str, bytes] | None = None  # by the last /trust USER
        self._epoch = ""
        self._synced = False
        self._round = 0  # of catching up
        self._sync_waiters: list[Deferred[None]] = []
        self._unsaved: dict[str, Conversation] = {}
        self._saving: Any = None
        self._said_down = False
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
        self.view.status(Status(self.user, self.conversations.active, link, waiting))

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

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """The connection is back: resume, sync, resend."""
        if self.account is not None:
            self._own_task(self._come_back(self.account, protocol), "coming back")
        self._tell_status()

    async def _come_back(self, account: OpenAccount, protocol: ChatClientProtocol) -> None:
        try:
            await account.resume(protocol)
            assert self.people is not None
            self.people.meet_self(account.own, fresh=False)
            await self._sync()
        except LinkLost:
            return  # the link tries again
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
        if isinstance(event, m.StoredMessage):
            if self.inbox is not None:
                self.inbox.put(event)
        elif isinstance(event, m.RoomEvent):
            self._room_event(event)
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
            self.account.take_in(bundle)
            self.people.meet_self(self.account.own, fresh=False)
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
            self._take_up(account)
            await self._sync()
        except (Refused, InvalidKey, CannotKeep):
            await self.leave_account()
            raise

    def _take_up(self, account: OpenAccount) -> None:
        records = account.records
        self.people = People(
            account.profile.srv,
            PinStore(pins_from(records.get("pin", {})), self._save_pin),
            fetch=self._fetch_keys,
            say=self._say_of_people,
            now_ms=self.now_ms,
        )
        counters = {where: int(last) for where, last in records.get("counter", {}).items()}
        self.outbox = Outbox(self, self.reactor, counters)
        self.outbox.restore(dict(records.get("outbox", {})))
        self.inbox = Inbox(self, self.run, account.keys.by_kid())
        self._epoch = str(records.get("meta", {}).get("epoch", ""))
        self.conversations = Conversations()
        for room, cursor in records.get("cursor", {}).items():
            self.conversations.ensure(room).cursor = int(cursor)
        self.people.meet_self(account.own, fresh=account.fresh)

    def _stop_talk(self) -> None:
        """Nothing is shown or sent any more; what waits is on disk."""
        if self.inbox is not None:
            self.inbox.stop()
        if self.outbox is not None:
            self.outbox.stop()

    async def _sync(self) -> None:
        """Brings every conversation up to date, then lets the outbox go on."""
        self._end_sync()
        since = {conversation.room: conversation.cursor for conversation in self.conversations if conversation.cursor}
        for conversation in self.conversations:
            conversation.live = False
        epoch = self._epoch or None
        reply = await self.request(m.Sync(epoch=epoch, since=since))
        present = set()
        for state in reply.conversations:
            present.add(state.room)
            self._take_state(state, known=state.room in since)
        for conversation in self.conversations:
            if conversation.room not in present:
                self._lose(conversation)
        if reply.epoch != self._epoch:
            self._epoch = reply.epoch
            await self.keep([("meta", "epoch", reply.epoch)], [])
        waiter: Deferred[None] = Deferred()
        self._sync_waiters.append(waiter)
        self._check_synced()
        await waiter

    def _end_sync(self) -> None:
        """What was caught up counts no more, nor does what is still to be shown of it."""
        self._synced = False
        self._round += 1

    def _take_state(self, state: m.ConversationState, *, known: bool) -> None:
        conversation = self.conversations.ensure(state.room, None if state.peer is UNSET else state.peer)
        conversation.head = max(conversation.head, state.head) if not state.reset else state.head
        conversation.members = conversation.members if conversation.members_head == state.head else None
        conversation.first = state.first
        if state.reset or not known:
            conversation.cursor = state.read
        if state.reset:
            self.notice(
                "The server's history is not the one this client knew (was a backup restored?): it is read again.",
                conversation.title,
            )

    def _lose(self, conversation: Conversation) -> None:
        """Not in it any more, without having typed /leave: what is typed next must not go elsewhere by itself."""
        if self.conversations.lose(conversation.room):
            self.notice(f"You are no longer in {conversation.room}. No room is active: /switch ROOM.")
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
            self._synced = True
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
        own = event.user == self.user
        if event.type == "joined" and event.head is not UNSET:
            if own and conversation is None:
                # Another device of this account joined; what comes now is for this one too.
                conversation = self.conversations.ensure(event.room)
                conversation.live = True
                conversation.first = conversation.cursor = 0 if event.first is UNSET else event.first
            if conversation is None:
                return
            version = 0
            if event.keys is not UNSET and self.people is not None and not own:
                self.people.take_in({event.user: event.keys}, quietly=True)  # that they joined is said
                known = self.people.known(event.user)
                version = 0 if known is None else known.version
            conversation.joined(event.user, event.head, version)
        elif event.type == "left" and conversation is not None and event.head is not UNSET:
            conversation.left(event.user, event.head)
            if own:
                self._lose(conversation)
                self._check_synced()  # it may have been the last one that was waited for
        elif conversation is not None:
            (conversation.online.add if event.type == "online" else conversation.online.discard)(event.user)
            return  # shown by /who; a line for each would bury the talk
        if self.inbox is not None and event.type in ("joined", "left"):
            self.inbox.put(lambda: self.show(Membership(event.room, event.user, event.type)))

    async def members_of(self, conversation: Conversation) -> Mapping[str, int]:
        """The present members of a room, with the versions of their device lists. Raises Refused, LinkLost."""
        known = conversation.present_members()
        if known is not None:
            return known
        room = conversation.room
        reply = await self.request(m.Members(room=room))
        conversation.members = {member.user: member.version for member in reply.members}
        conversation.online = {member.user for member in reply.members if member.online}
        conversation.members_head = reply.head
        conversation.head = max(conversation.head, reply.head)
        return conversation.members

    async def prepare(self, conversation: Conversation) -> None:
        """Gets members and keys of a room, so that the first message leaves at once; says whose identity changed."""
        with contextlib.suppress(IdentityChanged, InvalidKey):  # both were said; sending says it again
            await self._readers(conversation)

    async def _readers(self, conversation: Conversation) -> dict[str, Any]:
        assert self.people is not None and self.account is not None
        members = await self.members_of(conversation)
        others = [user for user in members if user != self.user]
        older = [user for user in others if (known := self.people.known(user)) and known.version < members[user]]
        self.people.forget(older)
        readers = await self.people.keys_of(others)
        readers[self.user] = self.account.own
        return readers

    # --- outbox.Host ------------------------------------------------------------------------------------------------

    def can_send(self, where: str) -> bool:
        """Whether there is a connection that has caught up."""
        return self._synced and self.link is not None and self.link.protocol is not None

    async def seal(self, where: str, text: str) -> tuple[m.Package, int]:
        """Seals for the present members of a room, or for one person and oneself."""
        assert self.people is not None and self.account is not None
        head = 0
        if where.startswith("@"):
            user = where[1:]
            if self.people.known(user) is None:
                await slash.meet(self, user)
            readers = dict(await self.people.keys_of([user]))
            readers[self.user] = self.account.own
        else:
            conversation = self.conversations.get(where)
            if conversation is None:
                raise LinkLost("the room is not there yet") if not self._synced else slash.not_in(where)
            readers = await self._readers(conversation)
            head = conversation.members_head
        if len(readers) > _SEAL_IN_THREAD:
            sealed = await self.run(seal, text, list(readers.values()))
        else:
            sealed = seal(text, readers.values())
        package = m.Package(
            encrypted_message=sealed.encrypted_message,
            encrypted_keys=dict(sealed.encrypted_keys),
            kids=dict(sealed.kids),
        )
        return package, head

    async def transmit(self, entry: Entry) -> m.SendOk:
        """Sends one sealed message."""
        package = entry.package
        assert package is not None
        if entry.where.startswith("@"):
            user = entry.where[1:]
            reply = await self.request(m.Pm(user=user, mid=entry.mid, ctr=entry.ctr, package=package))
        else:
            reply = await self.request(
                m.Send(room=entry.where, mid=entry.mid, ctr=entry.ctr, head=entry.head, package=package)
            )
        ok: m.SendOk = reply
        return ok

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """Writes records of the account."""
        if self.account is not None:
            await self.account.store.write(puts, deletes)

    def sent(self, entry: Entry, reply: m.SendOk) -> None:
        """A message is stored: it is shown in its place among the others."""
        peer = entry.where[1:] if entry.where.startswith("@") else None
        if peer is not None and self.conversations.get(reply.room) is None:
            self.conversations.ensure(reply.room, peer).live = True
        if self.inbox is not None:
            self.inbox.put(OwnMessage(reply.room, peer, reply.seq, entry.text))
        self._tell_status()

    def stale(self, where: str, users: tuple[str, ...]) -> None:
        """Members or keys are to be asked for again."""
        conversation = self.conversations.get(where)
        if conversation is not None:
            conversation.members = None
            conversation.members_head = -1
        if self.people is not None:
            named = users or ((where[1:],) if where.startswith("@") else ())
            self.people.forget(named)

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """A message was refused, or waits for its author's word."""
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.UNTRUSTED)
        fate = "" if waits else f" Not sent: {entry.text[:60]}"
        self.show(Failure(f"{error}{fate}", status))
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
            conversation.live = True
        return conversation

    def shown(self, conversation: Conversation) -> None:
        """A cursor moved; it is noted a little later, with others."""
        self._unsaved[conversation.room] = conversation
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
        read = {room: conversation.cursor for room, conversation in unsaved.items()}
        if read:
            await self.keep([("cursor", room, seq) for room, seq in read.items()], [])
        return read

    async def _tell_read(self, read: Mapping[str, int]) -> None:
        for room, seq in read.items():
            with contextlib.suppress(LinkLost, Refused):  # the marker moves with the next message
                await self.request(m.Read(room=room, seq=seq))

    def own_came_back(self, mid: str) -> None:
        """A message of this account is in the history: if it waited here, it is done."""
        entry = None if self.outbox is None else self.outbox.seen(mid)
        if entry is not None and self.inbox is not None:
            self.inbox.put(lambda: entry.settle(Exit.OK))

    def mark_of(self, user: str) -> str:
        """ "changed" beside the name of somebody whose identity did."""
        if self.people is not None and self.people.state(user) is TrustState.CHANGED:
            return "identity changed"
        return ""

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places."""
        found: list[m.StoredMessage] = []
        for _ in range(_MISSING_PAGES):
            at = after
            page = await self.request(m.History(room=room, after=at, limit=limits.HISTORY_MAX))
            found += [message for message in page.messages if message.seq < before]
            after = max([at, *(message.seq for message in page.messages)])
            if not page.more or not at < after < before - 1:
                break
        return found

    # --- people -----------------------------------------------------------------------------------------------------

    async def _fetch_keys(self, users: tuple[str, ...]) -> m.KeysOk:
        reply: m.KeysOk = await self.request(m.Keys(users=users))
        return reply

    def _save_pin(self, user: str, pin: Pin) -> None:
        self._own_task(self.keep([("pin", user, pin.to_fields())], []), "keeping a pin")

    def _say_of_people(self, text: str) -> None:
        self.notice(text)
