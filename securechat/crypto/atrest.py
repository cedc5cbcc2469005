"""The server's own layer over what it stores: Fernet, under keys that a stolen database does not contain.

A key file outside the backups (KEK) wraps the data keys (DEKs) that lie in the database; each sealed row names its DEK
and says inside which row it is, for Fernet has no associated data. This protects stolen disks and backups, not a
running server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from securechat.errors import AtRestMismatch, StartupError

KEY_FILE_HEADER: Final = (
    "# SecureChat at-rest key. Newest first. Whoever has this and the database reads what the server can read."
)

_OTHER_KEY: Final = "The at-rest key does not open this database. Start with the one made with it (--key-file FILE)."


def new_key_file() -> str:
    """The contents of a fresh key file."""
    return f"{KEY_FILE_HEADER}\n{Fernet.generate_key().decode('ascii')}\n"


class KeyEncryptionKeys:
    """The keys of the key file: the first wraps, all unwrap.

    Raises:
        StartupError: the file holds no usable key.
    """

    def __init__(self, key_file: str) -> None:
        lines = [line.strip() for line in key_file.splitlines()]
        try:
            fernets = [Fernet(line) for line in lines if line and not line.startswith("#")]
        except ValueError:
            raise StartupError(
                "The at-rest key file is damaged: a line in it is no key. Put it back from where you keep its copy."
            ) from None
        if not fernets:
            raise StartupError("The at-rest key file is empty. Put it back from where you keep its copy.")
        self._fernet = MultiFernet(fernets)

    def __repr__(self) -> str:
        return "<KeyEncryptionKeys>"

    def wrap_new(self) -> bytes:
        """A fresh data key, wrapped."""
        return self._fernet.encrypt_at_time(Fernet.generate_key(), 0)

    def wrap_again(self, wrapped: bytes) -> bytes:
        """A wrapped data key, wrapped by the first of these keys. Raises StartupError: none of them opens it."""
        try:
            return self._fernet.encrypt_at_time(self._fernet.decrypt(wrapped), 0)
        except InvalidToken:
            raise StartupError(_OTHER_KEY) from None

    def unwrap(self, wrapped: bytes) -> Fernet:
        """A data key. Raises StartupError: the database was made with another key file."""
        try:
            return Fernet(self._fernet.decrypt(wrapped))
        except InvalidToken:
            raise StartupError(_OTHER_KEY) from None


class RowSealer:
    """Seals and opens rows under data keys, each row bound to its place.

    Args:
        deks: data keys by id.
        newest: the id under which new rows are sealed; where it changes, it does so in the writer's thread.
    """

    def __init__(self, deks: Mapping[int, Fernet], newest: int) -> None:
        self._deks = dict(deks)
        self.newest = newest

    def __repr__(self) -> str:
        return "<RowSealer>"

    def know(self, dek_id: int, dek: Fernet) -> None:
        """One more data key, which opens from now on. None is ever forgotten: somebody may be reading an older row."""
        self._deks[dek_id] = dek

    def seal(self, place: bytes, body: bytes) -> bytes:
        """A row's token, under the newest data key.

        Args:
            place: one line that says what and where this row is: table, and every column used to find or order it.
        """
        return self.seal_under(self.newest, place, body)

    def seal_under(self, dek_id: int, place: bytes, body: bytes) -> bytes:
        """The same, under a certain data key."""
        return self._deks[dek_id].encrypt_at_time(place + b"\n" + body, 0)

    def open(self, dek_id: int, place: bytes, token: bytes) -> bytes:
        """A row's body. Raises AtRestMismatch: another row's token, an altered one, or a data key that is gone."""
        try:
            plain = self._deks[dek_id].decrypt(token)
        except (KeyError, InvalidToken):
            raise AtRestMismatch("a stored row does not open") from None
        if not plain.startswith(place + b"\n"):
            raise AtRestMismatch("a stored row was moved from another place")
        return plain[len(place) + 1 :]
