"""docs/client.md says what the program has."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securechat.client.commands import COMMANDS, find
from securechat.client.preferences import PREFERENCES
from tests import tables


class DocumentTests(SynchronousTestCase):
    """Tests for the guide to the client."""

    def setUp(self) -> None:
        self.text = tables.DOCUMENT.read_text("utf-8")

    def test_tables(self) -> None:
        """Its tables are those of the program: `python -m tests.tables` writes them."""
        self.assertEqual(tables.renewed(self.text), self.text)

    def test_each_is_there(self) -> None:
        """Every command and every setting stands in one of them."""
        for command in COMMANDS:
            self.assertIn(f"| `/{command.name}", self.text)
        for row in PREFERENCES:
            self.assertIn(f"| `{row.name}` |", self.text)

    def test_what_it_says_to_type(self) -> None:
        """Every command that the text names exists."""
        for word in self.text.replace("`", " ").split():
            name = word.strip(".,:;()|…")
            if name.startswith("/") and name[1:].replace("-", "").isalpha():
                self.assertIsNotNone(find(name), word)
