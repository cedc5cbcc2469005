"""The naive form of the daemon, to compare with: ``naive.py PORT ACCOUNTS DATABASE``.

It does what one writes first: for every message it parses the JSON, encrypts it by Fernet, waits for a transaction of
its own through adbapi, and then encodes the whole package once for each member. It checks nothing, and takes every
login; it speaks as much of the daemon's protocol as the generator needs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from securechat.crypto.primitives import b64, unb64


class NaiveFactory(Factory):
    """What all connections share.

    Args:
        accounts: the generator's file; it says who is in which room.
        database: made here.
    """

    noisy = False

    def __init__(self, accounts: Path, database: Path) -> None:
        lines = [line.split(" ") for line in accounts.read_text(encoding="ascii").splitlines()]
        self.rooms = {fields[1]: fields[6] for fields in lines}
        self.members: dict[str, list[NaiveProtocol]] = {}
        self.fernet = Fernet(Fernet.generate_key())
        self.pool = ConnectionPool("sqlite3", str(database), check_same_thread=False, cp_min=1, cp_max=1)
        self.count = 0

    def buildProtocol(self, addr: Any) -> NaiveProtocol:
        """For Twisted."""
        return NaiveProtocol(self)


class NaiveProtocol(LineReceiver):
    """One member's connection."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    transport: Any

    def __init__(self, shared: NaiveFactory) -> None:
        self.shared = shared
        self.room = ""

    def say(self, packet: dict[str, Any]) -> None:
        """Encodes and writes a packet."""
        self.sendLine(json.dumps(packet, separators=(",", ":")).encode())

    def connectionMade(self) -> None:
        """A greeting that fits the protocol and proves nothing."""
        self.transport.setTcpNoDelay(True)
        self.sendLine(b'{"event":"hello","lk":"%b","nonce":"%b"}' % (b64(bytes(32)).encode(), b64(bytes(32)).encode()))

    def lineReceived(self, line: bytes) -> None:
        """One request."""
        request = json.loads(line)
        if request["cmd"] == "resume":
            self.room = self.shared.rooms[request["token"]]
            self.sendLine(b'{"status":"ok","id":%d}' % request["id"])
        elif request["cmd"] == "sync":
            self.shared.members.setdefault(self.room, []).append(self)
            self.sendLine(b'{"status":"ok","id":%d}' % request["id"])
            self.sendLine(b'{"event":"live","room":"%b"}' % self.room.encode())
        elif request["cmd"] == "send":
            sealed = self.shared.fernet.encrypt(json.dumps(request["package"]).encode())
            self.shared.pool.runInteraction(store, self.room, sealed).addCallback(self.stored, request)

    def stored(self, result: Any, request: dict[str, Any]) -> None:
        """On disk: tells everybody."""
        self.shared.count += 1
        header = json.loads(unb64(request["package"]["hdr"]))
        for member in self.shared.members[self.room]:
            if member is not self:
                member.say(
                    {"event": "message", "mid": header["mid"], "seq": self.shared.count, "package": request["package"]}
                )
        self.say({"status": "ok", "id": request["id"], "seq": self.shared.count})

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """For Twisted."""
        members = self.shared.members.get(self.room, [])
        if self in members:
            members.remove(self)


def store(transaction: Any, room: str, sealed: bytes) -> None:
    """One message, in a transaction of its own."""
    transaction.execute("INSERT INTO message (room, sealed) VALUES (?, ?)", (room, sealed))


def main() -> None:
    """Serves until it is ended."""
    port, accounts, database = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    shared = NaiveFactory(accounts, database)

    def listen(result: Any) -> None:
        TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1").listen(shared)

    shared.pool.runOperation("CREATE TABLE message (id INTEGER PRIMARY KEY, room TEXT, sealed BLOB)").addCallback(
        listen
    )
    reactor.run()


if __name__ == "__main__":
    main()
