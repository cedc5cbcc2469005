"""Tests for a server that is restored, old or somebody else's, and for profiles that are copies (see test_evil).

Also what is no attack at all: refusals, long histories and changed keys, which nobody may be alarmed by.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred

from securechat.client.view import Message
from securechat.crypto.envelope import SealedMessage
from securechat.errors import BAD_HEADER, OUT_OF_TURN, Exit
from securechat.server import talk
from securechat.wire import messages as m
from tests.doubles import PASSWORD, ChatClient, long_id, signing_key
from tests.evil import Said, as_packet
from tests.evil_case import EvilCase, MessageCase, package_of

OLDER = "of bob than it had given before. Ask its operator."


class BackupRollbackTests(EvilCase):
    """The server gives an old backup to somebody who logs in without keys."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.people("alice", "bob")
        self.other = self.elsewhere("bob", "other")  # the second list, the second backup

    def revoke(self, client: ChatClient) -> None:
        """Bob's first device shuts another out: the third list, the third backup, a new key."""
        account = client.core.account
        assert account is not None
        self.assertEqual(Exit.OK, self.bob.exit(f"/revoke {account.keys.dev[:8]} {PASSWORD}"), self.bob.view.text)

    def login(self, client: ChatClient) -> str:
        """What a login that fails says, to a script, which waits for the server."""
        client.view.interactive = False
        client.view.take()
        self.assertNotEqual(Exit.OK, client.exit(f"/login bob {PASSWORD}"))
        return "\n".join(client.view.take())

    def test_profile_that_saw_newer(self) -> None:
        """A profile that must become a device anew refuses a backup older than it has seen."""
        self.revoke(self.other)
        self.evil.roll_back_backup("bob")
        self.assertIn(f"he server gave an older backup {OLDER}", self.login(self.other))

    def test_list(self) -> None:
        """And an older device list, whatever backup comes with it."""
        self.revoke(self.other)
        self.evil.roll_back_list("bob")
        self.assertIn("older device list", self.login(self.other))

    def test_empty_directory(self) -> None:
        """From an empty directory: a list older than the backup knows, or a backup without the present key."""
        self.revoke(self.other)
        self.evil.roll_back_list("bob")
        fresh = self.client("fresh")
        self.assertIn("the server gave an older device list than the backup knows", self.login(fresh))
        self.evil.stop()
        self.evil.roll_back_backup("bob")
        said = self.login(self.client("fresher"))
        self.assertIn("The password is right, but the keys of bob cannot be restored: ", said)

    def test_both(self) -> None:
        """Not stopped: to an empty directory both old ones look like the present ones; the account's others see it."""
        self.evil.roll_back_list("bob")
        self.evil.roll_back_backup("bob")
        fresh = self.client("fresh")
        fresh.exit(f"/login bob {PASSWORD}")
        self.assertIsNone(fresh.core.account)  # only as the genuine server refuses what follows from them
        self.assertIn("The device list is not the successor of the newest one", fresh.view.text)

    def test_another_identity(self) -> None:
        """A list of the server's own, with the genuine backup, is not the account."""
        self.evil.rule(self.own_keys)
        said = self.login(self.client("fresh"))
        self.assertIn("the server has another identity for this account than the backup", said)

    def own_keys(self, user: str, kind: str, said: Said) -> list[Said] | None:
        """Gives an impostor's keys as bob's own."""
        if kind != "login" or "keys" not in said:
            return None
        return [{**said, "keys": as_packet(m.KeyBundle.of(self.impostor("bob").bundle))}]


class WeakStretchingTests(EvilCase):
    """The server wants the password stretched in another way, or learns what is another server's."""

    def setUp(self) -> None:
        super().setUp()
        (self.bob,) = self.people("bob")
        self.bob.quit()
        self.token = next(one["password"] for one in self.bob_asked("register"))

    def bob_asked(self, command: str) -> list[Said]:
        """What was asked of any server under that name of a command."""
        return [one for wire in self.network.wires for one in wire.asked if one["cmd"] == command]

    def test_costs(self) -> None:
        """Whatever costs it names, the token is the one of the costs that the scheme fixes."""
        self.evil.weaken_stretching(t=1, m=8, p=1, scheme="sc0", iterations=1)
        self.elsewhere("bob")
        self.assertEqual(self.token, self.bob_asked("login")[-1]["password"])

    def test_salt(self) -> None:
        """With another salt it gets another token, of no use anywhere, and nothing is logged in."""
        self.evil.weaken_stretching(salt="AAAAAAAAAAAAAAAAAAAAAA==")
        fresh = self.client("fresh")
        self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit(f"/login bob {PASSWORD}"))
        self.assertIn("No account has that name and password.", fresh.view.text)
        self.assertNotEqual(self.token, self.bob_asked("login")[-1]["password"])

    def test_short_salt(self) -> None:
        """A salt that is none is refused."""
        self.evil.weaken_stretching(salt="")
        fresh = self.client("fresh")
        self.assertNotEqual(Exit.OK, fresh.exit(f"/login bob {PASSWORD}"))
        self.assertEqual([], self.bob_asked("login"))

    def test_keystore(self) -> None:
        """Who has a keystore does not ask: a wrong password does not even reach the server."""
        self.evil.weaken_stretching(salt="AAAAAAAAAAAAAAAAAAAAAA==")
        bob = self.again(self.bob, login=False)
        self.assertEqual(Exit.LOGIN_REFUSED, bob.exit("/login bob wrongpassword"))
        self.assertEqual(Exit.OK, bob.exit(f"/login bob {PASSWORD}"), bob.view.text)
        self.assertEqual([], self.bob_asked("prelogin"))
        self.assertEqual(1, len(self.bob_asked("login")))

    def test_salt_of_another_server(self) -> None:
        """A server that gives the salt of another one learns a token that the other one does not take."""
        self.serve(signing_key("another server"))
        other = self.client("fresh")
        other.exit(f"/login bob {PASSWORD}")
        salts = [said["salt"] for wire in self.network.wires for said in wire.told if "salt" in said]
        self.assertEqual(1, len(salts))  # the store, and so the salt, is the genuine one's
        self.assertNotEqual(self.token, self.bob_asked("login")[-1]["password"])


class ProfileCopyTests(MessageCase):
    """A profile put back from a copy: it does not know what it has sent since."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("one")
        self.pass_time(1)
        self.alice.quit()
        shutil.copytree(self.home / "alice", self.home / "copy")
        self.alice = self.back()
        for text in ("two", "three"):
            self.alice.type(text)
        self.pass_time(1)
        self.alice.quit()
        shutil.rmtree(self.home / "alice")
        shutil.move(self.home / "copy", self.home / "alice")
        self.bob.view.take()

    def back(self) -> ChatClient:
        """Alice, logged in and in the room."""
        alice = self.again(self.alice)
        alice.type("/join ops")
        alice.view.take()
        return alice

    def test_heals(self) -> None:
        """By its own newest message, which the server shows as a proof, it goes on in its place; nobody is alarmed."""
        self.alice = self.back()
        self.assertEqual(["[ops] <alice> four"], self.alice.type("four"))
        self.assertRead("[ops] <alice> four")
        self.assertEqual(["[ops] <alice> five"], self.alice.type("five"))
        self.assertRead("[ops] <alice> five")

    def test_refused_though_stored(self) -> None:
        """A message that the server stores, and then refuses with itself as the proof, is not sent a second time."""
        self.alice = self.back()
        self.alice.type("four")
        self.assertRead("[ops] <alice> four")

        def refused(user: str, kind: str, said: Said) -> list[Said] | None:
            if user != "alice" or said.get("status") != "ok" or not {"seq", "ts", "events"} <= said.keys():
                return None
            stored = self.evil.newest("bob", "ops")
            refusal = {"id": said["id"], "status": "error", "code": "ctr_behind", "msg": "No.", "expected": 6}
            return [{**refusal, "proof": stored}]

        self.evil.rule(refused)
        self.assertEqual(Exit.OK, self.alice.exit("/send five"))
        self.assertEqual("[ops] <alice> five", self.alice.view.take()[-1])
        self.evil.stop()
        self.assertEqual(["[ops] <alice> six"], self.alice.type("six"))
        self.assertRead("[ops] <alice> five", "[ops] <alice> six")
        self.assertEqual(6, self.stored())

    def assertNoProof(self, change: Any) -> None:
        """With another proof, or none, the message waits."""

        def without(user: str, kind: str, said: Said) -> list[Said] | None:
            return [change(said)] if said.get("code") == "ctr_behind" else None

        self.evil.rule(without)
        self.alice = self.back()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send four"))
        self.assertShown("it lost messages, or it lies. What you wrote waits.", self.alice)
        self.assertRead()
        self.assertEqual(3, self.stored())

    def test_without_proof(self) -> None:
        """The server's word alone moves no counter."""
        self.assertNoProof(lambda said: {name: value for name, value in said.items() if name != "proof"})

    def test_proof_of_another(self) -> None:
        """Nor does somebody else's message."""
        self.bob.type("mine")
        other = self.evil.newest("carol", "ops")
        self.assertEqual("bob", other["sender"])
        self.patch(self, "stored", lambda: 3)
        self.assertNoProof(lambda said: {**said, "proof": other})

    def test_older_proof(self) -> None:
        """Nor does an older one of its own, whatever number is named with it."""
        older = self.evil.seen["bob", "ops", 2]
        self.assertNoProof(lambda said: {**said, "proof": older})

    def test_far_too_old(self) -> None:
        """Nor one that it knows itself."""
        own = self.evil.seen["bob", "ops", 1]
        self.assertNoProof(lambda said: {**said, "expected": 2, "proof": own})

    def test_of_another_room(self) -> None:
        """Nor one of another conversation."""
        self.alice = self.back()
        self.alice.type("/join attic")
        self.bob.type("/join attic")
        for text in ("a", "b", "c"):
            self.alice.type(text)
        other = self.evil.newest("bob", "attic")
        self.bob.view.take()
        self.alice.type("/switch ops")

        def elsewhere(user: str, kind: str, said: Said) -> list[Said] | None:
            return [{**said, "proof": other}] if said.get("code") == "ctr_behind" else None

        self.evil.rule(elsewhere)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send four"))
        self.assertRead()


class RestoreTests(MessageCase):
    """The server is put back to an older state."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("one")
        self.pass_time(1)
        self.before = self.snapshot()
        for client in (self.alice, self.bob, self.carol):
            client.view.take()

    def snapshot(self) -> bytes:
        """The database as it is."""
        self.stop_server()
        data = self.path.read_bytes()
        self.start_server()
        return data

    def stop_server(self) -> None:
        """The server stops."""
        for wire in self.network.wires:
            wire.cut()
        self.settle()
        self.successResultOf(self.store.close())
        for file in self.path.parent.glob(f"{self.path.name}-*"):
            file.unlink()

    def start_server(self) -> None:
        """It starts again, and everybody finds it."""
        self.store = self.make_store()
        self.serve()
        self.pass_time(40)

    def put_back(self, *, said: bool = True) -> None:
        """The server is put back to the snapshot; `said`: as one does that, so that it says so."""
        self.pass_time(1)
        self.stop_server()
        self.path.write_bytes(self.before)
        if said:
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("UPDATE meta SET epoch = ?", (long_id("epoch")[:32],))
                connection.commit()
        self.start_server()

    def test_room_log(self) -> None:
        """What it lost of a room's log it is given back, as it was signed, before anything is sent there."""
        dave = self.registered("dave")
        self.before = self.snapshot()
        dave.type("/join ops")
        self.carol.type("/leave ops")
        self.pass_time(1)
        for client in (self.bob, self.carol, dave):
            client.quit()
        self.put_back()
        self.assertShown("[ops] * The server had lost the end of this room's log: it has it again.", self.alice)
        self.assertEqual(["alice", "bob", "dave"], self.do(self.store.members("alice", "ops")))
        commands = self.alice.wire.commands
        self.assertIn("extend", commands)
        self.alice.type("two")
        commands = self.alice.wire.commands
        self.assertLess(commands.index("extend"), commands.index("send"))

    def test_not_taken_back(self) -> None:
        """If it does not take it back, sending there stops: it would be for members that the server does not know."""
        self.alice.type("/topic new")
        self.pass_time(1)
        for client in (self.bob, self.carol):
            client.quit()
        refused = {"status": "error", "code": "stale_log", "msg": "These events do not go on."}
        self.evil.answer("extend", lambda user, said: refused)
        self.put_back()
        self.assertShown("[ops] The room's log cannot be had: ", self.alice)
        self.assertWaits(self.alice, "/send two", "Sending to ops is stopped: ")

    def test_messages(self) -> None:
        """After a restore that is said, everybody goes on, and what was lost is not taken for something new."""
        for text in ("two", "three"):
            self.alice.type(text)
        self.put_back()
        self.assertIn("(was a backup restored?): it is read again.", self.bob.view.text)
        self.bob.view.take()
        self.assertEqual("[ops] <alice> two again", self.alice.type("two again")[-1])
        self.assertRead("[ops] <alice> two again")

    def test_not_said(self) -> None:
        """A server that lost messages and does not say so gets nothing more: what is written waits."""
        for text in ("two", "three"):
            self.alice.type(text)
        self.put_back(said=False)
        self.alice.view.take()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send four"))
        self.assertShown("it lost messages, or it lies. What you wrote waits.", self.alice)
        self.assertEqual(1, self.stored())


class PipelineTests(MessageCase):
    """A refusal in the middle of many sends on their way: order is never lost, and nobody is alarmed."""

    def test_sixty_four(self) -> None:
        """What was sent behind the refused one is refused as well; sealed anew from there on, all of it reads well."""
        first = self.chain(64, spoiled=30)
        replies = self.pipeline(first)
        self.assertEqual(30, sum(isinstance(reply, m.SendOk) for reply in replies))
        codes = [reply.code for reply in replies if not isinstance(reply, m.SendOk)]
        self.assertEqual([BAD_HEADER, *[OUT_OF_TURN] * 33], codes)
        again = self.chain(64, since=first[29], start=30)
        self.assertEqual(34, sum(isinstance(reply, m.SendOk) for reply in self.pipeline(again)))
        texts = [item for item in self.bob.view.items if isinstance(item, Message)]
        self.assertEqual([(f"{number}", "") for number in range(64)], [(item.text, item.mark) for item in texts])
        self.assertEqual("[ops] <carol> well", self.carol.type("well")[-1])
        self.assertEqual("[ops] <carol> well", self.messages(self.bob)[-1])
        self.assertEqual("[ops] <bob> yes", self.bob.type("yes")[-1])

    def chain(
        self, count: int, *, spoiled: int = -1, since: SealedMessage | None = None, start: int = 0
    ) -> list[SealedMessage]:
        """Messages of alice's from number `start` on, each naming the one before; one names a place that never was."""
        made: list[SealedMessage] = []
        before = since
        readers = [self.keys_of(self.alice, name) for name in ("alice", "bob", "carol")]
        for number in range(start, count):
            changes: dict[str, Any] = {"ctr": number + 1, "prev": "" if before is None else before.id}
            if number == spoiled:
                changes["th"] = (0, long_id("th"))
            before = self.sealed(self.alice, f"{number}", readers=readers, mid=f"{number:032x}", **changes)
            made.append(before)
        return made

    def pipeline(self, sealed: list[SealedMessage]) -> list[Any]:
        """Hands in messages without waiting for the answers; the answers."""
        answers: list[Any] = []
        for one in sealed:
            request = m.Send(room="ops", package=package_of(one))
            Deferred.fromCoroutine(self.alice.core.request(request)).addBoth(answers.append)
        self.pass_time(30)
        return [getattr(answer, "value", answer) for answer in answers]


class PagingTests(MessageCase):
    """Reading far back with nothing at hand: no message of a genuine history is flagged."""

    def test_four_hundred(self) -> None:
        """A device that has seen nothing pages back over 400 messages."""
        (session,) = self.parts.logins.of("alice")
        readers = [self.keys_of(self.alice, name) for name in ("alice", "bob", "carol")]
        sealed = None
        for number in range(400):
            prev = "" if sealed is None else sealed.id
            sealed = self.sealed(
                self.alice, f"{number}", readers=readers, mid=f"{number:032x}", ctr=number + 1, prev=prev
            )
            package = package_of(sealed)
            header = talk.checked_header("alice", session.device, package)
            self.do(self.store.append(talk._new_message(session, package, header, "ops", None)))
        self.do(self.store.move_read_marker("alice", "ops", 400))
        fresh = self.elsewhere("alice")
        fresh.type("/join ops")
        fresh.view.take()
        fresh.type("/history ops 400")
        texts = [item for item in fresh.view.items if isinstance(item, Message)]
        self.assertEqual([(f"{number}", "") for number in range(400)], [(item.text, item.mark) for item in texts])
