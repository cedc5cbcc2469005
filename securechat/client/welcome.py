"""The first minute: which server, which account, which room; and the password of somebody who comes back.

Each is one question, asked through the view. Whoever does not answer comes to the prompt, and a command counts as one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from securechat import __version__
from securechat.client import commands
from securechat.client.slash.common import whole
from securechat.client.slash.rooms import do_join
from securechat.client.slash.start import LEAST_PASSWORD, do_login, register
from securechat.client.view import Answer, Failure
from securechat.errors import NAME_TAKEN, Exit, Refused
from securechat.link import BadAddress, ConnectLine
from securechat.wire import messages as m
from securechat.wire.names import NAME_RULE, fold_user

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_ROOMS: Final = 10  # shown to choose from
_TITLE: Final = f"SecureChat {__version__}: everything you write is encrypted for its readers alone."
_ASIDE: Final = "Commands work here, too: /help lists them."
_WAY_OUT: Final = "Ctrl-C leads to the prompt. "
_BARE: Final = (
    "  /register NAME  makes an account      {login}  logs in",
    "  /join ROOM      enters a room         /pm NAME TEXT  writes to one person",
    "  /help           lists everything      /exit          leaves",
)


class _ToThePrompt(Exception):
    """There was no answer, or a command instead of one: nothing more is asked."""


class Welcome:
    """What a person is asked at the start.

    Args:
        chosen: whether the server was named, or used before.
        listens: whether something listens where the core would connect.
        way_out: whether Ctrl-C declines a question; in the plain view it ends the client.
        why_plain: why this is the plain view, where nobody asked for it.
    """

    def __init__(
        self,
        core: ChatCore,
        *,
        chosen: bool,
        listens: Callable[[], Awaitable[bool]],
        way_out: bool = True,
        why_plain: str | None = None,
    ) -> None:
        self._core = core
        self._chosen = chosen
        self._listens = listens
        self._aside = f"{_WAY_OUT if way_out else ''}{_ASIDE}"
        self._why_plain = why_plain

    async def run(self) -> None:
        """Asks; at the end the person is in a room, or at the prompt and knows what to type."""
        self._say(_TITLE, *([] if self._why_plain is None else [f"(Plain view: {self._why_plain}.)"]), self._aside)
        try:
            if self._chosen and self._users():
                await self._come_back()
            else:
                await self._settle()
                self._say(*self._what_now())
        except _ToThePrompt:
            if self._core.account is None and not self._core.exiting:
                login = f"/login {users[0]}" if len(users := self._users()) == 1 else "/login NAME"
                self._say(*(line.format(login=login) for line in _BARE))

    async def _settle(self) -> None:
        if not self._chosen:
            await self._server()
        if self._users():
            await self._password()
        else:
            await self._account()
        await self._room()

    def _users(self) -> Sequence[str]:
        """The accounts on the server whose keys are on this machine."""
        line, directory = self._core.line, self._core.directory
        srv = line.id or directory.known_id(line.host, line.port)
        return [] if srv is None else directory.users(srv)

    def _say(self, *lines: str) -> None:
        self._core.show(Answer(lines))

    def _wrong(self, why: str) -> None:
        self._core.show(Failure(why))

    async def _ask(self, question: str, *, secret: bool = False) -> str:
        """The answer, without blanks around it unless it is a secret. Raises _ToThePrompt."""
        core = self._core
        while True:
            if core.orders.commanded:  # also while something else was done
                raise _ToThePrompt
            answer = await (core.view.ask_secret if secret else core.view.ask)(question)
            if answer is None or core.orders.commanded:
                raise _ToThePrompt
            typed = commands.parse(answer, core.preferences.aliases)
            if not isinstance(typed, commands.Typed):
                return answer if secret else answer.strip()
            await core.orders.submit_first(answer)
            if typed.command.name != "help":
                raise _ToThePrompt

    async def _chosen_of(self, question: str, listed: Sequence[str]) -> str:
        """One that is listed, by its number; else what was typed."""
        answer = await self._ask(question)
        number = whole(answer)
        if number is not None and 0 < number <= len(listed):
            return listed[number - 1]
        return answer

    # --- the server -------------------------------------------------------------------------------------------------

    async def _server(self) -> None:
        core, here = self._core, self._core.line
        listens = await self._listens()
        if listens:
            self._say("Server: one runs on this machine. Press Enter, or paste the line you were given.")
            question = "Server (Enter: this machine): "
        else:
            self._say("Server: paste the line that its operator or a friend gave you (securechat://…).")
            question = "Server: "
        while True:
            answer = await self._ask(question)
            if not answer and not listens:
                self._wrong("A line is needed. For a server of your own, start one first: twistd -n securechat")
                continue
            try:
                core.line = ConnectLine.parse(answer.strip("'\"")) if answer else here
            except BadAddress as error:
                self._wrong(str(error))
                continue
            if await core.orders.attempt(self._connect()) is Exit.OK:
                return

    async def _connect(self) -> None:
        await self._core.online.connected()

    # --- the account ------------------------------------------------------------------------------------------------

    async def _account(self) -> None:
        line = self._core.line
        if line.invite or line.inviter:
            self._say(f"You are invited to {line.host}.")
        self._say("Account: a name and a password. Nobody can recover a forgotten password.")
        user, password = await self._name("Choose a name (Enter: the prompt): "), ""
        while True:
            password = password or await self._new_password(user)
            status, taken = await self._register(user, password)
            if status is Exit.OK:
                return
            if not taken:
                raise _ToThePrompt  # what is wrong was said, and a question more would not mend it
            answer = await self._name(f"Another name, or yes if {user} is yours: ")
            if answer not in ("yes", "y"):
                user = answer
            elif await self._core.orders.attempt(do_login(self._core, user)) is Exit.OK:
                return
            else:
                user = await self._name("Choose a name (Enter: the prompt): ")

    async def _name(self, question: str) -> str:
        while True:
            answer = await self._ask(question)
            if not answer:
                raise _ToThePrompt
            user = fold_user(answer)
            if user is not None:
                return user
            self._wrong(f"That cannot be a name here: {NAME_RULE}.")

    async def _new_password(self, user: str) -> str:
        while True:
            password = await self._ask(f"New password for {user}: ", secret=True)
            if len(password) < LEAST_PASSWORD:
                self._wrong(f"A password has at least {LEAST_PASSWORD} characters. A few words are easy to keep.")
            elif await self._ask("The same again: ", secret=True) != password:
                self._wrong("The two were not the same. Try again.")
            else:
                return password

    async def _register(self, user: str, password: str) -> tuple[Exit, bool]:
        """The status, and whether somebody has that name."""
        taken = False

        async def work() -> None:
            nonlocal taken
            try:
                await register(self._core, user, password)
            except Refused as refusal:
                taken = refusal.code is NAME_TAKEN
                raise

        return await self._core.orders.attempt(work()), taken

    # --- the room ---------------------------------------------------------------------------------------------------

    async def _room(self) -> None:
        core = self._core
        if core.conversations.rooms():
            return
        found: list[m.RoomEntry] = []

        async def look() -> None:
            reply: m.RoomsOk = await core.request(m.Rooms())
            found.extend(sorted(reply.rooms, key=lambda room: (-room.members, room.room))[:_ROOMS])

        if await core.orders.attempt(look()) is not Exit.OK:
            return
        self._say(
            "First room: a new name makes an open room, for anybody on this server.",
            *(f"  {number:>2}  {_about(room)}" for number, room in enumerate(found, 1)),
        )
        question = "Number or name (Enter: none): " if found else "A name for it (Enter: none): "
        while answer := await self._chosen_of(question, [room.room for room in found]):
            if answer.isdecimal() and answer not in [room.room for room in found]:
                self._wrong(f"There is no number {answer} here. Type a name; /join {answer} makes a room of that name.")
                continue
            if await core.orders.attempt(do_join(core, answer)) is Exit.OK:
                return

    def _what_now(self) -> Sequence[str]:
        room = self._core.conversations.active
        first = (
            f"Now type a message: Enter sends it to {room}, sealed for its members."
            if room
            else "Now /join ROOM enters a room, and /pm NAME TEXT writes to one person."
        )
        return first, "/invite makes a line for a friend, /help lists the rest, /exit leaves."

    # --- coming back ------------------------------------------------------------------------------------------------

    async def _come_back(self) -> None:
        await self._password()
        if (room := self._core.line.room) is not None:
            core, line = self._core, self._core.line
            core.line = replace(line, invite=None, room=None, rid=None, inviter=None)  # which served once
            await core.orders.attempt(do_join(core, room))

    async def _password(self) -> None:
        """Logs in, with as many tries as it takes."""
        core, users = self._core, self._users()
        user = users[0] if len(users) == 1 else await self._which(users)
        while True:
            password = await self._ask(f"Password of {user} (Enter: the prompt): ", secret=True)
            if not password:
                raise _ToThePrompt
            if core.line.room is not None:
                # Then the login waits for the server, which is asked for more.
                await core.orders.attempt(self._connect())
            status = await core.orders.attempt(do_login(core, user, password))
            if status is Exit.OK:
                return
            if status is not Exit.LOGIN_REFUSED:
                raise _ToThePrompt

    async def _which(self, users: Sequence[str]) -> str:
        self._say("Your accounts here:", *(f"  {number:>2}  {user}" for number, user in enumerate(users, 1)))
        while True:
            answer = await self._chosen_of("Number or name (Enter: the prompt): ", users)
            if not answer:
                raise _ToThePrompt
            user = fold_user(answer)
            if user is not None:
                return user
            self._wrong(f"That cannot be a name here: {NAME_RULE}.")


def _about(room: m.RoomEntry) -> str:
    people = "1 member" if room.members == 1 else f"{room.members} members"
    return f"{room.room}: {people}{f' · {room.topic}' if room.topic else ''}"
