"""Tests for the table of slash commands, and what is made from it."""

from __future__ import annotations

from inspect import Parameter, signature

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.client.commands import (
    COMMANDS,
    GROUPS,
    Misfit,
    Text,
    Typed,
    find,
    has_secret,
    masked,
    parse,
    safe_for_history,
)
from securechat.client.completion import completions
from securechat.client.helptext import FIRST, help_lines
from securechat.client.slash import account, choose, doctor, history, links, rooms, running, start, talk, trust
from securechat.client.slash import find as finding

MODULES = (start, talk, history, finding, links, rooms, running, trust, choose, account, doctor)

ROOMS = ["general", "games"]
USERS = ["bob", "alice", "barbara"]


class TableTests(SynchronousTestCase):
    """Tests for the table itself."""

    def test_names_are_unique(self) -> None:
        """No name or alias means two things."""
        names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
        self.assertEqual(sorted(set(names)), sorted(names))

    def test_places(self) -> None:
        """What is said of an argument is said of one that exists."""
        for command in COMMANDS:
            self.assertLessEqual(command.least, command.most, command.name)
            self.assertLessEqual(len(command.kinds), command.most, command.name)
            self.assertTrue(all(place < command.most for place in command.secrets), command.name)

    def test_a_secret_is_last(self) -> None:
        """Behind a password stands nothing but passwords: all from there on is hidden."""
        for command in COMMANDS:
            if command.secrets:
                self.assertEqual(tuple(range(command.secrets[0], command.most)), command.secrets, command.name)

    def test_each_has_a_function(self) -> None:
        """Every command of the table is carried out by exactly one function, which takes so many arguments."""
        for command in COMMANDS:
            found = [getattr(module, "do_" + command.name.replace("-", "_"), None) for module in MODULES]
            (action,) = {function for function in found if function is not None}
            places = list(signature(action).parameters.values())[1:]
            if not any(place.kind is Parameter.VAR_POSITIONAL for place in places):
                self.assertEqual(command.most, len(places), command.name)
                self.assertEqual(command.least, sum(p.default is Parameter.empty for p in places), command.name)

    def test_every_group_is_shown(self) -> None:
        """Each stands under one of the headings of /help."""
        self.assertEqual(set(GROUPS.values()), {command.group for command in COMMANDS})
        lines = help_lines("all")
        for command in COMMANDS:
            self.assertIn(f"{command.group}:", lines)

    def test_examples(self) -> None:
        """Each command that takes arguments has an example; each example is that command, and holds no password."""
        for command in COMMANDS:
            self.assertTrue(command.examples or not command.most, command.name)
            for example in command.examples:
                typed = parse(example)
                assert isinstance(typed, Typed), example
                self.assertEqual((command, False), (typed.command, has_secret(example)), example)


class ParseTests(SynchronousTestCase):
    """Tests for `parse`."""

    def assertTyped(self, line: str, name: str, *arguments: str) -> None:
        """The line is that command."""
        typed = parse(line)
        assert isinstance(typed, Typed), typed
        self.assertEqual((name, arguments), (typed.command.name, typed.arguments))

    def test_every_command_of_the_seed(self) -> None:
        """The commands as they were specified."""
        self.assertTyped("/register alice pw", "register", "alice", "pw")
        self.assertTyped("/login alice pw", "login", "alice", "pw")
        self.assertTyped("/join general", "join", "general")
        self.assertTyped("/leave general", "leave", "general")
        self.assertTyped("/switch general", "switch", "general")
        self.assertTyped("/send Hello everyone!", "send", "Hello everyone!")
        self.assertTyped("/pm bob Hello there", "pm", "bob", "Hello there")
        self.assertTyped("/history general 20", "history", "general", "20")
        self.assertTyped("/exit", "exit")

    def test_rooms_and_people(self) -> None:
        """The commands about rooms and people, with what may be left out."""
        self.assertTyped("/create ops", "create", "ops")
        self.assertTyped("/create ops --private", "create", "ops", "--private")
        self.assertTyped("/invite", "invite")
        self.assertTyped("/invite bob ops", "invite", "bob", "ops")
        self.assertTyped("/kick bob  all  that spam", "kick", "bob", "all  that spam")
        self.assertTyped("/ban bob 7d all that spam", "ban", "bob", "7d all that spam")
        self.assertTyped("/topic two  words", "topic", "two  words")
        self.assertTyped("/policy join open", "policy", "join", "open")
        self.assertTyped("/continue @bob", "continue", "@bob")
        self.assertTyped("/who", "members")
        self.assertTyped("/keys", "keys")
        for line in ("/create", "/kick", "/role bob", "/accept", "/continue", "/verify"):
            self.assertIsInstance(parse(line), Misfit, line)

    def test_aliases_and_case(self) -> None:
        """An alias is its command; capitals do not matter."""
        self.assertTyped("/J general", "join", "general")
        self.assertTyped("/QUIT", "exit")
        self.assertTyped("/?", "help")

    def test_blanks(self) -> None:
        """Any blank separates, and those at the end belong to nobody: not to a password."""
        self.assertTyped("/login  alice \t pw  ", "login", "alice", "pw")
        self.assertTyped("/join\tgeneral", "join", "general")
        self.assertTyped("/pm bob  two  words ", "pm", "bob", "two  words")
        self.assertTyped("/login alice two words\r\n", "login", "alice", "two words")

    def test_line_breaks_in_a_message(self) -> None:
        """A pasted message keeps its lines."""
        self.assertTyped("/pm bob\na\n  b", "pm", "bob", "a\n  b")
        self.assertTyped("/send a\nb\n", "send", "a\nb")

    def test_blank_before_the_slash(self) -> None:
        """A command is one behind blanks as well: its password must not go to a room."""
        self.assertTyped("  /login alice pw", "login", "alice", "pw")
        self.assertIsInstance(parse(" /logn alice pw"), Misfit)

    def test_text(self) -> None:
        """What has no slash is text, exactly as typed; two slashes are one."""
        self.assertEqual(Text("  hello "), parse("  hello \n"))
        self.assertEqual(Text("/join x"), parse("//join x"))
        self.assertEqual(Text("  // a comment"), parse("  // a comment"))

    def test_nothing(self) -> None:
        """An empty line is nothing."""
        for line in ("", "\n", "   ", "\t\r\n"):
            self.assertIsNone(parse(line))

    def test_unknown(self) -> None:
        """An unknown command is never text, and a near one is named."""
        misfit = parse("/jion general")
        assert isinstance(misfit, Misfit)
        self.assertIn("Did you mean /join?", misfit.problem)
        self.assertIn("//jion", misfit.problem)
        for line in ("/", "/ join general", "/xyzzy"):
            misfit = parse(line)
            assert isinstance(misfit, Misfit)
            self.assertIn("/help", misfit.problem)

    def test_unknown_and_long(self) -> None:
        """What was taken for a command is not repeated at length."""
        misfit = parse("/" + "x" * 5000)
        assert isinstance(misfit, Misfit)
        self.assertLess(len(misfit.problem), 250)

    def test_number_of_arguments(self) -> None:
        """Too few or too many: the usage."""
        self.assertEqual(Misfit("Usage: /pm <user> [message]"), parse("/pm"))
        self.assertEqual(Misfit("Usage: /rooms"), parse("/rooms please"))

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(max_size=40).map(lambda text: "/" + text))
    def test_a_slash_is_never_sent_as_typed(self, line: str) -> None:
        """Whatever follows one slash is a command or a problem; only two slashes are text."""
        if not line.startswith("//"):
            self.assertNotIsInstance(parse(line), Text)


class SecretTests(SynchronousTestCase):
    """Tests for what keeps passwords out of sight."""

    def test_history(self) -> None:
        """A history gets the command without its passwords."""
        for line, kept in (
            ("/login alice pw", "/login alice"),
            ("/register alice two words", "/register alice"),
            ("  /LOGIN alice pw", "  /LOGIN alice"),
            ("/passwd old new", "/passwd"),
            ("/keys export file.txt pass phrase", "/keys export file.txt"),
            ("/reset-identity my pass word", "/reset-identity"),
            ("/revoke 4f2a my pass word", "/revoke 4f2a"),
            ("/backup code pw", "/backup code"),
            ("/kick bob spam", "/kick bob spam"),
            ("/login alice", "/login alice"),
            ("/join general", "/join general"),
            ("hello", "hello"),
            ("//login alice pw", "//login alice pw"),
        ):
            self.assertEqual(kept, safe_for_history(line))

    def test_history_of_nothing(self) -> None:
        """Blank lines are not kept."""
        self.assertIsNone(safe_for_history(" "))

    def test_history_of_a_mistyped_command(self) -> None:
        """What may have been meant as /login keeps no argument; what cannot have been can be mended with Up."""
        self.assertEqual("/logn", safe_for_history("/logn alice pw"))
        self.assertEqual("/passw", safe_for_history("/passw old new"))
        self.assertEqual("/jion general", safe_for_history("/jion general"))

    def test_masked(self) -> None:
        """On the screen a password is as many asterisks, and the rest stays in its place."""
        for line, shown in (
            ("/login alice p w", "/login alice * *"),
            ("/passwd old", "/passwd ***"),
            ("/login al", "/login al"),
            ("/send pw", "/send pw"),
            ("/register a pw\nx", "/register a **\n*"),
            ("", ""),
        ):
            self.assertEqual(shown, masked(line))

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(max_size=40))
    def test_mask_keeps_places(self, text: str) -> None:
        """A mask never moves a character."""
        for line in (text, "/login alice " + text):
            self.assertEqual(len(line), len(masked(line)))

    def test_has_secret(self) -> None:
        """Whether a hint is due."""
        self.assertTrue(has_secret("/login alice pw"))
        self.assertFalse(has_secret("/login alice"))
        self.assertFalse(has_secret("/send my password"))


class HelpTests(SynchronousTestCase):
    """Tests for /help."""

    def test_every_command_once(self) -> None:
        """Each command has one line in all of it, with its usage and what it does."""
        lines = help_lines("all")
        for command in COMMANDS:
            found = [line for line in lines if line.startswith(f"  /{command.name} ")]
            self.assertEqual(1, len(found), command.name)
            self.assertIn(command.summary, found[0])

    def test_fits_a_terminal(self) -> None:
        """No line of it, nor of any topic, is wider than 80 columns."""
        for topic in ("", "all", *GROUPS, *(f"/{command.name}" for command in COMMANDS)):
            for line in help_lines(topic):
                self.assertLessEqual(len(line), 80, line)

    def test_alone(self) -> None:
        """Alone it is no wall: a few commands to begin with, then the groups with the names of theirs."""
        lines = help_lines()
        self.assertLessEqual(len(lines), 20)
        self.assertEqual([f"  /{name} " for name in FIRST], [line[: len(name) + 4] for line, name in
                                                            zip(lines[1:], FIRST, strict=False)])  # fmt: skip
        words = " ".join(lines).split()
        for command in COMMANDS:
            self.assertIn(f"/{command.name}", words)
        for group in GROUPS:
            self.assertEqual(1, sum(line.startswith(f"  {group} ") for line in lines), group)

    def test_group(self) -> None:
        """A group lists its commands and no other's."""
        for word, heading in GROUPS.items():
            lines = help_lines(word.upper())
            self.assertEqual(f"{heading}:", lines[0])
            self.assertEqual(
                [command.name for command in COMMANDS if command.group == heading],
                [line.split()[0].removeprefix("/") for line in lines[1:-1]],
            )

    def test_group_and_command_of_one_name(self) -> None:
        """Without a slash it is the group, which says how to reach the command."""
        self.assertEqual("/help NAME says more; /help /rooms is the command of that name.", help_lines("rooms")[-1])
        self.assertEqual("/rooms", help_lines("/rooms")[0])
        self.assertEqual("/help NAME says more.", help_lines("talk")[-1])

    def test_example_is_shown(self) -> None:
        """An example stands behind what a command does."""
        self.assertIn("  as in: /history @bob", help_lines("history"))

    def test_topic(self) -> None:
        """A topic has usage, summary and aliases, whichever name is asked for, with or without a slash."""
        for topic in ("join", "/join", "J"):
            lines = help_lines(topic)
            self.assertEqual("/join <room>", lines[0])
            self.assertEqual("  also: /j", lines[-1])

    def test_unknown_topic(self) -> None:
        """An unknown topic is answered like an unknown command."""
        self.assertIn("Did you mean /join?", help_lines("jion")[0])

    def test_what_it_tells_to_type_works(self) -> None:
        """Every command named in a detail exists."""
        for command in COMMANDS:
            for line in (command.summary, *command.details):
                for word in line.split():
                    if word.startswith("/") and word.strip("/.,()"):
                        self.assertIsNotNone(find(word.strip(".,()")), line)


class CompletionTests(SynchronousTestCase):
    """Tests for `completions`."""

    def assertCompleted(self, text: str, count: int, *candidates: str) -> None:
        """The end of the text may become one of these."""
        found = completions(text, ROOMS, USERS)
        self.assertEqual((count, list(candidates)), (found[0], list(found[1])))

    def test_command(self) -> None:
        """Names of commands; aliases only where no name begins so."""
        self.assertCompleted("/jo", 3, "/join")
        self.assertCompleted("/WHO", 4, "/whoami", "/whois")
        self.assertCompleted("/rev", 4, "/revoke")
        self.assertCompleted("/ro", 3, "/role", "/rooms")
        self.assertCompleted("/quer", 5, "/query")
        self.assertCompleted("/xyz", 4)

    def test_own_words(self) -> None:
        """/edit offers one's own newest message, a setting its name and values, and one's own commands are found."""
        found = completions("/edit ", ROOMS, USERS, own="helo world")
        self.assertEqual((0, ["helo world"]), (found[0], list(found[1])))
        self.assertEqual([], list(completions("/edit x", ROOMS, USERS, own="helo world")[1]))
        self.assertEqual(["/hi", "/history"], list(completions("/hi", ROOMS, USERS, aliases=["hi"])[1]))
        self.assertCompleted("/set nu", 2, "numbers")
        self.assertCompleted("/set color n", 1, "never")
        self.assertCompleted("/set numbers ", 0, "on", "off")
        self.assertCompleted("/set nothing ", 0)

    def test_filters(self) -> None:
        """A search offers its filters, and what stands behind them, anywhere on the line."""
        self.assertCompleted("/search fr", 2, "from:")
        self.assertCompleted("/search word from:b", 6, "from:bob", "from:barbara")
        self.assertCompleted("/search in:g", 4, "in:general", "in:games")
        self.assertCompleted("/search in:@a", 5, "in:@alice")
        self.assertCompleted("/search has:l", 5, "has:link")
        self.assertCompleted("/search a b ", 0)
        self.assertCompleted("/react #12 :tad", 4, ":tada:")

    def test_all_commands(self) -> None:
        """A slash alone offers all."""
        self.assertEqual(len(COMMANDS), len(completions("/", ROOMS, USERS)[1]))

    def test_room(self) -> None:
        """Rooms in the order they were given, with or without their sign."""
        self.assertCompleted("/join ", 0, "general", "games")
        self.assertCompleted("/join gE", 2, "general")
        self.assertCompleted("/switch #ga", 3, "#games")
        self.assertCompleted("/history @a", 2, "@alice")
        self.assertCompleted("/join general g", 1)

    def test_user(self) -> None:
        """People where a command takes one, and inside a message."""
        self.assertCompleted("/pm b", 1, "bob", "barbara")
        self.assertCompleted("/pm @bo", 3, "@bob")
        self.assertCompleted("/pm bob hello al", 2, "alice")
        self.assertCompleted("/send al", 2, "alice")
        self.assertCompleted("/pm bob ", 0)

    def test_text(self) -> None:
        """A name that opens a message addresses; elsewhere it is a name. Nothing is offered for nothing."""
        self.assertCompleted("bo", 2, "bob:")
        self.assertCompleted("hi bo", 2, "bob")
        self.assertCompleted("hi @bo", 3, "@bob")
        self.assertCompleted("hi ", 0)
        self.assertCompleted("", 0)
        self.assertCompleted("//bo", 4)

    def test_words_of_a_command(self) -> None:
        """Fixed words, and the names of commands."""
        self.assertCompleted("/keys ", 0, "export", "import")
        self.assertCompleted("/backup c", 1, "code")
        self.assertCompleted("/trust bob ", 0, "yes")
        self.assertCompleted("/help jo", 2, "join")
        self.assertCompleted("/help ro", 2, "rooms", "role")
        self.assertCompleted("/help /ro", 3, "/role", "/rooms")
        self.assertCompleted("/help all", 3, "all")
        self.assertCompleted("/create ops --", 2, "--private")
        self.assertCompleted("/role bob a", 1, "admin")
        self.assertCompleted("/policy ", 0, "join", "invite", "history")
        self.assertCompleted("/safety bob Q", 1, "qr")

    def test_who_runs_a_room(self) -> None:
        """People where a command is about one, and in the reason that is given."""
        for command in ("invite", "kick", "ban", "unban", "mute", "unmute", "role", "safety", "verify", "whois"):
            self.assertCompleted(f"/{command} al", 2, "alice")
        self.assertCompleted("/kick bob as al", 2, "alice")
        self.assertCompleted("/invite bob ga", 2, "games")

    def test_emoji(self) -> None:
        """Short names of emoji where a text is typed, from two letters on."""
        self.assertCompleted("done :tad", 4, ":tada:")
        self.assertCompleted(":tad", 4, ":tada:")
        self.assertCompleted("/pm bob :tad", 4, ":tada:")
        self.assertCompleted("/join :tad", 4)
        self.assertCompleted("/login alice :tad", 4)
        self.assertCompleted("done :t", 2)
        self.assertCompleted("done :)", 2)

    def test_never_for_a_password(self) -> None:
        """Where a password stands nothing is offered: a stray Tab must not print it or change it."""
        self.assertCompleted("/login alice b", 1)
        self.assertCompleted("/passwd b", 1)
        self.assertCompleted("/register b", 1)
        self.assertCompleted("/revoke 4f2a b", 1)

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(max_size=30))
    def test_fuzz(self, text: str) -> None:
        """What is replaced is part of the text, whatever it is."""
        for typed in (text, "/" + text):
            count, _ = completions(typed, ROOMS, USERS)
            self.assertLessEqual(count, len(typed))
