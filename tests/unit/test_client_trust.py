"""Tests for whom one talks to: safety numbers, /verify and /trust, devices and their end, the audit, what is stored."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path
from typing import Any

from securechat.crypto.identity import fingerprint
from securechat.errors import BUSY, DAMAGED, STALE_LIST, Exit
from tests.doubles import PASSWORD, ChatCase, ChatClient

DIGITS = re.compile(r"    (\d{5} ){3}\d{5}")
NO_PIECE = "is not one of your devices. /devices lists them; the first characters are enough."
Said = dict[str, Any]


class TrustCase(ChatCase):
    """Tests of alice and bob, who have written to each other."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.registered("alice"), self.registered("bob")
        self.alice.type("/pm bob hello")
        self.bob.type("/pm alice hello")
        self.quiet()

    def quiet(self) -> None:
        """What was shown so far is of no interest."""
        for client in self.clients:
            client.view.take()

    def ik(self, client: ChatClient) -> bytes:
        """A client's present identity."""
        assert client.core.account is not None
        return client.core.account.own.ik

    def dev(self, client: ChatClient) -> str:
        """The id of a client's device."""
        assert client.core.account is not None
        return client.core.account.keys.dev

    def reset(self, client: ChatClient) -> None:
        """Somebody starts over."""
        assert client.exit(f"/reset-identity {PASSWORD} yes") is Exit.OK, client.view.text
        self.quiet()

    def elsewhere(self, user: str = "alice", name: str = "elsewhere") -> ChatClient:
        """A further device of an account."""
        client = self.client(name)
        assert client.exit(f"/login {user} {PASSWORD}") is Exit.OK, client.view.text
        self.quiet()
        return client


class SafetyTests(TrustCase):
    """Tests for /safety."""

    def rows(self, client: ChatClient, name: str) -> list[str]:
        """The digits that are shown."""
        return [line for line in client.type(f"/safety {name}") if DIGITS.fullmatch(line)]

    def test_same_on_both_sides(self) -> None:
        """Both see the same 60 digits, in three rows, and what to do with them."""
        lines = self.alice.type("/safety bob")
        rows = [line for line in lines if DIGITS.fullmatch(line)]
        self.assertEqual(3, len(rows))
        self.assertEqual(rows, self.rows(self.bob, "@ALICE"))
        self.assertEqual("Your safety number with bob:", lines[0])
        self.assertEqual(
            [
                "bob sees the same with /safety alice. Compare by phone or face to face, never in this chat.",
                "If they are the same: /verify bob",
            ],
            lines[-2:],
        )

    def test_another_identity(self) -> None:
        """Another identity has another number; so has another person."""
        carol = self.registered("carol")
        before = self.rows(self.alice, "bob")
        self.reset(self.bob)
        now = self.rows(self.alice, "bob")
        self.assertEqual(now, self.rows(self.bob, "alice"))
        self.assertEqual(3, len({tuple(before), tuple(now), tuple(self.rows(self.alice, carol.name))}))

    def test_somebody_in_between(self) -> None:
        """Who is given a false identity of the other sees another number than they do."""
        mallory = self.registered("mallory")
        assert mallory.core.account is not None and mallory.core.account.own.bundle is not None
        rows = self.rows(self.bob, "alice")
        self.assertNotEqual(rows, self.rows(mallory, "alice"))

    def test_qr(self) -> None:
        """As a QR code of blocks, the same on both sides, for those who have the package for it."""
        try:
            import segno  # noqa: F401
        except ImportError:
            self.skipTest("needs segno")
        codes = []
        for client, name in ((self.alice, "bob"), (self.bob, "alice")):
            lines = client.type(f"/safety {name} qr")
            codes.append([line for line in lines if line and set(line) <= set("█▀▄ ")])
            self.assertEqual(1, len({len(line) for line in codes[-1]}))
        self.assertEqual(codes[0], codes[1])
        self.assertGreater(len(codes[0]), 20)

    def test_no_segno(self) -> None:
        """Without that package the digits are shown, and which one it is."""
        self.patch(sys, "modules", {**sys.modules, "segno": None})
        self.assertEqual(Exit.FIXABLE, self.alice.exit("/safety bob qr"))
        lines = self.alice.view.take()
        self.assertEqual(3, len([line for line in lines if DIGITS.fullmatch(line)]))
        self.assertEqual("! QR codes need one more package: pip install 'securechat[qr]'.", lines[-1])


class VerifyTests(TrustCase):
    """Tests for /verify."""

    def test_yes(self) -> None:
        """It walks through comparing, with the number that /safety shows, and marks them verified on a yes."""
        number = [line for line in self.alice.type("/safety bob") if DIGITS.fullmatch(line)]
        self.alice.view.answers = ["yes"]
        lines = self.alice.type("/verify bob")
        self.assertEqual(number, [line for line in lines if DIGITS.fullmatch(line)])
        self.assertIn("1. Call bob, or meet. Not in this chat", lines[0])
        self.assertEqual(["3. Is it the same, digit by digit? [yes/no] "], self.alice.view.asked)
        self.assertEqual("bob is verified.", lines[-1])
        self.assertIn("  state: verified: you compared it", self.alice.type("/whois bob"))
        self.assertEqual(
            ["You compared bob's identity before, and it is still the same."], self.alice.type("/verify bob")
        )

    def test_no(self) -> None:
        """Anything else than a yes changes nothing, and says how to give it."""
        for answer in ("no", "", "maybe"):
            self.alice.view.answers = [answer]
            self.assertEqual(Exit.OK, self.alice.exit("/verify bob"))
            self.assertEqual("Nothing is changed. If they are the same: /verify bob yes", self.alice.view.take()[-1])
        self.assertIn("  state: not compared (/verify does)", self.alice.type("/whois bob"))

    def test_not_shown_before(self) -> None:
        """A yes on the line counts only for what was shown before: nobody can have compared it else."""
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/verify bob yes"))
        self.assertEqual("Nothing is changed. If they are the same: /verify bob yes", self.alice.view.take()[-1])
        self.assertEqual(Exit.OK, self.alice.exit("/verify bob yes"))
        self.assertEqual("bob is verified.", self.alice.view.take()[-1])

    def test_script(self) -> None:
        """In a script it takes both lines, and the first has a status of its own."""
        script = self.again(self.alice, interactive=False)
        self.assertEqual(Exit.UNTRUSTED, script.exit("/verify bob"))
        self.assertEqual(Exit.OK, script.exit("/verify bob yes"))
        self.assertEqual([], script.view.asked)

    def test_another_was_shown(self) -> None:
        """What was shown of somebody else, or of an identity before, is no comparison."""
        carol = self.registered("carol")
        self.alice.type(f"/verify {carol.name}")
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/verify bob yes"))
        self.reset(self.bob)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/verify bob yes"))
        self.assertEqual(Exit.OK, self.alice.exit("/verify bob yes"))

    def test_after_a_change(self) -> None:
        """After a change it shows what was before, and lets what waited go."""
        before = self.ik(self.bob)
        self.reset(self.bob)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob waits"))
        self.alice.view.answers = ["yes"]
        lines = self.alice.type("/verify bob")
        self.assertIn(f"(This is a new identity. Before: {fingerprint(before)})", lines)
        self.assertEqual(["bob is verified.", "What waited is sent.", "[pm → bob] waits"], lines[-3:])

    def test_stays(self) -> None:
        """It is still so after a restart, and at a login from an empty directory."""
        self.alice.view.answers = ["yes"]
        self.alice.type("/verify bob")
        fresh = self.again(self.alice)
        self.assertIn("  state: verified: you compared it", fresh.type("/whois bob"))
        self.assertIn("  state: verified: you compared it", self.elsewhere().type("/whois bob"))

    def test_account_changed_meanwhile(self) -> None:
        """A yes that comes when another account is logged in is not taken for that one."""
        from twisted.internet.defer import Deferred

        answer: Deferred[str | None] = Deferred()
        self.registered("carol").quit()
        self.alice.view.answers = [answer]
        verifying = self.alice.start("/verify bob")
        self.alice.type("/logout")
        self.alice.type(f"/register dave {PASSWORD}")
        self.alice.type("/whois bob")
        answer.callback("yes")
        self.settle()
        self.assertNotEqual(Exit.OK, self.successResultOf(verifying))
        self.assertIn("  state: not compared (/verify does)", self.alice.type("/whois bob"))


class ChangedTests(TrustCase):
    """Tests for /trust, and for what a changed identity does to somebody who was verified."""

    def verified(self) -> None:
        """Alice compared bob's identity; then he starts over."""
        self.alice.view.answers = ["yes"]
        self.alice.type("/verify bob")
        self.reset(self.bob)

    def test_verified_needs_verify(self) -> None:
        """Whom one compared is not trusted unseen: only comparing again helps."""
        self.verified()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob waits"))
        self.assertEqual(
            "! The identity of bob changed since you compared it. Nothing is sent to them until you compare again:"
            " type /verify bob. What you wrote waits.",
            self.alice.view.take()[-1],
        )
        for line in ("/trust bob", "/trust bob yes"):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(line))
            self.assertEqual(
                "! You had compared bob's identity, and now it is another: trusting it unseen would undo that."
                " Compare again: /verify bob",
                self.alice.view.take()[-1],
            )
        self.alice.view.answers = ["yes"]
        self.assertEqual("[pm → bob] waits", self.alice.type("/verify bob")[-1])
        self.assertEqual("[pm] <alice> waits", self.bob.view.take()[-1])

    def test_open_room_waits(self) -> None:
        """In an open room, too, one sends nothing while somebody there whom one compared is another."""
        for client in (self.alice, self.bob):
            client.type("/join ops")
        self.verified()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send hello"))
        self.assertIn("since you compared it", self.alice.view.take()[-1])

    def test_private_room_waits(self) -> None:
        """In a private room one sends nothing while somebody there is another, compared or not."""
        self.alice.type("/create den --private")
        self.alice.type("/invite bob")
        self.bob.type("/accept den")
        self.reset(self.bob)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send hello"))
        self.assertIn("type /safety bob, then /trust bob. What you wrote waits.", self.alice.view.take()[-1])
        self.alice.view.answers = ["yes"]
        self.assertEqual("[den] <alice> hello", self.alice.type("/trust bob")[-1])
        self.assertNotIn("hello", "\n".join(self.bob.view.take()))

    def test_not_for_others(self) -> None:
        """What is meant for others goes on."""
        carol = self.registered("carol")
        self.verified()
        self.assertEqual(Exit.OK, self.alice.exit("/pm carol hello"))
        self.assertEqual("[pm] <alice> hello", carol.view.take()[-1])

    def test_whois(self) -> None:
        """/whois shows both identities."""
        before = self.ik(self.bob)
        self.reset(self.bob)
        lines = self.alice.type("/whois bob")
        self.assertIn(f"  identity: {fingerprint(self.ik(self.bob))}", lines)
        self.assertIn(f"  state: CHANGED. Before it was {fingerprint(before)}", lines)

    def test_trusted(self) -> None:
        """After /trust both talk in a conversation of its own, and /whois says who said so."""
        self.reset(self.bob)
        self.alice.view.answers = ["yes"]
        self.alice.type("/trust bob")
        self.assertIn("  first seen: 2023-11-14 22:13, trusted by you", self.alice.type("/whois bob"))
        self.bob.type("/pm alice it is me")
        self.assertEqual("[pm] <bob> it is me", self.alice.view.take()[-1])

    def test_twice(self) -> None:
        """A second change while the first is looked at is shown before it is trusted."""
        self.reset(self.bob)
        self.alice.type("/trust bob")
        self.reset(self.bob)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/trust bob yes"))
        self.assertIn(f"  now:    {fingerprint(self.ik(self.bob))}", self.alice.view.take())


class KeysTests(TrustCase):
    """Tests for /keys, /whois and /devices, which only look."""

    def test_keys(self) -> None:
        """/keys shows one's own identity, present key, devices and where it all lies."""
        account = self.alice.core.account
        assert account is not None
        self.assertEqual(
            [
                "alice:",
                f"  identity: {fingerprint(self.ik(self.alice))}",
                f"  present RSA key: {account.own.kid[:8]} (of 1 so far)",
                f"  keys on this machine: {account.profile.path}",
                f"  device {self.dev(self.alice)[:8]}: device 1, since 2023-11-14 22:13, this one",
            ],
            self.alice.type("/keys"),
        )

    def test_whois(self) -> None:
        """/whois shows identity, state, since when, devices and common rooms; a stranger is met by it."""
        for client in (self.alice, self.bob):
            client.type("/join ops")
        self.quiet()
        self.assertEqual(
            [
                "bob:",
                f"  identity: {fingerprint(self.ik(self.bob))}",
                "  state: not compared (/verify does)",
                "  first seen: 2023-11-14 22:13, by the directory",
                "  device list: number 1",
                f"  device {self.dev(self.bob)[:8]}: device 1, since 2023-11-14 22:13",
                "  in rooms with you: ops",
            ],
            self.alice.type("/whois bob"),
        )
        self.registered("carol")
        lines = self.alice.type("/whois carol")
        self.assertEqual("* First contact with carol: their identity is remembered.", lines[0])
        self.assertIn("  state: not compared (/verify does)", lines)

    def test_oneself(self) -> None:
        """Of oneself there is no state."""
        lines = self.alice.type("/whois alice")
        self.assertEqual(["alice:", f"  identity: {fingerprint(self.ik(self.alice))}"], lines[:2])
        self.assertNotIn("state", "\n".join(lines))

    def test_devices(self) -> None:
        """/devices lists one's own, as the server has them now, and how to end one."""
        other = self.elsewhere()
        first, one, two, last = self.alice.type("/devices")[-4:]
        self.assertEqual("Your devices, by list number 2, signed by your identity:", first)
        self.assertEqual(
            {
                f"  device {self.dev(self.alice)[:8]}: device 1, since 2023-11-14 22:13, this one",
                f"  device {self.dev(other)[:8]}: device 2, since 2023-11-14 22:13",
            },
            {one, two},
        )
        self.assertEqual("/revoke DEVICE shuts one out: it reads nothing that is sent from then on.", last)

    def test_new_device_is_said(self) -> None:
        """A device that appears elsewhere is an alarm to the others of the account, and one quiet line to friends."""
        other = self.client("elsewhere")
        other.type(f"/login alice {PASSWORD}")
        self.assertIn(
            "Your account has another device list since you were last here: /devices shows it.", self.alice.view.text
        )
        self.alice.type("/whois bob")
        self.bob.type("/whois alice")
        self.assertIn("* alice uses a new device, signed by the identity you know.", self.bob.view.text)


class RevokeTests(TrustCase):
    """Tests for /revoke. Alice has two devices and is in a room with bob."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.elsewhere()
        for client in (self.alice, self.bob):
            client.type("/join ops")
        self.piece = self.dev(self.other)[:8]
        self.quiet()

    def kid(self, client: ChatClient) -> str:
        """The id of the key that a client's account has now."""
        assert client.core.account is not None
        return client.core.account.own.kid

    def test_revoked(self) -> None:
        """The device is out at once, and told so; the account has another key, and the revoked one stands as such."""
        before = self.kid(self.alice)
        self.assertEqual(
            [
                f"Device {self.piece} is revoked, and its sessions are ended. Your account has a new key from now on.",
                "Your other devices get it with /backup fetch, or at their next /login.",
            ],
            self.alice.type(f"/revoke {self.piece} {PASSWORD}"),
        )
        self.assertEqual("", self.other.core.user)
        self.assertIn("! Disconnected:", self.other.view.text)
        self.assertNotEqual(before, self.kid(self.alice))
        self.assertIn("(of 2 so far)", "\n".join(self.alice.type("/keys")))
        self.assertTrue(
            any(self.piece in line and line.endswith(", revoked") for line in self.alice.type("/devices")),
            self.alice.view.text,
        )
        self.bob.type("/whois alice")
        self.assertIn("* alice revoked a device, signed by the identity you know.", self.bob.view.text)

    def test_goes_on(self) -> None:
        """The others go on as before: both ways, in the room and in private, and what was before still opens."""
        self.bob.type("/send before")
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.quiet()
        self.bob.type("/send after")
        self.bob.type("/pm alice psst")
        self.assertEqual(["[ops] <bob> after", "[pm] <bob> psst"], self.alice.view.take()[-2:])
        self.assertEqual(["[ops] <alice> still here"], self.alice.type("/send still here"))
        self.assertEqual("[ops] <alice> still here", self.bob.view.take()[-1])
        self.assertTrue(self.alice.type("/history ops")[0].endswith("<bob> before"))

    def test_does_not_open(self) -> None:
        """What is sealed from then on does not open with what the revoked device has, nor does its login."""
        account = self.other.core.account
        assert account is not None
        has = account.keys.by_kid()
        self.bob.type("/send before")
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.bob.type("/send after")
        before, after = (r["package"]["kids"]["alice"] for r in self.bob.wire.asked if r["cmd"] == "send")
        self.assertEqual((True, False), (before in has, after in has))
        fresh = self.again(self.other, login=False)
        fresh.exit(f"/login alice {PASSWORD}")
        if fresh.core.account is not None:  # the password makes it a new device, never the revoked one
            self.assertNotEqual(self.piece, self.dev(fresh)[:8])

    def test_next_login(self) -> None:
        """A third device gets the new key at its next login with the password, and reads what is sealed for it."""
        third = self.elsewhere(name="third")
        third.quit()
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.bob.type("/send after")
        third = self.again(third, login=False)
        third.exit(f"/login alice {PASSWORD}")
        self.assertIn("[ops] <bob> after", third.view.text)
        self.assertEqual(Exit.OK, third.exit("/switch ops"))
        self.assertEqual("[ops] <alice> from the third", third.type("from the third")[-1])

    def test_wrong_password(self) -> None:
        """With a wrong password nothing is changed."""
        before = self.kid(self.alice)
        self.assertEqual(Exit.LOGIN_REFUSED, self.alice.exit(f"/revoke {self.piece} wrongpassword"))
        self.assertEqual("! That is not your present password.", self.alice.view.take()[-1])
        self.assertEqual((before, "alice"), (self.kid(self.alice), self.other.core.user))

    def test_asked(self) -> None:
        """A password that is not on the line is asked for."""
        self.alice.view.answers = [PASSWORD]
        self.assertEqual(Exit.OK, self.alice.exit(f"/revoke {self.piece.upper()}"))
        self.assertEqual(["Your password: "], self.alice.view.asked)

    def test_own(self) -> None:
        """One's own device is not revoked from itself."""
        self.assertEqual(Exit.FIXABLE, self.alice.exit(f"/revoke {self.dev(self.alice)[:8]} {PASSWORD}"))
        self.assertEqual(
            "! That is this very device. Revoke it from another one; here, /logout ends its session.",
            self.alice.view.take()[-1],
        )

    def test_unknown(self) -> None:
        """What names no device, or too little of one, or one of bob's, is refused before a password is asked for."""
        for piece in ("00000000", self.piece[:3], self.dev(self.bob)[:8]):
            self.assertEqual(Exit.FIXABLE, self.alice.exit(f"/revoke {piece}"))
            self.assertEqual(f"! {piece} {NO_PIECE}", self.alice.view.take()[-1])
        self.assertEqual([], self.alice.view.asked)

    def test_again(self) -> None:
        """A revoked device is none to revoke."""
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.assertEqual(Exit.FIXABLE, self.alice.exit(f"/revoke {self.piece} {PASSWORD}"))
        self.assertIn(NO_PIECE, self.alice.view.take()[-1])

    def test_refused(self) -> None:
        """Where the server does not take it, all is as before, and a second try works."""
        for code in (BUSY, STALE_LIST):
            self.network.refuse("publish", code, version=2, retry_after=1.0)
            self.assertNotEqual(Exit.OK, self.alice.exit(f"/revoke {self.piece} {PASSWORD}"))
            self.assertEqual("alice", self.other.core.user)
        self.assertEqual(Exit.OK, self.alice.exit(f"/revoke {self.piece} {PASSWORD}"))
        self.bob.type("/send after")
        self.assertEqual("[ops] <bob> after", self.alice.view.take()[-1])

    def test_restart(self) -> None:
        """The new key is on disk."""
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.bob.type("/send after")
        fresh = self.again(self.alice)
        self.assertNotIn("not shown", fresh.view.text)
        self.assertTrue(fresh.type("/history ops")[-1].endswith("<bob> after"))

    def test_what_it_wrote(self) -> None:
        """What the revoked device wrote before is shown, and said to be of one."""
        self.other.type("/switch ops")
        self.other.type("/send from elsewhere")
        self.alice.type(f"/revoke {self.piece} {PASSWORD}")
        self.bob.type("/whois alice")
        line = self.bob.type("/history ops")[-1]
        self.assertTrue(line.endswith("<alice> [from a device that alice has revoked since] from elsewhere"), line)


class AuditTests(TrustCase):
    """Tests for /audit."""

    def setUp(self) -> None:
        super().setUp()
        for client in (self.alice, self.bob):
            client.type("/join ops")
        for number in range(3):
            self.bob.type(f"/send {number}")
        self.quiet()

    def report(self, client: ChatClient) -> tuple[Path, list[str]]:
        """Where a client's report is, and its lines."""
        account = client.core.account
        assert account is not None
        path = account.profile.path / "audit.txt"
        return path, path.read_text(encoding="utf-8").splitlines()

    def test_all_well(self) -> None:
        """What was checked is counted, and the whole of it is in a file that is for its owner alone."""
        lines = self.alice.type("/audit")
        path, report = self.report(self.alice)
        self.assertRegex(lines[0], r"^Checked: 2 pins, 2 device lists, 2 transcripts, 1 room log\. Everything holds\.$")
        self.assertEqual(f"The whole report: {path}", lines[1])
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        text = "\n".join(report)
        self.assertIn("Audit of alice on server", report[0])
        for part in (
            f"ok    bob: tofu, {fingerprint(self.ik(self.bob))}, first seen 2023-11-14 22:13",
            f"ok    bob: list 1, devices {self.dev(self.bob)[:8]}, 0 revoked",
            "ok    ops: 2 events, head ",
            "members: alice (owner), bob (member)",
            "ok    ops: 3 messages up to 3, ",
            "ok    @bob: 2 messages up to 2, ",
        ):
            self.assertIn(part, text)
        self.assertNotIn("FAULT", text)

    def test_progress(self) -> None:
        """How far it is, is told."""
        self.alice.view.states.clear()
        self.alice.type("/audit")
        self.assertEqual(["1 of 3", "2 of 3"], [state.work for state in self.alice.view.states if state.work][:2])
        self.assertEqual("", self.alice.view.states[-1].work)

    def test_changed(self) -> None:
        """A changed identity is a fault, told at once, with a status of its own; so is an open alarm."""
        self.reset(self.bob)
        conversation = self.alice.core.conversations.labelled("ops")
        assert conversation is not None
        self.alice.core.lobby.alarm(conversation, "the server did something")
        self.quiet()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/audit"))
        lines = self.alice.view.take()
        self.assertIn("  ops: the server did something", lines)
        self.assertTrue(any(line.startswith("  the identity of bob changed (was ") for line in lines), lines)
        _, report = self.report(self.alice)
        self.assertEqual(2, len([line for line in report if line.startswith("FAULT ")]))

    def test_history_changed(self) -> None:
        """A history that is not the one seen before is a fault, and stops sending there."""

        def swapped(said: Said) -> Said:
            messages = said.get("messages", [])
            if len(messages) != 3:
                return said
            one, two, three = messages
            return said | {"messages": [one | {"seq": 1}, three | {"seq": 2}, two | {"seq": 3}]}

        self.network.changes.append(swapped)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/audit"))
        self.assertIn("  ops: the history the server gives now is not the one you saw before", self.alice.view.take())
        self.network.changes.clear()
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/send hello"))

    def test_log_changed_on_disk(self) -> None:
        """A room's log in which a signature is not right is a fault."""
        conversation = self.alice.core.conversations.labelled("ops")
        assert conversation is not None
        last = conversation.events[-1]
        conversation.events[-1] = type(last)(last.data, bytes(64))
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/audit"))
        self.assertTrue(any(line.startswith("  ops: ") for line in self.alice.view.take()))

    def test_server_refuses(self) -> None:
        """What the server does not give is a fault, and the rest is checked all the same."""
        self.network.refuse("keys", DAMAGED)
        self.network.refuse("history", DAMAGED)
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/audit"))
        text = "\n".join(self.report(self.alice)[1])
        self.assertIn("FAULT the server does not give them: Stored messages of general do not check out", text)
        self.assertEqual(2, text.count("FAULT"))
        self.assertIn("ok    ops: 2 events", text)

    def test_disk(self) -> None:
        """A report that cannot be written is told as that."""
        account = self.alice.core.account
        assert account is not None
        (account.profile.path / "audit.txt").mkdir()
        self.assertEqual(Exit.FIXABLE, self.alice.exit("/audit"))
        self.assertIn("This machine does not let it be done", self.alice.view.take()[-1])


class StoredTests(TrustCase):
    """Tests for /whatserverknows."""

    def test_told(self) -> None:
        """It tells tables with columns and rows, what can be seen in passing, and what the server never has."""
        self.alice.type("/join ops")
        lines = self.alice.type("/whatserverknows")
        text = "\n".join(lines)
        self.assertIn("What the server stores about alice, by its own tables", lines[0])
        for table in ("account", "member", "message"):
            self.assertRegex(text, rf"\n  {table}, \d+ rows?")
        self.assertIn("What it can see in passing, whether or not it keeps it:", lines)
        self.assertEqual(
            "It has no text, no password and no private key of yours: those never leave this machine unsealed.",
            lines[-1],
        )

    def test_counts(self) -> None:
        """The rows are one's own: another message is another row."""

        def messages() -> int:
            found = re.search(r"\n  message, (\d+) rows?", "\n".join(self.alice.type("/whatserverknows")))
            assert found is not None
            return int(found[1])

        before = messages()
        self.alice.type("/pm bob more")
        self.assertEqual(before + 1, messages())
