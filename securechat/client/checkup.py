"""What /doctor looks at: a table of checks, each from what the client knows to what is said of it. Pure.

`slash.doctor` gathers the `Facts`; nothing here asks anybody. What could not be found out is None, and said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from securechat.client.display import stamp
from securechat.crypto.findings import Finding
from securechat.crypto.reading import Found

CLOCK: Final = 2 * 60 * 1000  # milliseconds between the two clocks that are worth a word
LITTLE: Final = 100 * 1024**2  # bytes free on the disk that are worth a word
LEAST: Final = 5 * 1024**2  # bytes free below which the local store may stop taking anything
_NAMED: Final = 5  # named one by one; the rest are counted
_NO_TROUBLE: Final = frozenset({Finding.BEFORE_JOIN.name, Finding.REPLAYED.name})  # nobody lacks anything


class State(StrEnum):
    """How a check ends."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found.

    Attributes:
        name: what was looked at.
        next: what to type about it, as it stands; "" where there is nothing to do, or only `text` can say it.
    """

    name: str
    state: State
    text: str
    next: str = ""


@dataclass(slots=True)
class Signs:
    """What the core notes of its link as it goes.

    Attributes:
        since: when it came up last, seconds since 1970; 0: never.
        failed: when it failed last; 0: never; and why.
        apart: the server's clock less this machine's, milliseconds, by the newest message; None: nothing came yet.
    """

    since: float = 0.0
    failed: float = 0.0
    failure: str = ""
    apart: int | None = None

    def up(self, now: float) -> None:
        """A connection is there."""
        self.since = now

    def down(self, now: float, why: str) -> None:
        """It is gone, or an attempt failed."""
        self.failed, self.failure = now, why.removesuffix(".")

    def heard(self, ts: int, now_ms: int) -> None:
        """The server has just stored something, at its time `ts`; both in milliseconds."""
        self.apart = ts - now_ms


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """The account that is logged in.

    Attributes:
        devices: how many are in force; whether this one is.
        keys: how many RSA keys are here; whether the present one is.
        backup: number of the newest backup that is known, and of the one the server has; None: not to be had.
        by_code: whether that lies under a recovery code.
    """

    user: str
    device: str
    devices: int
    in_force: bool
    list_version: int
    keys: int
    key_here: bool
    backup: int
    stored_backup: int | None = None
    by_code: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The client's files.

    Attributes:
        size, free: bytes of what lies there, and left on that disk.
        open: files and directories that others may read or write.
    """

    path: str
    size: int
    free: int
    writable: bool
    open: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hidden:
    """Messages that are not shown for one reason: `finding` by name, who wrote them, and where the last one is."""

    finding: str
    sender: str
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the client knows of itself.

    Attributes:
        now: milliseconds since 1970.
        where: the server's address.
        online: whether there is a verified connection, or was one a moment ago; `failure` says why not.
        retry: seconds until the next attempt; None: none is planned.
        pinned: the server's identity as known here; None: not known yet. `changed`: another one answers.
        server: version, protocol and features that the server named; None: it was not reached.
        pins: how many people are known, how many of them compared, and whose identity changed.
        stopped: conversations where nothing is sent: title, reasons, whether their log is broken.
        users: the accounts whose keys are on this machine.
        waiting: messages that go as soon as they can.
        held: where what was typed waits for a word, and what to type for it.
        not_given: conversations in which the server did not give messages, and how many.
        terminal: in words; `utf8` whether it can show all text.
    """

    now: int
    where: str
    version: str
    protocol: int
    online: bool = False
    signs: Signs = field(default_factory=Signs)
    failure: str = ""
    retry: float | None = None
    pinned: str | None = None
    changed: bool = False
    server: tuple[str, int, tuple[str, ...]] | None = None
    users: tuple[str, ...] = ()
    account: AccountFacts | None = None
    pins: tuple[int, int, tuple[str, ...]] = (0, 0, ())
    stopped: tuple[tuple[str, tuple[str, ...], bool], ...] = ()
    waiting: int = 0
    held: tuple[tuple[str, str], ...] = ()
    hidden: tuple[Hidden, ...] = ()
    not_given: tuple[tuple[str, int], ...] = ()
    files: FileFacts | None = None
    terminal: str = ""
    utf8: bool = True


def _link(facts: Facts) -> Iterator[Result]:
    signs = facts.signs
    if facts.online:
        since = f" since {stamp(int(signs.since * 1000))}" if signs.since else ""
        before = f"; before that: {signs.failure} ({stamp(int(signs.failed * 1000))})" if signs.failure else ""
        yield Result("link", State.OK, f"connected to {facts.where}{since}{before}")
        return
    why = facts.failure or signs.failure or "there is no connection"
    again = ". See to that first, then try again"
    if facts.retry is not None:
        again = f"; the next attempt is in {max(0, round(facts.retry))} s, by itself"
    yield Result("link", State.BAD, f"{facts.where} is not reached: {why.removesuffix('.')}{again}")


def _identity(facts: Facts) -> Iterator[Result]:
    if facts.changed:
        yield Result("server", State.BAD, "another server answers there than the one you knew", "/trust server")
    elif facts.pinned is None:
        text = "its identity is not known here yet: the first connection pins it; a connect line names it before"
        yield Result("server", State.WARN, text)
    else:
        yield Result("server", State.OK, f"its identity is pinned: {facts.pinned}")


def _clock(facts: Facts) -> Iterator[Result]:
    apart = facts.signs.apart
    if apart is None:
        yield Result("clock", State.OK, "cannot be compared before a message was sent or came")
    elif abs(apart) > CLOCK:
        which = "behind" if apart > 0 else "ahead of"
        text = (
            f"this machine's clock is {abs(apart) // 60_000} minutes {which} the server's: others see your messages"
            " flagged. Set it by the network: timedatectl set-ntp true (or ask the server's operator, if yours is"
            " right)"
        )
        yield Result("clock", State.WARN, text)
    else:
        yield Result("clock", State.OK, f"fits the server's ({abs(apart) / 1000:.1f} s apart)")


def _versions(facts: Facts) -> Iterator[Result]:
    own = f"SecureChat {facts.version}, protocol {facts.protocol}"
    if facts.server is None:
        yield Result("versions", State.OK, f"{own}; the server's are not known without a connection")
        return
    version, protocol, features = facts.server
    named = f", features {' '.join(features)}" if features else ""
    state = State.OK if protocol == facts.protocol else State.BAD
    yield Result("versions", state, f"{own}; server {version}, protocol {protocol}{named}")


def _account(facts: Facts) -> Iterator[Result]:
    account = facts.account
    if account is None:
        text = "nobody is logged in, so keys, people and messages are not looked at"
        yield Result("account", State.WARN, text, f"/login {facts.users[0]}" if facts.users else "/help register")
        return
    devices = f"device {account.device[:8]}, one of {account.devices} by list {account.list_version}"
    if account.in_force:
        yield Result("account", State.OK, f"{account.user}, {devices}")
    else:
        yield Result("account", State.BAD, f"{account.user}: this device was revoked", "/devices")


def _keys(facts: Facts) -> Iterator[Result]:
    account = facts.account
    if account is None:
        return
    count = f"{account.keys} RSA key{'' if account.keys == 1 else 's'} here"
    if not account.key_here:
        text = f"{count}, but not the present one, which another device of yours made"
        yield Result("keys", State.BAD, text, "/backup fetch")
    else:
        yield Result("keys", State.OK, f"{count}, the present one among them")
    stored, known = account.stored_backup, account.backup
    if stored is None:
        yield Result("backup", State.OK, f"number {known} is known; the server was not asked")
    elif stored < known:
        text = f"the server gives number {stored}, and had given {known}: ask its operator; keep a copy of your own"
        yield Result("backup", State.BAD, text, "/help keys")
    else:
        under = "a recovery code" if account.by_code else "your password (/backup code moves it under a code)"
        yield Result("backup", State.OK, f"number {stored} lies under {under}")


def _people(facts: Facts) -> Iterator[Result]:
    total, verified, changed = facts.pins
    if facts.account is None:
        return
    for user in changed[:_NAMED]:
        yield Result("people", State.BAD, f"the identity of {user} changed", f"/verify {user}")
    if len(changed) > _NAMED:
        yield Result("people", State.BAD, f"so did those of {len(changed) - _NAMED} more", "/audit")
    yield Result("people", State.OK, f"{total} known, {verified} of them verified")


def _stopped(facts: Facts) -> Iterator[Result]:
    for title, reasons, broken in facts.stopped:
        text = f"nothing is sent to {title}: {'; '.join(reasons) or 'its log does not check out'}"
        then = " (it asks for the log again)" if broken else ". Compare with the others by another way first"
        yield Result("alarms", State.BAD, f"{text}{then}", f"/continue {title}")


def _outbox(facts: Facts) -> Iterator[Result]:
    if facts.account is None:
        return
    for where, then in facts.held:
        yield Result("outbox", State.WARN, f"what you wrote to {where} waits for your word", then)
    if facts.waiting:
        how = "on the way" if facts.online else "waiting for the connection; sent by themselves then"
        yield Result("outbox", State.OK, f"{facts.waiting} message{'' if facts.waiting == 1 else 's'} {how}")
    elif not facts.held:
        yield Result("outbox", State.OK, "nothing waits to be sent")


def _hidden(facts: Facts) -> Iterator[Result]:
    user = "" if facts.account is None else facts.account.user
    trouble = [one for one in facts.hidden if one.finding not in _NO_TROUBLE]
    for one in sorted(trouble, key=lambda one: -one.count):
        found = Found(Finding[one.finding], one.sender)
        cure = found.cure_for(user)
        command = _command(cure)
        messages = f"{one.count} message{'' if one.count == 1 else 's'} in {one.where} not shown"
        yield Result("messages", State.WARN, f"{messages}: {found.text}{f' ({cure})' if cure else ''}", command)
    for where, count in facts.not_given:
        text = f"the server did not give {count} message{'' if count == 1 else 's'} in {where}"
        yield Result("messages", State.WARN, text, f"/history {where}")
    if facts.account is not None and not trouble and not facts.not_given:
        yield Result("messages", State.OK, "all that came could be read")


def _command(cure: str) -> str:
    """The command that a cure begins with; "" where it begins otherwise: then its words say what to do."""
    words = cure.split()
    if not words or not words[0].startswith("/"):
        return ""
    return " ".join(words[: 2 if words[0] in _WITH_ONE else 1])


_WITH_ONE: Final = frozenset({"/verify", "/whois", "/backup"})  # commands of cures whose next word belongs to them


def _files(facts: Facts) -> Iterator[Result]:
    files = facts.files
    if files is None:
        return
    size, free = _bytes(files.size), _bytes(files.free)
    if not files.writable:
        yield Result("disk", State.BAD, f"{files.path} cannot be written: nothing is kept", f"chmod u+w {files.path}")
    elif files.free < LITTLE:
        state = State.BAD if files.free < LEAST else State.WARN
        yield Result("disk", state, f"only {free} are free where {files.path} is ({size} of it yours): make room")
    else:
        yield Result("disk", State.OK, f"{files.path}, {size}; {free} free")
    if files.open:
        more = f" and {len(files.open) - 1} more" if len(files.open) > 1 else ""
        text = f"others on this machine may open {files.open[0]}{more}"
        yield Result("files", State.BAD, text, f"chmod -R go-rwx {files.path}")
    else:
        yield Result("files", State.OK, "for you alone")


def _bytes(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count //= 1024
    return f"{count} {unit}"


def _terminal(facts: Facts) -> Iterator[Result]:
    if facts.utf8:
        yield Result("terminal", State.OK, facts.terminal)
    else:
        text = f"{facts.terminal}; it cannot show all text: start it again with LC_ALL=C.UTF-8"
        yield Result("terminal", State.WARN, text)


CHECKS: Final[tuple[Callable[[Facts], Iterator[Result]], ...]] = (
    _link,
    _identity,
    _clock,
    _versions,
    _account,
    _keys,
    _people,
    _stopped,
    _outbox,
    _hidden,
    _files,
    _terminal,
)


def check(facts: Facts) -> Sequence[Result]:
    """All that is found, in the order of the table."""
    return [result for each in CHECKS for result in each(facts)]


def next_step(results: Sequence[Result]) -> str:
    """The one command to type next, for the worst that there is; "" where that is nothing a command helps with."""
    for state in (State.BAD, State.WARN):
        worst = [result for result in results if result.state is state]
        if worst:
            return next((result.next for result in worst if result.next), "")
    return ""


def report(results: Sequence[Result]) -> Sequence[str]:
    """As lines: one a result, what is wrong marked in words; the last one says what to type, or that all is well."""
    marks = {State.OK: "ok  ", State.WARN: "WARN", State.BAD: "BAD "}
    lines = []
    for result in results:
        then = f" → {result.next}" if result.next else ""
        lines.append(f"{marks[result.state]} {result.name}: {result.text}{then}")
    step = next_step(results)
    if step:
        return [*lines, f"Type next: {step}"]
    worst = max((result.state for result in results), key=list(State).index, default=State.OK)
    if worst is State.OK:
        return [*lines, "All is well."]
    return [*lines, f"No command helps with that: what is marked {worst.upper()} says what to do."]
