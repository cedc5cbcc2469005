"""Requests about notes: small sealed records that an account's own devices share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securechat.wire import codec, limits
from securechat.wire import messages as m

if TYPE_CHECKING:
    from securechat.server.session import ServerSession


async def put(session: ServerSession, request: m.PutNote) -> m.Reply:
    """A note, in the place of the one of its name: stored, then told to the account's other connections."""
    parts, user = session.parts, session.user
    parts.admission.note(user, parts.monotonic())
    version = await parts.store.put_note(user, request.name, request.blob)
    line = codec.encode(m.NoteEvent(name=request.name, version=version, blob=request.blob))
    parts.broker.announce_to(parts.broker.readers_of(user), line, skip=session)
    return m.NoteOk(id=request.id, version=version)


async def read(session: ServerSession, request: m.Notes) -> m.Reply:
    """A page of the account's notes."""
    page = await session.parts.store.notes(session.user, after=request.after, max_bytes=limits.PAGE_BYTES)
    notes = tuple(m.StoredNote(name=one.name, version=one.version, blob=one.blob) for one in page.notes)
    return m.NotesOk(id=request.id, notes=notes, more=page.more)
