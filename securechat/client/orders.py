"""What its user asks for: typed lines carried out, one login before all of them, and what went wrong said."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from securechat.client import commands, slash, stay
from securechat.client.completion import completions
from securechat.client.entries import watched
from securechat.client.protocol import LinkLost
from securechat.client.view import Failure
from securechat.errors import Exit, InvalidKey, Refused, SecureChatError, WrongSecret

if TYPE_CHECKING:
    from securechat.client.core import ChatCore


class Orders:
    """Runs what was typed.

    Attributes:
        commanded: whether a command was typed: then its user knows what to do.
    """

    log = Logger()

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self.commanded = False
        self._before: Deferred[None] | None = None  # what is typed waits for that
        self._begun: Deferred[Exit] | None = None

    def begin(self, user: str, password: str | None = None) -> None:
        """Logs in before the first typed line has its turn; without a password the view is asked for it."""
        self._begun = Deferred.fromCoroutine(self.log_in(user, password))
        self._begun.addErrback(self._broke_off)

    def _broke_off(self, failure: Any) -> Exit:
        self.log.failure("the first login broke off", failure=failure)
        return Exit.FIXABLE

    async def log_in(self, user: str, password: str | None = None) -> Exit:
        """As /login."""
        login = commands.find("login")
        assert login is not None
        typed = commands.Typed(login, (user,) if password is None else (user, password))
        return await self.attempt(slash.run(self._core, typed))

    async def beginning(self) -> Exit:
        """What became of `begin`: a script has nothing to do without it, a person may try again."""
        if self._begun is None:
            return Exit.OK
        status = await watched(self._begun)
        if status is Exit.OK or self._core.view.interactive:
            self._begun = None
            return Exit.OK
        return status

    async def submit(self, line: str) -> Exit:
        """Runs one typed line; every error is shown, none is raised."""
        if status := await self.beginning():
            return status
        typed = commands.parse(line, self._core.preferences.aliases)
        self.commanded = self.commanded or isinstance(typed, commands.Typed)
        if self._before is not None:
            await self._before
        return await self._run_line(line)

    async def submit_first(self, line: str) -> Exit:
        """Runs a command that was typed instead of an answer: what is typed from now on comes after it."""
        before: Deferred[None] = Deferred()
        self._before = before
        try:
            return await self._run_line(line)
        finally:
            self._before = None
            before.callback(None)

    async def _run_line(self, line: str) -> Exit:
        typed = commands.parse(line, self._core.preferences.aliases)
        if typed is None:
            return Exit.OK
        if isinstance(typed, commands.Misfit):
            self._core.show(Failure(typed.problem, Exit.USAGE))
            return Exit.USAGE
        return await self.attempt(slash.run(self._core, typed))

    async def attempt(self, work: Coroutine[Any, Any, Exit | None]) -> Exit:
        """Does what somebody asked for; what goes wrong is shown, and a login that failed leaves nothing half open."""
        try:
            return await work or Exit.OK
        except OSError as error:  # a full disk, a directory that is not ours
            await self._leave_half_open()
            problem = f"This machine does not let it be done: {error.strerror} ({error.filename})."
            self._core.show(Failure(problem))
            return Exit.FIXABLE
        except SecureChatError as error:
            await self._leave_half_open()
            return self.fail(error)

    def fail(self, error: SecureChatError) -> Exit:
        """Shows why something is not done; the status that says so."""
        status = error.code.exit if isinstance(error, Refused) else getattr(error, "exit", Exit.FIXABLE)
        if isinstance(error, LinkLost):
            status = Exit.NETWORK
        self._core.show(Failure(sentence(error), status, code(error)))
        return status

    async def _leave_half_open(self) -> None:
        """A login that failed leaves no half-open connection behind."""
        core = self._core
        if core.account is None and core.stranded is None and core.link is not None:
            await stay.leave(core)

    def complete(self, text: str) -> tuple[int, Sequence[str]]:
        """Completions for what is being typed."""
        core, people = self._core, self._core.people
        active = core.conversations.titled(core.conversations.active)
        spoke = [] if active is None else active.timeline.speakers()
        there = [] if active is None or active.log is None else sorted(active.log.members)
        known = [] if people is None else sorted(people.pins.all())
        users = [user for user in dict.fromkeys([*spoke, *there, *known]) if user != core.user]
        newest = None if active is None else active.timeline.newest(by=core.user)
        return completions(
            text,
            core.conversations.rooms(),
            users,
            own="" if newest is None else newest.body.text,
            aliases=core.preferences.aliases.keys(),
        )


def sentence(error: Exception) -> str:
    """What an error says, with a capital; those that may start with a name stay as they are."""
    text = str(error)
    return text[:1].upper() + text[1:] if isinstance(error, (LinkLost, InvalidKey, WrongSecret)) else text


def code(error: Exception) -> str:
    """The wire code of an error; "" where it has none."""
    return error.code.name if isinstance(error, Refused) else ""
