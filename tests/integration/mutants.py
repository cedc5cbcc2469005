"""Servers with one fault each, to see whether the checker of histories finds it. For tests only.

    python -m tests.integration.mutants NAME -- securechat …

starts `twist` with the rest of the line, after the fault was put in.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from twisted.application.twist._twist import Twist
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from securechat.crypto.envelope import parse_header
from securechat.server import session as sessions
from securechat.server import talk
from securechat.storage import groupcommit, migrate, sqlite
from securechat.storage.queries import messages
from securechat.wire import messages as m

_SLOW: Final = 0.002  # seconds more for each message, between what comes too early and the commit


class _Early(groupcommit.GroupCommit):
    """Tells of each stored message before its commit."""

    tell: Callable[[Any, Any], None]

    def _attempt_group(self, cursor: Any, operations: Any) -> list[object]:
        outcomes = super()._attempt_group(cursor, operations)
        for operation, outcome in zip(operations, outcomes, strict=True):
            if not isinstance(outcome, Failure):
                from twisted.internet import reactor

                self.tell(reactor, (operation, outcome))
                time.sleep(_SLOW)
        return outcomes


def early_ack() -> None:
    """Acknowledges a message before the commit."""

    class EarlyAck(_Early):
        def tell(self, reactor: Any, told: Any) -> None:
            operation, outcome = told
            answer, operation.answer = operation.answer, Deferred()
            reactor.callFromThread(answer.callback, outcome)

    sqlite.GroupCommit = EarlyAck  # type: ignore[misc]  # which is what a mutant does


def early_publish() -> None:
    """Hands a message to its readers before the commit; the sender is answered after it."""
    sending: dict[str, Any] = {}
    states, genuine = sessions.RULES[m.Send]

    async def send(session: Any, request: Any) -> Any:
        mid = parse_header(request.package.hdr).mid
        sending[mid] = session
        try:
            return await genuine(session, request)
        finally:
            sending.pop(mid, None)

    def publish(message: Any, appended: Any) -> None:
        if message.header.mid in sending:
            talk._publish(sending[message.header.mid], message, appended)

    class EarlyPublish(_Early):
        def tell(self, reactor: Any, told: Any) -> None:
            operation, outcome = told
            reactor.callFromThread(publish, operation.arguments[0], outcome)

    sessions.RULES[m.Send] = (states, send)
    sqlite.GroupCommit = EarlyPublish  # type: ignore[misc]  # as above


def no_dedup() -> None:
    """Does not know a message again: neither by its mid, nor by its number, nor by the table's own rule."""
    rule = ",\n    UNIQUE (sender_id, device, mid)"
    steps = migrate._steps

    def without_rule(schema: Any) -> list[str]:
        found = steps(schema)
        if not any(rule in sql for sql in found):
            raise SystemExit("the schema has no such rule any more: this mutant is none")
        return [sql.replace(rule, "") for sql in found]

    migrate._steps = without_rule
    messages._stored = lambda *_: None  # type: ignore[assignment]  # as above
    messages._check_turn = lambda *_: None  # type: ignore[assignment]  # as above


def early_seq() -> None:
    """Takes the seq in a transaction of its own, before the one that stores the message."""
    genuine = messages.append

    def append(cursor: Any, at_rest: Any, new: Any) -> Any:
        step = "UPDATE conversation SET last_seq = last_seq + ? WHERE name = ?"
        steps = Counter(message.room for message in new)
        for room, count in steps.items():
            cursor.execute(step, (count, room))
        for sql in ("COMMIT", "BEGIN IMMEDIATE", "SAVEPOINT operation"):
            cursor.execute(sql)
        time.sleep(_SLOW * len(new))
        for room, count in steps.items():
            cursor.execute(step, (-count, room))
        return genuine(cursor, at_rest, new)

    messages.append = append


MUTANTS: Final = {mutant.__name__: mutant for mutant in (early_ack, early_publish, no_dedup, early_seq)}


def main(arguments: list[str]) -> None:
    """Puts the fault in, and starts."""
    name, _, *rest = arguments
    MUTANTS[name]()
    Twist.main(["twist", *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
