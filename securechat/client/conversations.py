"""The rooms and private conversations one is in, and which room is active. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from securechat.wire.names import is_private


@dataclass
class Conversation:
    """One conversation as this client knows it.

    Attributes:
        room: its id on the wire.
        peer: the other user of a private one.
        head: the membership the server spoke of last.
        first: the message after which this user joined.
        cursor: the newest message shown.
        live: whether what comes now is new; False while `sync` still streams.
        members: user → version of the device list, as of `members_head`; None where not known.
        online: who was seen there.
    """

    room: str
    peer: str | None = None
    head: int = 0
    first: int = 0
    cursor: int = 0
    live: bool = False
    members: dict[str, int] | None = None
    members_head: int = -1
    online: set[str] = field(default_factory=set)

    @property
    def title(self) -> str:
        """How people call it."""
        return self.room if self.peer is None else f"@{self.peer}"

    def joined(self, user: str, head: int, version: int) -> None:
        """Somebody joined."""
        if self.members is not None and self.members_head == head - 1:
            self.members[user] = version
            self.members_head = head
        self.head = max(self.head, head)
        self.online.add(user)

    def left(self, user: str, head: int) -> None:
        """Somebody left."""
        if self.members is not None and self.members_head == head - 1:
            self.members.pop(user, None)
            self.members_head = head
        self.head = max(self.head, head)
        self.online.discard(user)

    def present_members(self) -> Mapping[str, int] | None:
        """The members at the present head, or None where they must be asked for."""
        return self.members if self.members_head == self.head else None


class Conversations:
    """All conversations by id, and the active room with those before it."""

    def __init__(self) -> None:
        self._all: dict[str, Conversation] = {}
        self._visited: list[str] = []

    def __iter__(self) -> Iterator[Conversation]:
        return iter(list(self._all.values()))

    def get(self, room: str) -> Conversation | None:
        """A conversation by id."""
        return self._all.get(room)

    def ensure(self, room: str, peer: str | None = None) -> Conversation:
        """A conversation by id, made where it is new."""
        conversation = self._all.get(room)
        if conversation is None:
            conversation = self._all[room] = Conversation(room, peer)
        elif peer is not None:
            conversation.peer = peer
        return conversation

    def with_peer(self, peer: str) -> Conversation | None:
        """The newest private conversation with somebody."""
        found = [conversation for conversation in self._all.values() if conversation.peer == peer]
        return found[-1] if found else None

    def drop(self, room: str) -> None:
        """One is not in it any more; the room before it becomes active."""
        self._all.pop(room, None)
        self._visited = [name for name in self._visited if name != room]

    def lose(self, room: str) -> bool:
        """One was taken out of it: no other room becomes active by itself. Whether it was the active one."""
        was_active = self.active == room
        self.drop(room)
        if was_active:
            self._visited = []
        return was_active

    @property
    def active(self) -> str:
        """The active room, or ""."""
        return self._visited[-1] if self._visited else ""

    def activate(self, room: str) -> None:
        """Makes a room the active one."""
        self._visited = [name for name in self._visited if name != room] + [room]

    def rooms(self) -> list[str]:
        """The names of the rooms one is in."""
        return sorted(room for room in self._all if not is_private(room))
