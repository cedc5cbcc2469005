"""Tests for accounts over the wire: registering, logging in and out, passwords, devices, identities, backups."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from securechat.crypto.identity import verify_bundle
from securechat.crypto.primitives import b64url
from securechat.errors import (
    BAD_INVITE,
    BAD_KEYS,
    BAD_LOGIN,
    BAD_SESSION,
    BUSY,
    DEVICE_FIRST,
    INVITE_NEEDED,
    LOGIN_FIRST,
    NAME_TAKEN,
    NO_BACKUP,
    NOT_MEMBER,
    RATE_LIMITED,
    REGISTRATION_CLOSED,
    STALE_BACKUP,
    STALE_LIST,
    TOO_MANY_DEVICES,
)
from securechat.server import accounts
from securechat.server.session import Registration
from securechat.wire import messages as m
from tests.doubles import SRV, Caller, Person, ServerCase, auth_token, flipped, new_keys, session_keys

SALT = b"sixteen of salt!"
CODE = b64url(b"i" * 16)


class RegisterTests(ServerCase):
    """Tests for `register`."""

    PEOPLE = ()

    def test_logs_in(self) -> None:
        """It makes the account and logs its device in, with a token to resume by."""
        caller = self.call()
        reply = caller.ask(self.registration_of(self.alice))
        self.assertEqual(
            ("alice", self.alice.dev(), 1, False), (reply.user, reply.device, reply.backup_version, reply.dup)
        )
        self.assertEqual(session_keys(self.alice), reply.keys)
        self.assertEqual(m.RoomsOk(id=2, rooms=()), caller.ask(m.Rooms(id=2)))

    def test_stores_what_was_sent(self) -> None:
        """Salt, keys and backup are kept as they came; the password only as a hash."""
        self.call().ask(self.registration_of(self.alice))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual((SALT, self.alice.ik, 1), (account.salt, account.ik, account.backup_version))
        self.assertEqual(f"new {auth_token(self.alice)}", account.password_hash)
        self.assertEqual(self.alice.bundle(), account.keys)

    def test_again(self) -> None:
        """The same name, identity and password again is no error but a login: the first answer may have been lost."""
        self.call().ask(self.registration_of(self.alice))
        caller = self.call()
        reply = caller.ask(self.registration_of(self.alice))
        self.assertEqual((True, self.alice.dev()), (reply.dup, reply.device))
        self.assertEqual(m.RoomsOk(rooms=()), caller.ask(m.Rooms()))

    def test_name_taken(self) -> None:
        """Another identity, or another password, does not get the name; the account stays as it was."""
        self.call().ask(self.registration_of(self.alice))
        other = Person("alice", generation=2)
        for registration in (
            self.registration_of(other, password=auth_token(other, "another")),
            self.registration_of(other),
            self.registration_of(self.alice, password=auth_token(self.alice, "another")),
        ):
            self.assertFailed(NAME_TAKEN, self.call().ask(registration))
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(self.alice.ik, account.ik)

    def test_one_hash_whether_or_not_the_name_exists(self) -> None:
        """A password is checked once in either case."""
        self.call().ask(self.registration_of(self.alice))
        self.assertEqual([None], self.hasher.verified)
        self.call().ask(self.registration_of(Person("alice", generation=2)))
        self.assertEqual(2, len(self.hasher.verified))

    def test_wrong_keys(self) -> None:
        """Keys that do not check out make no account: another name, server or signature, a later list, two devices."""
        good = session_keys(self.alice)
        for keys in (
            session_keys(self.bob),
            session_keys(Person("alice", srv="B" * 43)),
            replace(good, sig=flipped(good.sig, 0)),
            session_keys(self.alice, 2),
            session_keys(self.alice, 1, (1, 2)),
        ):
            self.assertFailed(BAD_KEYS, self.call().ask(self.registration_of(self.alice, keys=keys)))
        self.assertIs(None, self.do(self.store.account("alice")))

    def test_rate(self) -> None:
        """An address may try only so often, whatever it tries."""
        self.parts = replace_parts(self, per_address=2)
        self.factory = self.listener()
        caller = self.call("192.0.2.9")
        wrong = self.registration_of(self.alice, keys=session_keys(self.bob))
        self.assertEqual([BAD_KEYS.name] * 2, [caller.ask(wrong).code for _ in range(2)])
        self.assertFailed(RATE_LIMITED, caller.ask(wrong), retry_after=31.0)
        self.assertFailed(BAD_KEYS, self.call("192.0.2.10").ask(wrong))


def replace_parts(case: ServerCase, **limits: int) -> Any:
    """The server's parts, with other limits of how often one may try."""
    from dataclasses import replace as replace_fields

    from securechat.server.checks import Admission

    return replace_fields(case.parts, admission=Admission(**limits))


class InviteTests(ServerCase):
    """Tests for who may register where."""

    PEOPLE = ()
    REGISTRATION = Registration.INVITE

    def invite(self, uses: int = 1) -> None:
        """An invitation of that code, good for a minute."""
        now = int(self.reactor.seconds() * 1000)
        hashed = hashlib.sha256(CODE.encode()).digest()
        self.do(self.store.add_invite(hashed, uses=uses, expires=now + 60_000, now=now))

    def test_needed(self) -> None:
        """Without one, nobody registers."""
        self.assertFailed(INVITE_NEEDED, self.call().ask(self.registration_of(self.alice)))

    def test_used_up(self) -> None:
        """It serves as often as it says, and no more."""
        self.invite(uses=2)
        for person in (self.alice, self.bob):
            self.assertIsInstance(self.call().ask(self.registration_of(person, invite=CODE)), m.LoginOk)
        self.assertFailed(BAD_INVITE, self.call().ask(self.registration_of(self.carol, invite=CODE)))

    def test_unknown_and_expired(self) -> None:
        """An unknown one and one that has expired are refused alike."""
        self.invite()
        self.assertFailed(BAD_INVITE, self.call().ask(self.registration_of(self.alice, invite=b64url(b"x" * 16))))
        self.reactor.advance(61)
        self.assertFailed(BAD_INVITE, self.call().ask(self.registration_of(self.alice, invite=CODE)))

    def test_looked_at_before_the_name(self) -> None:
        """Who has no invitation does not learn which names are taken."""
        self.invite()
        self.call().ask(self.registration_of(self.alice, invite=CODE))
        for name in (self.alice, self.bob):
            other = Person(name.user, generation=2)
            self.assertFailed(INVITE_NEEDED, self.call().ask(self.registration_of(other)))
            self.assertFailed(BAD_INVITE, self.call().ask(self.registration_of(other, invite=CODE)))

    def test_name_taken_uses_nothing_up(self) -> None:
        """A name that is taken does not cost the newcomer the invitation."""
        self.invite(uses=2)
        self.call().ask(self.registration_of(self.alice, invite=CODE))
        other = Person("alice", generation=2)
        self.assertFailed(NAME_TAKEN, self.call().ask(self.registration_of(other, invite=CODE)))
        self.assertIsInstance(self.call().ask(self.registration_of(self.bob, invite=CODE)), m.LoginOk)

    def test_again_without_a_place(self) -> None:
        """Who registered already is let in again without another invitation."""
        self.invite()
        self.call().ask(self.registration_of(self.alice, invite=CODE))
        self.assertTrue(self.call().ask(self.registration_of(self.alice, invite=CODE)).dup)
        self.assertTrue(self.call().ask(self.registration_of(self.alice)).dup)

    def test_by_listener(self) -> None:
        """Another listener may be open, or closed to all; the greeting says which."""
        free = self.call(factory=self.listener(registration=Registration.OPEN))
        closed = self.call(factory=self.listener(registration=Registration.CLOSED))
        self.assertEqual(["open", "closed", "invite"], [one.hello.registration for one in (free, closed, self.call())])
        self.invite()
        self.assertFailed(REGISTRATION_CLOSED, closed.ask(self.registration_of(self.alice, invite=CODE)))
        self.assertIsInstance(free.ask(self.registration_of(self.alice)), m.LoginOk)

    def test_not_by_address(self) -> None:
        """Coming from this machine opens nothing: a proxy's peers all do."""
        self.assertFailed(INVITE_NEEDED, self.call("127.0.0.1").ask(self.registration_of(self.alice)))


class PreloginTests(ServerCase):
    """Tests for `prelogin`."""

    PEOPLE = ()

    def test_salt(self) -> None:
        """It tells the salt of an account."""
        self.call().ask(self.registration_of(self.alice, salt=b"s" * 16))
        self.assertEqual(m.PreloginOk(id=5, salt=b"s" * 16), self.call().ask(m.Prelogin(id=5, user="alice")))

    def test_unknown_name(self) -> None:
        """For an unknown name it tells one that looks like it: always the same, other for each name."""
        salts = [self.call().ask(m.Prelogin(user=user)).salt for user in ("bob", "bob", "eve")]
        self.assertEqual(salts[0], salts[1])
        self.assertNotEqual(salts[0], salts[2])
        self.assertEqual(16, len(salts[0]))

    def test_same_line(self) -> None:
        """The answers differ in nothing but the salt."""
        self.call().ask(self.registration_of(self.alice))
        known, unknown = (self.call().ask(m.Prelogin(user=user)) for user in ("alice", "bob"))
        self.assertEqual(replace(known, salt=b""), replace(unknown, salt=b""))


class LoginTests(ServerCase):
    """Tests for `login`."""

    def log_in(self, device: int | None = 1, **changes: Any) -> tuple[Caller, Any]:
        """A login of alice's on a new connection, and what it is answered."""
        caller = self.call()
        return caller, caller.ask(self.login_of(self.alice, caller, device, **changes))

    def test_as_a_device(self) -> None:
        """By password and the device's proof one is logged in as that device."""
        caller, reply = self.log_in()
        self.assertEqual(("alice", self.alice.dev(), 1), (reply.user, reply.device, reply.backup_version))
        self.assertEqual(session_keys(self.alice), reply.keys)
        self.assertIsInstance(caller.ask(m.Rooms()), m.RoomsOk)

    def test_without_a_device(self) -> None:
        """By password alone one may fetch the backup and publish a device, and nothing else."""
        caller, reply = self.log_in(None)
        self.assertIs(UNSET, reply.device)
        self.assertFailed(DEVICE_FIRST, caller.ask(m.Rooms()))
        self.assertEqual(b"sealed", caller.ask(m.BackupRequest()).backup.blob)

    def test_tokens_differ(self) -> None:
        """Each login has a token of its own, of which only the hash is stored."""
        tokens = [self.log_in()[1].token for _ in range(3)]
        self.assertEqual(3, len(set(tokens)))
        with closing(sqlite3.connect(self.path)) as database:
            hashes = {row[0] for row in database.execute("SELECT token_hash FROM session")}
        self.assertLessEqual({hashlib.sha256(token.encode()).digest() for token in tokens}, hashes)
        content = b"".join(path.read_bytes() for path in self.path.parent.glob(f"{self.path.name}*"))
        for token in tokens:
            self.assertNotIn(token.encode(), content)

    def test_wrong_proof(self) -> None:
        """A proof that does not hold counts as none: made for another connection, by another device, or altered."""
        elsewhere = self.call()
        for changes in (
            {"proof": elsewhere.proof(self.alice)},
            {"proof": b"p" * 64},
            {"device": self.alice.dev(2)},
            {"device": self.bob.dev(), "proof": b"p" * 64},
            {"proof": None},
        ):
            _, reply = self.log_in(**changes)
            self.assertIs(UNSET, reply.device, changes)

    def test_bad_login(self) -> None:
        """Unknown user, wrong password and suspended account are one answer, after one hash each."""
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE account SET suspended = 1 WHERE name = 'alice'")
        suspended = self.log_in(None)[1]
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE account SET suspended = 0")
        wrong = self.log_in(None, password=auth_token(self.alice, "wrong"))[1]
        unknown = self.call().ask(m.Login(id=1, user="nobody", password=auth_token(self.alice)))
        self.assertFailed(BAD_LOGIN, wrong)
        self.assertEqual([wrong, wrong], [suspended, unknown])
        self.assertEqual([None, f"new {auth_token(self.alice)}", None], self.hasher.verified)

    def test_after_a_bad_login(self) -> None:
        """The connection stays as it was, and the next try may succeed."""
        caller, _ = self.log_in(password=auth_token(self.alice, "wrong"))
        self.assertFailed(LOGIN_FIRST, caller.ask(m.Rooms()))
        self.assertIsInstance(caller.ask(self.login_of(self.alice, caller)), m.LoginOk)

    def test_old_hash_is_replaced(self) -> None:
        """At the next login a hash of an older kind gives way to a new one."""
        old = f"old {auth_token(self.alice)}"
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE account SET password_hash = ?", (old,))
        self.assertFailed(BAD_LOGIN, self.log_in(password=auth_token(self.alice, "wrong"))[1])
        self.assertEqual(old, self.password_hash())
        self.assertIsInstance(self.log_in()[1], m.LoginOk)
        self.assertEqual(f"new {auth_token(self.alice)}", self.password_hash())

    def password_hash(self) -> str:
        """Of alice, as stored."""
        account = self.do(self.store.account("alice"))
        assert account is not None
        return account.password_hash

    def test_replaced_device(self) -> None:
        """Where a device comes back on a new connection, the old one is told why, and closed."""
        first, _ = self.log_in()
        second, _ = self.log_in()
        self.assertEqual(["replaced"], [bye.reason for bye in first.take(m.Bye)])
        self.assertTrue(first.closing)
        self.assertFalse(second.closing)
        self.assertIsInstance(second.ask(m.Rooms()), m.RoomsOk)

    def test_connection_lost_during_the_check(self) -> None:
        """Who is gone when the password has been checked is not logged in, and takes nobody's place."""
        first, _ = self.log_in()
        caller = self.call()
        self.checks.threads.held = True
        caller.say(self.login_of(self.alice, caller))
        caller.lose()
        self.checks.threads.run_next()
        self.assertEqual([first.protocol.session], self.parts.logins.of("alice"))
        self.assertEqual([], first.take(m.Bye))


class AdmissionTests(ServerCase):
    """Tests for how often one may try."""

    def setUp(self) -> None:
        super().setUp()
        self.parts = replace_parts(self, per_account=2, per_address=5)
        self.factory = self.listener()

    def guess(self, address: str, user: str = "alice") -> Any:
        """A wrong password from an address."""
        return self.call(address).ask(m.Login(user=user, password=auth_token(self.alice, "wrong")))

    def test_account_and_address(self) -> None:
        """A stranger who guesses is stopped, and hears for how long; no hash is spent on it."""
        codes = [self.guess("192.0.2.9").code for _ in range(2)]
        self.assertEqual([BAD_LOGIN.name] * 2, codes)
        spent = len(self.hasher.verified)
        self.assertFailed(RATE_LIMITED, self.guess("192.0.2.9"), retry_after=31.0)
        self.assertEqual(spent, len(self.hasher.verified))
        self.reactor.advance(31)
        self.assertFailed(BAD_LOGIN, self.guess("192.0.2.9"))

    def test_owner_elsewhere(self) -> None:
        """It does not lock the owner out who comes from another address."""
        for _ in range(4):
            self.guess("192.0.2.9")
        caller = self.call("192.0.2.1")
        self.assertIsInstance(caller.ask(self.login_of(self.alice, caller, None)), m.LoginOk)

    def test_owner_beside_the_stranger(self) -> None:
        """Nor the owner on the same address, whose device proves itself and has a bucket of its own."""
        for _ in range(4):
            self.guess("192.0.2.9")
        caller = self.call("192.0.2.9")
        self.assertFailed(RATE_LIMITED, caller.ask(self.login_of(self.alice, caller, None)), retry_after=31.0)
        self.assertIsInstance(caller.ask(self.login_of(self.alice, caller)), m.LoginOk)

    def test_device_bucket(self) -> None:
        """That bucket, too, has an end: a stolen device does not guess without limit."""
        codes = []
        for _ in range(3):
            caller = self.call()
            wrong = self.login_of(self.alice, caller, password=auth_token(self.alice, "wrong"))
            codes.append(caller.ask(wrong).code)
        self.assertEqual([BAD_LOGIN.name, BAD_LOGIN.name, RATE_LIMITED.name], codes)

    def test_session_alone_guesses_no_faster(self) -> None:
        """Who is logged in may try the password no oftener, be it to change it or to reset the identity."""
        wrong = auth_token(self.alice, "wrong")
        passwd = m.Passwd(password=wrong, new_password=wrong, new_salt=SALT)
        caller = self.member(self.alice)
        self.assertEqual([BAD_LOGIN.name, RATE_LIMITED.name], [caller.ask(passwd).code for _ in range(2)])
        other = session_keys(Person("alice", generation=2))
        reset = m.ResetIdentity(password=wrong, keys=other, backup=m.Backup(version=1, blob=b"x"))
        codes = [caller.ask(reset).code for _ in range(3)]
        self.assertEqual([BAD_LOGIN.name, BAD_LOGIN.name, RATE_LIMITED.name], codes)

    def test_many_accounts_from_one_address(self) -> None:
        """Who tries one password at many accounts is stopped by address."""
        codes = [self.guess("192.0.2.9", f"user{number}").code for number in range(6)]
        self.assertEqual([BAD_LOGIN.name] * 5 + [RATE_LIMITED.name], codes)

    def test_unknown_name_alike(self) -> None:
        """The limits do not tell which names exist."""
        for user in ("alice", "nobody"):
            address = "192.0.2.20" if user == "alice" else "192.0.2.21"
            codes = [self.guess(address, user).code for _ in range(3)]
            self.assertEqual([BAD_LOGIN.name, BAD_LOGIN.name, RATE_LIMITED.name], codes)


class ResumeTests(ServerCase):
    """Tests for `resume`."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.call()
        self.token = self.first.ask(self.login_of(self.alice, self.first)).token

    def resume(self, token: str | None = None, **changes: Any) -> tuple[Caller, Any]:
        """A resumption on a new connection, and what it is answered."""
        caller = self.call()
        fields = {"token": token or self.token, "proof": caller.proof(self.alice)} | changes
        return caller, caller.ask(m.Resume(**fields))

    def test_resumes(self) -> None:
        """The token and the device's proof are enough, without a password and without a hash."""
        spent = len(self.hasher.verified)
        caller, reply = self.resume()
        self.assertEqual(("alice", self.alice.dev(), self.token), (reply.user, reply.device, reply.token))
        self.assertIsInstance(caller.ask(m.Rooms()), m.RoomsOk)
        self.assertEqual(spent, len(self.hasher.verified))
        self.assertEqual(["replaced"], [bye.reason for bye in self.first.take(m.Bye)])

    def test_needs_the_device(self) -> None:
        """A stolen token is worth nothing without the device's key, nor is a proof from another connection."""
        elsewhere = self.call().proof(self.alice)
        for proof in (b"p" * 64, self.call().proof(self.alice, 2), elsewhere):
            self.assertFailed(BAD_SESSION, self.resume(proof=proof)[1])
        self.assertFalse(self.first.closing)

    def test_unknown_token(self) -> None:
        """An unknown token is refused."""
        self.assertFailed(BAD_SESSION, self.resume(b64url(b"x" * 32))[1])

    def test_after_logout(self) -> None:
        """After a logout the token is worth nothing, while the connection stays, as before a login."""
        self.assertEqual(m.Reply(id=3), self.first.ask(m.Logout(id=3)))
        self.assertFailed(LOGIN_FIRST, self.first.ask(m.Rooms()))
        self.assertFalse(self.first.closing)
        self.assertFailed(BAD_SESSION, self.resume()[1])
        self.assertIsInstance(self.first.ask(self.login_of(self.alice, self.first)), m.LoginOk)

    def test_without_a_device(self) -> None:
        """A login without a device cannot be resumed: there is no key to prove."""
        caller = self.call()
        token = caller.ask(self.login_of(self.alice, caller, None)).token
        self.assertFailed(BAD_SESSION, self.resume(token)[1])

    def test_suspended(self) -> None:
        """A suspended account is not resumed."""
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE account SET suspended = 1")
        self.assertFailed(BAD_SESSION, self.resume()[1])

    def test_connection_lost_meanwhile(self) -> None:
        """Who is gone before the answer is not logged in, and takes nobody's place."""
        caller = self.call()
        self.writer.threads.held = True
        caller.say(m.Resume(token=self.token, proof=caller.proof(self.alice)))
        caller.lose()
        self.writer.threads.held = False
        self.writer.threads.run_next()
        self.assertEqual([self.first.protocol.session], self.parts.logins.of("alice"))
        self.assertEqual([], self.first.take(m.Bye))


class PasswdTests(ServerCase):
    """Tests for `passwd`."""

    def setUp(self) -> None:
        super().setUp()
        self.caller = self.member(self.alice)
        self.new = auth_token(self.alice, "new")

    def passwd(self, **changes: Any) -> Any:
        """A change of the password, and what it is answered."""
        fields = {
            "password": auth_token(self.alice),
            "new_password": self.new,
            "new_salt": b"n" * 16,
            "backup": m.Backup(version=2, blob=b"sealed anew"),
        } | changes
        return self.caller.ask(m.Passwd(**fields))

    def test_changes_all_that_depends_on_it(self) -> None:
        """Hash, salt and backup change together; the new password logs in and the old does not."""
        self.assertEqual(m.Reply(), self.passwd())
        caller = self.call()
        self.assertEqual(b"n" * 16, caller.ask(m.Prelogin(user="alice")).salt)
        self.assertFailed(BAD_LOGIN, caller.ask(self.login_of(self.alice, caller)))
        reply = caller.ask(self.login_of(self.alice, caller, password=self.new))
        self.assertEqual(2, reply.backup_version)
        self.assertEqual(b"sealed anew", caller.ask(m.BackupRequest()).backup.blob)

    def test_needs_the_current_password(self) -> None:
        """A session alone does not do."""
        self.assertFailed(BAD_LOGIN, self.passwd(password=self.new))
        caller = self.call()
        self.assertEqual(b"sixteen of salt!", caller.ask(m.Prelogin(user="alice")).salt)
        self.assertIsInstance(caller.ask(self.login_of(self.alice, caller)), m.LoginOk)

    def test_ends_the_other_sessions(self) -> None:
        """All others are told and closed, and their tokens die; this one goes on."""
        other, waiting = self.call(), self.call()
        token = other.ask(self.login_of(self.alice, other, None)).token
        waiting.ask(self.login_of(self.alice, waiting, None))
        self.passwd()
        for one in (other, waiting):
            self.assertEqual(["session_ended"], [bye.reason for bye in one.take(m.Bye)])
            self.assertTrue(one.closing)
        self.assertIsInstance(self.caller.ask(m.Rooms()), m.RoomsOk)
        self.assertIs(None, self.do(self.store.session(hashlib.sha256(token.encode()).digest(), 0)))

    def test_own_session_goes_on(self) -> None:
        """The token of the session that changed it can still be resumed."""
        caller = self.call()
        token = caller.ask(self.login_of(self.alice, caller)).token
        self.caller = caller
        self.passwd()
        again = self.call()
        self.assertIsInstance(again.ask(m.Resume(token=token, proof=again.proof(self.alice))), m.LoginOk)

    def test_stale_backup(self) -> None:
        """With a backup that is not newer nothing changes."""
        reply = self.passwd(backup=m.Backup(version=1, blob=b"x"))
        self.assertFailed(STALE_BACKUP, reply, version=1)
        self.assertFailed(BAD_LOGIN, self.call().ask(m.Login(user="alice", password=self.new)))

    def test_without_a_backup(self) -> None:
        """A backup under a recovery code need not change with the password."""
        self.assertEqual(m.Reply(), self.passwd(backup=None))
        self.assertEqual(1, self.caller.ask(m.BackupRequest()).backup.version)


class PublishTests(ServerCase):
    """Tests for `publish`."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.member(self.alice, "ops")
        self.bobs = self.member(self.bob, "ops")
        self.first.take()

    def publish(self, caller: Caller, keys: m.KeyBundle | None = None, device: int = 2, **changes: Any) -> Any:
        """A new device list, and what it is answered."""
        fields: dict[str, Any] = {
            "device": self.alice.dev(device),
            "proof": caller.proof(self.alice, device),
            "keys": keys or self.next_list(),
        }
        return caller.ask(m.Publish(**fields | changes))

    def next_list(self, devices: tuple[int, ...] = (1, 2), **changes: Any) -> m.KeyBundle:
        """The list after the first."""
        previous = self.alice.keys().digest
        return m.KeyBundle.of(self.alice.bundle(2, devices, **{"previous": previous} | changes))

    def new_device(self) -> Caller:
        """A login without a device."""
        caller = self.call()
        caller.ask(self.login_of(self.alice, caller, None))
        return caller

    def test_new_device(self) -> None:
        """A login without a device publishes one, and is that device from now on."""
        caller = self.new_device()
        reply = self.publish(caller)
        self.assertEqual((self.next_list(), 1), (reply.keys, reply.backup_version))
        self.assertIsInstance(caller.ask(m.Rooms()), m.RoomsOk)
        self.assertEqual([self.alice.dev(), self.alice.dev(2)], [one.device for one in self.parts.logins.of("alice")])

    def test_can_be_resumed(self) -> None:
        """The session is the new device's, and can be resumed by it alone."""
        caller = self.call()
        token = caller.ask(self.login_of(self.alice, caller, None)).token
        self.publish(caller)
        for device, expected in ((1, m.Failed), (2, m.LoginOk)):
            again = self.call()
            reply = again.ask(m.Resume(token=token, proof=again.proof(self.alice, device)))
            self.assertIsInstance(reply, expected)

    def test_contacts_are_told(self) -> None:
        """Who shares a room, and the account's own other devices, get the new keys; the publisher does not."""
        caller = self.new_device()
        outsider = self.member(self.carol)
        self.publish(caller)
        event = m.MemberEvent(user="alice", keys=self.next_list())
        self.assertEqual([[event], [event]], [one.take(m.MemberEvent) for one in (self.bobs, self.first)])
        self.assertEqual([[], []], [one.take(m.MemberEvent) for one in (outsider, caller)])

    def test_stale_list(self) -> None:
        """A fork, a gap and another identity do not follow the newest list, whose number the refusal tells."""
        caller = self.new_device()
        other = Person("alice", generation=2)
        for keys in (
            session_keys(self.alice),
            m.KeyBundle.of(self.alice.bundle(3, (1, 2), previous=self.alice.keys().digest)),
            self.next_list(previous="00" * 32),
            m.KeyBundle.of(other.bundle(2, previous=self.alice.keys().digest)),
        ):
            self.assertFailed(STALE_LIST, self.publish(caller, keys), version=1)

    def test_revoked_device_back(self) -> None:
        """The next list must name every device that went as revoked, and take no revocation back."""
        caller = self.new_device()
        self.publish(caller, self.next_list((2,), revoked=(1,)))
        digest = verify_bundle(self.next_list((2,), revoked=(1,)), srv=SRV, user="alice").digest
        back = m.KeyBundle.of(self.alice.bundle(3, (1, 2), previous=digest))
        self.assertFailed(BAD_KEYS, self.publish(caller, back))
        gone = m.KeyBundle.of(self.alice.bundle(3, (3,), previous=digest, revoked=(1,)))
        self.assertFailed(BAD_KEYS, self.publish(caller, gone))

    def test_wrong_keys(self) -> None:
        """Keys that do not check out are refused."""
        caller = self.new_device()
        good = self.next_list()
        for keys in (session_keys(self.bob), replace(good, sig=flipped(good.sig, 9))):
            self.assertFailed(BAD_KEYS, self.publish(caller, keys))

    def test_too_many_devices(self) -> None:
        """An account has ten devices at most."""
        caller = self.new_device()
        eleven = self.next_list(tuple(range(1, 12)))
        self.assertFailed(TOO_MANY_DEVICES, self.publish(caller, eleven))
        self.assertIsInstance(self.publish(caller, self.next_list(tuple(range(1, 11)))), m.PublishOk)

    def test_unproven_device(self) -> None:
        """The device proves that it holds its key, on this connection, and stands in the list."""
        caller = self.new_device()
        for changes in (
            {"proof": b"p" * 64},
            {"proof": caller.proof(self.alice, 1)},
            {"proof": self.call().proof(self.alice, 2)},
            {"device": self.alice.dev(3), "proof": caller.proof(self.alice, 3)},
        ):
            self.assertFailed(BAD_KEYS, self.publish(caller, **changes))
        self.assertEqual(session_keys(self.alice), caller.ask(m.Keys(users=("alice",))).keys["alice"])

    def test_revoked_device_is_put_out(self) -> None:
        """A device that is not in the new list is told and closed, and its session cannot be resumed."""
        old = self.call()
        token = old.ask(self.login_of(self.alice, old)).token
        caller = self.new_device()
        self.publish(caller, self.next_list((2,), revoked=(1,)))
        self.assertEqual(["session_ended"], [bye.reason for bye in old.take(m.Bye)])
        self.assertTrue(old.closing)
        again = self.call()
        resumed = again.ask(m.Resume(token=token, proof=again.proof(self.alice)))
        self.assertFailed(BAD_SESSION, resumed)
        reply = again.ask(self.login_of(self.alice, again))
        self.assertIs(UNSET, reply.device)

    def test_device_changes_on_one_connection(self) -> None:
        """A device that publishes its successor, and itself as revoked, becomes that on the same connection."""
        caller = self.call()
        caller.ask(self.login_of(self.alice, caller))
        self.assertIsInstance(self.publish(caller, self.next_list((2,), revoked=(1,))), m.PublishOk)
        self.assertIsInstance(caller.ask(m.Rooms()), m.RoomsOk)
        self.assertEqual([self.alice.dev(2)], [one.device for one in self.parts.logins.of("alice")])

    def test_with_a_backup(self) -> None:
        """A backup that comes along is stored with the list, or neither is."""
        caller = self.new_device()
        stale = self.publish(caller, backup=m.Backup(version=1, blob=b"x"))
        self.assertFailed(STALE_BACKUP, stale, version=1)
        self.assertEqual(session_keys(self.alice), caller.ask(m.Keys(users=("alice",))).keys["alice"])
        self.assertEqual(2, self.publish(caller, backup=m.Backup(version=2, blob=b"x")).backup_version)

    def test_rate(self) -> None:
        """So many lists at once, then one in six minutes; one that is refused does not count."""

        def publish(version: int, **changes: Any) -> Any:
            return self.publish(self.first, m.KeyBundle.of(self.alice.bundle(version)), 1, **changes)

        for version in range(2, 12):
            self.assertFailed(STALE_LIST, publish(version - 1), version=version - 1)
            self.assertFailed(STALE_BACKUP, publish(version, backup=m.Backup(version=1, blob=b"x")), version=1)
            self.assertIsInstance(publish(version), m.PublishOk)
        self.bobs.take()
        self.assertFailed(RATE_LIMITED, publish(12), retry_after=361.0)
        self.assertEqual([], self.bobs.take(m.MemberEvent))

    def test_event_without_past(self) -> None:
        """Contacts are sent what is new; the certificates of devices that went are theirs to ask for."""
        self.publish(self.new_device(), self.next_list((2,), revoked=(1,)))
        event = m.MemberEvent(user="alice", keys=self.next_list((2,), revoked=(1,)))
        self.assertEqual([event], self.bobs.take(m.MemberEvent))
        past = self.bobs.ask(m.Keys(users=("alice",))).keys["alice"].past
        self.assertEqual((m.Certificate.of(self.alice.certificate()),), past)

    def test_connection_lost_meanwhile(self) -> None:
        """Who is gone before the answer is not logged in afterwards; what was published stays, and contacts know."""
        caller = self.new_device()
        self.writer.threads.held = True
        caller.say(m.Publish(device=self.alice.dev(2), proof=caller.proof(self.alice, 2), keys=self.next_list()))
        caller.lose()
        self.writer.threads.held = False
        while self.writer.threads.waiting:
            self.writer.threads.run_next()
        self.assertEqual([self.first.protocol.session], self.parts.logins.of("alice"))
        self.assertEqual([], self.parts.logins.of(""))
        self.assertEqual([m.MemberEvent(user="alice", keys=self.next_list())], self.bobs.take(m.MemberEvent))


class ResetIdentityTests(ServerCase):
    """Tests for `reset_identity`."""

    def setUp(self) -> None:
        super().setUp()
        self.caller = self.member(self.alice, "ops")
        self.other = Person("alice", generation=2)

    def reset(self, **changes: Any) -> Any:
        """A new identity, and what that is answered."""
        fields: dict[str, Any] = {
            "password": auth_token(self.alice),
            "keys": session_keys(self.other),
            "backup": m.Backup(version=1, blob=b"new"),
        }
        return self.caller.ask(m.ResetIdentity(**fields | changes))

    def test_replaces_the_identity(self) -> None:
        """The account has the new keys and backup, and this connection is its new device."""
        reply = self.reset()
        self.assertEqual(("alice", self.other.dev(), 1), (reply.user, reply.device, reply.backup_version))
        self.assertEqual(session_keys(self.other, past=(self.alice.certificate(),)), reply.keys)
        self.assertEqual(b"new", self.caller.ask(m.BackupRequest()).backup.blob)
        self.assertIsInstance(self.caller.ask(m.Rooms()), m.RoomsOk)

    def test_needs_the_password(self) -> None:
        """A session alone does not do."""
        self.assertFailed(BAD_LOGIN, self.reset(password=auth_token(self.alice, "wrong")))
        self.assertEqual(session_keys(self.alice), self.caller.ask(m.Keys(users=("alice",))).keys["alice"])

    def test_wrong_keys(self) -> None:
        """A new identity is new, has one device, and list number 1."""
        for keys in (
            session_keys(self.alice),
            session_keys(self.other, 1, (1, 2)),
            session_keys(self.other, 2),
            session_keys(self.bob),
        ):
            self.assertFailed(BAD_KEYS, self.reset(keys=keys))

    def test_no_way_back(self) -> None:
        """An identity that was replaced is none any more: who saw it go takes no list of it."""
        self.reset()
        self.assertFailed(BAD_KEYS, self.reset(keys=session_keys(self.alice)))
        other = session_keys(self.other, past=(self.alice.certificate(),))
        self.assertEqual(other, self.caller.ask(m.Keys(users=("alice",))).keys["alice"])

    def test_ends_all_sessions(self) -> None:
        """All other connections are told and closed, and no earlier token can be resumed."""
        old = self.call()
        token = old.ask(self.login_of(self.alice, old, None)).token
        self.reset()
        self.assertEqual(["session_ended"], [bye.reason for bye in old.take(m.Bye)])
        self.assertIs(None, self.do(self.store.session(hashlib.sha256(token.encode()).digest(), 0)))

    def test_contacts_are_told(self) -> None:
        """Who shares a room gets the new keys, and sees that they changed."""
        bobs = self.member(self.bob, "ops")
        self.reset()
        keys = session_keys(self.other)
        self.assertEqual([m.MemberEvent(user="alice", keys=keys)], bobs.take(m.MemberEvent))

    def test_is_in_no_room(self) -> None:
        """The new identity is a member of nothing, and hears nothing more of where the old one was."""
        bobs = self.member(self.bob, "ops")
        self.reset()
        self.assertEqual((), self.caller.ask(m.Sync()).conversations)
        bobs.ask(self.send_of(1, self.bob))
        self.assertEqual([], self.caller.take(m.StoredMessage))
        self.assertFailed(NOT_MEMBER, self.caller.ask(m.Online(room="ops")))

    def test_old_device_is_no_device(self) -> None:
        """A device of the old identity is none of the new one's."""
        self.reset()
        caller = self.call()
        self.assertIs(UNSET, caller.ask(self.login_of(self.alice, caller)).device)

    def test_connection_lost_meanwhile(self) -> None:
        """Who is gone before the answer leaves the new identity behind, and no login of nobody."""
        self.writer.threads.held = True
        self.caller.say(
            m.ResetIdentity(
                password=auth_token(self.alice), keys=session_keys(self.other), backup=m.Backup(version=1, blob=b"n")
            )
        )
        self.caller.lose()
        self.writer.threads.held = False
        while self.writer.threads.waiting:
            self.writer.threads.run_next()
        account = self.do(self.store.account("alice"))
        assert account is not None
        self.assertEqual(self.other.ik, account.ik)
        self.assertEqual(([], []), (self.parts.logins.of("alice"), self.parts.logins.of("")))


class StoredTests(ServerCase):
    """Tests for `stored`."""

    def test_stored(self) -> None:
        """It tells every table that may have something about the account, and what is seen in passing."""
        alices, bobs = self.member(self.alice, "ops"), self.member(self.bob)
        alices.ask(self.send_of(1, self.alice))
        reply = alices.ask(m.Stored(id=3))
        rows = {table.table: table.rows for table in reply.tables}
        self.assertEqual((3, 1, 1, 1, 1), (reply.id, rows["account"], rows["message"], rows["session"], rows["member"]))
        self.assertEqual(accounts.PASSING, reply.passing)
        self.assertEqual(0, {table.table: table.rows for table in bobs.ask(m.Stored()).tables}["message"])


class KeysAndBackupTests(ServerCase):
    """Tests for `keys` and `backup`."""

    def setUp(self) -> None:
        super().setUp()
        self.caller = self.member(self.alice)

    def test_keys(self) -> None:
        """The signed keys of each user asked for; a name that does not exist is left out."""
        reply = self.caller.ask(m.Keys(id=3, users=("bob", "nobody", "alice", "bob")))
        expected = {user.user: session_keys(user) for user in (self.alice, self.bob)}
        self.assertEqual(m.KeysOk(id=3, keys=expected), reply)

    def test_past(self) -> None:
        """Certificates of devices in force no more come along, fewer of each where many are asked for."""
        self.patch(accounts, "_PAST_TOGETHER", 3)
        who = self.bob
        digest = who.keys(2, (1, 2, 3)).digest
        for keys in (
            new_keys("bob", 2, (1, 2, 3)),
            new_keys("bob", 3, (3,), keys=who.bundle(3, (3,), previous=digest, revoked=(1, 2))),
        ):
            self.do(self.store.publish("bob", keys, backup=None, now=1))
        for users, past in ((("bob",), (2, 1)), (("bob", "alice"), (2,)), (("bob", "alice", "a", "b"), ())):
            found = self.caller.ask(m.Keys(users=users)).keys["bob"].past
            self.assertEqual([m.Certificate.of(who.certificate(number)) for number in past], list(found))

    def test_backup(self) -> None:
        """It is fetched as stored; the next one replaces it, no other does."""
        self.assertEqual(m.Backup(version=1, blob=b"sealed"), self.caller.ask(m.BackupRequest()).backup)
        newer = m.Backup(version=2, blob=b"newer")
        self.assertEqual(m.BackupOk(id=3, backup=newer), self.caller.ask(m.BackupRequest(id=3, backup=newer)))
        for version in (1, 2, 4, 2**53 - 1):
            stale = self.caller.ask(m.BackupRequest(backup=m.Backup(version=version, blob=b"x")))
            self.assertFailed(STALE_BACKUP, stale, version=2)
        self.assertEqual(newer, self.caller.ask(m.BackupRequest()).backup)

    def test_no_backup(self) -> None:
        """Where there is none it says so."""

        async def none(*_: object) -> None:
            return None

        self.patch(type(self.store), "backup", none)
        self.assertFailed(NO_BACKUP, self.caller.ask(m.BackupRequest()))

    def test_busy(self) -> None:
        """Where too many passwords wait to be checked, one more is answered `busy` at once."""
        self.checks.threads.held = True
        for _ in range(32):
            self.call().say(m.Login(user="bob", password=auth_token(self.bob)))
        self.assertFailed(BUSY, self.call().ask(m.Login(user="bob", password=auth_token(self.bob))), retry_after=2.0)
