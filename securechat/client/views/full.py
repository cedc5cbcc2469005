"""The full view: the list of rooms, the messages of one of them as they stand now, its members, and a line to type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, Dimension, Float, FloatContainer, HSplit, Layout, VSplit
from prompt_toolkit.layout.containers import Window
from prompt_toolkit.layout.menus import CompletionsMenu
from twisted.internet.defer import Deferred

from securechat.client.commands import Typed, parse
from securechat.client.display import Pieces
from securechat.client.view import Answer, Changed, Failure, Item, Membership, Message, Notice, Unshown
from securechat.client.views import bars
from securechat.client.views.acts import back
from securechat.client.views.canvas import pane
from securechat.client.views.entry import MENU_ROWS
from securechat.client.views.locals import Locals
from securechat.client.views.terminal import Terminal
from securechat.client.views.viewport import Viewport, without_place
from securechat.errors import SecureChatError

ROOMS_FROM: Final = 64  # columns of a terminal from which there is room for the list of rooms
MEMBERS_FROM: Final = 92  # and for the members too


class FullView(Terminal):
    """The whole screen. What it shows of a conversation it asks of the core as it stands at that moment."""

    view = "full"
    full_screen = True

    def __init__(self, reactor: Any, **options: Any) -> None:
        self._window = Viewport(options.get("tz"))
        self._lines = Locals()
        self._size = (80, 20)  # of the messages' part of the screen, when it was drawn last
        self._stale = True
        self._marker = self._known = 0  # the last message seen before the conversation was opened, the newest then
        self._members: Sequence[tuple[str, str]] = ()
        self._bare = False
        self._with_members: bool | None = None  # None: as the preference says
        self._bringing = ""  # the conversation whose older messages are being brought
        self._beginning: set[str] = set()  # conversations that have nothing older
        self._words: list[Item] = []  # shown while it ends: printed afterwards
        super().__init__(reactor, **options)

    # What the core sees.

    def show(self, item: Item) -> None:
        """Shows an item among the messages. What is one of them is there already."""
        self._stale = True
        if self._exit is not None or self._going:
            self._words.append(item)
        if not self._in_talk(item):
            where = item.room if isinstance(item, Membership) else self._room
            shown = without_place(item) if getattr(item, "where", where) == where else item
            self._lines.add(where, shown, after=self._newest(where), at=int(self._clock() * 1000))
        self._app.invalidate()

    def follows(self, where: str) -> bool:
        """Whether it is on the screen, at its end."""
        return bool(where) and where == self._room and self._window.following and not self._away

    def prints(self, where: str) -> bool:
        """Always: it learns so that there is something to draw anew."""
        return True

    def opened(self, where: str) -> None:
        """Another conversation is shown, at its end; a line stands where the unread messages begin."""
        self._enter_room(where)
        self._take_draft()
        self._stale = True
        if self._client is not None and where:
            self._marker, self._known = self._client.marker(where), self._newest(where)
            if self._window.following:
                self._client.seen(where)
        self._app.invalidate()

    def _update(self) -> None:
        self._stale = True

    def _enter_room(self, where: str) -> None:
        if where != self._room:
            self._window.clear()
            self._marker = self._known = 0
            self._stale = True
        super()._enter_room(where)

    def status(self, status: Any) -> None:
        """The same, and nothing of an account stays on the screen when it is left."""
        if status.user != self._status.user and self._status.user:
            self._lines.forget()
        super().status(status)

    def _in_talk(self, item: Item) -> bool:
        """Whether the core has it among the messages, so that it is not shown once more."""
        if not isinstance(item, (Message, Unshown, Changed)) or not item.seq or self._client is None:
            return False
        return _has(self._client.talk(item.where), item.seq)

    def _newest(self, where: str) -> int:
        talk = self._client.talk(where) if self._client is not None and where else ()
        return int(getattr(talk[-1], "seq", 0)) if talk else 0

    # The screen.

    def _layout(self) -> Layout:
        entry = self._entry
        rooms = Condition(self._shows_rooms)
        members = Condition(self._shows_members)
        middle = VSplit([
            ConditionalContainer(pane(self._draw_rooms, width=bars.ROOMS_WIDTH), rooms),
            ConditionalContainer(Window(width=1, char="│"), rooms),
            pane(self._draw, width=self._width),
            ConditionalContainer(Window(width=1, char="│"), members),
            ConditionalContainer(pane(self._draw_members, width=bars.MEMBERS_WIDTH), members),
        ])  # fmt: skip
        body = HSplit([
            pane(self._draw_title, height=1),
            middle,
            pane(self._draw_bar, height=1),
            entry.container,
            entry.search,
        ])  # fmt: skip
        menu = CompletionsMenu(max_height=MENU_ROWS)
        chooser = ConditionalContainer(
            pane(self._draw_switcher, width=36, height=MENU_ROWS), Condition(lambda: self._switcher is not None)
        )
        floats = [Float(xcursor=True, ycursor=True, content=menu), Float(content=chooser, bottom=2, left=2)]
        return Layout(FloatContainer(body, floats), focused_element=entry.window)

    def _width(self) -> Dimension:
        """Of the messages, said exactly: the toolkit would find it column by column, at each redraw."""
        rooms = bars.ROOMS_WIDTH + 1 if self._shows_rooms() else 0
        members = bars.MEMBERS_WIDTH + 1 if self._shows_members() else 0
        return Dimension.exact(max(1, self._output.get_size().columns - rooms - members))

    def _shows_rooms(self) -> bool:
        return not self._bare and self._output.get_size().columns >= ROOMS_FROM

    def _shows_members(self) -> bool:
        if self._bare or self._output.get_size().columns < MEMBERS_FROM or not self._room or self._room.startswith("@"):
            return False
        if self._with_members is None:
            return self._client is None or self._client.preference("members") == "on"
        return self._with_members

    def _draw(self, width: int, height: int) -> list[Pieces]:
        """The messages that are seen; fewer than fit stand at the lower edge."""
        self._refresh()
        self._size = (width, height)
        rows = self._window.rows(width, height)
        return [[("", "")]] * (height - len(rows)) + rows

    def _refresh(self) -> None:
        """Asks the core anew, where something changed since the last time."""
        if not self._stale or self._client is None:
            return
        self._stale = False
        room, client = self._room, self._client
        self._window.times = client.preference("timestamps") == "on"
        self._window.numbers = client.preference("numbers") == "on"
        talk = client.talk(room) if room else ()
        pending = client.pending(room) if room else ()
        self._members = client.members(room) if room else ()
        fold = client.preference("fold") == "on"
        local, user = self._lines.of(room, fold=fold), self._status.user
        self._window.load(talk, local, pending, marker=self._marker, known=self._known, user=user)

    def _draw_rooms(self, width: int, height: int) -> list[Pieces]:
        return bars.room_rows(self._status.rooms, width, height)

    def _draw_members(self, width: int, height: int) -> list[Pieces]:
        return bars.member_rows(self._members, width, height)

    def _draw_title(self, width: int, height: int) -> list[Pieces]:
        more = "loading older…" if self._bringing == self._room and self._room else ""
        return [bars.title(self._status, width, more)]

    def _draw_bar(self, width: int, height: int) -> list[Pieces]:
        below = self._window.below
        return [bars.bar(self._status, width, self._clock(), first=self._states(), below=below)]

    def _draw_switcher(self, width: int, height: int) -> list[Pieces]:
        return [] if self._switcher is None else bars.switcher_rows(self._switcher, width)[:height]

    # Moving.

    def act_page(self, event: KeyPressEvent) -> None:
        """A screen up or down, less a row; at the top what is older is fetched."""
        width, height = self._size
        self._refresh()
        if not back(event):
            self._window.down(max(1, height - 1), width)
        elif self._window.up(max(1, height - 1), width, height):
            self._bring_older()
        self._moved()

    def act_edge(self, event: KeyPressEvent) -> None:
        """To the oldest that is there, and what is older is fetched; or to the newest."""
        if back(event):
            self._refresh()
            self._window.to_top(*self._size)
            self._bring_older()
        else:
            self._window.to_end()
        self._moved()

    def act_unread(self, event: KeyPressEvent) -> None:
        """To the first message that was unread when the conversation was opened."""
        self._refresh()
        if not self._window.to_unread(*self._size):
            self.show(Notice("Nothing here was unread when you came."))
        self._moved()

    def _moved(self) -> None:
        """Who comes to the end has seen it all."""
        if self._window.following and self._client is not None and self._room:
            self._client.seen(self._room)
        self._app.invalidate()

    def _bring_older(self) -> None:
        """Once at a time; what is seen stays where it is."""
        if self._client is None or not self._room or self._bringing or self._room in self._beginning:
            return
        self._bringing = self._room
        bringing = Deferred.fromCoroutine(self._older(self._room))
        bringing.addErrback(lambda failure: self.log.failure("older messages", failure=failure))

    async def _older(self, room: str) -> None:
        assert self._client is not None
        try:
            if not await self._client.older(room) and self._status.link == "online":
                self._beginning.add(room)
        except SecureChatError as error:
            self.show(Failure(str(error)))
        finally:
            self._bringing = ""
            self._stale = True
            self._app.invalidate()

    def _submit(self, text: str) -> bool:
        """What one says is seen: it goes back to the end."""
        self._window.to_end()
        self._moved()
        typed = parse(text)
        if isinstance(typed, Typed) and typed.command.name == "bare":
            self.bare()
            return True
        return super()._submit(text)

    def act_members(self, event: KeyPressEvent) -> None:
        """Shows or hides the members."""
        self._with_members = not self._shows_members()
        self._app.invalidate()

    def act_bare(self, event: KeyPressEvent) -> None:
        """Shows or hides what stands beside the messages."""
        self.bare()

    def bare(self) -> None:
        """The same, typed."""
        self._bare = not self._bare
        self._app.invalidate()

    # The end.

    def _last_words(self) -> None:
        """What was said while it ended would be gone with the screen."""
        words, self._words = self._words, []
        told = [item for item in words if isinstance(item, (Failure, Notice))]
        if self._shutting or not told:
            return
        try:
            self._print_rows([row for item in told for row in self._laid_out(item)])
        except OSError:  # the terminal is gone
            return


def _has(talk: Sequence[Item], seq: int) -> bool:
    """Whether a message of that number is among them; the newest are looked at first."""
    low, high = 0, len(talk)
    while low < high:
        middle = (low + high) // 2
        found = int(getattr(talk[middle], "seq", 0))
        if found == seq:
            return True
        if found < seq:
            low = middle + 1
        else:
            high = middle
    return False


__all__ = ["MEMBERS_FROM", "ROOMS_FROM", "Answer", "FullView"]
