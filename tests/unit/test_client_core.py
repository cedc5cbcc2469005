"""Tests for the client as a whole, against a real server: talk, lost connections, what is shown and what is kept."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import Any

from securechat.client.protocol import LinkLost
from securechat.client.view import Membership, Message, Unshown
from securechat.errors import BAD_SESSION, BUSY, NOT_MEMBER, RATE_LIMITED, TRY_AGAIN, Exit
from securechat.link import ConnectLine
from securechat.storage.interface import MessageRow
from securechat.wire import messages as m
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient, signing_key

Said = dict[str, Any]
OPEN = "an open room: anybody on this server, its operator too, can enter and read from then on"


class TalkCase(ChatCase):
    """Two people in a room."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.view.take()

    def rows(self, room: str = "general", user: str = "alice") -> list[MessageRow]:
        """The messages of a conversation as the server has them."""
        page = self.do(self.store.read(user, room, after=0, before=None, limit=200, max_bytes=10**6))
        return list(page.messages)

    def events(self, kind: str) -> Any:
        """A change that drops the events of a kind, for one client's wire only while it is installed."""
        return lambda said: None if said.get("event") == kind else said

    def sends(self) -> int:
        """How many messages were handed to the server so far, on all connections."""
        return sum(wire.commands.count("send") + wire.commands.count("pm") for wire in self.network.wires)

    def away(self) -> None:
        """The server goes away, and everybody notices."""
        self.network.go_down()
        self.settle()

    def back(self, seconds: float = 40.0) -> None:
        """It comes back, and everybody finds it."""
        self.network.come_back()
        self.pass_time(seconds)


class EightLinesTests(ChatCase):
    """The session that the project started from."""

    def test_session(self) -> None:
        """The eight lines, typed in their order in one session, do what they say."""
        bob = self.registered("bob")
        alice = self.client("alice")
        shown = [
            alice.type(line)
            for line in (
                f"/register alice {PASSWORD}",
                f"/login alice {PASSWORD}",
                "/join general",
                "/switch general",
                "/send Hello everyone!",
                "/pm bob Hey Bob, how are you?",
                "/history general",
                "/exit",
            )
        ]
        notice = "* Nobody can recover a forgotten password: without it, and without a device of yours, messages stay"
        self.assertEqual(
            [
                [f"{notice} closed.", "Welcome, alice. You are registered and logged in."],
                ["You are logged in as alice."],
                [
                    f"You made general, {OPEN}. What you type goes there, sealed for its members.",
                ],
                ["general is active."],
                ["[general] <alice> Hello everyone!"],
                [
                    "* First contact with bob: their identity is remembered.",
                    "[pm → bob] Hey Bob, how are you?",
                ],
                ["2023-11-14 22:13 [general] <alice> Hello everyone!"],
                [],
            ],
            shown,
        )
        self.assertTrue(alice.core.exiting)
        self.assertEqual(
            ["[pm] <alice> Hey Bob, how are you?"], [line for line in bob.view.take() if line.startswith("[")]
        )
        closing = self.start(alice.core.close(30.0))
        self.settle()
        self.assertEqual(Exit.OK, self.successResultOf(closing))


class PrintedTests(TalkCase):
    """Tests for which messages a view is given as they come."""

    def test_only_what_it_prints(self) -> None:
        """What others say elsewhere is counted and not shown; one's own words always are."""
        self.alice.view.printed = self.alice.view.sees = set()
        self.bob.type("/send hello")
        self.assertEqual(["[general] <alice> mine"], self.alice.type("/send mine"))
        (state,) = (room for room in self.alice.view.states[-1].rooms if room.where == "general")
        self.assertEqual(1, state.unread)
        self.alice.view.printed = {"general"}
        self.bob.type("/send again")
        self.assertEqual(["[general] <bob> again"], self.alice.view.take())


class MessageTests(TalkCase):
    """Tests for messages on their way from one to the other."""

    def test_room(self) -> None:
        """A message is shown to both once, to its author when it is stored; the server cannot read it."""
        self.assertEqual(["[general] <alice> hello"], self.alice.type("/send hello"))
        self.assertEqual(["[general] <alice> hello"], self.bob.view.take())
        (row,) = self.rows()
        self.assertNotIn(b"hello", row.shared)

    def test_line(self) -> None:
        """A line without a slash goes to the active room; two slashes are one in the text."""
        self.alice.type("hello")
        self.alice.type("//join me")
        self.assertEqual(["[general] <alice> hello", "[general] <alice> /join me"], self.bob.view.take())

    def test_burst(self) -> None:
        """Many messages of both arrive everywhere in the order of the history."""
        for number in range(8):
            (self.alice, self.bob)[number % 2].start(f"/send {number}")
        self.settle()
        lines = self.alice.view.take()
        self.assertEqual([f"{number}" for number in range(8)], [line.rsplit(" ", 1)[1] for line in lines])
        self.assertEqual(lines, self.bob.view.take())

    def test_private(self) -> None:
        """A private message reaches its reader alone, with both names."""
        carol = self.registered("carol", "general")
        self.alice.view.take()
        self.assertEqual(["[pm → bob] psst"], self.alice.type("/pm bob psst"))
        self.assertIn(Message("@alice", "alice", "psst"), self.bob.view.items)
        self.assertNotIn("psst", carol.view.text)

    def test_offline(self) -> None:
        """A private message to somebody offline is there when they come back."""
        self.bob.quit()
        self.alice.type("/pm bob one")
        self.alice.type("/pm bob two")
        lines = self.again(self.bob).view.items
        self.assertEqual(
            [Message("@alice", "alice", "one"), Message("@alice", "alice", "two")],
            [item for item in lines if isinstance(item, Message) and item.where.startswith("@")],
        )

    def test_membership_in_its_place(self) -> None:
        """Who joins and leaves is shown among the messages where it happened."""
        carol = self.registered("carol")
        self.alice.type("/send one")
        carol.type("/join general")
        self.alice.type("/send two")
        carol.type("/leave general")
        self.alice.type("/send three")
        self.assertEqual(
            [
                Message("general", "alice", "one"),
                Membership("general", "carol", "joined"),
                Message("general", "alice", "two"),
                Membership("general", "carol", "left"),
                Message("general", "alice", "three"),
            ],
            self.bob.view.items[-5:],
        )

    def test_missed_membership(self) -> None:
        """Who missed that somebody joined seals without them once, and learns it from the answer."""
        carol = self.registered("carol")
        self.network.changes.append(self.events("room"))
        carol.type("/join general")
        self.network.changes.clear()
        carol.view.take()
        self.assertIn("[general] <alice> hello", self.alice.type("/send hello"))
        self.assertEqual(["[general] 1 message sent before you joined"], carol.view.take())
        self.alice.type("/send again")
        self.assertEqual(["[general] <alice> again"], carol.view.take())
        self.assertEqual((2, 2), (self.sends(), len(self.rows())))

    def test_missed_kick(self) -> None:
        """Who seals for somebody that was put out seals again by itself, without them."""
        carol = self.registered("carol", "general")
        changes: list[Any] = [self.events("room")]
        self.network.changes = changes
        self.alice.type("/kick carol")
        changes.clear()
        shown = self.bob.type("/send hello")
        self.assertIn("[general] <bob> hello", shown)
        self.assertIn("[general] * alice put carol out", shown)
        self.assertIn("[general] <bob> hello", self.alice.view.take())
        self.assertNotIn("hello", carol.view.text)
        self.assertEqual((2, 1), (self.sends(), len(self.rows())))

    def test_missed_new_identity(self) -> None:
        """Who seals for an identity that is no more learns it: an open room goes on without it, other talk waits."""
        self.network.changes.append(self.events("member"))
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.network.changes.clear()
        self.assertEqual(Exit.OK, self.alice.exit("/send hello"))
        self.assertIn("The identity of bob changed", self.alice.view.text)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob psst"))
        self.assertNotIn("hello", self.bob.view.text)

    def test_missed_new_device(self) -> None:
        """Who missed that somebody has a new device learns it with the members, before the next message."""
        self.network.changes.append(self.events("member"))
        self.client("elsewhere").type(f"/login bob {PASSWORD}")
        self.network.changes.clear()
        self.alice.type("/members")
        line = "* bob uses a new device, signed by the identity you know."
        self.assertEqual([line, "[general] <alice> hello"], self.alice.type("/send hello"))

    def test_other_device(self) -> None:
        """What one device sends, the other shows, once; what it joins and leaves, too."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        other.view.take()
        self.alice.type("/send hello")
        self.assertEqual(["[general] <alice> hello"], other.view.take())
        self.registered("carol", "attic").type("/send before")
        self.alice.type("/join attic")
        self.alice.type("/send new here")
        self.assertEqual(["[attic] * alice joined", "[attic] <alice> new here"], other.view.take())
        self.alice.type("/leave attic")
        self.assertEqual("[attic] * alice left", other.view.take()[-1])
        self.assertEqual(["general"], other.core.conversations.rooms())

    def test_first_contact_in_a_room(self) -> None:
        """People met for the first time by joining are remembered without a word: the room's log names them."""
        carol = self.registered("carol")
        self.assertEqual(
            [f"You are in general, {OPEN}. (3 members)", "What you type goes there, sealed for its members."],
            carol.type("/join general"),
        )
        self.assertEqual(["bob (member, not compared)"], carol.type("/members")[2:3])

    def test_many_readers(self) -> None:
        """For many readers the sealing is done in a thread, and they all read it."""
        crowd = [self.registered(f"user{number}", "general") for number in range(7)]
        self.alice.threads.held = True
        sending = self.alice.start("/send hello")
        self.assertNoResult(sending)
        self.alice.threads.held = False
        while self.alice.threads.waiting:
            self.alice.threads.run_next()
        self.settle()
        self.successResultOf(sending)
        for client in crowd:
            self.assertEqual(["[general] <alice> hello"], client.view.take()[-1:])


class ShownOnceTests(TalkCase):
    """Tests for what a bad connection or server does to what is shown."""

    def test_duplicate(self) -> None:
        """An event that comes twice is shown once."""
        self.alice.type("/send one")
        event = next(said for said in reversed(self.bob.wire.told) if said.get("event") == "message")
        for _ in range(2):
            self.bob.wire.say(m.StoredMessage(**self.struct(event)))
        self.settle()
        self.assertEqual(["[general] <alice> one"], self.bob.view.take())

    def struct(self, event: Said) -> Said:
        """An event's fields as they are in a packet."""
        import json

        import msgspec

        decoded = msgspec.json.decode(json.dumps(event), type=m.StoredMessage)
        return {name: getattr(decoded, name) for name in decoded.__struct_fields__}

    def test_gap(self) -> None:
        """Messages that were not given in their turn are fetched before the next is shown."""
        self.network.changes.append(self.events("message"))
        self.alice.type("/send one")
        self.alice.type("/send two")
        self.network.changes.clear()
        self.assertEqual([], self.bob.view.take())
        self.alice.type("/send three")
        self.assertEqual([f"[general] <alice> {text}" for text in ("one", "two", "three")], self.bob.view.take())

    def test_gap_before_own(self) -> None:
        """Also where what comes next is one's own."""
        self.network.changes.append(self.events("message"))
        self.alice.type("/send one")
        self.network.changes.clear()
        self.assertEqual(["[general] <alice> one", "[general] <bob> two"], self.bob.type("/send two"))

    def test_big_gap(self) -> None:
        """A gap of more than a page is fetched page by page."""
        self.network.changes.append(self.events("message"))
        for number in range(7):
            self.alice.type(f"/send {number}")

        def shorter(said: Said) -> Said:
            return said | {"messages": said["messages"][:3], "more": True} if "messages" in said else said

        self.network.changes = [shorter]
        self.alice.type("/send 7")
        self.assertEqual([f"[general] <alice> {number}" for number in range(8)], self.bob.view.take())
        self.assertEqual(3, self.bob.wire.commands.count("history"))

    def test_gap_and_the_connection_breaks(self) -> None:
        """If the connection breaks while a gap is fetched, everything comes once after it is back."""
        self.network.changes.append(self.events("message"))
        self.alice.type("/send one")
        self.network.changes.clear()
        self.network.faults["history"] = ["lost"]
        self.alice.type("/send two")
        self.assertEqual(["[general] <alice> one", "[general] <alice> two"], self.shown_after(self.bob))

    def shown_after(self, client: ChatClient) -> list[str]:
        """The messages a client shows in the next minute."""
        self.pass_time(60)
        return [line for line in client.view.take() if line.startswith("[")]

    def test_cursor(self) -> None:
        """What was shown is noted on disk and at the server a little later, once for many, and not shown again."""
        for text in ("one", "two", "three"):
            self.alice.type(f"/send {text}")
        self.assertNotIn("read", self.bob.wire.commands)
        self.pass_time(1)
        self.assertEqual(1, self.bob.wire.commands.count("read"))
        fresh = self.again(self.bob)
        self.assertNotIn("<alice>", fresh.view.text)
        (record,) = [r for r in self.do(self.store.conversations("bob")) if r.room == "general"]
        self.assertEqual(3, record.read)

    def test_killed_before_it_was_noted(self) -> None:
        """What was shown and not noted is shown again, rather than never."""
        self.alice.type("/send one")
        self.assertEqual(1, len(self.bob.view.take()))
        fresh = self.again(self.bob)
        self.assertIn("[general] <alice> one", fresh.view.text)

    def test_left_in_peace(self) -> None:
        """A client that is left by `close` notes at once what it has shown."""
        self.alice.type("/send one")
        self.start(self.bob.core.close(30.0))
        self.settle()
        fresh = self.again(self.bob)
        self.assertNotIn("<alice>", fresh.view.text)

    def test_new_directory_starts_at_the_marker(self) -> None:
        """In an empty directory what comes is what is newer than the account's read marker, not all there ever was."""
        self.alice.type("/send one")
        self.pass_time(1)
        self.bob.quit()
        self.alice.type("/send two")
        fresh = self.client("elsewhere")
        fresh.type(f"/login bob {PASSWORD}")
        self.assertEqual(["two"], [i.text for i in fresh.view.items if isinstance(i, Message)])

    def test_earlier_messages(self) -> None:
        """Messages from before one joined are one line, at the joining and in the history."""
        for number in range(5):
            self.alice.type(f"/send {number}")
        carol = self.registered("carol")
        self.assertEqual("[general] 5 earlier messages, from before you joined", carol.type("/join general")[2])
        self.alice.type("/send welcome")
        carol.view.take()
        lines = carol.type("/history general")
        self.assertEqual("[general] 5 messages sent before you joined", lines[0])
        self.assertEqual(2, len(lines))

    def test_restored_server(self) -> None:
        """A server put back to an older state, as its operator is told to, is noticed; all goes on."""
        self.put_back(epoch=True)
        self.assertEqual(Exit.OK, self.alice.exit("/send two again"))
        self.assertIn("[general] <alice> two again", self.bob.view.take()[-1])
        self.assertEqual([1, 2], [row.seq for row in self.rows()])
        self.assertNotIn("stopped", self.bob.view.text)

    def test_restored_server_in_secret(self) -> None:
        """One that says that it lost nothing gets nothing more, until it has a new epoch."""
        self.put_back(epoch=False)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send two again"))
        self.assertIn("! The server says that your next message to general is number 2", self.alice.view.take()[-1])
        self.alice.type("/continue general")
        self.assertEqual(1, len(self.rows()))
        self.stop_server()
        self.start_server(epoch=True)
        self.pass_time(40)
        self.alice.type("/continue general")
        self.assertEqual(2, len(self.rows()))
        self.assertIn("[general] <alice> two again", self.bob.view.take()[-1])

    def test_restored_server_while_it_waits(self) -> None:
        """What was on its way when the server was put back leaves afterwards, sealed for the place it has now."""
        for fault in ("lost", "unanswered"):
            self.alice.type("/send one")
            self.pass_time(1)
            self.stop_server()
            before = self.path.read_bytes()
            self.start_server()
            self.pass_time(40)
            self.alice.type("/send two")
            self.pass_time(1)
            self.network.faults["send"] = [fault]
            sending = self.alice.start(f"/send {fault}")
            self.stop_server()
            self.path.write_bytes(before)
            self.start_server(epoch=True)
            self.pass_time(60)
            self.assertEqual(Exit.OK, self.successResultOf(sending), self.alice.view.text)
            self.assertTrue(self.bob.view.text.endswith(fault), self.bob.view.text)
            self.assertNotIn("stopped", self.alice.view.text + self.bob.view.text)

    def put_back(self, *, epoch: bool) -> None:
        """Three messages are sent; then the server is as it was after the first, in another epoch or not."""
        self.alice.type("/send one")
        self.pass_time(1)
        self.stop_server()
        before = self.path.read_bytes()
        self.start_server()
        self.pass_time(40)
        for text in ("two", "three"):
            self.alice.type(f"/send {text}")
        self.pass_time(1)
        self.stop_server()
        self.path.write_bytes(before)
        self.start_server(epoch=epoch)
        self.bob.view.take()
        self.pass_time(40)
        self.assertIn("is read again", "\n".join(self.bob.view.take()))

    def stop_server(self) -> None:
        """The server stops."""
        for wire in self.network.wires:
            wire.cut()
        self.settle()
        self.successResultOf(self.store.close())
        for file in self.path.parent.glob(f"{self.path.name}-*"):
            file.unlink()

    def start_server(self, *, epoch: bool = False) -> None:
        """It starts again, in a new epoch or in the one before."""
        if epoch:
            with closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute("UPDATE meta SET epoch = lower(hex(randomblob(16)))")
        self.store = self.make_store()
        self.serve()


class RoomDeletedTests(TalkCase):
    """Tests for a room that the server's operator deletes."""

    DELETED = "The operator of this server deleted the room general, with all its messages."
    BACK = ("* You are no longer in general. No room is active: /switch ROOM.", "* Connected again.")

    def delete(self) -> None:
        """The operator does it."""
        for user in self.do(self.store.remove_room("general")).members:
            for session in self.parts.logins.of(user):
                session.end("room_deleted", self.DELETED)
        self.settle()

    def test_told(self) -> None:
        """It is told as what happened, not as a connection that is lost, to all who were in it."""
        self.bob.view.take()
        self.delete()
        self.pass_time(40)
        for client in (self.alice, self.bob):
            self.assertEqual([f"* {self.DELETED} Connecting again.", *self.BACK], client.view.take())

    def test_loss_after_it(self) -> None:
        """A server that then stays away is not told besides; the next loss is."""
        self.delete()
        self.away()
        self.pass_time(40)
        self.assertEqual([f"* {self.DELETED} Connecting again."], self.alice.view.take())
        self.back()
        self.assertEqual([*self.BACK], self.alice.view.take())
        self.away()
        self.assertIn("* The connection is lost: the connection broke.", self.alice.view.take()[-1])

    def test_while_something_is_asked(self) -> None:
        """Who waits for an answer is told that none came; the news itself come once."""
        self.network.changes.append(lambda said: said if "event" in said else None)
        self.alice.start("/history")
        self.settle()
        self.network.changes.clear()
        self.delete()
        self.assertEqual(
            [
                "! The connection was lost before the server answered: look whether it was done, or type it again",
                f"* {self.DELETED} Connecting again.",
            ],
            self.alice.view.take(),
        )

    def test_during_a_login(self) -> None:
        """Who is not in yet is told that the login got no answer; the next one gets in, without the room."""
        fresh = self.again(self.alice, login=False, interactive=False)
        self.network.changes.append(lambda said: None if "token" in said else said)
        fresh.start(f"/login alice {PASSWORD}")
        self.settle()
        self.network.changes.clear()
        self.delete()
        self.assertIn("! The connection was lost before the server answered", fresh.view.take()[-1])
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertEqual([], list(fresh.core.conversations.rooms()))


class AwayTests(TalkCase):
    """Tests for a server that is away, and comes back."""

    def test_told_once(self) -> None:
        """However long and often it is tried, the loss is one line, and the return another."""
        self.alice.view.take()
        self.away()
        self.pass_time(300)
        (line,) = self.alice.view.take()
        self.assertEqual(
            "* The connection is lost: the connection broke. It is tried again; what you type is kept.", line
        )
        self.back()
        self.assertEqual(["* Connected again."], self.alice.view.take())
        self.away()
        self.assertEqual([line], self.alice.view.take())

    def test_what_was_typed(self) -> None:
        """What is typed meanwhile is kept and leaves in its order; it is shown when it is stored."""
        self.alice.view.take()
        self.away()
        for text in ("one", "two", "three"):
            self.assertNoResult(self.alice.start(f"/send {text}"))
        self.assertEqual(1, len(self.alice.view.take()))
        self.back()
        lines = [f"[general] <alice> {text}" for text in ("one", "two", "three")]
        self.assertEqual(lines, [line for line in self.alice.view.take() if line.startswith("[")])
        self.assertEqual(3, len(self.rows()))

    def test_what_was_missed(self) -> None:
        """What others wrote meanwhile comes before what one typed oneself, everything once."""
        self.bob.wire.cut()
        self.network.failure = ConnectionError()
        self.settle()
        for number in range(3):
            self.alice.type(f"/send {number}")
        self.bob.start("/send mine")
        self.bob.view.take()
        self.back()
        lines = [line for line in self.bob.view.take() if line.startswith("[")]
        self.assertEqual([*(f"[general] <alice> {n}" for n in range(3)), "[general] <bob> mine"], lines)

    def test_every_room(self) -> None:
        """All rooms are heard again, without joining them anew: messages, and who comes and goes."""
        self.alice.type("/join attic")
        self.bob.type("/join attic")
        self.away()
        self.back()
        self.bob.view.take()
        carol = self.registered("carol", "general", "attic")
        carol.type("/send hello attic")
        self.assertEqual(
            ["[general] * carol joined", "[attic] * carol joined", "[attic] <carol> hello attic"],
            self.bob.view.take(),
        )
        self.assertEqual([], [w for w in self.network.wires[-3:-1] if "join" in w.commands])

    def test_restarted_server(self) -> None:
        """A server that lost its memory, not its disk, is the same to everybody."""
        self.away()
        self.alice.start("/send while away")
        self.serve()
        self.back()
        self.assertEqual(["[general] <alice> while away"], [i for i in self.bob.view.take() if "<" in i])

    def test_unanswered(self) -> None:
        """A message whose answer got lost is found in the history: it is settled, shown once, and not sent again."""
        self.network.faults["send"] = ["unanswered"]
        sending = self.alice.start("/send hello")
        self.assertNoResult(sending)
        self.pass_time(10)
        self.assertEqual(Exit.OK, self.successResultOf(sending))
        self.assertEqual((1, 1), (self.sends(), len(self.rows())))
        self.assertEqual(1, self.alice.view.text.count("[general] <alice> hello"))
        self.assertEqual(1, self.bob.view.text.count("[general] <alice> hello"))
        self.assertEqual(Exit.OK, self.alice.exit("/send next"))

    def test_request_lost(self) -> None:
        """A message that got lost leaves again, the same bytes under the same mid."""
        self.network.faults["send"] = ["lost"]
        sending = self.alice.start("/send hello")
        self.pass_time(10)
        self.assertEqual(Exit.OK, self.successResultOf(sending))
        first, again = [r for w in self.network.wires for r in w.asked if r["cmd"] == "send"]
        self.assertEqual(first | {"id": 0}, again | {"id": 0})
        self.assertEqual(1, len(self.rows()))

    def test_private_unanswered(self) -> None:
        """The same for the first private message, whose conversation is not known yet."""
        self.network.faults["pm"] = ["unanswered"]
        sending = self.alice.start("/pm bob hello")
        self.pass_time(10)
        self.assertEqual(Exit.OK, self.successResultOf(sending))
        self.assertEqual(1, self.sends())
        self.assertEqual(1, self.alice.view.text.count("[pm → bob] hello"))
        self.assertEqual(1, self.bob.view.text.count("[pm] <alice> hello"))

    def test_killed(self) -> None:
        """A client that was killed with messages on their way sends them at its next login, in order, each once."""
        self.network.faults["send"] = ["unanswered"]
        for text in ("one", "two", "three"):
            self.alice.start(f"/send {text}")
        self.assertEqual(1, len(self.rows()))
        fresh = self.again(self.alice)
        self.settle()
        self.assertEqual(3, len(self.rows()))
        self.assertIn("messages of an earlier time are being sent", fresh.view.text)
        self.assertEqual(
            [f"[general] <alice> {text}" for text in ("one", "two", "three")],
            [line for line in self.bob.view.take() if "<alice>" in line],
        )
        self.assertEqual(["one", "two", "three"], [i.text for i in fresh.view.items if isinstance(i, Message)])

    def test_session_ended(self) -> None:
        """Where the session is not known any more, it is said what to do; nothing is tried again, and nothing lost."""
        self.away()
        self.alice.start("/send kept")
        self.network.refuse("resume", BAD_SESSION)
        self.back()
        first = [c for c in (self.alice, self.bob) if not c.core.user]
        self.assertEqual(1, len(first))
        (line,) = [line for line in first[0].view.take() if line.startswith("!")]
        self.assertEqual("! That session has ended. Log in again with /login. What you wrote is kept.", line)
        self.assertIsNone(first[0].core.link)
        self.alice.type("/logout")
        self.assertEqual(Exit.OK, self.alice.exit(f"/login alice {PASSWORD}"))
        self.pass_time(1)
        self.assertEqual(1, len(self.rows()))

    def test_not_up_to_it_yet(self) -> None:
        """A server that comes back and has no time yet is tried again: nobody is logged out."""
        for code in (BUSY, TRY_AGAIN, RATE_LIMITED):
            self.alice.wire.cut()
            self.network.refuse("resume", code, times=3, retry_after=1.0)
            self.back(8)
            self.assertEqual(("alice", "bob"), (self.alice.core.user, self.bob.core.user), code.name)
            self.assertEqual(Exit.OK, self.alice.exit("/send hello"))

    def test_breaks_while_it_catches_up(self) -> None:
        """A connection that breaks again before all had come is told as one return, and nothing comes twice."""
        self.alice.view.take()
        self.alice.wire.cut()
        self.settle()
        self.bob.type("/send one")
        changes: list[Any] = [self.events("live")]
        self.network.changes = changes
        self.pass_time(5)
        self.alice.wire.cut()
        self.settle()
        changes.clear()
        self.pass_time(5)
        lines = self.alice.view.take()
        self.assertEqual(1, lines.count("* Connected again."))
        self.assertEqual(1, lines.count("[general] <bob> one"))
        self.assertEqual(1, sum("The connection is lost" in line for line in lines))

    def test_nothing_is_sent_before_it_has_caught_up(self) -> None:
        """What is typed waits for the login and for what was missed, on whichever connection that comes."""
        self.alice.threads.held = True
        self.bob.type("/send one")
        self.alice.wire.cut()
        changes: list[Any] = [lambda said: None if "token" in said else said]
        self.network.changes = changes
        self.pass_time(2)
        self.alice.start("/send two")
        self.assertEqual(["resume"], self.alice.wire.commands)
        changes[:] = [self.events("live")]
        self.alice.wire.cut()
        self.pass_time(2)
        self.alice.threads.held = False
        while self.alice.threads.waiting:
            self.alice.threads.run_next()
        self.settle()
        self.assertNotIn("send", self.alice.wire.commands)
        changes.clear()
        self.alice.wire.cut()
        self.pass_time(2)
        self.assertEqual(["one", "two"], [i.text for i in self.alice.view.items if isinstance(i, Message)])

    def test_caught_up_on_a_connection_that_is_gone(self) -> None:
        """What was caught up on one connection, and shown only after it broke, does not count on the next."""
        self.alice.wire.cut()
        self.settle()
        self.bob.type("/send one")
        self.alice.start("/send two")
        self.alice.threads.held = True
        self.pass_time(2)  # all has come; what it says is still to be opened
        changes: list[Any] = [self.events("live")]
        self.network.changes = changes
        self.alice.wire.cut()
        self.pass_time(2)
        self.alice.threads.held = False
        while self.alice.threads.waiting:
            self.alice.threads.run_next()
        self.settle()
        self.assertNotIn("send", self.alice.wire.commands)
        changes.clear()
        self.alice.wire.cut()
        self.pass_time(2)
        self.assertEqual(["one", "two"], [i.text for i in self.alice.view.items if isinstance(i, Message)])

    def test_login_breaks_while_it_catches_up(self) -> None:
        """A login whose connection breaks before all had come goes on when it is back."""
        self.alice.quit()
        self.bob.type("/send one")
        fresh = self.client("alice", interactive=False)
        changes: list[Any] = [self.events("live")]
        self.network.changes = changes
        login = fresh.start(f"/login alice {PASSWORD}")
        self.assertNoResult(login)
        fresh.wire.cut()
        changes.clear()
        self.pass_time(10)
        self.assertEqual(Exit.OK, self.successResultOf(login))
        self.assertEqual(1, fresh.view.text.count("[general] <bob> one"))

    def test_replaced(self) -> None:
        """A copy of this client that logs in takes its place; this one says so and does not fight back."""
        copy = self.home / "copy"
        shutil.copytree(self.home / "alice", copy)
        second = self.client("copy")
        second.type(f"/login alice {PASSWORD}")
        self.pass_time(60)
        self.assertEqual(("", "alice"), (self.alice.core.user, second.core.user))
        self.assertIn("! Disconnected: This device connected again from elsewhere", self.alice.view.text)
        wires = len(self.network.wires)
        self.pass_time(120)
        self.assertEqual(wires, len(self.network.wires))

    def test_another_server(self) -> None:
        """When another server answers afterwards, nothing is said to it, and /trust server is what accepts it."""
        self.away()
        self.serve(signing_key("another server"))
        self.back()
        self.assertEqual([], self.network.wires[-1].asked)
        lines = self.alice.view.take()
        self.assertIn("type /trust server. Nothing was sent to it.", lines[-1])
        self.assertEqual("", self.alice.core.user)
        self.alice.view.answers = ["yes"]
        self.assertIn("The server is trusted.", self.alice.type("/trust server")[-1])
        self.assertEqual(Exit.OK, self.alice.exit(f"/register carol {PASSWORD}"))

    def test_same_server_elsewhere(self) -> None:
        """The same server at another address is the same account, by the id of the line."""
        line = ConnectLine("127.0.0.2", 999, SRV, tls=False)
        self.alice.quit()
        fresh = self.client("alice", line=line)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_nobody_logged_in(self) -> None:
        """A connection that is lost before a login is given up without a word; the next command makes another."""
        fresh = self.client("fresh")
        self.network.faults["register"] = ["lost"]
        self.assertEqual(Exit.NETWORK, fresh.exit(f"/register carol {PASSWORD}"))
        wires = len(self.network.wires)
        self.pass_time(120)
        self.assertEqual((wires, None), (len(self.network.wires), fresh.core.link))
        self.assertEqual(Exit.OK, fresh.exit(f"/register carol {PASSWORD}"))

    def test_commands_while_away(self) -> None:
        """Commands that need the server say that it is away; they change nothing."""
        self.away()
        for line in ("/rooms", "/join attic", "/leave general", "/who", "/history", "/backup code"):
            self.alice.view.answers = [PASSWORD]
            self.assertEqual(Exit.NETWORK, self.alice.exit(line), line)
        self.assertEqual(["general"], self.alice.core.conversations.rooms())
        self.back()
        self.assertEqual(Exit.OK, self.alice.exit("/send hello"))

    def test_first_pm_while_away(self) -> None:
        """A private message typed meanwhile to somebody never met leaves afterwards, or is told not to."""
        self.registered("carol")
        self.away()
        self.alice.start("/pm carol hello")
        nobody = self.alice.start("/pm nobody hello")
        self.back()
        self.assertEqual(Exit.NOT_THERE, self.successResultOf(nobody))
        self.assertIn("[pm → carol] hello", self.alice.view.text)
        self.assertIn("! There is no user nobody here. Check the spelling. Not sent: hello", self.alice.view.text)
        assert self.alice.core.outbox is not None
        self.assertEqual([], self.alice.core.outbox.pending())

    def test_left_meanwhile(self) -> None:
        """A message to a room that one left from elsewhere meanwhile is told as not sent."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        self.alice.wire.cut()
        sending = self.alice.start("/send hello")
        other.type("/leave general")
        self.pass_time(10)
        self.assertEqual(Exit.NOT_THERE, self.successResultOf(sending))
        self.assertIn("Not sent: hello", self.alice.view.text)
        self.assertEqual([], self.alice.core.conversations.rooms())

    def test_status(self) -> None:
        """The view is told how the link is and what waits."""
        self.alice.view.states.clear()
        self.away()
        self.alice.start("/send hello")
        links = [state.link for state in self.alice.view.states]
        self.assertEqual("connecting", links[0])
        self.assertEqual("offline", links[1])
        self.assertEqual(1, self.alice.view.states[-1].waiting)
        self.back()
        last = self.alice.view.states[-1]
        self.assertEqual(("alice", "general", "online", 0), (last.user, last.room, last.link, last.waiting))


class ChangedTests(TalkCase):
    """Tests for somebody whose identity changed."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("/join attic")
        self.alice.type("/pm bob before")
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.alice.view.take()

    def test_held(self) -> None:
        """What is meant for them alone waits; an open room goes on, and nothing of it is for the new identity."""
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob psst"))
        self.assertEqual(Exit.OK, self.alice.exit("/send only me here"))
        self.alice.type("/switch general")
        self.assertEqual(Exit.OK, self.alice.exit("/send hello"))
        self.assertEqual(2, self.sends() - 1)
        self.assertNotIn("hello", self.bob.view.text)
        self.assertIn("bob (member, identity changed)", self.alice.type("/members"))

    def test_trusted(self) -> None:
        """After /trust it leaves in its order, and they read it; a room they have to join anew."""
        for line in ("/pm bob one", "/pm bob two", "/switch general", "/send three"):
            self.alice.exit(line)
        self.bob.view.take()
        self.alice.type("/trust bob")
        self.assertEqual(Exit.OK, self.alice.exit("/trust bob yes"))
        private = [i.text for i in self.bob.view.items if isinstance(i, Message) and i.where.startswith("@")]
        self.assertEqual(["before", "one", "two"], private)
        self.bob.type("/trust alice")
        self.bob.type("/join general")
        self.alice.type("/send four")
        self.assertEqual(["[general] <alice> four"], self.bob.view.take())
        self.assertEqual(["[general] <bob> five"], self.bob.type("/send five"))
        self.assertEqual("[general] <bob> five", self.alice.view.take()[-1])

    def test_restart(self) -> None:
        """It waits over a restart; the pin is on disk."""
        self.alice.exit("/pm bob one")
        fresh = self.again(self.alice)
        self.settle()
        self.assertIn("The identity of bob changed", fresh.view.text)
        self.assertNotIn("one", self.bob.view.text)
        fresh.type("/trust bob")
        self.assertEqual(Exit.OK, fresh.exit("/trust bob yes"))
        self.assertIn("[pm] <alice> one", self.bob.view.text)

    def test_not_shown(self) -> None:
        """What they write is not shown until /trust; what they wrote before is marked in the history."""
        self.bob.type("/join general")
        self.bob.type("/send it is me")
        self.assertEqual(
            [
                "[general] * bob joined",
                "[general] 1 message not shown: bob's identity changed (/verify bob compares the new one)",
            ],
            self.alice.view.take(),
        )
        self.alice.type("/trust bob")
        self.alice.type("/trust bob yes")
        self.assertIn("<bob> it is me", self.alice.type("/history general")[-1])


class SharingTests(TalkCase):
    """Tests for what others are told of this client, and what it wants to be told."""

    def synced(self, client: ChatClient) -> dict[str, Any]:
        """The newest sync of a client."""
        return [request for request in client.wire.asked if request["cmd"] == "sync"][-1]

    def test_nothing_unasked(self) -> None:
        """Without a word of its user a client shares nothing."""
        sync = self.synced(self.alice)
        self.assertNotIn("presence", sync)
        self.assertNotIn("typing", sync)
        self.assertFalse(self.parts.broker.online("alice"))

    def test_shared(self) -> None:
        """What is wished holds from the next sync on, and again whenever the connection is back."""
        for name in ("presence", "typing"):
            self.alice.core.preferences.choose(name, "on")
        for _ in range(2):
            self.alice.wire.cut()
            self.pass_time(5)
            self.assertEqual((True, True), (self.synced(self.alice)["presence"], self.synced(self.alice)["typing"]))
            self.assertTrue(self.parts.broker.online("alice"))

    def test_another_mind(self) -> None:
        """A new wish is told at once, and nothing else comes of it: no message twice, and what is typed goes out."""
        self.bob.type("/send general before")
        self.alice.view.take()
        for wish in ("on", "off"):
            self.assertEqual([f"presence = {wish}"], self.alice.type(f"/set presence {wish}"))
            self.assertEqual(wish == "on", self.parts.broker.online("alice"))
        self.assertTrue(self.alice.core.synced)
        self.alice.type("/send general after")
        self.assertEqual(2, len(self.rows()))

    def test_nothing_shown(self) -> None:
        """That somebody types, and notes of another device, put no line on the screen."""
        for event in (m.TypingEvent(room="general", user="bob"), m.NoteEvent(name="0" * 32, version=1, blob=b"x")):
            self.alice.wire.say(event)
            self.settle()
        self.assertEqual([], self.alice.view.take())


class CloseTests(TalkCase):
    """Tests for leaving."""

    def close(self, client: ChatClient, timeout: float = 30.0) -> Any:
        """Leaves, as a view does."""
        result = self.start(client.core.close(timeout))
        self.settle()
        return result

    def test_nothing_waits(self) -> None:
        """With nothing on its way it is done at once; the account is free, the connection closed."""
        wire = self.alice.wire
        self.assertEqual(Exit.OK, self.successResultOf(self.close(self.alice)))
        self.assertEqual((False, None, ""), (wire.open, self.alice.core.link, self.alice.core.user))
        self.assertEqual(Exit.OK, self.client("alice").exit(f"/login alice {PASSWORD}"))

    def test_waits(self) -> None:
        """What is on its way is waited for."""
        self.network.refuse("send", RATE_LIMITED, retry_after=9.0)
        self.alice.start("/send hello")
        closing = self.close(self.alice)
        self.assertNoResult(closing)
        self.pass_time(10)
        self.assertEqual(Exit.OK, self.successResultOf(closing))
        self.assertEqual(1, len(self.rows()))

    def test_gives_up(self) -> None:
        """After the time it names what was not acknowledged, and that it is kept."""
        self.away()
        for line in ("/send hello", "/send world", "/pm bob psst"):
            self.alice.start(line)
        closing = self.close(self.alice, 5.0)
        self.pass_time(4.9)
        self.assertNoResult(closing)
        self.pass_time(0.2)
        self.assertEqual(Exit.NETWORK, self.successResultOf(closing))
        self.assertEqual(
            "! Not acknowledged by the server, kept for the next time:"
            " to general: hello; to general: world; to @bob: psst",
            self.alice.view.take()[-1],
        )
        self.network.come_back()
        self.client("alice").type(f"/login alice {PASSWORD}")
        self.assertEqual(2, len(self.rows()))

    def test_held_is_not_waited_for(self) -> None:
        """What waits for its author's word is not waited for: they were told."""
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob hello"))
        self.assertEqual(Exit.OK, self.successResultOf(self.close(self.alice)))

    def test_script(self) -> None:
        """A script waits for each message no longer than its patience, in all: then it names what is left and ends."""
        self.alice.quit()
        script = self.client("alice", interactive=False, timeout=7.0)
        script.type(f"/login alice {PASSWORD}")
        script.type("/join general")
        self.network.failure = ConnectionError()
        script.wire.cut()
        sending = script.start("/send hello")
        self.pass_time(6.9)
        self.assertNoResult(sending)
        self.pass_time(0.2)
        self.assertEqual(Exit.NETWORK, self.successResultOf(sending))
        closing = self.close(script)
        self.assertEqual(Exit.NETWORK, self.successResultOf(closing))
        self.assertIn("to general: hello", script.view.take()[-1])

    def test_nobody(self) -> None:
        """Who never logged in leaves at once."""
        self.assertEqual(Exit.OK, self.successResultOf(self.close(self.client("nobody"))))

    def test_logout_and_another(self) -> None:
        """What waits of one account is not sent under the next one's name; it waits for its own."""
        self.registered("carol", "general").quit()
        self.alice.type("/history")
        self.network.refuse("send", RATE_LIMITED, retry_after=9.0)
        sending = self.alice.start("/send mine")
        self.alice.type("/logout")
        self.assertEqual(Exit.NETWORK, self.successResultOf(sending))
        self.alice.type(f"/login carol {PASSWORD}")
        self.pass_time(20)
        self.assertEqual([], self.rows())
        self.alice.type("/logout")
        self.alice.type(f"/login alice {PASSWORD}")
        self.assertEqual(["alice"], [row.sender for row in self.rows()])

    def test_logout_while_it_is_shown(self) -> None:
        """A command that waits for something to be shown is not left hanging by a logout."""
        self.bob.threads.held = True
        self.alice.type("/send one")
        sending = self.bob.start("/send two")
        self.assertNoResult(sending)
        self.bob.wire.say(m.Bye(reason="session_ended", msg="Over."))
        self.bob.wire.cut()
        self.settle()
        self.successResultOf(sending)


class DiskTests(TalkCase):
    """Tests for this machine's disk."""

    def fill(self, client: ChatClient, full: bool = True) -> None:
        """The disk is full, or has room again."""
        connection = client.pools[-1].connection
        connection.execute(f"PRAGMA max_page_count = {1 if full else 1_000_000}")

    def test_full(self) -> None:
        """A message that the disk does not take is not sent, and that is said; with room it goes on."""
        self.fill(self.alice)
        status = self.alice.exit("/send " + "x" * 9000)
        self.assertEqual((Exit.FIXABLE, 0), (status, self.sends()))
        self.assertIn("This machine's disk did not take it", self.alice.view.take()[-1])
        self.fill(self.alice, full=False)
        self.assertEqual(Exit.OK, self.alice.exit("/send hello"))
        self.assertEqual(1, len(self.rows()))

    def test_full_when_it_is_sealed(self) -> None:
        """The same where it took the text, and not the sealed bytes: it waits."""
        self.network.failure = ConnectionError()
        self.alice.wire.cut()
        sending = self.alice.start("/send " + "x" * 9000)
        self.fill(self.alice)
        self.back()
        self.assertEqual(0, self.sends())
        self.assertEqual(Exit.FIXABLE, self.successResultOf(sending))
        self.fill(self.alice, full=False)
        self.assertEqual(Exit.OK, self.alice.exit("/send world"))
        self.assertEqual(["x" * 9000, "world"], [i.text for i in self.bob.view.items if isinstance(i, Message)])

    def test_not_ours(self) -> None:
        """A directory that cannot be used is told, and nothing is half made."""
        client = self.client("carol")
        (client.directory.path / "servers").write_bytes(b"")
        self.assertEqual(Exit.FIXABLE, client.exit(f"/register carol {PASSWORD}"))
        self.assertIn("This machine does not let it be done: File exists", client.view.take()[-1])
        self.assertIsNone(self.do(self.store.account("carol")))


class SubmitTests(TalkCase):
    """Tests for typed lines."""

    def test_nothing(self) -> None:
        """An empty line is nothing."""
        for line in ("", "   ", "\n"):
            self.assertEqual(([], Exit.OK), (self.alice.type(line), self.alice.exit(line)))

    def test_misfit(self) -> None:
        """A line that is no command is never sent; the nearest command is named."""
        self.assertEqual(Exit.USAGE, self.alice.exit("/sned hello"))
        self.assertIn("Did you mean /send?", self.alice.view.take()[-1])
        self.assertEqual(0, self.sends())

    def test_refusal(self) -> None:
        """A refusal is shown in the server's words, with the status of its code."""
        self.network.refuse("act", NOT_MEMBER, room="attic")
        self.assertEqual(Exit.NOT_THERE, self.alice.exit("/join attic"))
        self.assertEqual("! You are not in attic. Type /join attic first.", self.alice.view.take()[-1])

    def test_lost(self) -> None:
        """So is a connection that breaks under a command."""
        self.network.faults["rooms"] = ["unanswered"]
        self.assertEqual(Exit.NETWORK, self.alice.exit("/rooms"))
        self.assertIn("! The connection broke", self.alice.view.text)

    def test_complete(self) -> None:
        """Completions know one's rooms and the people one has met."""
        self.assertEqual((3, ["general"]), self.alice.core.orders.complete("/switch gen"))
        self.assertEqual((2, ["bob"]), self.alice.core.orders.complete("/pm bo"))
        self.assertEqual((1, []), self.client("x").core.orders.complete("/pm b"))

    def test_request_without_connection(self) -> None:
        """Without a connection a request fails at once."""
        self.failureResultOf(self.start(self.client("x").core.request(m.Ping())), LinkLost)

    def test_unshown(self) -> None:
        """A message that is not sealed for this account is one line with the reason; the talk goes on."""

        def change(said: Said) -> Said:
            if said.get("event") == "message":
                package = said["package"]
                return said | {"package": package | {"kids": {}, "encrypted_keys": {}}}
            return said

        self.network.changes.append(change)
        self.alice.type("/send one")
        self.network.changes.clear()
        self.alice.type("/send two")
        self.assertEqual(
            [
                Unshown(
                    "general",
                    1,
                    "message{s} not shown: not addressed to you (ask alice whether you were left out on purpose)",
                ),
                Message("general", "alice", "two"),
            ],
            self.bob.view.items[-2:],
        )
