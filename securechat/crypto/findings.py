"""What a reader may find about a message: the fixed list of reasons, and what each means for what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Meaning:
    """One finding.

    Attributes:
        shown: whether the text is shown all the same, flagged.
        text: for people; `{who}` is filled with names, `{n}` with a number, `{s}` with its plural.
        cure: what to do about it, or what has been done; "" where there is nothing. Commands in it can be typed as
            they stand.
        alarm: the server, or who holds it, must have lied: sending there waits for `/continue`.
        own: the cure where `{who}` is the reader: nobody is told to ask themselves. "" where it is no other.
    """

    shown: bool
    text: str
    cure: str = ""
    alarm: bool = False
    own: str = ""


class Finding(Enum):
    """Every finding, in the order in which the checks are made: the first that keeps a text from being shown counts."""

    MALFORMED = Meaning(False, "malformed", "its author's client or the server is broken or lies")
    UNKNOWN_DEVICE = Meaning(
        False,
        "from a device that {who} did not sign",
        "if it stays so, ask {who}: /whois {who} shows their devices",
        own="/devices shows yours; if it was none of them, change your password: /passwd",
    )
    BAD_SIGNATURE = Meaning(
        False,
        "signature wrong",
        "{who} did not write that: the server or somebody else did",
        own="you did not write that: the server or somebody else did",
    )
    OTHER_ROOM = Meaning(False, "written for another conversation", "the server moved it here")
    IDENTITY_CHANGED = Meaning(
        False,
        "{who}'s identity changed",
        "/verify {who} compares the new one",
        own="/whoami shows your present one",
    )
    NOT_MEMBER = Meaning(False, "from {who}, who was not a member", "the server let it in")
    MUTED = Meaning(False, "from {who}, who had no voice", "the server let it in")
    PUT_OUT = Meaning(False, "from {who}, who had been put out", "the server let it in")
    REPLAYED = Meaning(False, "replayed", "you have it already, or it is older than all you were given")
    OTHER_TEXT = Meaning(
        False, "its text or key was exchanged", "ask {who} to send it again", own="the server did that: send it again"
    )
    BEFORE_JOIN = Meaning(False, "sent before you joined", "")
    NOT_FOR_YOU = Meaning(
        False,
        "not addressed to you",
        "ask {who} whether you were left out on purpose",
        own="another device of yours left your key out; that one can read it",
    )
    OTHER_KEY = Meaning(
        False, "sealed for a key this device does not have", "/backup fetch brings newer keys from your backup"
    )
    DAMAGED = Meaning(
        False, "damaged or sealed wrongly", "ask {who} to send it again", own="send it again if it matters"
    )
    NEWER = Meaning(False, "made by a newer client", "update SecureChat")
    MISSING = Meaning(
        True,
        "{n} message{s} from {who} missing before this",
        "/history may bring them; else ask {who}",
        own="/history may bring them; else send them again",
    )
    USED_TWICE = Meaning(True, "counter used twice by {who}", "two copies of one profile, or a lie", alarm=True)
    OTHER_PREVIOUS = Meaning(
        True,
        "{who}'s message before this one was another than you were given",
        "compare with {who}",
        alarm=True,
        own="compare with your other devices",
    )
    LATE = Meaning(True, "arrived late, out of order")
    SENT_TWICE = Meaning(
        True,
        "sent before, under another number",
        "one of the two is a repetition: {who}'s client was told to send again",
        own="one of the two is a repetition: your client was told to send again",
    )
    DELAYED = Meaning(True, "signed at another time: {n} minute{s} apart", "/doctor looks at this machine's clock")
    EARLIER_IDENTITY = Meaning(True, "by the identity that {who} had before")
    REVOKED_SINCE = Meaning(True, "from a device that {who} has revoked since")
    WENT_TO = Meaning(True, "went to {who}, not a member", "its author's client was told so, or is broken")
    WRONG_KEY = Meaning(
        True,
        "was sealed for a key of {who} that their device list does not name",
        "compare with {who}",
        alarm=True,
        own="/devices shows your devices; ask its author what they were given",
    )
    NOT_TO = Meaning(True, "was not sealed for {who}")
    AUDIENCE_UNKNOWN = Meaning(
        True,
        "the server does not say whom it was sealed for",
        "ask {who} by another way whom it went to",
        alarm=True,
        own="your other device can say whom it went to",
    )
    KICK_HIDDEN = Meaning(
        True,
        "went to {who} too: the server hid from its author that they were put out",
        "tell its author by another way",
        alarm=True,
    )
    UNKNOWN_HEAD = Meaning(
        True,
        "refers to members the server does not show you",
        "compare /members with {who} by another way",
        alarm=True,
        own="compare /members with your other devices",
    )
    NEWER_LIST = Meaning(
        True,
        "refers to a newer device list of {who} than the server gives",
        "/whois {who} asks for it again",
        alarm=True,
        own="/devices asks for it again",
    )
    FORK = Meaning(
        True,
        "its author was shown another history of this conversation",
        "compare with {who} by another way; /audit checks all you have",
        alarm=True,
        own="compare with your other devices; /audit checks all you have",
    )

    @property
    def shown(self) -> bool:
        """Whether the text is shown."""
        return self.value.shown

    @property
    def alarm(self) -> bool:
        """Whether sending there waits for a word."""
        return self.value.alarm
