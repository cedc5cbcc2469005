"""Tests for the command line of `securechat admin`: what it asks, what it prints, how it ends."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from securechat import admin, cli
from securechat.crypto import passwords
from securechat.crypto.atrest import new_key_file
from securechat.errors import Exit
from securechat.server.operations import COMMANDS
from securechat.storage.interface import BackupReport
from tests.doubles import quick_stretch

USER = {
    "user": "alice", "created": 0, "suspended": False, "deleted": None, "quota": None, "rooms": 2, "devices": 1,
    "sessions": 3, "stored": 1234, "connected": 1,
}  # fmt: skip
ROOM = {
    "room": "ops", "id": "ab", "open": True, "members": 2, "messages": 7, "stored": 5_000_000, "events": 3, "last": 0,
    "retention": None, "quota": 9,
}  # fmt: skip
SESSION = {"user": "alice", "device": "ab" * 16, "created": 0, "used": 0, "connected": ["192.0.2.1"]}


class Terminal(io.StringIO):
    """Standard input of a person."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Failing(io.StringIO):
    """Standard output that takes all, and cannot put it where it belongs."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def flush(self) -> None:
        """Fails."""
        raise self._error


class AdminCase(SynchronousTestCase):
    """Tests with a daemon that answers what it is told to."""

    def setUp(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {}
        self.patch(admin, "ask", self.ask)
        self.patch(sys, "stdin", io.StringIO())
        self.patch(os, "environ", {**os.environ, "TZ": "UTC"})
        time.tzset()

    def ask(self, data_dir: str | None, request: dict[str, Any], tell: Any = None) -> dict[str, Any]:
        """As `admin.ask`."""
        self.asked.append(request)
        return self.answer

    def run_admin(self, *arguments: str) -> tuple[int, str, str]:
        """The status, what was printed, and what was complained of."""
        out, complaints = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(complaints):
            try:
                status = cli.main(["admin", *arguments])
            except SystemExit as end:
                status = int(end.code or 0)
        return status, out.getvalue(), complaints.getvalue()

    def ok(self, *arguments: str) -> str:
        """What is printed by a command that must succeed."""
        status, out, complaints = self.run_admin(*arguments)
        self.assertEqual((0, ""), (status, complaints), arguments)
        return out


class TableTests(AdminCase):
    """Tests for the table of commands."""

    def test_help(self) -> None:
        """Each command and group has help that names its arguments, and ends with 0."""
        for command in admin.COMMANDS:
            out = self.ok(*command.name, "--help")
            self.assertIn(command.help[1:40], " ".join(out.split()))
            for names, _ in command.arguments:
                self.assertIn(names[0].upper()[:4], out.upper())
            self.assertEqual(bool(command.destroys), "--yes" in out, command.name)
            self.assertEqual(command.json, "--json" in out, command.name)
        everything = " ".join(self.ok("--help").split())
        for name in {command.name[0] for command in admin.COMMANDS}:
            self.assertIn(f" {name} ", everything)

    def test_every_command_of_the_daemon_has_one(self) -> None:
        """What the daemon can be asked is what the command line asks."""
        tags = {str(kind.__struct_config__.tag) for kind in COMMANDS}
        names = {"-".join(command.name) for command in admin.COMMANDS} - {"restore", "user-unsuspend"}
        self.assertEqual(tags, names)

    def test_wrong_usage(self) -> None:
        """What cannot be understood ends with 2."""
        for arguments in ([], ["nothing"], ["user"], ["user", "delete"], ["room", "quota", "ops"], ["backup"]):
            self.assertEqual(2, self.run_admin(*arguments)[0], arguments)
        self.assertEqual([], self.asked)

    def test_destroying(self) -> None:
        """What destroys something is not done without a yes, from a person or by --yes."""
        self.answer = {"ended": 0, "members": [], "srv": "x"}
        self.patch(admin, "stretch", quick_stretch)
        for command in admin.COMMANDS:
            if not command.destroys:
                continue
            given = [*command.name, *("7" if "days" in names else "ops" for names, _ in command.arguments)]
            status, _, complaints = self.run_admin(*given)
            self.assertEqual((Exit.FIXABLE, True), (status, "--yes" in complaints), given)
            for typed in ("", "no\n", "n\n", "\n"):
                self.patch(sys, "stdin", Terminal(typed + "\n"))
                self.assertEqual(Exit.FIXABLE, self.run_admin(*given)[0], (given, typed))
            self.assertEqual([], self.asked)
            self.patch(sys, "stdin", Terminal("y\n"))
            self.assertEqual(0, self.run_admin(*given)[0], given)
            self.assertEqual(0, self.run_admin(*given, "--yes")[0], given)
            self.assertNotEqual([], self.asked)
            self.asked.clear()
            self.patch(sys, "stdin", io.StringIO())

    def test_end_of_input(self) -> None:
        """Ctrl-D is no yes."""
        self.patch(sys, "stdin", Terminal(""))
        status, out, complaints = self.run_admin("user", "delete", "alice")
        self.assertEqual((Exit.FIXABLE, "securechat: Nothing was done.\n"), (status, complaints))
        self.assertTrue(out.endswith("[y/N] \n"))
        self.assertEqual([], self.asked)


class OutputTests(AdminCase):
    """Tests for output that nobody reads, or that cannot be written."""

    def to(self, error: OSError, *arguments: str) -> tuple[int, str]:
        """The status and the complaints of a command whose output fails."""
        complaints = io.StringIO()
        with redirect_stdout(Failing(error)), redirect_stderr(complaints):
            status = cli.main(["admin", *arguments])
        return status, complaints.getvalue()

    def test_nobody_reads(self) -> None:
        """A pipe that is closed ends a command with 1, without a word."""
        self.answer = {"users": [], "limits": {}}
        self.assertEqual((1, ""), self.to(BrokenPipeError(errno.EPIPE, "Broken pipe"), "user", "list", "--json"))

    def test_full(self) -> None:
        """A full disk is told; a help text too is no success then."""
        self.answer = {"figures": {"connections": 3}}
        full = OSError(errno.ENOSPC, "No space left on device")
        said = (1, "securechat: The output cannot be used: No space left on device.\n")
        self.assertEqual(said, self.to(full, "status"))
        self.assertEqual(said, self.to(full, "--help"))

    def test_password_that_cannot_be_shown(self) -> None:
        """It is not set."""
        self.patch(admin, "stretch", quick_stretch)
        self.answer = {"srv": "S" * 43}
        full = OSError(errno.ENOSPC, "No space left on device")
        self.assertEqual(1, self.to(full, "user", "reset-password", "alice", "--yes")[0])
        self.assertEqual([{"cmd": "user-reset-password", "user": "alice"}], self.asked)


class CommandTests(AdminCase):
    """Tests for what single commands ask and print."""

    def test_invite(self) -> None:
        """The line alone; what cannot be is refused before anything is asked."""
        self.answer = {"line": "securechat://x"}
        self.assertEqual("securechat://x\n", self.ok("invite", "#Ops", "--uses", "3", "--days", "0.5"))
        self.assertEqual([{"cmd": "invite", "room": "ops", "uses": 3, "expires": 43200}], self.asked)
        for wrong in (("--uses", "0"), ("--days", "0"), ("--days", "400"), ("a b",)):
            self.assertEqual(Exit.USAGE, self.run_admin("invite", *wrong)[0], wrong)
        self.assertEqual(1, len(self.asked))

    def test_status(self) -> None:
        """The figures, one a line."""
        self.answer = {"figures": {"connections": 3, "queued": 12}}
        self.assertEqual("connections  3\nqueued       12\n", self.ok("status"))

    def test_backup(self) -> None:
        """The daemon gets a whole path; what to keep beside it is said."""
        self.answer = {"path": "/x", "size": 2_500_000, "accounts": 1, "rooms": 2, "messages": 3, "sealed": 4}
        out = self.ok("backup", "some/file")
        self.assertEqual(os.path.abspath("some/file"), self.asked[0]["path"])
        for part in ("2.5 MB, 1 account,", "2 rooms", "3 messages", "looks deeper", "server.key", "atrest.key"):
            self.assertIn(part, out)

    def test_check(self) -> None:
        """Faults are told with their place, and end with 1."""
        self.answer = {"faults": [], "count": 0}
        self.assertEqual("Everything checks out.\n", self.ok("check"))
        self.assertEqual("[]\n", self.ok("check", "--json"))
        fault = {"table": "message", "row": 3, "where": "ops", "what": "gone"}
        self.answer = {"faults": [fault], "count": 1}
        status, out, complaints = self.run_admin("check")
        self.assertEqual((1, "message row 3 (ops): gone\n"), (status, out))
        self.assertIn("1 fault found", complaints)
        status, out, _ = self.run_admin("check", "--json")
        self.assertEqual((1, [fault]), (status, json.loads(out)))

    def test_rotate_keys(self) -> None:
        """Rows that do not open end with 1."""
        self.answer = {"rows": 5, "damaged": 0}
        self.assertIn("5 rows sealed anew", self.ok("rotate-keys"))
        self.answer = {"rows": 5, "damaged": 2}
        status, _, complaints = self.run_admin("rotate-keys")
        self.assertEqual((1, True), (status, "2 rows did not open" in complaints))

    def test_users(self) -> None:
        """A row each, for people and for scripts."""
        gone = {**USER, "user": "bob", "deleted": 5, "quota": 7}
        self.answer = {"users": [USER, gone, {**USER, "suspended": True}], "limits": {"quota_user_mb": 50}}
        heads, alice, bob, other = (line.split() for line in self.ok("user", "list").splitlines())
        self.assertEqual(9, len(heads))
        self.assertEqual(["alice", "1970-01-01", "00:00", "-", "2", "1", "3", "1", "1.2", "kB", "50", "MB"], alice)
        self.assertEqual(("deleted", "7", "suspended"), (bob[3], bob[-2], other[3]))
        self.assertEqual([USER, gone], json.loads(self.ok("user", "list", "--json"))[:2])

    def test_rooms(self) -> None:
        """The same for rooms."""
        self.answer = {"rooms": [ROOM, {**ROOM, "open": False, "retention": 3}], "limits": {}}
        _, one, other = self.ok("room", "list").splitlines()
        self.assertEqual(
            ["ops", "open", "2", "7", "5.0", "MB", "3", "1970-01-01", "00:00", "for", "ever", "9", "MB"], one.split()
        )
        self.assertEqual(("private", ["3", "days"]), (other.split()[1], other.split()[-4:-2]))
        self.assertEqual(ROOM, json.loads(self.ok("room", "list", "--json"))[0])

    def test_sessions(self) -> None:
        """The same for logins; one account's alone if it is named."""
        self.answer = {"sessions": [SESSION]}
        self.assertIn("192.0.2.1", self.ok("sessions", "Alice"))
        self.assertEqual([SESSION], json.loads(self.ok("sessions", "--json")))
        self.assertEqual([{"cmd": "sessions", "user": "alice"}, {"cmd": "sessions"}], self.asked)

    def test_revoke(self) -> None:
        """A device or all must be said, and not both; where nothing ended the status says so."""
        self.answer = {"sessions": 1, "connections": 0}
        for arguments in ((), ("",), ("ab" * 16, "--all")):
            self.assertEqual(Exit.USAGE, self.run_admin("revoke", "alice", *arguments)[0], arguments)
        self.assertEqual([], self.asked)
        self.assertIn("1 session and 0 connections", self.ok("revoke", "alice", "--all"))
        self.answer = {"sessions": 0, "connections": 0}
        self.assertEqual(Exit.NOT_THERE, self.run_admin("revoke", "alice", "--all")[0])
        self.assertEqual({"cmd": "revoke", "user": "alice", "device": None}, self.asked[-1])

    def test_revoke_a_device(self) -> None:
        """A device is known by how its id starts, if no other starts so; else those there are are named."""
        one, other = "ab" * 16, "ac" * 16
        self.answer = {"sessions": [SESSION, {**SESSION, "device": other}, {**SESSION, "device": None}]}

        def ask(data_dir: str | None, request: dict[str, Any], tell: Any = None) -> dict[str, Any]:
            self.ask(data_dir, request)
            return {"sessions": 1, "connections": 1} if request["cmd"] == "revoke" else self.answer

        self.patch(admin, "ask", ask)
        for start, device in ((one, one), ("ab", one), ("AC", other)):
            self.assertIn("1 session and 1 connection ended", self.ok("revoke", "Alice", start))
            self.assertEqual({"cmd": "revoke", "user": "alice", "device": device}, self.asked[-1])
        for start, ends in (("a", Exit.USAGE), ("b", Exit.NOT_THERE), ("x y", Exit.NOT_THERE)):
            status, _, complaints = self.run_admin("revoke", "alice", start)
            self.assertEqual((ends, True), (status, f"{one}, {other}." in complaints), start)
        self.answer = {"sessions": []}
        self.assertIn("It has no login of a device.", self.run_admin("revoke", "alice", "ab")[2])

    def test_reset_password(self) -> None:
        """The password is made here and never leaves; what does is what a client would derive from it."""
        self.patch(admin, "stretch", quick_stretch)
        self.answer = {"srv": "S" * 43, "ended": 0}
        seen = set()
        for _ in range(3):
            out = self.ok("user", "reset-password", "alice", "--yes")
            password = next(line.strip() for line in out.splitlines() if line.startswith("    "))
            seen.add(password)
            asked = self.asked[-1]
            salt = admin.base64.b64decode(asked["salt"])
            self.assertEqual(quick_stretch(password, salt).auth_token("S" * 43, "alice"), asked["token"])
            self.assertEqual(passwords.SALT_BYTES, len(salt))
            self.assertNotIn(password, str(self.asked))
        self.assertEqual((3, {19}), (len(seen), {len(password) for password in seen}))

    def test_numbers(self) -> None:
        """A number up to what the settings allow, or the word default; anything else is wrong usage, said in words."""
        self.answer = {}
        for command, unit, most in (
            (("room", "quota", "ops"), "MB", 100_000_000),
            (("user", "quota", "alice"), "MB", 100_000_000),
            (("room", "retention", "ops"), "days", 36_500),
        ):
            yes = ("--yes",) if "retention" in command else ()
            for given, value in (("5", 5), ("0", 0), (str(most), most), ("default", None)):
                self.ok(*command, given, *yes)
                self.assertEqual([value], [self.asked[-1].get("megabytes", self.asked[-1].get("days"))])
            for wrong in ("-1", "many", "1.5", "", str(most + 1), "9" * 5000):
                asked = len(self.asked)
                status, _, complaints = self.run_admin(*command, *yes, "--", wrong)
                said = (
                    f"securechat: {wrong[:40]!r} is neither a number from 0 to {most} ({unit}) nor the word default.\n"
                )
                self.assertEqual((Exit.USAGE, said, asked), (status, complaints, len(self.asked)))

    def test_limits_in_words(self) -> None:
        """What holds now is a sentence."""
        self.answer = {}
        for arguments, said in (
            (("room", "quota", "ops", "1"), "ops may have 1 megabyte of messages stored."),
            (("room", "quota", "ops", "0"), "ops may have any amount of messages stored."),
            (("user", "quota", "al", "default"), "al may have as much of messages stored as the settings say."),
            (("room", "retention", "ops", "5", "--yes"), "Messages of ops are kept for 5 days."),
            (("room", "retention", "ops", "0"), "Messages of ops are kept for ever."),
            (("room", "retention", "ops", "default"), "Messages of ops are kept as long as the settings say."),
        ):
            self.assertEqual(f"{said}\n", self.ok(*arguments))

    def test_retention_asks(self) -> None:
        """It asks where messages may be deleted, with the days in words, and of nothing that cannot be."""
        said = "Keep messages of ops for 5 days only? Older ones are deleted. Say --yes"
        self.assertIn(said, self.run_admin("room", "retention", "#Ops", "5")[2])
        self.assertIn("for 1 day only?", self.run_admin("room", "retention", "ops", "1")[2])
        self.assertEqual(Exit.USAGE, self.run_admin("room", "retention", "a b", "1")[0])
        self.assertEqual([], self.asked)

    def test_names(self) -> None:
        """Names are folded as a client folds them; one that gave up its name is called as it is listed."""
        self.answer = {"members": []}
        self.ok("room", "delete", "#OPS", "--yes")
        self.ok("room", "delete", "ops#ab12", "--yes")
        self.assertEqual(["ops", "ops#ab12"], [request["room"] for request in self.asked])
        for wrong in (
            ("user", "suspend", "no such name"),
            ("user", "delete", "no such name", "--yes"),
            ("room", "delete", "a b", "--yes"),
            ("room", "delete", "ops#", "--yes"),
            ("room", "quota", "ops#" + "a" * 300, "1"),
        ):
            self.assertEqual(Exit.USAGE, self.run_admin(*wrong)[0], wrong)
        self.assertEqual(2, len(self.asked))


class RestoreTests(AdminCase):
    """Tests for what a restore refuses; `tests.integration.test_admin` does one."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.data = self.directory / "data"
        self.backup = self.directory / "backup"
        self.backup.write_bytes(b"nothing of the kind" * 100)

    def restore(self, *options: str) -> str:
        """Why it is refused."""
        status, _, complaints = self.run_admin("--data-dir", str(self.data), "restore", str(self.backup), *options)
        self.assertEqual(Exit.FIXABLE, status)
        self.assertFalse((self.data / "chat.db").exists())
        return complaints

    def test_refusals(self) -> None:
        """One thing after the other that is missing or wrong; nothing but keys may lie in the directory."""
        self.data.mkdir(mode=0o700)
        (self.data / "notes.txt").write_text("precious")
        self.assertIn("is not empty (notes.txt)", self.restore())
        (self.data / "notes.txt").unlink()
        self.assertIn("--key-file FILE", self.restore())
        key = self.data / "atrest.key"
        key.write_text(new_key_file())
        key.chmod(0o600)
        self.assertIn("--server-key FILE", self.restore())
        identity = self.directory / "server.key"
        identity.write_text("A" * 43 + "=\n")
        damaged = f"securechat: {self.backup} is damaged, or no database at all: take another backup.\n"
        self.assertEqual(damaged, self.restore("--server-key", str(identity)))
        self.assertIn("cannot be read", self.restore("--server-key", str(self.directory / "none")))
        bad = self.directory / "bad.key"
        bad.write_text("no key")
        self.assertIn(f"{bad} is damaged", self.restore("--server-key", str(bad)))
        self.assertEqual(["atrest.key", "lock"], sorted(path.name for path in self.data.iterdir()))
        other = self.data / "server.key"
        other.write_text("B" * 42 + "A=\n")
        other.chmod(0o600)
        self.assertIn("another identity than", self.restore("--server-key", str(identity)))
        other.unlink()
        self.backup.unlink()
        self.assertIn("There is no file", self.restore())

    def test_nothing_left(self) -> None:
        """A data directory that a failed restore made is gone again."""
        self.assertIn("--key-file FILE", self.restore())
        self.assertFalse(self.data.exists())

    def test_identity_that_cannot_be_put(self) -> None:
        """Where the server's identity cannot be written the database does not stay alone."""
        key = self.directory / "atrest.key"
        key.write_text(new_key_file())
        key.chmod(0o600)
        identity = self.directory / "server.key"
        identity.write_text("A" * 43 + "=\n")

        def put_back(backup: Path, target: Path, *_: Any, **__: Any) -> BackupReport:
            target.write_bytes(b"the database")
            return BackupReport(1, 0, 0, 0, 0)

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(admin.copies, "put_back", put_back)
        self.patch(admin, "write_private", full)
        said = self.restore("--server-key", str(identity), "--key-file", str(key))
        self.assertIn("server.key cannot be written: No space left on device. Nothing was restored.", said)
        self.assertFalse(self.data.exists())


class ProgressTests(SynchronousTestCase):
    """Tests for the line that shows how far a command is."""

    def shown(self, stream: io.StringIO, *told: tuple[str, int, int]) -> str:
        """What it writes to standard error, up to its end."""
        self.patch(sys, "stderr", stream)
        progress = admin.Progress()
        for what, done, of in told:
            progress({"what": what, "done": done, "of": of})
        progress.end()
        return stream.getvalue()

    def test_terminal(self) -> None:
        """A bar where the end is known, else what is done; gone when all is done."""
        text = self.shown(Terminal(), ("copying", 0, 0), ("reading", 50, 200), ("reading", 200, 200))
        self.assertIn("copying …", text)
        self.assertIn(f"[{'#' * 7}{'.' * 23}]  25 %  reading: 50 of 200", text)
        self.assertIn(f"[{'#' * 30}] 100 %", text)
        self.assertTrue(text.endswith("\r\x1b[K"))

    def test_elsewhere(self) -> None:
        """Nothing in a log."""
        self.assertEqual("", self.shown(io.StringIO(), ("reading", 1, 2)))


class AskTests(SynchronousTestCase):
    """Tests for asking when nobody is there."""

    def test_no_daemon(self) -> None:
        """Where no daemon runs it is said which directory was looked into."""
        error = self.assertRaises(admin.AdminError, admin.ask, "/nowhere/at/all", {"cmd": "check"})
        self.assertIn("No daemon runs with the data directory /nowhere/at/all", str(error))
        self.assertEqual(Exit.NETWORK, error.exit)

    def test_path_too_long(self) -> None:
        """A directory whose path leaves no room for a socket's is told as that."""
        error = self.assertRaises(admin.AdminError, admin.ask, "/" + "x" * 100, {"cmd": "check"})
        self.assertIn("admin.sock is too long for a socket (112 bytes of at most 100)", str(error))
        self.assertEqual(Exit.NETWORK, error.exit)
