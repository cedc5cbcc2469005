"""`SQLiteStore`: the store in one file, reached through twisted.enterprise.adbapi."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from securechat.crypto.atrest import KeyEncryptionKeys
from securechat.crypto.identity import SignedBundle, SignedCertificate
from securechat.crypto.roomlog import SignedEvent
from securechat.errors import STALE_LOG, BackupFailed, Refused
from securechat.storage import copies, migrate
from securechat.storage.connection import Refusals, arguments, configure, configure_reader
from securechat.storage.groupcommit import GroupCommit
from securechat.storage.interface import (
    Account,
    Appended,
    Backup,
    BackupReport,
    ChatStore,
    ConversationRecord,
    Extension,
    Fault,
    LogPage,
    NewAccount,
    NewKeys,
    NewMessage,
    NoteLimits,
    NotePage,
    OperatorStore,
    Page,
    Placed,
    RemovedRoom,
    RoomInfo,
    RoomSummary,
    Rotated,
    Session,
    SessionInfo,
    StoredTable,
    Tell,
    UserInfo,
)
from securechat.storage.queries import (
    accounts,
    acts,
    conversations,
    history,
    integrity,
    messages,
    notes,
    operator,
    retention,
    roomlogs,
    rotation,
    sealed,
    sessions,
    stored,
)
from securechat.storage.queries.common import Cursor
from securechat.storage.queries.sealing import AtRest, Foundation, Quotas, found
from securechat.storage.readpool import ReadPool

_STEPS: Final = 10_000  # of SQLite's machine between two looks whether to go on

# What touches nothing that a message is checked against: neither keys, nor memberships, nor messages.
APART_FROM_MESSAGES: Final = frozenset(
    {
        accounts.register, accounts.rehash, accounts.put_backup, accounts.change_password, sessions.open_session,
        sessions.session, sessions.bind_session, sessions.close_session, sessions.add_invite,
        conversations.move_read_marker, notes.put, operator.end_sessions, operator.purge, rotation.begin, rotation.use,
        rotation.put, rotation.end,
    }
)  # fmt: skip


class SQLiteStore(ChatStore, OperatorStore):
    """A `ChatStore` in one SQLite file: one connection writes, by group commit; a few others read.

    Only one server may have the file open. Cancelling a verb gives up its answer; its effect may take place
    all the same.

    Args:
        path: the database; made where there is none.
        kek: opens and makes the data keys.
        reactor: provides IReactorTime, and what adbapi needs of it: IReactorCore and IReactorFromThreads.
        max_members: of a room.
        max_rooms: that one user may be in.
        max_past: certificates of devices in force no more that come with an account's keys.
        max_notes, max_notes_bytes: that one account may have.
        room_quota, user_quota: bytes of messages, where the operator has said nothing else; 0: any.
        retention: days that messages are kept, likewise; 0: for ever.
        readers: threads that read.
        pool: makes the two pools of connections.
        now: the time of day, seconds.
    """

    log = Logger()

    def __init__(
        self,
        path: str | os.PathLike[str],
        kek: KeyEncryptionKeys,
        *,
        reactor: IReactorTime,
        max_members: int = 1000,
        max_rooms: int = 500,
        max_past: int = 100,
        max_notes: int = 600,
        max_notes_bytes: int = 1024 * 1024,
        room_quota: int = 0,
        user_quota: int = 0,
        retention: int = 0,
        readers: int = 2,
        pool: Callable[..., ConnectionPool] = ConnectionPool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._kek = kek
        self._reactor = reactor
        self._limits = acts.Limits(max_members, max_rooms)
        self._max_past = max_past
        self._note_limits = NoteLimits(max_notes, max_notes_bytes)
        self._quotas = Quotas(room_quota, user_quota)
        self._retention = retention
        self._threads = readers
        self._new_pool = pool
        self._now = now
        self._pools: tuple[ConnectionPool, ConnectionPool, ConnectionPool] | None = None
        self._stopping = threading.Event()

    def open(self) -> None:
        """Opens the database, made or upgraded first where that is due. Blocks; no verb may be called before.

        Raises:
            StartupError: with what to do. Nothing stays open.
        """
        migrate.upgrade(self._path)
        self._foundation = self._found()
        self._at_rest = self._foundation.at_rest
        self._at_rest.quotas = self._quotas
        refusals = Refusals(self._reactor.seconds)
        writer = self._pool(1, configure)
        reader = self._pool(self._threads, configure_reader)
        surveyor = self._pool(
            1, self._configure_surveyor
        )  # what reads for long must not keep the others' reads waiting
        self._pools = writer, reader, surveyor
        self._writes = GroupCommit(writer, refusals, self._at_rest.undone, self._before)
        self._append = partial(_append, self._at_rest)
        self._reads = ReadPool(reader, refusals)
        self._surveys = ReadPool(surveyor, refusals)

    def _before(self, function: Callable[..., Any]) -> None:
        """Whatever else is written may change what messages are checked against."""
        if function not in APART_FROM_MESSAGES:
            self._at_rest.standings.clear()
            self._at_rest.usages.clear()

    def _configure_surveyor(self, connection: sqlite3.Connection) -> None:
        """For what reads for long, and must not keep a server from stopping."""
        configure_reader(connection)
        connection.set_progress_handler(self._stopping.is_set, _STEPS)

    def _found(self) -> Foundation:
        """Checks that the database and this SQLite will do, on a connection that is closed again."""
        with (
            migrate.damage_explained(self._path),
            closing(sqlite3.connect(**arguments(self._path))) as connection,
        ):
            configure(connection)
            connection.execute("BEGIN IMMEDIATE")
            foundation = found(connection.cursor(), self._kek, int(self._now() * 1000))
            connection.execute("COMMIT")
            configure_reader(connection)
            return foundation

    def _pool(self, threads: int, setup: Callable[[sqlite3.Connection], None]) -> ConnectionPool:
        return self._new_pool(
            "sqlite3",
            **arguments(self._path),
            cp_min=1,
            cp_max=threads,
            cp_openfun=setup,
            cp_reactor=self._reactor,
        )

    def close(self) -> Deferred[None]:
        """Answers what was asked already and refuses more, then closes the database; no thread is left.

        Returns:
            Fires when that is done; at once where nothing is open.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._pools is None:
            return
        writer, reader, surveyor = self._pools
        self._pools = None
        self._stopping.set()
        for answered in (self._writes.close(), self._reads.close(), self._surveys.close()):  # from here on all refuse
            await answered
        reader.close()
        surveyor.close()
        try:
            await writer.runInteraction(_checkpoint)
        except sqlite3.Error:  # what is committed stays in the WAL and counts at the next start
            self.log.failure("The database was closed without a checkpoint.")
        writer.close()

    @property
    def epoch(self) -> str:
        return self._foundation.epoch

    @property
    def secret(self) -> bytes:
        return self._foundation.secret

    # --- accounts -----------------------------------------------------------------------------------------

    async def account(self, user: str) -> Account | None:
        return await self._reads.submit(accounts.account, user, self._max_past)

    async def salt(self, user: str) -> bytes | None:
        return await self._reads.submit(accounts.salt, user)

    async def register(self, account: NewAccount, *, invite_hash: bytes | None, now: int) -> None:
        await self._writes.submit(accounts.register, self._at_rest, account, invite_hash, now)

    async def keys(self, users: Sequence[str]) -> Mapping[str, SignedBundle]:
        return await self._reads.submit(accounts.keys, users, self._max_past)

    async def publish(self, user: str, keys: NewKeys, *, backup: Backup | None, now: int) -> None:
        await self._writes.submit(accounts.publish, self._at_rest, user, keys, backup, now)

    async def reset_identity(self, user: str, keys: NewKeys, *, backup: Backup, now: int) -> None:
        await self._writes.submit(accounts.reset_identity, self._at_rest, user, keys, backup, now)

    async def change_password(
        self, user: str, *, password_hash: str, salt: bytes, backup: Backup | None, keep: bytes, now: int
    ) -> None:
        await self._writes.submit(accounts.change_password, self._at_rest, user, password_hash, salt, backup, keep, now)

    async def rehash(self, user: str, *, old: str, new: str) -> None:
        await self._writes.submit(accounts.rehash, user, old, new)

    async def backup(self, user: str) -> Backup | None:
        return await self._reads.submit(accounts.backup, self._at_rest, user)

    async def put_backup(self, user: str, backup: Backup) -> None:
        await self._writes.submit(accounts.put_backup, self._at_rest, user, backup)

    async def put_note(self, user: str, name: str, blob: bytes) -> int:
        return await self._writes.submit(notes.put, self._at_rest, user, name, blob, self._note_limits)

    async def notes(self, user: str, *, after: int, max_bytes: int) -> NotePage:
        return await self._reads.submit(notes.read, self._at_rest, user, after, max_bytes)

    async def open_session(self, token_hash: bytes, session: Session, now: int) -> None:
        await self._writes.submit(sessions.open_session, token_hash, session, now)

    async def session(self, token_hash: bytes, now: int) -> Session | None:
        return await self._writes.submit(sessions.session, token_hash, now)

    async def bind_session(self, token_hash: bytes, device: str) -> None:
        await self._writes.submit(sessions.bind_session, token_hash, device)

    async def close_session(self, token_hash: bytes) -> None:
        await self._writes.submit(sessions.close_session, token_hash)

    async def add_invite(self, code_hash: bytes, *, uses: int, expires: int, now: int) -> None:
        await self._writes.submit(sessions.add_invite, code_hash, uses, expires, now)

    async def invite_holds(self, code_hash: bytes, now: int) -> bool:
        return await self._reads.submit(sessions.invite_holds, code_hash, now)

    # --- conversations ------------------------------------------------------------------------------------

    async def conversations(
        self, user: str, since: Mapping[str, int] | None = None, *, follows: bool = True
    ) -> Sequence[ConversationRecord]:
        return await self._reads.submit(conversations.conversations, user, since, follows, self._retention)

    async def invitations(self, user: str) -> Sequence[str]:
        return await self._reads.submit(conversations.invitations, user)

    async def act(self, room: str, signed: SignedEvent, *, wait: float, now: int) -> Placed:
        return await self._writes.submit(acts.act, self._at_rest, room, signed, self._limits, wait, now)

    async def extend(
        self, user: str, room: str, after: int, events: Sequence[SignedEvent], certs: Sequence[SignedCertificate], *,
        srv: str, now: int,
    ) -> Extension:  # fmt: skip
        if not self._at_rest.restored:
            raise Refused(STALE_LOG, room=room)  # nothing was lost: acts come by `act`, with all its limits
        vouched = await self._reads.submit(acts.vouch, events, certs, srv)  # not in the writer's time
        return await self._writes.submit(
            acts.extend, self._at_rest, user, room, after, events, vouched, self._limits, now
        )

    async def room_log(self, user: str, room: str, *, after: int, limit: int, max_bytes: int) -> LogPage:
        return await self._reads.submit(roomlogs.page, self._at_rest, user, room, after, limit, max_bytes)

    async def rooms(self, user: str) -> Sequence[RoomSummary]:
        return await self._reads.submit(conversations.rooms, self._at_rest, user)

    async def members(self, user: str, room: str) -> Sequence[str]:
        return await self._reads.submit(conversations.members, user, room)

    async def check_voice(self, user: str, room: str, now: int) -> None:
        await self._reads.submit(conversations.check_voice, user, room, now)

    async def audience(self, user: str, room: str, rcp: str) -> bytes:
        return await self._reads.submit(history.audience, self._at_rest, user, room, rcp)

    async def stored(self, user: str) -> Sequence[StoredTable]:
        return await self._reads.submit(stored.stored, user)

    async def append(self, message: NewMessage) -> Appended:
        return await self._writes.submit_grouped(self._append, message)

    async def read(
        self, user: str, room: str, *, after: int | None, before: int | None, limit: int, max_bytes: int
    ) -> Page:
        return await self._reads.submit(history.read, self._at_rest, user, room, after, before, limit, max_bytes)

    async def move_read_marker(self, user: str, room: str, seq: int) -> bool:
        return await self._writes.submit(conversations.move_read_marker, user, room, seq)

    # --- the operator's -----------------------------------------------------------------------------------

    async def users(self, now: int) -> Sequence[UserInfo]:
        return await self._surveys.submit(operator.users, now)

    async def suspend(self, user: str, *, yes: bool) -> None:
        await self._writes.submit(operator.suspend, user, yes)

    async def delete_user(self, user: str, *, now: int) -> None:
        await self._writes.submit(operator.delete_user, self._at_rest, user, now)

    async def reset_password(self, user: str, *, password_hash: str, salt: bytes, now: int) -> None:
        await self._writes.submit(operator.reset_password, user, password_hash, salt, now)

    async def sessions(self, user: str | None, now: int) -> Sequence[SessionInfo]:
        return await self._surveys.submit(operator.sessions, user, now)

    async def end_sessions(self, user: str, device: str | None) -> int:
        return await self._writes.submit(operator.end_sessions, user, device)

    async def all_rooms(self) -> Sequence[RoomInfo]:
        return await self._surveys.submit(operator.all_rooms)

    async def remove_room(self, room: str) -> RemovedRoom:
        return await self._writes.submit(operator.remove_room, self._at_rest, room)

    async def purge(self) -> bool:
        return await self._writes.submit(operator.purge)

    async def set_retention(self, room: str, days: int | None) -> None:
        await self._writes.submit(operator.set_retention, room, days)

    async def set_room_quota(self, room: str, quota: int | None) -> None:
        await self._writes.submit(operator.set_room_quota, room, quota)

    async def set_user_quota(self, user: str, quota: int | None) -> None:
        await self._writes.submit(operator.set_user_quota, user, quota)

    async def trim(self, *, now: int) -> int:
        removed = 0
        for conversation, cutoff in await self._surveys.submit(retention.due, self._retention, now):
            removed += await self._writes.submit(retention.trim, conversation, cutoff)
        return removed

    async def copy_to(self, path: Path, tell: Tell) -> BackupReport:
        def told(what: str, done: int, of: int) -> None:
            self._reactor.callFromThread(tell, what, done, of)  # type: ignore[attr-defined]  # see `reactor`

        def work() -> BackupReport | BackupFailed:
            try:
                return copies.copy_to(self._path, path, self._at_rest.sealer, told, self._stopping.is_set)
            except BackupFailed as failed:
                return failed

        made = await self._surveys.run(work)
        if isinstance(made, BackupFailed):
            raise made
        return made

    async def rotate(self, kek: KeyEncryptionKeys, tell: Tell, *, now: int) -> Rotated:
        for wrapped in await self._surveys.submit(rotation.wrapped):
            kek.unwrap(wrapped)
        newest, wrapped = await self._writes.submit(rotation.begin, kek, now)
        sealer = self._at_rest.sealer
        sealer.know(newest, kek.unwrap(wrapped))  # before any row is under it
        await self._writes.submit(rotation.use, self._at_rest, newest)
        total, done = await self._surveys.submit(sealed.count, but=newest), 0
        lost: list[int] = []
        for kind in sealed.KINDS:
            after = 0
            while some := await self._surveys.submit(rotation.reseal, self._at_rest, kind, newest, after):
                await self._writes.submit(rotation.put, kind, some)
                after, done, lost = some.last, done + some.looked_at, [*lost, *some.lost]
                tell("sealing anew", done, max(total, done))
        await self._writes.submit(rotation.end, newest, lost)
        return Rotated(done - len(lost), len(lost))

    async def check(self, srv: str, tell: Tell) -> Sequence[Fault]:
        at_rest, faults, done = self._at_rest, list[Fault](), 0

        async def look(table: str, where: str, step: Callable[..., integrity.Step], *args: Any) -> integrity.Step:
            try:
                found = await self._surveys.submit(integrity.guarded, table, where, step, *args)
            except Refused:  # not even the end of the transaction went well
                if self._stopping.is_set():
                    raise
                found = integrity.Step([Fault(table, 0, where, "cannot be read: the file is damaged")])
            faults.extend(found.faults)
            return found

        tell("reading the file", 0, 0)
        await look("(file)", "", integrity.file)
        listed = await look("conversation", "", integrity.conversations)
        parts: list[tuple[str, Callable[..., integrity.Step], Any]] = [
            ("account", integrity.accounts, (srv,)),
            ("device", integrity.certificates, (srv,)),
            ("note", integrity.notes, ()),
            *((kind.table, integrity.sealed_rows, (at_rest, kind)) for kind in sealed.KINDS),
        ]
        for table, part, args in parts:
            step = integrity.Step([], last=0, rows=1)
            while step.rows:
                step = await look(table, "", part, *args, step.last)
                done += step.rows
                tell(f"reading {table}", done, max(done, listed.rows))
        for conversation, name in listed.then or ():
            walk = (await look("conversation", name, integrity.room, at_rest, conversation)).then
            while walk is not None and (step := await look("message", name, integrity.messages, at_rest, walk)).rows:
                done += step.rows
                tell(f"reading {name}", done, max(done, listed.rows))
        return faults


def _append(at_rest: AtRest, cursor: Cursor, new: Sequence[NewMessage]) -> Sequence[Appended | Refused]:
    return messages.append(cursor, at_rest, new)


def _checkpoint(transaction: Any) -> None:
    """Moves everything from the WAL into the database, so that the one file is whole."""
    transaction.execute("PRAGMA wal_checkpoint(TRUNCATE)")
