"""Typed lines run in order, then the client is closed: what every view does the same way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from securechat.client.commands import Text, Typed, parse
from securechat.client.view import Client, Failure, Item
from securechat.errors import Exit

PATIENCE: Final = 5.0  # seconds a person's next line waits for the one before: /join must not overtake /login
GRACE: Final = 2.0  # seconds beyond its own time limit after which a client that does not close is given up
_SENDING: Final = frozenset({"send", "pm"})


def _sends(line: str) -> bool:
    """Whether a line sends a message: the outbox keeps those in order, whenever they are acknowledged."""
    typed = parse(line)
    return isinstance(typed, Text) or (isinstance(typed, Typed) and typed.command.name in _SENDING)


class Turns:
    """Gives each typed line its turn.

    A script's lines run one at a time, and the first that fails ends the run. A person's lines start in
    order, but none waits for an acknowledgement: a link that is down must not keep anybody from typing on.

    Args:
        client: runs the lines.
        clock: for time limits.
        show: for what goes wrong here.
        ended: called once with the exit status, after the client was closed.
        script: whether nobody is there.
        keep_going: a script goes on after a failure; the status is still that of the first one.
        timeout: seconds the client may take to close.
        hungry: called whenever all lines have had their turn.
    """

    log = Logger()

    def __init__(
        self,
        client: Client,
        *,
        clock: IReactorTime,
        show: Callable[[Item], None],
        ended: Callable[[Exit], None],
        script: bool,
        keep_going: bool = False,
        timeout: float = 30.0,
        hungry: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._show = show
        self._ended: Callable[[Exit], None] | None = ended
        self._script = script
        self._keep_going = keep_going
        self._timeout = timeout
        self._hungry = hungry
        self._lines: deque[str | Failure] = deque()
        self._bell: Deferred[None] | None = None  # what the run waits for while there is nothing to do
        self._held = False
        self._no_more = False
        self._over = False
        self._closing = False
        self._failed = Exit.OK

    def __len__(self) -> int:
        """How many lines wait for their turn."""
        return len(self._lines)

    def start(self) -> None:
        """Begins; lines may have been added before."""
        Deferred.fromCoroutine(self._run()).addErrback(self._broken)

    def add(self, line: str | Failure) -> None:
        """A line that was typed, or what was wrong with one: that fails in its turn."""
        if not (self._over or self._no_more):
            self._lines.append(line)
            self._ring()

    def take(self) -> str | None:
        """The line whose turn would be next, for a question that it was typed to answer."""
        if not self._lines or not isinstance(line := self._lines[0], str):
            return None
        self._lines.popleft()
        return line

    def no_more(self) -> None:
        """The end of the input: what was typed still runs, then the client is closed."""
        self._no_more = True
        self._ring()

    def hold(self, held: bool) -> None:
        """No line gets its turn while held: what the last ones printed has not been taken yet."""
        self._held = held
        self._ring()

    def stop(self, status: Exit) -> None:
        """Ends at once: nothing more runs, no outbox is waited for. An earlier failure keeps its status."""
        self._over = True
        if self._closing:
            self._end(self._failed or status)
        else:
            Deferred.fromCoroutine(self._close(0.0, status)).addErrback(self._broken)

    def _ring(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.callback(None)

    async def _run(self) -> None:
        while not self._over:
            if self._lines and not self._held:
                await self._turn(self._lines.popleft())
            elif self._no_more and not self._lines:
                break
            else:
                self._bell = Deferred()
                bell = self._bell
                if not self._lines:
                    self._hungry()
                await bell
        await self._close(self._timeout)

    async def _turn(self, line: str | Failure) -> None:
        if isinstance(line, Failure):
            self._show(line)
            self._note(line.exit)
        elif self._script:
            self._note(await self._submit(line))
        else:
            running = Deferred.fromCoroutine(self._submit(line))
            if not _sends(line):
                await self._patiently(running)

    def _note(self, status: Exit) -> None:
        """Remembers the first failure of a script; what fails because the run was ended is none."""
        if self._script and status is not Exit.OK and not self._over:
            self._failed = self._failed or status
            self._over = self._over or not self._keep_going

    async def _submit(self, line: str) -> Exit:
        try:
            return await self._client.submit(line)
        except Exception:  # a mistake of ours in one command must not end the conversation
            self.log.failure("A command broke off")
            self._show(Failure("That failed by a mistake in the client; the log says where."))
            return Exit.FIXABLE
        finally:
            if self._client.exiting:
                self._over = True
                self._ring()

    def _patiently(self, running: Deferred[Exit]) -> Deferred[None]:
        """Fires when that is done, or when it has had its time."""
        turn: Deferred[None] = Deferred()
        timer = self._clock.callLater(PATIENCE, turn.callback, None)

        def done(status: Exit) -> None:
            if timer.active():
                timer.cancel()
                turn.callback(None)

        running.addCallback(done)
        return turn

    async def _close(self, timeout: float, forced: Exit | None = None) -> None:
        if self._closing:
            return
        self._closing = True
        closing = Deferred.fromCoroutine(self._client_closed(timeout))
        try:
            status = await closing.addTimeout(timeout + GRACE, self._clock)
        except TimeoutError:
            self._show(Failure("The client did not close in time and was left as it was.", Exit.NETWORK))
            status = Exit.NETWORK
        except Exception:  # whatever it was, the view must end
            self.log.failure("The client did not close")
            self._show(Failure("The client failed to close, by a mistake in it; the log says where."))
            status = Exit.FIXABLE
        self._end(self._failed or (status if forced is None else forced))

    async def _client_closed(self, timeout: float) -> Exit:
        return await self._client.close(timeout)

    def _end(self, status: Exit) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(status)

    def _broken(self, failure: object) -> None:
        self.log.error("The run of typed lines broke off: {failure}", failure=failure)
        self._end(Exit.FIXABLE)
