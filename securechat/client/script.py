"""Runs one verb: builds its core and its view, logs in, and ends with its status."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from securechat.client import stay
from securechat.client.core import ChatCore
from securechat.client.credentials import choose_user
from securechat.client.profile import ClientDir
from securechat.client.service import choose_line, default_data_dir
from securechat.client.verbs.common import Verb, trust_of
from securechat.client.view import Failure
from securechat.client.views.script import ScriptView
from securechat.errors import Exit, SecureChatError, StartupError

_THREADS: Final = 2  # one for the password, one that opens messages meanwhile


class VerbClient(Service):
    """One run of a verb, for a reactor that stops with it.

    Args:
        user: who logs in; None: the only account of this machine there.
        timeout: seconds for the login, and for leaving.
        status_of: the exit status after a signal.
        done: called once with the exit status; None: the reactor is stopped.
        make_core, make_view, pool: for tests.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        verb: Verb,
        *,
        password: str,
        line: str | None = None,
        data_dir: str | None = None,
        user: str | None = None,
        as_json: bool = False,
        notices_are_output: bool = False,
        timeout: float = 30.0,
        status_of: Mapping[int, Exit] | None = None,
        done: Callable[[Exit], None] | None = None,
        environ: Mapping[str, str] = os.environ,
        make_core: Callable[..., ChatCore] = ChatCore,
        make_view: Callable[..., ScriptView] = ScriptView,
        pool: Any = None,
    ) -> None:
        self._reactor = reactor
        self._verb = verb
        self._password: str | None = password
        self._timeout = timeout
        self._status_of = dict(status_of or {})
        self._done = done
        directory = ClientDir(Path(data_dir or environ.get("SECURECHAT_DATA_DIR") or default_data_dir()))
        connect = choose_line(line, directory, environ)
        self._user = choose_user(user, directory, connect)
        self._pool = pool or ThreadPool(1, _THREADS, name="client")
        self._view = make_view(
            reactor, done=self._ended, now_ms=self._now_ms, as_json=as_json, notices_are_output=notices_are_output
        )
        self._core = make_core(directory, connect, self._view, reactor=reactor, run=self._run, timeout=timeout)
        self._view.trust = partial(trust_of, self._core)
        self._over = False
        self.status = Exit.OK

    def _now_ms(self) -> int:
        return self._core.now_ms()

    def _run(self, work: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return deferToThreadPool(self._reactor, self._pool, work, *arguments)

    def startService(self) -> None:
        """Begins. Raises StartupError."""
        super().startService()
        try:
            self._core.start()
        except OSError as error:
            raise StartupError(
                f"The directory for your keys cannot be made: {error}. Name another: --data-dir DIR."
            ) from None
        self._pool.start()
        self._verb.start(self._core, self._view)
        self._view.left.addCallback(self.end)
        if self._verb.prints:
            self._view.unread.addCallback(self.end)
        self._view.open(reading=self._verb.reads)
        self._watch_signals()
        Deferred.fromCoroutine(self._work()).addCallbacks(self.end, self._broken)

    def _watch_signals(self) -> None:
        """After the reactor has set its own: those know only one status."""
        for number in self._status_of:
            self._reactor.callWhenRunning(signal.signal, number, self._signalled)

    def _signalled(self, number: int, _frame: object) -> None:
        self._reactor.callFromThread(self._interrupted, self._status_of[number])

    def _interrupted(self, status: Exit) -> None:
        if not self._over:
            self._verb.last_words()
        self.end(status)

    async def _work(self) -> Exit:
        """The verb from its beginning to its end; what goes wrong is said."""
        try:
            await self._verb.before()
            logging_in = Deferred.fromCoroutine(self._core.orders.log_in(self._user, self._password))
            self._password = None  # it is not needed any more
            try:
                status = await logging_in.addTimeout(self._timeout, self._reactor)
            except TimeoutError:
                self._view.show(
                    Failure(f"The login took more than {self._timeout:g} s. Nothing was done: try again.", Exit.NETWORK)
                )
                return Exit.NETWORK
            if status is not Exit.OK:
                return status
            self._view.logged_in = True
            return await self._verb.run()
        except SecureChatError as error:
            return self._core.orders.fail(error)

    def _broken(self, failure: Any) -> None:
        self.log.failure("A verb broke off", failure=failure)
        self._view.show(Failure("That failed by a mistake in the client; SECURECHAT_DEBUG=1 shows where."))
        self.end(Exit.FIXABLE)

    def end(self, status: Exit) -> None:
        """Leaves the account, then the descriptors; the first status counts."""
        if self._over:
            return
        self._over = True
        self.status = status
        leaving = maybeDeferred(Deferred.fromCoroutine, stay.leave(self._core))
        leaving.addErrback(lambda failure: self.log.warn("leaving: {error}", error=failure.value))
        leaving.addCallback(lambda _: self._view.finish(self.status))

    def _ended(self, status: Exit) -> None:
        self.status = status
        if self._done is not None:
            self._done(status)
        elif self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> None:
        """Ends the threads."""
        super().stopService()
        if self._pool.started:
            self._pool.stop()
