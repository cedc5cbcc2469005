"""Tests for `send` and `listen` on a real core and a real server, in memory."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from securechat.client.core import ChatCore
from securechat.client.script import VerbClient
from securechat.client.slash.common import Mistyped
from securechat.client.verbs.common import Verb, trust_of
from securechat.client.verbs.listen import Listen, Since
from securechat.client.verbs.send import KEPT, Send
from securechat.client.view import Message
from securechat.client.views.script import ScriptView
from securechat.crypto.body import Delete, Edit, React, Text, to_text
from securechat.errors import OVER_QUOTA, Exit
from securechat.wire import limits
from tests.doubles import ADDRESS, PASSWORD, ChatCase, ChatClient, InlineThreads
from tests.unit.test_client_script import MemoryConsole

Record = dict[str, Any]


class Pool(InlineThreads):
    """Threads that are never started: the core of a test has its own."""

    started = False

    def start(self) -> None:
        """As ThreadPool's."""
        self.started = True


class Run:
    """One run of a verb: its client is started; `status` is None until it ended."""

    def __init__(self, case: VerbCase, name: str, verb: Verb, **settings: Any) -> None:
        self.case = case
        self.console = MemoryConsole()
        self.status: Exit | None = None
        self.client = case.client(name)
        self.client.core.start = lambda: None  # type: ignore[method-assign]  # it was, by the test's client
        self.service = VerbClient(
            case.reactor,
            verb,
            line=str(ADDRESS),
            data_dir=str(self.client.directory.path),
            **{"user": name, "password": PASSWORD, "as_json": True, "notices_are_output": True, **settings},
            done=self._ended,
            environ={},
            make_core=self._core,
            make_view=partial(ScriptView, console=self.console),
            pool=Pool(),
        )
        self.service.startService()
        case.settle()

    def _core(self, directory: Any, line: Any, view: ScriptView, **more: Any) -> ChatCore:
        self.client.core.view = view
        return self.client.core

    def _ended(self, status: Exit) -> None:
        self.status = status

    def wait(self) -> Exit:
        """Lets it come to its end; the status."""
        for _ in range(100):
            if self.console.transport.disconnecting and not self.console.closed:
                self.service._view.connectionLost()
            if self.status is not None:
                return self.status
            self.case.pass_time(0.1)
        raise AssertionError("it does not end")

    def records(self, *kinds: str) -> list[Record]:
        """What was printed."""
        found = [json.loads(line) for line in self.console.output.splitlines()]
        return [record for record in found if not kinds or record["type"] in kinds]

    @property
    def texts(self) -> list[str]:
        """The messages' texts."""
        return [record["text"] for record in self.records("message")]

    @property
    def errors(self) -> list[Record]:
        """What went wrong."""
        return [record for record in map(json.loads, self.console.errors.splitlines()) if record["type"] == "error"]


class VerbCase(ChatCase):
    """alice and bob know each other in a room; alice's profile is free for a verb."""

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.registered("bob", "ops")
        alice = self.registered("alice", "ops")
        self.settle()
        self.assertEqual(Exit.OK, self.close(alice))
        self.bob.view.take()

    def close(self, client: ChatClient) -> Exit:
        """A client leaves as it should."""
        closing = Deferred.fromCoroutine(client.core.close(30.0))
        self.pass_time(2)
        return self.successResultOf(closing)

    def run_verb(self, verb: Verb, name: str = "alice", **settings: Any) -> Run:
        """Starts a verb."""
        return Run(self, name, verb, **settings)

    def send(self, where: str = "ops", text: str | None = "hello", **settings: Any) -> tuple[Exit, Run]:
        """Sends to the end."""
        run = self.run_verb(Send(where, text, **settings))
        return run.wait(), run

    def once(self, **settings: Any) -> Run:
        """Listens for one message."""
        run = self.run_verb(Listen(once=True, **settings))
        self.assertEqual(Exit.OK, run.wait())
        return run


class SendTests(VerbCase):
    """Tests for `send`."""

    def test_room(self) -> None:
        """A message reaches the room; it ends well, and prints nothing."""
        status, run = self.send()
        self.assertEqual((Exit.OK, "", []), (status, run.console.output, run.errors))
        self.assertEqual(["[ops] <alice> hello"], self.bob.view.take())
        self.assertIs(False, run.console.reading)

    def test_person(self) -> None:
        """@user is one person, also one never met."""
        self.assertEqual(Exit.OK, self.send("@bob", "psst")[0])
        self.assertIn("[pm] <alice> psst", self.bob.view.take())

    def test_kinds(self) -> None:
        """/me, code, and whom a text calls are what they are for everybody."""
        for kind, lang in (("me", ""), ("code", "sh"), ("text", "")):
            self.send(text="waves @bob", kind=kind, lang=lang)
        found = [item for item in self.bob.view.items if getattr(item, "sender", "") == "alice"]
        self.assertEqual(
            [("me", "", True), ("code", "sh", False), ("text", "", True)],
            [(item.kind, item.lang, item.mention) for item in found],  # type: ignore[union-attr]  # messages
        )

    def test_echo(self) -> None:
        """Asked to, it prints what was stored, with its number and id."""
        (record,) = self.send(echo=True)[1].records()
        self.assertEqual(("hello", 1, True), (record["text"], record["seq"], record["own"]))
        self.assertEqual(64, len(record["id"]))

    def test_not_a_member(self) -> None:
        """A room one is not in is not entered: it says what to type, and sends nothing."""
        for room in ("elsewhere", "nowhere"):
            status, run = self.send(room)
            self.assertEqual(Exit.NOT_THERE, status)
            self.assertEqual("not_member", run.errors[0]["code"])
            self.assertIn(f"echo '/join {room}' | securechat --plain --user alice", run.errors[0]["text"])
        self.assertNotIn("elsewhere", self.bob.type("/rooms"))

    def test_no_such_user(self) -> None:
        """A person that is not there is an error with its status."""
        status, run = self.send("@nobody")
        self.assertEqual((Exit.NOT_THERE, "no_such_user"), (status, run.errors[0]["code"]))

    def test_oneself(self) -> None:
        """Nothing goes to oneself."""
        self.assertEqual(Exit.FIXABLE, self.send("@alice")[0])

    def test_bad_names(self) -> None:
        """What can be no name is refused before anybody connects."""
        for where in ("two words", "@", "#"):
            with self.assertRaises(Mistyped):
                Send(where, "hello")

    def test_bad_texts(self) -> None:
        """What cannot be sent says why, and nothing is sent."""
        for text in ("a\x00b", "a\ud800b", "x" * (limits.MAX_TEXT + 1)):
            status, run = self.send(text=text)
            self.assertEqual(Exit.FIXABLE, status)
            self.assertIn("Nothing was sent.", run.errors[0]["text"])
        self.assertEqual([], self.bob.view.take())

    def test_wrong_password(self) -> None:
        """A wrong password is a refused login, and stands nowhere."""
        run = self.run_verb(Send("ops", "hello"), password="not-it-at-all")
        self.assertEqual(Exit.LOGIN_REFUSED, run.wait())
        self.assertNotIn("not-it-at-all", run.console.output + run.console.errors.decode())

    def test_profile_in_use(self) -> None:
        """An account that is open in another process says so."""
        first = self.run_verb(Listen())
        status, run = self.send()
        self.assertEqual(Exit.FIXABLE, status)
        self.assertIn("is open in another SecureChat", run.errors[0]["text"])
        first.service.end(Exit.OK)
        first.wait()

    def test_server_away(self) -> None:
        """Where nobody answers nothing is kept: the status says that it may be tried again."""
        self.network.go_down()
        status, run = self.send()
        self.assertEqual((Exit.NETWORK, 1), (status, len(run.errors)))
        self.network.come_back()
        self.assertEqual(Exit.OK, self.send(text="later")[0])
        self.pass_time(60)
        self.assertEqual(["[ops] <alice> later"], [x for x in self.bob.view.take() if "<alice>" in x])

    def test_refused(self) -> None:
        """A message that the server refuses for good ends with the refusal's status."""
        self.network.refuse("send", OVER_QUOTA, who="alice has", limit=1)
        status, run = self.send()
        self.assertEqual((OVER_QUOTA.exit, "over_quota"), (status, run.errors[0]["code"]))


class UnacknowledgedTests(VerbCase):
    """Tests for messages whose acknowledgement does not come."""

    def unheard(self, fault: str, text: str = "hello") -> Run:
        """A message that is lost with the connection, or stored and not acknowledged; the server stays away."""
        self.network.faults["send"] = [fault]

        def no_second_one(said: Record) -> Record:
            self.network.failure = ConnectionRefusedError()
            return said

        self.network.changes.append(no_second_one)
        run = self.run_verb(Send("ops", text, timeout=5.0))
        self.network.changes.clear()
        return run

    def test_kept(self) -> None:
        """It says that the message is kept, and ends as a fault of the network."""
        run = self.unheard("lost")
        self.assertEqual(Exit.NETWORK, run.wait())
        self.assertEqual(f"Not acknowledged within 5 s. {KEPT}", run.errors[0]["text"])

    def test_same_again(self) -> None:
        """The same again sends it once, whether the server had it or not."""
        for fault, text in (("lost", "one"), ("unanswered", "two")):
            self.assertEqual(Exit.NETWORK, self.unheard(fault, text).wait())
            self.network.come_back()
            self.assertEqual((Exit.OK, []), (self.send(text=text)[0], self.network.faults["send"]))
            self.assertEqual([f"[ops] <alice> {text}"], self.bob.view.take())

    def test_another(self) -> None:
        """Another one goes behind the one that is kept."""
        self.unheard("lost", "first").wait()
        self.network.come_back()
        self.assertEqual(Exit.OK, self.send(text="second")[0])
        self.assertEqual(["[ops] <alice> first", "[ops] <alice> second"], self.bob.view.take())

    def test_twice_means_twice(self) -> None:
        """What is meant twice is sent twice: only what was left behind counts as a repetition, once."""
        self.unheard("lost").wait()
        self.network.come_back()
        for _ in range(3):
            self.send()
        self.assertEqual(["[ops] <alice> hello"] * 3, self.bob.view.take())

    def test_killed(self) -> None:
        """A process that was killed left it behind, too: whatever starts next sends it, once."""
        self.unheard("unanswered").client.quit()
        self.network.come_back()
        self.assertEqual(Exit.OK, self.send("@bob", "psst")[0])
        self.assertEqual(1, self.bob.view.take().count("[ops] <alice> hello"))

    def test_interrupted(self) -> None:
        """Ended from outside, it says that the message is kept."""
        run = self.unheard("lost")
        run.service._interrupted(Exit.INTERRUPTED)
        self.assertEqual(Exit.INTERRUPTED, run.wait())
        self.assertIn(KEPT, run.errors[0]["text"])

    def test_identity_changed(self) -> None:
        """To somebody whose identity changed nothing goes: it waits for a word, and the same again adds none."""
        self.send("@bob", "psst")
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        for _ in range(2):
            status, run = self.send("@bob", "secret")
            self.assertEqual(Exit.UNTRUSTED, status)
            self.assertIn("The identity of bob changed", run.errors[0]["text"])
        alice = self.client("alice")
        alice.type(f"/login alice {PASSWORD}")
        assert alice.core.outbox is not None
        self.assertEqual(1, len(alice.core.outbox.pending()))


class StandardInputTests(VerbCase):
    """Tests for what is sent from standard input."""

    def piped(self, data: bytes, **settings: Any) -> tuple[Exit, Run]:
        """Sends what comes through a pipe, to the end."""
        run = self.run_verb(Send("ops", None, **settings))
        self.assertIs(True, run.console.reading)
        view = run.service._view
        for at in range(0, len(data), 1000):
            view.dataReceived(data[at : at + 1000])
        view.readConnectionLost()
        return run.wait(), run

    def test_whole(self) -> None:
        """All of it is one message; nobody connects before it is there."""
        wires = len(self.network.wires)
        run = self.run_verb(Send("ops", None))
        self.assertEqual(wires, len(self.network.wires))
        run.service._view.dataReceived("zwölf\n\nLinien\n".encode())
        run.service._view.readConnectionLost()
        self.assertEqual(Exit.OK, run.wait())
        self.assertEqual(["[ops] <alice> zwölf ⏎  ⏎ Linien"], self.bob.view.take())

    def test_lines(self) -> None:
        """Line by line each is a message, in order; empty ones are none, and the last needs no ending."""
        lines = [f"line {number}" for number in range(100)]
        self.assertEqual(Exit.OK, self.piped("\n\n".join(lines).encode(), split=True)[0])
        self.assertEqual([f"[ops] <alice> {line}" for line in lines], self.bob.view.take())

    def test_lines_while_they_come(self) -> None:
        """A line is sent when it is there, not when the pipe ends."""
        run = self.run_verb(Send("ops", None, split=True))
        self.pass_time(1)
        run.service._view.dataReceived(b"now\n")
        self.pass_time(1)
        self.assertEqual(["[ops] <alice> now"], self.bob.view.take())
        self.assertIsNone(run.status)
        run.service._view.readConnectionLost()
        self.assertEqual(Exit.OK, run.wait())

    def test_no_lines(self) -> None:
        """No lines are no failure; no message is one."""
        self.assertEqual(Exit.OK, self.piped(b"\n\n", split=True)[0])
        for data in (b"", b"\n \n"):
            status, run = self.piped(data)
            self.assertEqual(Exit.FIXABLE, status)
            self.assertIn("Standard input was empty", run.errors[0]["text"])

    def test_too_much(self) -> None:
        """More than a message takes is not sent, and says what would do it."""
        status, run = self.piped(b"x" * (limits.MAX_TEXT + 1))
        self.assertEqual(Exit.FIXABLE, status)
        self.assertIn("--split lines", run.errors[0]["text"])

    def test_first_bad_line_ends_it(self) -> None:
        """What is no text ends the run; how many went before it is said."""
        for bad in (b"a\x00b", b"x" * 70_000):
            status, run = self.piped(b"one\ntwo\n" + bad + b"\nthree\n", split=True)
            self.assertEqual(Exit.FIXABLE, status)
            self.assertIn("2 were sent before it.", run.errors[0]["text"])
        self.assertEqual(Exit.FIXABLE, self.piped(b"\xff\xfe", split=True)[0])
        self.assertEqual(["[ops] <alice> one", "[ops] <alice> two"] * 2, self.bob.view.take())

    def test_nobody_reads(self) -> None:
        """That nobody reads its output is nothing to a sender."""
        run = self.run_verb(Send("ops", None, split=True))
        run.service._view.writeConnectionLost()
        run.service._view.dataReceived(b"still here\n")
        self.pass_time(1)
        self.assertEqual(["[ops] <alice> still here"], self.bob.view.take())
        run.service._view.readConnectionLost()
        self.assertEqual(Exit.OK, run.wait())


class ListenTests(VerbCase):
    """Tests for `listen`."""

    def listening(self, **settings: Any) -> Run:
        """A listener that has caught up."""
        run = self.run_verb(Listen(**settings))
        self.pass_time(1)
        return run

    def test_messages(self) -> None:
        """What comes is printed with its place, its time, its author and how far they are trusted."""
        run = self.listening()
        self.bob.type("hello @alice")
        (record,) = run.records("message")
        expected = {
            "room": "ops", "private": False, "sender": "bob", "text": "hello @alice", "seq": 1, "trust": "tofu",
            "decrypted": True, "own": False, "ts": "2023-11-14T22:13:36.000Z",
        }  # fmt: skip
        found = {name: record[name] for name in expected}
        self.assertEqual({**expected, "ts": found["ts"]}, found)
        self.assertTrue(found["ts"].startswith("2023-11-14T22:1"))

    def test_kinds(self) -> None:
        """Edits, reactions, deletions and people who come are objects of their own, which name the message."""
        run = self.listening()
        self.bob.type("hello")
        (record,) = run.records("message")
        for body in (Edit(record["id"], "hallo"), React(record["id"], "👍"), React(record["id"], "👍", off=True),
                     Delete(record["id"])):  # fmt: skip
            assert self.bob.core.outbox is not None
            self.start_entry(self.bob, to_text(body))
        self.registered("carol", "ops")
        self.settle()
        changes = run.records("edit", "reaction", "delete", "member")
        self.assertEqual(["edit", "reaction", "reaction", "delete", "member"], [each["type"] for each in changes])
        self.assertEqual({(record["id"], 1)}, {(each["id"], each["seq"]) for each in changes[:4]})
        self.assertEqual(("hallo", False, True), (changes[0]["text"], changes[1]["off"], changes[2]["off"]))
        self.assertEqual(("carol", "joined"), (changes[4]["user"], changes[4]["what"]))

    def start_entry(self, client: ChatClient, text: str) -> None:
        """Sends a body as it is."""
        assert client.core.outbox is not None
        Deferred.fromCoroutine(client.core.outbox.put("ops", text))
        self.settle()

    def test_reply(self) -> None:
        """An answer names what it answers."""
        run = self.listening()
        self.bob.type("question")
        (question,) = run.records("message")
        self.start_entry(self.bob, to_text(Text("answer", question["id"])))
        self.assertEqual(question["id"], run.records("message")[1]["reply_to"])

    def test_trust(self) -> None:
        """Whom one compared is verified; an identity that is not the pinned one is changed."""
        alice = self.client("alice")
        alice.type(f"/login alice {PASSWORD}")
        alice.type("/verify bob")
        alice.type("/verify bob yes")
        self.assertEqual("verified", trust_of(alice.core, "bob", ""))
        self.assertEqual("changed", trust_of(alice.core, "bob", "AAAA"))
        self.assertEqual("unknown", trust_of(alice.core, "nobody", ""))
        self.close(alice)
        run = self.listening()
        self.bob.type("hello")
        self.assertEqual("verified", run.records("message")[0]["trust"])

    def test_missed(self) -> None:
        """What came while nobody was there is printed first, then what is new; each once."""
        self.bob.type("one")
        self.bob.type("two")
        run = self.listening()
        self.bob.type("three")
        self.assertEqual(["one", "two", "three"], run.texts)
        run.service.end(Exit.OK)
        run.wait()
        self.bob.type("four")
        self.assertEqual(["four"], self.listening().texts)

    def test_what_send_passed_over(self) -> None:
        """What a `send` caught up with counts as unread: it is printed by the next `listen`, in its place."""
        self.bob.type("one")
        self.send(text="mine")
        self.bob.type("two")
        run = self.listening()
        self.bob.type("three")
        self.assertEqual(["one", "two", "three"], run.texts)
        self.assertEqual([1, 3, 4], [record["seq"] for record in run.records("message")])

    def test_once(self) -> None:
        """--once ends after one message and leaves the others for the next, each once and in order."""
        for text in ("one", "two", "three"):
            self.bob.type(text)
        for text in ("one", "two"):
            self.assertEqual([text], self.once().texts)
        run = self.listening()
        self.assertEqual(["three"], run.texts)

    def test_once_waits(self) -> None:
        """--once waits where there is nothing; own messages do not count."""
        self.send(text="mine")
        run = self.run_verb(Listen(once=True))
        self.pass_time(5)
        self.assertIsNone(run.status)
        self.bob.type("at last")
        self.assertEqual((Exit.OK, ["at last"]), (run.wait(), run.texts))

    def test_time_limit(self) -> None:
        """After its time it ends: well, unless one message was waited for and none came."""
        self.assertEqual(Exit.OK, self.run_verb(Listen(seconds=7.0)).wait())
        run = self.run_verb(Listen(seconds=7.0, once=True))
        self.assertEqual(Exit.FIXABLE, run.wait())
        self.assertIn("Nothing came within 7 s.", run.errors[0]["text"])

    def test_rooms(self) -> None:
        """Rooms that are named are printed, others are not, and stay unread."""
        self.bob.type("in the room")
        self.bob.type("/pm alice in private")
        self.assertEqual(["in private"], self.once(rooms=["@bob"]).texts)
        self.assertEqual(["in the room"], self.once(rooms=["ops"]).texts)

    def test_not_a_member(self) -> None:
        """A room one is not in says what to type."""
        run = self.run_verb(Listen(["nowhere"]))
        self.assertEqual((Exit.NOT_THERE, "not_member"), (run.wait(), run.errors[0]["code"]))

    def test_include_self(self) -> None:
        """One's own messages come where they are asked for."""
        self.send(text="mine")
        run = self.once(rooms=["ops"], since=Since.parse("all"), include_self=True)
        self.assertEqual([("mine", "own")], [(record["text"], record["trust"]) for record in run.records("message")])

    def test_undecryptable(self) -> None:
        """What cannot be shown has its reason."""
        run = self.listening()

        def exchanged(said: Record) -> Record:
            if said.get("event") == "message":
                package = said["package"]
                return {**said, "package": {**package, "sig": "A" * 60 + package["sig"][60:]}}
            return said

        self.network.changes.append(exchanged)
        self.bob.type("hello")
        self.pass_time(1)
        self.network.changes.clear()
        (record,) = run.records("undecryptable")
        self.assertEqual(("bad_signature", 1, 1), (record["reason"], record["count"], record["seq"]))
        self.assertIn("bob did not write that", record["cure"])
        self.assertEqual([], run.texts)

    def test_missed_changes(self) -> None:
        """What was missed and is no message is printed, too, once, also where --once ended before it."""
        self.bob.type("hello")
        (id_,) = [item.id for item in self.bob.view.items if isinstance(item, Message)]
        self.start_entry(self.bob, to_text(React(id_, "👍")))
        self.assertEqual(["hello"], self.once().texts)
        run = self.listening()
        self.assertEqual(["reaction"], [record["type"] for record in run.records()])
        run.service.end(Exit.OK)
        run.wait()
        self.start_entry(self.bob, to_text(React(id_, "👍", off=True)))
        self.assertEqual(["reaction"], [record["type"] for record in self.listening().records()])

    def test_since(self) -> None:
        """--since begins at a time, behind a number or an id, or at the beginning, whatever was read."""
        for text in ("one", "two", "three"):
            self.bob.type(text)
            self.pass_time(60)
        run = self.listening()
        records = run.records("message")
        run.service.end(Exit.OK)
        run.wait()
        self.bob.type("four")
        for since, texts in (
            ("all", ["one", "two", "three", "four"]), ("1", ["two", "three", "four"]), ("90s", ["three", "four"]),
            (records[1]["id"], ["three", "four"]), ("4", []), ("1s", []),
        ):  # fmt: skip
            run = self.listening(rooms=["ops"], since=Since.parse(since))
            self.assertEqual(texts, run.texts, since)
            run.service.end(Exit.OK)
            run.wait()

    def test_unknown_id(self) -> None:
        """An id that names nothing there is an error."""
        run = self.run_verb(Listen(["ops"], Since(id="0" * 64)))
        self.assertEqual(Exit.FIXABLE, run.wait())
        self.assertIn("no message of that id", run.errors[0]["text"])

    def test_bad_since(self) -> None:
        """What is no beginning says what would be one; a number needs a room."""
        for typed in ("", "yesterday", "10", "-1", "1.5h", "m", "A" * 64):
            if typed != "10":
                with self.assertRaises(Mistyped):
                    Since.parse(typed)
        for rooms in ([], ["ops", "@bob"]):
            with self.assertRaises(Mistyped):
                Listen(rooms, Since.parse("10"))

    def test_lost_and_back(self) -> None:
        """A connection that is lost comes back by itself; nothing is missed, nothing printed twice."""
        run = self.listening()
        self.bob.type("before")
        self.network.go_down()
        self.settle()
        self.network.come_back()
        self.pass_time(40)
        self.bob.type("after")
        self.assertEqual(["before", "after"], run.texts)
        self.assertEqual(2, len(run.records("notice")))

    def test_account_ends(self) -> None:
        """Where the session is over it ends with a failure, and does not wait for ever."""
        run = self.listening()
        again = self.client("elsewhere")
        again.type(f"/login alice {PASSWORD}")
        device = run.client.core.account.keys.dev  # type: ignore[union-attr]  # logged in
        again.type(f"/revoke {device} {PASSWORD}")
        self.pass_time(40)
        self.assertNotEqual(Exit.OK, run.wait())
        self.assertNotEqual([], run.errors)

    def test_nobody_reads(self) -> None:
        """Whoever reads the pipe has enough: it ends well."""
        run = self.listening()
        run.service._view.writeConnectionLost()
        self.assertEqual(Exit.OK, run.wait())

    def test_ended_from_outside(self) -> None:
        """A signal's status counts; what was printed is noted as read."""
        run = self.listening()
        self.bob.type("hello")
        run.service._interrupted(Exit.INTERRUPTED)
        self.assertEqual(Exit.INTERRUPTED, run.wait())
        self.assertEqual([], self.listening().texts)

    def test_plain(self) -> None:
        """Without JSON it prints the plain view's lines."""
        run = self.run_verb(Listen(), as_json=False)
        self.bob.type("hello")
        self.assertEqual("[ops] <bob> hello\n", run.console.output)

    def test_seen_elsewhere(self) -> None:
        """What was printed is read on the server, too: another device does not count it as unread."""
        self.bob.type("hello")
        run = self.listening()
        run.service.end(Exit.OK)
        run.wait()
        other = self.client("elsewhere")
        other.view.sees = set()
        other.type(f"/login alice {PASSWORD}")
        conversation = other.core.conversations.get("ops")
        assert conversation is not None
        self.assertEqual(0, conversation.unread)
