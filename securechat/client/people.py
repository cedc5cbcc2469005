"""Other people as this account knows them: verified keys, pins, and whose identity changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from securechat.crypto.identity import AccountKeys, private_conversation, verify_bundle
from securechat.crypto.trust import Finding, Pin, PinStore, TrustState
from securechat.errors import Exit, InvalidKey, SecureChatError
from securechat.wire import limits
from securechat.wire import messages as m

Fetch = Callable[[tuple[str, ...]], Awaitable[m.KeysOk]]
Say = Callable[[str], None]
_NAMED: Final = 5  # people named one by one in a notice; the rest are counted


class IdentityChanged(SecureChatError):
    """Nothing is sealed for somebody whose identity changed, until their owner's word."""

    exit = Exit.UNTRUSTED

    def __init__(self, users: Iterable[str]) -> None:
        self.users = tuple(users)
        names = ", ".join(self.users)
        super().__init__(
            f"The identity of {names} changed since you first met. Nothing is sent to them until you compare"
            f" fingerprints: type /trust {self.users[0]}. What you wrote waits."
        )


class People:
    """Verified keys of the people one talks to.

    Args:
        fetch: asks the server for bundles.
        say: shows a notice.
        now_ms: milliseconds since 1970.
    """

    def __init__(self, srv: str, pins: PinStore, *, fetch: Fetch, say: Say, now_ms: Callable[[], int]) -> None:
        self._srv = srv
        self.pins = pins
        self._fetch = fetch
        self._say = say
        self._now_ms = now_ms
        self._keys: dict[str, AccountKeys] = {}

    def known(self, user: str) -> AccountKeys | None:
        """Keys verified in this session."""
        return self._keys.get(user)

    def forget(self, users: Iterable[str]) -> None:
        """The server says that these have newer keys: fetch them at the next need."""
        for user in users:
            self._keys.pop(user, None)

    def changed(self, users: Iterable[str]) -> list[str]:
        """Those whose identity changed."""
        return [user for user in users if self.state(user) is TrustState.CHANGED]

    def state(self, user: str) -> TrustState | None:
        """The state of a name's pin."""
        pin = self.pins.get(user)
        return None if pin is None else pin.state

    def meet_self(self, own: AccountKeys, *, fresh: bool) -> None:
        """Looks at one's own keys, of the identity this machine has: an unknown device is an alarm.

        Args:
            fresh: whether it may be this very device.

        Raises:
            InvalidKey: the server gives an older list than was seen, or two lists of one version.
        """
        pin = self.pins.get(own.user)
        if pin is not None and pin.ik != own.ik:  # one's own /reset-identity
            self.pins.trust(own, self._now_ms())
            return
        if self.pins.consider(own, self._now_ms()) is Finding.NEWER_LIST and not fresh:
            self._say(
                "Your account has another device since you were last here. If that was not you, somebody has your"
                " password: change it with /passwd."
            )

    def take_in(self, bundles: Mapping[str, m.KeyBundle], *, quietly: bool = False) -> None:
        """Verifies keys the server gave, and holds them against the pins; says what is new about whom.

        A bundle that does not verify is not taken in, and said.

        Args:
            quietly: without a word on first contacts; another line says them.
        """
        first: list[str] = []
        for user, bundle in bundles.items():
            try:
                keys = verify_bundle(bundle, srv=self._srv, user=user)
                finding = self.pins.consider(keys, self._now_ms())
            except InvalidKey as error:
                self._keys.pop(user, None)
                self._say(f"The keys the server gave for {user} are refused: {error}.")
                continue
            news = user not in self._keys or self._keys[user].ik != keys.ik
            self._keys[user] = keys
            if finding is Finding.FIRST:
                first.append(user)
            elif finding is Finding.NEWER_LIST:
                self._say(f"{user} uses a new device, signed by the identity you know.")
            elif finding is Finding.CHANGED and news:
                self._say(str(IdentityChanged([user])))
        if first and not quietly:
            more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
            self._say(f"First contact with {', '.join(sorted(first)[:_NAMED])}{more}: their identity is remembered.")

    async def keys_of(self, users: Iterable[str]) -> dict[str, AccountKeys]:
        """Verified keys of all these, fetched where they are not known yet.

        Raises:
            IdentityChanged: of some, the identity is not the one that was pinned.
            InvalidKey: the server gives no usable keys of some.
        """
        wanted = list(users)
        missing = [user for user in wanted if user not in self._keys]
        for at in range(0, len(missing), limits.KEYS_PER_REQUEST):
            reply = await self._fetch(tuple(missing[at : at + limits.KEYS_PER_REQUEST]))
            self.take_in(reply.keys)
        changed = self.changed(wanted)
        if changed:
            raise IdentityChanged(changed)
        absent = [user for user in wanted if user not in self._keys]
        if absent:
            raise InvalidKey(f"the server gives no usable keys of {', '.join(absent)}")
        return {user: self._keys[user] for user in wanted}

    def accept(self, user: str, shown: bytes) -> Pin | None:
        """Takes the identity that was shown as that person's, by their friend's word; None: there is another now."""
        keys = self._keys.get(user)
        if keys is None or keys.ik != shown:
            return None
        self.pins.trust(keys, self._now_ms())
        return self.pins.get(user)

    def conversation_with(self, own_ik: bytes, user: str) -> str | None:
        """The id of the private conversation with somebody whose pin is known."""
        pin = self.pins.get(user)
        return None if pin is None else private_conversation(own_ik, pin.ik)


def merged(ours: Mapping[str, Pin], theirs: Mapping[str, Pin], settled: Container[str] = ()) -> dict[str, Pin]:
    """What two devices of one account know, together: nothing that either was warned of is lost.

    Args:
        settled: of these, the owner accepted the identity in `ours`: it replaces another.
    """
    pins = {**theirs, **ours}
    for user in ours.keys() & theirs.keys():
        if ours[user].ik == theirs[user].ik or user not in settled:
            pins[user] = _joined(ours[user], theirs[user])
    return pins


def _joined(one: Pin, other: Pin) -> Pin:
    """The newer list of an identity, its first sight, an open claim; of two identities the later seen is a claim."""
    first, second = sorted((one, other), key=lambda pin: pin.first_seen)
    if first.ik != second.ik:
        return replace(first, claimed=first.claimed or second.ik)
    newer = max(one, other, key=lambda pin: pin.version)
    return replace(newer, first_seen=first.first_seen, claimed=one.claimed or other.claimed)


def pins_from(records: Mapping[str, Any]) -> dict[str, Pin]:
    """Pins as stored; a damaged one is left out, and its name is met again as if for the first time."""
    pins: dict[str, Pin] = {}
    for user, fields in records.items():
        try:
            pins[user] = Pin.from_fields(fields)
        except (InvalidKey, AttributeError):
            continue
    return pins
