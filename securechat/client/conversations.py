"""The rooms and private conversations one is in, what is known of each, and which room is active. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from securechat.client.timeline import Timeline
from securechat.crypto.reading import ConversationReader
from securechat.crypto.roomlog import RoomLog, SignedEvent
from securechat.crypto.transcript import SenderChain, Transcript, transcript_start
from securechat.wire import messages as m
from securechat.wire.names import is_private

_TRAIL: Final = 100  # conversations that one can go back to
NEWEST_GONE: Final = "the server does not give the newest messages any more that you saw"


@dataclass(eq=False)
class Conversation:
    """One conversation as this client knows it.

    Attributes:
        room: its name on the wire.
        id: the room's id, by which everything signed names it; `room` itself in private, "" until it is known.
        label: how people call a room: its name, or ``name#4f2a`` where this account knew another of that name before.
        peer: the other user of a private one.
        first: the message after which this user joined.
        read: how far the server was told that it was read.
        entry: the place in the log at which this account entered last, as far as messages were followed; -1: unknown.
        told: how many events of the log its user was told of: whom they know to be there; so many more are `queued`.
        here: whether this account is in it, as far as is known.
        live: whether what comes now is new; False while `sync` still streams.
        log: of the room, verified; and its events as they were signed. None in private.
        reader: judges its messages.
        stopped: why nothing is sent there.
        kept: whether its log lies on disk: not of a room that one only looks at. `saved` events do.
        broken: the log cannot go on: what the server gave behind it breaks the rules.
        online: who is there, by the server's word.
        timeline: what was said, as far as it is in memory.
        read_to: the newest message that its user has seen; `unread` and `mentions` count those behind it.
        marker: the last message seen before unread ones came; 0: there were none.
        draft: what lies half typed.
        audiences: by digest: who it names, None where the server does not say.
    """

    room: str
    peer: str | None = None
    id: str = ""
    label: str = ""
    first: int = 0
    read: int = 0
    entry: int = -1
    told: int = 0
    queued: int = 0
    here: bool = True
    live: bool = False
    log: RoomLog | None = None
    events: list[SignedEvent] = field(default_factory=list)
    reader: ConversationReader = field(init=False)
    stopped: list[str] = field(default_factory=list)
    kept: bool = True
    saved: int = 0
    broken: bool = False
    online: set[str] = field(default_factory=set)
    audiences: dict[str, Mapping[str, str] | None] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    read_to: int = 0
    unread: int = 0
    mentions: int = 0
    marker: int = 0
    draft: str = ""

    def __post_init__(self) -> None:
        self.id = self.id or (self.room if is_private(self.room) else "")
        self.label = self.label or self.room
        self.reader = ConversationReader(self.id, "", self.log, {}, Transcript(0, transcript_start(self.id)))

    @property
    def title(self) -> str:
        """How people call it."""
        return self.label if self.peer is None else f"@{self.peer}"

    @property
    def private(self) -> bool:
        """Whether others cannot enter by themselves."""
        return self.log is None or not self.log.open

    @property
    def cursor(self) -> int:
        """The newest message shown."""
        return self.reader.transcript.seq

    def restart(self, seq: int, th: str) -> None:
        """The transcript goes on from another place; chains stay, so nothing is taken twice."""
        self.reader.transcript = Transcript(seq, th)

    def lacks_newest(self, seen: int, pages: Sequence[m.HistoryOk]) -> bool:
        """Whether pages of its newest messages end before a message that was shown when they were asked for.

        What the server says it removed as too old is not asked for any more.
        """
        gone = max((page.trimmed for page in pages), default=0)
        return max([self.first, gone, *(message.seq for page in pages for message in page.messages)]) < seen

    def readers_known(self) -> tuple[str, ...] | None:
        """Who is in a private room as far as its user was told; None elsewhere: there anybody may come."""
        if self.log is None or not self.private or not self.log.count:
            return None
        return tuple(self.log.members_at(min(self.told, self.log.count) - 1)) if self.told else tuple(self.log.members)

    def stop(self, reason: str) -> bool:
        """Nothing is sent there any more; False where that was known."""
        if reason in self.stopped:
            return False
        self.stopped.append(reason)
        return True

    def extended_by(self, log: RoomLog) -> bool:
        """Whether a log that the server shows goes on from the one that is known."""
        known = self.log
        if known is None or not known.count:
            return True
        return known.count <= log.count and log.links[known.count - 1] == known.head

    def behind(self, known: Conversation) -> bool:
        """Whether this one's log is the beginning of a log that is known."""
        count = len(self.events)
        return 0 < count < len(known.events) and known.events[count - 1].eh == self.events[-1].eh

    def record(self) -> dict[str, Any]:
        """For the local store; the log and the chains are records of their own."""
        seq, th = self.reader.transcript.place
        return {
            "room": self.room, "label": self.label, "peer": self.peer, "seq": seq, "th": th, "stopped": self.stopped,
            "broken": self.broken, "entry": self.entry, "told": self.told, "here": self.here,
            "read": self.read_to, "unread": self.unread, "mentions": self.mentions,
        }  # fmt: skip

    def restore(self, record: Mapping[str, Any], chains: Mapping[str, Any]) -> None:
        """Reads `record`, and the chains by device."""
        self.label = str(record["label"])
        self.stopped = list(record["stopped"])
        self.broken, self.here = bool(record["broken"]), bool(record["here"])
        self.entry, self.told = int(record["entry"]), int(record["told"])
        self.restart(int(record["seq"]), str(record["th"]))
        self.read_to = self.marker = int(record["read"])
        self.unread, self.mentions = int(record["unread"]), int(record["mentions"])
        self.reader.chains = {dev: SenderChain.from_fields(fields) for dev, fields in chains.items()}


class Conversations:
    """All conversations: those one is in by their name on the wire, and every one there ever was by its id.

    What is known of a conversation (log, chains, transcript, alarms) hangs on its id and never goes back: not by being
    left, nor because the server does not name it for a while.

    Args:
        names: rooms known before, by name: their ids. Another room of a known name gets a label of its own.
        user: whose they are.
    """

    def __init__(self, names: Mapping[str, str] | None = None, user: str = "") -> None:
        self._user = user
        self.names = dict(names or {})
        self._here: dict[str, Conversation] = {}
        self._known: dict[str, Conversation] = {}
        self._visited: list[str] = []
        self._trail: list[str] = []  # every one that was active, in that order, to go back and forward
        self._at = -1

    def __iter__(self) -> Iterator[Conversation]:
        return iter(list(self._here.values()))

    def get(self, room: str) -> Conversation | None:
        """A conversation one is in, by its name on the wire."""
        return self._here.get(room)

    def known(self, id: str) -> Conversation | None:
        """A conversation by its id, also one that was left."""
        return self._known.get(id)

    def all_known(self) -> list[Conversation]:
        """Every conversation there ever was, those one is in last."""
        return sorted(self._known.values(), key=lambda conversation: conversation.here)

    def labelled(self, label: str) -> Conversation | None:
        """A room one is in, by the label people use."""
        return next((c for c in self._here.values() if c.peer is None and c.label == label), None)

    def ensure(self, room: str, peer: str | None = None, id: str = "") -> Conversation:
        """The conversation of this id, which one is in from now on; made where it is new.

        Args:
            room: its name on the wire.
            peer: the other user of a private one; nothing else has one, and it stays who it is once their identity was
                found to fit.
            id: of a room; a private one's is its name. "": whichever room has that name.

        Raises:
            ValueError: the id is that of a room of another name.
        """
        private = is_private(room)
        id = room if private else id
        conversation = self._known.get(id) if id else self._here.get(room)
        if conversation is None:
            conversation = Conversation(room, peer if private else None, id, self.label(room, id))
        elif conversation.room != room:
            raise ValueError("a conversation has one name")
        if private and peer is not None and not conversation.reader.pair:
            conversation.peer = peer
        self.add(conversation)
        return conversation

    def begun(self, room: str, peer: str) -> Conversation:
        """A private conversation, begun now if there was none: nothing of it is missed then."""
        new = self.get(room) is None
        conversation = self.ensure(room, peer)
        conversation.live = conversation.live or new
        return conversation

    def add(self, conversation: Conversation) -> None:
        """One is in it from now on. Another of that name gives way: what was typed for that one does not go here."""
        before = self._here.get(conversation.room)
        if before is not None and before.id != conversation.id:
            self.lose(conversation.room)
        conversation.here = True
        conversation.reader.user = self._user
        self._here[conversation.room] = conversation
        self.remember(conversation)

    def remember(self, conversation: Conversation) -> None:
        """Keeps a conversation by its id."""
        if conversation.id:
            self._known[conversation.id] = conversation

    def label(self, room: str, id: str) -> str:
        """How a room is called: with a piece of its id if another of that name was known before."""
        known = self.names.get(room)
        return room if is_private(room) or not id or known in (None, id) else f"{room}#{id[:4]}"

    def with_peer(self, peer: str) -> Conversation | None:
        """The newest private conversation with somebody."""
        found = [conversation for conversation in self._here.values() if conversation.peer == peer]
        return found[-1] if found else None

    def drop(self, room: str) -> None:
        """One is not in it any more; the room before it becomes active."""
        gone = self._here.pop(room, None)
        if gone is not None:
            gone.here = False
            self.remember(gone)
            self._visited = [label for label in self._visited if label != gone.label]

    def lose(self, room: str) -> bool:
        """One was taken out of it: no other room becomes active by itself. Whether it was the active one."""
        conversation = self._here.get(room)
        was_active = conversation is not None and self.active == conversation.label
        self.drop(room)
        if was_active:
            self._visited = []
        return was_active

    @property
    def active(self) -> str:
        """The title of the active conversation, or ""."""
        return self._visited[-1] if self._visited else ""

    def activate(self, title: str) -> None:
        """Makes a conversation the active one."""
        self._visited = [name for name in self._visited if name != title] + [title]
        if self._trail[self._at : self._at + 1] != [title]:
            self._trail = [*self._trail[: self._at + 1][-_TRAIL:], title]
            self._at = len(self._trail) - 1

    def step(self, step: int) -> str:
        """Goes back (-1) or forward (1) among those that were active; the title there, or "" at an end."""
        place = self._at + step
        while 0 <= place < len(self._trail):
            if self.titled(self._trail[place]) is not None:
                self._at = place
                return self._trail[place]
            place += step
        return ""

    def titled(self, title: str) -> Conversation | None:
        """A conversation one is in, by its title."""
        return self.with_peer(title[1:]) if title.startswith("@") else self.labelled(title)

    def rooms(self) -> Sequence[str]:
        """The labels of the rooms one is in."""
        return sorted(c.label for c in self._here.values() if not is_private(c.room))
