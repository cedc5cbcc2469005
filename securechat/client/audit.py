"""/audit: everything this client has, checked anew, and a report of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from securechat.client import ownkeys
from securechat.client.conversations import NEWEST_GONE, Conversation
from securechat.client.display import stamp
from securechat.crypto.envelope import Examined
from securechat.crypto.findings import Finding
from securechat.crypto.identity import Device, fingerprint
from securechat.crypto.reading import Verdict
from securechat.crypto.roomlog import RoomLog, SignedEvent
from securechat.crypto.trust import TrustState
from securechat.errors import InvalidKey, Refused
from securechat.private_files import write_private
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

_NAMED: Final = 10  # findings told at once; the report has all
_NO_FAULT: Final = frozenset({Finding.BEFORE_JOIN, Finding.NOT_FOR_YOU, Finding.OTHER_KEY, Finding.NEWER})


@dataclass
class Report:
    """What an audit found.

    Attributes:
        lines: all of it.
        faults: what does not check out.
        path: where it was written.
    """

    path: Path
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def ok(self, kind: str, text: str) -> None:
        """Something holds."""
        self.checked[kind] = self.checked.get(kind, 0) + 1
        self.lines.append(f"ok    {text}")

    def fault(self, kind: str, text: str) -> None:
        """Something does not."""
        self.checked[kind] = self.checked.get(kind, 0) + 1
        self.faults.append(text)
        self.lines.append(f"FAULT {text}")

    @property
    def summary(self) -> Sequence[str]:
        """For the screen."""
        counted = ", ".join(f"{count} {kind if count > 1 else kind[:-1]}" for kind, count in self.checked.items())
        if not self.faults:
            return [f"Checked: {counted}. Everything holds."]
        more = [f"  and {len(self.faults) - _NAMED} more"] if len(self.faults) > _NAMED else []
        return [
            f"Checked: {counted}. {len(self.faults)} do not hold:",
            *(f"  {f}" for f in self.faults[:_NAMED]),
            *more,
        ]


async def run(core: ChatCore, progress: Callable[[int, int], None]) -> Report:
    """Checks pins, device lists, room logs and transcripts. Raises LinkLost."""
    account, people = core.account, core.people
    assert account is not None and people is not None
    report = Report(account.profile.path / "audit.txt")
    report.lines.append(f"Audit of {account.user} on server {account.profile.srv}, {stamp(core.now_ms())}")
    conversations = list(core.conversations)
    steps = len(conversations) + 1
    await _people(core, report)
    progress(1, steps)
    for number, conversation in enumerate(conversations):
        if conversation.log is not None:
            await _log(core, conversation, report)
        await _transcript(core, conversation, report)
        for reason in conversation.stopped:
            report.fault("open alarms", f"{conversation.title}: {reason}")
        progress(number + 2, steps)
    write_private(report.path, ("\n".join(report.lines) + "\n").encode("utf-8"))
    return report


async def _people(core: ChatCore, report: Report) -> None:
    """Every pin against what the server gives now; a list that is refused was said when it came."""
    people = core.people
    assert people is not None
    users = sorted(people.pins.all())
    try:
        await people.fetch([user for user in users if user != core.user], quietly=True)
        await ownkeys.renew(core)
    except Refused as refusal:
        report.fault("device lists", f"the server does not give them: {refusal}")
    for user in users:
        pin, keys = people.pins.get(user), people.known(user)
        assert pin is not None
        if pin.state is TrustState.CHANGED:
            report.fault("pins", f"the identity of {user} changed (was {fingerprint(pin.ik)}): /trust {user}")
        else:
            report.ok("pins", f"{user}: {pin.state}, {fingerprint(pin.ik)}, first seen {stamp(pin.first_seen)}")
        if keys is None:
            report.fault("device lists", f"the server gives no usable device list of {user}")
        elif keys.ik == pin.ik:
            devices = ", ".join(f"{dev[:8]}" for dev in sorted(keys.devices))
            report.ok("device lists", f"{user}: list {keys.version}, devices {devices}, {len(keys.revoked)} revoked")


async def _log(core: ChatCore, conversation: Conversation, report: Report) -> None:
    """Every signature and every rule of a room's log, from its first event."""
    people, account = core.people, core.account
    assert people is not None and account is not None
    authors = {(e.event.by, e.event.dev) for e in conversation.events}
    unknown = {user for user, dev in authors if people.device(user, dev) is None}
    await people.fetch(sorted(unknown - {core.user}), quietly=True)
    devices = {who: people.device(*who) for who in authors}
    try:
        log = await core.run(verify_log, account.profile.srv, conversation.events, devices)
    except (InvalidKey, Refused) as error:
        report.fault("room logs", f"{conversation.title}: {error}")
        return
    if conversation.log is None or log.head != conversation.log.head:
        report.fault("room logs", f"{conversation.title}: its head does not follow from its events")
        return
    members = ", ".join(f"{user} ({member.role.label})" for user, member in sorted(log.members.items()))
    report.ok("room logs", f"{conversation.title}: {log.count} events, head {log.head[:16]}, members: {members}")


def verify_log(srv: str, events: Sequence[SignedEvent], devices: dict[tuple[str, str], Device | None]) -> RoomLog:
    """A log whose every event is verified again; blocking, 0.13 ms each. Raises InvalidKey, Refused."""
    log = RoomLog(srv)
    for signed in events:
        device = devices[signed.event.by, signed.event.dev]
        if device is None:
            raise InvalidKey(f"nobody vouches for a device that {signed.event.by} signed with")
        signed.verify(device)
        log.append(signed)
    return log


async def _transcript(core: ChatCore, conversation: Conversation, report: Report) -> None:
    """The newest messages of a conversation, as the server gives them now, against what was seen."""
    assert core.inbox is not None
    before, seen = list(conversation.stopped), conversation.cursor
    try:
        page: m.HistoryOk = await core.request(m.History(room=conversation.room, limit=limits.HISTORY_DEFAULT))
    except Refused as refusal:
        if conversation.log is None and not conversation.reader.pair:
            report.ok("transcripts", f"{conversation.title}: not of your present identity, so not to be had any more")
        else:
            report.fault("transcripts", f"{conversation.title}: {refusal}")
        return
    if conversation.lacks_newest(seen, [page]):
        core.lobby.alarm(conversation, NEWEST_GONE)

    def judged(examined: Examined, verdict: Verdict) -> None:
        hidden = [] if verdict.hidden is None or verdict.hidden.finding in _NO_FAULT else [verdict.hidden]
        for found in (*hidden, *verdict.alarms):
            report.fault("messages", f"{conversation.title}: message {examined.message.seq}: {found.text}")

    await core.inbox.page(conversation, [page], lambda done, total: None, judged)
    if conversation.stopped == before:
        seq, th = conversation.reader.transcript.place
        report.ok("transcripts", f"{conversation.title}: {len(page.messages)} messages up to {seq}, {th[:16]}")
    else:
        report.fault("transcripts", f"{conversation.title}: {conversation.stopped[-1]}")
