"""The link that breaks and comes back; a daemon that is killed, stopped, or told to read its certificate again."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import ssl
import time

from securechat.crypto.certificate import self_signed
from securechat.wire import messages as m
from tests.integration.harness import (
    PASSWORD,
    PATIENCE,
    TWISTD,
    Daemon,
    Gone,
    IntegrationTestCase,
    PlainClient,
    Wire,
    run,
    until,
)


def stored(daemon: Daemon) -> list[tuple[str, int]]:
    """Where every message of the database is, in its order."""
    connection = sqlite3.connect(f"file:{daemon.data / 'chat.db'}?mode=ro", uri=True)
    try:
        return connection.execute(
            "SELECT c.name, m.seq FROM message m JOIN conversation c ON c.id = m.conversation_id ORDER BY m.id"
        ).fetchall()
    finally:
        connection.close()


def messages_in(client: PlainClient) -> list[str]:
    """The room messages a client printed, in its order."""
    return [line.partition("> ")[2] for line in client.shown("[general] <")]


class KilledDaemonTests(IntegrationTestCase):
    """kill -9, and what clients make of it."""

    def test_everything_comes_once_and_in_order(self) -> None:
        """Clients say that the server is away, keep what is typed, come back by themselves and lose nothing."""
        daemon = self.daemon()
        alice, bob, carol = clients = self.registered(daemon.line, "alice", "bob", "carol", room="general")
        for round_ in range(2):
            alice.ask(f"a{round_} before", f"a{round_} before")
            bob.ask(f"b{round_} before", f"b{round_} before")
            # Typed into the very moment: some of it is stored, some acknowledged, some on its way, some not sent.
            alice.type(*(f"a{round_} at {number}" for number in range(5)))
            bob.type(*(f"b{round_} at {number}" for number in range(5)))
            time.sleep(0.05 * round_)
            daemon.kill()
            for client in clients:
                client.wait_for("The connection is lost")
            alice.type(*(f"a{round_} away {number}" for number in range(3)))
            time.sleep(0.3)
            daemon.restart()
            for client in clients:
                client.wait_for("Connected again.")
            for client in (alice, bob):
                client.type(f"{client.directory.name} {round_} end")
            for client in clients:
                self._wait_for_both(client, f" {round_} end")
        expected = [
            [
                f"{who}{round_} {part}"
                for round_ in range(2)
                for part in ["before", *(f"at {n}" for n in range(5)), *(f"away {n}" for n in range(away))]
            ]
            for who, away in (("a", 3), ("b", 0))
        ]
        common = messages_in(carol)
        for client in clients:
            self.assertEqual(common, messages_in(client))
        for who, lines in zip("ab", expected, strict=True):
            self.assertEqual(lines, [text for text in common if text.startswith(who) and not text.endswith("end")])
        self.assertEqual([("general", number + 1) for number in range(len(common))], stored(daemon))
        for client in clients:
            self.assertEqual(0, client.finish(), client.lines[-5:])

    def _wait_for_both(self, client: PlainClient, part: str) -> None:
        until(lambda: len(client.shown(part)) == 2, f"two lines with {part!r}")

    def test_the_client_is_killed(self) -> None:
        """A message typed while the server is stopped, into a client that is then killed, is sent by the next, once."""
        daemon = self.daemon(launcher=TWISTD)
        alice, bob = self.registered(daemon.line, "alice", "bob", room="general")
        alice.ask("first", "first")
        bob.wait_for("first")
        daemon.stop()
        for client in (alice, bob):
            client.wait_for("The connection is lost: The server is stopping.")
        alice.type("typed while away")
        time.sleep(0.5)  # until it is in the outbox on disk: nothing says so
        alice.kill()
        daemon.restart()
        bob.wait_for("Connected again.")
        again = self.client("alice", daemon.line)
        again.type(f"/login alice {PASSWORD}")
        again.wait_for("1 message of an earlier time is being sent.")
        bob.wait_for("[general] <alice> typed while away")
        again.type("/switch general", "/send after it")
        bob.wait_for("[general] <alice> after it")
        self.assertEqual(["first", "typed while away", "after it"], messages_in(bob))
        self.assertEqual([("general", 1), ("general", 2), ("general", 3)], stored(daemon))

    def test_the_client_is_killed_at_any_moment(self) -> None:
        """Whenever the client is killed, each text is stored once or not at all, in order, without a gap."""
        daemon = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        (bob,) = self.registered(daemon.line, "bob", room="general")
        (alice,) = self.registered(daemon.line, "alice", room="general")
        typed = 0
        for round_ in range(3):
            alice.type(*(f"text {number}" for number in range(typed, typed + 40)))
            typed += 40
            time.sleep(0.05 + 0.06 * round_)
            alice.kill()
            alice = self.client("alice", daemon.line)
            alice.type(f"/login alice {PASSWORD}", "/switch general")
            alice.wait_for("general is active.")
        alice.ask("the end", "<alice> the end")
        bob.wait_for("<alice> the end")
        *texts, _ = messages_in(bob)
        numbers = [int(text.removeprefix("text ")) for text in texts]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertEqual([("general", at + 1) for at in range(len(numbers) + 1)], stored(daemon))


class StopTests(IntegrationTestCase):
    """SIGTERM, SIGHUP and a port that is taken."""

    def test_sigterm_under_load(self) -> None:
        """SIGTERM says bye, ends within 10 s, and all that was acknowledged is stored without a gap."""
        daemon = self.daemon(settings={"messages_per_second": 1e6, "message_burst": 1e6})
        alice, sending = self.person(daemon, "alice", room="general")
        _, reading = self.person(daemon, "bob", room="general")
        log, readers = alice.readers(sending, "general")
        acked: list[int] = []
        reasons: list[str] = []
        started = 0.0

        def take() -> None:
            packet = sending.packet()
            if isinstance(packet, m.SendOk):
                acked.append(packet.seq)
            elif isinstance(packet, m.Bye):
                reasons.append(packet.reason)

        with contextlib.suppress(Gone):
            for ctr in range(1, 100_000):
                package = alice.package("all the same", log, readers)
                sending.say(lambda number, package=package: m.Send(id=number, room="general", package=package))
                if ctr > 32:
                    take()
                if ctr == 200:
                    started = time.monotonic()
                    daemon.process.terminate()
        with contextlib.suppress(Gone):
            while not reasons:
                take()
        self.assertEqual(["shutdown"], reasons)
        self.assertEqual("shutdown", reading.event(m.Bye).reason)
        sending.close()
        reading.close()
        daemon.process.wait(PATIENCE)
        self.assertLess(time.monotonic() - started, 10.0)
        self.assertEqual(list(range(1, len(acked) + 1)), acked)
        self.assertGreaterEqual(len(acked), 200 - 32)
        self.assertNotIn("chat.db-wal", [path.name for path in daemon.data.iterdir()], "closed without a checkpoint")
        rows = stored(daemon)
        self.assertEqual([("general", at + 1) for at in range(len(rows))], rows)
        self.assertLessEqual(len(acked), len(rows))

    def test_sigterm_with_a_peer_that_does_not_read(self) -> None:
        """A peer that neither reads nor closes does not hold SIGTERM up beyond 10 s."""
        daemon = self.daemon(launcher=TWISTD)
        self.person(daemon, "alice", room="general")
        self.wire(daemon)
        started = time.monotonic()
        daemon.stop()
        self.assertLess(time.monotonic() - started, 10.0)
        self.assertIn("SecureChat stopped.", daemon.said())

    def test_sighup(self) -> None:
        """SIGHUP serves a new certificate, keeps old connections, and keeps the old one where the new is damaged."""
        daemon = self.daemon(launcher=TWISTD)
        alice, wire = self.person(daemon, "alice", room="general")
        before = certificate(daemon)
        self.assertEqual(before, certificate(daemon))
        key, chain = self_signed(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        (daemon.data / "tls.key").write_bytes(key)
        (daemon.data / "tls.crt").write_bytes(chain)
        daemon.hang_up()
        until(lambda: "was read again" in daemon.said(), "the daemon says that it read the certificate")
        now = certificate(daemon)
        self.assertNotEqual(before, now)
        self.assertEqual(1, alice.send(wire, "general", "on the old connection")[0].seq)
        (daemon.data / "tls.crt").write_text("no certificate\n", encoding="ascii")
        daemon.hang_up()
        until(lambda: "was not replaced" in daemon.said(), "the daemon says that it kept the old one")
        self.assertEqual(now, certificate(daemon))
        self.assertEqual(2, alice.send(wire, "general", "still there")[0].seq)
        with Wire(daemon.port) as fresh:
            self.assertEqual(daemon.line.id, fresh.srv)
        self.assertTrue(daemon.alive)

    def test_a_second_daemon(self) -> None:
        """A port or data directory in use stops the start with one clear line and status 1; the first goes on."""
        daemon = self.daemon()
        where = f"127.0.0.1:{daemon.port}"
        for second, clear in (
            (Daemon(self.directory / "twist", listen=where), "Cannot listen on 127.0.0.1"),
            (Daemon(self.directory / "twistd", listen=where, launcher=TWISTD), "Cannot listen on 127.0.0.1"),
            (Daemon(daemon.directory), "Another SecureChat daemon uses"),
        ):
            done = run(second.command(), self.directory)
            said = [line for line in (done.stdout + done.stderr).splitlines() if clear in line]
            self.assertEqual((1, 1), (done.returncode, len(said)), (done.stdout, done.stderr))
            self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertTrue(daemon.alive)
        self.assertEqual(0, daemon.admin("invite").returncode)


def certificate(daemon: Daemon) -> bytes:
    """The certificate that a new connection is shown."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", daemon.port), timeout=PATIENCE))
