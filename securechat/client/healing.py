"""Messages that were not shown, remembered, and tried again once what they lacked may have come.

A try fetches the very message that was given for its place, and judges it anew by every check: what comes out is no
more than what would have been shown at first. There is one try for each cause, and nothing asks the server by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, Struct, ValidationError, convert, to_builtins

from securechat import __version__
from securechat.client.kept import Taken
from securechat.client.people import People
from securechat.client.protocol import LinkLost
from securechat.client.telling import history
from securechat.client.view import Notice
from securechat.crypto.envelope import Examined
from securechat.crypto.findings import Finding
from securechat.crypto.reading import COUNTS, Found
from securechat.crypto.transcript import next_th
from securechat.errors import Refused
from securechat.wire import limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.conversations import Conversation
    from securechat.client.core import ChatCore

MOST: Final = 200  # remembered of one conversation, the newest
_PAGES: Final = 10  # of history fetched in one try
_MEMBERSHIP: Final = frozenset({Finding.NOT_MEMBER.name, Finding.MUTED.name, Finding.PUT_OUT.name})


class Lack(Struct, frozen=True, array_like=True):
    """One message that was not shown, for a reason that may pass.

    Attributes:
        seq, id: its number there, and its id, which says that a later one is the same; "" if it never came.
        sender: by the server's word; "" if it never came.
        finding: the name of the finding that hid it.
        kid: of the key it was sealed for.
        events: how many events the room's log had to have; 0 in private.
        version: of the client that could not show it.
    """

    seq: int
    id: str
    sender: str
    finding: str
    kid: str = ""
    events: int = 0
    version: str = ""


Due = Callable[["Conversation", Lack], bool]


class Healing:
    """What one account was not shown, and the causes for which it is tried again."""

    def __init__(self, core: ChatCore) -> None:
        self._core = core
        self._lacks: dict[str, dict[int, Lack]] = {}  # by conversation, by number
        self._changed: set[str] = set()

    def load(self, records: Mapping[str, Any]) -> None:
        """Reads what was remembered, by the ids of conversations; what is damaged is left out."""
        for id, record in records.items():
            with contextlib.suppress(ValidationError):
                lacks = convert(record, list[Lack])
                self._lacks[id] = {lack.seq: lack for lack in lacks}

    def of(self, conversation: Conversation) -> Sequence[Lack]:
        """What is lacked there, oldest first."""
        return [lack for _, lack in sorted(self._lacks.get(conversation.id, {}).items())]

    # --- what was not shown -----------------------------------------------------------------------------------------

    def hid(self, conversation: Conversation, examined: Examined, found: Found) -> None:
        """A message that has just come is not shown; it is remembered where that may pass."""
        people, message = self._core.people, examined.message
        self._forget(conversation, message.seq)  # of a history that the server has given up since
        may_pass = _PASSING.get(found.finding)
        if people is not None and may_pass is not None and may_pass(conversation, examined, people):
            lack = Lack(
                message.seq, message.id, message.sender, found.finding.name, message.kid or "", message.events,
                __version__,
            )  # fmt: skip
            self._remember(conversation, [lack])

    def not_given(self, conversation: Conversation, first: int, count: int) -> None:
        """The server did not give so many messages, from number `first` on."""
        seqs = range(max(first, first + count - MOST), first + count)
        self._remember(conversation, [Lack(seq, "", "", Finding.MISSING.name) for seq in seqs])

    def took(self, conversation: Conversation, taken: Iterable[Taken]) -> None:
        """Messages were taken in: those that are shown now lack nothing any more."""
        lacks = self._lacks.get(conversation.id, {})
        for each in taken if lacks else ():
            if not each.kept.hidden and each.kept.seq in lacks:
                self._forget(conversation, each.kept.seq)

    def _remember(self, conversation: Conversation, new: Iterable[Lack]) -> None:
        lacks = self._lacks.setdefault(conversation.id, {})
        lacks.update({lack.seq: lack for lack in new})
        for seq in sorted(lacks)[:-MOST]:
            del lacks[seq]
        self._keep(conversation)

    def _forget(self, conversation: Conversation, seq: int) -> None:
        if self._lacks.get(conversation.id, {}).pop(seq, None) is not None:
            self._keep(conversation)

    def _keep(self, conversation: Conversation) -> None:
        self._changed.add(conversation.id)
        self._core.saving.shown(conversation)

    def unsaved(self, conversation: Conversation) -> list[tuple[str, str, Any]]:
        """The record of what is lacked there, if it is another than at the last call: it goes with the cursor."""
        if conversation.id not in self._changed:
            return []
        self._changed.discard(conversation.id)
        return [("lack", conversation.id, [to_builtins(lack) for lack in self.of(conversation)])]

    def unkept(self, conversation: Conversation) -> None:
        """The disk did not take it."""
        self._changed.add(conversation.id)

    # --- what may have come -----------------------------------------------------------------------------------------

    def trusted(self, user: str) -> None:
        """Somebody's identity was accepted by their friend's word."""
        self._try(lambda _, lack: lack.sender == user and lack.finding == Finding.IDENTITY_CHANGED.name)

    def met(self, user: str) -> None:
        """A device of somebody is known that was not."""
        reasons = (Finding.UNKNOWN_DEVICE.name, Finding.NOT_MEMBER.name)

        def due(conversation: Conversation, lack: Lack) -> bool:
            named = lack.sender == user if conversation.peer is None else user in (lack.sender, conversation.peer)
            return named and lack.finding in reasons[: 1 if conversation.peer is None else 2]

        self._try(due)

    def keys_came(self) -> None:
        """This account has keys on this machine that it did not have."""
        account = self._core.account
        own = {} if account is None else account.keys.by_kid()
        self._try(lambda _, lack: lack.finding == Finding.OTHER_KEY.name and lack.kid in own)

    def updated(self) -> None:
        """The account is opened, perhaps by a newer client than the one that could not read something."""
        self._try(lambda _, lack: lack.finding == Finding.NEWER.name and lack.version != __version__)

    def log_grew(self, conversation: Conversation) -> None:
        """A room's log goes further than before."""
        log = conversation.log
        if log is not None and self._lacks.get(conversation.id):
            count = log.count
            self._try(lambda _, lack: lack.finding in _MEMBERSHIP and lack.events <= count, conversation)

    def given_again(self, conversation: Conversation | None = None) -> None:
        """The server may give by now what it did not: the connection is new, or the history goes on by its word."""
        self._try(lambda _, lack: lack.finding == Finding.MISSING.name, conversation)

    def _try(self, due: Due, only: Conversation | None = None) -> None:
        inbox = self._core.inbox
        for conversation in self._core.conversations if only is None else [only]:
            seqs = [lack.seq for lack in self.of(conversation) if due(conversation, lack)]
            if seqs and inbox is not None:
                inbox.put(partial(self._again, conversation, seqs))

    # --- a try ------------------------------------------------------------------------------------------------------

    async def _again(self, conversation: Conversation, seqs: Sequence[int]) -> None:
        """Fetches these once more, and shows those that stand every check now. Runs in the inbox's turn."""
        inbox = self._core.inbox
        try:
            given = await self._given(conversation, seqs)
            examined = () if inbox is None else await inbox.examine(conversation, [message for message, _ in given])
            # Anew: less was known when it was asked.
            await self._core.desk.prepare_audiences(conversation, examined, anew=True)
        except (LinkLost, Refused):
            return  # the next cause tries again
        if self._core.healing is not self:
            return  # the account was left meanwhile
        taken = []
        for each, (_, before) in zip(examined, given, strict=False):
            lack = self._lacks.get(conversation.id, {}).get(each.message.seq)
            if lack is not None and self._same(conversation, each, lack, before):
                taken += self._judge(conversation, each, lack)
        if taken:
            self._core.desk.read_back(conversation, taken)
            self._tell(conversation, taken)

    async def _given(
        self, conversation: Conversation, seqs: Sequence[int]
    ) -> Sequence[tuple[m.StoredMessage, str | None]]:
        """Those of these messages that the server gives, and the transcript before each, where it says that.

        Raises:
            Refused, LinkLost.
        """
        found: list[tuple[m.StoredMessage, str | None]] = []
        left = sorted(seqs)
        for _ in range(_PAGES):
            if not left:
                break
            limit = min(limits.HISTORY_MAX, left[-1] - left[0] + 1)
            page = await self._core.request(m.History(room=conversation.room, after=left[0] - 1, limit=limit))
            at = page.start if page.start is not UNSET else (-1, "")
            for message in page.messages:
                if message.seq in left:
                    found.append((message, at[1] if at[0] == message.seq - 1 else None))
            reached = max([left[0], *(message.seq for message in page.messages)])
            left = [seq for seq in left if seq > reached]
        return found

    def _same(self, conversation: Conversation, examined: Examined, lack: Lack, before: str | None) -> bool:
        """Whether it is the message that was given for this place, or may stand at it, if none was."""
        message = examined.message
        if lack.id and message.id != lack.id:
            self._core.lobby.alarm(conversation, "the history the server gives now is not the one you saw before")
            return False
        known = conversation.timeline.by_id(message.id)
        if known is not None and known.seq != lack.seq:
            return False  # a repetition of one that is shown
        if lack.id:
            return True
        reader = conversation.reader
        place = reader.transcript.at(lack.seq)
        th = reader.transcript.at(lack.seq - 1) or before
        link = reader.link_at(message.events)
        return place is None or (th is not None and next_th(th, link or "", message.id) == place)

    def _judge(self, conversation: Conversation, examined: Examined, lack: Lack) -> list[Taken]:
        core, people = self._core, self._core.people
        if people is None or core.inbox is None:
            return []
        counted = Finding[lack.finding] in COUNTS
        verdict = conversation.reader.again(examined, people, conversation.audiences.get, counted=counted)
        for found in verdict.alarms:
            core.lobby.alarm(conversation, found.text)
        if verdict.hidden is not None:
            self.hid(conversation, examined, verdict.hidden)  # that may be another reason now, or one that stays
            return []
        core.saving.shown(conversation, examined.message.device)
        for other in self.of(conversation):
            if other.id == examined.message.id:  # a repetition waits for nothing
                self._forget(conversation, other.seq)
        return [conversation.timeline.take(core.inbox.kept(examined, verdict))]

    def _tell(self, conversation: Conversation, taken: Sequence[Taken]) -> None:
        user, ignored = self._core.user, self._core.attention.ignored
        shown = [each for each in taken if each.kept.sender not in ignored]
        items = history(shown, conversation, user)
        if not items:
            return
        count = f"{len(shown)} message{'' if len(shown) == 1 else 's'}"
        people = ", ".join(sorted({each.kept.sender for each in shown}))
        self._core.show(Notice(f"{count} of {people} can be read now:", conversation.title))
        for item in items:
            self._core.show(item)


def _unknown_device(conversation: Conversation, examined: Examined, people: People) -> bool:
    """Only one that nobody vouched for: what a list revokes stays revoked, whatever list comes next."""
    return people.device(examined.message.sender, examined.message.device) is None


def _unknown_membership(conversation: Conversation, examined: Examined, people: People) -> bool:
    """Only where it was not known who was in it: the log had not come so far, or the other's identity was lacking."""
    if conversation.peer is not None:
        return not conversation.reader.pair
    return conversation.log is None or conversation.log.count < examined.message.events


def _always(conversation: Conversation, examined: Examined, people: People) -> bool:
    return True


_PASSING: Final[Mapping[Finding, Callable[[Conversation, Examined, People], bool]]] = {
    Finding.IDENTITY_CHANGED: _always,
    Finding.OTHER_KEY: _always,
    Finding.NEWER: _always,
    Finding.UNKNOWN_DEVICE: _unknown_device,
    Finding.NOT_MEMBER: _unknown_membership,
    Finding.MUTED: _unknown_membership,
    Finding.PUT_OUT: _unknown_membership,
}
"""The findings that may pass, and when."""
