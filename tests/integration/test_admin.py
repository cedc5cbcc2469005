"""`securechat admin` against real daemons: backups under load and their restore, keys, checks, people, rooms."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import stat
import sys
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from securechat import cli
from securechat.crypto.atrest import KeyEncryptionKeys, new_key_file
from securechat.storage.queries import rotation, sealed, segments
from securechat.storage.queries.sealing import found
from securechat.wire import messages as m
from tests.integration.harness import PASSWORD, Daemon, IntegrationTestCase, Person, PlainClient, Wire, until


class AdminCase(IntegrationTestCase):
    """Tests with one daemon."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.daemon()

    def admin(self, daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
        """Status, output and complaints of a command; in this process, for starting one takes longer than most do."""
        out, complaints = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", io.StringIO())
        with redirect_stdout(out), redirect_stderr(complaints):
            status = cli.main(["admin", "--data-dir", str(daemon.data), *arguments])
        return status, out.getvalue(), complaints.getvalue()

    def ok(self, *arguments: str, daemon: Daemon | None = None) -> str:
        """What a command prints; it must end with status 0."""
        status, out, complaints = self.admin(daemon or self.server, *arguments)
        self.assertEqual((0, ""), (status, complaints), arguments)
        return out

    def fails(self, status: int, *arguments: str) -> str:
        """What a command complains of; it must end with this status."""
        ended, out, complaints = self.admin(self.server, *arguments)
        self.assertEqual(status, ended, (arguments, out, complaints))
        return complaints

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command answers a script."""
        found: list[dict[str, Any]] = json.loads(self.ok(*arguments, "--json"))
        return found

    def database(self, daemon: Daemon | None = None) -> sqlite3.Connection:
        """A look at the database itself."""
        return sqlite3.connect((daemon or self.server).data / "chat.db")


class BackupTests(AdminCase):
    """Backups and what becomes of them."""

    def test_under_load_and_restored(self) -> None:
        """A backup made while messages are sent holds all acknowledged before; put back, clients say what happened."""
        alice = self.registered(self.server.line, "alice")[0]
        alice.ask("/join ops", " ops, an open room")
        bob, wire = self.person(self.server, "bob", room="ops")
        alice.wait_for("bob joined")
        acked = [bob.send(wire, "ops", *(f"before {at}.{n}" for n in range(10)))[-1].seq for at in range(5)]
        backup = self.directory / "copies" / "chat.backup"
        backup.parent.mkdir()
        log, readers = bob.readers(wire, "ops")
        packages = [bob.package(f"meanwhile {at}", log, readers) for at in range(40)]
        for package in packages[:20]:
            wire.say(lambda number, package=package: m.Send(id=number, room="ops", package=package))
        said = self.ok("backup", str(backup))
        for package in packages[20:]:
            wire.say(lambda number, package=package: m.Send(id=number, room="ops", package=package))
        sent = [wire.reply().seq for _ in packages]
        self.assertEqual(list(range(acked[-1] + 1, acked[-1] + 41)), sent)
        self.assertIn("2 accounts, 1 room", said)
        self.assertEqual(0o600, stat.S_IMODE(backup.stat().st_mode))
        self.assertEqual([backup], list(backup.parent.iterdir()))
        for name in ("atrest.key", "server.key"):
            self.assertNotIn((self.server.data / name).read_bytes().split()[-1], backup.read_bytes())
        self.assertIn("already", self.fails(1, "backup", str(backup)))
        self.assertIn("Another SecureChat daemon", self.fails(1, "restore", str(backup)))
        alice.wait_for("meanwhile 39")
        self.server.stop()

        restored = Daemon(self.directory / "new", listen=f"127.0.0.1:{self.server.port}")
        keys = self.server.data
        refused = restored.admin("restore", str(backup))
        self.assertEqual((1, True), (refused.returncode, "--key-file" in refused.stderr or "at-rest" in refused.stderr))
        self.assertFalse(restored.data.exists())
        restored.data.mkdir(mode=0o700)
        shutil.copy(keys / "atrest.key", restored.data)
        done = restored.admin("restore", str(backup), "--server-key", str(keys / "server.key"))
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        again = restored.admin("restore", str(backup))
        self.assertEqual((1, True), (again.returncode, "not empty" in again.stderr))
        self.assertEqual(0o600, stat.S_IMODE((restored.data / "chat.db").stat().st_mode))

        self.addCleanup(restored.end)
        restored.start()
        alice.wait_for("was a backup restored?")
        with closing(self.database(restored)) as there:
            (last,) = there.execute("SELECT max(seq) FROM message").fetchone()
        self.assertGreaterEqual(last, acked[-1])
        history = alice.ask("/history ops 100", "before 4.9")
        self.assertIn("before 4.9", history)
        alice.ask("after the restore", "after the restore")
        alice.finish()
        self.assertEqual("Everything checks out.\n", self.ok("check", daemon=restored))
        self.assertEqual([], restored.faults())


class KeyTests(AdminCase):
    """New keys at rest, and checks."""

    def test_rotation_while_serving(self) -> None:
        """Everything is under a new key afterwards, a new key of the key file wraps it, and the old one may go."""
        bob, wire = self.person(self.server, "bob", room="ops")
        for at in range(4):
            bob.send(wire, "ops", *(f"{at} {n}" for n in range(20)))
        key_file = self.server.data / "atrest.key"
        old = key_file.read_text()
        key_file.write_text(new_key_file() + old)
        for package in self._packages(bob, wire, 40):
            wire.say(lambda number, package=package: m.Send(id=number, room="ops", package=package))
        self.ok("rotate-keys")
        self.assertEqual("Everything checks out.\n", self.ok("check"))
        self.assertEqual(list(range(81, 121)), [wire.reply().seq for _ in range(40)])
        with closing(self.database()) as database:
            (deks,) = database.execute("SELECT count(*) FROM dek").fetchone()
            under = set(
                database.execute(
                    "SELECT dek_id FROM segment UNION SELECT dek_id FROM room_event"
                    " UNION SELECT backup_dek FROM account UNION SELECT dek_id FROM audience"
                )
            )
        self.assertEqual((1, {(2,)}), (deks, under))
        self.assertEqual("Everything checks out.\n", self.ok("check"))
        page = wire.ask(lambda number: m.History(id=number, room="ops", limit=100))
        self.assertEqual(100, len(page.messages))
        self.server.stop()
        key_file.write_text(key_file.read_text().partition(old)[0])
        self.server.restart()
        self.assertEqual("Everything checks out.\n", self.ok("check"))

    def test_rotation_killed(self) -> None:
        """A rotation that was killed half-way is gone on with by the next one."""
        bob, wire = self.person(self.server, "bob", room="ops")
        for at in range(60):
            bob.send(wire, "ops", f"message {at}")
        with closing(self.database()) as database:
            (tokens,) = database.execute("SELECT count(*) FROM segment").fetchone()
        self.server.stop()
        # As it is after the new key, and some of the rows: killing in the right moment would be luck.
        self._rotate_some(self.server.data)
        self.server.restart()
        with closing(self.database()) as database:
            ((first, of_first), (second, of_second)) = database.execute(
                "SELECT dek_id, count(*) FROM segment GROUP BY dek_id ORDER BY dek_id"
            )
            self.assertEqual((1, 2, tokens), (first, second, of_first + of_second))
        self.assertEqual("Everything checks out.\n", self.ok("check"))
        self.ok("rotate-keys")
        with closing(self.database()) as database:
            self.assertEqual([(2,)], database.execute("SELECT id FROM dek").fetchall())
        self.assertEqual("Everything checks out.\n", self.ok("check"))

    @staticmethod
    def _rotate_some(data: Path) -> None:

        kek = KeyEncryptionKeys((data / "atrest.key").read_text())
        with closing(sqlite3.connect(data / "chat.db")) as database, database:
            cursor = database.cursor()
            at_rest = found(cursor, kek, 1).at_rest
            newest, wrapped = rotation.begin(cursor, kek, 1)
            at_rest.sealer.know(newest, kek.unwrap(wrapped))
            (kind,) = (kind for kind in sealed.KINDS if kind.table == "segment")
            some = rotation.reseal(cursor, at_rest, kind, newest, 0)
            assert some is not None
            rotation.put(cursor, kind, some._replace(rows=some.rows[:7]))

    @staticmethod
    def _packages(person: Person, wire: Wire, count: int) -> list[Any]:
        log, readers = person.readers(wire, "ops")
        return [person.package(f"meanwhile {at}", log, readers) for at in range(count)]


class PeopleTests(AdminCase):
    """Accounts and their logins."""

    @staticmethod
    def log_in(client: PlainClient, line: str, part: str) -> None:
        """Types a login whose answer has `part` in it, once the client has done with the login that was ended."""
        before = len(client.shown(part))

        def answered() -> bool:
            client.ask(line, "")
            return len(client.shown(part)) > before

        until(answered, part)

    def test_logins(self) -> None:
        """Who is revoked, suspended or given another password is out at once, and comes back by the right way only."""
        (alice,) = self.registered(self.server.line, "alice")
        (one,) = self.listed("sessions")
        self.assertEqual(("alice", ["127.0.0.1"]), (one["user"], one["connected"]))
        self.ok("revoke", "alice", one["device"])
        alice.wait_for("ended this login")
        self.assertEqual([], self.listed("sessions"))
        login = f"/login alice {PASSWORD}"
        self.log_in(alice, login, "Logged in as alice")

        self.ok("user", "suspend", "alice")
        alice.wait_for("suspended this account")
        self.log_in(alice, login, "the server refuses it")
        self.assertEqual([True], [user["suspended"] for user in self.listed("user", "list")])
        self.ok("user", "unsuspend", "alice")
        self.log_in(alice, login, "Logged in as alice")

        said = self.ok("user", "reset-password", "alice", "--yes")
        alice.wait_for("reset the password")
        password = next(line.strip() for line in said.splitlines() if line.startswith("    "))
        fresh = self.client("elsewhere", self.server.line, "--keep-going")
        fresh.ask(login, "No account has that name and password")
        fresh.ask(f"/login alice {password}", "/reset-identity")

    def test_delete(self) -> None:
        """A deleted account is gone for its owner and for new talk; what it said is verified as before."""
        alice, bob = self.registered(self.server.line, "alice", "bob", room="ops")
        bob.type("what bob said")
        alice.wait_for("what bob said")
        self.assertIn("--yes", self.fails(1, "user", "delete", "bob"))
        self.ok("user", "delete", "bob", "--yes")
        bob.wait_for("deleted this account")
        self.log_in(bob, f"/login bob {PASSWORD}", "the server refuses it")
        alice.ask("/pm bob hello", "There is no user bob")
        alice.ask("still to be said", "still to be said")
        alice.ask("/history", "what bob said")
        self.assertEqual([], alice.shown("not shown"))
        carol = self.client("carol", self.server.line, "--keep-going")
        carol.type(f"/register bob {PASSWORD}")
        carol.wait_for("is taken")
        self.assertEqual("Everything checks out.\n", self.ok("check"))


class RoomTests(AdminCase):
    """Rooms, and how much and how long they keep."""

    def test_delete(self) -> None:
        """Everything of a deleted room goes, its members are told, and the name is free."""
        alice, bob = self.registered(self.server.line, "alice", "bob", room="ops")
        alice.ask("hello", "hello")
        (room,) = self.listed("room", "list")
        self.assertEqual(("ops", 2, 1), (room["room"], room["members"], room["messages"]))
        self.assertGreater(room["stored"], 2 * 384)
        self.fails(1, "room", "delete", "ops")
        self.ok("room", "delete", "ops", "--yes")
        for client in (alice, bob):
            client.wait_for("deleted the room ops")
            client.wait_for("no longer in ops")
        with closing(self.database()) as database:
            for table in ("conversation", "message", "message_keys", "segment", "room_event", "member", "audience"):
                self.assertEqual([(0,)], database.execute(f"SELECT count(*) FROM {table}").fetchall(), table)
        alice.ask("/create ops", "You made ops")
        self.assertIn("room list", self.fails(7, "room", "delete", "nothing", "--yes"))

    def test_retention_and_quota(self) -> None:
        """What is too old goes at the next start, and who had read it does not mind; a full room takes nothing more."""
        alice, bob = self.registered(self.server.line, "alice", "bob", room="ops")
        for at in range(3):
            alice.ask(f"old {at}", f"old {at}")
        bob.wait_for("old 2")
        self.ok("room", "retention", "ops", "7", "--yes")
        self.server.stop()
        with closing(self.database()) as database, database:
            # Rows of ten days ago; their bodies say so too, sealed anew.
            self._age(database, 10 * 86_400_000)
        self.server.restart()
        until(lambda: self._trimmed() == (3, 1, 0), "old messages are removed")
        alice.ask("new", "new")
        bob.wait_for("new")
        alice.ask("/history", "Older messages (up to number 3) were removed")
        for client in (alice, bob):
            self.assertEqual([], client.shown("stopped"))
        self.assertEqual("Everything checks out.\n", self.ok("check"))
        self.assertIn("7 days", self.ok("room", "list"))

        self.ok("room", "quota", "ops", "1")
        with closing(self.database()) as database, database:
            database.execute("UPDATE conversation SET bytes = 999900")
        self.server.kill()  # what it remembers of the room is gone with it
        self.server.restart()
        alice.ask("too much", "ops has the 1 MB of messages")
        self.ok("room", "quota", "ops", "default")
        alice.ask("enough", "> enough")

    def _trimmed(self) -> Any:
        """Up to where messages of the room were removed; rows of messages, and segments, that are left."""
        with closing(self.database()) as database:
            return database.execute(
                "SELECT trimmed_seq, (SELECT count(*) FROM message), (SELECT count(*) FROM segment) FROM conversation"
            ).fetchone()

    def _age(self, database: sqlite3.Connection, by: int) -> None:

        at_rest = found(database.cursor(), KeyEncryptionKeys((self.server.data / "atrest.key").read_text()), 1).at_rest
        rows = database.execute(
            "SELECT s.id, c.room_id, s.first_seq, s.dek_id, s.sealed FROM segment s"
            " JOIN conversation c ON c.id = s.conversation_id"
        ).fetchall()
        for number, room, *rest in rows:
            segment, _ = segments.unsealed(at_rest, room, *rest)
            older = segment._replace(bodies=[body._replace(ts=body.ts - by) for body in segment.bodies])
            sealed = segments.seal(at_rest, number, room, older)
            database.execute("UPDATE segment SET sealed = ? WHERE id = ?", (sealed, number))
        database.execute("UPDATE message SET ts = ts - ?", (by,))
