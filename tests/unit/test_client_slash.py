"""Tests for what each slash command does, and says of what it cannot do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from securechat.client import slash
from securechat.client.commands import COMMANDS, Misfit, Typed, parse
from securechat.client.view import Message, Unshown
from securechat.crypto.identity import fingerprint
from securechat.errors import Exit
from securechat.link import ConnectLine
from securechat.server.session import Registration
from securechat.wire import limits
from tests.doubles import ADDRESS, PASSWORD, SRV, ChatCase, ChatClient, signing_key

# By command: lines that cannot be done, with their status and a part of what is said; for alice, who is in general.
MISUSE: Final[dict[str, Sequence[tuple[str, Exit, str]]]] = {
    "register": [
        ("/register", Exit.USAGE, "Usage: /register <username> [password]"),
        ("/register carol", Exit.FIXABLE, "You are logged in as alice. Type /logout first."),
    ],
    "login": [
        ("/login", Exit.USAGE, "Usage: /login <username> [password]"),
        ("/login bob secretpassword", Exit.FIXABLE, "You are logged in as alice. Type /logout first."),
        ("/login al!ce secretpassword", Exit.FIXABLE, "al!ce cannot be the name of a user: a to z, 0 to 9"),
    ],
    "connect": [
        ("/connect", Exit.USAGE, "Usage: /connect <line>"),
        ("/connect elsewhere", Exit.FIXABLE, "You are logged in as alice. Type /logout first."),
    ],
    "help": [],
    "exit": [],
    "bare": [],
    "send": [
        ("/send", Exit.USAGE, "Usage: /send <message>"),
        ("/send hello", Exit.FIXABLE, "No room is active. Type /join ROOM (or /switch ROOM) first"),
        ("hello", Exit.FIXABLE, "No room is active."),
    ],
    "pm": [
        ("/pm", Exit.USAGE, "Usage: /pm <user> [message]"),
        ("/pm alice hello", Exit.FIXABLE, "A private message goes to somebody else."),
        ("/pm @ALICE hello", Exit.FIXABLE, "A private message goes to somebody else."),
        ("/pm nobody hello", Exit.NOT_THERE, "There is no user nobody here. Check the spelling."),
        ("/pm b/b hello", Exit.FIXABLE, "b/b cannot be the name of a user"),
        ("/pm bob " + "x" * (limits.MAX_TEXT + 1), Exit.FIXABLE, f"at most {limits.MAX_TEXT} bytes"),
        ("/pm bob " + "ü" * (limits.MAX_TEXT // 2 + 1), Exit.FIXABLE, f"at most {limits.MAX_TEXT} bytes"),
        ("/pm bob \ud800", Exit.FIXABLE, "characters in it that are no text. Nothing was sent."),
        ("/pm bob a\x00b", Exit.FIXABLE, "characters in it that are no text. Nothing was sent."),
    ],
    "history": [
        ("/history", Exit.FIXABLE, "No room is active. Type /history ROOM."),
        ("/history general " + "9" * 5000, Exit.FIXABLE, "Usage: /history [room] [count]"),
        ("/history 5", Exit.FIXABLE, "No room is active. Type /history ROOM."),
        ("/history general " + "9" * 5000, Exit.FIXABLE, "Usage: /history [room] [count]"),
        ("/history general many", Exit.FIXABLE, "Usage: /history [room] [count]"),
        ("/history general -5", Exit.FIXABLE, "Usage: /history [room] [count]"),
        ("/history attic", Exit.NOT_THERE, "You are not in attic. Type /join attic first."),
        ("/history a!", Exit.FIXABLE, "a! cannot be the name of a room"),
        ("/history @bob", Exit.FIXABLE, "You have no private messages with bob yet. Type /pm bob MESSAGE."),
    ],
    "reply": [
        ("/reply", Exit.USAGE, "Usage: /reply [#n|@user] <message>"),
        ("/reply yes", Exit.FIXABLE, "No room is active."),
    ],
    "edit": [
        ("/edit", Exit.USAGE, "Usage: /edit [#n] <message>"),
        ("/edit yes", Exit.FIXABLE, "No room is active."),
    ],
    "delete": [("/delete", Exit.FIXABLE, "No room is active.")],
    "react": [
        ("/react", Exit.USAGE, "Usage: /react [#n|@user] <emoji>"),
        ("/react +1", Exit.FIXABLE, "No room is active."),
    ],
    "me": [("/me", Exit.USAGE, "Usage: /me <action>"), ("/me waves", Exit.FIXABLE, "No room is active.")],
    "code": [("/code", Exit.USAGE, "Usage: /code"), ("/code x = 1", Exit.FIXABLE, "No room is active.")],
    "retry": [],
    "search": [
        ("/search", Exit.USAGE, "Usage: /search <words>"),
        ("/search in:attic x", Exit.FIXABLE, "You are in no conversation called attic."),
        ("/search before:never x", Exit.FIXABLE, "never"),
    ],
    "jump": [
        ("/jump", Exit.FIXABLE, "Nothing was searched for yet. /search WORDS first."),
        ("/jump " + "9" * 5000, Exit.FIXABLE, "Nothing was searched for yet."),
        ("/jump x", Exit.FIXABLE, "Nothing was searched for yet."),
    ],
    "unread": [],
    "ignore": [
        ("/ignore alice", Exit.FIXABLE, "That is you."),
        ("/ignore b!", Exit.FIXABLE, "b! cannot be the name of a user"),
    ],
    "unignore": [
        ("/unignore", Exit.USAGE, "Usage: /unignore <user>"),
        ("/unignore bob", Exit.FIXABLE, "bob is not ignored."),
    ],
    "set": [
        ("/set nothing", Exit.FIXABLE, "There is no setting nothing. /set lists them all."),
        ("/set color red", Exit.FIXABLE, "color cannot be red. Choose auto, always, never."),
        ("/set cache " + "9" * 5000, Exit.FIXABLE, "cache is a whole number from 0 to 100000."),
        ("/set cache much", Exit.FIXABLE, "cache is a whole number from 0 to 100000."),
    ],
    "notify": [
        ("/notify", Exit.FIXABLE, "No room is active. Type /notify all|mentions|none ROOM."),
        ("/notify loud", Exit.FIXABLE, "loud is neither a level nor a conversation of yours. The levels are: all,"),
        ("/notify none attic", Exit.FIXABLE, "You are not in attic."),
    ],
    "alias": [
        ("/alias join /send hi", Exit.FIXABLE, "/join is a command already."),
        ("/alias h! /send hi", Exit.FIXABLE, "/h! cannot be the name of a command"),
        ("/alias enter /login alice", Exit.FIXABLE, "An alias cannot stand for /login"),
        ("/alias hi", Exit.FIXABLE, "There is no alias /hi."),
    ],
    "unalias": [
        ("/unalias", Exit.USAGE, "Usage: /unalias <name>"),
        ("/unalias hi", Exit.FIXABLE, "There is no alias /hi. /alias hi TEXT makes one."),
    ],
    "forget": [
        ("/forget", Exit.USAGE, "Usage: /forget <room|all>"),
        ("/forget attic", Exit.FIXABLE, "This machine knows no attic."),
    ],
    "export": [
        ("/export general", Exit.USAGE, "Usage: /export <room> <file>"),
        ("/export attic talk.txt", Exit.FIXABLE, "This machine knows no attic."),
        ("/export general /", Exit.FIXABLE, "/ is there already."),
    ],
    "reconnect": [],
    "join": [
        ("/join", Exit.USAGE, "Usage: /join <room>"),
        ("/join two words", Exit.FIXABLE, "two words cannot be the name of a room"),
        ("/join " + "x" * 33, Exit.FIXABLE, "cannot be the name of a room"),
    ],
    "leave": [
        ("/leave", Exit.FIXABLE, "No room is active. Type /leave ROOM."),
        ("/leave attic", Exit.NOT_THERE, "You are not in attic."),
        ("/leave ?", Exit.FIXABLE, "? cannot be the name of a room"),
    ],
    "switch": [
        ("/switch", Exit.USAGE, "Usage: /switch <room>"),
        ("/switch attic", Exit.NOT_THERE, "You are not in attic. Type /join attic first."),
        ("/switch ?", Exit.FIXABLE, "? cannot be the name of a room"),
    ],
    "links": [("/links", Exit.FIXABLE, "No room is active. Type /switch ROOM first.")],
    "open": [
        ("/open", Exit.USAGE, "Usage: /open <number>"),
        ("/open 1", Exit.FIXABLE, "No links are listed. Type /links first: /open takes their numbers."),
    ],
    "rooms": [],
    "members": [
        ("/members", Exit.FIXABLE, "No room is active. Type /members ROOM, or /switch ROOM first."),
        ("/members attic", Exit.NOT_THERE, "You are not in attic."),
    ],
    "create": [
        ("/create", Exit.USAGE, "Usage: /create <room> [--private]"),
        ("/create attic --secret", Exit.FIXABLE, "Usage: /create NAME [--private]"),
        ("/create attic#4f2a", Exit.FIXABLE, "Usage: /create NAME [--private]"),
        ("/create a!", Exit.FIXABLE, "a! cannot be the name of a room"),
        ("/create general", Exit.FIXABLE, "There is a room general already. /join general enters it."),
    ],
    "accept": [
        ("/accept", Exit.USAGE, "Usage: /accept <room>"),
        ("/accept general", Exit.FIXABLE, "You are in general already. /switch general makes it the active one."),
        ("/accept attic", Exit.NOT_THERE, "There is no room attic here."),
        ("/accept a!", Exit.FIXABLE, "a! cannot be the name of a room"),
    ],
    "continue": [
        ("/continue", Exit.USAGE, "Usage: /continue <room>"),
        ("/continue attic", Exit.NOT_THERE, "You are not in attic."),
        ("/continue @bob", Exit.FIXABLE, "You have no private messages with bob."),
        ("/continue @", Exit.FIXABLE, "cannot be the name of a user"),
        ("/continue a!", Exit.FIXABLE, "a! cannot be the name of a room"),
    ],
    "invite": [
        ("/invite bob", Exit.FIXABLE, "No room is active. Type /invite NAME ROOM, or /switch ROOM first."),
        ("/invite nobody general", Exit.NOT_THERE, "There is no user nobody here."),
        ("/invite alice general", Exit.FIXABLE, "alice is in general already."),
        ("/invite bob attic", Exit.NOT_THERE, "You are not in attic."),
        ("/invite b! general", Exit.FIXABLE, "b! cannot be the name of a user"),
    ],
    "kick": [
        ("/kick", Exit.USAGE, "Usage: /kick <user> [reason]"),
        ("/kick bob", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
        ("/kick b!", Exit.FIXABLE, "b! cannot be the name of a user"),
    ],
    "ban": [
        ("/ban", Exit.USAGE, "Usage: /ban <user> [duration] [reason]"),
        ("/ban bob 7d", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
    ],
    "unban": [
        ("/unban", Exit.USAGE, "Usage: /unban <user>"),
        ("/unban bob", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
    ],
    "mute": [
        ("/mute", Exit.USAGE, "Usage: /mute <user> [duration]"),
        ("/mute bob later", Exit.FIXABLE, "later is not a duration. Write 30m, 12h or 7d."),
        ("/mute bob 0m", Exit.FIXABLE, "0m is not a duration."),
        ("/mute bob", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
    ],
    "unmute": [
        ("/unmute", Exit.USAGE, "Usage: /unmute <user>"),
        ("/unmute bob", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
    ],
    "role": [
        ("/role bob", Exit.USAGE, "Usage: /role <user> <role>"),
        ("/role bob king", Exit.FIXABLE, "king is not a role. There are: member, mod, admin, owner."),
        ("/role bob none", Exit.FIXABLE, "none is not a role."),
        ("/role bob mod", Exit.FIXABLE, "No room is active. Type /switch ROOM first."),
    ],
    "topic": [("/topic", Exit.FIXABLE, "No room is active. Type /switch ROOM first.")],
    "policy": [("/policy", Exit.FIXABLE, "No room is active. Type /switch ROOM first.")],
    "safety": [
        ("/safety", Exit.USAGE, "Usage: /safety <user> [qr]"),
        ("/safety bob png", Exit.FIXABLE, "Usage: /safety NAME [qr]"),
        ("/safety alice", Exit.FIXABLE, "A safety number is between you and somebody else."),
        ("/safety nobody", Exit.NOT_THERE, "There is no user nobody here."),
    ],
    "verify": [
        ("/verify", Exit.USAGE, "Usage: /verify <user>"),
        ("/verify alice", Exit.FIXABLE, "You are yourself. Name another user."),
        ("/verify nobody", Exit.NOT_THERE, "There is no user nobody here."),
    ],
    "whois": [
        ("/whois", Exit.USAGE, "Usage: /whois <user>"),
        ("/whois nobody", Exit.NOT_THERE, "There is no user nobody here."),
        ("/whois !", Exit.FIXABLE, "! cannot be the name of a user"),
    ],
    "revoke": [
        ("/revoke", Exit.USAGE, "Usage: /revoke <device> [password]"),
        ("/revoke abcd secretpassword", Exit.FIXABLE, "abcd is not one of your devices. /devices lists them"),
        ("/revoke a secretpassword", Exit.FIXABLE, "a is not one of your devices."),
    ],
    "devices": [],
    "audit": [],
    "whatserverknows": [],
    "whoami": [],
    "passwd": [
        ("/passwd secretpassword short", Exit.FIXABLE, "A password has at least 8 characters. Nothing was changed."),
        ("/passwd", Exit.FIXABLE, "No password was given."),
    ],
    "logout": [],
    "trust": [
        ("/trust", Exit.USAGE, "Usage: /trust <user>"),
        ("/trust nobody", Exit.NOT_THERE, "There is no user nobody here."),
        ("/trust !", Exit.FIXABLE, "! cannot be the name of a user"),
    ],
    "backup": [
        ("/backup", Exit.USAGE, "Usage: /backup code"),
        ("/backup now", Exit.FIXABLE, "Usage: /backup code, or /backup fetch"),
        ("/backup fetch", Exit.FIXABLE, "No password was given."),
        ("/backup code", Exit.FIXABLE, "No password was given."),
    ],
    "keys": [
        ("/keys export", Exit.FIXABLE, "Usage: /keys, or /keys export|import FILE"),
        ("/keys eat file", Exit.FIXABLE, "Usage: /keys, or /keys export|import FILE"),
        ("/keys import file", Exit.FIXABLE, "You are logged in as alice. Type /logout first."),
        ("/keys export file", Exit.FIXABLE, "No password was given."),
    ],
    "status": [],
    "doctor": [],
    "reset-identity": [("/reset-identity", Exit.FIXABLE, "No password was given.")],
}


class TableTests(ChatCase):
    """Tests that hold the table of commands and their actions to each other."""

    def test_every_command_does_something(self) -> None:
        """Each command of the table has an action, and each action a command."""
        named = {f"do_{command.name.replace('-', '_')}" for command in COMMANDS}
        made = {name for module in slash._MODULES for name in vars(module) if name.startswith("do_")}
        self.assertEqual(named, made)
        self.assertEqual({command.name for command in COMMANDS}, set(slash._ACTIONS))

    def test_arguments_fit(self) -> None:
        """Each action takes as few and as many arguments as the table lets through."""
        import inspect

        for command in COMMANDS:
            action = inspect.signature(slash._ACTIONS[command.name])
            for count in (command.least, command.most):
                action.bind(None, *["x"] * count)

    def test_every_command_has_its_misuse(self) -> None:
        """No command is left out of the tests of misuse below."""
        self.assertEqual({command.name for command in COMMANDS}, set(MISUSE))

    def test_instructions_can_be_typed(self) -> None:
        """Every command that a text tells to type is one, with arguments that fit."""
        source, seen = Path(str(slash.__file__)).parent.parent, 0
        for file in source.rglob("*.py"):
            text = re.sub(r"{[^{}]*}", "NAME", file.read_text("utf-8"))
            for found in re.findall(
                r"(?:(?<!they )[Tt]ype|accept it:|To do it:|the same:) (/[a-z-]+(?: (?:[A-Z]+\b|yes|server))*)", text
            ):
                self.assertIsInstance(parse(found), Typed, f"{file.name}: {found}")
                seen += 1
        self.assertGreater(seen, 10)

    def test_not_logged_in(self) -> None:
        """Without a login every command that needs one says so, asks nothing, and connects nowhere."""
        client = self.client()
        for line in (
            "/send x", "hello", "/pm bob x", "/history general", "/join general", "/leave general", "/switch general",
            "/rooms", "/whoami", "/passwd", "/logout", "/trust bob", "/backup code", "/keys export x", "/keys",
            "/audit", "/members", "/members general", "/create x", "/accept x", "/continue x", "/continue @x",
            "/invite", "/invite x", "/kick x", "/ban x", "/unban x", "/mute x", "/unmute x", "/role x mod", "/topic",
            "/topic x", "/policy", "/policy join open", "/safety x", "/verify x", "/whois x", "/devices",
            "/revoke abcdef", "/whatserverknows", "/links", "/open 1",
        ):  # fmt: skip
            self.assertEqual(Exit.LOGIN_REFUSED, client.exit(line), line)
            self.assertEqual(
                ["! Log in first: /login NAME, or /register NAME for a new account."], client.view.take(), line
            )
        self.assertEqual(([], []), (self.network.wires, client.view.asked))
        for line in ("/help", "/trust server", "/exit"):
            self.assertEqual(Exit.OK, client.exit(line), line)


class MisuseTests(ChatCase):
    """Tests for lines that cannot be done."""

    def test_misuse(self) -> None:
        """Each has its status and says what to type instead; nothing is sent, and nothing of it harms."""
        self.registered("bob")
        alice = self.registered("alice", "general")
        alice.core.conversations._visited.clear()
        for command, cases in MISUSE.items():
            for line, status, said in cases:
                self.assertEqual(status, alice.exit(line), line[:60])
                shown = alice.view.take()
                self.assertIn(said, shown[-1], line[:60])
                if status is Exit.USAGE:
                    self.assertIsInstance(parse(line), Misfit, command)
        self.assertNotIn("pm", alice.wire.commands)
        self.assertNotIn("send", alice.wire.commands)
        self.assertEqual(Exit.OK, alice.exit("/switch general"))
        self.assertEqual(Exit.OK, alice.exit("/send all is well"))


class StartTests(ChatCase):
    """Tests for /register, /login, /logout, /help and /exit."""

    def test_asked_for(self) -> None:
        """A password that is not on the line is asked for, twice where it is new."""
        client = self.client()
        client.view.answers = [PASSWORD, PASSWORD]
        self.assertEqual(Exit.OK, client.exit("/register alice"))
        client.type("/logout")
        client.view.answers = [PASSWORD]
        self.assertEqual(Exit.OK, client.exit("/login alice"))
        client.view.answers = [PASSWORD, "anothersecret", "anothersecret"]
        self.assertEqual(Exit.OK, client.exit("/passwd"))
        self.assertEqual(
            [
                "New password for alice: ",
                "The same again: ",
                "Password of alice: ",
                "Present password: ",
                "New password: ",
                "The new one again: ",
            ],
            client.view.asked,
        )

    def test_not_the_same(self) -> None:
        """Two new passwords that differ, one that is short, and none, change nothing and connect nowhere."""
        client = self.client()
        for answers, said in (
            ([PASSWORD, "secretpasswort"], "The two were not the same. Nothing was done: try again."),
            ([PASSWORD], "The two were not the same. Nothing was done: try again."),
            (["1234567"], "A password has at least 8 characters."),
            ([""], "No password was given."),
            ([], "No password was given."),
        ):
            client.view.answers = list(answers)
            self.assertEqual(Exit.FIXABLE, client.exit("/register alice"), answers)
            self.assertIn(said, client.view.take()[-1])
        self.assertEqual([], self.network.wires)

    def test_new_password_not_the_same(self) -> None:
        """The same for /passwd: the present one goes on working."""
        alice = self.registered("alice")
        alice.view.answers = [PASSWORD, "anothersecret", "anothersecreT"]
        self.assertEqual(Exit.FIXABLE, alice.exit("/passwd"))
        self.assertIn("Nothing was changed.", alice.view.take()[-1])
        self.assertNotIn("passwd", alice.wire.commands)

    def test_names_are_folded(self) -> None:
        """Names are the same in any case, with an @ or without; as oneself /login is harmless."""
        client = self.client()
        client.type(f"/register @Alice {PASSWORD}")
        self.assertEqual("alice", client.core.user)
        asked = len(client.wire.asked)
        self.assertEqual(["You are logged in as alice."], client.type("/login ALICE"))
        self.assertEqual(["You are logged in as alice."], client.type("/login alice whatever"))
        self.assertEqual(asked, len(client.wire.asked))

    def test_logout(self) -> None:
        """After /logout the session is worth nothing, the connection closed, and another account can log in."""
        alice = self.registered("alice")
        self.registered("bob").quit()
        wire, account = alice.wire, alice.core.account
        assert account is not None
        self.assertEqual(["alice is logged out."], alice.type("/logout"))
        self.assertFalse(wire.open)
        self.assertIn("logout", wire.commands)
        import hashlib

        digest = hashlib.sha256(account.token.encode()).digest()
        self.assertIsNone(self.do(self.store.session(digest, 0)))
        fresh = self.client("bob")
        self.assertEqual(Exit.OK, fresh.exit(f"/login bob {PASSWORD}"))

    def test_help(self) -> None:
        """/help names every command; with a name it explains one, with nonsense it names the nearest."""
        client = self.client()
        text = "\n".join(client.type("/help"))
        for command in COMMANDS:
            self.assertIn(f"/{command.name}", text)
        self.assertIn("/pm <user> [message]", client.type("/help pm")[0])
        self.assertIn("/history @bob", "\n".join(client.type("/help /history")))
        self.assertEqual("Talk:", client.type("/help talk")[0])
        self.assertIn("Did you mean", client.type("/help hstory")[0])

    def test_greeted(self) -> None:
        """Who comes back hears which rooms are theirs, if a person is there to read it."""
        alice = self.registered("alice", "general", "attic")
        self.pass_time(1)
        fresh = self.again(alice, login=False)
        line = "* Your rooms: attic, general. attic is active."
        self.assertIn(line, fresh.type(f"/login alice {PASSWORD}"))
        fresh = self.again(fresh, login=False, interactive=False)
        self.assertNotIn(line, fresh.type(f"/login alice {PASSWORD}"))

    def test_connect(self) -> None:
        """Before a login another server can be named, also by its line alone; what is none says why."""
        client = self.client("somebody", line=ConnectLine("127.0.0.1", 1, tls=False))
        told = ["The server is 127.0.0.1:12345 now.", "/register NAME makes an account; /login NAME logs in."]
        for line in (f"/connect {ADDRESS}", f"'{ADDRESS}'", str(ADDRESS)):
            client.core.line = ConnectLine("127.0.0.1", 1, tls=False)
            self.assertEqual(told, client.type(line))
            self.assertEqual(ADDRESS, client.core.line)
        self.assertEqual(Exit.FIXABLE, client.exit("/connect 'securechat://h/#id=short'"))
        self.assertEqual(ADDRESS, client.core.line)
        self.assertEqual(Exit.OK, client.exit(f"/register alice {PASSWORD}"))
        client.type("/logout")
        self.assertEqual(
            "/register NAME makes an account; /login alice logs in.", client.type(f"/connect {ADDRESS}")[1]
        )
        client.type(f"/login alice {PASSWORD}")
        client.type("/join general")
        self.assertEqual([f"[general] <alice> {ADDRESS}"], client.type(str(ADDRESS)))

    def test_no_secret_is_shown(self) -> None:
        """No password, passphrase, code or token is shown, except the recovery code that was asked for."""
        alice = self.registered("alice")
        file = self.home / "file"
        for line in (
            f"/register alice {PASSWORD}", f"/login bob {PASSWORD}", f"/passwd {PASSWORD} newsecretword",
            "/passwd wrongsecretword anothersecret", f"/keys export {file} passphraseword",
            f"/keys export {file} passphraseword", f"/keys import {file} passphraseword", "/whoami", "/help passwd",
            "/reset-identity wrongsecretword yes", "/reset-identity newsecretword", "/pasword newsecretword x y z",
        ):  # fmt: skip
            alice.exit(line)
        account = alice.core.account
        assert account is not None
        alice.type("/logout")
        alice.exit(f"/keys import {file} wrongpassphraseword")
        alice.exit(f"/register alice {PASSWORD} x")
        for secret in (PASSWORD, "newsecretword", "wrongsecretword", "passphraseword", account.token):
            self.assertNotIn(secret, alice.view.text)


class InviteTests(ChatCase):
    """Tests for a server that takes new accounts by invitation."""

    registration = Registration.INVITE
    CODE = "i" * 22

    def invited(self, code: str | None = CODE, room: str | None = "general") -> ChatClient:
        """A client started with an invite line."""
        return self.client("carol", line=ConnectLine("127.0.0.1", 12345, SRV, code, room, tls=False))

    def setUp(self) -> None:
        super().setUp()
        import hashlib

        digest = hashlib.sha256(self.CODE.encode()).digest()
        self.do(self.store.add_invite(digest, uses=1, expires=2**50, now=0))

    def test_invited(self) -> None:
        """With an invite the account is made and the room opened; the invite serves once and is forgotten."""
        client = self.invited()
        lines = client.type(f"/register carol {PASSWORD}")
        self.assertIn("You made general, an open room", lines[-1])
        self.assertEqual("general", client.core.conversations.active)
        self.assertEqual((SRV, None, None), (client.core.line.id, client.core.line.invite, client.core.line.room))
        client.type("/logout")
        self.assertEqual(Exit.LOGIN_REFUSED, client.exit(f"/register dave {PASSWORD}"))
        self.assertIn("invite line", client.view.text)

    def test_not_invited(self) -> None:
        """Without one, or with one that is no good, it is refused with what to ask for; a good one is not used up."""
        for code, said in ((None, "takes new accounts by invitation"), ("x" * 22, "used up, expired or unknown")):
            client = self.invited(code)
            self.assertEqual(Exit.LOGIN_REFUSED, client.exit(f"/register carol {PASSWORD}"))
            self.assertIn(said, client.view.take()[-1])
        self.assertEqual(Exit.OK, self.invited().exit(f"/register carol {PASSWORD}"))


class RoomTests(ChatCase):
    """Tests for /join, /leave, /switch, /rooms and /members."""

    def test_rooms(self) -> None:
        """Rooms are entered, switched, listed and left; the one before becomes active again."""
        alice = self.registered("alice")
        self.assertEqual(["There are no open rooms yet. /join NAME makes one."], alice.type("/rooms"))
        self.assertIn("You made general, an open room", alice.type("/join #General")[0])
        alice.type("/join attic")
        bob = self.registered("bob", "attic", "cellar")
        alice.view.take()
        self.assertEqual(
            ["attic: 2 members (active)", "cellar: 1 member", "general: 1 member (you are in)"],
            alice.type("/rooms"),
        )
        self.assertEqual(["general is active."], alice.type("/switch general"))
        self.assertEqual(["attic is active."], alice.type("/join attic"))
        self.assertEqual([], alice.type("/join attic"))
        self.assertEqual(2, alice.wire.commands.count("act"))
        self.assertEqual(["You left attic. general is active now."], alice.type("/leave"))
        self.assertEqual(["[attic] * alice left"], bob.view.take()[-1:])
        self.assertEqual(["You left general."], alice.type("/leave general"))
        self.assertEqual("", alice.core.conversations.active)

    def test_members(self) -> None:
        """The members are listed with their role, who is there, and how far they are trusted, as of now."""
        alice, bob = self.client("alice"), self.client("bob")
        for client in (alice, bob):
            client.core.preferences.choose("presence", "on")
            client.type(f"/register {client.name} {PASSWORD}")
            client.type("/join general")
        carol = self.registered("carol", "general")
        self.assertEqual(
            [
                "alice (owner, online, you)",
                "bob (member, online, not compared)",
                "carol (member, not compared)",
            ],
            [line for line in alice.type("/members") if "(" in line],
        )
        bob.quit()
        self.assertIn("bob (member, not compared)", alice.type("/members general"))
        carol.type(f"/reset-identity {PASSWORD} yes")
        self.assertIn("carol (member, identity changed)", alice.type("/names"))

    def test_whoami(self) -> None:
        """It shows what a friend compares, and where the keys are."""
        alice = self.registered("alice")
        account = alice.core.account
        assert account is not None
        self.assertEqual(
            [
                "You are alice on 127.0.0.1:12345.",
                f"Your fingerprint: {fingerprint(account.keys.ik)}",
                f"This device: {account.keys.dev} (one of 1)",
                f"The server's identity: {SRV}",
                f"Keys on this machine: {account.profile.path}",
            ],
            alice.type("/whoami"),
        )


class HistoryTests(ChatCase):
    """Tests for /history."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.registered("alice", "7", "general")
        for number in range(1, 6):
            self.alice.type(f"/send {number}")
        self.alice.view.take()

    def shown(self, line: str) -> str:
        """The messages that are shown, one digit each."""
        return "".join(text.rsplit(" ", 1)[1] for text in self.alice.type(line))

    def test_forms(self) -> None:
        """A room, a count, both or neither; a number is a room only where one is in it."""
        for line, expected in (
            ("/history", "12345"),
            ("/history general", "12345"),
            ("/history #General 2", "45"),
            ("/history 3", "345"),
            ("/history general 1", "5"),
            ("/history general 400", "12345"),
            ("/history general 0", "12345"),
            ("/history general ٢", "45"),
        ):
            self.assertEqual(expected, self.shown(line), line)
        self.assertEqual(["7 has no messages yet."], self.alice.type("/history 7"))
        self.assertEqual(["7 has no messages yet."], self.alice.type("/history 7 3"))

    def test_pages(self) -> None:
        """More than a page is fetched page by page, and no more than was asked for."""

        def shorter(said: dict[str, Any]) -> dict[str, Any]:
            if len(said.get("messages", ())) <= 2:
                return said
            messages, conversation = said["messages"][-2:], self.alice.core.conversations.get("general")
            assert conversation is not None
            before = messages[0]["seq"] - 1
            start = [before, conversation.reader.transcript.at(before)]
            return said | {"messages": messages, "more": True, "start": start}

        self.network.changes = [shorter]
        self.assertEqual("12345", self.shown("/history"))
        self.assertEqual("2345", self.shown("/history 4"))
        asked = [r for r in self.alice.wire.asked if r["cmd"] == "history"]
        self.assertEqual([None, 4, 2, None, 4], [r.get("before") for r in asked])
        self.assertEqual([50, 48, 46, 4, 2], [r.get("limit", 50) for r in asked])

    def test_time(self) -> None:
        """Each message has its time."""
        self.assertEqual(["2023-11-14 22:13 [general] <alice> 5"], self.alice.type("/history 1"))

    def test_private(self) -> None:
        """A private conversation is named by its other user."""
        self.registered("bob")
        self.alice.type("/pm bob psst")
        for line in ("/history @bob", "/history @BOB 5"):
            self.assertEqual(["2023-11-14 22:13 [pm → bob] psst"], self.alice.type(line))

    def test_folded(self) -> None:
        """What was never sealed for one is one line, whatever its number."""
        bob = self.registered("bob", "general")
        bob.type("/send 6")
        bob.type("/history")
        earlier = Unshown("general", 5, "message{s} sent before you joined")
        self.assertEqual([earlier, Message("general", "bob", "6", 1_700_000_000_000, own=True)], bob.view.items[-2:])

    def test_own_first(self) -> None:
        """What one typed just before is waited for a moment, so that it is in it; not for ever."""
        self.network.faults["send"] = [None, None]
        self.alice.wire.held = True
        sending = self.alice.start("/send 6")
        history = self.alice.start("/history")
        self.assertNotIn("history", self.alice.wire.commands)
        self.alice.wire.held = False
        self.settle()
        self.successResultOf(sending)
        self.successResultOf(history)
        self.assertTrue(self.alice.view.take()[-1].endswith(" 6"))

    def test_not_for_ever(self) -> None:
        """If it is not stored within three seconds, the history comes without it."""
        from securechat.errors import RATE_LIMITED

        self.network.refuse("send", RATE_LIMITED, retry_after=60.0)
        sending = self.alice.start("/send 6")
        history = self.alice.start("/history")
        self.pass_time(2.9)
        self.assertNoResult(history)
        self.pass_time(0.2)
        self.successResultOf(history)
        self.assertTrue(self.alice.view.take()[-1].endswith(" 5"))
        self.pass_time(60)
        self.assertEqual(Exit.OK, self.successResultOf(sending))


class TrustTests(ChatCase):
    """Tests for /trust."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.registered("alice"), self.registered("bob")
        self.alice.type("/pm bob before")

    def reset(self) -> tuple[str, str]:
        """Bob starts over; his fingerprints before and after."""
        prints = []
        for line in ("/whoami", f"/reset-identity {PASSWORD} yes"):
            account = self.bob.core.account
            assert account is not None
            self.bob.type(line)
            prints.append(account.keys.ik)
        account = self.bob.core.account
        assert account is not None
        self.alice.view.take()
        return fingerprint(prints[0]), fingerprint(account.keys.ik)

    def test_unchanged(self) -> None:
        """Of somebody whose identity is the known one, its fingerprint is shown; also of somebody not met yet."""
        self.registered("carol")
        for name in ("bob", "carol"):
            lines = self.alice.type(f"/trust {name} yes")
            self.assertEqual(f"{name}'s identity is the one you know (not compared):", lines[-2])
            self.assertRegex(lines[-1], r"^  ([0-9a-f]{4} ){15}[0-9a-f]{4}$")

    def test_changed(self) -> None:
        """Both fingerprints are shown; without a yes nothing changes, and how to give it is said."""
        before, now = self.reset()
        for answers in (["no"], [""], []):
            self.alice.view.answers = list(answers)
            lines = self.alice.type("/trust bob")
            self.assertEqual(f"  before: {before}", lines[1])
            self.assertEqual(f"  now:    {now}", lines[2])
            self.assertEqual("Nothing is changed. If they are the same: /trust bob yes", lines[-1])
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit("/pm bob hello"))
        self.alice.view.answers = ["yes"]
        lines = self.alice.type("/trust bob")
        said = lines.index("The new identity of bob is trusted.")
        self.assertEqual(["What waited is sent.", "[pm → bob] hello"], lines[said + 1 :])
        self.assertEqual(1, self.bob.view.text.count("[pm] <alice> hello"))

    def test_script(self) -> None:
        """Where nobody is there to be asked, the word on the line is needed, and is enough."""
        self.reset()
        script = self.again(self.alice, interactive=False)
        self.assertIn("If they are the same: /trust bob yes", script.type("/trust bob")[-1])
        self.assertEqual([], script.view.asked)
        self.assertIn("is trusted", script.type("/trust bob YES")[-1])

    def test_server(self) -> None:
        """Another server at the old address is accepted by /trust server alone, after both ids were shown."""
        self.alice.type("/logout")
        self.assertEqual(["No server's identity is in doubt."], self.alice.type("/trust server"))
        self.serve(signing_key("another"))
        self.alice.view.interactive = False
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit(f"/login alice {PASSWORD}"))
        self.assertEqual([], self.network.wires[-1].asked)
        self.alice.view.take()
        lines = self.alice.type("/trust server")
        self.assertEqual(f"  before: {SRV}", lines[1])
        self.assertEqual("Nothing is changed. To accept it: /trust server yes", lines[-1])
        self.assertEqual(Exit.UNTRUSTED, self.alice.exit(f"/login alice {PASSWORD}"))
        self.assertIn("The server is trusted.", self.alice.type("/trust server yes")[-1])
        self.assertEqual(Exit.OK, self.alice.exit(f"/register carol {PASSWORD}"))


class KeysTests(ChatCase):
    """Tests for /keys."""

    def test_there_and_back(self) -> None:
        """Keys carried in a file are the same device elsewhere, with all it knows; the passphrase opens it alone."""
        alice = self.registered("alice")
        self.registered("bob")
        alice.type("/pm bob hello")
        self.pass_time(1)
        file = self.home / "carried"
        lines = alice.type(f"/keys export {file} a passphrase of words")
        self.assertEqual(f"alice's keys are in {file}, sealed with that passphrase. Guard both.", lines[-1])
        fresh = self.client("elsewhere")
        self.assertEqual(Exit.FIXABLE, fresh.exit(f"/keys import {file} another passphrase"))
        self.assertIn(f"That is not the passphrase of {file}.", fresh.view.text)
        fresh.view.answers = ["a passphrase of words"]
        self.assertIn("Type /login alice.", fresh.type(f"/keys import {file}")[-1])
        alice.quit()
        fresh.type(f"/login alice {PASSWORD}")
        account = fresh.core.account
        assert account is not None and fresh.core.people is not None
        self.assertEqual((False, 1), (account.fresh, account.own.version))
        self.assertIn("bob", fresh.core.people.pins.all())
        self.assertEqual(["[pm → bob] again"], fresh.type("/pm bob again")[-1:])
        self.assertEqual([f"! This machine has keys of alice already, in {account.profile.path}."], self.second(file))

    def second(self, file: Path) -> list[str]:
        """What another import in the same directory says."""
        return self.client("elsewhere").type(f"/keys import {file} a passphrase of words")
