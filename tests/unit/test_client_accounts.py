"""Tests for becoming an account, and staying it, against a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from securechat.client.profile import Profile
from securechat.crypto import primitives
from securechat.crypto.backup import needs_code
from securechat.crypto.identity import verify_bundle
from securechat.errors import BUSY, NO_BACKUP, RATE_LIMITED, STALE_BACKUP, TRY_AGAIN, Exit
from securechat.storage.interface import Account
from securechat.wire.codec import encode
from securechat.wire.messages import KeyBundle
from tests.doubles import PASSWORD, SRV, ChatCase, ChatClient, Person, load_checked_before, quick_stretch

NEW = "anothersecret"
SEPARATE = "a new device of your account"


class AccountCase(ChatCase):
    """Tests of accounts."""

    def profile(self, client: ChatClient, user: str = "alice") -> Profile:
        """The place of an account among a client's files."""
        return client.directory.profile(SRV, user)

    def files(self, client: ChatClient, user: str = "alice") -> list[str]:
        """The keystores of an account among a client's files."""
        path = self.profile(client, user).path
        return sorted(file.name for file in path.glob("keystore*")) if path.exists() else []

    def account(self, user: str = "alice") -> Account:
        """An account as the server has it."""
        account = self.do(self.store.account(user))
        assert account is not None
        return account

    def commands(self, number: int = -1) -> list[str]:
        """What was asked for on one of the connections."""
        return self.network.wires[number].commands

    def give_keys(self, bundle: KeyBundle | None, user: str = "alice", kind: str = "keys") -> None:
        """From now on the server gives these keys as the user's own, or as before with None."""
        self.network.changes.clear()
        if bundle is None:
            return
        fields = json.loads(encode(bundle))

        def change(said: dict[str, Any]) -> dict[str, Any]:
            return said | {kind: fields} if said.get("user") == user and "token" in said else said

        self.network.changes.append(change)

    def elsewhere(self, name: str = "elsewhere", **settings: Any) -> ChatClient:
        """A client in an empty directory."""
        return self.client(name, **settings)


class RegisterTests(AccountCase):
    """Tests for `/register`."""

    def test_register(self) -> None:
        """An account is made and logged in; its keystore is on disk."""
        client = self.client()
        lines = client.type(f"/register alice {PASSWORD}")
        self.assertEqual("Welcome, alice. You are registered and logged in.", lines[-1])
        self.assertIn("Nobody can recover a forgotten password", lines[0])
        self.assertEqual(["register", "sync", "notes"], self.commands())
        self.assertEqual(["keystore.json"], self.files(client))
        self.assertEqual(1, self.account().backup_version)
        self.assertEqual("alice", client.core.user)

    def test_password_stays_here(self) -> None:
        """Neither the password nor a private key goes over the wire, and no item ever shows the password."""
        client = self.registered("alice")
        client.type("/whoami")
        said = json.dumps(self.network.wires[0].asked)
        account = client.core.account
        assert account is not None
        for secret in (PASSWORD, primitives.b64(primitives.ed25519_seed(account.keys.device))):
            self.assertNotIn(secret, said)
        self.assertNotIn(PASSWORD, client.view.text)

    def test_refused(self) -> None:
        """A registration that is refused leaves no keys behind, and no connection; the next one may succeed."""
        self.registered("alice")
        client = self.elsewhere()
        lines = client.type(f"/register alice {NEW}")
        self.assertEqual("! The name alice is taken. Choose another, or /login alice if it is yours.", lines[-1])
        self.assertEqual(([], None), (self.files(client), client.core.link))
        self.assertEqual(Exit.OK, client.exit(f"/register alicia {NEW}"))

    def test_lost_before_the_server(self) -> None:
        """The keystore is on disk before the request leaves; where that got lost, the same words make the account."""
        client = self.client()
        self.network.faults["register"] = ["lost"]
        self.assertEqual(Exit.NETWORK, client.exit(f"/register alice {PASSWORD}"))
        self.assertEqual(["keystore.pending.json"], self.files(client))
        self.assertIsNone(self.do(self.store.account("alice")))
        self.assertEqual(Exit.OK, client.exit(f"/register alice {PASSWORD}"))
        self.assertEqual(["keystore.json"], self.files(client))
        self.assertEqual("alice", client.core.user)

    def test_lost_before_the_answer(self) -> None:
        """Where the answer got lost, the same words log in with the keys that were made the first time."""
        client = self.client()
        self.network.faults["register"] = ["unanswered"]
        self.assertEqual(Exit.NETWORK, client.exit(f"/register alice {PASSWORD}"))
        self.assertEqual(["keystore.pending.json"], self.files(client))
        identity = self.account().ik
        self.assertEqual(Exit.OK, client.exit(f"/register alice {PASSWORD}"))
        self.assertEqual(identity, self.account().ik)
        self.assertEqual("login", self.commands()[0])
        self.assertNotIn("register", self.commands())
        self.assertEqual(["keystore.json"], self.files(client))

    def test_lost_before_the_answer_then_login(self) -> None:
        """So does `/login`, and in another run, too."""
        client = self.client()
        self.network.faults["register"] = ["unanswered"]
        client.exit(f"/register alice {PASSWORD}")
        client.name = "somebody"
        fresh = self.again(client, login=False)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertEqual(1, self.account().version)
        self.assertEqual(["keystore.json"], self.files(fresh))

    def test_lost_before_the_answer_then_another_password(self) -> None:
        """With another password the name is taken, and the first password gets in all the same."""
        client = self.client()
        self.network.faults["register"] = ["unanswered"]
        client.exit(f"/register alice {PASSWORD}")
        self.assertIn("is taken", client.type(f"/register alice {NEW}")[-1])
        self.assertEqual(Exit.OK, client.exit(f"/login alice {PASSWORD}"))

    def test_again(self) -> None:
        """Who registers where the keys are already is logged in with them."""
        alice = self.registered("alice")
        fresh = self.again(alice, login=False)
        self.assertEqual(Exit.OK, fresh.exit(f"/register alice {PASSWORD}"))
        self.assertEqual((1, "alice"), (self.account().version, fresh.core.user))

    def test_busy_server_does_not_cost_the_keys(self) -> None:
        """Where the keys are here and only the server has no time, no new ones are made over them."""
        client = self.client()
        self.network.faults["register"] = ["unanswered"]
        client.exit(f"/register alice {PASSWORD}")
        for code in (BUSY, TRY_AGAIN, RATE_LIMITED):
            self.network.refuse("login", code, retry_after=2.0)
            self.assertNotEqual(Exit.OK, client.exit(f"/register alice {PASSWORD}"))
            self.assertNotIn("register", self.commands(), code.name)
        self.assertEqual(Exit.OK, client.exit(f"/login alice {PASSWORD}"))
        self.assertEqual(1, self.account().version)

    def test_key_made_ahead(self) -> None:
        """The long work of a first registration is begun at the start, and only where no account is here."""
        client = self.client()
        client.quit()
        self.assertEqual(1, client.threads._made)
        alice = self.registered("alice")
        fresh = self.again(alice, login=False)
        self.assertEqual(self.keys_made - 1, fresh.threads._made)


class LoginTests(AccountCase):
    """Tests for `/login` where the keys are."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice")

    def test_login(self) -> None:
        """It proves the device and asks for no salt."""
        fresh = self.again(self.alice, login=False)
        self.assertIn("* Logged in as alice.", fresh.type(f"/login alice {PASSWORD}"))
        (login,) = [request for request in fresh.wire.asked if request["cmd"] == "login"]
        self.assertEqual({"cmd", "id", "user", "password", "device", "proof"}, set(login))
        self.assertNotIn("prelogin", fresh.wire.commands)
        self.assertEqual(1, self.account().version)

    def test_wrong_password(self) -> None:
        """A wrong password does not reach the server: nothing is asked, nor even called."""
        fresh = self.again(self.alice, login=False)
        wires = len(self.network.wires)
        self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit("/login alice wrongpassword"))
        self.assertEqual(wires, len(self.network.wires))
        self.assertEqual(
            "! That is not the password of alice on this machine: the keys here do not open. If it was changed on"
            " another machine, or reset by the operator, log in with the new one from an empty directory:"
            " securechat --data-dir NEW_DIR CONNECT_LINE.",
            fresh.view.take()[-1],
        )
        self.assertIsNone(fresh.core.link)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_changed_elsewhere(self) -> None:
        """A password that opens the keys here but was changed elsewhere is told as that, with the way out."""
        other = self.elsewhere()
        other.type(f"/login alice {PASSWORD}")
        other.type(f"/passwd {PASSWORD} {NEW}")
        fresh = self.again(self.alice, login=False, interactive=False)
        self.assertEqual(self.refused_here(fresh), self.refuses_old(fresh))
        self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit(f"/login alice {NEW}"))
        self.assertIn("If it was changed on another machine", fresh.view.take()[-1])
        self.assertEqual(Exit.OK, self.elsewhere("empty").exit(f"/login alice {NEW}"))

    def refuses_old(self, client: ChatClient) -> str:
        """What a login says whose password opens the keys on this machine, when the server refuses it."""
        self.assertEqual(Exit.LOGIN_REFUSED, client.exit(f"/login alice {PASSWORD}"))
        return client.view.take()[-1]

    def refused_here(self, client: ChatClient) -> str:
        """What it should say: the server gives one answer, so the text has to be true whyever it refuses."""
        return (
            "! That password opens the keys of alice on this machine, but the server refuses it. Either it was changed"
            " on another machine; then the backup brings your keys along when you log in with the new one from an empty"
            " directory: securechat --data-dir NEW_DIR CONNECT_LINE. Or the operator suspended or deleted the account"
            f" or reset its password: ask them. Keep {self.profile(client).path} in any case: your keys are in it."
        )

    def test_ended_by_the_operator(self) -> None:
        """An account that was suspended or deleted is told the same; the keys stay, and serve once it is let in."""
        fresh = self.again(self.alice, login=False, interactive=False)
        self.do(self.store.suspend("alice", yes=True))
        self.assertEqual(self.refused_here(fresh), self.refuses_old(fresh))
        self.do(self.store.suspend("alice", yes=False))
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        fresh = self.again(fresh, login=False, interactive=False)
        self.do(self.store.delete_user("alice", now=0))
        self.assertEqual(self.refused_here(fresh), self.refuses_old(fresh))
        self.assertEqual(["keystore.json"], self.files(fresh))

    def test_reset_by_the_operator(self) -> None:
        """The old password is told what may be; the new one opens no keys, here or in the backup, and that is said."""
        fresh = self.again(self.alice, login=False, interactive=False)
        self.reset_password()
        self.assertEqual(self.refused_here(fresh), self.refuses_old(fresh))
        self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit(f"/login alice {NEW}"))
        self.assertIn("or reset by the operator, log in with the new one from an empty", fresh.view.take()[-1])
        empty = self.elsewhere()
        self.assertEqual(Exit.UNTRUSTED, empty.exit(f"/login alice {NEW}"))
        self.assertEqual(
            "! The password is right, but the keys of alice cannot be restored: the backup at the server does not open"
            " with this password. It lies under another one (perhaps the operator reset your password), or is damaged."
            " Log in on a machine whose keys this password opens, or start over with new keys: /reset-identity.",
            empty.view.take()[-1],
        )
        self.assertEqual(Exit.OK, empty.exit(f"/reset-identity {NEW} yes"))

    def reset_password(self) -> None:
        """The operator gives alice another password."""
        salt = bytes(16)
        token = quick_stretch(NEW, salt).auth_token(SRV, "alice")
        self.do(self.store.reset_password("alice", password_hash=f"hash of {token}", salt=salt, now=0))

    def test_other_identity(self) -> None:
        """When the server has another identity of this name, nobody is logged in, whatever else it says."""
        fresh = self.again(self.alice, login=False, interactive=False)
        self.give_keys(KeyBundle.of(Person("alice").bundle()))
        self.assertNotEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertIn("the server has another identity for alice", fresh.view.text.lower())
        self.assertIsNone(fresh.core.account)
        self.give_keys(None)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_older_list(self) -> None:
        """When the server gives an older list than this machine has seen, nobody is logged in."""
        old = KeyBundle.of(self.account().keys)
        self.elsewhere().type(f"/login alice {PASSWORD}")
        fresh = self.again(self.alice)
        self.assertEqual(2, self.account().version)
        fresh = self.again(fresh, login=False, interactive=False)
        self.give_keys(old)
        self.assertNotEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertIn("older device list", fresh.view.text)
        self.assertEqual((None, None), (fresh.core.account, fresh.core.link))
        self.give_keys(None)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_unknown_device_meanwhile(self) -> None:
        """A device that was added while one was away is an alarm at the next login, once."""
        self.alice.quit()
        self.elsewhere().type(f"/login alice {PASSWORD}")
        for alarms in (1, 0):
            fresh = self.client("alice")
            lines = fresh.type(f"/login alice {PASSWORD}")
            self.assertEqual(alarms, sum("Your account has another device" in line for line in lines))
            fresh.quit()

    def test_unknown_device_now(self) -> None:
        """One that is added while one is here is an alarm at once."""
        self.elsewhere().type(f"/login alice {PASSWORD}")
        lines = self.alice.view.take()
        self.assertEqual(1, sum("Your account has another device" in line for line in lines))
        self.assertIn("/passwd", lines[0])

    def test_unknown_device_while_the_connection_was_lost(self) -> None:
        """One that was added while the connection was lost is an alarm when it is back, once."""
        self.alice.wire.cut()
        self.elsewhere().type(f"/login alice {PASSWORD}")
        for alarms in (1, 0):
            self.pass_time(5)
            lines = self.alice.view.take()
            self.assertIn("* Connected again.", lines)
            self.assertEqual(alarms, sum("Your account has another device" in line for line in lines))
            self.alice.wire.cut()

    def test_other_identity_when_it_comes_back(self) -> None:
        """If the server has another identity of this name once the connection is back, it is left, and why is said."""
        self.give_keys(KeyBundle.of(Person("alice").bundle()))
        self.alice.wire.cut()
        self.pass_time(5)
        self.assertIn("the server has another identity for alice", self.alice.view.text.lower())
        self.assertEqual(("", None), (self.alice.core.user, self.alice.core.link))

    def test_locked(self) -> None:
        """An account that is open in another client on this machine is not opened twice."""
        second = self.client("alice")
        self.assertEqual(Exit.FIXABLE, second.exit(f"/login alice {PASSWORD}"))
        self.assertIn("alice is open in another SecureChat", second.view.text)
        self.alice.quit()
        self.assertEqual(Exit.OK, second.exit(f"/login alice {PASSWORD}"))

    def test_lock_is_let_go(self) -> None:
        """A login that fails, and a logout, leave the account free for another client."""
        self.alice.type("/logout")
        second, third = self.client("alice", interactive=False), self.client("alice")
        second.exit("/login alice wrongpassword")
        self.network.refuse("login", BUSY, retry_after=1.0)
        second.exit(f"/login alice {PASSWORD}")
        self.assertEqual(Exit.OK, third.exit(f"/login alice {PASSWORD}"))

    def test_pins_go_into_the_backup(self) -> None:
        """Who one has met since is in the backup after the next login; where nothing is new it stays."""
        self.registered("bob", "general")
        self.alice.type("/join general")
        fresh = self.again(self.alice)
        self.assertEqual(2, self.account().backup_version)
        fresh = self.again(fresh)
        self.assertEqual(2, self.account().backup_version)
        other = self.elsewhere()
        other.type(f"/login alice {PASSWORD}")
        assert other.core.people is not None
        self.assertIn("bob", other.core.people.pins.all())

    def test_slow_work_in_a_thread(self) -> None:
        """The check of RSA keys that come from a file or a backup never holds the terminal up."""
        self.alice.quit()
        clients = [self.client("alice"), self.elsewhere()]
        outside: list[bytes] = []

        def load(der: bytes) -> Any:
            if not any(client.threads.inside for client in clients):
                outside.append(der)
            return load_checked_before(der)

        self.patch(primitives, "load_rsa_private", load)
        for client in clients:
            client.type(f"/login alice {PASSWORD}")
        clients[1].type(f"/passwd {PASSWORD} {NEW}")
        clients[1].view.answers = [NEW]
        clients[1].type("/backup code")
        self.assertEqual([], outside)


class FreshDirectoryTests(AccountCase):
    """Tests for a login from an empty directory."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.type("/send before")
        self.bob.type("/pm alice psst")
        self.alice.type("/pm bob what?")

    def test_restored(self) -> None:
        """The account is itself again: the same identity, one device more, and old messages open."""
        before = self.account()
        self.alice.quit()
        fresh = self.elsewhere()
        lines = fresh.type(f"/login alice {PASSWORD}")
        self.assertIn("Logged in as alice.", lines)
        self.assertTrue(any(SEPARATE in line for line in lines), lines)
        after = self.account()
        self.assertEqual((before.ik, before.version + 1), (after.ik, after.version))
        self.assertEqual(2, len(verify_bundle(after.keys, srv=SRV, user="alice").devices))
        self.assertIn("[general] <alice> before", "\n".join(fresh.type("/history general")))
        self.assertEqual(2, len(fresh.type("/history @bob")))

    def test_friends(self) -> None:
        """Friends see one quiet line, nothing is blocked, and both sides read each other."""
        self.alice.quit()
        self.bob.view.take()
        fresh = self.elsewhere()
        fresh.type(f"/login alice {PASSWORD}")
        self.assertEqual(["* alice uses a new device, signed by the identity you know."], self.bob.view.take())
        fresh.type("/join general")
        fresh.view.take()
        self.assertEqual(["[general] <bob> welcome back"], self.bob.type("/send welcome back"))
        self.assertEqual(["[general] <bob> welcome back"], fresh.view.take())
        self.assertEqual("[general] <alice> thanks", fresh.type("/send thanks")[-1])
        self.assertEqual(["[general] <alice> thanks"], self.bob.view.take())

    def test_pins(self) -> None:
        """Whom one had met is known again: somebody who took a friend's name meanwhile is found out."""
        again = self.again(self.alice)  # the pins go into the backup
        again.quit()
        self.bob.type(f"/reset-identity {PASSWORD} yes")
        fresh = self.elsewhere()
        fresh.type(f"/login alice {PASSWORD}")
        self.assertEqual(Exit.UNTRUSTED, fresh.exit("/pm bob hello"))
        self.assertIn("The identity of bob changed", fresh.view.text)
        fresh = self.again_elsewhere(fresh)
        self.assertEqual(Exit.UNTRUSTED, fresh.exit("/pm bob hello"))

    def again_elsewhere(self, client: ChatClient) -> ChatClient:
        """The client in the other directory, started anew."""
        client.quit()
        fresh = self.client(client.name)
        fresh.type(f"/login alice {PASSWORD}")
        return fresh

    def test_next_time(self) -> None:
        """The next login there is that of a known device; no other is made."""
        fresh = self.elsewhere()
        fresh.type(f"/login alice {PASSWORD}")
        fresh = self.again_elsewhere(fresh)
        self.assertEqual((2, "alice"), (self.account().version, fresh.core.user))
        self.assertNotIn(SEPARATE, fresh.view.text)

    def test_wrong_password(self) -> None:
        """A wrong password and an unknown user are one error, and leave nothing behind."""
        texts = set()
        for user in ("alice", "nobody"):
            fresh = self.elsewhere(user + "2")
            self.assertEqual(Exit.LOGIN_REFUSED, fresh.exit(f"/login {user} wrongpassword"))
            self.assertEqual([], self.files(fresh, user))
            texts.add(fresh.view.text)
        self.assertEqual({"! No account has that name and password. Check both and try again."}, texts)

    def test_publish_lost(self) -> None:
        """Where the new device was not published, or nobody knows, the next login makes one or finds it."""
        for number, fault in enumerate(("lost", "unanswered")):
            fresh = self.elsewhere(fault)
            self.network.faults["publish"] = [fault]
            self.assertEqual(Exit.NETWORK, fresh.exit(f"/login alice {PASSWORD}"))
            self.assertEqual(["keystore.pending.json"], self.files(fresh))
            self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
            self.assertEqual(["keystore.json"], self.files(fresh))
            self.assertEqual(number + 2, self.account().version)
            self.assertEqual(Exit.OK, fresh.exit("/pm bob hello"))

    def out_of_reach(self, client: ChatClient) -> str:
        """Why the keys cannot be restored; nobody is logged in, and a reset is offered."""
        self.assertEqual(Exit.UNTRUSTED, client.exit(f"/login alice {PASSWORD}"))
        line = client.view.take()[-1]
        self.assertTrue(line.startswith("! The password is right, but the keys of alice cannot be restored: "), line)
        self.assertIn("/reset-identity", line)
        self.assertIsNone(client.core.account)
        self.assertEqual([], self.files(client))
        return line

    def test_older_list(self) -> None:
        """A list older than the backup knows is refused: somebody hides a device or a revocation."""
        old = KeyBundle.of(self.account().keys)
        self.elsewhere().type(f"/login alice {PASSWORD}")
        self.give_keys(old)
        self.assertIn("older device list", self.out_of_reach(self.elsewhere("third")))

    def test_other_identity(self) -> None:
        """Another identity than the backup's is refused."""
        self.give_keys(KeyBundle.of(Person("alice").bundle()))
        self.assertIn("another identity", self.out_of_reach(self.elsewhere()))

    def test_keys_of_somebody_else(self) -> None:
        """Keys that do not verify as this account's are refused before anything else."""
        fresh = self.elsewhere()
        self.give_keys(KeyBundle.of(self.account("bob").keys))
        self.assertNotEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertNotIn("publish", self.commands())
        self.assertIsNone(fresh.core.account)

    def test_no_backup(self) -> None:
        """Without a backup the keys are out of reach."""
        self.network.refuse("backup", NO_BACKUP)
        self.assertIn("no backup", self.out_of_reach(self.elsewhere()))

    def test_damaged_backup(self) -> None:
        """A backup that was altered does not open."""

        def change(said: dict[str, Any]) -> dict[str, Any]:
            if "backup" in said and "blob" in said["backup"]:
                blob = said["backup"]["blob"]
                return said | {"backup": said["backup"] | {"blob": blob[:40] + "AAAA" + blob[44:]}}
            return said

        self.network.changes.append(change)
        self.assertIn("does not open", self.out_of_reach(self.elsewhere()))

    def test_out_of_reach_then_again(self) -> None:
        """After that another try is possible at once, of this account or another."""
        fresh = self.elsewhere()
        self.network.refuse("backup", NO_BACKUP)
        self.out_of_reach(fresh)
        self.assertEqual(Exit.OK, fresh.exit(f"/login bob {PASSWORD}"))
        fresh.type("/logout")
        self.network.refuse("backup", NO_BACKUP)
        self.out_of_reach(fresh)
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_out_of_reach_then_connection_lost(self) -> None:
        """A connection that is lost meanwhile is no harm: the next login makes another."""
        fresh = self.elsewhere()
        self.network.refuse("backup", NO_BACKUP)
        self.out_of_reach(fresh)
        self.network.wires[-1].cut()
        self.settle()
        self.assertEqual(Exit.FIXABLE, fresh.exit(f"/reset-identity {PASSWORD} yes"))
        self.assertEqual("! Log in first: /login NAME.", fresh.view.take()[-1])
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))


class CodeTests(AccountCase):
    """Tests for a backup under a recovery code."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.alice.type("/send before")
        self.alice.view.answers = [PASSWORD]
        self.code = self.alice.type("/backup code")[1].strip()
        self.alice.view.asked.clear()

    def test_moved(self) -> None:
        """The code is shown once, and the backup lies under it."""
        self.assertRegex(self.code, r"^([0-9A-Z]{4}-){6}[0-9A-Z]{4}$")
        backup = self.do(self.store.backup("alice"))
        assert backup is not None
        self.assertEqual((2, True), (backup.version, needs_code(backup.blob)))

    def test_asked_for(self) -> None:
        """A login from an empty directory asks for the code, and is itself again with it."""
        fresh = self.elsewhere()
        fresh.view.answers = [self.code.lower()]
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertEqual(["Recovery code: "], fresh.view.asked)
        self.assertIn("before", "\n".join(fresh.type("/history general")))
        backup = self.do(self.store.backup("alice"))
        assert backup is not None
        self.assertTrue(needs_code(backup.blob))  # it stays under the code

    def test_not_asked_where_the_keys_are(self) -> None:
        """Where the keys are, nobody is asked, and the backup stays where it is."""
        fresh = self.again(self.alice)
        self.assertEqual(([], "alice"), (fresh.view.asked, fresh.core.user))

    def test_mistyped(self) -> None:
        """A typing mistake is told as one; with the right code it works then."""
        fresh = self.elsewhere()
        last = "0" if self.code[-1] != "0" else "1"
        fresh.view.answers = [self.code[:-1] + last]
        self.assertEqual(Exit.UNTRUSTED, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertIn("typing mistake", fresh.view.text)
        fresh.view.answers = [self.code]
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_none_given(self) -> None:
        """Without the code the keys are out of reach; a new identity is made only by the command for it."""
        before = self.account().ik
        fresh = self.elsewhere(interactive=False)
        self.assertEqual(Exit.UNTRUSTED, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertIn("recovery code", fresh.view.text)
        self.assertEqual(before, self.account().ik)
        self.assertEqual(Exit.OK, fresh.exit(f"/reset-identity {PASSWORD} yes"))
        self.assertNotEqual(before, self.account().ik)
        self.assertEqual("alice", fresh.core.user)

    def test_another_code(self) -> None:
        """The next code needs the one before, and replaces it."""
        self.alice.view.answers = [PASSWORD, self.code]
        second = self.alice.type("/backup code")[1].strip()
        self.assertNotEqual(self.code, second)
        for code, status in ((self.code, Exit.UNTRUSTED), (second, Exit.OK)):
            fresh = self.elsewhere(code)
            fresh.view.answers = [code]
            self.assertEqual(status, fresh.exit(f"/login alice {PASSWORD}"))

    def test_wrong_password(self) -> None:
        """Without the password there is no code, and nothing is asked of the server."""
        before = len(self.alice.wire.asked)
        self.alice.view.answers = ["wrongpassword"]
        self.assertEqual(Exit.LOGIN_REFUSED, self.alice.exit("/backup code"))
        self.assertEqual(before, len(self.alice.wire.asked))


class PasswordTests(AccountCase):
    """Tests for `/passwd`, and what is left after it stopped in the middle."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice")

    def slots(self) -> int:
        """How many passwords may open the keystore."""
        keystore = self.profile(self.alice).read_keystore()
        assert keystore is not None
        return len(keystore.slots)

    def gets_in(self, password: str) -> bool:
        """Whether a login with this password works, where the keys are."""
        self.alice = self.again(self.alice, login=False, interactive=False)
        return self.alice.exit(f"/login alice {password}") is Exit.OK

    def gets_in_elsewhere(self, password: str) -> bool:
        """Whether it works from an empty directory."""
        self.keys_made += 1
        fresh = self.elsewhere(f"elsewhere{self.keys_made}")
        status = fresh.exit(f"/login alice {password}")
        fresh.quit()
        return status is Exit.OK

    def test_changed(self) -> None:
        """Afterwards the new password works everywhere and the old one nowhere; the old slot goes at the next login."""
        self.assertIn("The password is changed.", "\n".join(self.alice.type(f"/passwd {PASSWORD} {NEW}")))
        self.assertEqual(2, self.slots())
        self.assertTrue(self.gets_in(NEW))
        self.assertEqual(1, self.slots())
        self.assertFalse(self.gets_in(PASSWORD))
        self.assertTrue(self.gets_in_elsewhere(NEW))
        self.assertFalse(self.gets_in_elsewhere(PASSWORD))

    def test_others_are_logged_out(self) -> None:
        """Other connections of the account end, with the reason; this one stays."""
        other = self.elsewhere()
        other.type(f"/login alice {PASSWORD}")
        self.alice.type(f"/passwd {PASSWORD} {NEW}")
        self.assertIn("The password of this account was changed.", other.view.text)
        self.assertEqual(("", "alice"), (other.core.user, self.alice.core.user))

    def test_twice(self) -> None:
        """It can be changed again at once."""
        self.alice.type(f"/passwd {PASSWORD} {NEW}")
        self.assertEqual(Exit.OK, self.alice.exit(f"/passwd {NEW} athirdsecret"))
        self.assertTrue(self.gets_in("athirdsecret"))
        self.assertFalse(self.gets_in(NEW))

    def test_wrong_password(self) -> None:
        """With a wrong present password nothing is asked and nothing is changed."""
        before = len(self.alice.wire.asked)
        self.assertEqual(Exit.LOGIN_REFUSED, self.alice.exit(f"/passwd wrongpassword {NEW}"))
        self.assertIn("That is not your present password.", self.alice.view.text)
        self.assertEqual((before, 1), (len(self.alice.wire.asked), self.slots()))

    def test_request_lost(self) -> None:
        """Where the request got lost, the old password goes on working, everywhere."""
        self.network.faults["passwd"] = ["lost"]
        self.assertEqual(Exit.NETWORK, self.alice.exit(f"/passwd {PASSWORD} {NEW}"))
        self.assertEqual(2, self.slots())
        self.assertFalse(self.gets_in(NEW))
        self.assertTrue(self.gets_in(PASSWORD))
        self.assertEqual(1, self.slots())
        self.assertTrue(self.gets_in_elsewhere(PASSWORD))

    def test_answer_lost(self) -> None:
        """Where the answer got lost, the new one works, everywhere."""
        self.network.faults["passwd"] = ["unanswered"]
        self.assertEqual(Exit.NETWORK, self.alice.exit(f"/passwd {PASSWORD} {NEW}"))
        self.assertEqual(2, self.slots())
        self.assertFalse(self.gets_in(PASSWORD))
        self.assertTrue(self.gets_in(NEW))
        self.assertEqual(1, self.slots())
        self.assertTrue(self.gets_in_elsewhere(NEW))

    def test_unsettled(self) -> None:
        """While it is not known which one counts there is no third, so that one of the two always gets in."""
        for fault, works in (("lost", PASSWORD), ("unanswered", NEW)):
            self.network.faults["passwd"] = [fault]
            self.alice.exit(f"/passwd {PASSWORD} {NEW}")
            self.pass_time(5)
            self.assertEqual("alice", self.alice.core.user)
            for typed in (PASSWORD, NEW):
                self.assertEqual(Exit.FIXABLE, self.alice.exit(f"/passwd {typed} athirdsecret"))
                self.assertIn("/logout", self.alice.view.take()[-1])
            self.assertTrue(self.gets_in(works))
        self.assertEqual(Exit.OK, self.alice.exit(f"/passwd {NEW} athirdsecret"))

    def test_refused(self) -> None:
        """A change that the server refuses leaves everything as it was, and may be tried again."""
        for code in (STALE_BACKUP, BUSY):
            self.network.refuse("passwd", code, retry_after=1.0)
            self.assertNotEqual(Exit.OK, self.alice.exit(f"/passwd {PASSWORD} {NEW}"))
            self.assertEqual(1, self.slots())
        self.assertEqual(Exit.OK, self.alice.exit(f"/passwd {PASSWORD} {NEW}"))
        self.assertTrue(self.gets_in(NEW))

    def test_under_a_code(self) -> None:
        """A backup under a code stays there; the code goes on working with the new password."""
        self.alice.view.answers = [PASSWORD]
        code = self.alice.type("/backup code")[1].strip()
        self.alice.type(f"/passwd {PASSWORD} {NEW}")
        fresh = self.elsewhere()
        fresh.view.answers = [code]
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {NEW}"))


class ResetTests(AccountCase):
    """Tests for `/reset-identity`."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "general")
        self.bob = self.registered("bob", "general")
        self.alice.type("/send before")
        self.bob.view.take()
        self.before = self.account().ik

    def test_reset(self) -> None:
        """The account has another identity, said with what follows: it is in no room any more."""
        lines = self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.assertIn("Everybody you talk to sees that your identity changed", lines[0])
        self.assertEqual("alice has a new identity.", lines[-2])
        self.assertNotEqual(self.before, self.account().ik)
        self.assertIn("you are in no room any\nmore: /join again", "\n".join(lines))
        self.assertEqual([], self.alice.core.conversations.rooms())
        self.assertEqual(Exit.OK, self.alice.exit("/join general"))

    def test_friends(self) -> None:
        """A friend is told, sends them nothing until they agree, and then both read each other."""
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.assertIn("The identity of alice changed", "\n".join(self.bob.view.take()))
        self.assertEqual(Exit.UNTRUSTED, self.bob.exit("/pm alice hello?"))
        self.alice.view.take()
        self.bob.type("/trust alice")
        self.assertEqual(Exit.OK, self.bob.exit("/trust alice yes"))
        self.assertEqual("[pm] <bob> hello?", self.alice.view.take()[-1])
        self.alice.type("/join general")
        self.bob.view.take()
        self.assertEqual(["[general] <alice> it is me"], self.alice.type("/send it is me"))
        self.assertEqual(["[general] <alice> it is me"], self.bob.view.take())

    def test_not_suspicious_of_oneself(self) -> None:
        """One's own name is not marked as changed, now or later; what was sealed before stays closed."""
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.alice.type("/join general")
        self.bob.type("/trust alice")
        self.bob.type("/trust alice yes")
        self.alice.type("/send after")
        for client in (lambda: self.alice, lambda: self.again(self.alice)):
            lines = client().type("/history general")[-2:]
            self.assertEqual("[general] 1 message sent before you joined", lines[0])
            self.assertTrue(lines[1].endswith("[general] <alice> after"), lines)
        self.assertIn("<alice> [by the identity that alice had before] before", self.bob.type("/history")[-2])

    def test_not_agreed(self) -> None:
        """Without a yes nothing is asked of the server, and the way to do it is said."""
        for answer in ("no", None):
            self.alice.view.answers = [answer] if answer else []
            lines = self.alice.type(f"/reset-identity {PASSWORD}")
            self.assertEqual("Nothing is changed. To do it: /reset-identity PASSWORD yes", lines[-1])
        self.assertEqual(self.before, self.account().ik)
        self.assertNotIn("reset_identity", self.alice.wire.commands)

    def test_wrong_password(self) -> None:
        """With a wrong password it is refused, and one stays who one is."""
        self.assertEqual(Exit.LOGIN_REFUSED, self.alice.exit("/reset-identity wrongpassword yes"))
        self.assertEqual(self.before, self.account().ik)
        self.assertEqual(Exit.OK, self.alice.exit("/send still me"))

    def test_other_devices(self) -> None:
        """Other devices of the account are logged out, and their keys do not get in any more."""
        other = self.elsewhere(interactive=False)
        other.type(f"/login alice {PASSWORD}")
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.assertEqual("", other.core.user)
        self.assertNotEqual(Exit.OK, other.exit(f"/login alice {PASSWORD}"))
        self.assertIn("another identity", other.view.text)

    def test_next_login(self) -> None:
        """The new keys are on disk, and in the backup."""
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.assertEqual("alice", self.again(self.alice).core.user)
        fresh = self.elsewhere()
        self.assertEqual(Exit.OK, fresh.exit(f"/login alice {PASSWORD}"))

    def test_answer_lost(self) -> None:
        """Where the answer got lost, the way on is said and works: the new identity comes from its backup."""
        self.network.faults["reset_identity"] = ["unanswered"]
        self.assertEqual(Exit.NETWORK, self.alice.exit(f"/reset-identity {PASSWORD} yes"))
        self.pass_time(5)
        self.assertEqual("", self.alice.core.user)
        self.alice.view.interactive = False
        self.assertNotEqual(Exit.OK, self.alice.exit(f"/login alice {PASSWORD}"))
        path = self.profile(self.alice).path
        self.assertIn(f"move {path} away", self.alice.view.text)
        path.rename(Path(f"{path}.away"))
        self.assertEqual(Exit.OK, self.alice.exit(f"/login alice {PASSWORD}"))

    def test_nobody(self) -> None:
        """Who is not logged in has no identity to reset."""
        self.assertEqual(Exit.FIXABLE, self.elsewhere().exit(f"/reset-identity {PASSWORD} yes"))

    def test_what_waited(self) -> None:
        """What waited for a person leaves under the new identity; what waited for a room is told as not sent."""
        self.network.refuse("send", RATE_LIMITED, retry_after=9.0)
        self.network.refuse("pm", RATE_LIMITED, retry_after=9.0)
        for line in ("/send to the room", "/pm bob one", "/pm bob two"):
            self.alice.start(line)
        self.alice.type(f"/reset-identity {PASSWORD} yes")
        self.pass_time(20)
        self.assertIn("! You are not in general. Type /join general first. Not sent: to the room", self.alice.view.text)
        self.bob.type("/trust alice")
        self.bob.type("/trust alice yes")
        lines = self.bob.type("/history @alice")
        self.assertEqual(["one", "two"], [line.rsplit(" ", 1)[1] for line in lines])


class ErrorTests(AccountCase):
    """Tests for what is told of an error."""

    def test_out_of_reach_has_its_status(self) -> None:
        """A script can tell refused logins from keys out of reach."""
        self.registered("alice").quit()
        fresh = self.elsewhere()
        self.network.refuse("login", RATE_LIMITED, retry_after=30.0)
        self.assertEqual(Exit.RATE_LIMITED, fresh.exit(f"/login alice {PASSWORD}"))
        self.assertEqual("! Too many attempts. Try again in 30 s.", fresh.view.take()[-1])

    def test_refusal_has_no_secret(self) -> None:
        """No representation of an open account shows anything of it."""
        account = self.registered("alice").core.account
        assert account is not None
        self.assertEqual("<OpenAccount alice>", repr(account))
        self.assertNotIn(account.token, repr(account))
