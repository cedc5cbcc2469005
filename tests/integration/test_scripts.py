"""`securechat send` and `securechat listen` as scripts use them: real processes, a real daemon, real pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, Any

import msgspec

from securechat.wire import messages as m
from tests.integration.harness import (
    CLIENT,
    PASSWORD,
    PATIENCE,
    Daemon,
    IntegrationTestCase,
    end_process,
    environment,
)

Record = dict[str, Any]


class ScriptCase(IntegrationTestCase):
    """A daemon, bob at his terminal, and alice, who is a script. Both are in ops."""

    def setUp(self) -> None:
        super().setUp()
        self.server: Daemon = self.daemon(settings={"messages_per_second": 10_000, "message_burst": 10_000})
        (self.bob,) = self.registered(self.server.line, "bob", room="ops")
        made = self.script("alice", self.server.line, f"/register alice {PASSWORD}\n/join ops\n")
        self.assertEqual(0, made.returncode, made.stderr)
        self.bob.wait_for("alice joined")
        self.password = self.directory / "password"
        self.password.write_text(f"{PASSWORD}\n", encoding="utf-8")
        self.password.chmod(0o600)
        self.environ = environment(self.directory) | {
            "SECURECHAT_DATA_DIR": str(self.directory / "alice"),
            "SECURECHAT_PASSWORD_FILE": str(self.password),
        }

    def verb(self, *arguments: str, typed: bytes | None = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        """Runs a verb to its end."""
        return subprocess.run(
            [*CLIENT, *arguments], input=typed, capture_output=True, env=self.environ | environ, timeout=4 * PATIENCE,
            check=False, cwd=self.directory,
        )  # fmt: skip

    def started(self, *arguments: str, stdin: int | IO[Any] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Starts a verb."""
        process = subprocess.Popen(
            [*CLIENT, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environ,
            cwd=self.directory,
        )  # fmt: skip
        self._pids.append(process.pid)
        self.addCleanup(end_process, process)
        return process

    def listening(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a listener, and waits until it hears."""
        process = self.started("listen", "--json", *arguments)
        self.bob.ask("are you there?", "are you there?")
        self.assertEqual("are you there?", self.heard(process)["text"])
        return process

    def heard(self, process: subprocess.Popen[bytes]) -> Record:
        """The next message that a listener prints."""
        assert process.stdout is not None
        for line in process.stdout:
            record: Record = json.loads(line)
            if record["type"] == "message":
                return record
        raise AssertionError("it ended")

    def in_history(self, part: str) -> list[str]:
        """The messages of ops with a part, as bob can read them back."""
        before = len(self.bob.lines)
        self.bob.type("/history ops 1100", "/whoami")
        self.bob.wait_for("You are bob")
        return [line for line in self.bob.lines[before:] if part in line and "<" in line]


class SendTests(ScriptCase):
    """Tests for `send`."""

    def test_send(self) -> None:
        """Arguments, a pipe, a file and code arrive; nothing is printed, and all end well."""
        for arguments, typed, seen in (
            (("ops", "two", "words"), b"", "<alice> two words"),
            (("ops",), b"from a pipe\nwith two lines\n", "<alice> from a pipe ⏎ with two lines"),
            (("ops", "-", "--me"), b"waves", "* <alice> waves"),
            (("@bob", "--code", "--lang", "sh", "ls"), b"", "[pm] <alice> code (sh): ⏎ ls"),
        ):
            result = self.verb("send", *arguments, typed=typed)
            self.assertEqual((0, b""), (result.returncode, result.stdout), result.stderr)
            self.bob.wait_for(seen)

    def test_thousand_lines(self) -> None:
        """A thousand lines are a thousand messages, in their order."""
        lines = [f"log line {number}" for number in range(1000)]
        result = self.verb("send", "ops", "--split", "lines", typed="\n".join(lines).encode())
        self.assertEqual(0, result.returncode, result.stderr)
        self.bob.wait_for("log line 999")
        self.assertEqual([f"[ops] <alice> {line}" for line in lines], self.bob.shown("log line"))

    def test_statuses(self) -> None:
        """Each way to fail has its status and says what to do; with --json as an object."""
        (self.directory / "wrong").write_text("not-the-password\n")
        (self.directory / "wrong").chmod(0o600)
        (self.directory / "open").write_text(PASSWORD)
        (self.directory / "open").chmod(0o644)
        for status, code, arguments in (
            (7, "not_member", ("nowhere", "x")),
            (7, "no_such_user", ("@nobody", "x")),
            (6, "login_refused", ("ops", "x", "--password-file", "wrong")),
            (1, "fixable", ("ops", "x", "--password-file", "open")),
            (1, "fixable", ("ops", "x", "--password-file", "missing")),
            (2, "usage", ("ops", "x", "--user", "no name")),
            (3, "network", ("ops", "x", "--connect", "127.0.0.1:1", "--user", "alice")),
        ):
            result = self.verb("send", *arguments, "--json")
            self.assertEqual(status, result.returncode, result.stderr)
            error = [json.loads(line) for line in result.stderr.splitlines()][-1]
            self.assertEqual(("error", code, status), (error["type"], error["code"], error["exit"]))
            self.assertNotIn(PASSWORD.encode(), result.stderr)
            self.assertNotIn(b"not-the-password", result.stderr)

    def test_usage(self) -> None:
        """Wrong usage ends with 2 before anything is asked of anybody; help with 0."""
        for arguments in (("send",), ("send", "ops", "x", "--password", "y"), ("send", "ops", "x", "--split", "lines"),
                          ("send", "ops", ""), ("listen", "--timeout", "0")):  # fmt: skip
            self.assertEqual(2, self.verb(*arguments).returncode, arguments)
        for verb in ("send", "listen"):
            self.assertIn(b"exit status:", self.verb(verb, "--help").stdout)

    def test_password_places(self) -> None:
        """The password comes from a descriptor or from systemd's directory just as well; from nowhere is an error."""
        credentials = self.directory / "credentials"
        credentials.mkdir()
        (credentials / "securechat.password").write_text(PASSWORD)
        result = self.verb("send", "ops", "x", CREDENTIALS_DIRECTORY=str(credentials), SECURECHAT_PASSWORD_FILE="")
        self.assertEqual(0, result.returncode, result.stderr)
        result = self.verb("send", "ops", "--password-fd", "0", typed=f"{PASSWORD}\nthe text".encode())
        self.assertEqual(0, result.returncode, result.stderr)
        self.bob.wait_for("<alice> the text")
        result = self.verb("send", "ops", "x", SECURECHAT_PASSWORD_FILE="")
        self.assertEqual(1, result.returncode)
        self.assertIn(b"--password-file FILE", result.stderr)

    def test_killed_behind_the_acknowledgement(self) -> None:
        """Killed once the server has it, before it could say so: it is there once, whatever runs next."""
        for number in range(3):
            process = self.started("send", "ops", f"kept {number}")
            self.bob.wait_for(f"kept {number}")
            process.kill()
            process.wait(PATIENCE)
        self.assertEqual(0, self.verb("send", "ops", "afterwards").returncode)
        self.bob.wait_for("afterwards")
        for number in range(3):
            self.assertEqual(1, len(self.in_history(f"kept {number}")), number)

    def test_server_that_stands_still(self) -> None:
        """Without an acknowledgement it ends with 3 and says that the message is kept; the same again sends it once."""
        process = self.started("send", "ops", "--split", "lines", "--timeout", "5", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"first\n")
        process.stdin.flush()
        self.bob.wait_for("<alice> first")
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            process.stdin.write(b"second\n")
            process.stdin.flush()
            _, errors = process.communicate(timeout=2 * PATIENCE)
        finally:
            self.server.process.send_signal(signal.SIGCONT)
        self.assertEqual(3, process.returncode, errors)
        self.assertIn(b"It is kept on this machine", errors)
        self.assertEqual(0, self.verb("send", "ops", "second").returncode)
        self.bob.wait_for("<alice> second")
        self.assertEqual(1, len(self.in_history("<alice> second")))

    def test_interrupted(self) -> None:
        """SIGINT and SIGTERM end a sender with 130."""
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.started("send", "ops", "--split", "lines", stdin=subprocess.PIPE)
            assert process.stdin is not None
            process.stdin.write(f"signal {int(number)}\n".encode())
            process.stdin.flush()
            self.bob.wait_for(f"<alice> signal {int(number)}")
            process.send_signal(number)
            self.assertEqual(130, process.wait(PATIENCE), process.stderr.read() if process.stderr else b"")

    def test_no_descriptors(self) -> None:
        """Nor input nor output nor errors need be open: cron is like that."""
        shell = '"$@" <&- >&- 2>&-'
        result = subprocess.run(
            ["bash", "-c", shell, "bash", *CLIENT, "send", "ops", "from cron"], env=self.environ, timeout=2 * PATIENCE,
            check=False, cwd=self.directory,
        )  # fmt: skip
        self.assertEqual(0, result.returncode)
        self.bob.wait_for("<alice> from cron")


class ListenTests(ScriptCase):
    """Tests for `listen`."""

    def test_live(self) -> None:
        """Messages are printed as they come, each line at once; SIGTERM ends it well, SIGINT with 130."""
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            process = self.listening()
            self.bob.ask(f"signal {int(number)}", f"signal {int(number)}")
            record = self.heard(process)
            expected = ("ops", "bob", f"signal {int(number)}", "tofu", True)
            self.assertEqual(expected, tuple(record[name] for name in ("room", "sender", "text", "trust", "decrypted")))
            process.send_signal(number)
            self.assertEqual(status, process.wait(PATIENCE))

    def test_once(self) -> None:
        """One call, one message, in order; none is missed in between, whatever was sent there."""
        for number in range(3):
            self.bob.ask(f"number {number}", f"number {number}")
        for number in range(3):
            result = self.verb("listen", "ops", "--once", "--json", typed=None)
            self.assertEqual(0, result.returncode, result.stderr)
            messages = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual([f"number {number}"], [each["text"] for each in messages if each["type"] == "message"])
            self.assertEqual(0, self.verb("send", "@bob", "noted").returncode)
        result = self.verb("listen", "ops", "--once", "--timeout", "2")
        self.assertEqual((1, b""), (result.returncode, result.stdout))

    def test_reader_that_has_enough(self) -> None:
        """Behind `| head -1` it ends by itself, with 0 and without a word, also where nothing more comes."""
        self.bob.ask("only this", "only this")
        errors = self.directory / "errors"
        shell = f'"$@" 2>{errors} | head -1; echo "${{PIPESTATUS[0]}}"'
        result = subprocess.run(
            ["bash", "-c", shell, "bash", *CLIENT, "listen", "ops"], stdin=subprocess.DEVNULL, capture_output=True,
            env=self.environ, timeout=2 * PATIENCE, check=False, cwd=self.directory,
        )  # fmt: skip
        self.assertEqual(b"[ops] <bob> only this\n0\n", result.stdout)
        self.assertNotIn("pipe", errors.read_text().lower())

    def test_undecryptable(self) -> None:
        """What does not check out is no text but a reason and a cure, and the listening goes on behind it."""
        talker, wire = self.person(self.server, "talker", room="ops")
        log, readers = talker.readers(wire, "ops")
        package = msgspec.structs.replace(talker.package("never shown", log, readers), sig=bytes(64))
        wire.ask(lambda number: m.Send(id=number, room="ops", package=package))
        self.bob.ask("behind it", "<bob> behind it")
        result = self.verb("listen", "ops", "--json", "--once")
        self.assertEqual(0, result.returncode, result.stderr)
        records = [json.loads(line) for line in result.stdout.splitlines()]
        kinds = [each for each in records if each["type"] in ("message", "undecryptable")]
        self.assertEqual(["undecryptable", "message"], [each["type"] for each in kinds])
        self.assertEqual(
            ("bad_signature", "talker", False), tuple(kinds[0][n] for n in ("reason", "sender", "decrypted"))
        )
        self.assertIn("talker did not write that", kinds[0]["cure"])
        self.assertNotIn(b"never shown", result.stdout)

    def test_reconnects(self) -> None:
        """A daemon that is restarted is found again, and nothing is missed."""
        process = self.listening()
        self.server.kill()
        self.server.restart()
        self.bob.wait_for("Connected again.")
        self.bob.ask("after", "<bob> after")
        self.assertEqual("after", self.heard(process)["text"])

    def test_background(self) -> None:
        """A listener never reads standard input: what follows in a pipe is for somebody else."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        self.bob.ask("here", "here")
        os.write(writing, b"for somebody else")
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            process = self.started("listen", "--once", stdin=pipe)
            self.assertEqual(0, process.wait(PATIENCE))
            self.assertEqual(b"for somebody else", pipe.read(100))


class ClientTests(ScriptCase):
    """Tests for the client that logs in without typing."""

    def test_logs_in_first(self) -> None:
        """With --user and a password file the first line has its account; a refused login ends a script."""
        options = ("--user", "alice", "--password-file", str(self.password))
        result = self.script("alice", self.server.line, "/join ops\n/send from a client\n", *options)
        self.assertEqual(0, result.returncode, result.stderr)
        self.bob.wait_for("<alice> from a client")
        wrong = self.directory / "wrong"
        wrong.write_text("not-the-password")
        wrong.chmod(0o600)
        for typed in ("/join ops\n/send never\n", ""):
            options = ("--user", "alice", "--password-file", str(wrong))
            result = self.script("alice", self.server.line, typed, *options)
            self.assertEqual((6, ""), (result.returncode, result.stdout), result.stderr)
        self.assertEqual([], self.bob.shown("never"))

    def test_command_line(self) -> None:
        """No process shows the password to others, in its command line or its environment."""
        process = self.listening()
        place = Path(f"/proc/{process.pid}")
        if place.exists():
            for name in ("cmdline", "environ"):
                self.assertNotIn(PASSWORD.encode(), (place / name).read_bytes())
        process.terminate()
        self.assertEqual(0, process.wait(PATIENCE))
