"""The client's files: which servers it knows, and one directory for each account on each of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from securechat.crypto.keystore import Keystore
from securechat.errors import InvalidKey, SecureChatError
from securechat.link import ConnectLine, join_address
from securechat.private_files import private_directory, write_private


class ProfileBusy(SecureChatError):
    """Another client on this machine has the account open."""


@dataclass(frozen=True)
class Profile:
    """One account on one server: ``servers/<server id>/<user>`` under the client's data directory."""

    path: Path
    srv: str
    user: str

    @property
    def database(self) -> Path:
        """The local store."""
        return self.path / "local.db"

    @property
    def _keystore(self) -> Path:
        return self.path / "keystore.json"

    @property
    def _pending(self) -> Path:
        return self.path / "keystore.pending.json"

    def make(self) -> None:
        """Makes its directory, and the two above that are shared by accounts, for their owner alone."""
        private_directory(self.path, 2)

    def lock(self) -> int:
        """Takes the profile for this process; close the descriptor to let go. Raises ProfileBusy."""
        self.make()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ProfileBusy(
                f"{self.user} is open in another SecureChat on this machine. Close that one, or start this one with a"
                " --data-dir of its own."
            ) from None
        return descriptor

    def exists(self) -> bool:
        """Whether this account's keys are on this machine."""
        return self._keystore.exists() or self._pending.exists()

    def read_keystore(self) -> Keystore | None:
        """The keystore; the one of a registration whose answer never came, where there is no other.

        Raises:
            InvalidKey: the file is not a keystore.
        """
        for path in (self._keystore, self._pending):
            if path.exists():
                keystore = Keystore.from_bytes(path.read_bytes())
                if (keystore.srv, keystore.user) != (self.srv, self.user):
                    raise InvalidKey(f"{path} belongs to another account")
                return keystore
        return None

    def write_pending(self, keystore: Keystore) -> None:
        """Keeps the keystore of a registration that is about to be asked for."""
        write_private(self._pending, keystore.to_bytes())

    def drop_pending(self) -> None:
        """The registration was refused."""
        self._pending.unlink(missing_ok=True)

    def write_keystore(self, keystore: Keystore) -> None:
        """Keeps a keystore for good."""
        write_private(self._keystore, keystore.to_bytes())
        self.drop_pending()


class ClientDir:
    """The client's data directory.

    `known.json` says which server answers at which address and which was used last; several clients may share it, so
    it is read afresh and replaced atomically each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Makes the directory, for its owner alone."""
        private_directory(self.path)

    def profile(self, srv: str, user: str) -> Profile:
        """The place of an account, there or not."""
        return Profile(self.path / "servers" / srv / user, srv, user)

    def users(self, srv: str) -> list[str]:
        """The accounts on a server whose keys are on this machine."""
        base = self.path / "servers" / srv
        if not base.is_dir():
            return []
        return sorted(entry.name for entry in base.iterdir() if self.profile(srv, entry.name).exists())

    def any_account(self) -> bool:
        """Whether any account's keys are on this machine."""
        base = self.path / "servers"
        return base.is_dir() and any(self.users(entry.name) for entry in base.iterdir())

    def last_line(self) -> ConnectLine | None:
        """The server used last; without its id where that is known by the address, so that /trust server can help."""
        with contextlib.suppress(SecureChatError):
            last = self._read().get("last")
            if isinstance(last, str):
                line = ConnectLine.parse(last)
                return line if self.known_id(line.host, line.port) is None else replace(line, id=None)
        return None

    def known_id(self, host: str, port: int) -> str | None:
        """The id of the server that answered at an address."""
        known = self._servers(self._read()).get(join_address(host, port))
        return known if isinstance(known, str) else None

    def remember(self, line: ConnectLine) -> None:
        """A server proved itself at this address (or its owner accepted another one there)."""
        known = self._read()
        servers = self._servers(known)
        servers[join_address(line.host, line.port)] = line.id
        fresh = {"last": str(line), "servers": servers}
        if fresh != known:
            self.prepare()
            write_private(self.path / "known.json", json.dumps(fresh, indent=1).encode("ascii") + b"\n")

    @staticmethod
    def _servers(known: dict[str, Any]) -> dict[str, Any]:
        servers = known.get("servers")
        return dict(servers) if isinstance(servers, dict) else {}

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads((self.path / "known.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
