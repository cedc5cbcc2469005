"""The owner's eight lines, and the client in a pipe, against a real daemon over TLS."""

from __future__ import annotations

import os
import re
import subprocess

from securechat.wire import messages as m
from tests.integration.harness import (
    PASSWORD,
    PATIENCE,
    IntegrationTestCase,
    client_command,
    end_process,
    environment,
    free_port,
)

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d "


class EightLinesTests(IntegrationTestCase):
    """What README promises, typed as it stands there."""

    def test_in_their_order(self) -> None:
        """The eight lines succeed in one session, and bob in his own terminal sees what is for him."""
        line = self.daemon().line
        (bob,) = self.registered(line, "bob")
        bob.ask("/join general", "You made general")
        alice = self.client("alice", line)
        alice.type(
            "/register alice secretpassword",
            "/login alice secretpassword",
            "/join general",
            "/switch general",
            "/send Hello everyone!",
            "/pm bob Hey Bob, how are you?",
            "/history general",
            "/exit",
        )
        self.assertEqual(0, alice.wait(), alice.lines)
        self.assertEqual(["Welcome, alice. You are registered and logged in."], alice.shown("Welcome"))
        self.assertEqual(["You are logged in as alice."], alice.shown("You are logged in as"))
        self.assertEqual(["general is active."], alice.shown("is active"))
        self.assertEqual(["[pm → bob] Hey Bob, how are you?"], alice.shown("Hey Bob"))
        live, from_history = alice.shown("<alice>")
        self.assertEqual("[general] <alice> Hello everyone!", live)
        self.assertRegex(from_history, rf"\A{TIME}\[general\] <alice> Hello everyone!\Z")
        bob.wait_for("[pm] <alice> Hey Bob, how are you?")
        self.assertEqual(["[general] * alice joined"], bob.shown("joined"))
        self.assertEqual(["[general] <alice> Hello everyone!"], bob.shown("Hello"))
        self.assertEqual(0, bob.finish())

    def test_leave_falls_back(self) -> None:
        """After /leave the room before it is the active one, and after the last one there is none."""
        line = self.daemon().line
        (alice,) = self.registered(line, "alice")
        alice.ask("/join first", "You made first")
        alice.ask("/join second", "You made second")
        alice.ask("/leave second", "You left second. first is active now.")
        alice.ask("hello", "[first] <alice> hello")
        alice.ask("/leave", "You left first.")
        alice.ask("hello again", "No room is active")

    def test_late_and_away(self) -> None:
        """One who joins late sees one line for what was before; one who was away gets the private message later."""
        daemon = self.daemon(settings={"message_burst": 1000})
        line = daemon.line
        alice, bob, carol = self.registered(line, "alice", "bob", "carol")
        for client in (alice, bob):
            client.ask("/join general", " general, an open room")
        for number in range(5):
            alice.ask(f"message {number}", f"message {number}")
        carol.ask("/join general", "[general] 5 earlier messages, from before you joined")
        bob.wait_for("carol joined")
        self.assertEqual(0, bob.finish())
        alice.ask("/pm bob are you there?", "[pm → bob] are you there?")
        alice.ask("now with carol", "<alice> now with carol")
        carol.wait_for("[general] <alice> now with carol")
        self.assertEqual(["[general] 5 earlier messages, from before you joined"], carol.shown("earlier"))
        carol.type("/history general", "/whoami")
        carol.wait_for("You are carol")
        self.assertEqual(1, len(carol.shown("[general] 5 messages sent before you joined")), carol.lines)
        self.assertEqual([], carol.shown("message 0"))
        back = self.client("bob", line)
        back.type(f"/login bob {PASSWORD}")
        back.wait_for("Logged in as bob.")
        self.assertEqual(["[pm] <alice> are you there?"], back.shown("are you there?"))
        self.assertEqual(["[general] <alice> now with carol"], back.shown("now with carol"))
        self.assertEqual([], back.shown("message 4"), "shown in an earlier run")

    def test_long_history(self) -> None:
        """/history general 400 pages by itself, oldest first, with times, each message once."""
        daemon = self.daemon(settings={"messages_per_second": 10_000, "message_burst": 10_000})
        talker, wire = self.person(daemon, "talker", room="general")
        (alice,) = self.registered(daemon.line, "alice", room="general")
        talker.send(wire, "general", *(f"number {number}" for number in range(410)))
        alice.wait_for("number 409")
        before = len(alice.lines)
        alice.type("/history general 400", "/whoami")
        alice.wait_for("You are alice")
        found = [entry for entry in alice.lines[before:] if "number" in entry]
        self.assertEqual([f"[general] <talker> number {number}" for number in range(10, 410)], _without_times(found))
        before = len(alice.lines)
        alice.type("/history", "/whoami")
        alice.wait_for("You are alice")
        self.assertEqual(50, len([entry for entry in alice.lines[before:] if "number" in entry]))


def _without_times(lines: list[str]) -> list[str]:
    return [re.sub(rf"\A{TIME}", "", line) for line in lines]


class PipeTests(IntegrationTestCase):
    """The client in scripts."""

    def test_pipe(self) -> None:
        """The pipe of the documents sends, waits for the acknowledgement, prints, and exits 0."""
        line = self.daemon().line
        self.assertEqual(0, self.script("alice", line, f"/register alice {PASSWORD}\n").returncode)
        done = self.script("alice", line, f"/login alice {PASSWORD}\n/join general\n/send Hello\n/exit\n")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertEqual("[general] <alice> Hello", done.stdout.splitlines()[-1])
        again = self.script("alice", line, f"/login alice {PASSWORD}\n/history general")
        self.assertEqual((0, ""), (again.returncode, again.stderr))
        self.assertRegex(again.stdout.splitlines()[-1], rf"\A{TIME}\[general\] <alice> Hello\Z")

    def test_head(self) -> None:
        """A client whose output nobody reads any more ends by itself, with nothing to complain about."""
        line = self.daemon().line
        typed = self.directory / "typed"
        typed.write_text("/help\n" * 50 + f"/register alice {PASSWORD}\n" + "/help\n" * 5000, encoding="ascii")
        reading, writing = os.pipe()
        with typed.open("rb") as script:
            client = subprocess.Popen(
                client_command(self.directory / "alice", line),
                stdin=script,
                stdout=writing,
                stderr=subprocess.DEVNULL,
                env=environment(self.directory),
            )
        self.addCleanup(end_process, client)
        os.close(writing)
        head = subprocess.run(["head", "-1"], stdin=reading, capture_output=True, timeout=PATIENCE, check=True)
        os.close(reading)
        self.assertEqual(0, client.wait(PATIENCE))
        self.assertEqual(b"To begin with:\n", head.stdout)

    def test_input_from_a_file(self) -> None:
        """Standard input may be a file without a last newline, or /dev/null."""
        line = self.daemon().line
        script = self.directory / "script"
        script.write_text(f"/register alice {PASSWORD}\n/join general\nfrom a file", encoding="ascii")
        command = client_command(self.directory / "alice", line)
        for path, last in ((script, "[general] <alice> from a file"), ("/dev/null", "")):
            with open(path, "rb") as typed:
                done = subprocess.run(
                    command, stdin=typed, capture_output=True, encoding="utf-8", env=environment(self.directory),
                    timeout=PATIENCE, check=False,
                )  # fmt: skip
            self.assertEqual((0, last), (done.returncode, "".join(done.stdout.splitlines()[-1:])), done.stderr)

    def test_exit_codes(self) -> None:
        """A failed command ends a script at once, with its exit status and one line that says what to do."""
        line = self.daemon().line
        self.registered(line, "alice")[0].finish()
        login = f"/login alice {PASSWORD}\n"
        cases = [
            (6, "/login alice wrong-password\n", "That is not the password of alice"),
            (7, f"{login}/pm nosuch hello\n", "There is no user nosuch here"),
            (2, f"{login}/frobnicate now\n", "There is no command /frobnicate"),
        ]
        for status, typed, said in cases:
            done = self.script("alice", line, f"{typed}/help\n")
            self.assertEqual(status, done.returncode, (typed, done.stdout, done.stderr))
            self.assertIn(said, done.stderr)
            self.assertNotIn("To begin with:", done.stdout, "it went on after the failure")
            self.assertNotIn("Traceback", done.stderr)

    def test_keep_going(self) -> None:
        """With --keep-going every failure is said, what follows still runs, and the first one's status stays."""
        daemon = self.daemon()
        self.person(daemon, "bob")
        typed = [
            "/join general",
            "/login nobody wrong-password",
            "/register bob another-password",
            "/register alice short",
            f"/register alice {PASSWORD}",
            "/history nowhere",
            "/send hello",
            "/pm",
            "/whoami",
        ]
        done = self.script("alice", daemon.line, "\n".join(typed), "--keep-going")
        said = [
            "! Log in first",
            "! No account has that name and password",
            "! The name bob is taken",
            "! A password has at least 8 characters",
            "! You are not in nowhere",
            "! No room is active",
            "! Usage: /pm <user> [message]",
        ]
        failures = [entry for entry in done.stderr.splitlines() if entry.startswith("!")]
        self.assertEqual(len(said), len(failures), failures)
        for start, failure in zip(said, failures, strict=True):
            self.assertTrue(failure.startswith(start), failure)
        self.assertIn("You are alice", done.stdout)
        self.assertEqual(6, done.returncode)

    def test_no_server(self) -> None:
        """Where nothing listens the exit status is 3 and the line says how to start a server."""
        done = self.script("alice", f"127.0.0.1:{free_port()}", f"/login alice {PASSWORD}\n")
        self.assertEqual(3, done.returncode)
        self.assertIn("Nothing listens at 127.0.0.1", done.stderr)

    def test_interoperates(self) -> None:
        """A client that is not ours, with nothing but the wire, reads what ours wrote and the other way round."""
        daemon = self.daemon()
        stranger, wire = self.person(daemon, "stranger", room="general")
        (alice,) = self.registered(daemon.line, "alice", room="general")
        stranger.send(wire, "general", "hello from the wire")
        alice.wait_for("[general] <stranger> hello from the wire")
        alice.ask("hello from the client", "[general] <alice> hello from the client")
        self.assertEqual("hello from the client", stranger.open(wire.event(m.StoredMessage)))
