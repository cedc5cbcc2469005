"""Accounts, sessions and invitations in the store."""

from __future__ import annotations

from dataclasses import replace

from securechat.crypto.identity import SignedCertificate, verify_bundle
from securechat.errors import BAD_INVITE, BAD_KEYS, DAMAGED, INTERNAL, NAME_TAKEN, STALE_BACKUP, STALE_KEYS, STALE_LIST
from securechat.storage.interface import Account, Backup, Session
from tests.doubles import SRV, Person, StoreCase, device, kid, new_account, new_keys, new_message, person

BOTH = ["alice", "bob"]
DAYS = 24 * 3600 * 1000
TOKEN, OTHER, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))


class RegisterTests(StoreCase):
    """Tests for `register`, and for reading what it made."""

    def test_account_comes_back(self) -> None:
        """What was registered is what `account` answers, keys and certificates included."""
        new = new_account("alice")
        self.do(self.store.register(new, invite_hash=None, now=5))
        expected = Account("alice", new.password_hash, new.salt, False, new.ik, 1, new.keys, 1)
        self.assertEqual(expected, self.do(self.store.account("alice")))
        self.assertEqual(new.backup, self.do(self.store.backup("alice")))
        self.assertEqual(new.salt, self.do(self.store.salt("alice")))

    def test_unknown(self) -> None:
        """A user who does not exist has no account, no salt and no backup."""
        self.assertIsNone(self.do(self.store.account("alice")))
        self.assertIsNone(self.do(self.store.salt("alice")))
        self.assertIsNone(self.do(self.store.backup("alice")))

    def test_name_taken(self) -> None:
        """A name is given once, and the first account stays as it was."""
        self.register("alice")
        second = new_account("alice", password_hash="another")
        self.assertRefused(NAME_TAKEN, self.store.register(second, invite_hash=None, now=1), user="alice")
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual("hash of alice", account.password_hash)

    def test_keys(self) -> None:
        """`keys` answers for those who exist and leaves out the others."""
        self.register("alice", "bob")
        expected = {"alice": new_keys("alice").keys, "bob": new_keys("bob").keys}
        self.assertEqual(expected, self.do(self.store.keys(["alice", "nobody", "bob"])))
        self.assertEqual({}, self.do(self.store.keys([])))


class InviteTests(StoreCase):
    """Tests for invitations."""

    def setUp(self) -> None:
        super().setUp()
        self.do(self.store.add_invite(b"code", uses=2, expires=100, now=1))

    def test_runs_out(self) -> None:
        """An invitation for two lets two in, and says in between whether it still holds."""
        for user in ("alice", "bob"):
            self.assertTrue(self.do(self.store.invite_holds(b"code", 50)))
            self.do(self.store.register(new_account(user), invite_hash=b"code", now=50))
        self.assertFalse(self.do(self.store.invite_holds(b"code", 50)))
        self.assertRefused(BAD_INVITE, self.store.register(new_account("carol"), invite_hash=b"code", now=50))
        self.assertIsNone(self.do(self.store.account("carol")))

    def test_expires(self) -> None:
        """From the very millisecond of its end an invitation is worth nothing."""
        self.assertTrue(self.do(self.store.invite_holds(b"code", 99)))
        self.assertFalse(self.do(self.store.invite_holds(b"code", 100)))
        late = self.store.register(new_account("alice"), invite_hash=b"code", now=100)
        self.assertRefused(BAD_INVITE, late)

    def test_unknown(self) -> None:
        """A made-up code holds nothing and registers nobody."""
        self.assertFalse(self.do(self.store.invite_holds(b"guess", 50)))
        self.assertRefused(BAD_INVITE, self.store.register(new_account("alice"), invite_hash=b"guess", now=50))

    def test_looked_at_first(self) -> None:
        """With a bad invitation nobody learns whether a name is taken."""
        self.register("alice")
        verb = self.store.register(new_account("alice"), invite_hash=b"guess", now=50)
        self.assertRefused(BAD_INVITE, verb)

    def test_taken_name_costs_no_place(self) -> None:
        """A registration that is refused for its name leaves the place to the next one."""
        self.register("alice")
        for _ in range(3):
            verb = self.store.register(new_account("alice"), invite_hash=b"code", now=50)
            self.assertRefused(NAME_TAKEN, verb, user="alice")
        self.assertTrue(self.do(self.store.invite_holds(b"code", 50)))

    def test_dead_ones_are_forgotten(self) -> None:
        """The next invitation sweeps away those that are used up or expired."""
        self.do(self.store.add_invite(b"second", uses=1, expires=200, now=150))
        self.assertEqual([(b"second",)], self.writer.connection.execute("SELECT code_hash FROM invite").fetchall())


class PublishTests(StoreCase):
    """Tests for `publish` and `reset_identity`."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob")

    def test_successor(self) -> None:
        """The next list takes the place of the last, and its backup with it."""
        keys = new_keys("alice", 2, (1, 2))
        self.do(self.store.publish("alice", keys, backup=Backup(2, b"newer"), now=5))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual((2, keys.keys, 2), (account.version, account.keys, account.backup_version))
        self.assertEqual(Backup(2, b"newer"), self.do(self.store.backup("alice")))

    def test_without_backup(self) -> None:
        """A list may come alone; the backup stays."""
        self.do(self.store.publish("alice", new_keys("alice", 2), backup=None, now=5))
        self.assertEqual(Backup(1, b"sealed"), self.do(self.store.backup("alice")))

    def test_not_the_next_version(self) -> None:
        """The same version, an older one and one too far are refused with the stored one."""
        for version in (0, 1, 3):
            verb = self.store.publish("alice", new_keys("alice", version), backup=None, now=5)
            self.assertRefused(STALE_LIST, verb, version=1)

    def test_other_identity(self) -> None:
        """A list of another identity is no successor, whatever its version."""
        verb = self.store.publish("alice", new_keys("alice", 2, ik=b"x" * 32), backup=None, now=5)
        self.assertRefused(STALE_LIST, verb, version=1)

    def test_stale_backup_stops_the_list(self) -> None:
        """A backup that is not newer refuses the whole request, the list included."""
        verb = self.store.publish("alice", new_keys("alice", 2), backup=Backup(1, b"old"), now=5)
        self.assertRefused(STALE_BACKUP, verb, version=1)
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(1, account.version)

    def test_revoked_device_loses_its_sessions(self) -> None:
        """Sessions of devices that left the list end; those of others, and of no device yet, go on."""
        self.do(self.store.publish("alice", new_keys("alice", 2, (1, 2)), backup=None, now=5))
        logins = {
            TOKEN: Session("alice", device("alice", 1)),
            OTHER: Session("alice", device("alice", 2)),
            THIRD: Session("alice", None),
        }
        for token, session in logins.items():
            self.do(self.store.open_session(token, session, 5))
        self.do(self.store.publish("alice", new_keys("alice", 3, (2,)), backup=None, now=6))
        found = {token: self.do(self.store.session(token, 7)) for token in logins}
        self.assertEqual(logins | {TOKEN: None}, found)

    def test_next_message_needs_the_new_key(self) -> None:
        """After a rekey, messages for the old key are refused although the room has not changed."""
        self.meet("alice", "bob")
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        self.do(self.store.publish("bob", new_keys("bob", 2, rk_kid=kid("bob", 2)), backup=None, now=5))
        self.assertRefused(STALE_KEYS, self.store.append(new_message("alice", BOTH, 2)), users=("bob",))
        kids = {"alice": kid("alice"), "bob": kid("bob", 2)}
        self.do(self.store.append(new_message("alice", BOTH, 2, kids=kids)))

    def test_reset_identity(self) -> None:
        """A new identity starts at any version with any backup, and all sessions end."""
        self.do(self.store.publish("alice", new_keys("alice", 2), backup=Backup(2, b"x"), now=5))
        for token, session in ((TOKEN, Session("alice", device("alice"))), (OTHER, Session("alice", None))):
            self.do(self.store.open_session(token, session, 5))
        keys = new_keys("alice", 1, (3,), generation=2)
        self.do(self.store.reset_identity("alice", keys, backup=Backup(1, b"first"), now=6))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(
            (keys.ik, 1, keys.keys.list, 1), (account.ik, account.version, account.keys.list, account.backup_version)
        )
        self.assertEqual(Backup(1, b"first"), self.do(self.store.backup("alice")))
        self.assertEqual([None, None], [self.do(self.store.session(token, 7)) for token in (TOKEN, OTHER)])

    def test_reset_identity_ends_memberships(self) -> None:
        """After a reset nobody seals for the account any more, also where it was in the cached roster."""
        self.meet("alice", "bob")
        self.do(self.store.append(new_message("alice", BOTH, 1)))
        keys = new_keys("bob", generation=2)
        self.do(self.store.reset_identity("bob", keys, backup=Backup(1, b"first"), now=6))
        self.assertRefused(STALE_KEYS, self.store.append(new_message("alice", BOTH, 2)), users=("bob",))
        self.do(self.store.append(self.said("alice", ["alice"], 2)))

    def test_identity_or_device_of_before(self) -> None:
        """A new identity is new to everybody, and so is its device: messages and logs name a device by its id."""
        who = Person("alice", generation=2)
        self.do(self.store.reset_identity("alice", new_keys("alice", generation=2), backup=Backup(1, b"x"), now=6))
        for keys in (
            new_keys("alice"),
            new_keys("alice", devices=(7,)),
            new_keys("alice", generation=3, devices=(7,), ik=who.ik),
            replace(new_keys("alice", generation=3), devices=(device("alice"),)),
            replace(new_keys("alice", generation=3), devices=(device("bob"),)),
            new_keys("alice", generation=3, ik=person("bob").ik),
        ):
            verb = self.store.reset_identity("alice", keys, backup=Backup(1, b"x"), now=7)
            self.assertRefused(BAD_KEYS, verb, why="a new identity has keys that nobody had before")
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(who.ik, account.ik)
        self.do(self.store.reset_identity("alice", new_keys("alice", generation=3), backup=Backup(1, b"x"), now=7))

    def test_device_of_before(self) -> None:
        """A list takes no device back: neither one that was revoked, nor one of a former identity."""
        why = "a device of this list was revoked, or had another identity"
        self.do(self.store.publish("alice", new_keys("alice", 2, (1, 2)), backup=None, now=5))
        self.do(self.store.publish("alice", new_keys("alice", 3, (2,)), backup=None, now=5))
        again = new_keys("alice", 4, (1, 2))
        self.assertRefused(BAD_KEYS, self.store.publish("alice", again, backup=None, now=5), why=why)
        self.do(self.store.reset_identity("alice", new_keys("alice", generation=2), backup=Backup(1, b"x"), now=6))
        for number in (1, 2):
            keys = new_keys("alice", 2, (1, 2), generation=2)
            keys = replace(keys, devices=(keys.devices[0], device("alice", number)))
            self.assertRefused(BAD_KEYS, self.store.publish("alice", keys, backup=None, now=7), why=why)
        self.do(self.store.publish("alice", new_keys("alice", 2, (1, 2), generation=2), backup=None, now=7))

    def test_user_who_does_not_exist(self) -> None:
        """A verb for a user nobody registered is the caller's mistake: logged, answered `internal`."""
        verb = self.store.publish("nobody", new_keys("nobody", 2), backup=None, now=5)
        self.assertRefused(INTERNAL, verb)
        self.assertEqual(1, len(self.flushLoggedErrors(LookupError)))


class PastTests(StoreCase):
    """Tests for certificates of devices that are in force no more: what they signed must stay readable."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice", "bob")

    def published(self, version: int, devices: tuple[int, ...], *revoked: int) -> None:
        keys = new_keys("alice", version, devices, revoked=tuple(device("alice", number) for number in revoked))
        self.do(self.store.publish("alice", keys, backup=None, now=5))

    def past(self, user: str = "alice") -> list[SignedCertificate]:
        return list(self.do(self.store.keys([user]))[user].past)

    def test_none(self) -> None:
        """While no device went, there are none."""
        self.published(2, (1, 2))
        self.assertEqual([], self.past())

    def test_revoked(self) -> None:
        """Devices that went come along, the newest first."""
        self.published(2, (1, 2, 3))
        self.published(3, (3,), 1, 2)
        who = person("alice")
        self.assertEqual([who.certificate(2), who.certificate(1)], self.past())
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual((who.certificate(2), who.certificate(1)), account.keys.past)
        self.assertEqual([], self.past("bob"))

    def test_former_identity(self) -> None:
        """So do those of a former identity, in force then or not."""
        self.published(2, (1, 2))
        self.published(3, (2,), 1)
        keys = new_keys("alice", generation=2)
        self.do(self.store.reset_identity("alice", keys, backup=Backup(1, b"first"), now=6))
        who = person("alice")
        self.assertEqual([who.certificate(2), who.certificate(1)], self.past())
        self.assertEqual(keys.keys.certs, self.do(self.store.keys(["alice"]))["alice"].certs)

    def test_verifies(self) -> None:
        """A bundle with its past certificates checks out, and knows all devices there ever were."""
        who = person("alice")
        self.published(2, (1, 2))
        bundle = who.bundle(3, (2,), previous=who.keys(2, (1, 2)).digest, revoked=(1,))
        keys = new_keys("alice", 3, (2,), keys=bundle, revoked=(who.dev(1),))
        self.do(self.store.publish("alice", keys, backup=None, now=5))
        verified = verify_bundle(self.do(self.store.keys(["alice"]))["alice"], srv=SRV, user="alice")
        self.assertEqual({who.dev(1), who.dev(2)}, set(verified.known))

    def test_so_many(self) -> None:
        """No more come along than the limit: the newest."""
        self.store = self.make_store(max_past=2)
        self.published(2, (1, 2, 3, 4))
        self.published(3, (4,), 1, 2, 3)
        who = person("alice")
        self.assertEqual([who.certificate(3), who.certificate(2)], self.past())


class PasswordTests(StoreCase):
    """Tests for passwords and backups."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice")

    def change(self, backup: Backup | None) -> None:
        self.do(
            self.store.change_password(
                "alice", password_hash="new", salt=b"another salt too", backup=backup, keep=TOKEN, now=9
            )
        )

    def test_change(self) -> None:
        """Hash, salt and backup change together."""
        self.change(Backup(2, b"newer"))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(("new", b"another salt too", 2), (account.password_hash, account.salt, account.backup_version))

    def test_other_sessions_end(self) -> None:
        """Whoever knew the old password is out, but for the session that changed it; other users stay."""
        self.register("bob")
        for token, user in ((TOKEN, "alice"), (OTHER, "alice"), (THIRD, "bob")):
            self.do(self.store.open_session(token, Session(user, None), 5))
        self.change(None)
        found = [self.do(self.store.session(token, 10)) for token in (TOKEN, OTHER, THIRD)]
        self.assertEqual([Session("alice", None), None, Session("bob", None)], found)

    def test_stale_backup(self) -> None:
        """A backup that is not newer refuses the change, and the old password stays."""
        verb = self.store.change_password(
            "alice", password_hash="new", salt=b"s" * 16, backup=Backup(1, b"old"), keep=TOKEN, now=9
        )
        self.assertRefused(STALE_BACKUP, verb, version=1)
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual("hash of alice", account.password_hash)

    def test_rehash(self) -> None:
        """A hash is renewed only if it is still the one that was checked."""
        self.do(self.store.rehash("alice", old="hash of alice", new="stronger"))
        self.do(self.store.rehash("alice", old="hash of alice", new="late"))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual("stronger", account.password_hash)

    def test_put_backup(self) -> None:
        """A backup is replaced by the next one only."""
        self.do(self.store.put_backup("alice", Backup(2, b"second")))
        for version in (1, 2, 4):
            self.assertRefused(STALE_BACKUP, self.store.put_backup("alice", Backup(version, b"x")), version=2)
        self.assertEqual(Backup(2, b"second"), self.do(self.store.backup("alice")))

    def test_backup_at_rest(self) -> None:
        """A backup is sealed once more in the database, and refused in another account's row or under a number."""
        self.do(self.store.register(new_account("bob"), invite_hash=None, now=1))
        stored = self.writer.connection.execute("SELECT backup FROM account WHERE name = 'alice'").fetchone()[0]
        self.assertNotIn(b"sealed", stored)
        for change in ("backup = (SELECT backup FROM account WHERE name = 'bob')", "backup_version = 9"):
            select = "SELECT backup, backup_version FROM account WHERE name = 'alice'"
            before = self.writer.connection.execute(select).fetchone()
            self.writer.connection.execute(f"UPDATE account SET {change} WHERE name = 'alice'")
            self.assertRefused(DAMAGED, self.store.backup("alice"), room="alice's backup")
            self.writer.connection.execute(
                "UPDATE account SET backup = ?, backup_version = ? WHERE name = 'alice'", before
            )
        self.assertEqual(Backup(1, b"sealed"), self.do(self.store.backup("alice")))


class SessionTests(StoreCase):
    """Tests for sessions."""

    def setUp(self) -> None:
        super().setUp()
        self.register("alice")

    def test_comes_back(self) -> None:
        """A session is found by its token's hash, with user and device; another hash finds nothing."""
        login = Session("alice", device("alice"))
        self.do(self.store.open_session(TOKEN, login, 0))
        self.assertEqual(login, self.do(self.store.session(TOKEN, 1)))
        self.assertIsNone(self.do(self.store.session(OTHER, 1)))

    def test_expires_unused(self) -> None:
        """After 30 days without use a session has ended; each use starts them anew."""
        login = Session("alice", None)
        self.do(self.store.open_session(TOKEN, login, 0))
        self.assertEqual(login, self.do(self.store.session(TOKEN, 30 * DAYS - 1)))
        self.assertEqual(login, self.do(self.store.session(TOKEN, 59 * DAYS)))
        self.assertIsNone(self.do(self.store.session(TOKEN, 89 * DAYS)))

    def test_ended_ones_are_forgotten(self) -> None:
        """The next login of an account sweeps its expired sessions away."""
        self.do(self.store.open_session(TOKEN, Session("alice", None), 0))
        self.do(self.store.open_session(OTHER, Session("alice", None), 31 * DAYS))
        rows = self.writer.connection.execute("SELECT token_hash FROM session").fetchall()
        self.assertEqual([(OTHER,)], rows)

    def test_device_not_in_force(self) -> None:
        """A session of a device that the account does not have is not resumed."""
        self.do(self.store.open_session(TOKEN, Session("alice", device("alice", 2)), 0))
        self.assertIsNone(self.do(self.store.session(TOKEN, 1)))

    def test_bind(self) -> None:
        """A session without a device gets one."""
        self.do(self.store.open_session(TOKEN, Session("alice", None), 0))
        self.do(self.store.bind_session(TOKEN, device("alice")))
        self.assertEqual(Session("alice", device("alice")), self.do(self.store.session(TOKEN, 1)))

    def test_close(self) -> None:
        """A closed session is gone; closing it again does nothing."""
        self.do(self.store.open_session(TOKEN, Session("alice", None), 0))
        for _ in range(2):
            self.do(self.store.close_session(TOKEN))
            self.assertIsNone(self.do(self.store.session(TOKEN, 1)))
