"""`securechat send`: one message, or one a line, and the end once the server has it on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import TimeoutError

from securechat.client.core import ChatCore
from securechat.client.entries import Entry, watched
from securechat.client.slash.common import meet
from securechat.client.verbs.common import conversation_at, target_of
from securechat.client.view import Failure, Item, Message, Notice
from securechat.client.views.script import ScriptView
from securechat.crypto.body import MARK, Action, Code, Said, Text, mentions_in, to_text
from securechat.errors import Exit, SecureChatError
from securechat.wire import limits

KEPT: Final = (
    "It is kept on this machine and goes with the next start as this user. The same command again waits for it, and"
    " does not send it twice."
)
_TOO_LONG: Final = f"A message has at most {limits.MAX_TEXT} bytes."


class NothingSent(SecureChatError):
    """What was to be sent cannot be; the text says what to do instead."""


@dataclass
class Send:
    """Sends what was given, or standard input.

    Attributes:
        where: a room or ``@user``, as typed.
        text: what to send; None: standard input.
        split: each line of it is a message.
        kind: one of `KINDS`.
        lang: of code.
        echo: whether what was stored is printed.
        timeout: seconds to wait for each acknowledgement.
    """

    where: str
    text: str | None = None
    split: bool = False
    kind: str = "text"
    lang: str = ""
    echo: bool = False
    timeout: float = 30.0

    prints = False

    def __post_init__(self) -> None:
        self.reads = self.text is None
        self.target = target_of(self.where)
        self._stored: dict[str, Message] = {}
        self._entry: Entry | None = None
        self._adopted: set[str] = set()
        self._count = 0

    def start(self, core: ChatCore, view: ScriptView) -> None:
        """Of what others write nothing is printed, nor does it count as seen."""
        self._core, self._view = core, view
        view.sink = self._heard

    def _heard(self, item: Item) -> None:
        if isinstance(item, (Notice, Failure)):
            self._view.put(item)
        elif isinstance(item, Message) and item.own:
            self._stored = {item.id: item}

    async def before(self) -> None:
        """The whole text, unless its lines go one by one: who waits for it need not be connected."""
        if self.text is None and not self.split:
            data = await self._view.feed.all(limits.MAX_TEXT)
            if data is None:
                raise NothingSent(f"{_TOO_LONG} Nothing was sent: shorten it, or --split lines sends line by line.")
            self.text = _decoded(data)
            if not self.text.strip():
                raise NothingSent("Standard input was empty. Nothing was sent.")

    async def run(self) -> Exit:
        """Ends with the first message that fails; nothing behind it is sent."""
        if self.target.startswith("@"):
            await self._meet(self.target[1:])
        else:
            conversation_at(self._core, self.target)
        if self.text is not None:
            return await self._post(self.text)
        while (line := await self._view.feed.next())[0]:
            data = line[1]
            if data is None:
                raise NothingSent(f"{_TOO_LONG} {self._so_far()}")
            if data.strip() and (status := await self._post(_decoded(data))):
                return status
        return Exit.OK

    async def _meet(self, user: str) -> None:
        people = self._core.people
        if user == self._core.user:
            raise NothingSent("A private message goes to somebody else. Name another user.")
        if people is not None and people.known(user) is None:
            await meet(self._core, user)

    def _body(self, text: str) -> Said:
        conversation = conversation_at(self._core, self.target)
        members = () if conversation is None or conversation.log is None else conversation.log.members
        mentions = mentions_in(text, frozenset(members))
        if self.kind == "me":
            return Action(text, mentions)
        return Code(text, self.lang) if self.kind == "code" else Text(text, "", mentions)

    async def _post(self, text: str) -> Exit:
        if MARK in text or any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise NothingSent(f"That text has characters in it that are no text. {self._so_far()}")
        sealed = to_text(self._body(text))
        if len(sealed.encode()) > limits.MAX_TEXT:
            raise NothingSent(f"{_TOO_LONG} {self._so_far()}")
        left, earlier = self._earlier(sealed)
        if left and earlier is None:
            return self._noted(self._view.failed)  # it went while this run caught up; what went wrong was said
        entry = self._entry = earlier or await self._put(sealed)
        waiting = watched(entry.done).addTimeout(self.timeout, self._core.reactor)
        try:
            status = await waiting
        except TimeoutError:
            self._view.show(Failure(f"Not acknowledged within {self.timeout:g} s. {KEPT}", Exit.NETWORK))
            return Exit.NETWORK
        self._entry = None
        if status is Exit.OK:
            await self._shown(entry)
        return self._noted(status)

    async def _put(self, sealed: str) -> Entry:
        core, room = self._core, None
        assert core.outbox is not None
        if not self.target.startswith("@"):
            room = conversation_at(core, self.target)
        seen = None if room is None else room.readers_known()
        return await core.outbox.put(self.target, sealed, seen, "" if room is None else room.id)

    def _earlier(self, sealed: str) -> tuple[bool, Entry | None]:
        """Whether an earlier run left the same message, so that this one repeats it; and it, if it still waits."""
        account, outbox = self._core.account, self._core.outbox
        assert account is not None and outbox is not None
        for number, record in account.records.get("outbox", {}).items():
            if (record["where"], record["text"]) == (self.target, sealed) and number not in self._adopted:
                self._adopted.add(number)
                return True, next((entry for entry in outbox.pending() if entry.number == int(number)), None)
        return False, None

    async def _shown(self, entry: Entry) -> None:
        """Prints what was stored, once it has its place."""
        if self.echo and self._core.inbox is not None and entry.sealed is not None:
            await self._core.inbox.shown()
            if stored := self._stored.get(entry.sealed.id):
                self._view.put(stored)

    def _noted(self, status: Exit) -> Exit:
        self._count += status is Exit.OK
        return status

    def _so_far(self) -> str:
        count = self._count
        return f"{count or 'Nothing'} {'was' if count < 2 else 'were'} sent{' before it' if count else ''}."

    def last_words(self) -> None:
        """A message that is under way goes on its way with the next start."""
        if self._entry is not None and not self._entry.done.called:
            self._view.show(Failure(f"Ended before it was acknowledged. {KEPT}", Exit.INTERRUPTED))


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NothingSent("That is not UTF-8 text. Nothing of it was sent: convert it first, with iconv.") from None
