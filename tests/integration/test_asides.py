"""What is not a message, over TLS, against the real daemon: who is there, who types, what one's devices share."""

from __future__ import annotations

from securechat.crypto.notes import NoteKeys, note_name, open_note, seal_note
from securechat.wire import messages as m
from tests.integration.harness import IntegrationTestCase, shared_rsa


class AsideTests(IntegrationTestCase):
    """Two people in a room."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.daemon()
        self.alice, self.alices = self.person(self.server, "alice", room="general")
        self.bob, self.bobs = self.person(self.server, "bob", room="general")

    def test_typing(self) -> None:
        """Who asked for it is told who types, and who did not is told nothing."""
        self.alice.sync(self.alices, presence=True, typing=True)
        self.bob.sync(self.bobs, presence=True)
        for wire in (self.bobs, self.alices):
            wire.ask(lambda number: m.Typing(id=number, room="general"))
        self.assertEqual(m.PresenceEvent(room="general", user="bob", online=True), self.alices.event(m.PresenceEvent))
        self.assertEqual(m.TypingEvent(room="general", user="bob"), self.alices.event(m.TypingEvent))
        self.alice.send(self.alices, "general", "hello")
        said = [self.bobs.packet()]
        while not isinstance(said[-1], m.StoredMessage):
            said.append(self.bobs.packet())
        self.assertEqual([], [one for one in said if isinstance(one, m.TypingEvent)])

    def test_note(self) -> None:
        """A note that was acknowledged is there after the daemon was killed, and opens by the account's key alone."""
        keys = NoteKeys.of([shared_rsa()])
        name = note_name(keys, "draft", "general")
        blob = seal_note(keys, name, b"half a sen", srv=self.alice.srv, user="alice", nonce=bytes(12))
        stored = self.alices.ask(lambda number: m.PutNote(id=number, name=name, blob=blob))
        self.assertEqual(1, stored.version)
        self.server.kill()
        self.server.start()
        again = self.wire(self.server)
        self.alice.resume(again)
        (note,) = again.ask(lambda number: m.Notes(id=number)).notes
        self.assertEqual((name, 1), (note.name, note.version))
        self.assertEqual(b"half a sen", open_note(keys, name, note.blob, srv=self.alice.srv, user="alice"))
        self.assertEqual((), self.bobs_notes())

    def bobs_notes(self) -> tuple[m.StoredNote, ...]:
        """What bob is given of notes."""
        wire = self.wire(self.server)
        self.bob.resume(wire)
        notes: tuple[m.StoredNote, ...] = wire.ask(lambda number: m.Notes(id=number)).notes
        return notes
