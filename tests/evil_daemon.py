"""A whole daemon that lies, for real clients: the attacks that `python -m tests.evil` knows, and when they begin."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from securechat.client.acts import Author, join
from securechat.crypto import primitives as p
from securechat.crypto.roomlog import RoomLog, SignedEvent
from securechat.errors import InvalidKey, Refused
from securechat.storage.queries import messages as storing
from securechat.wire import messages as m
from securechat.wire.names import is_private
from tests.evil import LENIENT, EvilFactory, EvilServer, Impostor, Said, as_packet

EVERY: Final = 3  # messages of which one is dropped or forged
GHOST: Final = "mallory"


def forge(evil: EvilServer) -> None:
    """Every third message that anybody is handed has a signature that the server made up."""
    count = [0]

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind != "event:message":
            return None
        count[0] += 1
        if count[0] % EVERY:
            return None
        return [{**said, "package": {**said["package"], "sig": p.b64(bytes(64))}}]

    evil.rule(change)


def replay(evil: EvilServer) -> None:
    """Everything is handed out twice."""

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind != "event:message":
            return None
        seq = said["seq"] + evil.moved(user, said["room"], 1)
        return [{**said, "seq": seq, "invented": True}, {**said, "seq": seq + 1, "invented": True}]

    lenient()
    evil.rule(change)


def drop(evil: EvilServer) -> None:
    """Every third message never arrives, and the numbers show no gap."""
    count = [0]

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind != "event:message":
            return None
        count[0] += 1
        if count[0] % EVERY:
            return None
        evil.moved(user, said["room"], -1)
        return []

    lenient()
    evil.rule(change)


def swap_keys(evil: EvilServer) -> None:
    """Everybody is told that everybody else has new keys: the server's own."""
    rsa = p.new_rsa()
    made: dict[str, Said] = {}

    def false(name: str, bundle: Said) -> Said:
        if name not in made:
            fields = json.loads(base64.b64decode(bundle["list"]))
            made[name] = as_packet(m.KeyBundle.of(Impostor(fields["srv"], name, rsa).bundle))
        return made[name]

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind == "keys" and "keys" in said:
            keys = {name: bundle if name == user else false(name, bundle) for name, bundle in said["keys"].items()}
            return [{**said, "keys": keys}]
        if kind == "event:member" and said["user"] != user:
            return [{**said, "keys": false(said["user"], said["keys"])}]
        return None

    evil.rule(change)
    for name, bundles in evil.bundles.items():
        for user in evil.users:
            if user != name:
                evil.say(user, {"event": "member", "user": name, "keys": false(name, bundles[-1])})


def ghost_member(evil: EvilServer) -> None:
    """With the next message, every room gets a member that the server made up, signed by a device of its own."""
    told: set[tuple[str, str]] = set()

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind != "event:message" or is_private(said["room"]) or (user, said["room"]) in told:
            return None
        room = said["room"]
        log = known_log(evil, room)
        if log is None:
            return None
        told.add((user, room))
        ghost = Impostor(log.srv, GHOST)
        author = Author(log.srv, GHOST, ghost.ik, ghost.dev, (1, p.digest("list").hex()), int(time.time() * 1000))
        signed = ghost.sign(join(author)(log))
        act = {"signed": p.b64(signed.data), "sig": p.b64(signed.sig), "events": log.count + 1}
        certificate = as_packet(m.Certificate.of(ghost.certificate))
        return [said, {"event": "room", "room": room, **act, "cert": certificate}]

    evil.rule(change)


def known_log(evil: EvilServer, room: str) -> RoomLog | None:
    """A room's log, as far as its events passed by; None where the first ones did not."""
    events = [SignedEvent(base64.b64decode(one["signed"]), base64.b64decode(one["sig"])) for one in evil.events[room]]
    log = RoomLog(events[0].event.srv)
    try:
        for event in events:
            log.append(event)
    except (Refused, InvalidKey):
        return None
    return log


def fork(evil: EvilServer) -> None:
    """In each room one reader is kept from one message: whoever is handed the first one from now on."""
    victims: dict[str, str] = {}

    def change(user: str, kind: str, said: Said) -> list[Said] | None:
        if kind != "event:message" or said["room"] in victims:
            return None
        victims[said["room"]] = user
        evil.moved(user, said["room"], -1)
        return []

    lenient()
    evil.rule(change)


def rewrite_history(evil: EvilServer) -> None:
    """The newest message of every conversation gets another text, in the database and with the at-rest key."""
    for room, seq in evil.newest_stored():
        evil.rewrite_message(room, seq, lambda shared: {**shared, "encrypted_message": "gAAAAAAAAAAA" + "A" * 88})


def delete_history(evil: EvilServer) -> None:
    """The newest message of every conversation is deleted from the database."""
    for room, _ in evil.newest_stored():
        evil.delete_newest(room)


def lenient() -> None:
    """The server stores what serves its lies."""
    for name, check in LENIENT.items():
        setattr(storing, name, check)


ATTACKS: Final[dict[str, Callable[[EvilServer], None]]] = {
    "forge": forge,
    "replay": replay,
    "drop": drop,
    "swap-keys": swap_keys,
    "ghost-member": ghost_member,
    "fork": fork,
    "rewrite-history": rewrite_history,
    "delete-history": delete_history,
}


def main(arguments: list[str]) -> int:
    """Runs the daemon until it is ended; each line of the file of attacks begins one, or with ``stop`` ends all."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.evil",
        description="A daemon that lies to its users, for tests.",
        epilog=f"Attacks: {', '.join(ATTACKS)}; stop ends all. The database stays as they left it.",
    )
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--listen", default="127.0.0.1:0", help="ADDRESS:PORT")
    parser.add_argument("--attacks", help="a file; whenever it has one more line, the attack of that name begins")
    options = parser.parse_args(arguments)

    from twisted.internet import reactor, task
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from securechat.server import service
    from securechat.server.settings import Settings

    evil = EvilServer()
    genuine: Any = reactor

    def factory(*args: Any, **kw: Any) -> EvilFactory:
        return EvilFactory(evil, *args, **kw)

    service.ChatServerFactory = factory  # type: ignore[assignment,misc]  # what the service makes
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    settings = Settings(data_dir=options.data_dir, listen=(options.listen,))
    daemon = service.ChatServerService(settings, genuine, foreground=lambda: True)
    begun = [0]

    def look() -> None:
        path = Path(options.attacks)
        names = path.read_text(encoding="ascii").split() if path.exists() else []
        for name in names[begun[0] :]:
            begun[0] += 1
            if name == "stop":
                evil.stop()
            elif name in ATTACKS:
                ATTACKS[name](evil)
            else:
                print(f"evil: there is no attack {name}", flush=True)
                continue
            print(f"evil: {name} from now on", flush=True)

    daemon.startService()
    if options.attacks:
        task.LoopingCall(look).start(0.2)
    genuine.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    genuine.run()
    return 0
