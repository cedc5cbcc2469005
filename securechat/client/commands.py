"""The slash commands as one table: parsing, `completion`, the help (`helptext`) and the documents come from it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command.

    Attributes:
        name: also the name of its function in `client.slash` (`do_` + name, hyphens as underscores).
        usage: the arguments for people: ``<needed> [optional]``.
        group: the heading it stands under in /help.
        summary: what it does, in one line.
        least, most: how many arguments; the last one takes the rest of the line.
        kinds: what each argument is, for completion: "room", "user", "topic", "file", "text", "emoji",
            ``=this|that`` for fixed words, or "" for what nobody can complete.
        secrets: places of arguments that are passwords: never kept in a history.
        aliases: other names.
        details: more, for /help NAME.
        examples: whole lines as somebody might type them; of a command that takes arguments at least one.
    """

    name: str
    usage: str
    group: str
    summary: str
    least: int = 0
    most: int = 0
    kinds: tuple[str, ...] = ()
    secrets: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


START: Final = "Start"
TALK: Final = "Talk"
ROOMS: Final = "Rooms"
RUN: Final = "Running a room (the active one)"
PEOPLE: Final = "People and trust"
CLIENT: Final = "This client"
ACCOUNT: Final = "Account and keys"

# The groups of /help, by the word that names each there.
GROUPS: Final = {
    "start": START, "talk": TALK, "rooms": ROOMS, "running": RUN, "people": PEOPLE, "client": CLIENT,
    "account": ACCOUNT,
}  # fmt: skip

COMMANDS: Final[tuple[Command, ...]] = (
    Command(
        "register", "<username> [password]", START, "make an account here and log in", 1, 2, secrets=(1,),
        details=("Without a password on the line it is asked for, without echo.",
                 "The password cannot be recovered. Without it and without a device of yours,",
                 "old messages stay closed."),
        examples=("/register alice",),
    ),
    Command(
        "login", "<username> [password]", START, "log in; keys come along to a new machine", 1, 2,
        ("user",), (1,),
        examples=("/login alice",),
    ),
    Command("connect", "<line>", START, "which server: a line you were given, or HOST", 1, 1,
            details=("Before a login. The line alone, pasted, does the same.",),
            examples=("/connect chat.example.org:12345",)),
    Command("help", "[topic]", START, "how to begin, a group, a command, or all", 0, 1, ("topic",),
            aliases=("h", "?"),
            details=("A topic is a group that /help names, a command, or all.",
                     "Where a group has a command's name, a slash means the command: /help /rooms."),
            examples=("/help talk", "/help /pm", "/help keys", "/help all")),
    Command("bare", "", START, "full view: only messages, to copy them"),
    Command("status", "", START, "who you are, the link, the room, what waits"),
    Command("exit", "", START, "send what waits, then leave", aliases=("quit", "q")),
    Command("send", "<message>", TALK, "send to the active room (or just type it)", 1, 1, ("text",),
            details=("Lines between ``` are code: shown as they are.", "@NAME in it calls somebody."),
            examples=("/send Good morning!",)),
    Command("pm", "<user> [message]", TALK, "send a private message, or talk to one person", 1, 2, ("user", "text"),
            aliases=("msg", "query", "dm"), examples=("/pm bob Are you there?", "/pm bob")),
    Command(
        "history", "[room] [count]", TALK, "show the last 50 messages, or [count]", 0, 2, ("room",),
        details=("/history @bob shows your private messages with bob.",),
        examples=("/history general 100", "/history @bob"),
    ),
    Command("reply", "[#n|@user] <message>", TALK, "answer the newest message, or that one", 1, 1, ("text",),
            aliases=("re",), details=("/set numbers on shows the numbers of messages.",),
            examples=("/reply That is right.", "/reply @bob Yes, at noon.")),
    Command("edit", "[#n] <message>", TALK, "give your newest message another text", 1, 1, ("own",),
            examples=("/edit Good evening!",)),
    Command("delete", "[#n]", TALK, "take back your newest message", 0, 1, ("",), aliases=("redact",),
            details=("Clients that follow remove it; nobody forgets what they have read.",),
            examples=("/delete", "/delete #17")),
    Command("react", "[#n|@user] <emoji>", TALK, "react to the newest message", 1, 1, ("emoji",),
            examples=("/react 👍", "/react @bob 🎉")),
    Command("me", "<action>", TALK, "say what you do", 1, 1, ("text",), examples=("/me waves",)),
    Command("code", "[language:] <lines>", TALK, "send lines that are shown as they are", 1, 1, ("",),
            examples=("/code sh: uname -a",)),
    Command("retry", "", TALK, "try again what waits to be sent"),
    Command("search", "<words>", TALK, "look through all you have, also offline", 1, 1, ("query",), aliases=("find",),
            details=("All words must occur. \"Several words\" as they stand; -word leaves out.",
                     "from:bob  in:ops  in:@bob  before:2026-11-01  after:7d  on:yesterday",
                     "has:link  has:code  has:mention"),
            examples=("/search release from:bob after:7d",)),
    Command("jump", "[number]", TALK, "show what was said around a find", 0, 1, examples=("/jump 2",)),
    Command("unread", "", TALK, "where something is unread"),
    Command("links", "", TALK, "the newest links of the active conversation",
            details=("Numbered, the newest first. /open opens one; nothing opens by itself.",)),
    Command("open", "<number>", TALK, "open a link that /links listed", 1, 1,
            details=("It says the whole link first. The browser is this machine's own,",
                     "or what you /set open-command to."),
            examples=("/open 1",)),
    Command("join", "<room>", ROOMS, "enter a room; an open one is made if need be", 1, 1, ("room",),
            aliases=("j",),
            details=("Anybody on the server, its operator too, can enter an open room.",
                     "/create NAME --private makes one that only the invited enter."), examples=("/join general",)),
    Command("leave", "[room]", ROOMS, "leave a room, or decline an invitation", 0, 1, ("room",), aliases=("part",),
            examples=("/leave general",)),
    Command("switch", "<room>", ROOMS, "make another room or person the active one", 1, 1, ("room",),
            aliases=("s", "buffer", "win"),
            details=("A few letters of the name are enough. /switch @bob talks to bob.",), examples=("/switch gen",)),
    Command("rooms", "", ROOMS, "list the open rooms of this server", aliases=("list",)),
    Command("members", "[room]", ROOMS, "who is there: role, presence, trust", 0, 1, ("room",),
            aliases=("names", "who"), examples=("/members general",)),
    Command("create", "<room> [--private]", ROOMS, "make a room; --private: for the invited", 1, 2,
            ("", "=--private"), examples=("/create ops --private",)),
    Command("accept", "<room>", ROOMS, "enter a room you were invited to", 1, 1, ("room",),
            examples=("/accept ops",)),
    Command("continue", "<room>", ROOMS, "go on after a warning there", 1, 1, ("room",),
            details=("Sending stops where something does not check out: a forked history,",
                     "a hidden kick. This goes on all the same. Where a room's log breaks",
                     "its rules, it asks for the log again. /continue @NAME for private talk.",
                     "It also sends what waits because others came into a private room."),
            examples=("/continue ops", "/continue @bob")),
    Command("invite", "[user] [room]", RUN, "let somebody in; alone: a line for a friend", 0, 2, ("user", "room"),
            examples=("/invite bob", "/invite bob ops")),
    Command("kick", "<user> [reason]", RUN, "put a member out", 1, 2, ("user", "text"),
            examples=("/kick bob off topic",)),
    Command("ban", "<user> [duration] [reason]", RUN, "put out and keep out: 30m, 12h, 7d", 1, 2, ("user", "text"),
            examples=("/ban bob 7d spam",)),
    Command("unban", "<user>", RUN, "end a ban", 1, 1, ("user",), examples=("/unban bob",)),
    Command("mute", "<user> [duration]", RUN, "take a member's voice", 1, 2, ("user", ""),
            examples=("/mute bob 30m",)),
    Command("unmute", "<user>", RUN, "give it back", 1, 1, ("user",), examples=("/unmute bob",)),
    Command("role", "<user> <role>", RUN, "make somebody admin, mod or member", 2, 2,
            ("user", "=admin|mod|member|owner"),
            details=("Who ranks higher decides about who ranks lower:",
                     "owner, admin, mod, member. An owner may name another owner."), examples=("/role bob mod",)),
    Command("topic", "[text]", RUN, "show or set what the room is about", 0, 1, ("text",),
            examples=("/topic Release on Friday",)),
    Command("policy", "[name value]", RUN, "show or change how it is run", 0, 2,
            ("=join|invite|history", "=open|invite|member|admin|from-join"),
            details=("join: open or invite. invite: member or admin. history: from-join.",),
            examples=("/policy join invite",)),
    Command("safety", "<user> [qr]", PEOPLE, "the number to compare with somebody", 1, 2, ("user", "=qr"),
            examples=("/safety bob qr",)),
    Command("verify", "<user>", PEOPLE, "compare, and mark them verified", 1, 2, ("user", "=yes"),
            details=("Walks through it; /verify NAME yes once you have compared.",), examples=("/verify bob",)),
    Command("whoami", "", ACCOUNT, "your name, device, fingerprint and server"),
    Command("passwd", "[old new]", ACCOUNT, "change your password; asks without echo", 0, 2, (), (0, 1),
            examples=("/passwd",)),
    Command("logout", "", ACCOUNT, "log out; another account can /login then"),
    Command(
        "trust", "<user>", PEOPLE, "accept the new identity of a person", 1, 2,
        ("user", "=yes"),
        details=("/trust server does the same for the server.",
                 "Shows the old and the new fingerprint first.",
                 "Compare the new one with the person, but not in this chat.",
                 "/trust NAME yes accepts. Whom you had verified needs /verify again."),
        examples=("/trust bob", "/trust server"),
    ),
    Command("whois", "<user>", PEOPLE, "somebody's identity, devices and state", 1, 1, ("user",),
            examples=("/whois bob",)),
    Command("audit", "", PEOPLE, "check all you have; writes a report"),
    Command("doctor", "", ACCOUNT, "look at everything; says what to type next",
            details=("Link, server, clock, keys, people, messages not shown, disk, terminal.",
                     "Works without a login too. Its exit status is 1 where something is bad.")),
    Command("whatserverknows", "", PEOPLE, "what the server stores about you and sees"),
    Command("ignore", "[user]", PEOPLE, "see nothing of somebody; alone: whom", 0, 1, ("user",),
            examples=("/ignore bob",)),
    Command("unignore", "<user>", PEOPLE, "hear them again", 1, 1, ("user",), examples=("/unignore bob",)),
    Command("set", "[name] [value]", CLIENT, "show or change settings", 0, 2, ("setting", "value"),
            examples=("/set", "/set numbers on")),
    Command("notify", "[level] [room]", CLIENT, "what is announced: all, mentions, none", 0, 2,
            ("=all|mentions|none", "room"), examples=("/notify all ops",)),
    Command("alias", "[name] [text]", CLIENT, "make a command of your own", 0, 2, ("", "text"),
            examples=("/alias hi /send Good morning!",)),
    Command("unalias", "<name>", CLIENT, "end one of your commands", 1, 1, examples=("/unalias hi",)),
    Command("forget", "<room|all>", CLIENT, "remove what this machine keeps of it", 1, 2, ("room", "=yes"),
            examples=("/forget ops",)),
    Command("export", "<room> <file>", CLIENT, "write what it keeps into a file, in clear", 2, 2, ("room", "file"),
            examples=("/export ops ops.txt",)),
    Command("reconnect", "", CLIENT, "make the connection anew, now"),
    Command("devices", "", ACCOUNT, "your devices"),
    Command("revoke", "<device> [password]", ACCOUNT, "shut one of them out; new key", 1, 2, (), (1,),
            examples=("/revoke 4f2a",)),
    Command(
        "backup", "code|fetch [password]", ACCOUNT, "your key backup: a recovery code, newer keys", 1, 2,
        ("=code|fetch",), (1,),
        details=("code moves it under a recovery code, shown once. A login from an empty",
                 "directory asks for it instead of trusting the password alone.",
                 "fetch brings keys from it that another device of yours has made since;",
                 "messages that were sealed for them are shown then."),
        examples=("/backup code", "/backup fetch"),
    ),
    Command(
        "keys", "[export|import <file>]", ACCOUNT, "your keys; carry them in a sealed file", 0, 3,
        ("=export|import", "file"), (2,),
        examples=("/keys export keys.txt",),
    ),
    Command(
        "reset-identity", "[password]", ACCOUNT, "start over when the old keys are lost", 0, 2, (), (0, 1),
        details=("Friends will see that your identity changed and must /trust you again.",
                 "Your old messages stay unreadable to the new keys.",
                 "Nothing else helps when keys and backup are lost.",
                 "Asks first; /reset-identity PASSWORD yes does not."),
        examples=("/reset-identity",),
    ),
)  # fmt: skip

BY_NAME: Final = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


@dataclass(frozen=True, slots=True)
class Typed:
    """A slash command as typed."""

    command: Command
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A line for the active room."""

    text: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """A line that is no command; `problem` says what to type instead. It is never sent anywhere."""

    problem: str


def find(name: str) -> Command | None:
    """The command of that name or alias, with or without its slash."""
    return BY_NAME.get(name.removeprefix("/").lower())


def parse(line: str, aliases: Mapping[str, str] | None = None) -> Typed | Text | Misfit | None:
    """What a typed line is; None for an empty one.

    Args:
        aliases: commands of its user's own: names, and what they stand for.

    A command may have blanks before its slash: a password typed after ``  /login alice`` must not go to a
    room. The last argument takes the rest of the line, line breaks included.
    """
    line = line.rstrip("\r\n")
    if not line.strip():
        return None
    if line.startswith("//"):
        return Text(line[1:])
    typed = line.strip()
    if not typed.startswith("/") or typed.startswith("//"):
        return Text(line)
    word, rest = _split(typed[1:])
    command = find(word)
    if command is None and aliases and word.lower() in aliases:
        meant = parse(f"{aliases[word.lower()]} {rest}".rstrip())  # once: an alias stands for no other
        if isinstance(meant, Typed) and meant.command.secrets:  # it was written into the file by hand
            return Misfit(f"An alias cannot stand for /{meant.command.name}: a password typed behind it would show.")
        return meant
    if command is None:
        return Misfit(unknown(word))
    arguments = tuple(rest.split(maxsplit=max(command.most - 1, 0)))
    if not command.least <= len(arguments) <= command.most:
        return Misfit(f"Usage: /{command.name} {command.usage}".rstrip())
    return Typed(command, arguments)


def _split(typed: str) -> tuple[str, str]:
    """The first word, and what follows it; the first is empty where a blank comes first."""
    if not typed or typed[0].isspace():
        return "", typed.strip()
    word, *rest = typed.split(maxsplit=1)
    return word, "".join(rest)


def unknown(word: str) -> str:
    """What is said of a command that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(word.lower(), BY_NAME, n=1, cutoff=0.6)
    hint = f"Did you mean /{near[0]}?" if near else "/help lists the commands."
    shown = word if len(word) <= 40 else word[:40] + "…"
    return f"There is no command /{shown}. {hint} (To send it as text, type //{shown}.)"


_WORD: Final = re.compile(r"\S+")


def _secret_from(line: str) -> int | None:
    """Where in a typed line a password may begin; all behind that place is one too. None where there is none.

    An unknown command's arguments count as secret if it may be a mistyped one that takes a password.
    """
    typed = line.lstrip()
    if not typed.startswith("/") or typed.startswith("//"):
        return None
    words = list(_WORD.finditer(line))
    name = words[0][0][1:].lower()
    command = find(name)
    if command is None:
        near = difflib.get_close_matches(name, BY_NAME, n=5, cutoff=0.5)
        place = 1 if any(BY_NAME[other].secrets for other in near) else None
    else:
        place = min(command.secrets) + 1 if command.secrets else None
    return words[place].start() if place is not None and place < len(words) else None


def has_secret(line: str) -> bool:
    """Whether a password seems to stand on a typed line."""
    return _secret_from(line) is not None


def masked(line: str) -> str:
    """A line, even an unfinished one, with a ``*`` for every character of its passwords. It stays as long."""
    start = _secret_from(line)
    return line if start is None else line[:start] + "".join(c if c.isspace() else "*" for c in line[start:])


def safe_for_history(line: str) -> str | None:
    """A line as an input history may keep it: without its passwords; None where nothing is worth keeping."""
    start = _secret_from(line)
    return line[:start].rstrip() or None
