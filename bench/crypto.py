"""What sealing, reading and room logs cost on this machine: ``python -m bench.crypto`` from the checkout.

Each row is the median of some rounds, in CPU time of one thread. A goal that is missed is marked; nothing fails for it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Final

from securechat.crypto.envelope import parse_header, seal
from securechat.crypto.identity import AccountKeys
from securechat.crypto.roomlog import ChangeTopic, Invite, Join, Leave, RoomLog, SignedEvent, replay
from tests.cast import SRV, Acquaintances, Conversation, Person, Room, examined, reader_of, readers_of

TEXT: Final = "x" * 1024
MEMBERS: Final = 100  # of the room whose messages are judged
EVENTS: Final = 10_000  # of the log that is verified


def cost(work: Callable[[], object], *, rounds: int) -> float:
    """Milliseconds that the middle one of some rounds takes."""
    times = []
    for _ in range(rounds):
        before = process_time()
        work()
        times.append(process_time() - before)
    return median(times) * 1000


def figures() -> dict[str, float]:
    """What a client pays for one message of 1 KiB in a room of `MEMBERS`: milliseconds by name."""
    alice, bob = Person("alice", 0), Person("bob", 1)
    members = [alice, bob, *(Person(f"user{number}") for number in range(MEMBERS - 2))]
    talk = Conversation(Room(alice, *members[1:]).log, *members)
    readers, position = readers_of(members), talk.position(alice)
    message, trust = talk.deliver(talk.say(alice, TEXT), bob), Acquaintances.of(members)
    return {
        "seal_v1_ms": cost(lambda: seal(TEXT, readers, position, alice.device()), rounds=5),
        "open_v1_ms": cost(lambda: examined(message, bob, trust), rounds=30),
    }


def row(what: str, milliseconds: float, goal: float | None = None) -> None:
    """One line of the table."""
    wanted = "" if goal is None else f"{goal:>10,.1f}{'' if milliseconds <= goal else '  MISSED'}"
    print(f"{what:<44}{milliseconds:>12,.3f}{wanted}")


def sealing(crowd: list[AccountKeys], talk: Conversation, author: Person) -> None:
    """To 1, 10, 100 and 1000 readers, their keys loaded."""
    position = talk.position(author)
    for count, goal in ((1, None), (10, None), (100, 15.0), (1000, None)):
        readers = crowd[:count]
        row(
            f"seal 1 KiB to {count}",
            cost(lambda readers=readers: seal(TEXT, readers, position, author.device()), rounds=5),
            goal,
        )


def reading(talk: Conversation, author: Person, reader: Person, trust: Acquaintances) -> None:
    """One message: its shape, the package alone, and its judgement in a room."""
    posted = [talk.say(author, TEXT) for _ in range(50)]
    message = talk.deliver(posted[0], reader)
    row("parse_header", cost(lambda: [parse_header(message.hdr) for _ in range(100)], rounds=5) / 100)
    row("examine: verify, unwrap, decrypt", cost(lambda: examined(message, reader, trust), rounds=30), 5.0)
    stranger = talk.deliver(posted[0], Person("stranger"))
    row("examine: for somebody else", cost(lambda: examined(stranger, reader, trust), rounds=30))
    found = [examined(talk.deliver(each, reader), reader, trust) for each in posted]

    def judge() -> None:
        judging = reader_of(reader, talk)
        for each in found:
            judging.receive(each, trust, talk.audience)

    row(f"judge, in a room of {len(talk.members())}", cost(judge, rounds=5) / len(found))


def long_log(people: list[Person]) -> list[SignedEvent]:
    """A log in which everybody comes and goes, some are invited, and the topic changes."""
    room = Room(people[0])
    turn = 0
    while room.log.count < EVENTS:
        turn += 1
        person = people[1 + turn % (len(people) - 1)]
        if turn % 10 == 0:
            room.do(ChangeTopic, people[0], topic=b"%d" % turn)
        elif person.user not in room.log.members and turn % 4 == 0:
            room.do(Invite, people[0], person)
        else:
            room.do(Leave if person.user in room.log.members else Join, person)
    return room.events


def logs(people: list[Person]) -> None:
    """A long log: signatures and rules, rules alone, and one event behind it."""
    events = long_log(people)
    devices = {(person.user, person.dev()): person.vouched() for person in people}
    travelled = [(signed.data, signed.sig) for signed in events]

    def verify() -> RoomLog:
        log = RoomLog(SRV)
        for data, sig in travelled:
            signed = SignedEvent(data, sig)
            signed.verify(devices[signed.event.by, signed.event.dev])
            log.append(signed)
        return log

    def rules() -> RoomLog:
        return replay(SRV, [SignedEvent(data, sig) for data, sig in travelled])

    row(f"verify and replay {EVENTS:,} events", cost(verify, rounds=1), 5000.0)
    row(f"replay {EVENTS:,} events", cost(rules, rounds=3))
    log = rules()
    row("members_at, a place not asked for before", cost(lambda: _forgetful(log).members_at(EVENTS // 2), rounds=5))
    row("  the same place again", cost(lambda: log.members_at(EVENTS // 2), rounds=5))


def _forgetful(log: RoomLog) -> RoomLog:
    log._rosters.clear()
    return log


def main() -> None:
    """Prints the table."""
    alice, bob = Person("alice", 0), Person("bob", 1)
    crowd = [Person(f"user{number}") for number in range(1000)]
    members = [alice, bob, *crowd[: MEMBERS - 2]]
    room = Room(alice, *members[1:])
    talk = Conversation(room.log, *members)
    print(f"{'':<44}{'ms':>12}{'goal':>10}")
    keys = readers_of(crowd)
    for each in keys:
        assert each.rk is not None  # loaded once, as a client does
    sealing(keys, talk, alice)
    reading(talk, alice, bob, Acquaintances.of(members))
    logs(members)


if __name__ == "__main__":
    main()
