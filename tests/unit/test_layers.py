"""Who may import whom: the arrows of docs/architecture.md, held by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

import securechat

ALL: Final = None
PACKAGE: Final = "securechat"

# A module or package directly under securechat, and those of ours that it may import: a new one needs a row.
ARROWS: Final[dict[str, frozenset[str] | None]] = {
    "errors": frozenset(),
    "wire": frozenset({"errors"}),
    "crypto": frozenset({"errors"}),
    "chat": frozenset({"wire", "errors"}),
    "storage": frozenset({"crypto", "errors"}),
    "private_files": frozenset({"errors"}),
    "link": frozenset({"wire", "crypto", "errors"}),
    "server": frozenset({"link", "private_files", "chat", "storage", "crypto", "wire", "errors"}),
    "client": frozenset({"link", "private_files", "crypto", "wire", "errors"}),
    "__main__": ALL,
    "admin": ALL,
    "tap": ALL,
    "client_tap": ALL,
    "cli": ALL,
    "demo": ALL,
    "scripting": ALL,
}

# Narrower than their package's row: a session, and what answers its requests, know the verbs of a store, not
# the database behind them.
NARROWER: Final = dict.fromkeys(
    (f"securechat.server.{name}" for name in ("session", "accounts", "rooms", "talk", "notes")),
    ("storage", "securechat.storage.interface"),
)

PURE: Final = frozenset({"errors", "wire", "crypto", "chat"})
IMPURE: Final = frozenset({"twisted", "socket", "sqlite3", "time", "random", "asyncio"})

# Who alone may import a library that keys, passwords or certificates pass through.
RESERVED: Final = {
    "cryptography": frozenset({"crypto"}),
    "passlib": frozenset({"crypto"}),
    "bcrypt": frozenset({"crypto"}),
    "OpenSSL": frozenset({"link", "client"}),
    "service_identity": frozenset({"link", "client"}),
}


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every import of a module, wherever in it, as line and absolute dotted name.

    Args:
        tree: the parsed module.
        module: its dotted name, to which relative imports are resolved.
        is_package: whether the source is a package's __init__.py.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            base = base[: len(base) + is_package - node.level] if node.level else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, *filter(None, [node.module]), alias.name])


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module does that its layer may not, one ``module:line: reason`` each."""
    tree = ast.parse(source)
    layer = module.split(".")[1] if "." in module else ""
    if layer and layer not in ARROWS:
        return [f"{module}:1: has no row in ARROWS"]
    # The package itself holds the docstring and the version, and importing it starts nothing.
    allowed = ARROWS[layer] if layer else frozenset()
    found = []
    for line, name in imported(tree, module, is_package):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        reason = ""
        if top == PACKAGE:
            narrow = NARROWER.get(module)
            if target in ARROWS and target != layer and allowed is not ALL and target not in allowed:
                reason = f"may not import {name}"
            elif narrow and target == narrow[0] and not f"{name}.".startswith(f"{narrow[1]}."):
                reason = f"imports {name}, may only import {narrow[1]}"
        elif layer in PURE and top in IMPURE:
            reason = f"is pure and imports {name}"
        elif top in RESERVED and layer not in RESERVED[top]:
            reason = f"imports {name}, which only {' and '.join(sorted(RESERVED[top]))} may"
        if reason:
            found.append(f"{module}:{line}: {reason}")
    if layer in PURE:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                found.append(f"{module}:{node.lineno}: is pure and opens a file")
    return found


class LayerTests(SynchronousTestCase):
    """Tests for the package as it stands."""

    def test_arrows(self) -> None:
        """No module imports or does what its layer may not."""
        root = Path(securechat.__file__).parent
        found: list[str] = []
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            found += violations(path.read_text(encoding="utf-8"), module, is_package)
        self.assertEqual([], found)


class CheckerTests(SynchronousTestCase):
    """Tests for the checker itself, fed with made-up sources."""

    def assertRefused(self, module: str, source: str, reason: str) -> None:
        """The last line of the source, and nothing else in it, is refused for the reason."""
        line = len(source.splitlines())
        self.assertEqual([f"{module}:{line}: {reason}"], violations(source, module))

    def test_forbidden_arrow(self) -> None:
        """A layer that reaches for another without an arrow is refused, however the import is spelt."""
        reason = "may not import securechat.server.session"
        for source in (
            "import securechat.server.session",
            "import securechat.server.session as s",
            "from securechat.server import session",
            "from ..server import session",
        ):
            self.assertRefused("securechat.client.core", source, reason)
        self.assertRefused("securechat.client.core", "from .. import chat", "may not import securechat.chat")
        self.assertRefused("securechat.chat.broker", "from securechat import link", "may not import securechat.link")

    def test_every_lower_layer(self) -> None:
        """Errors import nothing of ours; wire and crypto know no other, nor storage the wire."""
        for layer, target in (
            ("errors", "wire"),
            ("wire", "crypto"),
            ("crypto", "wire"),
            ("storage", "wire"),
        ):
            self.assertRefused(
                f"securechat.{layer}", f"import securechat.{target}", f"may not import securechat.{target}"
            )

    def test_relative_import_in_package(self) -> None:
        """In an __init__.py one dot is the package itself."""
        self.assertEqual([], violations("from . import codec", "securechat.wire", is_package=True))
        self.assertEqual(
            ["securechat.wire:1: may not import securechat.chat.broker"],
            violations("from ..chat import broker", "securechat.wire", is_package=True),
        )

    def test_hidden_import(self) -> None:
        """An import inside a function or for the type checker alone counts too."""
        self.assertRefused("securechat.wire.codec", "def f():\n    import socket", "is pure and imports socket")
        self.assertRefused(
            "securechat.chat.broker",
            "if TYPE_CHECKING:\n    from securechat.storage.interface import ChatStore",
            "may not import securechat.storage.interface.ChatStore",
        )

    def test_session_knows_the_interface_only(self) -> None:
        """A session imports the interface of storage; a database, or the package, is refused."""
        module = "securechat.server.session"
        self.assertEqual([], violations("from securechat.storage.interface import ChatStore", module))
        self.assertEqual([], violations("from securechat.storage import interface", module))
        for name in ("securechat.storage", "securechat.storage.sqlite", "securechat.storage.interfaces"):
            self.assertRefused(
                module, f"import {name}", f"imports {name}, may only import securechat.storage.interface"
            )
        self.assertEqual([], violations("import securechat.storage.sqlite", "securechat.server.service"))

    def test_pure(self) -> None:
        """A pure layer has no network, database, clock, dice or files."""
        for layer in PURE:
            for name in IMPURE:
                self.assertRefused(f"securechat.{layer}.x", f"import {name}", f"is pure and imports {name}")
            self.assertRefused(f"securechat.{layer}.x", "x = 1\nopen('f')", "is pure and opens a file")
        self.assertRefused("securechat.wire.x", "from time import time", "is pure and imports time.time")
        self.assertEqual([], violations("import time\nbox.open(b'')", "securechat.server.service"))
        self.assertEqual([], violations("box.open(b'')", "securechat.crypto.primitives"))

    def test_reserved_libraries(self) -> None:
        """Keys and passwords are handled in crypto only, certificates in link and the client only."""
        for name in ("cryptography", "passlib", "bcrypt"):
            self.assertEqual([], violations(f"import {name}", "securechat.crypto.primitives"))
            for module in ("link", "server.protocol", "client.store", "storage.sqlite", "cli"):
                self.assertRefused(f"securechat.{module}", f"import {name}", f"imports {name}, which only crypto may")
        for name in ("OpenSSL", "service_identity"):
            for module in ("link", "client.protocol"):
                self.assertEqual([], violations(f"import {name}", f"securechat.{module}"))
            self.assertRefused(
                "securechat.server.protocol",
                f"import {name}",
                f"imports {name}, which only client and link may",
            )

    def test_unknown_layer(self) -> None:
        """A module that nobody gave a row is refused until somebody does."""
        self.assertEqual(["securechat.misc:1: has no row in ARROWS"], violations("", "securechat.misc"))

    def test_root(self) -> None:
        """Importing the package starts nothing: it imports none of its parts. All may read the version."""
        self.assertEqual(
            ["securechat:1: may not import securechat.wire"],
            violations("import securechat.wire", "securechat", is_package=True),
        )
        self.assertEqual([], violations("from securechat import __version__", "securechat.server.service"))

    def test_outermost(self) -> None:
        """The entry points may import anything of ours."""
        for module in ("tap", "client_tap", "cli", "demo"):
            for target in ARROWS:
                self.assertEqual([], violations(f"import securechat.{target}", f"securechat.{module}"))
