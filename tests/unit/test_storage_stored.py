"""What the store says that it knows about an account."""

from __future__ import annotations

from securechat.crypto.roomlog import Invite, Mute
from securechat.storage.interface import Session
from securechat.storage.queries.stored import TABLES
from tests.doubles import StoreCase, device, new_message, person, private_message


class StoredTests(StoreCase):
    """Tests for `stored`."""

    def setUp(self) -> None:
        super().setUp()
        self.gather("alice", "bob")
        self.register("carol")

    def rows(self, user: str) -> dict[str, int]:
        return {table.table: table.rows for table in self.do(self.store.stored(user)) if table.rows}

    def test_every_table(self) -> None:
        """Every table of the schema is spoken for, and no other."""
        self.writer.connection.row_factory = None
        found = self.writer.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        self.assertEqual({name for (name,) in found}, set(TABLES))

    def test_columns(self) -> None:
        """The columns are those that the database itself names, and every table has a sentence."""
        for table in self.do(self.store.stored("alice")):
            columns = [row[1] for row in self.writer.connection.execute(f"PRAGMA table_info({table.table})")]
            self.assertEqual(columns, list(table.columns))
            self.assertTrue(table.about.endswith("."))

    def test_counts(self) -> None:
        """Each row about a user is counted, nobody else's."""
        self.do(self.store.append(new_message("alice", ["alice", "bob"])))
        self.do(self.store.append(private_message("alice", "carol", mid="0" * 32)))
        self.act(Invite, person("alice"), person("carol"))
        self.act(Mute, person("alice"), person("bob"))
        self.do(self.store.put_note("alice", "0" * 32, b"sealed"))
        self.do(self.store.open_session(b"t", Session("bob", device("bob")), 1))
        alice = {
            "account": 1, "audience": 2, "conversation": 2, "counter": 2, "device": 1, "member": 2, "message": 2,
            "message_keys": 2, "note": 1, "room_event": 3, "segment": 2,
        }  # fmt: skip
        self.assertEqual(alice, self.rows("alice"))
        bob = {
            "account": 1, "audience": 1, "conversation": 1, "device": 1, "member": 1, "mute": 1, "room_event": 1,
            "segment": 1, "session": 1,
        }  # fmt: skip
        self.assertEqual(bob, self.rows("bob"))
        carol = {
            "account": 1,
            "audience": 1,
            "conversation": 1,
            "device": 1,
            "invitation": 1,
            "member": 1,
            "segment": 1,
        }
        self.assertEqual(carol, self.rows("carol"))
