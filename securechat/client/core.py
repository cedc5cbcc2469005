"""`ChatCore`: the client without a screen: link, account, conversations, and what happens when the server speaks.

Typed commands are carried out by `slash`; views show what `view.Item` says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import UNSET
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from securechat.client import commands, localfirst, slash
from securechat.client.accounts import KeyForge, KeysOutOfReach, OpenAccount, Stranded, Workshop, WrongPassword
from securechat.client.archive import Archive
from securechat.client.attention import Attention
from securechat.client.catchup import CatchUp
from securechat.client.checkup import Signs
from securechat.client.company import Company
from securechat.client.connection import ChangedServer, ServerLink
from securechat.client.conversations import Conversation, Conversations
from securechat.client.desk import Desk
from securechat.client.drafts import Drafts
from securechat.client.healing import Healing
from securechat.client.inbox import Inbox, OwnMessage
from securechat.client.lobby import Lobby
from securechat.client.notes import Notes
from securechat.client.outbox import Entry, Outbox, Sealed, Turn, watched
from securechat.client.people import People, pins_from
from securechat.client.post import Post
from securechat.client.preferences import Preferences
from securechat.client.profile import ClientDir
from securechat.client.protocol import ChatClientProtocol, LinkLost
from securechat.client.roombook import RoomBook
from securechat.client.scrollback import Scrollback
from securechat.client.store import CannotKeep, Records
from securechat.client.telling import calls_in, searched
from securechat.client.timeline import Kept, Taken
from securechat.client.view import Answer, Failure, Item, Notice, Status, View
from securechat.crypto.envelope import Examined
from securechat.crypto.identity import private_conversation
from securechat.crypto.primitives import b64
from securechat.crypto.reading import Found
from securechat.crypto.roomlog import SignedEvent
from securechat.crypto.trust import Pin, PinStore, TrustState, identity_hash
from securechat.errors import (
    BAD_HEADER,
    BAD_SESSION,
    PATIENCE,
    Exit,
    InvalidKey,
    Refused,
    SecureChatError,
    WrongSecret,
)
from securechat.link import ConnectLine
from securechat.wire import messages as m
from securechat.wire.names import is_private

_LEAVE_SECONDS: Final = 1.0  # that whoever leaves waits for the server's answers
_QUESTIONS: Final = 5  # how often one is asked of a server that asks for patience
_SAVE_SECONDS: Final = 0.5  # what was shown is noted this long afterwards, many at once


class ChatCore:
    """One client: what is behind every view.

    Args:
        run: calls a function in a thread.
        timeout: seconds a script waits for one acknowledgement.
        make_link: how to reach the server; tests give their own.
        clock: seconds since 1970.
        preferences: what its user has chosen; None: nothing yet, and nothing is kept of it.
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
        preferences: Preferences | None = None,
    ) -> None:
        self.directory = directory
        self.line = line
        self.view = view
        self.reactor = reactor
        self.run = run
        self.timeout = timeout
        self.clock = clock
        self._make_link = make_link
        self.preferences = preferences or Preferences()
        self.forge = KeyForge(run)
        self.shop = Workshop(directory, reactor, run, self.forge, self.now_ms, self._ask_code)
        self.link: ServerLink | None = None
        self.account: OpenAccount | None = None
        self.stranded: Stranded | None = None
        self.conversations = Conversations()
        self.people: People | None = None
        self.outbox: Outbox | None = None
        self.inbox: Inbox | None = None
        self.book = RoomBook("", self, run)
        self.catchup = CatchUp(self)
        self.lobby = Lobby(self)
        self.attention = Attention(self)
        self.company = Company(self)
        self.drafts = Drafts(self)
        self.scrollback = Scrollback(self)
        self.notes: Notes | None = None
        self.archive: Archive | None = None
        self.found: list[tuple[str, int]] = []  # what the last /search listed: conversation and number
        self.healing = Healing(self)
        self.signs = Signs()
        self._post = Post(self)
        self._desk = Desk(self)
        self.exiting = False
        self.commanded = False  # whether a command was typed: then its user knows what to do
        self._before: Deferred[None] | None = None  # what is typed waits for that
        self.shown_identity: tuple[str, bytes] | None = None  # by the last /trust USER
        self.listed_links: Sequence[str] = ()  # by the last /links
        self._unsaved: dict[Conversation, set[str]] = {}  # with the devices whose chains moved
        self._saving: Any = None
        self._said_down = False
        self._work = ""
        self._begun: Deferred[Exit] | None = None
        self.retry_at = 0.0
        self._login_at = 0.0  # no first login is asked for before
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

    @property
    def synced(self) -> bool:
        """Whether everything that was missed has been shown."""
        return self.catchup.synced

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
            link = self._link_state()
        waiting = 0 if self.outbox is None else len(self.outbox.pending())
        active, rooms = self.conversations.active, self.attention.states()
        typing = self.company.who(active)
        self.view.status(Status(self.user, active, link, waiting, self._work, self.retry_at, rooms, typing))

    def _link_state(self) -> str:
        if self.link is None or (self.link.protocol is None and self.retry_at):
            return "offline"
        logging_in = self.account is not None and not self.account.logged_in
        return "connecting" if self.link.protocol is None or logging_in else "online"

    def status_changed(self) -> None:
        """The active room or the number of waiting messages may be another."""
        self._tell_status()

    def go(self, title: str) -> None:
        """Makes a conversation the active one, and brings its newest messages into memory."""
        self.conversations.activate(title)
        self.status_changed()
        self.own_task(self._open(title), "opening a conversation")

    async def _open(self, title: str) -> None:
        conversation = self.conversations.titled(title)
        if conversation is not None:
            await self.scrollback.fill(conversation)
        if self.conversations.active == title:
            self.view.opened(title)
            with contextlib.suppress(CannotKeep):  # then the next start begins elsewhere
                await self.keep([("meta", "active", title)], [])
        if conversation is not None:
            await self.company.look(conversation)

    @property
    def shares_presence(self) -> bool:
        """Whether others may be told that this client is there, and it is told of them."""
        return self.preferences.on("presence")

    @property
    def wants_typing(self) -> bool:
        """Whether it is told who types."""
        return self.preferences.on("typing")

    def share_anew(self) -> None:
        """What is shared of its user's presence changed: the server hears it with the next `sync`, which is now."""
        if self.catchup.synced:
            self.own_task(self._share_anew(), "telling what is shared")

    async def _share_anew(self) -> None:
        with contextlib.suppress(LinkLost, Refused):  # then with the next connection
            await self.catchup.tell_wishes()
            await self._look_around()

    async def _look_around(self) -> None:
        conversation = self.conversations.titled(self.conversations.active)
        if conversation is not None:
            await self.company.look(conversation)

    async def _ask_code(self) -> str | None:
        return await self.view.ask_secret("Recovery code: ")

    def own_task(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Starts work that nobody waits for; a fault in it is logged, never lost."""
        task = Deferred.fromCoroutine(work)
        task.addErrback(lambda failure: self.log.failure("{what} failed", failure=failure, what=what))

    # --- what a view calls (view.Client) ----------------------------------------------------------------------------

    def begin(self, user: str, password: str | None = None) -> None:
        """Logs in before the first typed line has its turn; without a password the view is asked for it."""
        self._begun = Deferred.fromCoroutine(self.log_in(user, password))
        self._begun.addErrback(self._broke_off)

    def _broke_off(self, failure: Any) -> Exit:
        self.log.failure("the first login broke off", failure=failure)
        return Exit.FIXABLE

    async def log_in(self, user: str, password: str | None = None) -> Exit:
        """As /login."""
        login = commands.find("login")
        assert login is not None
        typed = commands.Typed(login, (user,) if password is None else (user, password))
        return await self.attempt(slash.run(self, typed))

    async def _beginning(self) -> Exit:
        """What became of `begin`: a script has nothing to do without it, a person may try again."""
        if self._begun is None:
            return Exit.OK
        status = await watched(self._begun)
        if status is Exit.OK or self.view.interactive:
            self._begun = None
            return Exit.OK
        return status

    async def submit(self, line: str) -> Exit:
        """Runs one typed line; every error is shown, none is raised."""
        if status := await self._beginning():
            return status
        self.commanded = self.commanded or isinstance(commands.parse(line, self.preferences.aliases), commands.Typed)
        if self._before is not None:
            await self._before
        return await self._run_line(line)

    async def submit_first(self, line: str) -> Exit:
        """Runs a command that was typed instead of an answer: what is typed from now on comes after it."""
        before: Deferred[None] = Deferred()
        self._before = before
        try:
            return await self._run_line(line)
        finally:
            self._before = None
            before.callback(None)

    async def _run_line(self, line: str) -> Exit:
        typed = commands.parse(line, self.preferences.aliases)
        if typed is None:
            return Exit.OK
        if isinstance(typed, commands.Misfit):
            self.show(Failure(typed.problem, Exit.USAGE))
            return Exit.USAGE
        return await self.attempt(slash.run(self, typed))

    async def attempt(self, work: Coroutine[Any, Any, Exit | None]) -> Exit:
        """Does what somebody asked for; what goes wrong is shown, and a login that failed leaves nothing half open."""
        try:
            return await work or Exit.OK
        except OSError as error:  # a full disk, a directory that is not ours
            await self._leave_half_open()
            self.show(Failure(f"This machine does not let it be done: {error.strerror} ({error.filename})."))
            return Exit.FIXABLE
        except SecureChatError as error:
            await self._leave_half_open()
            return self.fail(error)

    def fail(self, error: SecureChatError) -> Exit:
        """Shows why something is not done; the status that says so."""
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.FIXABLE)
        if isinstance(error, LinkLost):
            status = Exit.NETWORK
        self.show(Failure(_sentence(error), status, _code(error)))
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
        status = await self._beginning() if timeout and not self.view.interactive else Exit.OK
        if self.outbox is not None and self.outbox.moving():
            waiting = self.outbox.idle().addTimeout(min(timeout, self.timeout), self.reactor)
            with contextlib.suppress(TimeoutError):
                await waiting
            left = self.outbox.moving()
            if left:
                status = Exit.NETWORK
                texts = "; ".join(f"to {entry.where}: {entry.words[:40]}" for entry in left[:5])
                self.show(Failure(f"Not acknowledged by the server, kept for the next time: {texts}", status))
        await self.leave_account()
        return status

    async def leave_account(self, stranded: Stranded | None = None) -> None:
        """Closes the account and the connection; what waits in the outbox stays on disk.

        Args:
            stranded: the login that stands, without the keys: then the connection stays, too.
        """
        account, link = self.account, self.link
        await self._last_words()
        if self.account is not account or self.link is not link:
            return  # somebody else left it meanwhile
        self._stop_talk()
        if self.outbox is not None:
            for entry in self.outbox.pending():
                entry.settle(Exit.NETWORK)
        self.account = self.people = self.outbox = self.inbox = self.shown_identity = None
        self.stranded, self.conversations = stranded, Conversations()
        if stranded is None:
            self.link, self.retry_at = None, 0.0
        self.notes = self.archive = None
        self.found = []
        self.listed_links = ()
        self.healing = Healing(self)
        self._forget_account(account)
        if link is not None and stranded is None:
            await link.stop()

    def _forget_account(self, account: OpenAccount | None) -> None:
        self._unsaved = {}
        if self._saving is not None and self._saving.active():
            self._saving.cancel()
        self._saving = None
        self.catchup.give_up()
        if account is not None:
            account.close()
        self._tell_status()

    async def _last_words(self) -> None:
        """Shows and notes what came. Neither a server that stands still nor a full disk keeps anybody from leaving."""
        online = self.link is not None and self.link.protocol is not None
        if self.inbox is not None and online:
            await self._briefly(self.inbox.shown())
        if self.notes is not None:
            await self._briefly(Deferred.fromCoroutine(self._last_notes(self.notes, online=online and self.synced)))
        with contextlib.suppress(CannotKeep):
            read = await self._keep_shown()
            if online:
                await self._briefly(Deferred.fromCoroutine(self._tell_read(read)))

    async def _last_notes(self, notes: Notes, *, online: bool) -> None:
        with contextlib.suppress(CannotKeep):
            await notes.settle(online=online)

    async def _briefly(self, work: Deferred[None]) -> None:
        with contextlib.suppress(TimeoutError):
            await work.addTimeout(_LEAVE_SECONDS, self.reactor)

    async def put_down(self) -> None:
        """The account is about to be opened anew, with other keys: notes what was shown, and shows nothing more."""
        if self.notes is not None:
            await self._last_notes(self.notes, online=False)
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
        self.signs.up(self.clock())
        self._tell_status()
        return protocol

    async def request(self, request: m.Request) -> Any:
        """Asks the server. Raises Refused, LinkLost."""
        protocol = self.link.protocol if self.link is not None else None
        if protocol is None or (self.account is not None and not self.account.logged_in):
            raise LinkLost(
                "there is no connection to the server right now. It is tried by itself: type this again then"
            )
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
                if refusal.code not in PATIENCE:
                    raise
                if not left:
                    self.give_up_link(str(refusal))
                    raise LinkLost(str(refusal)) from None
                await deferLater(self.reactor, float(refusal.data.get("retry_after", 1.0)))
        raise AssertionError("the last question is answered or given up")

    def give_up_link(self, why: str) -> None:
        """The connection is left and tried again: what could not be taken in comes once more."""
        if self.link is not None and self.link.protocol is not None:
            self.link.protocol.give_up(why)

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """The connection is back: resume, sync, resend."""
        self.signs.up(self.clock())
        self.retry_at = 0.0
        if self.account is not None:
            self.own_task(self._come_back(self.account, protocol), "coming back")
        self._tell_status()

    async def _come_back(self, account: OpenAccount, protocol: ChatClientProtocol) -> None:
        first = not account.logged_in
        try:
            if first:
                await self._turn_to_log_in(protocol)
                await localfirst.log_in(self, account, protocol)
            else:
                own = await account.resume(protocol)
                assert self.people is not None
                self.people.meet_self(own, fresh=False)
                account.own = own
            if self.account is account:  # else it was taken up anew, as another device
                self._tell_status()
                await self.keep_own()
                await self.catchup.run()
                if first:
                    self.healing.keys_came()
                    self.healing.updated()
                self.healing.given_again()
        except LinkLost:
            return  # the link tries again
        except CannotKeep as error:
            self.show(Failure(str(error)))
            protocol.give_up(str(error))  # it is tried again by itself; until then nothing is sent unnoted
            return
        except (Refused, InvalidKey, WrongPassword, KeysOutOfReach, localfirst.NotTakenUp) as error:
            passing = isinstance(error, Refused) and error.code.exit in (Exit.NETWORK, Exit.RATE_LIMITED)
            if passing and self.account is not None:
                if isinstance(error, Refused) and not account.logged_in:
                    self._put_off(error)
                protocol.give_up(str(error))  # a server that is not up to it yet: the link tries again
                return
            ended = first or (isinstance(error, Refused) and error.code is BAD_SESSION)
            text = f"{_sentence(error)} What you wrote is kept." if ended else _sentence(error)
            self.show(Failure(text, Exit.LOGIN_REFUSED))
            await self.leave_account(error.stranded if isinstance(error, KeysOutOfReach) else None)
            return
        if self.link is not None and self.link.protocol is protocol:  # else it broke again before all had come
            self.notice(f"Logged in as {self.user}." if first else "Connected again.")
            self._said_down = False
            self._share_notes()

    def _put_off(self, refusal: Refused) -> None:
        """The server puts off a first login: it is tried again no sooner than it says, or it would be in vain."""
        self._login_at = self.clock() + float(refusal.data.get("retry_after", 1.0))
        if not self._said_down:
            self._said_down = True
            self.notice(f"Not logged in yet: {refusal} It is tried again by itself; what you type is kept.")

    async def _turn_to_log_in(self, protocol: ChatClientProtocol) -> None:
        """Until the server may be asked for a first login. Raises LinkLost."""
        if (wait := self._login_at - self.clock()) > 0:
            await deferLater(self.reactor, wait)
        if self.link is None or self.link.protocol is not protocol:
            raise LinkLost("the connection was lost meanwhile")

    def link_event(self, event: m.AnyEvent) -> None:
        """The server said something."""
        if self.lobby.holds(event):
            return
        if isinstance(event, m.StoredMessage):
            if self.synced:  # what was missed is older
                self.signs.heard(event.ts, self.now_ms())
            if self.inbox is not None:
                self.inbox.put(event)
        elif isinstance(event, m.RoomEvent):
            self.lobby.take_event(event)
        elif isinstance(event, m.PresenceEvent):
            self.lobby.presence(event)
        elif isinstance(event, m.InvitedEvent):
            self.own_task(self.lobby.invited(event.room), "looking at an invitation")
        elif isinstance(event, m.MemberEvent):
            if event.user == self.user:
                self._own_news(event.keys)
            elif self.people is not None:
                self.people.take_in({event.user: event.keys})
        elif isinstance(event, m.Live):
            self.catchup.live(event)
        elif isinstance(event, m.TypingEvent):
            self.company.heard(event)
        elif isinstance(event, m.NoteEvent):
            if self.notes is not None:
                self.notes.take(event.name, event.version, event.blob)
        elif isinstance(event, m.ReadEvent):
            conversation = self.conversations.get(event.room)
            if conversation is not None:
                self.attention.read_elsewhere(conversation, min(event.seq, conversation.cursor))

    def _own_news(self, bundle: m.KeyBundle) -> None:
        """Another device of this account published new keys."""
        assert self.account is not None and self.people is not None
        try:
            own = self.account.checked(bundle)
            self.people.meet_self(own, fresh=False)  # not before it stands this: nothing is sealed for an older list
            self.account.own = own
            self.own_task(self.keep_own(), "keeping one's own keys")
        except InvalidKey as error:
            self.show(Failure(f"The server sent keys as yours that are refused: {error}.", Exit.UNTRUSTED))

    def link_down(self, why: str, wait: float | None, *, news: bool = False) -> None:
        """The connection is gone, or an attempt failed."""
        if self.link is None:
            return  # by our own doing
        self.catchup.end()
        self.signs.down(self.clock(), why)
        if self.account is None:
            # Nobody is logged in, so nobody needs it: the next /login makes another.
            self.own_task(self.leave_account(), "leaving")
            return
        if wait is None:
            self.changed_server = self.link.judge.changed
            self.show(Failure(f"Disconnected: {why}", Exit.NETWORK))
            self.own_task(self.leave_account(), "leaving")
            return
        if news:
            self._said_down = True
            self.notice(f"{why.removesuffix('.')}. Connecting again.")
        elif not self._said_down:
            self._said_down = True
            lost = "The connection is lost" if self.account.logged_in else "There is no connection yet"
            self.notice(f"{lost}: {why.removesuffix('.')}. It is tried again; what you type is kept.")
        self.retry_at = self.clock() + wait if wait else 0.0
        self._tell_status("offline" if wait else "connecting")

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
            await self.keep_own()
            await self.catchup.run()
            self.healing.keys_came()
            self.healing.updated()
            self.healing.given_again()
        except (Refused, InvalidKey, CannotKeep):
            await self.leave_account()
            raise
        self._share_notes()

    def _share_notes(self) -> None:
        """What one's other devices noted is fetched, and what was noted here is told to them."""
        if self.notes is not None:
            self.own_task(self._fetch_notes(self.notes), "sharing notes")
        self.own_task(self._look_around(), "looking who is there")

    async def _fetch_notes(self, notes: Notes) -> None:
        with contextlib.suppress(LinkLost, Refused):  # with the next connection
            await notes.fetch()

    async def enter_here(self, account: OpenAccount) -> None:
        """An account was opened with what is on this machine: it is there at once, and logged in behind that.

        Raises:
            InvalidKey, CannotKeep: the account is closed again.
        """
        self.account, self._said_down, self._login_at = account, False, 0.0
        try:
            await self._take_up(account)
        except (InvalidKey, CannotKeep):
            await self.leave_account()
            raise
        if self.account is account:  # else it was left meanwhile
            self.link = self._make_link(self.reactor, self.line, self.directory, self, ask=None)
            self.link.begin(account.profile.srv)
            self._tell_status()

    async def keep_own(self) -> None:
        """Keeps the account's own keys as the server has them, for a start without it."""
        account = self.account
        if account is not None and account.kept_own != account.own.digest:
            account.kept_own = account.own.digest
            with contextlib.suppress(CannotKeep):  # the next start asks the server first, then
                await account.store.write([localfirst.record_of(account.own)])

    async def _take_up(self, account: OpenAccount) -> None:
        records = account.records
        self.attention, self.company = Attention(self), Company(self)
        self.archive = Archive(
            account.store,
            run=self.run,
            text_of=searched,
            mentions=partial(calls_in, user=account.user),
            cap=int(self.preferences["cache"]) * 2**20,
        )
        self.people = People(
            account.profile.srv,
            PinStore(pins_from(records.get("pin", {})), self._save_pin, records.get("expected", {})),
            fetch=self._fetch_keys,
            run=self.run,
            say=self._say_of_people,
            now_ms=self.now_ms,
            met=lambda user: self.healing.met(user),
        )
        self.healing = Healing(self)
        self.healing.load(records.get("lack", {}))
        self._desk = Desk(self)
        self.book = RoomBook(account.profile.srv, self, self.run)
        turns, waiting = await self._of_this_device(account)
        self.outbox = Outbox(self, self.reactor, {room: Turn.from_record(turn) for room, turn in turns.items()})
        self.outbox.restore(waiting)
        self.inbox = Inbox(self, self.run, account.keys.by_kid())
        self.catchup.epoch = str(records.get("meta", {}).get("epoch", ""))
        self.catchup.followed = int(records.get("meta", {}).get("followed", 0))
        self.people.meet_self(account.own, fresh=account.fresh)
        self.conversations = Conversations(records.get("name", {}), account.user)
        chains, logs = _by_conversation(records, "chain"), _by_conversation(records, "log")
        for id, record in records.get("conv", {}).items():
            conversation = Conversation(str(record["room"]), record["peer"], id)
            conversation.restore(record, chains.get(id, {}))
            if is_private(conversation.room):
                conversation.reader.pair = self._desk.pair(conversation)  # so that nobody gives it another peer
            else:
                await self.book.load(conversation, logs.get(id, {}))
            (self.conversations.add if conversation.here else self.conversations.remember)(conversation)
        apply = {
            "draft": self.drafts.take, "level": self.attention.take_level, "ignore": self.attention.take_ignored,
        }  # fmt: skip
        version = int(records.get("meta", {}).get("notes", 0))
        self.notes = Notes(self, apply, records.get("note", {}), version)

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
        if self.notes is not None:
            self.notes.stop()

    async def accepted(self, user: str, ik: bytes) -> None:
        """The owner's word about somebody's identity, for the backup."""
        await self.keep([("accepted", user, b64(ik))], [])

    def took_keys(self, *, made_here: bool = True) -> None:
        """The account has another RSA key: a newer one made here, or those of its backup."""
        if made_here and self.people is not None and self.account is not None:
            self.people.meet_self(self.account.own, fresh=True)
            self.own_task(self.keep_own(), "keeping one's own keys")
        if self.inbox is not None and self.account is not None:
            self.inbox.use(self.account.keys.by_kid())
            self.healing.keys_came()

    def progress(self, done: int, total: int) -> None:
        """How far a long job is."""
        self._work = f"{done} of {total}" if done < total else ""
        self._tell_status()

    async def prepare(self, conversation: Conversation) -> None:
        """Gets the keys of a room's members, so that the first message leaves at once; says whose identity changed."""
        await self._post.prepare(conversation)

    async def fetch_anew(self, users: Collection[str]) -> None:
        """Fetches the keys of all these, this account's own among them. Raises Refused, LinkLost."""
        if self.people is not None:
            await self.people.fetch([user for user in users if user != self.user])
        if self.user in users:
            await self.renew_own()

    async def renew_own(self) -> None:
        """Fetches this account's own keys: another device changed them. Raises Refused, LinkLost."""
        reply = await self._fetch_keys((self.user,))
        if self.user in reply.keys:
            self._own_news(reply.keys[self.user])

    # --- roombook.Host ----------------------------------------------------------------------------------------------

    def room_event(self, conversation: Conversation, signed: SignedEvent) -> None:
        """See `lobby.Lobby.room_event`."""
        self.lobby.room_event(conversation, signed)
        self.healing.log_grew(conversation)

    def log_fetched(self, conversation: Conversation) -> None:
        """See `lobby.Lobby.log_fetched`."""
        self.lobby.log_fetched(conversation)
        self.healing.log_grew(conversation)

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """See `lobby.Lobby.alarm`."""
        self.lobby.alarm(conversation, reason)

    # --- outbox.Host ------------------------------------------------------------------------------------------------

    def can_send(self) -> bool:
        """Whether there is a connection that has caught up."""
        return self.catchup.synced and self.link is not None and self.link.protocol is not None

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
        if not reply.dup:
            self.signs.heard(reply.ts, self.now_ms())
        if self.inbox is not None and sealed is not None and account is not None:
            # Where it went is what was signed, whatever the server says it stored.
            conversation = self.conversations.labelled(entry.where)
            if peer is not None:
                conversation = self._private(sealed.conversation, peer)
            if conversation is not None and conversation.id == sealed.conversation:
                events = reply.events if peer is None else 0
                own = OwnMessage(
                    conversation.room, peer, reply.seq, events, sealed.ctr, sealed.id, account.keys.dev, entry.text,
                    reply.ts,
                )  # fmt: skip
                self.inbox.put(own)
        self._tell_status()

    def not_sent(self, entry: Entry, error: Exception, *, waits: bool) -> None:
        """A message was refused, or waits for its author's word."""
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.UNTRUSTED)
        fate = "" if waits else f" Not sent: {entry.words}"
        text = str(error)
        if isinstance(error, InvalidKey):  # the others may start with a name
            text = f"{text[:1].upper()}{text[1:]}."
        self.show(Failure(f"{text}{fate}", status, _code(error)))
        where = entry.where
        known = self.with_peer(where[1:]) if where[0] == "@" else self.conversations.labelled(where)
        if isinstance(error, Refused) and error.code is BAD_HEADER and known is not None:
            self.alarm(known, "the server does not know the history that it gave you")
        self._tell_status()

    def with_peer(self, user: str) -> Conversation | None:
        """The private conversation with somebody as they are known now; else the newest there is under their name."""
        ik = None if self.people is None else self.people.identity(user)
        if self.account is not None and ik is not None:
            known = self.conversations.get(private_conversation(self.account.own.ik, ik))
            if known is not None and known.peer == user:
                return known
        return self.conversations.with_peer(user)

    def delayed(self, entry: Entry, error: Refused) -> None:
        """The server asks for patience."""
        self.notice(f"Not sent yet: {error} It is tried again by itself.", entry.where)

    # --- inbox.Host -------------------------------------------------------------------------------------------------

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """The conversation of a message; a private one starts with its first message."""
        conversation = self.conversations.get(message.room)
        if conversation is None and is_private(message.room) and message.to is not UNSET:
            peer = message.to if message.sender == self.user else message.sender
            conversation = self._private(message.room, peer)
        return conversation

    def _private(self, room: str, peer: str) -> Conversation:
        """A private conversation, begun now if there was none: nothing of it is missed then."""
        begun = self.conversations.get(room) is None
        conversation = self.conversations.ensure(room, peer)
        conversation.live = conversation.live or begun
        return conversation

    def shown(self, conversation: Conversation, device: str = "") -> None:
        """A cursor moved, and that device's chain; it is noted a little later, with others."""
        self._unsaved.setdefault(conversation, set()).update(filter(None, [device]))
        if self._saving is None:
            self._saving = self.reactor.callLater(_SAVE_SECONDS, self._save_now)

    def _save_now(self) -> None:
        self._saving = None
        self.own_task(self.save(), "noting what was shown")

    async def save(self) -> None:
        """Notes what was shown, here and at the server."""
        await self._tell_read(await self._keep_shown())

    async def _keep_shown(self) -> dict[str, int]:
        if self.archive is None:
            return await self._keep_cursors([], [])
        async with self.archive.unsaved() as batch:
            return await self._keep_cursors(batch.puts, batch.deletes)

    async def _keep_cursors(self, pages: Sequence[Any], gone: Sequence[tuple[str, str]]) -> dict[str, int]:
        """What was shown, in one transaction with the messages themselves: no cursor is beyond what is kept."""
        unsaved, self._unsaved = self._unsaved, {}
        counts = {conversation: len(conversation.events) for conversation in unsaved}
        puts: list[tuple[str, str, Any]] = []
        for conversation, devices in unsaved.items():
            puts.append(("conv", conversation.id, conversation.record()))
            puts += self.book.unsaved(conversation)
            puts += self.healing.unsaved(conversation)
            chains = conversation.reader.chains
            puts += [("chain", f"{conversation.id} {dev}", chains[dev].to_fields()) for dev in devices & chains.keys()]
        try:
            if puts or pages or gone:
                await self.keep([*puts, *pages], list(gone))
        except CannotKeep:
            for conversation, devices in unsaved.items():
                self._unsaved.setdefault(conversation, set()).update(devices)
                self.healing.unkept(conversation)
            raise
        for conversation, count in counts.items():
            self.book.saved(conversation, count)
        moved = [conversation for conversation in unsaved if conversation.read_to > conversation.read]
        for conversation in moved:
            conversation.read = conversation.read_to
        return {conversation.room: conversation.read_to for conversation in moved}

    async def _tell_read(self, read: Mapping[str, int]) -> None:
        for room, seq in read.items():
            with contextlib.suppress(LinkLost, Refused):  # the marker moves with the next message
                await self.request(m.Read(room=room, seq=seq))

    def archived(self, conversation: Conversation, kept: Kept) -> None:
        """A message is to be kept on this machine; it is written with the cursor, a little later."""
        if self.archive is not None:
            self.archive.put(conversation.id, kept)
            self.shown(conversation)

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

    def author_hash(self, user: str, device: str) -> str:
        """A short hash of the identity behind a device; "" where that is not known."""
        known = None if self.people is None else self.people.device(user, device)
        return "" if known is None else identity_hash(known.ik)[:16]

    def took(self, conversation: Conversation, taken: Taken) -> bool:
        """See `attention.Attention.took`."""
        self.healing.took(conversation, [taken])
        return self.attention.took(conversation, taken)

    def read_back(self, conversation: Conversation, taken: Sequence[Taken]) -> None:
        """Messages of a history were taken in: they are kept."""
        self.healing.took(conversation, taken)
        self.attention.keep(conversation, taken)

    def hid(self, conversation: Conversation, examined: Examined, found: Found) -> None:
        """See `healing.Healing.hid`."""
        self.healing.hid(conversation, examined, found)

    def not_given(self, conversation: Conversation, first: int, count: int) -> None:
        """See `healing.Healing.not_given`."""
        self.healing.not_given(conversation, first, count)

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places."""
        return await self._desk.missing(room, after, before)

    async def prepare_reading(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
        """See `desk.Desk.prepare`."""
        await self._desk.prepare(conversation, messages)

    async def prepare_audiences(
        self, conversation: Conversation, examined: Sequence[Examined], *, anew: bool = False
    ) -> None:
        """See `desk.Desk.audiences`."""
        await self._desk.audiences(conversation, examined, anew=anew)

    # --- people -----------------------------------------------------------------------------------------------------

    async def _fetch_keys(self, users: tuple[str, ...]) -> m.KeysOk:
        reply: m.KeysOk = await self.ask(m.Keys(users=users))
        return reply

    def _save_pin(self, user: str, pin: Pin) -> None:
        self.own_task(self.keep([("pin", user, pin.to_fields())], []), "keeping a pin")

    def _say_of_people(self, text: str) -> None:
        self.notice(text)


def _sentence(error: Exception) -> str:
    """What an error says, with a capital; those that may start with a name stay as they are."""
    text = str(error)
    return text[:1].upper() + text[1:] if isinstance(error, (LinkLost, InvalidKey, WrongSecret)) else text


def _code(error: Exception) -> str:
    """The wire code of an error; "" where it has none."""
    return error.code.name if isinstance(error, Refused) else ""


def _by_conversation(records: Records, kind: str) -> dict[str, dict[str, Any]]:
    """Records that are filed as a conversation's id and a rest: by id, then by the rest."""
    found: dict[str, dict[str, Any]] = {}
    for name, record in records.get(kind, {}).items():
        id, _, rest = name.partition(" ")
        found.setdefault(id, {})[rest] = record
    return found
