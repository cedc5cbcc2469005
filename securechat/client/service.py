"""Builds the client's parts; the only place that knows them all. `securechat` and `twistd securechat-client` use it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from securechat.client import stay
from securechat.client.connection import listens
from securechat.client.core import ChatCore
from securechat.client.credentials import choose_user
from securechat.client.launch import spawner
from securechat.client.panes import Panes
from securechat.client.preferences import Preferences
from securechat.client.profile import ClientDir
from securechat.client.views import choice
from securechat.client.views.full import FullView
from securechat.client.views.inline import InlineView
from securechat.client.views.notify import Announcer
from securechat.client.views.plain import PlainView
from securechat.client.welcome import Welcome
from securechat.errors import Exit, SecureChatError, StartupError
from securechat.link import DEFAULT_HOST, DEFAULT_PORT, ConnectLine

_COMMAND_SECONDS: Final = 10.0  # that a command which announces something may take
_THREADS: Final = 2  # one for passwords and keys, one that opens messages meanwhile


def default_data_dir() -> Path:
    """The platform's directory for user data."""
    return Path(platformdirs.user_data_dir("securechat", appauthor=False))


def config_path(given: str | None, data_dir: str | None, environ: Mapping[str, str]) -> Path:
    """Where its user's settings lie: apart from the keys, since people share such files."""
    named = given or environ.get("SECURECHAT_CONFIG")
    if named:
        return Path(named)
    directory = data_dir or environ.get("SECURECHAT_DATA_DIR")
    base = Path(directory) if directory else Path(platformdirs.user_config_dir("securechat", appauthor=False))
    return base / "client.toml"


def choose_line(given: str | None, directory: ClientDir, environ: Mapping[str, str]) -> ConnectLine:
    """Which server: as given, else from the environment, else the last one, else this machine. Raises BadAddress."""
    text = given or environ.get("SECURECHAT_CONNECT")
    if text:
        return ConnectLine.parse(text)
    return directory.last_line() or ConnectLine(DEFAULT_HOST, DEFAULT_PORT)


class TerminalClient(Service):
    """The client, as twistd or `task.react` starts and stops it.

    Args:
        line: the connect line or address as given, or None.
        data_dir: where keys lie; None: the environment's, else the platform's.
        ui: which view (see `preferences`); None: the environment's, else as its user has set it.
        color: "auto", "always" or "never"; None: as its user has set it.
        config: the file of its user's settings; None: the environment's, else the one in `data_dir`, if that is given,
            else the platform's.
        screen_reader: the plain view, without times, and with words in place of signs.
        keep_going: a script goes on after a failed command.
        timeout: seconds to wait for acknowledgements at the end.
        user, password: who logs in before anything is typed; a password without a name is the only account's.
        done: called once with the exit status; None: the reactor is stopped.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        line: str | None = None,
        data_dir: str | None = None,
        ui: str | None = None,
        color: str | None = None,
        config: str | None = None,
        screen_reader: bool = False,
        keep_going: bool = False,
        timeout: float = 30.0,
        user: str | None = None,
        password: str | None = None,
        done: Callable[[Exit], None] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._reactor = reactor
        self._given = line
        self._environ = environ
        self._directory = ClientDir(Path(data_dir or environ.get("SECURECHAT_DATA_DIR") or default_data_dir()))
        flags = {"ui": "plain" if screen_reader else ui or environ.get("SECURECHAT_UI"), "color": color}
        over = {name: value for name, value in flags.items() if value}
        self._preferences = Preferences(config_path(config, data_dir, environ), over)
        self._screen_reader = screen_reader
        self._keep_going = keep_going
        self._timeout = timeout
        self._login = None if user is None and password is None else (user, password)
        self._done = done
        self._pool = ThreadPool(1, _THREADS, name="client")
        self._view: PlainView | InlineView | FullView | None = None
        self._core: ChatCore | None = None
        self._over = False
        self.status = Exit.OK

    def startService(self) -> None:
        """Opens the view and says hello. Raises BadAddress for a connect line that is none, StartupError."""
        super().startService()
        line = choose_line(self._given, self._directory, self._environ)
        user = "" if self._login is None else choose_user(self._login[0], self._directory, line)
        self._prepare()
        name, why_plain = choice.choose(self._preferences["ui"], self._reactor, self._environ)
        view = self._view = self._new_view(name)
        core = self._core = ChatCore(
            self._directory, line, view,
            reactor=self._reactor, run=self._run, timeout=self._timeout, preferences=self._preferences,
        )  # fmt: skip
        self._pool.start()
        core.start()
        view.start(Panes(core))
        for problem in self._preferences.problems:
            core.notice(problem)
        if self._login is not None:
            core.orders.begin(user, self._login[1])
            self._login = None
        elif view.interactive:
            Deferred.fromCoroutine(self._welcome(core, why_plain)).addErrback(
                lambda failure: self.log.failure("the welcome failed", failure=failure)
            )

    def _new_view(self, name: str) -> PlainView | InlineView | FullView:
        if name == "plain":
            return PlainView(
                self._reactor,
                done=self._ended,
                keep_going=self._keep_going,
                timeout=self._timeout,
                spoken=self._screen_reader,
                numbers=lambda: self._preferences.on("numbers"),
                notifier=self._announcer(),
            )
        kind = FullView if name == "full" else InlineView
        return kind(
            self._reactor,
            done=self._ended,
            timeout=self._timeout,
            color=self._preferences["color"],
            environ=self._environ,
            notifier=self._announcer(),
        )

    def _announcer(self) -> Announcer:
        return Announcer(
            self._preferences.__getitem__,
            lambda data: self._view.ring(data) if self._view is not None else None,
            spawner(self._reactor, self._environ, limit=_COMMAND_SECONDS),
            self._environ,
            clock=self._reactor.seconds,
            say=lambda text: self._core.notice(text) if self._core is not None else None,
        )

    def _prepare(self) -> None:
        try:
            self._directory.prepare()
        except OSError as error:
            raise StartupError(
                f"The directory for your keys cannot be made: {error}. Name another: --data-dir DIR."
            ) from None

    def _run(self, work: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return deferToThreadPool(self._reactor, self._pool, work, *arguments)

    async def _welcome(self, core: ChatCore, why_plain: str | None) -> None:
        """Asks a person what is needed to begin. Whoever types /exit instead is let go."""
        chosen = bool(self._given or self._environ.get("SECURECHAT_CONNECT") or self._directory.last_line())
        at = core.line
        welcome = Welcome(
            core,
            chosen=chosen,
            listens=lambda: listens(self._reactor, at),
            way_out=not isinstance(self._view, PlainView),
            why_plain=why_plain,
        )
        await welcome.run()
        if core.exiting and not self._over:
            self._ended(await core.close(self._timeout))

    def _ended(self, status: Exit) -> None:
        """The view is done: the terminal is as it was, everything is written."""
        self._over = True
        self.status = status
        if self._done is not None:
            self._done(status)
        elif self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Leaves the account and ends the threads."""
        super().stopService()
        if not self._over:  # by a signal, while the view was still at it
            self.status = Exit.INTERRUPTED
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            if self._core is not None:
                await stay.leave(self._core)
        except SecureChatError as error:
            self.log.warn("leaving: {error}", error=error)
        if self._pool.started:
            self._pool.stop()
