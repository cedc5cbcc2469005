"""Other people as this account knows them: verified keys and devices, pins, and whose identity changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from securechat.client.held import IdentityChanged
from securechat.crypto.identity import AccountKeys, Device, device_of, verify_bundle
from securechat.crypto.trust import Finding, Pin, PinStore, Sighting, Source, TrustState
from securechat.errors import InvalidKey
from securechat.wire import limits
from securechat.wire import messages as m

Fetch = Callable[[tuple[str, ...]], Awaitable[m.KeysOk]]
Say = Callable[[str], None]
Verified = Mapping[str, AccountKeys | InvalidKey]
_NAMED: Final = 5  # people named one by one in a notice; the rest are counted
_IN_THREAD: Final = 4  # certificates; each costs 0.3 ms to verify


class People:
    """Verified keys of the people one talks to. It is also what a reader of messages knows (`reading.Trust`).

    Args:
        fetch: asks the server for bundles.
        run: calls a function in a thread.
        say: shows a notice.
        now_ms: milliseconds since 1970.
        met: told of each user of whom a device is known that was not.
    """

    def __init__(
        self,
        srv: str,
        pins: PinStore,
        *,
        fetch: Fetch,
        run: Callable[..., Awaitable[Any]],
        say: Say,
        now_ms: Callable[[], int],
        met: Callable[[str], None] = lambda user: None,
    ) -> None:
        self._srv = srv
        self.pins = pins
        self._fetch = fetch
        self._run = run
        self._say = say
        self._now_ms = now_ms
        self._met = met
        self._keys: dict[str, AccountKeys] = {}
        self._devices: dict[tuple[str, str], Device] = {}
        self._told_lacking: set[str] = set()

    # --- what is known (reading.Trust) ------------------------------------------------------------------------------

    def identity(self, user: str) -> bytes | None:
        """The identity pinned for a name."""
        pin = self.pins.get(user)
        return None if pin is None else pin.ik

    def earlier(self, user: str) -> Collection[bytes]:
        """The identities that were pinned before, until the owner trusted another."""
        pin = self.pins.get(user)
        return () if pin is None else pin.earlier

    def device(self, user: str, dev: str) -> Device | None:
        """A device of that name with a verified certificate."""
        return self._devices.get((user, dev))

    def newest_list(self, user: str) -> tuple[int, str]:
        """Number and digest of the newest device list known of the pinned identity.

        Nothing of one that only room logs name: what it revokes is not known, so a message that names it is flagged.
        """
        keys, pin = self._keys.get(user), self.pins.get(user)
        if pin is None or not (pin.kids or (keys is not None and keys.ik == pin.ik)):
            return 0, ""
        return pin.version, pin.digest

    def revoked(self, user: str, dev: str) -> bool:
        """Whether the pinned identity revokes a device: by the present keys, else by what was seen before."""
        keys, pin = self._keys.get(user), self.pins.get(user)
        if pin is None:
            return False
        return dev in (keys.revoked if keys is not None and keys.ik == pin.ik else pin.revoked)

    def kids(self, user: str, ik: bytes) -> frozenset[str] | None:
        """The ids of all RSA keys an identity has had; None where its list is not known."""
        keys, pin = self._keys.get(user), self.pins.get(user)
        if keys is not None and keys.ik == ik:
            return frozenset(keys.kids)
        return frozenset(pin.kids) if pin is not None and pin.ik == ik and pin.kids else None

    def known(self, user: str) -> AccountKeys | None:
        """Keys verified in this session."""
        return self._keys.get(user)

    def certificate(self, user: str, dev: str) -> m.Certificate | None:
        """The certificate of a device, where the keys that are known came with it."""
        keys = self._keys.get(user)
        if keys is None or keys.bundle is None or dev not in keys.known:
            return None
        given = (*keys.bundle.certs, *keys.bundle.past)
        return next((m.Certificate.of(one) for one in given if device_of(one).dev == dev), None)

    def changed(self, users: Iterable[str]) -> list[str]:
        """Those whose identity changed."""
        return [user for user in users if self.state(user) is TrustState.CHANGED]

    def state(self, user: str) -> TrustState | None:
        """The state of a name's pin."""
        pin = self.pins.get(user)
        return None if pin is None else pin.state

    def verified(self, user: str) -> bool:
        """Whether the owner compared the identity that is pinned, whatever is claimed now."""
        pin = self.pins.get(user)
        return pin is not None and pin.verified

    # --- what comes in ----------------------------------------------------------------------------------------------

    def forget(self, users: Iterable[str]) -> None:
        """The server says that these have newer keys: fetch them at the next need."""
        for user in users:
            self._keys.pop(user, None)

    def meet_self(self, own: AccountKeys, *, fresh: bool) -> None:
        """Looks at one's own keys, of the identity this machine has: an unknown device is an alarm.

        Args:
            fresh: whether it may be this very device.

        Raises:
            InvalidKey: the server gives an older list than was seen, or two lists of one version.
        """
        pin = self.pins.get(own.user)
        if pin is not None and pin.ik != own.ik:  # one's own /reset-identity
            self.pins.consider(Sighting.of(own), self._now_ms(), Source.OWNER)
        elif self.pins.consider(Sighting.of(own), self._now_ms(), Source.DIRECTORY) is Finding.NEWER_LIST and not fresh:
            self._say(
                "Your account has another device list since you were last here: /devices shows it. If you neither"
                " logged in elsewhere nor revoked a device, somebody has your password: change it with /passwd."
            )
        self._put(own)

    def _put(self, keys: AccountKeys) -> None:
        self._keys[keys.user] = keys
        new = any((keys.user, dev) not in self._devices for dev in keys.known)
        for dev, device in keys.known.items():
            self._devices[keys.user, dev] = device
        if new:
            self._met(keys.user)

    def add_device(self, device: Device) -> None:
        """A device whose certificate was verified; it says nothing about whose identity that is."""
        new = (device.user, device.dev) not in self._devices
        self._devices[device.user, device.dev] = device
        if new:
            self._met(device.user)

    def sight(self, seen: Sighting) -> None:
        """A room log names an identity. Raises InvalidKey where it does not fit what is known.

        Another one than the pinned is no news where the directory vouches for that: rooms keep the earlier one of
        somebody who started over and has not left. Nothing is sealed for it.
        """
        pin, known = self.pins.get(seen.user), self._keys.get(seen.user)
        if pin is not None and pin.ik != seen.ik and known is not None and known.ik == pin.ik:
            return
        claimed = None if pin is None else pin.claimed
        if self.pins.consider(seen, self._now_ms(), Source.ROOM) is Finding.CHANGED and claimed != seen.ik:
            self._say(str(IdentityChanged([seen.user], verified=self.verified(seen.user))))

    def take_in(self, bundles: Mapping[str, m.KeyBundle], *, quietly: bool = False) -> None:
        """Verifies keys the server gave, and holds them against the pins; says what is new about whom.

        A bundle that does not verify is not taken in, and said.

        Args:
            quietly: without a word on first contacts; another line says them.
        """
        self._consider(verify_all(self._srv, bundles), quietly=quietly)

    def _consider(self, verified: Verified, *, quietly: bool = False) -> None:
        first: list[str] = []
        for user, keys in verified.items():
            try:
                if isinstance(keys, InvalidKey):
                    raise keys
                finding = self.pins.consider(Sighting.of(keys), self._now_ms(), Source.DIRECTORY)
            except InvalidKey as error:
                self._keys.pop(user, None)
                self._say(f"The keys the server gave for {user} are refused: {error}.")
                continue
            before = self._keys.get(user)
            self._put(keys)
            if finding is Finding.FIRST:
                first.append(user)
            elif finding is Finding.NEWER_LIST:
                gone = before is not None and len(keys.revoked) > len(before.revoked)
                what = "revoked a device" if gone else "uses a new device"
                self._say(f"{user} {what}, signed by the identity you know.")
            elif finding is Finding.CHANGED and (before is None or before.ik != keys.ik):
                self._say(str(IdentityChanged([user], verified=self.verified(user))))
        if first and not quietly:
            more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
            self._say(f"First contact with {', '.join(sorted(first)[:_NAMED])}{more}: their identity is remembered.")

    async def fetch(self, users: Iterable[str], *, quietly: bool = False) -> None:
        """Asks for the keys of all these, however well they are known. Raises Refused, LinkLost."""
        wanted = tuple(users)
        for at in range(0, len(wanted), limits.KEYS_PER_REQUEST):
            reply = await self._fetch(wanted[at : at + limits.KEYS_PER_REQUEST])
            if sum(len(bundle.certs) + len(bundle.past) for bundle in reply.keys.values()) > _IN_THREAD:
                pins = {user: self.pins.get(user) for user in reply.keys}
                verified = await self._run(verify_all, self._srv, reply.keys)
                # What came of somebody while the thread was at it is newer than this reply.
                newer = {user for user in verified if self.pins.get(user) != pins[user]}
                verified = {user: keys for user, keys in verified.items() if user not in newer}
                if lacking := [user for user in newer if self._lacks(user)]:
                    await self.fetch(lacking, quietly=quietly)
            else:
                verified = verify_all(self._srv, reply.keys)
            self._consider(verified, quietly=quietly)

    async def know(self, users: Iterable[str], *, quietly: bool = False) -> None:
        """Fetches the keys of those that are not known yet, or known to be old. Raises Refused, LinkLost."""
        await self.fetch([user for user in users if self._lacks(user)], quietly=quietly)

    def _lacks(self, user: str) -> bool:
        """Whether keys are unknown, or older than what was seen elsewhere: a room's log tells of newer lists, too."""
        keys, pin = self._keys.get(user), self.pins.get(user)
        return keys is None or (pin is not None and keys.ik == pin.ik and keys.version < pin.version)

    async def keys_of(self, users: Iterable[str]) -> dict[str, AccountKeys]:
        """Verified keys of all these, fetched where they are not known yet.

        Raises:
            IdentityChanged: of some, the identity is not the one that was pinned.
            InvalidKey: the server gives no usable keys of some.
        """
        wanted = list(users)
        await self.know(wanted)
        if changed := self.changed(wanted):
            raise IdentityChanged(changed, verified=self.verified(changed[0]))
        self.demand(wanted)
        return {user: self._keys[user] for user in wanted}

    def demand(self, users: Sequence[str]) -> None:
        """Raises InvalidKey if the server gave no usable keys of some."""
        if absent := self.lacking(users):
            raise InvalidKey(f"the server gives no usable keys of {', '.join(absent)}")

    def lacking(self, users: Iterable[str]) -> list[str]:
        """Those of whom the server gave no usable keys."""
        return [user for user in users if self._lacks(user)]

    def left_out(self, users: Iterable[str]) -> list[str]:
        """Those of them of whom this is heard for the first time: each is to be told once a session."""
        new = sorted(set(users) - self._told_lacking)
        self._told_lacking.update(new)
        return new

    # --- the owner's word -------------------------------------------------------------------------------------------

    def accept(self, user: str, shown: bytes, source: Source) -> Pin | None:
        """Takes the identity that was shown as that person's, by their friend's word; None: there is another now."""
        keys = self._keys.get(user)
        if keys is None or keys.ik != shown:
            return None
        self.pins.consider(Sighting.of(keys), self._now_ms(), source)
        return self.pins.get(user)


def verify_all(srv: str, bundles: Mapping[str, m.KeyBundle]) -> Verified:
    """Each bundle verified, or what is wrong with it; 0.3 ms a certificate."""
    verified: dict[str, AccountKeys | InvalidKey] = {}
    for user, bundle in bundles.items():
        try:
            verified[user] = verify_bundle(bundle, srv=srv, user=user)
        except InvalidKey as error:
            verified[user] = error
    return verified


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
    older, newer = sorted((other, one), key=lambda pin: pin.version)
    return replace(
        newer,
        kids=newer.kids or older.kids,
        revoked=tuple(sorted({*one.revoked, *other.revoked})),
        first_seen=first.first_seen,
        source=first.source,
        claimed=one.claimed or other.claimed,
        verified=one.verified or other.verified,
    )


def pins_from(records: Mapping[str, Any]) -> dict[str, Pin]:
    """Pins as stored; a damaged one is left out, and its name is met again as if for the first time."""
    pins: dict[str, Pin] = {}
    for user, fields in records.items():
        try:
            pins[user] = Pin.from_fields(fields)
        except (InvalidKey, AttributeError):
            continue
    return pins
