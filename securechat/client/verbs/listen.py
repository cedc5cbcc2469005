"""`securechat listen`: what comes, printed as it comes; first what nobody has read yet, or what came since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred

from securechat.client.conversations import Conversation
from securechat.client.core import ChatCore
from securechat.client.slash.common import Mistyped
from securechat.client.verbs.common import conversation_at, target_of
from securechat.client.view import Answer, Changed, Failure, Item, Membership, Message, Notice, Unshown
from securechat.client.views.script import ScriptView
from securechat.crypto.envelope import bind_of, message_id
from securechat.errors import Exit
from securechat.wire import limits
from securechat.wire import messages as m

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


@dataclass(frozen=True, slots=True)
class Since:
    """From where on messages are printed; as it stands, from the first that was not read yet.

    Attributes:
        all: everything that can be read.
        seconds: what came so long ago at most.
        seq: what comes behind the message of this number.
        id: what comes behind this message.
    """

    all: bool = False
    seconds: int | None = None
    seq: int | None = None
    id: str = ""

    @classmethod
    def parse(cls, typed: str) -> Since:
        """``all``, ``10m``, a message's number or its id. Raises Mistyped."""
        number, unit = typed[:-1], typed[-1:]
        if typed == "all":
            return cls(all=True)
        if typed.isascii() and typed.isdecimal() and len(typed) <= 15:
            return cls(seq=int(typed))
        if unit in _UNITS and number.isascii() and number.isdecimal() and len(number) <= 9:
            return cls(seconds=int(number) * _UNITS[unit])
        if len(typed) == 64 and all(letter in "0123456789abcdef" for letter in typed):
            return cls(id=typed)
        raise Mistyped(f"--since {typed}: say all, a time such as 90s, 10m, 12h or 7d, or a message's seq or id.")

    @property
    def one_room(self) -> bool:
        """Whether it makes sense in one conversation only."""
        return self.seq is not None or bool(self.id)


@dataclass
class Listen:
    """Prints what comes.

    Attributes:
        rooms: rooms and ``@users`` as typed; none: all there are.
        since: from where on.
        once: ends after the first message.
        include_self: one's own messages, too.
        seconds: how long to listen; None: until it is ended.
    """

    rooms: Sequence[str] = ()
    since: Since = Since()
    once: bool = False
    include_self: bool = False
    seconds: float | None = None

    reads = False
    prints = True

    def __post_init__(self) -> None:
        self._wanted = frozenset(map(target_of, self.rooms))
        if self.since.one_room and len(self._wanted) != 1:
            raise Mistyped(
                "A message's seq or id is one of one conversation. Name it: securechat listen ROOM --since …"
            )
        self._held: list[Item] | None = []
        self._done: Deferred[Exit] = Deferred()

    def start(self, core: ChatCore, view: ScriptView) -> None:
        """What the login brings waits: what is older comes first."""
        self._core, self._view = core, view
        view.sink = self._heard

    async def before(self) -> None:
        """Nothing."""

    async def run(self) -> Exit:
        """Prints what was missed, then what comes, until it is ended."""
        for where in sorted(self._wanted):
            conversation_at(self._core, where)
        if self.seconds is not None:
            timer = self._core.reactor.callLater(self.seconds, self._time_over)
            self._done.addBoth(lambda status: (timer.active() and timer.cancel(), status)[1])
        starts = {}
        for conversation in self._core.attention.listed():
            if self._wants(conversation.title) and not self._done.called:
                start = await self._older(conversation)
                if self.since != Since():  # else all of it is new here, also what the core counts as read by itself
                    starts[conversation.title] = start
        held, self._held = self._held or [], None
        for item in held:
            if not isinstance(item, _NUMBERED) or _number(item) > starts.get(item.where, 0):
                self._print(item)
        return await self._done

    def last_words(self) -> None:
        """There are none: what was not printed is not marked as read."""

    def _time_over(self) -> None:
        if self.once:
            self._view.show(Failure(f"Nothing came within {self.seconds:g} s."))
        self._end(Exit.FIXABLE if self.once else Exit.OK)

    def _end(self, status: Exit) -> None:
        if not self._done.called:
            self._done.callback(status)

    # What is shown.

    def _heard(self, item: Item) -> None:
        if isinstance(item, Failure):
            self._view.put(item)
        elif self._held is not None:
            self._held.append(item)
        else:
            self._print(item)

    def _wants(self, where: str) -> bool:
        return not self._wanted or where in self._wanted

    def _print(self, item: Item) -> None:
        """Prints an item that is wanted, and marks it as read."""
        if isinstance(item, (Answer, Failure)) or self._done.called:
            return
        where = item.room if isinstance(item, Membership) else item.where
        if not (self._wants(where) or (isinstance(item, Notice) and not where)):
            return
        wanted = self.include_self or not _own(item, self._core.user)
        if wanted:
            self._view.put(item)
        conversation = self._core.conversations.titled(where)
        if conversation is not None and isinstance(item, _NUMBERED):
            self._core.attention.read_up_to(conversation, _number(item))
            self._core.saving.shown(conversation)
        if self.once and wanted and isinstance(item, Message):
            self._end(Exit.OK)

    # What is older.

    async def _older(self, conversation: Conversation) -> int:
        """Prints what was shown in an earlier run, or never, behind the place where to begin; that place."""
        before = self._shown_before(conversation)
        start = max(await self._begin(conversation), conversation.first)
        at = start
        while at < before and not self._done.called:
            page = await self._page(conversation, after=at, limit=min(before - at, limits.HISTORY_MAX))
            found = [message.seq for message in page.messages]
            if not found or max(found) <= at:
                break
            assert self._core.inbox is not None
            for item in await self._core.inbox.page(conversation, [page], lambda done, total: None):
                if self._core.attention.hears(item):
                    self._print(item)
            at = max(found)
        return start

    def _shown_before(self, conversation: Conversation) -> int:
        """The newest message that this machine had judged before this run; what is behind it is held."""
        account = self._core.account
        record = None if account is None else account.records.get("conv", {}).get(conversation.id)
        if record is not None:
            return min(int(record["seq"]), conversation.cursor)
        held = [item for item in self._held or () if isinstance(item, _NUMBERED) and item.where == conversation.title]
        return min((_number(item) - 1 for item in held if _number(item)), default=conversation.cursor)

    async def _begin(self, conversation: Conversation) -> int:
        """The number of the message behind which to begin."""
        since = self.since
        if since.seq is not None:
            return since.seq
        if since.all:
            return 0
        if since.seconds is None and not since.id:
            return conversation.read_to
        oldest = self._core.now_ms() - 1000 * (since.seconds or 0)
        before: int | None = None
        while True:
            page = await self._page(conversation, before=before)
            for message in reversed(page.messages):
                if since.id == _id(message) or (not since.id and message.ts < oldest):
                    return message.seq
            if not page.more or not page.messages or before == page.messages[0].seq:
                break
            before = page.messages[0].seq
        if since.id:
            raise Mistyped(f"{conversation.title} has no message of that id that you could read. --since all has all.")
        return 0

    async def _page(
        self, conversation: Conversation, *, before: int | None = None, after: int | None = None, limit: int = 0
    ) -> m.HistoryOk:
        limit = limit or limits.HISTORY_MAX
        page: m.HistoryOk = await self._core.ask(
            m.History(room=conversation.room, before=before, after=after, limit=limit)
        )
        return page


_NUMBERED: Final = (Message, Changed, Unshown)


def _number(item: Message | Changed | Unshown) -> int:
    """The number of a message or change, the last one's where there are several; 0 where it has none."""
    if isinstance(item, Changed):
        return item.number
    return item.seq + item.count - 1 if isinstance(item, Unshown) and item.seq else item.seq


def _own(item: Item, user: str) -> bool:
    return (isinstance(item, Message) and item.own) or (isinstance(item, Changed) and item.who == user)


def _id(message: m.StoredMessage) -> str:
    package = message.package
    return message_id(package.hdr, bind_of(package.bind, package.ct))
