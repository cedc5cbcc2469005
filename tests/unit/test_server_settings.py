"""Tests for the daemon's settings: the file, its template, and what cannot be."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import securechat.server.settings
from securechat.errors import StartupError
from securechat.server.settings import DataDir, Settings, is_endpoint, read_file

TEMPLATE = Path(securechat.server.settings.__file__).with_name("securechat.toml")
NAMES = [setting.name for setting in fields(Settings)]


class FileTests(SynchronousTestCase):
    """Tests for `read_file`."""

    def read(self, text: str | bytes) -> Settings:
        """The settings of a file of this contents."""
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_file(path)

    def refuse(self, text: str | bytes, *words: str) -> None:
        """A file of this contents is refused, with these words and its name."""
        error = self.assertRaises(StartupError, self.read, text)
        for word in words:
            self.assertIn(word, str(error))

    def test_empty(self) -> None:
        """An empty file changes nothing."""
        self.assertEqual(Settings(), self.read(""))

    def test_over_others(self) -> None:
        """What it does not name stays as it was."""
        path = Path(self.mktemp())
        path.write_text("bcrypt_rounds = 10\n")
        settings = read_file(path, Settings(room_members=5, bcrypt_rounds=9))
        self.assertEqual((5, 10), (settings.room_members, settings.bcrypt_rounds))

    def test_every_kind(self) -> None:
        """Texts, numbers, and lists of texts; one text for a list of one, a whole number for any."""
        settings = self.read('listen = "h:1"\nmessage_burst = 7\nroom_members = 8\npublic = "p"\n')
        self.assertEqual(
            (("h:1",), 7.0, 8, "p"), (settings.listen, settings.message_burst, settings.room_members, settings.public)
        )
        self.assertIs(float, type(settings.message_burst))
        self.assertEqual(("a", "b"), self.read('listen = ["a", "b"]').listen)

    def test_unknown_name(self) -> None:
        """An unknown name is refused, with the nearest one that there is."""
        self.refuse("bcrypt_round = 10", "no setting bcrypt_round", "Did you mean bcrypt_rounds?")
        self.refuse('Listen = "h:1"', "no setting Listen", "Did you mean listen?")
        error = self.assertRaises(StartupError, self.read, "zzzzzz = 1")
        self.assertNotIn("Did you mean", str(error))
        self.refuse("[section]\nlisten = 'x'", "no setting section")

    def test_wrong_types(self) -> None:
        """A value of another type is refused for each setting, and the text names it."""
        wrong: dict[type, tuple[str, ...]] = {
            str: ("1", "true", "1.5", "[]", "{}", "2026-01-01"),
            int: ('"1"', "true", "1.5", "[1]", "{}", "nan"),
            float: ('"1"', "true", "[1.0]", "{}", "2026-01-01"),
            tuple: ("1", "true", "[1]", '["a", 1]', "{}", "[['a']]"),
        }
        for setting in fields(Settings):
            for value in wrong[type(getattr(Settings(), setting.name))]:
                self.refuse(f"{setting.name} = {value}", setting.name, "wrong type")

    def test_not_toml(self) -> None:
        """What is no TOML, or no text, is refused with where."""
        for text in ("listen", "listen = ", "= 1", "listen = 'a' 'b'", b"\xff\xfe", "a = 1\na = 2"):
            self.refuse(text, "is not TOML")

    def test_not_there(self) -> None:
        """A file that cannot be read is refused with why."""
        error = self.assertRaises(StartupError, read_file, Path(self.mktemp()))
        self.assertIn("No such file", str(error))


class TemplateTests(SynchronousTestCase):
    """Tests for the shipped template."""

    def test_is_the_defaults(self) -> None:
        """Read as it is, it changes nothing."""
        self.assertEqual(Settings(), read_file(TEMPLATE))

    def test_is_complete(self) -> None:
        """Every setting stands in it, and no other."""
        self.assertEqual(sorted(NAMES), sorted(tomllib.loads(TEMPLATE.read_text())))

    def test_explains_each(self) -> None:
        """Every setting has a comment before it, or before the group it stands in."""
        for name in NAMES:
            before = TEMPLATE.read_text().split(f"\n{name} = ")[0]
            paragraph = before.rpartition("\n\n")[2]
            self.assertTrue(re.search("^# .{20}", paragraph, re.MULTILINE), name)


class CheckTests(SynchronousTestCase):
    """Tests for `Settings.checked`."""

    def refuse(self, *words: str, **changes: Any) -> None:
        """These settings are refused, with these words."""
        error = self.assertRaises(StartupError, Settings(**changes).checked)
        for word in (*words, *changes):
            self.assertIn(word, str(error))

    def test_defaults(self) -> None:
        """The defaults are good."""
        self.assertEqual(Settings(), Settings().checked())

    def test_ranges(self) -> None:
        """The last good value on either side is taken, the next is not."""
        ranges: dict[str, tuple[float, float, float]] = {
            "bcrypt_rounds": (4, 16, 1), "room_members": (2, 1000, 1), "rooms_per_user": (1, 100_000, 1),
            "logins_per_account": (1, 1e9, 1), "logins_per_address": (1, 1e9, 1),
            "connections_per_address": (1, 1e9, 1), "messages_per_second": (0.1, 1e9, 0.01),
            "message_burst": (1, 1e9, 0.5),
        }  # fmt: skip
        self.refuse("between", max_connections=-1)
        Settings(max_connections=0).checked()
        for name, (least, most, step) in ranges.items():
            for good in (least, most):
                Settings(**{name: good}).checked()
            for wrong in (least - step, most + step, -1, 0, float("inf"), float("nan")):
                self.refuse("between", **{name: wrong})

    def test_registration(self) -> None:
        """Registration is one of three words."""
        for word in ("open", "invite", "closed"):
            Settings(registration=word).checked()
        for word in ("", "Open", "yes"):
            self.refuse('"open", "invite" and "closed"', registration=word)

    def test_listen(self) -> None:
        """At least one address, each HOST:PORT or an endpoint."""
        for listen in (("h:1",), ("[::1]:1", "tcp:1"), ("unix:/run/x", "systemd:domain=INET:index=0", "haproxy:tcp:1")):
            Settings(listen=listen).checked()
        self.refuse("at least one", listen=())
        for wrong in ("", "h:x", "h:1/", "http://h", "ssl:1:interface=h"):
            self.refuse("HOST:PORT", listen=("h:1", wrong))

    def test_insecure_loopback(self) -> None:
        """Without TLS only this machine itself."""
        for address in ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.0.0.1"):
            Settings(insecure_loopback=address).checked()
        for address in ("0.0.0.0:1", "[::]:1", "192.0.2.7:1", "host:1", "localhost.example.org:1"):
            self.refuse("without TLS", insecure_loopback=address)
        self.refuse("HOST:PORT", insecure_loopback="tcp:1:interface=127.0.0.1")

    def test_tls_files(self) -> None:
        """Key and chain go together."""
        Settings(tls_key="k", tls_chain="c").checked()
        self.refuse("both", tls_key="k")
        self.refuse("both", tls_chain="c")

    def test_public(self) -> None:
        """The public name is an address."""
        for public in ("chat.example.org", "chat.example.org:99", "[2001:db8::1]:99"):
            Settings(public=public).checked()
        for wrong in ("h:x", "https://h", "a b", "h/x"):
            self.refuse("HOST:PORT", public=wrong)

    def test_endpoints(self) -> None:
        """An endpoint is told from an address by its kind."""
        for endpoint in ("tcp:1", "tcp6:1", "unix:/x", "systemd:domain=INET:index=0", "haproxy:tcp:1"):
            self.assertTrue(is_endpoint(endpoint), endpoint)
        for address in ("localhost:1", "tcp", "unixhost:1", "tls:1"):
            self.assertFalse(is_endpoint(address), address)


class DataDirTests(SynchronousTestCase):
    """Tests for the files of a server."""

    def test_names(self) -> None:
        """Each has a name of its own, all in the one directory."""
        data = DataDir(Path("/data"))
        paths = [
            data.database, data.identity, data.at_rest_key, data.tls_key, data.tls_chain, data.connect_line,
            data.admin_socket, data.lock,
        ]  # fmt: skip
        self.assertEqual((8, {Path("/data")}), (len(set(paths)), {path.parent for path in paths}))
