"""`securechat send` and `securechat listen`: their options, and what they do with them."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from securechat.cli import add_credentials, log_nothing_but_faults
from securechat.client.credentials import find_password
from securechat.client.records import line_of, record_of
from securechat.client.verbs.common import Verb
from securechat.client.verbs.listen import Listen, Since
from securechat.client.verbs.send import Send
from securechat.client.view import Failure
from securechat.errors import Exit, SecureChatError

STATUSES: Final = """\
exit status:
  0    done: what was sent is on the server's disk; listening ended as it was asked to
  1    it cannot be done: the text says why, and what to do
  2    wrong usage
  3    network or server: not reached, or no acknowledgement in time
  4    an identity changed or is unknown, or something signed does not check out
  5    too many attempts
  6    login refused
  7    no such room or user, or not a member
  130  interrupted

The password comes from --password-file, --password-fd, the file that SECURECHAT_PASSWORD_FILE names, or systemd
(LoadCredential=securechat.password:FILE), in this order; on a terminal it is asked for. docs/scripting.md has examples.
"""

_SEND: Final = """\
Sends a message, and ends when the server has it on disk. It enters no room by itself.

  securechat send ops disk almost full
  df -h | securechat send ops --code
  tail -F app.log | securechat send ops --split lines
  securechat send @bob 'the build is done'
"""

_LISTEN: Final = """\
Prints what comes, decrypted, as it comes: first what was not read yet on this machine. What is printed counts as read.

  securechat listen ops --json | jq -ac 'select(.type == "message") | [.sender, .text]'
  securechat listen @bob --once --timeout 60
"""


class NoPasswordHere(SecureChatError):
    """Nobody said the password, and nobody is there to be asked."""


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"securechat {verb}",
        description=description,
        epilog=STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--connect", metavar="LINE", help="which server (also: SECURECHAT_CONNECT; else the last one)")
    parser.add_argument("--data-dir", metavar="DIR", help="where your keys lie (also: SECURECHAT_DATA_DIR)")
    add_credentials(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, errors too: docs/scripting.md")
    return parser


def _seconds(typed: str) -> float:
    """A time that argparse takes. Raises ValueError."""
    seconds = float(typed)
    if not 0 < seconds < 1e8:
        raise ValueError(typed)
    return seconds


_seconds.__name__ = "number of seconds"  # as argparse names it


def send_parser() -> argparse.ArgumentParser:
    """Of `securechat send`."""
    parser = _parser("send", _SEND)
    parser.add_argument("room", metavar="ROOM", help="a room you are in, or @user")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what to send; without it, or -, standard input")
    parser.add_argument("--split", choices=("lines",), help="each line of standard input is a message")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--me", action="store_true", help="as /me: what you do")
    kind.add_argument("--code", action="store_true", help="shown as it is")
    parser.add_argument("--lang", default="", metavar="LANG", help="what the code is written in")
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S",
        help="seconds to wait for the login, and for each acknowledgement (30)",
    )  # fmt: skip
    return parser


def listen_parser() -> argparse.ArgumentParser:
    """Of `securechat listen`."""
    parser = _parser("listen", _LISTEN)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="rooms you are in, and @users; none: all")
    parser.add_argument(
        "--since", default="", metavar="WHEN", help="begin at: all, 10m, or behind a message's seq or id"
    )
    parser.add_argument("--once", action="store_true", help="end after the first message")
    parser.add_argument("--include-self", action="store_true", help="your own messages, too")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="end after so many seconds; 1 if --once got none")
    return parser


def send(arguments: Sequence[str]) -> int:
    """`securechat send`; the exit status. Raises SystemExit for wrong usage."""
    parser = send_parser()
    options = parser.parse_intermixed_args(arguments)
    given = options.text != [] and options.text != ["-"]
    if options.split and given:
        parser.error("--split lines is for standard input: leave TEXT out")
    if options.lang and not options.code:
        parser.error("--lang goes with --code")
    if given and not " ".join(options.text).strip():
        parser.error("there is nothing to send: TEXT is empty")
    if not given and os.isatty(0):
        parser.error("what shall be sent? Say it behind ROOM, or pipe it in")
    kind = "me" if options.me else "code" if options.code else "text"

    def verb() -> Verb:
        text = " ".join(options.text) if given else None
        lines = options.split == "lines"
        return Send(options.room, text, lines, kind, options.lang, options.json, options.timeout)

    both = dict.fromkeys((signal.SIGINT, signal.SIGTERM), Exit.INTERRUPTED)
    return _run(verb, options, timeout=options.timeout, status_of=both)


def listen(arguments: Sequence[str]) -> int:
    """`securechat listen`; the exit status. Raises SystemExit for wrong usage."""
    options = listen_parser().parse_intermixed_args(arguments)

    def verb() -> Verb:
        since = Since.parse(options.since) if options.since else Since()
        return Listen(options.rooms, since, options.once, options.include_self, options.timeout)

    ends = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.OK}  # what a service manager ends was no failure
    return _run(verb, options, timeout=30.0, status_of=ends, notices_are_output=True)


def _run(verb: Callable[[], Verb], options: argparse.Namespace, **more: Any) -> int:
    try:
        return _client(verb(), options, **more)
    except SecureChatError as error:
        if not options.json:
            raise
        status: Exit = getattr(error, "exit", Exit.FIXABLE)
        record = record_of(Failure(str(error), status), now_ms=int(time.time() * 1000), trust=lambda user, author: "")
        assert record is not None
        sys.stderr.write(line_of(record))
        return status


def _client(verb: Verb, options: argparse.Namespace, **more: Any) -> int:
    from twisted.internet import reactor
    from twisted.logger import globalLogBeginner

    from securechat.client.script import VerbClient
    from securechat.link import count_steadily

    count_steadily(reactor)
    globalLogBeginner.beginLoggingTo([log_nothing_but_faults], redirectStandardIO=False)
    client = VerbClient(
        reactor,
        verb,
        line=options.connect,
        data_dir=options.data_dir,
        user=options.user,
        password=password(options, os.environ),
        as_json=options.json,
        **more,
    )
    client.startService()
    reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
    reactor.run()
    return client.status


def password(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The password, from where it was said to be, or from a person. Raises NoPassword, NoPasswordHere."""
    found = find_password(options.password_file, options.password_fd, environ)
    if found is None and os.isatty(2) and _has_terminal():
        found = getpass.getpass("Password: ")
    if not found:
        raise NoPasswordHere(
            "No password was given. Write it into a file of yours alone (chmod 600 FILE) and name that:"
            " --password-file FILE, or SECURECHAT_PASSWORD_FILE=FILE."
        )
    return found


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
