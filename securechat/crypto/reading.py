"""A reader's judgement of messages: the checks that need more than the package, in the order of the protocol.

`envelope.examine` has looked at the package alone. Here it is held against the room log, the pins, the author's chain
and the transcript. What a reader knows moves only after every check, so nothing that fails leaves a trace; but for the
transcript, which follows what the server gave, genuine or not: only so a difference from what others got can show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from securechat.crypto.envelope import AnyHeader, Examined, Header
from securechat.crypto.findings import Finding
from securechat.crypto.identity import Device
from securechat.crypto.roomlog import RoomLog
from securechat.crypto.transcript import SenderChain, Transcript

RECENT_MIDS: Final = 64  # messages of a device that are known by their mid, to tell a text that was sent twice
DELAY: Final = 10 * 60 * 1000  # milliseconds between an author's clock and the server's that are worth a word


class Trust(Protocol):
    """What a reader knows of people."""

    def identity(self, user: str) -> bytes | None:
        """The identity pinned for a name."""

    def earlier(self, user: str) -> Collection[bytes]:
        """The identities that were pinned before, until the owner trusted another."""

    def device(self, user: str, dev: str) -> Device | None:
        """A device of that name with a verified certificate."""

    def newest_list(self, user: str) -> tuple[int, str]:
        """Number and digest of the newest device list known of the pinned identity; 0 where there is none."""

    def revoked(self, user: str, dev: str) -> bool:
        """Whether that list revokes a device."""

    def kids(self, user: str, ik: bytes) -> frozenset[str] | None:
        """The ids of all RSA keys an identity has had; None where its list is not known."""


@dataclass(frozen=True, slots=True)
class Found:
    """A finding with what fills its text."""

    finding: Finding
    who: str = ""
    n: int = 0

    @property
    def text(self) -> str:
        """For people."""
        return self.finding.value.text.format(who=self.who, n=self.n, s="" if self.n == 1 else "s")

    @property
    def cure(self) -> str:
        """What to do."""
        return self.finding.value.cure.format(who=self.who, n=self.n)

    def cure_for(self, user: str) -> str:
        """What that user is to do: nobody is told to ask themselves."""
        own = self.finding.value.own if self.who == user else ""
        return own or self.cure


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a message.

    Attributes:
        hidden: why its text is not shown; None where it is.
        flags: what is said beside it.
    """

    hidden: Found | None = None
    flags: tuple[Found, ...] = ()

    @property
    def alarms(self) -> tuple[Found, ...]:
        """Those findings for which sending waits."""
        return tuple(found for found in self.flags if found.finding.alarm)


Audience = Callable[[str], Mapping[str, str] | None]
"""Who an audience names, by its digest: user → key id; None where it is not to be had."""


@dataclass
class ConversationReader:
    """What one account knows of one conversation, as far as messages are concerned.

    Attributes:
        room: its id.
        user: who reads.
        log: of the room; None in private.
        pair: the two identities of a private conversation by name; empty in a room.
        chains: by device.
        mids: by device: the numbers of its newest messages by their mid. Not kept on disk.
    """

    room: str
    user: str
    log: RoomLog | None
    pair: Mapping[str, bytes]
    transcript: Transcript
    chains: dict[str, SenderChain] = field(default_factory=dict)
    mids: dict[str, dict[str, int]] = field(default_factory=dict)

    def link_at(self, events: int) -> str | None:
        """The link in force behind so many events; None where the log is not known so far."""
        if self.log is None:
            return "" if events == 0 else None
        return self.log.links[events - 1] if 0 < events <= self.log.count else None

    def receive(self, examined: Examined, trust: Trust, audience: Audience) -> Verdict:
        """Judges the next message, and takes it in if it is genuine.

        The caller has seen to it that the log reaches as far as the message's `events`, and that keys of the author
        and of the audience were asked for; what is lacking all the same is a finding.
        """
        message = examined.message
        verdict = self._judge(examined, trust, audience)
        link = self.link_at(message.events)
        self.transcript.advance(message.seq, link if link is not None else "", message.id)
        header = examined.header
        if header is not None and self._genuine(verdict):
            self._count(message.device, header.ctr, message.id)
            self._note(message.device, header.mid, header.ctr)
        return verdict

    def again(self, examined: Examined, trust: Trust, audience: Audience, *, counted: bool) -> Verdict:
        """Judges a message anew that was hidden when its turn came: every check but for its place, which it has.

        The caller has seen to it that it is the very message that was given for that place.

        Args:
            counted: whether its author's chain has it already; else it counts there now, if it is genuine.
        """
        verdict = self._judge(examined, trust, audience, in_chain=counted)
        header = examined.header
        if header is not None and not counted and self._genuine(verdict):
            self._count(examined.message.device, header.ctr, examined.message.id)
            self._note(examined.message.device, header.mid, header.ctr)
        return verdict

    def own(self, seq: int, events: int, dev: str, ctr: int, message_id: str) -> None:
        """Takes in a message of this very device, as the server acknowledged it."""
        self.transcript.advance(seq, self.link_at(events) or "", message_id)
        self._count(dev, ctr, message_id)

    def passed_over(self) -> None:
        """The reader was out of the room meanwhile: no device's next message need follow on its last."""
        self.chains = {dev: replace(chain, apart=True) for dev, chain in self.chains.items()}

    def elsewhere(self, seq: int, th: str) -> ConversationReader:
        """A reader for another stretch of the same conversation: its chains begin there."""
        return replace(self, transcript=Transcript(seq, th), chains={}, mids={})

    def _count(self, dev: str, ctr: int, message_id: str) -> None:
        chain = self.chains.get(dev)
        self.chains[dev] = SenderChain.begin(ctr, message_id) if chain is None else chain.after(ctr, message_id)

    def _note(self, dev: str, mid: str, ctr: int) -> None:
        mids = self.mids.setdefault(dev, {})
        mids.setdefault(mid, ctr)
        if len(mids) > RECENT_MIDS:
            del mids[next(iter(mids))]

    @staticmethod
    def _genuine(verdict: Verdict) -> bool:
        """Whether a message counts in its author's chain: also one that was sealed without this reader."""
        return verdict.hidden is None or verdict.hidden.finding in COUNTS

    def _judge(self, examined: Examined, trust: Trust, audience: Audience, *, in_chain: bool = False) -> Verdict:
        message, header = examined.message, examined.header
        if header is None:
            return _hidden(examined.fault or Finding.MALFORMED, message.sender)
        if header.room != self.room:  # examined for another one, and this took its place meanwhile
            return _hidden(Finding.OTHER_ROOM, message.sender)
        hidden, flags = self._author(examined, header, trust)
        if hidden is not None:
            return Verdict(hidden)
        chain = self.chains.get(message.device)
        if chain is not None and not in_chain:
            link = chain.judge(header.ctr, header.prev, message.id)
            if link.finding is Finding.REPLAYED:
                return _hidden(Finding.REPLAYED, message.sender)
            if link.finding is not None:
                flags.append(Found(link.finding, message.sender, link.missing))
        if self.mids.get(message.device, {}).get(header.mid, header.ctr) != header.ctr:
            flags.append(Found(Finding.SENT_TWICE, message.sender))
        flags += self._about(examined, header, trust)
        known = self.transcript.at(header.th[0])
        if header.th[0] >= message.seq or (known is not None and known != header.th[1]):
            flags.append(Found(Finding.FORK, message.sender))  # nobody knows a place behind their own message
        if examined.unread is not None:
            return Verdict(self._why_unread(examined.unread, header, message.sender, trust), tuple(flags))
        if isinstance(header, Header):
            flags += self._readers(header, message.events, trust, audience)
        return Verdict(None, tuple(flags))

    def _author(self, examined: Examined, header: AnyHeader, trust: Trust) -> tuple[Found | None, list[Found]]:
        """Whether the author is who they should be, and may write here."""
        message, user = examined.message, header.author
        device = trust.device(user, header.dev)
        if device is None:
            return Found(Finding.UNKNOWN_DEVICE, user), []
        flags = []
        if device.ik != trust.identity(user):
            if device.ik not in trust.earlier(user):
                return Found(Finding.IDENTITY_CHANGED, user), []
            flags.append(Found(Finding.EARLIER_IDENTITY, user))
        elif trust.revoked(user, header.dev) and header.dl == trust.newest_list(user):
            return Found(Finding.UNKNOWN_DEVICE, user), []  # it names the very list that it is not in
        if self.log is None:
            if header.head or self.pair.get(user) != device.ik:
                return Found(Finding.NOT_MEMBER, user), []
            return None, flags
        place = self.log.place(header.head)
        if place is None or place >= message.events:
            # Whatever its author was told: at the message's own place they must be a member.
            flags.append(Found(Finding.UNKNOWN_HEAD, user))
            place = min(message.events, self.log.count) - 1
        if self.log.member_at(user, place) != device.ik:
            return Found(Finding.NOT_MEMBER, user), []
        if self.log.muted_at(user, message.events - 1, header.at):  # where it stands, as the server judged it
            return Found(Finding.MUTED, user), []
        if user in self.log.put_out_between(place, message.events - 1):
            return Found(Finding.PUT_OUT, user), []
        return None, flags

    def _why_unread(self, unread: Finding, header: AnyHeader, author: str, trust: Trust) -> Found:
        """That it is not for this key is no riddle where the reader, as who they are now, was not a member then."""
        if unread in (Finding.NOT_FOR_YOU, Finding.OTHER_KEY) and self.log is not None:
            place, own = self.log.place(header.head), trust.identity(self.user)
            was = None if place is None else self.log.member_at(self.user, place)
            if place is not None and (was is None or own not in (None, was)):
                return Found(Finding.BEFORE_JOIN)
        return Found(unread, author)

    @staticmethod
    def _about(examined: Examined, header: AnyHeader, trust: Trust) -> list[Found]:
        """What is said beside a message about its time and its author's devices."""
        found = []
        apart = abs(header.at - examined.message.ts)
        if apart > DELAY:
            found.append(Found(Finding.DELAYED, header.author, round(apart / 60_000)))
        device = trust.device(header.author, header.dev)
        if device is None or device.ik != trust.identity(header.author):
            return found  # the lists of an identity that is gone say nothing any more
        version, digest = trust.newest_list(header.author)
        if header.dl[0] > version or (header.dl[0] == version and header.dl[1] != digest):
            found.append(Found(Finding.NEWER_LIST, header.author))
        elif trust.revoked(header.author, header.dev):
            found.append(Found(Finding.REVOKED_SINCE, header.author))
        return found

    def _readers(self, header: Header, events: int, trust: Trust, audience: Audience) -> list[Found]:
        """Whether a message was sealed for exactly the members that its author knew, and for nobody put out."""
        place = None if self.log is None else self.log.place(header.head)
        if self.log is not None and (place is None or place >= events):
            return []  # said already: its head is not known
        named = audience(header.rcp)
        if named is None:
            return [Found(Finding.AUDIENCE_UNKNOWN, header.author)]
        members = self.pair if self.log is None or place is None else self.log.members_at(place)
        extra = sorted(named.keys() - members.keys())
        wrong = sorted(u for u in named.keys() & members.keys() if not self._own_key(u, named[u], members[u], trust))
        # Nobody can seal for an identity that is no longer in force.
        absent = sorted(user for user in members.keys() - named.keys() if trust.identity(user) == members[user])
        found = [Found(Finding.WENT_TO, ", ".join(extra))] if extra else []
        found += [Found(Finding.WRONG_KEY, ", ".join(wrong))] if wrong else []
        found += [Found(Finding.NOT_TO, ", ".join(absent))] if absent else []
        if self.log is not None and place is not None:
            hidden = self.log.put_out_between(place, events - 1) & named.keys()
            found += [Found(Finding.KICK_HIDDEN, ", ".join(sorted(hidden)))] if hidden else []
        return found

    @staticmethod
    def _own_key(user: str, kid: str, ik: bytes, trust: Trust) -> bool:
        """Whether a key is a member's own. Of an identity long gone nobody can tell any more."""
        kids = trust.kids(user, ik)
        return kid in kids if kids is not None else trust.identity(user) != ik


COUNTS: Final = frozenset({Finding.BEFORE_JOIN, Finding.NOT_FOR_YOU, Finding.OTHER_KEY, Finding.NEWER})
"""Findings for which a text is hidden though its message is genuine: its author's chain goes on with it."""


def _hidden(finding: Finding, who: str) -> Verdict:
    return Verdict(Found(finding, who))
