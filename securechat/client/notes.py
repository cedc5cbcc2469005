"""Notes: what this account's own devices tell each other through the server, which cannot read them.

Drafts, whom one ignores, and what draws attention in a room. Each note is kept on this machine first; the server gets
it a little later, and the newer of two counts. That it gives the newest is its word alone: it can hold one back.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from securechat.client.protocol import LinkLost
from securechat.client.store import CannotKeep
from securechat.crypto.keystore import ProfileKeys
from securechat.crypto.notes import MAX_PLAINTEXT, NoteKeys, note_name, open_note, seal_note
from securechat.crypto.primitives import NONCE_BYTES
from securechat.errors import InvalidKey, Refused, WrongSecret
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

KEEP_SECONDS: Final = 0.5  # what was changed is on this machine's disk so much later, many changes at once
TELL_SECONDS: Final = 3.0  # and at the server so much later: not every key that is typed

Apply = Callable[[str, Any], None]


class Notes:
    """One account's notes.

    Args:
        apply: by the kind of note: takes its subject and its value, of which nothing is certain.
        records: what the local store has of kind "note": by ``kind subject``, when it was made (ms), its value, and
            whether the server has it.
    """

    def __init__(self, core: ChatCore, apply: Mapping[str, Apply], records: Mapping[str, Any], version: int) -> None:
        self._core = core
        self._apply = apply
        self._version = version  # of the newest note the server gave
        self._known: dict[str, tuple[int, Any, bool]] = {}
        self._unsaved: set[str] = set()
        self._timers: dict[float, Any] = {}
        self._of: ProfileKeys | None = None
        self._made: NoteKeys | None = None
        for name, (at, value, told) in records.items():
            self._known[name] = (int(at), value, bool(told))
            self._applied(name, value)

    def put(self, kind: str, subject: str, value: Any) -> None:
        """Changes a note: here at once, at the server a little later."""
        name = f"{kind} {subject}"
        if name in self._known and self._known[name][1] == value:
            return
        at = max(self._core.now_ms(), self._known[name][0] + 1 if name in self._known else 0)
        self._known[name] = (at, value, False)
        self._unsaved.add(name)
        self._later(KEEP_SECONDS, self.keep)
        self._later(TELL_SECONDS, self.tell)

    async def settle(self, *, online: bool) -> None:
        """What was changed is on this machine's disk, and at the server where there is one. Raises CannotKeep."""
        if self._unsaved:
            await self._keep()
        if online:
            await self.tell()

    def stop(self) -> None:
        """Nothing more happens by itself."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers = {}

    def _later(self, seconds: float, work: Callable[[], Any]) -> None:
        timer = self._timers.get(seconds)
        if timer is None or not timer.active():
            self._timers[seconds] = self._core.reactor.callLater(
                seconds, lambda: self._core.own_task(work(), "keeping a note")
            )

    async def keep(self) -> None:
        """Writes what was changed; where the disk does not take it, the next change tries again."""
        with contextlib.suppress(CannotKeep):
            await self._keep()

    async def _keep(self) -> None:
        names, self._unsaved = self._unsaved, set()
        try:
            puts = [("note", name, list(self._known[name])) for name in sorted(names)]
            await self._core.keep([*puts, ("meta", "notes", self._version)], [])
        except CannotKeep:
            self._unsaved |= names
            raise

    async def tell(self) -> None:
        """Gives the server what it does not have."""
        keys = self._keys()
        account = self._core.account
        if keys is None or account is None:
            return
        for name, (at, value, told) in list(self._known.items()):
            if told:
                continue
            kind, _, subject = name.partition(" ")
            plain = json.dumps([at, kind, subject, value]).encode("ascii")
            if len(plain) > MAX_PLAINTEXT:
                continue  # a draft that long stays on this machine
            sealed_as = note_name(keys, kind, subject)
            blob = seal_note(
                keys, sealed_as, plain,
                srv=account.profile.srv, user=account.user, nonce=secrets.token_bytes(NONCE_BYTES),
            )  # fmt: skip
            try:
                reply: m.NoteOk = await self._core.request(m.PutNote(name=sealed_as, blob=blob))
            except (LinkLost, Refused):
                return  # with the next change, or the next connection
            if self._known[name][0] == at:
                self._known[name] = (at, value, True)
                self._unsaved.add(name)
            if reply.version == self._version + 1:
                self._version = reply.version
        if self._unsaved:
            await self.keep()

    async def fetch(self) -> None:
        """Gets what other devices noted since, then tells what was changed here. Raises LinkLost, Refused."""
        more = True
        while more:
            before = self._version
            reply: m.NotesOk = await self._core.request(m.Notes(after=self._version))
            for note in reply.notes:
                self.take(note.name, note.version, note.blob)
            more = reply.more and self._version > before  # or a server would have this go on for ever
        await self.tell()

    def take(self, name: str, version: int, blob: bytes) -> None:
        """The server gives a note. One that does not open, or is older than what is known, is passed over."""
        self._version = max(self._version, version)
        self._later(KEEP_SECONDS, self.keep)
        keys, account = self._keys(), self._core.account
        if keys is None or account is None:
            return
        with contextlib.suppress(InvalidKey, WrongSecret, ValueError, TypeError, OverflowError, RecursionError):
            at, kind, subject, value = json.loads(
                open_note(keys, name, blob, srv=account.profile.srv, user=account.user)
            )
            if not (isinstance(kind, str) and isinstance(subject, str)):
                return
            known = f"{kind} {subject}"
            if name != note_name(keys, kind, subject) or int(at) <= self._known.get(known, (0,))[0]:
                return
            self._known[known] = (int(at), value, True)
            self._unsaved.add(known)
            self._applied(known, value)

    def _applied(self, name: str, value: Any) -> None:
        kind, _, subject = name.partition(" ")
        apply = self._apply.get(kind)
        if apply is not None:
            apply(subject, value)

    def _keys(self) -> NoteKeys | None:
        account = self._core.account
        if account is None:
            return None
        if self._of is not account.keys or self._made is None:  # a newer RSA key makes others
            self._of, self._made = account.keys, NoteKeys.of(account.keys.rsa_keys)
        return self._made
