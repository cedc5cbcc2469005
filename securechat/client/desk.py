"""The inbox's desk: what judging messages needs, fetched before they are judged, and where it goes once they are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from securechat.client.conversations import Conversation
from securechat.client.kept import Taken
from securechat.client.people import People
from securechat.client.view import Item
from securechat.crypto.envelope import Examined, Header, audience, audience_digest, parse_audience
from securechat.crypto.identity import private_conversation
from securechat.crypto.reading import Found
from securechat.crypto.trust import TrustState, identity_hash
from securechat.errors import Exit, InvalidKey, Refused
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_MISSING_PAGES: Final = 100  # of history between two messages; what is beyond is counted, not shown
_AUDIENCES: Final = 256  # remembered a conversation


class Desk:
    """The core as `inbox.Host`.

    It fetches what a reader lacks. A server that does not give it is found out when the message is judged.
    """

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._asked: set[tuple[str, str]] = set()  # devices the server could not vouch for: asked once

    # --- whose it is, and whom it is of -----------------------------------------------------------------------------

    @property
    def people(self) -> People | None:
        """Other people's keys and pins, of the account that is open."""
        return self._core.people

    @property
    def user(self) -> str:
        """Who is logged in."""
        return self._core.user

    def conversation_of(self, message: m.StoredMessage) -> Conversation | None:
        """The conversation of a message; a private one starts with its first message."""
        conversation = self._core.conversations.get(message.room)
        if conversation is None and is_private(message.room) and message.to is not UNSET:
            peer = message.to if message.sender == self.user else message.sender
            conversation = self._core.conversations.begun(message.room, peer)
        return conversation

    def mark_of(self, user: str) -> str:
        """ "changed" beside the name of somebody whose identity did."""
        if self.people is not None and self.people.state(user) is TrustState.CHANGED:
            return "identity changed"
        return ""

    def author_hash(self, user: str, device: str) -> str:
        """A short hash of the identity behind a device; "" where that is not known."""
        known = None if self.people is None else self.people.device(user, device)
        return "" if known is None else identity_hash(known.ik)[:16]

    # --- before -----------------------------------------------------------------------------------------------------

    async def prepare_reading(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
        """The log as far as the messages say it went, and their authors' devices. Raises LinkLost."""
        people = self._core.people
        if people is None or not messages:
            return
        with contextlib.suppress(Refused):
            if not is_private(conversation.room):  # also where its log was not begun yet
                await self._core.book.reach(conversation, max(message.events for message in messages))
            authors = {(message.sender, message.device) for message in messages}
            # Of this session, not merely a certificate beside a room's log: only a list tells what was revoked, and
            # only the directory tells who somebody is that left before this account had met them.
            await people.know({user for user, _ in authors} - {self._core.user})
            unknown = {who for who in authors if people.device(*who) is None} - self._asked
            await self._core.fetch_anew({user for user, _ in unknown})
            self._asked |= unknown  # not before: where the link broke, they are asked for again
            if conversation.peer is not None:
                await people.know([conversation.peer])
        if conversation.peer is not None:
            conversation.reader.pair = self.pair(conversation)

    def pair(self, conversation: Conversation) -> Mapping[str, bytes]:
        """The two of a private conversation, if its id is that of their identities."""
        account, people, peer = self._core.account, self._core.people, conversation.peer
        if account is None or people is None or peer is None:
            return {}
        known = people.known(peer)
        for ik in (people.identity(peer), None if known is None else known.ik, *people.earlier(peer)):
            if ik is not None and private_conversation(account.own.ik, ik) == conversation.id:
                return {account.user: account.own.ik, peer: ik}
        return {}

    async def prepare_audiences(
        self, conversation: Conversation, examined: Sequence[Examined], *, anew: bool = False
    ) -> None:
        """Whom messages were sealed for, those people's keys, and the authors' newer lists. Raises LinkLost.

        Args:
            anew: also where that was found out before.
        """
        people = self._core.people
        if people is None:
            return
        headers = [e.header for e in examined if isinstance(e.header, Header) and e.unread is None]
        with contextlib.suppress(Refused):
            await self._core.fetch_anew({h.author for h in headers if h.dl[0] > people.newest_list(h.author)[0]})
        audiences = conversation.audiences
        for header in headers:
            if header.rcp in audiences and not anew:
                audiences[header.rcp] = audiences.pop(header.rcp)  # what is needed now goes last
            else:
                named = await self._audience(conversation, header) or audiences.pop(header.rcp, None)
                if len(audiences) >= _AUDIENCES:
                    audiences.pop(next(iter(audiences)))
                audiences[header.rcp] = named

    async def _audience(self, conversation: Conversation, header: Header) -> Mapping[str, str] | None:
        """Who a digest names: by what is known anyway, else as the server says, which the digest proves."""
        members = self._members(conversation, header)
        people = self._core.people
        assert people is not None
        with contextlib.suppress(Refused):
            await people.know([user for user in members if user != self._core.user], quietly=True)
        known = {user: people.known(user) for user in members}
        kids = {user: keys.kid for user, keys in known.items() if keys is not None and keys.ik == members[user]}
        if audience_digest(audience(kids)).hex() == header.rcp:
            return kids
        try:
            reply: m.AudienceOk = await self._core.ask(m.Audience(room=conversation.room, rcp=header.rcp))
            named = parse_audience(reply.audience, header.rcp)
            unheard = [
                user
                for user in named.keys() & members.keys() - {self._core.user}
                if named[user] not in (people.kids(user, members[user]) or ())
            ]
            await people.fetch(unheard, quietly=True)  # a newer key, of a list this client has not heard of
            return named
        except (Refused, InvalidKey):
            return None

    @staticmethod
    def _members(conversation: Conversation, header: Header) -> Mapping[str, bytes]:
        log = conversation.log
        if log is None:
            return conversation.reader.pair
        place = log.place(header.head)
        return {} if place is None else log.members_at(place)

    async def missing(self, room: str, after: int, before: int) -> Sequence[m.StoredMessage]:
        """Messages between two places. Raises Refused, LinkLost."""
        found: list[m.StoredMessage] = []
        for _ in range(_MISSING_PAGES):
            at = after
            page = await self._core.ask(m.History(room=room, after=at, limit=limits.HISTORY_MAX))
            found += [message for message in page.messages if message.seq < before]
            after = max([at, *(message.seq for message in page.messages)])
            if not page.more or not at < after < before - 1:
                break
        return found

    # --- afterwards -------------------------------------------------------------------------------------------------

    def show(self, item: Item) -> None:
        """Shows an item."""
        self._core.show(item)

    def shown(self, conversation: Conversation, device: str) -> None:
        """A cursor moved, and that device's chain."""
        self._core.saving.shown(conversation, device)

    def own_came_back(self, mid: str) -> None:
        """A message of this account is in the history: if it waited here, it is done."""
        outbox, inbox = self._core.outbox, self._core.inbox
        entry = None if outbox is None else outbox.seen(mid)
        if entry is not None and inbox is not None:
            inbox.shown().addCallback(lambda _: entry.settle(Exit.OK))  # also where nothing is shown any more

    def took(self, conversation: Conversation, taken: Taken) -> bool:
        """A new message was taken in: it is kept, and counted. Whether it is to be shown."""
        self._core.healing.took(conversation, [taken])
        return self._core.attention.took(conversation, taken)

    def read_back(self, conversation: Conversation, taken: Sequence[Taken]) -> None:
        """Messages of a history were taken in: they are kept."""
        self._core.healing.took(conversation, taken)
        self._core.attention.keep(conversation, taken)

    def hid(self, conversation: Conversation, examined: Examined, found: Found) -> None:
        """A message that has just come is not shown."""
        self._core.healing.hid(conversation, examined, found)

    def not_given(self, conversation: Conversation, first: int, count: int) -> None:
        """The server did not give so many messages, from number `first` on."""
        self._core.healing.not_given(conversation, first, count)

    def alarm(self, conversation: Conversation, reason: str) -> None:
        """Sending there waits for a word."""
        self._core.lobby.alarm(conversation, reason)
