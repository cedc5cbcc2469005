"""Passwords: stretched by the client, so that the server never sees one; hashed again by the server.

Everything here takes 0.05 to 0.5 s of CPU by design: callers use a thread.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from securechat.crypto import primitives as p
from securechat.errors import StartupError

SALT_BYTES: Final = 16
SCHEME: Final = "sc1"
_ITERATIONS: Final = 3
_MEMORY_KIB: Final = 64 * 1024
_LANES: Final = 4


@dataclass(frozen=True)
class Stretched:
    """What a client derives from a password and a salt. The password cannot be had back from any of it."""

    root: bytes
    salt: bytes

    def __repr__(self) -> str:
        return "<Stretched password>"

    def auth_token(self, srv: str, user: str) -> str:
        """What goes to the server in the place of the password; another server's is another."""
        context = p.digest("auth", srv.encode("ascii"), user.encode("ascii"))
        return f"{SCHEME}${p.b64url(p.expand(self.root, 'auth', context, 32))}"

    def keystore_key(self) -> bytes:
        """Opens a slot of the keystore on this machine."""
        return p.expand(self.root, "keystore", b"", 32)

    def backup_key(self) -> bytes:
        """Opens the sealed backup, unless it lies under a recovery code."""
        return p.expand(self.root, "backup", b"", 32)


def stretch(password: str, salt: bytes) -> Stretched:
    """Argon2id (RFC 9106) of the NFC form in UTF-8: t=3, m=64 MiB, p=4. 0.3 to 0.5 s; 64 MiB."""
    secret = unicodedata.normalize("NFC", password).encode("utf-8")
    kdf = Argon2id(salt=salt, length=32, iterations=_ITERATIONS, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return Stretched(kdf.derive(secret), salt)


def fake_salt(secret: bytes, user: str) -> bytes:
    """The constant salt that `prelogin` answers for a user who does not exist: 16 bytes."""
    return p.expand(secret, "fake salt", user.encode("ascii"), SALT_BYTES)


# --- the server's side ------------------------------------------------------------------------------------------------


class Hasher(Protocol):
    """What the daemon needs of password hashing; blocking."""

    def hash(self, token: str) -> str:
        """A new hash."""

    def verify(self, token: str, stored: str | None) -> bool:
        """Whether a token has this hash; None takes the same time and is False."""

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash is of an older scheme or cost than new ones."""


def _import_context() -> type:
    """passlib's CryptContext, working.

    libpass installs the package `passlib` and needs no help. passlib 1.7.4 tests its bcrypt backend with 255 bytes,
    which bcrypt 5 refuses, and reads `bcrypt.__about__`, which is gone: so its backend is loaded once with a
    `hashpw` that truncates, and with that attribute; both are put back at once.
    """
    import bcrypt
    import passlib
    from passlib.context import CryptContext

    if getattr(passlib, "__version__", "") == "1.7.4":
        from types import SimpleNamespace

        from passlib.hash import bcrypt as plain
        from passlib.hash import bcrypt_sha256 as hashed

        genuine = bcrypt.hashpw
        if not hasattr(bcrypt, "__about__"):
            bcrypt.__about__ = SimpleNamespace(__version__=bcrypt.__version__)  # type: ignore[attr-defined]  # made here
        bcrypt.hashpw = lambda password, salt: genuine(password[:72], salt)
        try:
            plain.set_backend("bcrypt")
            hashed.set_backend("bcrypt")
        finally:
            bcrypt.hashpw = genuine
    context: type = CryptContext
    return context


class PasswordHasher:
    """bcrypt_sha256 through passlib.

    Plain bcrypt looks at 72 bytes only, so it is accepted for verifying and replaced at the next login.

    Args:
        rounds: log2 of the cost; 12 takes 0.3 s here.

    Raises:
        StartupError: passlib and bcrypt do not work together; the text has the mending command.
    """

    def __init__(self, rounds: int = 12) -> None:
        try:
            self._context = _import_context()(
                schemes=["bcrypt_sha256", "bcrypt"],
                deprecated=["bcrypt"],
                bcrypt_sha256__rounds=rounds,
                bcrypt__rounds=rounds,
            )
            self._absent = self._context.hash("no account has this")
            works = self._context.verify("no account has this", self._absent)
        except Exception as error:  # whatever two mismatched libraries raise, the cure is the same
            raise StartupError(_MEND.format(why=error)) from error
        if not works:
            raise StartupError(_MEND.format(why="a fresh hash does not verify"))

    def hash(self, token: str) -> str:
        """A new hash of an auth token."""
        return str(self._context.hash(token))

    def verify(self, token: str, stored: str | None) -> bool:
        """Whether a token has this hash. None (no such account) costs the same time and is False."""
        matches = bool(self._context.verify(token, stored or self._absent))
        return matches and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash is of an older scheme or cost."""
        return bool(self._context.needs_update(stored))


_MEND: Final = (
    "Password hashing does not work here ({why}). Install the maintained pair again:\n"
    "    pip uninstall -y passlib libpass bcrypt && pip install 'libpass[bcrypt]>=1.9.4,<2' 'bcrypt>=4.1,<6'"
)
