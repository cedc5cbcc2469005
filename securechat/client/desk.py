"""What judging messages needs, fetched before they are judged: logs, devices, audiences, and what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from securechat.client.conversations import Conversation
from securechat.crypto.envelope import Examined, Header, audience, audience_digest, parse_audience
from securechat.crypto.identity import private_conversation
from securechat.errors import InvalidKey, Refused
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.names import is_private

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_MISSING_PAGES: Final = 100  # of history between two messages; what is beyond is counted, not shown
_AUDIENCES: Final = 256  # remembered a conversation


class Desk:
    """Fetches what a reader lacks. A server that does not give it is found out when the message is judged."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._asked: set[tuple[str, str]] = set()  # devices the server could not vouch for: asked once

    async def prepare(self, conversation: Conversation, messages: Sequence[m.StoredMessage]) -> None:
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

    async def audiences(self, conversation: Conversation, examined: Sequence[Examined], *, anew: bool = False) -> None:
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
