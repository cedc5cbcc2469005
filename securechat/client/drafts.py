"""Drafts: what lies half typed in each conversation. They survive a restart and follow to one's other devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from securechat.client.commands import has_secret

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

MAX_DRAFT: Final = 16 * 1024  # characters; what is longer is kept in memory alone


class Drafts:
    """One account's drafts."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core

    def get(self, where: str) -> str:
        """What lies in a conversation."""
        conversation = self._core.conversations.titled(where)
        return "" if conversation is None else conversation.draft

    def put(self, where: str, text: str) -> None:
        """Keeps what is half typed there; "" drops it. Of a line with a password nothing is kept."""
        text = "" if has_secret(text) else text
        conversation = self._core.conversations.titled(where)
        if conversation is None or conversation.draft == text:
            return
        conversation.draft = text
        if self._core.notes is not None and len(text) <= MAX_DRAFT:
            self._core.notes.put("draft", conversation.id, text)

    def take(self, subject: str, value: Any) -> None:
        """A draft of before, or from another device."""
        conversation = self._core.conversations.known(subject)
        if conversation is None or not isinstance(value, str) or conversation.draft == value:
            return
        conversation.draft = value
        if conversation.title == self._core.conversations.active:
            self._core.view.opened(conversation.title)
        self._core.status_changed()
