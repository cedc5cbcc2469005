"""`Online`: the connection, as the core has it: made, come back, lost, and what the server says over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.task import deferLater

from securechat.client import localfirst, ownkeys, stay
from securechat.client.connection import ChangedServer, ServerLink
from securechat.client.openaccount import KeysOutOfReach, OpenAccount, WrongPassword
from securechat.client.orders import sentence
from securechat.client.protocol import ChatClientProtocol, LinkLost
from securechat.client.store import CannotKeep
from securechat.client.view import Failure
from securechat.errors import BAD_SESSION, Exit, InvalidKey, Refused, SecureChatError
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_REFUSALS: Final = (Refused, InvalidKey, WrongPassword, KeysOutOfReach, localfirst.NotTakenUp)  # of who comes back


class Online:
    """The core as `connection.LinkListener`.

    Args:
        make_link: how to reach the server; tests give their own.

    Attributes:
        retry_at: when the next attempt is, in seconds since 1970; 0: none is waited for.
        changed_server: the other server that answered at an address, of the last link that met one.
    """

    def __init__(self, core: ChatCore, make_link: Callable[..., ServerLink]) -> None:
        self._core = core
        self._make_link = make_link
        self.retry_at = 0.0
        self.changed_server: ChangedServer | None = None
        self._said_down = False
        self._login_at = 0.0  # no first login is asked for before

    def state(self) -> str:
        """ "offline", "connecting" or "online"."""
        link, account = self._core.link, self._core.account
        if link is None or (link.protocol is None and self.retry_at):
            return "offline"
        logging_in = account is not None and not account.logged_in
        return "connecting" if link.protocol is None or logging_in else "online"

    async def connected(self) -> ChatClientProtocol:
        """A verified connection, made if there is none. Raises CannotConnect, UntrustedServer, LinkLost."""
        core = self._core
        if core.link is not None:
            if core.link.protocol is None:
                raise LinkLost("the server is away; it is being tried again. Wait for the connection")
            return core.link.protocol
        core.status_changed("connecting")
        link = core.link = self._new_link(core.view.ask if core.view.interactive else None)
        try:
            protocol = await link.connect()
        except BaseException:
            self.changed_server = link.judge.changed
            core.link = None
            core.status_changed()
            raise
        core.signs.up(core.clock())
        core.status_changed()
        return protocol

    def begin(self, srv: str) -> None:
        """Starts connecting, on behalf of an account of that server that was opened without it."""
        self._core.link = self._new_link(None)
        self._core.link.begin(srv)

    def _new_link(self, ask: Any) -> ServerLink:
        core = self._core
        return self._make_link(core.reactor, core.line, core.directory, self, ask=ask)

    def first_login_begins(self) -> None:
        """An account is opened whose first login is still to come: nothing was said of it, nothing put off."""
        self._said_down, self._login_at = False, 0.0

    # --- it is back -------------------------------------------------------------------------------------------------

    def link_up(self, protocol: ChatClientProtocol) -> None:
        """The connection is back: resume, sync, resend."""
        core = self._core
        core.signs.up(core.clock())
        self.retry_at = 0.0
        if core.account is not None:
            core.own_task(self._come_back(core.account, protocol), "coming back")
        core.status_changed()

    async def _come_back(self, account: OpenAccount, protocol: ChatClientProtocol) -> None:
        core, first = self._core, not account.logged_in
        try:
            await self._log_in(account, protocol)
            if core.account is account:  # else it was taken up anew, as another device
                core.status_changed()
                await self._catch_up(first=first)
        except LinkLost:
            return  # the link tries again
        except CannotKeep as error:
            core.show(Failure(str(error)))
            protocol.give_up(str(error))  # it is tried again by itself; until then nothing is sent unnoted
            return
        except _REFUSALS as error:
            await self._refused(account, protocol, error, first=first)
            return
        if core.link is not None and core.link.protocol is protocol:  # else it broke again before all had come
            core.notice(f"Logged in as {core.user}." if first else "Connected again.")
            self._said_down = False
            stay.share(core)

    async def _log_in(self, account: OpenAccount, protocol: ChatClientProtocol) -> None:
        """For the first time, or again with the session there was."""
        core = self._core
        if not account.logged_in:
            await self._turn_to_log_in(protocol)
            await localfirst.log_in(core, account, protocol)
        else:
            own = await account.resume(protocol)
            assert core.people is not None
            core.people.meet_self(own, fresh=False)
            account.own = own

    async def _catch_up(self, *, first: bool) -> None:
        core = self._core
        await ownkeys.keep(core)
        await core.catchup.run()
        if first:
            core.healing.keys_came()
            core.healing.updated()
        core.healing.given_again()

    async def _refused(
        self, account: OpenAccount, protocol: ChatClientProtocol, error: SecureChatError, *, first: bool
    ) -> None:
        """The server does not take the account back: for now, or for good; then it is left."""
        core = self._core
        passing = isinstance(error, Refused) and error.code.exit in (Exit.NETWORK, Exit.RATE_LIMITED)
        if passing and core.account is not None:
            if isinstance(error, Refused) and not account.logged_in:
                self._put_off(error)
            protocol.give_up(str(error))  # a server that is not up to it yet: the link tries again
            return
        ended = first or (isinstance(error, Refused) and error.code is BAD_SESSION)
        text = f"{sentence(error)} What you wrote is kept." if ended else sentence(error)
        core.show(Failure(text, Exit.LOGIN_REFUSED))
        await stay.leave(core, error.stranded if isinstance(error, KeysOutOfReach) else None)

    def _put_off(self, refusal: Refused) -> None:
        """The server puts off a first login: it is tried again no sooner than it says, or it would be in vain."""
        self._login_at = self._core.clock() + float(refusal.data.get("retry_after", 1.0))
        if not self._said_down:
            self._said_down = True
            self._core.notice(f"Not logged in yet: {refusal} It is tried again by itself; what you type is kept.")

    async def _turn_to_log_in(self, protocol: ChatClientProtocol) -> None:
        """Until the server may be asked for a first login. Raises LinkLost."""
        core = self._core
        if (wait := self._login_at - core.clock()) > 0:
            await deferLater(core.reactor, wait)
        if core.link is None or core.link.protocol is not protocol:
            raise LinkLost("the connection was lost meanwhile")

    # --- it is gone -------------------------------------------------------------------------------------------------

    def link_down(self, why: str, wait: float | None, *, news: bool = False) -> None:
        """The connection is gone, or an attempt failed."""
        core = self._core
        if core.link is None:
            return  # by our own doing
        core.catchup.end()
        core.signs.down(core.clock(), why)
        if core.account is None:
            # Nobody is logged in, so nobody needs it: the next /login makes another.
            core.own_task(stay.leave(core), "leaving")
            return
        if wait is None:
            self.changed_server = core.link.judge.changed
            core.show(Failure(f"Disconnected: {why}", Exit.NETWORK))
            core.own_task(stay.leave(core), "leaving")
            return
        if news:
            self._said_down = True
            core.notice(f"{why.removesuffix('.')}. Connecting again.")
        elif not self._said_down:
            self._said_down = True
            lost = "The connection is lost" if core.account.logged_in else "There is no connection yet"
            core.notice(f"{lost}: {why.removesuffix('.')}. It is tried again; what you type is kept.")
        self.retry_at = core.clock() + wait if wait else 0.0
        core.status_changed("offline" if wait else "connecting")

    # --- what the server says ---------------------------------------------------------------------------------------

    def link_event(self, event: m.AnyEvent) -> None:
        """The server said something."""
        if not self._core.lobby.holds(event) and (heard := _HEARD.get(type(event))) is not None:
            heard(self._core, event)


def _message(core: ChatCore, event: m.StoredMessage) -> None:
    if core.synced:  # what was missed is older
        core.signs.heard(event.ts, core.now_ms())
    if core.inbox is not None:
        core.inbox.put(event)


def _event(core: ChatCore, event: m.RoomEvent) -> None:
    core.lobby.take_event(event)


def _presence(core: ChatCore, event: m.PresenceEvent) -> None:
    core.lobby.presence(event)


def _invited(core: ChatCore, event: m.InvitedEvent) -> None:
    core.own_task(core.lobby.invited(event.room), "looking at an invitation")


def _member(core: ChatCore, event: m.MemberEvent) -> None:
    if event.user == core.user:
        ownkeys.news(core, event.keys)
    elif core.people is not None:
        core.people.take_in({event.user: event.keys})


def _live(core: ChatCore, event: m.Live) -> None:
    core.catchup.live(event)


def _typing(core: ChatCore, event: m.TypingEvent) -> None:
    core.company.heard(event)


def _note(core: ChatCore, event: m.NoteEvent) -> None:
    if core.notes is not None:
        core.notes.take(event.name, event.version, event.blob)


def _read(core: ChatCore, event: m.ReadEvent) -> None:
    conversation = core.conversations.get(event.room)
    if conversation is not None:
        core.attention.read_elsewhere(conversation, min(event.seq, conversation.cursor))


# What is done about each event; about one that is not here, nothing.
_HEARD: Final[dict[type[Any], Callable[[ChatCore, Any], None]]] = {
    m.StoredMessage: _message,
    m.RoomEvent: _event,
    m.PresenceEvent: _presence,
    m.InvitedEvent: _invited,
    m.MemberEvent: _member,
    m.Live: _live,
    m.TypingEvent: _typing,
    m.NoteEvent: _note,
    m.ReadEvent: _read,
}
