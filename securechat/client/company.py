"""Who is there and who is typing, where its user wants to tell and to be told. Nothing of it is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from securechat.client.conversations import Conversation
from securechat.client.protocol import LinkLost
from securechat.errors import Refused
from securechat.wire import messages as m
from securechat.wire.limits import TYPING_SECONDS, TYPING_SHOWN

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


class Company:
    """One account's company."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._told: dict[str, float] = {}
        self._heard: dict[str, dict[str, float]] = {}
        self._looking = False

    @property
    def shares_presence(self) -> bool:
        """Whether others may be told that this client is there, and it is told of them."""
        return self._core.preferences.on("presence")

    @property
    def wants_typing(self) -> bool:
        """Whether it is told who types."""
        return self._core.preferences.on("typing")

    def share_anew(self) -> None:
        """What is shared of its user's presence changed: the server hears it with the next `sync`, which is now."""
        if self._core.synced:
            self._core.own_task(self._share_anew(), "telling what is shared")

    async def _share_anew(self) -> None:
        with contextlib.suppress(LinkLost, Refused):  # then with the next connection
            await self._core.catchup.tell_wishes()
            await self.look_around()

    def typing(self, conversation: Conversation) -> None:
        """Its user is typing there: told to others, if wanted, and not with every key."""
        now = self._core.reactor.seconds()
        since = now - self._told.get(conversation.id, -TYPING_SECONDS)
        if not self.wants_typing or since < TYPING_SECONDS:
            return
        if self._core.post.can_send():
            self._told[conversation.id] = now
            self._core.own_task(self._tell(conversation.room), "telling that one types")

    async def _tell(self, room: str) -> None:
        with contextlib.suppress(LinkLost, Refused):
            await self._core.request(m.Typing(room=room))

    def heard(self, event: m.TypingEvent) -> None:
        """Somebody is typing, by the server's word."""
        conversation = self._core.conversations.get(event.room)
        if conversation is None or not self.wants_typing or event.user in self._core.attention.ignored:
            return
        if event.user == self._core.user or event.user not in self._members(conversation):
            return  # another device of this account, or nobody who could
        self._heard.setdefault(conversation.id, {})[event.user] = self._core.reactor.seconds()
        self._core.status_changed()
        if not self._looking:
            self._looking = True
            self._core.reactor.callLater(TYPING_SHOWN, self._look_again)

    def _look_again(self) -> None:
        """Who has stopped is seen at the end of their time: one timer, however many are heard, and how often."""
        self._looking = False
        self._core.status_changed()
        last = max((at for heard in self._heard.values() for at in heard.values()), default=0.0)
        if (left := last + TYPING_SHOWN - self._core.reactor.seconds()) > 0:
            self._looking = True
            self._core.reactor.callLater(left, self._look_again)

    async def look_around(self) -> None:
        """`look`, at the active conversation."""
        conversation = self._core.conversations.titled(self._core.conversations.active)
        if conversation is not None:
            await self.look(conversation)

    async def look(self, conversation: Conversation) -> None:
        """Asks who is in a room now, where that is shared: afterwards one hears only of those who come and go."""
        if not self.shares_presence or conversation.peer is not None or not self._core.post.can_send():
            return
        with contextlib.suppress(LinkLost, Refused):
            reply: m.OnlineOk = await self._core.request(m.Online(room=conversation.room))
            conversation.online = set(reply.users)
            self._core.status_changed()

    @staticmethod
    def _members(conversation: Conversation) -> set[str]:
        if conversation.peer is not None:
            return {conversation.peer}
        return set() if conversation.log is None else set(conversation.log.members)

    def spoke(self, conversation: Conversation, user: str) -> None:
        """Whoever has written is not typing that any more."""
        self._heard.get(conversation.id, {}).pop(user, None)

    def who(self, where: str) -> tuple[str, ...]:
        """Who is typing in a conversation now."""
        conversation = self._core.conversations.titled(where)
        if conversation is None:
            return ()
        since = self._core.reactor.seconds() - TYPING_SHOWN
        return tuple(sorted(u for u, at in self._heard.get(conversation.id, {}).items() if at > since))
