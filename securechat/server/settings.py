"""The daemon's settings: one table, from which the file, the options and their checks come."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from securechat.errors import StartupError
from securechat.link import DEFAULT_HOST, DEFAULT_PORT, BadAddress, is_loopback, join_address, split_address
from securechat.server.session import Registration
from securechat.wire import limits

MAX_RETENTION_DAYS: Final = 36_500
MAX_QUOTA_MB: Final = 100_000_000
MEGABYTE: Final = 1_000_000  # bytes, as quotas are given
_ENDPOINT_KINDS: Final = ("tcp:", "tcp6:", "unix:", "systemd:", "haproxy:")


@dataclass(frozen=True)
class Settings:
    """What the operator decides. `server/securechat.toml` explains each.

    Attributes:
        listen: HOST:PORT or Twisted endpoint strings; TLS on every one.
        insecure_loopback: HOST:PORT on this machine without TLS, or "".
        public: HOST[:PORT] for connect lines and invites, or "".
    """

    listen: tuple[str, ...] = (join_address(DEFAULT_HOST, DEFAULT_PORT),)
    insecure_loopback: str = ""
    public: str = ""
    data_dir: str = ""
    key_file: str = ""
    tls_key: str = ""
    tls_chain: str = ""
    registration: str = Registration.INVITE.value
    bcrypt_rounds: int = 12
    messages_per_second: float = limits.MESSAGES_PER_SECOND
    message_burst: float = limits.MESSAGE_BURST
    logins_per_account: int = limits.LOGINS_PER_ACCOUNT
    logins_per_address: int = limits.LOGINS_PER_ADDRESS
    connections_per_address: int = limits.CONNECTIONS_PER_ADDRESS
    max_connections: int = 0
    room_members: int = limits.MAX_MEMBERS
    rooms_per_user: int = limits.MAX_ROOMS
    retention_days: int = 0
    quota_room_mb: int = 0
    quota_user_mb: int = 0

    def checked(self) -> Settings:
        """These settings. Raises StartupError, naming the first that cannot be."""
        for name, (holds, rule) in _RULES.items():
            if not holds(getattr(self, name)):
                raise StartupError(f"The setting {name} = {getattr(self, name)!r} cannot be: it must be {rule}.")
        if bool(self.tls_key) != bool(self.tls_chain):
            raise StartupError("tls_key and tls_chain go together: set both, or neither.")
        for listener in self.listen:
            if not is_endpoint(listener):
                _address("listen", listener)
        if self.insecure_loopback:
            host, _ = _address("insecure_loopback", self.insecure_loopback)
            if not is_loopback(host):
                raise StartupError(
                    f"insecure_loopback = {self.insecure_loopback!r} is refused: without TLS only 127.0.0.1, ::1 or"
                    " localhost may be listened on. Use listen for other addresses."
                )
        if self.public:
            _address("public", self.public)
        return self


def _address(name: str, text: str) -> tuple[str, int]:
    try:
        return split_address(text)
    except BadAddress as error:
        raise StartupError(f"The setting {name}: {error}") from None


def is_endpoint(listener: str) -> bool:
    """Whether a listener is a Twisted endpoint string, not HOST:PORT."""
    return listener.startswith(_ENDPOINT_KINDS)


def _between(least: float, most: float) -> tuple[Callable[[Any], bool], str]:
    return lambda value: least <= value <= most, f"between {least:g} and {most:g}"


_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "listen": (lambda value: len(value) > 0, "at least one address"),
    "registration": (
        lambda value: value in {kind.value for kind in Registration},
        'one of "open", "invite" and "closed"',
    ),
    "bcrypt_rounds": _between(4, 16),
    "messages_per_second": _between(0.1, 1e9),
    "message_burst": _between(1, 1e9),
    "logins_per_account": _between(1, 1e9),
    "logins_per_address": _between(1, 1e9),
    "connections_per_address": _between(1, 1e9),
    "max_connections": _between(0, 1e9),
    "room_members": _between(2, limits.MAX_MEMBERS),
    "rooms_per_user": _between(1, 100_000),
    "retention_days": _between(0, MAX_RETENTION_DAYS),
    "quota_room_mb": _between(0, MAX_QUOTA_MB),
    "quota_user_mb": _between(0, MAX_QUOTA_MB),
}
_NAMES: Final = {setting.name: setting for setting in fields(Settings)}
_TYPES: Final = {name: type(getattr(Settings(), name)) for name in _NAMES}


def read_file(path: Path, base: Settings | None = None) -> Settings:
    """The settings of a TOML file over `base`.

    Raises:
        StartupError: it cannot be read, has an unknown key (with a suggestion) or a value of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"The configuration {path} is not TOML: {error}.") from None
    return replace(base or Settings(), **{name: _typed(path, name, value) for name, value in table.items()})


def _typed(path: Path, name: str, value: Any) -> Any:
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise StartupError(f"{path}: there is no setting {name}.{hint}")
    kind = _TYPES[name]
    if kind is tuple:
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    raise StartupError(f"{path}: {name} = {value!r} has the wrong type; the template shows how it looks.")


@dataclass(frozen=True)
class DataDir:
    """The files of a server, by name."""

    path: Path = field()

    @property
    def database(self) -> Path:
        """Everything that is remembered."""
        return self.path / "chat.db"

    @property
    def identity(self) -> Path:
        """The server's own key."""
        return self.path / "server.key"

    @property
    def at_rest_key(self) -> Path:
        """Where the at-rest key lies unless the operator says otherwise."""
        return self.path / "atrest.key"

    @property
    def tls_key(self) -> Path:
        """Key of the self-signed certificate."""
        return self.path / "tls.key"

    @property
    def tls_chain(self) -> Path:
        """The self-signed certificate."""
        return self.path / "tls.crt"

    @property
    def connect_line(self) -> Path:
        """The line to hand out."""
        return self.path / "connect.txt"

    @property
    def admin_socket(self) -> Path:
        """Where `securechat admin` talks to the daemon."""
        return self.path / "admin.sock"

    @property
    def lock(self) -> Path:
        """Held by the daemon that uses this directory."""
        return self.path / "lock"
