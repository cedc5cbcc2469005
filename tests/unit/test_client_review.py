"""Tests for what a review of the client found: trust by sight alone, nothing lost half-way, nothing waited for."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import UNSET
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from securechat.client import backups, stay
from securechat.client.core import ChatCore
from securechat.client.inbox import Inbox, OwnMessage
from securechat.client.openaccount import OpenAccount
from securechat.client.outbox import Outbox
from securechat.client.people import merged
from securechat.client.profile import ClientDir
from securechat.client.service import TerminalClient
from securechat.client.view import Unshown
from securechat.crypto.backup import AccountSecrets, seal_backup
from securechat.crypto.primitives import b64
from securechat.crypto.trust import Pin, Source
from securechat.errors import BUSY, LOGIN_FIRST, Exit, StartupError
from securechat.private_files import private_directory, write_private
from securechat.storage.interface import Backup
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.codec import encode
from tests.cast import rsa_key, signing_key
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient
from tests.unit.test_client_outbox import Host

NEW = "anothersecret"


class TwoCase(ChatCase):
    """Tests of alice and bob, who met in a room."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.type("/send hello")
        self.bob.view.take()

    def stored_backup(self) -> Backup:
        """Alice's backup as the server has it."""
        backup = self.do(self.store.backup("alice"))
        assert backup is not None
        return backup

    def spoil_backup(self) -> None:
        """Puts something in its place that does not open, as a stolen session could."""
        version = self.stored_backup().version + 1
        self.do(self.store.put_backup("alice", Backup(version, b"p" + bytes(100))))

    def give_backup(self, **fields: Any) -> None:
        """From now on the server gives a backup with these fields."""

        def change(said: dict[str, Any]) -> dict[str, Any]:
            return said | {"backup": said["backup"] | fields} if "backup" in said else said

        self.network.changes.append(change)


class TrustTests(TwoCase):
    """Tests for /trust."""

    def test_only_what_was_shown(self) -> None:
        """A yes on the line counts for the identity that the last /trust showed, and for no other."""
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/trust bob yes"))
        self.assertIn("  now: ", self.alice.view.text)
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/trust bob yes"))
        self.assertEqual(Exit.OK, self.alice.exit("/trust bob yes"))

    def test_changed_while_comparing(self) -> None:
        """Another identity that comes while the person compares is not the one they accept."""
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.alice.type("/trust bob")
        people = self.alice.core.people
        assert people is not None and self.bob.core.account is not None
        shown = self.bob.core.account.keys.ik
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        self.alice.type("/whois bob")
        self.assertIsNone(people.accept("bob", shown, Source.OWNER))


class RoomTests(TwoCase):
    """Tests for rooms that are left without a typed /leave."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.type("/join attic")
        self.other = self.client("elsewhere")
        self.other.type(f"/login alice {PASSWORD}")

    def test_taken_out(self) -> None:
        """Taken out of the active room, what is typed next goes to no other."""
        self.other.type("/leave attic")
        self.assertIn("You are no longer in attic. No room is active: /switch ROOM.", self.alice.view.text)
        self.assertEqual(Exit.FIXABLE, self.alice.exit("/send meant for the attic"))
        self.assertNotIn("meant for", self.bob.view.text)

    def test_taken_out_while_away(self) -> None:
        """The same where it is learnt from the answer to sync."""
        self.alice.wire.cut()
        self.other.type("/leave attic")
        self.pass_time(60)
        self.assertEqual("", self.alice.core.conversations.active)
        self.assertIn("No room is active", self.alice.view.text)

    def test_typed(self) -> None:
        """A typed /leave goes back to the room before."""
        self.assertEqual(["You left attic. general is active now."], self.alice.type("/leave attic")[-1:])


class EnrolTests(TwoCase):
    """Tests for becoming another device."""

    def known(self, client: ChatClient) -> set[str]:
        """Of whom a client has pins on its disk."""
        account = client.core.account
        assert isinstance(account, OpenAccount)
        return set(self.successResultOf(Deferred.fromCoroutine(account.store.load()))["pin"])

    def test_killed_half_way(self) -> None:
        """Whatever answer the client does not live to see, the pins of the backup are there afterwards."""
        self.again(self.alice)
        for number, fault in enumerate(("lost", "unanswered")):
            fresh = self.client(f"fresh{number}")
            self.network.faults["publish"] = [fault]
            self.assertEqual(Exit.NETWORK, fresh.exit(f"/login alice {PASSWORD}"))
            fresh = self.again(fresh, login=False)
            self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"), fresh.view.text)
            self.assertLessEqual({"alice", "bob"}, self.known(fresh))

    def test_both_add(self) -> None:
        """What two devices learnt is in the backup together, and a lost store gets it back."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        self.registered("carol")
        other.type("/pm carol hello")
        other.quit()
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        alice = self.again(self.alice)
        self.assertLessEqual({"alice", "bob", "carol"}, self.known(alice))
        alice.quit()
        alice.directory.profile(SRV, "alice").database.unlink()
        alice = self.client("alice")
        alice.type(f"/login alice {PASSWORD}")
        self.assertLessEqual({"bob", "carol"}, self.known(alice))

    def test_older_state(self) -> None:
        """Nothing is signed on top of a list or a backup older than this machine has seen."""
        account, backup = self.do(self.store.account("alice")), self.stored_backup()
        assert account is not None
        first = json.loads(encode(m.KeyBundle.of(account.keys)))
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        for what, fields in (("device list", {"keys": first}), ("backup", {})):
            self.network.changes = [partial(self.as_unknown, fields)]
            if what == "backup":
                self.give_backup(version=backup.version, blob=b64(backup.blob))
            other = self.again(other, login=False, interactive=False)
            self.assertEqual(Exit.UNTRUSTED, other.exit(f"/login alice {PASSWORD}"))
            self.assertIn(f"an older {what}", other.view.text)
            self.assertNotIn("publish", self.network.wires[-1].commands)

    @staticmethod
    def as_unknown(fields: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        """A login's reply as of a server that does not know the device."""
        kept = {name: value for name, value in said.items() if name != "device"}
        return kept | fields if "token" in said else said

    def test_passing_refusal(self) -> None:
        """A busy server is busy: the keys are not said to be out of reach."""
        self.network.refuse("backup", BUSY, retry_after=1.0)
        fresh = self.client("fresh")
        self.assertEqual(Exit.RATE_LIMITED, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertIsNone(fresh.core.stranded)

    def test_refresh_breaks(self) -> None:
        """A login that breaks while it brings its pins into the backup leaves nothing locked."""
        client = self.again(self.alice, login=False, interactive=False)
        self.network.faults["backup"] = ["lost"]
        self.assertEqual(Exit.NETWORK, client.exit(f"/login alice {PASSWORD}"))
        self.assertTrue(all(not pool.running for pool in client.pools[-1:]))
        self.assertEqual(Exit.OK, client.exit(f"/login alice {PASSWORD}"))

    def test_breaks_before_it_enters(self) -> None:
        """A connection lost right after the login's reply leaves nobody logged in without a link."""
        client = self.again(self.alice, login=False, interactive=False)
        core, genuine = client.core, stay.enter

        async def enter(core: ChatCore, account: OpenAccount) -> None:
            client.wire.cut()
            await genuine(core, account)

        self.patch(stay, "enter", enter)
        self.assertEqual(Exit.NETWORK, client.exit(f"/login alice {PASSWORD}"))
        self.assertEqual((None, None), (core.account, core.link))
        self.patch(stay, "enter", genuine)
        self.assertEqual(Exit.OK, client.exit(f"/login alice {PASSWORD}"))


class MergeTests(SynchronousTestCase):
    """Tests for `merged`."""

    old = Pin(b"a" * 32, 5, 1, "one")

    def test_one_identity(self) -> None:
        """The newer list, the first sight, and an open claim are kept."""
        newer = Pin(b"a" * 32, 9, 2, "two")
        claimed = replace(self.old, claimed=b"b" * 32)
        both = replace(newer, first_seen=5, claimed=b"b" * 32)
        self.assertEqual({"bob": both}, merged({"bob": newer}, {"bob": claimed}))
        self.assertEqual({"bob": both}, merged({"bob": claimed}, {"bob": newer}))

    def test_two_identities(self) -> None:
        """Of two, the later is a claim, unless its owner was accepted here."""
        later = Pin(b"b" * 32, 9, 1, "two")
        self.assertEqual(replace(self.old, claimed=later.ik), merged({"bob": later}, {"bob": self.old})["bob"])
        self.assertEqual(later, merged({"bob": later}, {"bob": self.old}, {"bob"})["bob"])

    def test_each_alone(self) -> None:
        """Whom only one of them knows, both know."""
        self.assertEqual({"bob", "carol"}, set(merged({"bob": self.old}, {"carol": self.old})))


class BackedPinTests(SynchronousTestCase):
    """Tests for which pins a backup keeps, where not all fit."""

    def kept(self, pins: dict[str, Pin], keys: int = 1) -> set[str]:
        """Of whom the pins are in the backup of somebody who knows these; it fits its packet."""
        bare = AccountSecrets(signing_key("alice"), (rsa_key(),) * keys, 1, {})
        records = {"pin": {user: pin.to_fields() for user, pin in pins.items()}}
        newer = backups.with_pins(bare, records, 2)
        newer = replace(newer, rsa_keys=(*newer.rsa_keys, rsa_key()))
        blob = seal_backup(bytes(32), newer, srv="s" * 43, user="alice", version=2, nonce=bytes(12))
        self.assertLessEqual(len(blob), limits.MAX_BACKUP)
        return set(newer.pins)

    def test_strangers_put_nobody_out(self) -> None:
        """Who was compared, and who is claimed to be another, stays, however late they were met; then the oldest."""
        strangers = {f"s{number}": Pin(b"s" * 32, 10 + number, 1, "d") for number in range(1200)}
        dear = {
            "verified": Pin(b"v" * 32, 9000, 1, "d", verified=True),
            "claimed": Pin(b"c" * 32, 8000, 1, "d", claimed=b"x" * 32),
            "oldest": Pin(b"o" * 32, 1, 1, "d"),
        }
        kept = self.kept({**strangers, **dear})
        self.assertEqual(1000, len(kept))
        self.assertLessEqual(dear.keys() | {"s0", "s996"}, kept)
        self.assertNotIn("s997", kept)

    def test_what_fits(self) -> None:
        """Nor does what strangers say of themselves make a backup too large, or keys that were made since."""
        kids, revoked = (
            tuple(f"{number:032x}" for number in range(100)),
            tuple(f"{number:032x}" for number in range(900)),
        )
        full = {f"s{number}": Pin(b"s" * 32, number, 1, "0" * 64, kids=kids, revoked=revoked) for number in range(30)}
        dear = {f"v{number}": Pin(b"v" * 32, 900, 1, "0" * 64, verified=True, kids=kids[:1]) for number in range(500)}
        for keys in (1, 20):
            kept = self.kept({**full, **dear}, keys)
            self.assertLessEqual(dear.keys(), kept)
            self.assertIn("s0", kept)
            self.assertNotIn("s29", kept)


class BackupTests(TwoCase):
    """Tests for commands on the backup."""

    def test_code_first(self) -> None:
        """The recovery code is shown before the server can have what only it opens."""
        self.network.faults["backup"] = [None, "unanswered"]
        self.alice.view.answers = [PASSWORD]
        self.assertEqual(Exit.NETWORK, self.alice.exit("/backup code"))
        self.assertRegex(self.alice.view.text, r"    (\w{4}-){6}\w{4}")
        self.assertIn("not known: keep it", self.alice.view.text)

    def test_passwd_without(self) -> None:
        """A backup that does not open keeps nobody from a new password, and is said."""
        self.spoil_backup()
        lines = self.alice.type(f"/passwd {PASSWORD} {NEW}")
        self.assertIn("The backup at the server does not open", lines[-1])
        alice = self.again(self.alice, login=False)
        self.assertEqual(Exit.OK, alice.exit(f"/login alice {NEW}"))

    def test_reset_over(self) -> None:
        """A reset replaces it, whatever its number."""
        self.spoil_backup()
        self.spoil_backup()
        for version, after in ((None, 4), (2**53 - 1, 1)):
            if version is not None:
                self.give_backup(version=version)
            self.assertEqual(Exit.OK, self.alice.exit(f"/reset-identity {PASSWORD} yes"), self.alice.view.text)
            self.assertEqual(after, self.stored_backup().version)

    def test_no_room_for_another(self) -> None:
        """A new password does without a backup that has the last of all numbers."""
        self.give_backup(version=2**53 - 1)
        self.assertIn("does not open", self.alice.type(f"/passwd {PASSWORD} {NEW}")[-1])

    def test_accepted_is_kept(self) -> None:
        """Whom this device accepted, the backup knows as accepted."""
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        for line in ("/trust bob", "/trust bob yes"):
            self.alice.type(line)
        self.again(self.alice)
        fresh = self.client("fresh")
        fresh.type(f"/login alice {PASSWORD}")
        assert fresh.core.people is not None and self.bob.core.account is not None
        pin = fresh.core.people.pins.get("bob")
        assert pin is not None
        self.assertEqual((self.bob.core.account.keys.ik, None), (pin.ik, pin.claimed))


class LeavingTests(TwoCase):
    """Tests for the end of a connection or of an account."""

    def test_server_stands_still(self) -> None:
        """Nobody waits long for a server that does not answer."""
        self.bob.type("/send unread")
        self.alice.wire.held = True
        wire = self.alice.wire
        self.patch(wire.client, "abortConnection", wire.cut)
        leaving = Deferred.fromCoroutine(stay.leave(self.alice.core))
        self.pass_time(5)
        self.successResultOf(leaving)
        self.assertFalse(wire.open)

    def test_ends_while_it_is_shown(self) -> None:
        """A login ends when the link ends for good while the backlog is still shown."""
        self.alice.quit()
        self.bob.type("/send missed")
        alice = self.client("alice", interactive=False)

        async def never(*_: object) -> None:
            await Deferred()

        self.patch(Inbox, "examine", never)
        login = alice.start(f"/login alice {PASSWORD}")
        self.assertNoResult(login)
        wire = alice.wire
        wire.say(m.Bye(reason="session_ended", msg="over"))
        wire.cut()
        self.settle()
        self.pass_time(5)
        self.assertEqual(Exit.NETWORK, self.successResultOf(login))

    def test_caught_up_too_late(self) -> None:
        """What was shown of a connection that is gone does not make the outbox believe in the next one."""
        self.alice.wire.cut()
        self.bob.type("/send missed")
        self.alice.threads.held = True
        self.pass_time(30)
        self.network.go_down()
        self.settle()
        while self.alice.threads.waiting:
            self.alice.threads.run_next()
            self.settle()
        self.assertFalse(self.alice.core.synced)

    def test_not_logged_in(self) -> None:
        """A message refused because the connection is not logged in is kept, and leaves later."""
        self.network.refuse("send", LOGIN_FIRST)
        self.alice.start("/send later")
        assert self.alice.core.outbox is not None
        self.assertEqual(["later"], [entry.text for entry in self.alice.core.outbox.pending()])
        self.alice.wire.cut()
        self.pass_time(60)
        self.assertIn("[general] <alice> later", self.bob.view.text)

    def test_logout_offline(self) -> None:
        """A logout without a connection counts on this machine, and says what it does not do."""
        self.network.go_down()
        self.settle()
        self.assertEqual(Exit.OK, self.alice.exit("/logout"))
        self.assertEqual("", self.alice.core.user)
        self.assertIn("30 days", self.alice.view.text)

    def test_logout_notes_what_was_read(self) -> None:
        """What was shown last is noted before the session ends."""
        self.bob.type("/send last words")
        self.alice.type("/logout")
        commands = self.network.wires[0].commands
        self.assertLess(commands.index("read"), commands.index("logout"))

    def test_reset_shows_nothing_twice(self) -> None:
        """What was shown is not shown again after a reset."""
        self.bob.type("/send once")
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.pass_time(1)
        self.assertEqual(1, self.alice.view.text.count("once"))

    def test_signal(self) -> None:
        """Stopped from outside, the status says so; ended by itself, it says how."""
        client = TerminalClient(MemoryReactorClock(), data_dir=self.mktemp())
        client.stopService()
        self.assertEqual(Exit.INTERRUPTED, client.status)
        client._ended(Exit.NOT_THERE)
        client.stopService()
        self.assertEqual(Exit.NOT_THERE, client.status)


class SeenTests(SynchronousTestCase):
    """Tests for `Outbox.seen`."""

    def test_idle(self) -> None:
        """The last message that came back leaves nothing to wait for."""
        host, clock = Host(), Clock()
        outbox = Outbox(host, clock, {})
        host.online = False
        entry = self.successResultOf(Deferred.fromCoroutine(outbox.put("general", "one")))
        idle = outbox.idle()
        self.assertNoResult(idle)
        outbox.seen(entry.mid)
        self.successResultOf(idle)


class ShowingTests(TwoCase):
    """Tests for what is shown."""

    def test_fold(self) -> None:
        """Messages in a row that do not open for one reason are one line."""
        self.alice.threads.held = True
        inbox = self.alice.core.inbox
        assert inbox is not None
        package = m.Package(encrypted_message="", encrypted_keys={}, kids={}, hdr=b"", bind=b"", sig=b"")
        head = max(conversation.cursor for conversation in self.alice.core.conversations)
        for number in range(1, 4):
            inbox.put(m.StoredMessage("general", head + number, "bob", "d" * 32, "m", 0, 2, package, UNSET))
        inbox.put(OwnMessage("general", None, head + 4, 2, 2, "e" * 64, "f" * 32, "mine"))
        self.alice.view.take()
        self.alice.threads.held = False
        self.settle()
        while self.alice.threads.waiting:
            self.alice.threads.run_next()
            self.settle()
        unshown = [item for item in self.alice.view.items if isinstance(item, Unshown)]
        self.assertEqual([1, 2], [item.count for item in unshown])  # the first was in the thread by then
        self.assertIn("[general] <alice> mine", self.alice.view.text)

    def test_no_progress(self) -> None:
        """History that does not advance is not asked for again and again."""

        def stuck(said: dict[str, Any]) -> dict[str, Any]:
            return said | {"messages": [], "more": True} if "messages" in said else said

        self.network.changes.append(stuck)
        self.successResultOf(self.ask_missing())
        self.assertEqual(1, self.alice.wire.commands.count("history"))

    def ask_missing(self) -> Deferred[Any]:
        """Asks for a gap."""
        missing = Deferred.fromCoroutine(self.alice.core.desk.missing("general", 0, 50))
        self.settle()
        return missing


class FileTests(SynchronousTestCase):
    """Tests for files that only their owner may read."""

    def test_directories(self) -> None:
        """The data directory, and those in it that are shared by accounts, are for their owner alone."""
        directory = ClientDir(Path(self.mktemp()))
        directory.path.mkdir(mode=0o755)
        directory.prepare()
        profile = directory.profile(SRV, "alice")
        os.close(profile.lock())
        for path in (directory.path, directory.path / "servers", profile.path.parent, profile.path):
            self.assertEqual(0o700, path.stat().st_mode & 0o777, path)

    def test_shared_directory(self) -> None:
        """A directory that is shared by design is refused, and stays as it is."""
        path = Path(self.mktemp())
        path.mkdir()
        path.chmod(0o1777)
        self.assertRaises(StartupError, private_directory, path)
        self.assertEqual(0o1777, path.stat().st_mode & 0o7777)

    def test_write_private(self) -> None:
        """A file is written under a name that nobody can guess, and nothing else stays."""
        path = Path(self.mktemp())
        path.mkdir()
        (path / f"file.{os.getpid()}.new").symlink_to(path / "elsewhere")
        write_private(path / "file", b"secret")
        self.assertEqual(b"secret", (path / "file").read_bytes())
        self.assertFalse((path / "elsewhere").exists())
        self.assertEqual(0o600, (path / "file").stat().st_mode & 0o777)
