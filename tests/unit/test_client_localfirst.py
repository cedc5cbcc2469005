"""Tests for an account that is opened without the server, and logged in behind that."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from securechat.client.profile import Profile
from securechat.errors import BUSY, RATE_LIMITED, Exit
from securechat.wire import messages as m
from securechat.wire.codec import encode
from tests.cast import signing_key
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient, quick_stretch

NEW = "anothersecret"
OPEN = "What is on this machine of alice is open. Connecting to 127.0.0.1."
IN = "* Logged in as alice."


class LocalCase(ChatCase):
    """alice, whose keys and rooms are on this machine, and bob."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.type("/send before")
        self.pass_time(1)
        self.alice.quit()

    @property
    def profile(self) -> Profile:
        """The place of alice's files."""
        return self.alice.directory.profile(SRV, "alice")

    def log_in(self, password: str = PASSWORD, **settings: Any) -> ChatClient:
        """A fresh client in which alice's password was typed."""
        fresh = self.client("alice", **settings)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {password}"), fresh.view.text)
        return fresh

    def away(self) -> ChatClient:
        """The same while the server is away."""
        self.network.go_down()
        self.settle()
        return self.log_in()

    def assertClosed(self, client: ChatClient, said: str) -> None:
        """It says why, what was written is kept, and nobody is logged in any more."""
        lines = [line for line in client.view.text.split("\n") if said in line]
        self.assertEqual(1, len(lines), client.view.text)
        self.assertIn("What you wrote is kept.", lines[0])
        self.assertEqual(("", None, None), (client.core.user, client.core.account, client.core.link))
        self.settle()
        self.assertTrue(all(not pool.running for pool in client.pools))


class OpenTests(LocalCase):
    """Tests for what is there before the server has said anything."""

    def test_history(self) -> None:
        """/history shows what this machine keeps, and says so; where it keeps nothing, that it cannot be had."""
        fresh = self.away()
        fresh.view.take()
        self.assertEqual(
            [
                "[general] * There is no connection to the server now: this is what this machine keeps.",
                "2023-11-14 22:13 [general] <alice> before",
            ],
            fresh.type("/history"),
        )
        fresh.type("/forget general yes")
        self.assertEqual(Exit.NETWORK, fresh.exit("/history"))

    def test_away(self) -> None:
        """With the server away the account is open: its rooms are there, and what is typed waits on the disk."""
        fresh = self.away()
        self.assertEqual(("alice", ["general"]), (fresh.core.user, fresh.core.conversations.rooms()))
        self.assertIn(OPEN, fresh.view.text)
        self.assertIn(
            "* There is no connection yet: Nothing listens at 127.0.0.1:12345. Is the server running? (twistd -n"
            " securechat). It is tried again; what you type is kept.",
            fresh.view.take(),
        )
        fresh.type("/switch general")
        fresh.start("typed meanwhile")
        assert fresh.core.outbox is not None
        self.assertEqual(["typed meanwhile"], [entry.text for entry in fresh.core.outbox.pending()])
        status = fresh.view.states[-1]
        self.assertEqual(("offline", 1, ["general"]), (status.link, status.waiting, [r.where for r in status.rooms]))
        self.assertGreater(status.retry_at, self.reactor.seconds())

    def test_back(self) -> None:
        """It is tried by itself until the server is there; then it logs in, and what was typed leaves."""
        fresh = self.away()
        fresh.type("/switch general")
        fresh.start("typed meanwhile")
        self.pass_time(60)
        self.assertNotIn(IN, fresh.view.text)
        self.network.come_back()
        self.pass_time(60)
        self.assertEqual(1, fresh.view.text.count(IN))
        self.assertEqual(1, fresh.view.text.count("It is tried again"))
        self.assertIn("[general] <alice> typed meanwhile", self.bob.view.text)
        status = fresh.view.states[-1]
        self.assertEqual(("online", 0, 0.0), (status.link, status.waiting, status.retry_at))

    def test_reading(self) -> None:
        """What was said is there to be read and searched without the server, and the server adds no double."""
        fresh = self.away()
        fresh.type("/switch general")
        self.assertIn("[general] <alice> before", "\n".join(fresh.type("/search before")))
        self.network.come_back()
        self.pass_time(60)
        self.bob.type("/send after")
        self.assertEqual(1, fresh.view.text.count("<bob> after"))

    def test_never_up_then_lost(self) -> None:
        """A loss after it logged in is told as one, and comes back by the session, not the password."""
        fresh = self.log_in()
        fresh.wire.cut()
        self.pass_time(10)
        self.assertIn("* The connection is lost", fresh.view.text)
        self.assertIn("* Connected again.", fresh.view.text)
        self.assertEqual(["resume", "sync"], fresh.wire.commands[:2])

    def test_connecting(self) -> None:
        """While the server has not answered yet, the state is that it is being connected to."""
        self.network.changes.append(lambda said: None if "token" in said else said)
        fresh = self.client("alice")
        fresh.start(f"/login alice {PASSWORD}")
        self.assertEqual("connecting", fresh.view.states[-1].link)
        self.assertEqual("alice", fresh.view.states[-1].user)
        self.assertEqual("You are still connecting as alice.", fresh.type("/login alice")[-1])

    def test_requests_wait(self) -> None:
        """What needs the server says so until it has let this account in."""
        fresh = self.away()
        self.assertEqual(Exit.NETWORK, fresh.exit("/rooms"))
        self.assertIn("there is no connection to the server right now", fresh.view.take()[-1].lower())

    def test_secret_is_dropped(self) -> None:
        """What the password was stretched to is kept until the server has said yes once, and no longer."""
        fresh = self.away()
        account = fresh.core.account
        assert account is not None
        self.assertIsNotNone(account.first_login)
        self.network.come_back()
        self.pass_time(60)
        self.assertEqual((None, True), (account.first_login, account.logged_in))

    def test_logout(self) -> None:
        """A logout before the server was there has nothing to tell it."""
        fresh = self.away()
        self.assertEqual(["alice is logged out."], fresh.type("/logout")[-1:])
        self.assertEqual(("", None), (fresh.core.user, fresh.core.link))
        self.network.come_back()
        self.pass_time(60)
        self.assertEqual(("", None), (fresh.core.user, fresh.core.link))

    def test_exit(self) -> None:
        """Who leaves while the server is away hears what was not acknowledged, and it is there the next time."""
        fresh = self.away()
        fresh.type("/switch general")
        fresh.start("typed meanwhile")
        closing = Deferred.fromCoroutine(fresh.core.close(1.0))
        self.pass_time(5)
        self.assertEqual(Exit.NETWORK, self.successResultOf(closing))
        self.assertIn("Not acknowledged by the server, kept for the next time", fresh.view.text)
        self.network.come_back()
        self.log_in()
        self.pass_time(60)
        self.assertIn("[general] <alice> typed meanwhile", self.bob.view.text)

    def test_script(self) -> None:
        """A script goes on when the server has said yes; while it is away that is an error."""
        script = self.log_in(interactive=False)
        self.assertEqual("Logged in as alice.", script.view.take()[-1])
        script.quit()
        self.network.go_down()
        script = self.client("alice", interactive=False)
        login = script.start(f"/login alice {PASSWORD}")
        self.pass_time(5)
        self.assertEqual(Exit.NETWORK, self.successResultOf(login))
        self.assertEqual(("", None), (script.core.user, script.core.link))

    def test_no_keys(self) -> None:
        """Without keys on this machine the server is asked first, as ever."""
        fresh = self.client("elsewhere")
        self.network.go_down()
        login = fresh.start(f"/login alice {PASSWORD}")
        self.pass_time(5)
        self.assertEqual(Exit.NETWORK, self.successResultOf(login))
        self.network.come_back()
        self.assertIn("Logged in as alice.", fresh.type(f"/login alice {PASSWORD}"))

    def test_nothing_kept(self) -> None:
        """So it is where nothing is kept of the account, or not the newest that was seen of it."""
        account = json.loads(encode(m.KeyBundle.of(self.do(self.store.account("alice")).keys)))  # type: ignore[union-attr]
        self.client("elsewhere").type(f"/login alice {PASSWORD}")
        for kept in (None, account, {"list": "nonsense"}):
            fresh = self.log_in()
            assert fresh.core.account is not None
            work = fresh.core.account.store.write([("meta", "own", kept)])
            self.successResultOf(Deferred.fromCoroutine(work))
            fresh.quit()
            fresh = self.log_in()
            self.assertIn("Logged in as alice.", fresh.view.take())
            fresh.quit()
        self.assertIn(OPEN, self.log_in().view.text)

    def test_locked(self) -> None:
        """One that is open in another client is not opened twice, and a wrong password leaves it free."""
        self.client("alice").type("/login alice wrongpassword")
        first = self.log_in()
        second = self.client("alice")
        self.assertEqual(Exit.FIXABLE, second.exit(f"/login alice {PASSWORD}"))
        first.quit()
        self.assertEqual(Exit.OK, second.exit(f"/login alice {PASSWORD}"))

    def test_wrong_password(self) -> None:
        """A password that does not open the keys is told at once; the server is not even called."""
        wires = len(self.network.wires)
        fresh = self.client("alice")
        self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit("/login alice wrongpassword"))
        self.assertIn("the keys here do not open", fresh.view.text)
        self.assertEqual((wires, "", None), (len(self.network.wires), fresh.core.user, fresh.core.link))


class RefusedTests(LocalCase):
    """Tests for a server that does not agree afterwards."""

    def test_changed_elsewhere(self) -> None:
        """A password that was changed on another machine opens the keys here; then it is said, and all is closed."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        other.type(f"/passwd {PASSWORD} {NEW}")
        fresh = self.log_in()
        self.assertClosed(fresh, "That password opens the keys of alice on this machine, but the server refuses it.")
        self.assertIn(OPEN, fresh.view.text)

    def test_suspended_and_deleted(self) -> None:
        """So it is where the account was suspended or deleted; what was typed is there once it is let in again."""
        fresh = self.away()
        fresh.type("/switch general")
        fresh.start("typed meanwhile")
        self.do(self.store.suspend("alice", yes=True))
        self.network.come_back()
        self.pass_time(60)
        self.assertClosed(fresh, "suspended or deleted")
        self.do(self.store.suspend("alice", yes=False))
        fresh = self.log_in()
        self.assertIn("[general] <alice> typed meanwhile", self.bob.view.text)
        fresh.quit()
        self.do(self.store.delete_user("alice", now=0))
        self.assertClosed(self.log_in(), "suspended or deleted")

    def test_another_server(self) -> None:
        """Where another server answers, nothing is sent to it, the account is closed, and /trust server knows why."""
        fresh = self.away()
        self.serve(signing_key("another"))
        self.network.come_back()
        self.pass_time(60)
        self.assertIn("Disconnected: The server at 127.0.0.1:12345 is not the one that was there", fresh.view.text)
        self.assertEqual(("", None), (fresh.core.user, fresh.core.link))
        self.assertEqual([], [wire for wire in self.network.wires[-1:] if wire.asked])
        fresh.view.take()
        self.assertEqual(f"  before: {SRV}", fresh.type("/trust server")[1])

    def test_another_server_trusted_meanwhile(self) -> None:
        """What another client accepts meanwhile at the same address is not taken for the server of these keys."""
        fresh = self.away()
        self.serve(signing_key("another"))
        identity = self.parts.identity.srv
        fresh.directory.remember(fresh.core.line.known(identity))
        self.network.come_back()
        self.pass_time(60)
        self.assertIn("is not the one that was there", fresh.view.text)
        self.assertIsNone(fresh.core.account)

    def change_keys(self, fields: dict[str, Any], *without: str) -> None:
        """From now on a login's reply has these fields, and lacks others."""

        def change(said: dict[str, Any]) -> dict[str, Any]:
            kept = {name: value for name, value in said.items() if name not in without}
            return kept | fields if "token" in said else said

        self.network.changes.append(change)

    def test_older_list(self) -> None:
        """An older device list than was seen here is not believed: the account is closed, and nothing published."""
        old = json.loads(encode(m.KeyBundle.of(self.do(self.store.account("alice")).keys)))  # type: ignore[union-attr]
        self.client("elsewhere").type(f"/login alice {PASSWORD}")
        self.log_in().quit()
        self.change_keys({"keys": old})
        self.assertClosed(self.log_in(), "he server gave an older device list of alice")

    def test_older_backup(self) -> None:
        """As a new device it does not go on from an older backup than was seen here, either."""
        fresh = self.log_in()
        assert fresh.core.account is not None
        self.successResultOf(Deferred.fromCoroutine(fresh.core.account.note_backup(7)))
        fresh.quit()
        self.change_keys({}, "device")
        fresh = self.log_in()
        self.assertClosed(fresh, "he server gave an older backup of alice")
        self.assertNotIn("publish", self.network.wires[-1].commands)
        self.log_in(interactive=True)  # the profile is free again

    def test_newer_list(self) -> None:
        """A newer one is an alarm, once, and is kept for the next start."""
        self.client("elsewhere").type(f"/login alice {PASSWORD}")
        for alarms in (1, 0):
            fresh = self.log_in()
            self.assertEqual(alarms, fresh.view.text.count("Your account has another device list"))
            self.assertIn(OPEN, fresh.view.text)
            self.assertEqual(2, fresh.core.account.own.version)  # type: ignore[union-attr]
            fresh.quit()

    def revoke(self) -> None:
        """Another device shuts this one out."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        device = self.profile_device()
        self.assertEqual(Exit.OK, other.exit(f"/revoke {device[:8]} {PASSWORD}"), other.view.text)
        other.quit()

    def profile_device(self) -> str:
        """The device on this machine."""
        keystore = self.profile.read_keystore()
        assert keystore is not None
        (slot,) = keystore.slots
        key = keystore.open_slot(slot, quick_stretch(PASSWORD, slot.salt).keystore_key())
        return keystore.open_box(key).dev

    def test_revoked(self) -> None:
        """A device that was taken off the list becomes a new one, says so, and goes on where it was."""
        before = self.profile_device()
        fresh = self.away()
        fresh.type("/switch general")
        fresh.start("typed meanwhile")
        self.revoke_while_away()
        self.pass_time(60)
        self.assertIn("This device was taken off your account's list; it is a new one now", fresh.view.text)
        self.assertNotEqual(before, self.profile_device())
        self.assertEqual(("alice", ["general"]), (fresh.core.user, fresh.core.conversations.rooms()))
        self.assertIn("[general] <alice> typed meanwhile", self.bob.view.text)
        self.assertTrue(fresh.core.synced)

    def revoke_while_away(self) -> None:
        """The server is back, and another device is quicker than this one."""
        self.network.come_back()
        self.revoke()

    def test_revoked_and_lost(self) -> None:
        """Where becoming a new device breaks off, that is said, and the next /login tries again."""
        self.revoke()
        for fault in (["lost"], None):
            if fault is None:
                self.network.refuse("publish", BUSY, retry_after=1.0)
            else:
                self.network.faults["publish"] = fault
            fresh = self.log_in()
            self.settle()
            self.assertClosed(fresh, "This machine is no device of your account any more, and could not be made one")
        fresh = self.log_in()
        self.assertEqual("alice", fresh.core.user)
        self.assertTrue(fresh.core.synced)

    def test_revoked_and_out_of_reach(self) -> None:
        """If its keys cannot be had, that is said, and the login stands for /reset-identity."""
        self.revoke()
        self.network.changes.append(self.spoilt_backup)
        fresh = self.log_in()
        self.assertIn("The password is right, but the keys of alice cannot be restored", fresh.view.text)
        self.assertEqual("", fresh.core.user)
        self.network.changes.clear()
        self.assertEqual(Exit.OK, fresh.exit(f"/reset-identity {PASSWORD} yes"), fresh.view.text)
        self.assertEqual("alice", fresh.core.user)

    @staticmethod
    def spoilt_backup(said: dict[str, Any]) -> dict[str, Any]:
        """A backup whose bytes do not open."""
        if "backup" not in said:
            return said
        blob = said["backup"]["blob"]
        return said | {"backup": said["backup"] | {"blob": blob[:-8] + ("A" * 8 if blob[-8:] != "A" * 8 else "B" * 8)}}

    def test_patience(self) -> None:
        """A server that puts the login off is asked again no sooner than it says, and that is told once."""
        self.network.refuse("login", RATE_LIMITED, times=2, retry_after=20.0)
        fresh = self.log_in()
        self.assertEqual("alice", fresh.core.user)
        self.pass_time(15)
        self.assertEqual(1, self.logins())
        self.pass_time(70)
        self.assertEqual(1, fresh.view.text.count("Not logged in yet: Too many attempts."))
        self.assertIn(IN, fresh.view.text)

    def test_busy(self) -> None:
        """So does a busy one."""
        self.network.refuse("login", BUSY, retry_after=1.0)
        fresh = self.log_in()
        self.pass_time(10)
        self.assertIn(IN, fresh.view.text)

    def test_busy_afterwards(self) -> None:
        """Where it logged in and only what was missed is put off, nobody is told that they are not logged in."""
        self.network.refuse("sync", BUSY, retry_after=1.0)
        fresh = self.log_in()
        self.pass_time(10)
        self.assertNotIn("Not logged in yet", fresh.view.text)
        self.assertTrue(fresh.core.synced)

    def logins(self) -> int:
        """How often a login by this client was asked for."""
        return sum(wire.commands.count("login") for wire in self.network.wires[2:])

    def test_lost_before_the_answer(self) -> None:
        """A login whose answer gets lost is tried again, once the connection is back."""
        for fault in ("lost", "unanswered"):
            self.network.faults["login"] = [fault]
            fresh = self.log_in()
            self.pass_time(60)
            self.assertEqual(1, fresh.view.text.count(IN), fault)
            fresh.quit()

    def test_left_meanwhile(self) -> None:
        """Who logs out while the server has not answered stays logged out."""
        self.network.faults["login"] = ["unanswered"]
        fresh = self.client("alice")
        fresh.start(f"/login alice {PASSWORD}")
        self.assertEqual(Exit.OK, fresh.exit("/logout"))
        self.pass_time(60)
        self.assertEqual(("", None), (fresh.core.user, fresh.core.link))
        self.assertNotIn(IN, fresh.view.text)

    def test_pins_of_another_device(self) -> None:
        """Who another device met and put into the backup is known here before anybody's keys are looked at anew."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        self.registered("carol")
        other.type("/pm carol hello")
        other = self.again(other, login=False)
        other.type("/login alice " + PASSWORD)
        fresh = self.log_in()
        assert fresh.core.people is not None
        self.assertIn("carol", fresh.core.people.pins.all())
