"""`ChatCore`: the client without a screen. It holds the parts together: link, account, conversations, what waits.

What they do is each part's own: `online` has the connection, `stay` an account that comes and goes, `orders` what is
typed, which `slash` carries out; views show what `view.Item` says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from securechat.client import ownkeys, stay
from securechat.client.archive import Archive
from securechat.client.attention import Attention
from securechat.client.catchup import CatchUp
from securechat.client.checkup import Signs
from securechat.client.company import Company
from securechat.client.connection import ServerLink
from securechat.client.conversations import Conversation, Conversations
from securechat.client.desk import Desk
from securechat.client.drafts import Drafts
from securechat.client.healing import Healing
from securechat.client.inbox import Inbox
from securechat.client.lobby import Lobby
from securechat.client.notes import Notes
from securechat.client.online import Online
from securechat.client.openaccount import OpenAccount, Stranded
from securechat.client.orders import Orders
from securechat.client.outbox import Outbox
from securechat.client.people import People
from securechat.client.post import Post
from securechat.client.preferences import Preferences
from securechat.client.profile import ClientDir
from securechat.client.protocol import LinkLost
from securechat.client.roombook import RoomBook
from securechat.client.saving import Saving
from securechat.client.scrollback import Scrollback
from securechat.client.store import CannotKeep
from securechat.client.view import Answer, Failure, Item, Notice, Status, View
from securechat.client.workshop import KeyForge, Workshop
from securechat.crypto.identity import private_conversation
from securechat.errors import PATIENCE, Exit, Refused
from securechat.link import ConnectLine
from securechat.wire import messages as m

_QUESTIONS: Final = 5  # how often one is asked of a server that asks for patience


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
        self.online = Online(self, make_link)
        self.orders = Orders(self)
        self.saving = Saving(self)
        self.catchup = CatchUp(self)
        self.lobby = Lobby(self)
        self.book = RoomBook("", self, self.lobby, run)
        self.attention = Attention(self)
        self.company = Company(self)
        self.drafts = Drafts(self)
        self.scrollback = Scrollback(self)
        self.notes: Notes | None = None
        self.archive: Archive | None = None
        self.found: list[tuple[str, int]] = []  # what the last /search listed: conversation and number
        self.healing = Healing(self)
        self.signs = Signs()
        self.post = Post(self)
        self.desk = Desk(self)
        self.exiting = False
        self.shown_identity: tuple[str, bytes] | None = None  # by the last /trust USER
        self.listed_links: Sequence[str] = ()  # by the last /links
        self._work = ""

    def start(self) -> None:
        """Says hello; starts making keys where they will be needed."""
        self.directory.prepare()
        if not self.directory.any_account():
            self.forge.start()
        self.status_changed()

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

    def status_changed(self, link: str | None = None) -> None:
        """What a view's status says may be another: the active room, what waits, the connection.

        Args:
            link: "offline", "connecting" or "online"; None: as it looks.
        """
        waiting = 0 if self.outbox is None else len(self.outbox.pending())
        active, rooms = self.conversations.active, self.attention.states()
        typing, link = self.company.who(active), link or self.online.state()
        self.view.status(Status(self.user, active, link, waiting, self._work, self.online.retry_at, rooms, typing))

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

    async def _ask_code(self) -> str | None:
        return await self.view.ask_secret("Recovery code: ")

    def own_task(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Starts work that nobody waits for; a fault in it is logged, never lost."""
        task = Deferred.fromCoroutine(work)
        task.addErrback(lambda failure: self.log.failure("{what} failed", failure=failure, what=what))

    async def close(self, timeout: float) -> Exit:
        """Waits for the outbox, then leaves; says what was not acknowledged."""
        status = await self.orders.beginning() if timeout and not self.view.interactive else Exit.OK
        if self.outbox is not None and self.outbox.moving():
            waiting = self.outbox.idle().addTimeout(min(timeout, self.timeout), self.reactor)
            with contextlib.suppress(TimeoutError):
                await waiting
            left = self.outbox.moving()
            if left:
                status = Exit.NETWORK
                texts = "; ".join(f"to {entry.where}: {entry.words[:40]}" for entry in left[:5])
                self.show(Failure(f"Not acknowledged by the server, kept for the next time: {texts}", status))
        await stay.leave(self)
        return status

    # --- the server, and the disk -------------------------------------------------------------------------------------

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

    def progress(self, done: int, total: int) -> None:
        """How far a long job is."""
        self._work = f"{done} of {total}" if done < total else ""
        self.status_changed()

    async def fetch_anew(self, users: Collection[str]) -> None:
        """Fetches the keys of all these, this account's own among them. Raises Refused, LinkLost."""
        if self.people is not None:
            await self.people.fetch([user for user in users if user != self.user])
        if self.user in users:
            await ownkeys.renew(self)

    async def keep(self, puts: list[tuple[str, str, Any]], deletes: list[tuple[str, str]]) -> None:
        """Writes records of the account."""
        if self.account is not None:
            await self.account.store.write(puts, deletes)

    def with_peer(self, user: str) -> Conversation | None:
        """The private conversation with somebody as they are known now; else the newest there is under their name."""
        ik = None if self.people is None else self.people.identity(user)
        if self.account is not None and ik is not None:
            known = self.conversations.get(private_conversation(self.account.own.ik, ik))
            if known is not None and known.peer == user:
                return known
        return self.conversations.with_peer(user)
