"""Who a server is, who a person is, and how keys come along: real daemons, real clients, and somebody in between."""

from __future__ import annotations

import contextlib
import datetime
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from securechat.crypto.certificate import self_signed
from securechat.link import ConnectLine
from tests.integration.harness import (
    PASSWORD,
    PATIENCE,
    Daemon,
    IntegrationTestCase,
    Wire,
    run,
    until,
)

# No address for `ipaddress`, and in no certificate; every resolver takes it for 127.0.0.1.
OTHER_NAME = "127.1"


class Impostor:
    """Listens with a certificate of its own and says what it is told to; keeps what clients send it.

    Args:
        greeting: what to say to the next client.
        newest: the highest version of TLS it speaks.
    """

    def __init__(
        self, directory: Path, greeting: Callable[[], bytes], newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> None:
        key, chain = self_signed(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
        pem = directory / "impostor.pem"
        pem.write_bytes(key + chain)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = newest
        self._context.load_cert_chain(pem)
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.handshakes = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(PATIENCE)
            with connection, self._context.wrap_socket(connection, server_side=True) as tls:
                self.handshakes += 1
                tls.sendall(self._greeting())
                while data := tls.recv(65536):
                    self.heard += data

    def close(self) -> None:
        """Waits until the client has left."""
        self._listener.close()
        self._thread.join(PATIENCE)


class ServerIdentityTests(IntegrationTestCase):
    """Which server a client speaks to."""

    def test_somebody_in_between(self) -> None:
        """A greeting relayed over other people's TLS is refused, and nothing is sent to who relayed it."""
        daemon = self.daemon()
        relay = Impostor(self.directory, lambda: _greeting(daemon))
        line = replace(daemon.line, port=relay.port)
        done = self.script("alice", line, f"/register alice {PASSWORD}\n")
        relay.close()
        self.assertEqual(4, done.returncode, done.stderr)
        self.assertIn("somebody may be in between", done.stderr)
        self.assertEqual((1, b""), (relay.handshakes, relay.heard))

    def test_somebody_in_between_at_first_contact(self) -> None:
        """Without an id in the line it is the same: the proof is about this connection."""
        daemon = self.daemon()
        relay = Impostor(self.directory, lambda: _greeting(daemon))
        done = self.script("alice", f"127.0.0.1:{relay.port}", f"/login alice {PASSWORD}\n")
        relay.close()
        self.assertEqual((4, b""), (done.returncode, relay.heard), done.stderr)

    def test_another_server(self) -> None:
        """A server that proves itself, but is not the one of the connect line, is refused; nothing is sent to it."""
        daemon, other = self.daemon(), self.daemon(name="other")
        line = replace(other.line, id=daemon.line.id)
        done = self.script("alice", line, f"/login alice {PASSWORD}\n")
        self.assertEqual(4, done.returncode, done.stderr)
        self.assertIn("is not the server of this connect line", done.stderr)

    def test_old_tls(self) -> None:
        """TLS 1.2 is refused, by the daemon and by the client."""
        daemon = self.daemon()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as connection:
            self.assertRaises(ssl.SSLError, context.wrap_socket, connection)
        old = Impostor(self.directory, lambda: b"", ssl.TLSVersion.TLSv1_2)
        done = self.script("alice", replace(daemon.line, port=old.port), f"/login alice {PASSWORD}\n")
        old.close()
        self.assertEqual((3, 0), (done.returncode, old.handshakes), done.stderr)

    def test_changed_server(self) -> None:
        """A server whose identity changed is refused with the command that accepts it, and then accepted by it."""
        first = self.daemon()
        where = f"127.0.0.1:{first.port}"
        before = first.line.id
        self.assertEqual(0, self.script("alice", where, f"/register alice {PASSWORD}\n").returncode)
        first.stop()
        second = self.daemon(name="second", listen=where)
        done = self.script("alice", where, f"/login alice {PASSWORD}\n")
        self.assertEqual(4, done.returncode)
        for part in ("/trust server", str(before), str(second.line.id), "Nothing was sent"):
            self.assertIn(part, done.stderr)
        typed = f"/login alice {PASSWORD}\n/trust server\n/register alice {PASSWORD}\n/trust server yes\n"
        done = self.script("alice", where, f"{typed}/register alice {PASSWORD}\n/whoami\n", "--keep-going")
        self.assertEqual(2, len([line for line in done.stderr.splitlines() if line.startswith("! ")]), done.stderr)
        self.assertIn("Nothing is changed. To accept it: /trust server yes", done.stdout)
        self.assertIn("The server is trusted.", done.stdout)
        self.assertIn("Welcome, alice.", done.stdout)
        done = self.script("alice", None, f"/login alice {PASSWORD}\n/whoami")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn(f"The server's identity: {second.line.id}", done.stdout)

    def test_unknown_name(self) -> None:
        """A server off this machine, without an id, is refused from a pipe and asked about on a terminal."""
        daemon = self.daemon()
        where = f"{OTHER_NAME}:{daemon.port}"
        done = self.script("alice", where, f"/register alice {PASSWORD}\n")
        self.assertEqual(4, done.returncode)
        self.assertIn("is not known here", done.stderr)
        alice = self.terminal("alice", where)
        alice.wait_for("/help")
        alice.enter(f"/register alice {PASSWORD}")
        alice.wait_for("Trust it? [yes/no]")
        alice.enter("no")
        alice.wait_for("is not known here")
        alice.enter(f"/register alice {PASSWORD}")
        alice.wait_for("[yes/no]")  # again: the first question left the screen when it was answered
        alice.enter("yes")
        alice.wait_for("Welcome, alice.")
        alice.enter("/exit")
        self.assertEqual(0, alice.wait())
        done = self.script("alice", where, f"/login alice {PASSWORD}\n")
        self.assertEqual(0, done.returncode, done.stderr)

    def test_name_that_no_certificate_has(self) -> None:
        """With an id in the line the certificate's names are not judged."""
        daemon = self.daemon()
        line = replace(daemon.line, host=OTHER_NAME)
        self.assertEqual(0, self.script("alice", line, f"/register alice {PASSWORD}\n").returncode)

    def test_plain_listener(self) -> None:
        """Without TLS the daemon listens, and the client speaks, on this machine only."""
        done = run(Daemon(self.directory / "refused", "--insecure-loopback", "0.0.0.0:0").command(), self.directory)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("without TLS only 127.0.0.1", done.stdout + done.stderr)
        daemon = self.daemon("--insecure-loopback", "127.0.0.1:0")
        ports = re.findall(r"127\.0\.0\.1:(\d+)", re.findall("listens on (.*)", daemon.said())[0])
        (plain,) = {int(port) for port in ports} - {daemon.port}
        done = self.script("alice", f"securechat+insecure://127.0.0.1:{plain}/", f"/register alice {PASSWORD}\n")
        self.assertEqual(0, done.returncode, done.stderr)
        done = self.script("alice", "securechat+insecure://192.0.2.1:1/", f"/login alice {PASSWORD}\n")
        self.assertEqual(1, done.returncode)
        self.assertIn("only possible on this machine", done.stderr)


def _greeting(daemon: Daemon) -> bytes:
    """What the real server says to whoever connects."""
    with Wire(daemon.port, greet=False) as wire:
        return wire.line() + b"\n"


class InviteTests(IntegrationTestCase):
    """A daemon that others than this machine reach."""

    def _invite(self, daemon: Daemon, *arguments: str) -> ConnectLine:
        done = daemon.admin("invite", *arguments)
        self.assertEqual(0, done.returncode, done.stderr)
        line = ConnectLine.parse(done.stdout)
        self.assertEqual(("chat.example", daemon.port, daemon.line.id), (line.host, line.port, line.id))
        return replace(line, host=OTHER_NAME)

    def test_invite(self) -> None:
        """There a new account needs an invite, which serves once and leads to its room."""
        daemon = self.daemon("--public", "chat.example", listen="0.0.0.0:0")
        line = replace(daemon.line, host="127.0.0.1")
        done = self.script("alice", line, f"/register alice {PASSWORD}\n")
        self.assertEqual(6, done.returncode, done.stderr)
        self.assertIn("by invitation", done.stderr)
        invited = self._invite(daemon, "garden")
        done = self.script("alice", invited, f"/register alice {PASSWORD}\n/send hello\n")
        self.assertEqual((0, "[garden] <alice> hello"), (done.returncode, done.stdout.splitlines()[-1]), done.stderr)
        done = self.script("bob", invited, f"/register bob {PASSWORD}\n")
        self.assertEqual(6, done.returncode)
        self.assertIn("used up, expired or unknown", done.stderr)

    def test_friend(self) -> None:
        """One line is all a friend needs: it asks for a name and a password and opens the room."""
        daemon = self.daemon("--public", "chat.example", listen="0.0.0.0:0")
        invited = self._invite(daemon, "--uses", "2", "--days", "0.5")
        friends = [self.terminal(name, invited) for name in ("alice", "bob")]
        for name, friend in zip(("alice", "bob"), friends, strict=True):
            friend.wait_until(lambda friend=friend: friend.prompt.startswith("Choose a name"), "the question")
            friend.enter(name)
        for friend in friends:
            for _ in range(2):
                friend.wait_until(lambda friend=friend: "password" in friend.prompt or "again" in friend.prompt, "it")
                friend.enter(PASSWORD)
                friend.look(0.3)
        for name, friend in zip(("alice", "bob"), friends, strict=True):
            friend.wait_for_prompt(f"[general] {name}>")
        friends[0].enter("hello bob")
        friends[1].wait_for("[general] <alice> hello bob")
        self.assertNotIn(PASSWORD, friends[0].text)

    def test_no_daemon(self) -> None:
        """`securechat admin` says where it looked when no daemon runs there."""
        done = Daemon(self.directory / "none").admin("invite")
        self.assertEqual(3, done.returncode)
        self.assertIn("No daemon runs with the data directory", done.stderr)


class AccountKeysTests(IntegrationTestCase):
    """Keys that come along to another directory, and identities that change."""

    def setUp(self) -> None:
        """alice and bob in a room, each with a client, after a message."""
        super().setUp()
        self.server = self.daemon(settings={"message_burst": 1000.0})
        self.line = self.server.line
        self.alice, self.bob = self.registered(self.line, "alice", "bob", room="general")
        self.alice.ask("the old message", "<alice> the old message")
        self.bob.wait_for("the old message")

    def test_empty_directory(self) -> None:
        """A login from an empty directory brings the keys back: old messages open, friends see one quiet line."""
        new = self.client("elsewhere", self.line)
        new.type(f"/login alice {PASSWORD}", "/history general", "/switch general")
        new.wait_for("Your keys came back from the backup")
        new.wait_for("[general] <alice> the old message")
        new.ask("from the new device", "[general] <alice> from the new device")
        self.bob.wait_for("alice uses a new device, signed by the identity you know.")
        self.bob.wait_for("[general] <alice> from the new device")
        self.alice.wait_for("[general] <alice> from the new device")
        self.bob.ask("hello both", "<bob> hello both")
        for client in (self.alice, new):
            client.wait_for("<bob> hello both")
        self.assertEqual(1, len(self.bob.shown("* alice")) - len(self.bob.shown("joined")), self.bob.lines)
        self.assertEqual([], self.bob.shown("!"))

    def test_recovery_code(self) -> None:
        """After /backup code an empty directory is asked for the code, and opens with nothing else."""
        self.alice.finish()
        alice = self.terminal("alice", self.line)
        alice.wait_for("/help")
        alice.enter(f"/login alice {PASSWORD}")
        alice.wait_for("Logged in as alice.")
        alice.enter("/backup code")
        alice.wait_until(lambda: alice.prompt.startswith("Your password:"), "the question")
        alice.enter(PASSWORD)
        alice.wait_for("Write it down.")
        (code,) = (row.strip() for row in alice.rows if re.fullmatch(r" +([0-9A-Z]{4}-){6}[0-9A-Z]{4}", row))
        alice.enter("/exit")
        self.assertEqual(0, alice.wait())
        done = self.script("pipe", self.line, f"/login alice {PASSWORD}\n")
        self.assertEqual(4, done.returncode)
        self.assertIn("the backup lies under a recovery code", done.stderr)
        new = self.terminal("elsewhere", self.line)
        new.wait_for("/help")
        wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
        for typed, shown in (
            (wrong, "cannot be restored: that recovery code has a typing"),
            (code.lower(), "came back from the backup"),
        ):
            new.enter(f"/login alice {PASSWORD}")
            new.wait_until(lambda: new.prompt.startswith("Recovery code:"), "the question")
            new.enter(typed)
            new.wait_for(shown)
        new.enter("/history general")
        new.wait_for("[general] <alice> the old message")
        self.assertNotIn(code.lower(), new.text)

    def test_reset_identity(self) -> None:
        """After /reset-identity friends send them nothing until they /trust the new identity; then what waited goes."""
        self.alice.ask(f"/reset-identity {PASSWORD} yes", "alice has a new identity.")
        self.bob.wait_for("The identity of alice changed since you first met.")
        self.bob.ask("not for alice", "[general] <bob> not for alice")
        for text in ("waits for my word", "this too"):
            self.bob.ask(f"/pm alice {text}", "type /safety alice, then /trust alice")
        self.bob.ask("/trust alice", "Nothing is changed. If they are the same: /trust alice yes")
        self.alice.ask("/whoami", "Your fingerprint")
        (fingerprint,) = {line.partition(": ")[2] for line in self.alice.shown("Your fingerprint")}
        self.assertEqual(1, len(self.bob.shown(f"now:    {fingerprint}")), self.bob.lines)
        self.assertEqual([], self.alice.shown("waits for my word"))
        self.bob.ask("/trust alice yes", "The new identity of alice is trusted.")
        self.alice.wait_for("[pm] <bob> waits for my word")
        until(lambda: self.alice.shown("[pm] <bob> this too"), "the second private message that waited")
        self.alice.ask("/join general", "You are in general")
        self.bob.wait_for("alice joined")
        self.bob.ask("welcome back", "<bob> welcome back")
        self.alice.wait_for("[general] <bob> welcome back")
        self.alice.ask("/history general", "[general] 2 messages sent before you joined")
        self.assertEqual([], self.alice.shown("not for alice"))
        self.assertEqual(1, len(self.alice.shown("this too")))

    def test_export_and_import(self) -> None:
        """A profile is open in one client at a time; by a sealed file its keys go elsewhere, as the same device."""
        done = self.script("alice", self.line, f"/login alice {PASSWORD}\n")
        self.assertEqual(1, done.returncode)
        self.assertIn("! alice is open in another SecureChat on this machine", done.stderr)
        file = self.directory / "alice.keys"
        self.alice.ask(f"/keys export {file} a passphrase", "sealed with that passphrase")
        self.alice.ask(f"/keys export {file} a passphrase", "is there already")
        self.alice.ask("/whoami", "This device")
        (device,) = self.alice.shown("This device")
        self.assertEqual(0o600, file.stat().st_mode & 0o777)
        done = self.script("elsewhere", self.line, f"/keys import {file} another\n")
        self.assertEqual(1, done.returncode)
        self.assertIn("That is not the passphrase", done.stderr)
        typed = f"/keys import {file} a passphrase\n/login alice {PASSWORD}\n/whoami\n/history general\n"
        done = self.script("elsewhere", self.line, typed)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn(device, done.stdout.splitlines())
        self.assertIn("[general] <alice> the old message", done.stdout)
        self.alice.wait_for("This device connected again from elsewhere")

    def test_password(self) -> None:
        """After /passwd other sessions are out, the old password is refused and the new one works, everywhere."""
        other = self.client("elsewhere", self.line)
        other.ask(f"/login alice {PASSWORD}", "Logged in as alice.")
        self.alice.ask("/passwd not-my-password new-password", "That is not your present password.")
        self.alice.ask(f"/passwd {PASSWORD} new-password", "The password is changed.")
        other.wait_for("The password of this account was changed.")
        self.alice.ask("still here", "<alice> still here")
        self.assertEqual(6, self.script("empty", self.line, f"/login alice {PASSWORD}\n").returncode)
        done = self.script("empty", self.line, "/login alice new-password\n/history general\n")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("[general] <alice> the old message", done.stdout)
        other.finish()
        done = self.script("elsewhere", self.line, f"/login alice {PASSWORD}\n")
        self.assertEqual(6, done.returncode)
        self.assertIn("but the server refuses it", done.stderr)
        self.alice.finish()
        self.assertEqual(0, self.script("alice", self.line, "/login alice new-password\n").returncode)
        self.assertEqual(6, self.script("alice", self.line, f"/login alice {PASSWORD}\n").returncode)
